//! Watches other farmers, and takes over the tasks of dead ones.
//!
//! Each farmer watches the next two in the ring of names, so the cost does not grow with
//! their number; an idle farmer watches all. `model::liveness` decides whether one is
//! dead.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::model::liveness::{Evidence, Verdict};
use crate::model::polling::{first_watch, watch_every};
use crate::model::retry::CRASH_LIMIT;
use crate::workdir::error::Result;
use crate::workdir::liveness::Waiting;
use crate::workdir::recovery::Recovered;
use crate::workdir::session::Session;
use crate::workdir::{liveness, membership};

/// How many farmers an idle one checks at once.
const MOST: usize = 64;

/// What is known of the others.
pub(super) struct Neighbours {
    takeover: Duration,
    /// Our number in the workdir.
    number: u32,
    checked_at: Instant,
    has_checked: bool,
    /// Farmers whose heartbeat was seen.
    alive: HashSet<String>,
}

impl Neighbours {
    /// Nothing known yet.
    pub(super) fn new(number: u32, takeover: Duration) -> Self {
        Self {
            takeover,
            number,
            checked_at: Instant::now(),
            has_checked: false,
            alive: HashSet::new(),
        }
    }

    /// When to check again, with this number of live farmers.
    pub(super) fn due_at(&self, live: u32) -> Instant {
        let after = if self.has_checked {
            watch_every(live, self.takeover)
        } else {
            first_watch(self.number, live, self.takeover)
        };
        self.checked_at + after
    }

    /// Whether a check is due.
    pub(super) fn are_due(&self, live: u32) -> bool {
        live > 1 && Instant::now() >= self.due_at(live)
    }

    /// Whether its journal has grown since the first check.
    pub(super) fn have_seen_alive(&self, farmer: &str) -> bool {
        self.alive.contains(farmer)
    }

    /// Checks the neighbours; returns messages for the user.
    pub(super) fn watch(
        &mut self,
        session: &mut Session,
        is_idle: bool,
        waiting: &mut dyn Waiting,
    ) -> Result<Vec<String>> {
        (self.checked_at, self.has_checked) = (Instant::now(), true);
        let all = membership::present(&session.workdir().dir)?;
        let me = session.farmer().to_owned();
        let after = all.partition_point(|name| *name <= me);
        let ring = all[after..]
            .iter()
            .chain(&all[..after])
            .filter(|name| **name != me);
        let mut messages = Vec::new();
        for farmer in ring.take(if is_idle { MOST } else { 2 }) {
            messages.extend(self.check(farmer, session, waiting)?);
        }
        if is_idle {
            for farmer in membership::without_journal(&session.workdir().dir, &all)? {
                messages.extend(Self::check_without_journal(&farmer, session, waiting)?);
            }
        }
        let now = waiting.now();
        let next = now + watch_every(session.state().live, self.takeover);
        if let Some(watcher) = waiting.watcher() {
            watcher.observer.rests(now, next);
        }
        Ok(messages)
    }

    /// A farmer without a journal cannot give heartbeats.
    fn check_without_journal(
        farmer: &str,
        session: &mut Session,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<String>> {
        if !matches!(liveness::judge_missing(farmer, waiting), Verdict::Dead(_)) {
            return Ok(None);
        }
        let found = session.fence(farmer, None, waiting)?;
        forget(farmer, waiting);
        Ok(found.map(|found| message(&found, "has no journal any more")))
    }

    fn check(
        &mut self,
        farmer: &str,
        session: &mut Session,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<String>> {
        let workdir = session.workdir();
        let judged = liveness::judge(workdir, farmer, waiting)?;
        let Some((seen, verdict)) = judged else {
            return Ok(None);
        };
        let evidence = match verdict {
            Verdict::Dead(evidence) => evidence,
            Verdict::Alive => {
                self.alive.insert(farmer.to_owned());
                return Ok(None);
            }
            Verdict::Unproved => return Ok(None),
        };
        let found = session.fence(farmer, Some(&seen), waiting)?;
        forget(farmer, waiting);
        let how = match evidence {
            Evidence::Gone | Evidence::Unlocked => "is dead",
            Evidence::Silent => "missed its heartbeats",
        };
        Ok(found.map(|found| message(&found, how)))
    }
}

/// Forgets what was observed of a farmer that is taken over, or turned out to be alive.
fn forget(farmer: &str, waiting: &mut dyn Waiting) {
    if let Some(watcher) = waiting.watcher() {
        watcher.forget(farmer);
    }
}

fn message(found: &Recovered, how: &str) -> String {
    let given_up = if found.given_up.is_empty() {
        String::new()
    } else {
        let ids = &found.given_up;
        format!("; given up, since {CRASH_LIMIT} farmers died with them: {ids}")
    };
    format!(
        "farmer {} {how}: {} results settled, {} tasks back in toprocess{given_up}",
        found.farmer, found.settled, found.lost
    )
}
