//! Watching the other farmers, and taking over what the dead left.
//!
//! Each farmer watches the next two in the ring of names, so that the cost does
//! not grow with their number; an idle one watches them all. Whether one is dead
//! `model::liveness` says.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::model::liveness::{Evidence, Verdict};
use crate::model::watch::{first_watch, watch_every};
use crate::workdir::error::Result;
use crate::workdir::liveness;
use crate::workdir::liveness::Waiting;
use crate::workdir::membership;
use crate::workdir::recovery::Recovered;
use crate::workdir::session::Session;

/// How many an idle farmer looks at in one go.
const MOST: usize = 64;

/// What is known of the others.
pub(super) struct Neighbours {
    takeover: Duration,
    /// Our number in the workdir.
    number: u32,
    looked: Instant,
    has_looked: bool,
    /// Those of whom there has been a sign of life.
    alive: HashSet<String>,
}

impl Neighbours {
    /// Nothing known yet.
    pub(super) fn new(number: u32, takeover: Duration) -> Self {
        Self {
            takeover,
            number,
            looked: Instant::now(),
            has_looked: false,
            alive: HashSet::new(),
        }
    }

    /// When to look again, with so many farmers alive.
    pub(super) fn due_at(&self, live: u32) -> Instant {
        let after = if self.has_looked {
            watch_every(live, self.takeover)
        } else {
            first_watch(self.number, live, self.takeover)
        };
        self.looked + after
    }

    /// Whether it is time to look.
    pub(super) fn are_due(&self, live: u32) -> bool {
        live > 1 && Instant::now() >= self.due_at(live)
    }

    /// Whether its journal has grown since we first looked.
    pub(super) fn have_seen_alive(&self, farmer: &str) -> bool {
        self.alive.contains(farmer)
    }

    /// Looks; returns what people should know.
    pub(super) fn watch(
        &mut self,
        session: &mut Session,
        is_idle: bool,
        waiting: &mut dyn Waiting,
    ) -> Result<Vec<String>> {
        (self.looked, self.has_looked) = (Instant::now(), true);
        let all = membership::present(&session.workdir().dir)?;
        let me = session.farmer().to_owned();
        let after = all.partition_point(|name| *name <= me);
        let ring = all[after..]
            .iter()
            .chain(&all[..after])
            .filter(|name| **name != me);
        let mut told = Vec::new();
        for farmer in ring.take(if is_idle { MOST } else { 2 }) {
            told.extend(self.check(farmer, session, waiting)?);
        }
        if is_idle {
            for farmer in membership::without_journal(&session.workdir().dir, &all)? {
                told.extend(Self::check_traceless(&farmer, session, waiting)?);
            }
        }
        let now = waiting.now();
        let next = now + watch_every(session.state().live, self.takeover);
        if let Some(watcher) = waiting.watcher() {
            watcher.observer.rests(now, next);
        }
        Ok(told)
    }

    /// A farmer without a journal can give no sign of life.
    fn check_traceless(
        farmer: &str,
        session: &mut Session,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<String>> {
        if !matches!(liveness::judge_missing(farmer, waiting), Verdict::Dead(_)) {
            return Ok(None);
        }
        let found = session.seal(farmer, None, waiting)?;
        forget(farmer, waiting);
        Ok(found.map(|found| told(&found, "has no journal any more")))
    }

    fn check(
        &mut self,
        farmer: &str,
        session: &mut Session,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<String>> {
        let workdir = session.workdir();
        let judged = liveness::judge(&workdir.dir, workdir.mechanism, farmer, waiting)?;
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
        let found = session.seal(farmer, Some(&seen), waiting)?;
        forget(farmer, waiting);
        let how = match evidence {
            Evidence::Gone | Evidence::Unlocked => "is dead",
            Evidence::Silent => "gave no sign of life",
        };
        Ok(found.map(|found| told(&found, how)))
    }
}

/// It is over, or was seen to live after all.
fn forget(farmer: &str, waiting: &mut dyn Waiting) {
    if let Some(watcher) = waiting.watcher() {
        watcher.forget(farmer);
    }
}

fn told(found: &Recovered, how: &str) -> String {
    format!(
        "farmer {} {how}: {} results settled, {} tasks back in toprocess",
        found.farmer, found.settled, found.lost
    )
}
