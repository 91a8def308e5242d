//! The ledger: the only thread that changes the shared files.
//!
//! It drives the farmer's [`Session`]: it takes turns, few large or many small ones, as the
//! pace decides. Between turns it writes heartbeats and watches its neighbours. It waits in one
//! place, on one set of channels.
//!
//! Guarantee: a result whose write fails is kept and tried again up to a time limit; the ledger
//! of a fenced farmer writes nothing any more.

mod complete;
mod leave;
mod orders;
mod turn;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, never};

use super::backoff::Backoff;
use super::dealer::Dealer;
use super::feeder::Fed;
use super::lock_wait::LockWaiter;
use super::message::{Event, LedgerRequest, ReceivedSignals, Report};
use super::neighbours::Neighbours;
use super::placement::Placement;
use super::quarantine::Quarantine;
use super::shared::Shared;
use crate::model::failure_limit::FailureLimit;
use crate::model::interruption::SUSPICION;
use crate::model::liveness::heartbeat;
use crate::model::pace::{Ends, Pace};
use crate::model::record::End;
use crate::model::task::Task;
use crate::workdir::error::{Error, Result};
use crate::workdir::liveness::Waiting;
use crate::workdir::session::Session;
use crate::workdir::state::State;
use crate::workdir::transaction::RequeueReason;

/// How long the ledger retries when operations on the workdir fail and no task runs.
pub(super) const RETRY_IDLE_FOR: Duration = Duration::from_secs(10);
/// How long it retries while tasks run.
pub(super) const RETRY_BUSY_FOR: Duration = Duration::from_secs(5 * 60);
/// The pause between two tries.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// A task that has run for this long has a record of its start, for `pytf status`. One that
/// ends sooner has only the record of its end.
const NOTED_AFTER: Duration = Duration::from_millis(200);
/// Starts are written at most this often.
const NOTED_EVERY: Duration = Duration::from_millis(100);
/// How many lines of a stream may wait.
const MOST_WAITING: usize = 10_000;

/// The ledger at work.
pub(super) struct Ledger {
    /// What it shares with the slots and the supervisor.
    pub shared: Arc<Shared>,
    /// Our part in the workdir.
    pub session: Session,
    /// How often it takes a turn, and how much it claims.
    pub pace: Pace,
    /// Our job, as headers have it.
    pub job: Option<String>,
    /// Our node, as headers have it.
    pub node: String,
    /// From the slots and the supervisor.
    pub requests: Receiver<LedgerRequest>,
    /// From the slots.
    pub reports: Receiver<Report>,
    /// From a stream of tasks.
    pub fed: Option<Receiver<Fed>>,
    /// How to wait for the lock.
    pub waiter: LockWaiter,
    /// Whether to stay while other farmers still run tasks.
    pub linger: bool,
    /// For how long to stay when the run is complete, since tasks may be added.
    pub follow: Option<Duration>,
    /// What to do when the node seems sick; none: nothing.
    pub quarantine: Option<Quarantine>,
    /// Which tasks can run here.
    pub placement: Placement,
    /// None of the waiting tasks fitted: those that had arrived by then, and how
    /// often something had become free.
    pub unfit: Option<((u64, u64), u64)>,
    /// The signals that this process has received.
    pub received: ReceivedSignals,
    /// The other farmers.
    pub neighbours: Neighbours,
    /// Tasks that failed here and are tried again.
    pub backoff: Backoff,
    /// Deals the resources of the node to tasks.
    pub dealer: Dealer,
    /// Ends that are held back: they may be due to a signal that is about to arrive.
    pub suspects: VecDeque<(Instant, Task, End)>,
    /// What has ended since the last turn.
    pub ends: Ends,
    /// When each thing was done last.
    pub times: Times,
    /// The longest wait for the lock.
    pub longest_wait: Duration,
    /// The state when we left, since nothing was left to do.
    pub left: Option<State>,
    /// Whether the run was paused when we looked last.
    pub is_paused: bool,
    /// After how many failures nothing more is started; none: no limit, or it is reported.
    pub max_fail: Option<FailureLimit>,
    /// Whether others have taken over.
    pub is_fenced: bool,
}

/// When each thing was done last, and since when something lasts.
pub(super) struct Times {
    turned: Instant,
    beat: Instant,
    noted: Instant,
    /// When there was something to do.
    busy: Instant,
    /// When the state was read.
    read: Instant,
    compacted: Instant,
    /// Since when operations on the workdir fail.
    refused_since: Option<Instant>,
    /// Since when nothing has run, while operations on the workdir fail.
    idle_since: Option<Instant>,
    /// Since when the run is complete, and how many tasks there are and have ended.
    over: Option<(Instant, (u64, u64))>,
    /// Since when a slot has no task, or other farmers have left some.
    starved_since: Option<Instant>,
}

