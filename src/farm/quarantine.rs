//! Quarantine: a farmer on a node that may be sick claims no tasks until other nodes
//! have tried those that failed here.
//!
//! The ledger reports each end here and calls [`Quarantine::run_due`] regularly.
//! `model::health` decides; this module acts, in the workdir, the queue and the journal.
//! Guarantee: as soon as no other farmer claims, this one claims again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shared::Shared;
use crate::model::health::{Diagnosis, HealthMonitor};
use crate::model::record::{End, NodeHealth, Record};
use crate::workdir::error::Result;
use crate::workdir::liveness::Waiting;
use crate::workdir::quarantine::OutcomeCursor;
use crate::workdir::session::Session;
use crate::workdir::state::State;

/// How often the outcomes of the tasks are read: soon at first.
const LOOK_FIRST: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After which time a quarantine that could not be recorded is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// What a farmer does about its node.
pub(super) struct Quarantine {
    health: HealthMonitor,
    shared: Arc<Shared>,
    /// Whether others know that we claim nothing.
    is_on: bool,
    /// What is known to have ended, while others try tasks.
    seen: Option<OutcomeCursor>,
    look_at: Instant,
    pause: Duration,
}

impl Quarantine {
    /// Nothing speaks against our node.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            health: HealthMonitor::new(shared.processes.len()),
            shared,
            is_on: false,
            seen: None,
            look_at: Instant::now(),
            pause: LOOK_FIRST,
        }
    }

    /// An attempt has ended here and is about to be settled. A failed one is settled only
    /// after a while; until then others cannot be asked, and no more tasks are started.
    pub(super) fn ended(&mut self, end: &End, state: &State) {
        self.health.ended(end);
        let is_doubt = self.health.health() == NodeHealth::Healthy && self.health.has_request();
        if is_doubt && state.claiming() >= 2 {
            self.shared.queue.quarantine(true);
        }
    }

    /// Whether to claim no more than idle slots can start, while others could.
    pub(super) fn is_wary(&self, state: &State) -> bool {
        self.health.is_suspicious() && state.claiming() >= 2
    }

    /// When to check again, if anything is to be checked. `are_held`: suspect ends are
    /// held back.
    pub(super) fn due_at(&self, session: &Session, are_held: bool) -> Option<Instant> {
        if self.health.health() != NodeHealth::Healthy || self.is_on {
            return Some(self.look_at);
        }
        self.can_ask(session, are_held).then_some(self.look_at)
    }

    /// Whether others should try tasks, and can. A task that is not settled yet is in no
    /// file from which others could take it: the next turn settles it.
    fn can_ask(&self, session: &Session, are_held: bool) -> bool {
        self.health.has_request() && !session.has_pending() && !are_held
    }

    /// Does what is due; returns a message for the user.
    pub(super) fn run_due(
        &mut self,
        session: &mut Session,
        are_held: bool,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<String>> {
        if self
            .due_at(session, are_held)
            .is_none_or(|at| Instant::now() < at)
        {
            return Ok(None);
        }
        self.pause = (self.pause * 2).min(LOOK_EVERY);
        self.look_at = Instant::now() + self.pause;
        match self.health.health() {
            NodeHealth::Healthy if self.is_on => self.release(session, waiting),
            NodeHealth::Healthy => self.ask(session, waiting),
            NodeHealth::Suspect | NodeHealth::Unhealthy => {
                self.check_outcomes(session, are_held, waiting)
            }
        }
    }

    /// The node is trusted again.
    fn release(
        &mut self,
        session: &mut Session,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<String>> {
        session.release(waiting)?;
        self.shared.queue.quarantine(false);
        self.is_on = false;
        Ok(None)
    }

    /// Lets others try tasks.
    fn ask(&mut self, session: &mut Session, waiting: &mut dyn Waiting) -> Result<Option<String>> {
        let was = self.health.health();
        let is_needed = was == NodeHealth::Healthy && session.state().claiming() < 2;
        let asked = if is_needed {
            None
        } else {
            session.quarantine(&self.health.request(), waiting)?
        };
        let Some(ids) = asked else {
            self.shared.queue.quarantine(self.is_on);
            self.look_at = Instant::now() + AGAIN;
            return Ok(None);
        };
        if ids.is_empty() {
            self.shared.queue.quarantine(self.is_on);
            self.health.request_failed();
            return Ok(None);
        }
        self.shared.queue.quarantine(true);
        self.is_on = true;
        self.health.requested(self.shared.clock.now(), &ids);
        if was != NodeHealth::Healthy {
            return Ok(None);
        }
        self.seen = Some(OutcomeCursor::all(session.state()));
        self.pause = LOOK_FIRST;
        self.look_at = Instant::now() + self.pause;
        let text = format!(
            "tasks fail here one after the other: this node claims nothing until others have \
             tried {} of them ({ids})",
            ids.count()
        );
        Ok(Some(self.noted(session, text)))
    }

    /// Checks the outcomes of the tasks, and whether other nodes still claim.
    fn check_outcomes(
        &mut self,
        session: &mut Session,
        are_held: bool,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<String>> {
        session.refresh_state()?;
        if session.state().claiming() == 0 && session.state().left() > 0 {
            self.health.released();
            self.look_at = Instant::now();
            let text = "no other farmer claims tasks any more: this node claims again";
            return Ok(Some(self.noted(session, text.into())));
        }
        self.read_outcomes(session, waiting)?;
        if let Some(verdict) = self.health.diagnosis(self.shared.clock.now()) {
            self.look_at = Instant::now();
            return Ok(Some(self.noted(session, message(verdict))));
        }
        if self.can_ask(session, are_held) {
            return self.ask(session, waiting);
        }
        Ok(None)
    }

    /// Reads the outcomes on other nodes.
    fn read_outcomes(&mut self, session: &mut Session, waiting: &mut dyn Waiting) -> Result<()> {
        if self.health.health() != NodeHealth::Suspect {
            return Ok(());
        }
        if let Some(seen) = &mut self.seen
            && seen.is_behind(session.state())
        {
            for (id, to) in session.new_outcomes(seen, waiting)? {
                self.health.ended_elsewhere(id, to);
            }
        }
        Ok(())
    }

    /// Records the message in the journal.
    fn noted(&self, session: &Session, text: String) -> String {
        session.journal().lock().push(&Record::Health {
            at: self.shared.clock.micros(Instant::now()),
            health: self.health.health(),
            text: text.clone(),
        });
        text
    }
}

fn message(verdict: Diagnosis) -> String {
    match verdict {
        Diagnosis::NodeAtFault(good, of) => format!(
            "{good} of {of} tasks that failed here succeeded elsewhere: this node is sick \
             and claims nothing more; the others run its failed tasks (--no-quarantine prevents this)"
        ),
        Diagnosis::TasksAtFault(bad, of) => {
            format!("{bad} of {of} tasks fail elsewhere, too: this node claims again")
        }
        Diagnosis::TimedOut => {
            "no other node has tried the tasks that failed here: this node claims again".into()
        }
        Diagnosis::Recovered => "a task succeeded here: this node claims again".into(),
    }
}