impl Times {
    /// Those of a farmer that has just joined.
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self {
            turned: now,
            beat: now,
            noted: now,
            busy: now,
            read: now,
            compacted: now,
            refused_since: None,
            idle_since: None,
            over: None,
            starved_since: Some(now),
        }
    }
}

impl Ledger {
    /// Works until it is asked to leave.
    pub(super) fn run(mut self) {
        let why = loop {
            if let Err(error) = self.work()
                && self.is_over(error)
            {
                break self.wait_to_leave();
            }
            if self.left.is_some() {
                break self.wait_to_leave();
            }
            if let Some(why) = self.wait() {
                break why;
            }
        };
        let left = match self.left.take() {
            Some(left) => {
                // The last notes. Without them nothing is lost.
                let _ = self.session.sync_journal();
                Ok(left)
            }
            None if self.is_fenced => Err(Error::Fenced),
            None => self.leave(why),
        };
        match &left {
            Err(Error::Fenced) => self.fenced(),
            Err(error) => self.shared.warn(format!(
                "could not leave the workdir in good order: {error}"
            )),
            Ok(_) => {}
        }
        // Its last event: a farmer that joins again has another ledger.
        self.shared.send(Event::Left(left.ok().map(Box::new)));
    }

    /// Everything that is due now.
    fn work(&mut self) -> Result<()> {
        if !self.shared.queue.lease().is_valid() {
            // Nothing is written before it is known that no farmer has taken over.
            self.session.check_fence_unlocked()?;
        }
        self.give_back_due();
        if self.is_turn_due() {
            self.turn()?;
        }
        self.keep_journal()?;
        let is_idle = self.state().left() == 0 && self.shared.queue.counts().idle > 0;
        // What was refused is retried until it succeeds, or the time limit would not end.
        let was_refused = self.times.refused_since.is_some() && self.state().live > 1;
        if was_refused || self.neighbours.are_due(self.state().live) {
            let found = self
                .neighbours
                .watch(&mut self.session, is_idle, &mut self.waiter)?;
            if !found.is_empty() {
                self.times.starved_since.get_or_insert_with(Instant::now);
            }
            for text in found {
                self.shared.say(text);
            }
        }
        self.check_health()?;
        self.check_complete()?;
        if self.left.is_none() {
            self.obey()?;
        }
        (self.times.refused_since, self.times.idle_since) = (None, None);
        Ok(())
    }

    fn state(&self) -> &State {
        self.session.state()
    }

    /// Whether tasks fail on this node that succeed elsewhere.
    fn check_health(&mut self) -> Result<()> {
        let are_held = self.are_held();
        if let Some(quarantine) = &mut self.quarantine
            && let Some(text) = quarantine.run_due(&mut self.session, are_held, &mut self.waiter)?
        {
            self.shared.warn(text);
        }
        Ok(())
    }

    fn quarantine_due_at(&self) -> Option<Instant> {
        let quarantine = self.quarantine.as_ref()?;
        quarantine.due_at(&self.session, self.are_held())
    }

    /// Whether failed tasks are neither in `failed` nor in `toprocess` yet.
    fn are_held(&self) -> bool {
        !self.suspects.is_empty() || !self.backoff.is_empty()
    }

    /// Gives tasks back that have been kept back for long enough. While nothing is started here,
    /// others may have all of them.
    fn give_back_due(&mut self) {
        if self.backoff.is_empty() {
            return;
        }
        let due = if self.shared.queue.counts().is_paused {
            self.backoff.take_all()
        } else {
            let claiming = self.state().claiming();
            self.backoff.take_due(claiming, Instant::now())
        };
        for task in due {
            self.session.give_back(task, Some(RequeueReason::Again));
        }
    }

    fn beat_every(&self) -> Duration {
        heartbeat(self.waiter.takeover())
    }

    /// Writes starts, and the heartbeats that others watch.
    fn keep_journal(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.start_due_at().is_some_and(|at| at <= now) {
            self.times.noted = now;
            self.note_dealt();
            let journal = self.session.journal();
            let mut journal = journal.lock();
            self.note_starts(&mut journal, now.checked_sub(NOTED_AFTER).unwrap_or(now));
            journal.write()?;
        }
        if self.times.beat.elapsed() >= self.beat_every() {
            self.note_dealt();
            let at = self.shared.clock.micros(Instant::now());
            let begun = self.waiter.now();
            let has_read = self.session.heartbeat(at)?;
            self.times.beat = Instant::now();
            self.waiter.lease_renewed(begun);
            // For orders, also while no turn is due. If it fails, the next heartbeat reads it.
            if has_read || self.session.refresh_state().is_ok() {
                self.times.read = self.times.beat;
                self.show();
            }
        }
        Ok(())
    }

    /// Lets the journal have what is dealt, for `pytf status`.
    fn note_dealt(&mut self) {
        if let Some(record) = self.dealer.news(self.beat_every()) {
            self.session.journal().lock().push(&record);
        }
    }

    /// Waits for work; `Some` when it is to leave.
    fn wait(&mut self) -> Option<String> {
        let now = Instant::now();
        let rest = self.rest();
        let deadline = self.next_deadline(now);
        let accepts_input = self
            .session
            .feed()
            .is_some_and(|feed| feed.is_open() && feed.waiting() < MOST_WAITING);
        let fed = self
            .fed
            .clone()
            .filter(|_| accepts_input)
            .unwrap_or_else(never);
        // Until the next turn is allowed, ends of tasks do not wake it.
        let (reports, deadline) = if rest.is_zero() {
            (self.reports.clone(), deadline)
        } else {
            (never(), deadline.min(now + rest))
        };
        let mut ready = Select::new();
        let (requests_at, _, fed_at) = (
            ready.recv(&self.requests),
            ready.recv(&reports),
            ready.recv(&fed),
        );
        match ready.ready_deadline(deadline) {
            Ok(at) if at == requests_at => self
                .requests
                .try_recv()
                .map_or(None, |request| self.handle(request)),
            Ok(at) if at == fed_at => {
                match fed.try_recv() {
                    Ok(fed) => self.take_fed(fed),
                    Err(_) => self.end_stream(false),
                }
                None
            }
            // Reports stay where they are: the turn takes them.
            _ => None,
        }
    }

    /// How long no turn is allowed.
    fn rest(&self) -> Duration {
        if self.times.refused_since.is_some() {
            return RETRY_EVERY;
        }
        self.view()
            .rest(&self.pace, self.times.starved_since.is_some())
    }

    /// Handles a request of the supervisor or a slot; `Some` when it is to leave.
    fn handle(&mut self, request: LedgerRequest) -> Option<String> {
        match request {
            LedgerRequest::Starved => {
                self.times.starved_since.get_or_insert_with(Instant::now);
            }
            LedgerRequest::Write(record) => self.session.journal().lock().push(&record),
            LedgerRequest::Leave(why) => return Some(why),
        }
        None
    }

    fn take_fed(&mut self, fed: Fed) {
        match fed {
            Fed::Lines(lines) => {
                if let Some(feed) = self.session.feed() {
                    feed.arrive(lines);
                }
            }
            Fed::End(remarks) => {
                self.end_stream(true);
                remarks
                    .messages()
                    .into_iter()
                    .for_each(|message| self.shared.say(message));
            }
            Fed::Broken(why) => {
                self.end_stream(false);
                self.shared.send(Event::WrongInput);
                self.shared.warn(format!(
                    "the task list cannot be read on: {why}; the lines before this run"
                ));
            }
            Fed::Wrong(wrong) => {
                self.end_stream(false);
                self.shared.send(Event::WrongInput);
                self.shared.warn(format!(
                    "{wrong}; the lines before it run, those after it do not"
                ));
            }
        }
    }

    fn end_stream(&mut self, is_whole: bool) {
        if let Some(feed) = self.session.feed() {
            feed.end(is_whole);
        }
    }

    fn next_deadline(&mut self, now: Instant) -> Instant {
        if self.times.refused_since.is_some() {
            return now + RETRY_EVERY;
        }
        let backoff_at = self.backoff.next_at(now);
        let state = self.state();
        let view = self.view();
        [
            backoff_at,
            Some(self.times.beat + self.beat_every()),
            (state.live > 1).then(|| self.neighbours.due_at(state.live)),
            self.quarantine_due_at(),
            self.start_due_at(),
            self.suspects.front().map(|(at, ..)| *at + SUSPICION),
            view.wants_look()
                .then(|| self.times.read + self.look_every()),
            (view.cursor > 0)
                .then(|| {
                    self.times.compacted + view.compact_every(&self.pace) + Duration::from_millis(1)
                })
                .filter(|at| *at > now),
            view.wants_turn(&self.pace)
                .then(|| now + self.rest().max(Duration::from_micros(1))),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now)
    }
}
