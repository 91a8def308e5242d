//! Watching the other farmers, and taking over what the dead left.
//!
//! Each farmer watches the next two in the ring of names, so that the cost does
//! not grow with their number; an idle one watches them all. A journal whose
//! lock is free has a dead owner. One that only stood still for the takeover
//! time, by our own clock, is taken over too: its node may be gone, and its lock
//! with it, on a file system that never lets go of it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::host::guard;
use crate::model::watch::{first_watch, watch_every};
use crate::workdir::error::Result;
use crate::workdir::exclusion::host_of;
use crate::workdir::farmers;
use crate::workdir::lock::Waiting;
use crate::workdir::recovery::{self, Found};
use crate::workdir::session::Session;

/// How many an idle farmer looks at in one go.
const MOST: usize = 64;

/// What is known of the others.
pub struct Neighbours {
    takeover: Duration,
    /// Our number in the workdir.
    number: u32,
    looked: Instant,
    has_looked: bool,
    /// Their journals: the length, and since when it stands still.
    signs: HashMap<String, (u64, Instant)>,
    /// Those of whom there has been a sign of life.
    alive: HashSet<String>,
}

impl Neighbours {
    /// Nothing known yet.
    pub fn new(number: u32, takeover: Duration) -> Self {
        Self {
            takeover,
            number,
            looked: Instant::now(),
            has_looked: false,
            signs: HashMap::new(),
            alive: HashSet::new(),
        }
    }

    /// When to look again, with so many farmers alive.
    pub fn due_at(&self, live: u32) -> Instant {
        let after = if self.has_looked {
            watch_every(live, self.takeover)
        } else {
            first_watch(self.number, live, self.takeover)
        };
        self.looked + after
    }

    /// Whether it is time to look.
    pub fn are_due(&self, live: u32) -> bool {
        live > 1 && Instant::now() >= self.due_at(live)
    }

    /// Whether its journal has grown since we first looked.
    pub fn have_seen_alive(&self, farmer: &str) -> bool {
        self.alive.contains(farmer)
    }

    /// Looks; returns what people should know.
    pub fn watch(
        &mut self,
        session: &mut Session,
        is_idle: bool,
        waiting: &mut dyn Waiting,
    ) -> Result<Vec<String>> {
        let since = self.looked.elapsed();
        if since > watch_every(session.state().live, self.takeover) * 3 {
            // We were frozen ourselves: nothing that stood still proves anything.
            self.signs.clear();
        }
        (self.looked, self.has_looked) = (Instant::now(), true);
        let all = farmers::unsealed(&session.workdir().dir)?;
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
            for farmer in farmers::without_journal(&session.workdir().dir, &all)? {
                told.extend(self.check_traceless(&farmer, session, waiting)?);
            }
        }
        Ok(told)
    }

    /// A farmer without a journal can give no sign of life.
    fn check_traceless(
        &mut self,
        farmer: &str,
        session: &mut Session,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<String>> {
        let now = Instant::now();
        let sign = self.signs.entry(farmer.to_owned()).or_insert((0, now));
        if now - sign.1 <= self.takeover {
            return Ok(None);
        }
        let found = session.seal(farmer, None, waiting)?;
        self.signs.remove(farmer);
        Ok(found.map(|found| told(&found, "has no journal any more")))
    }

    fn check(
        &mut self,
        farmer: &str,
        session: &mut Session,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<String>> {
        let workdir = session.workdir();
        let (dir, host) = (&workdir.dir, host_of(session.farmer()));
        let Some(journal) = recovery::look_at(dir, workdir.mechanism, farmer, host)? else {
            return Ok(None);
        };
        let now = Instant::now();
        let sign = self
            .signs
            .entry(farmer.to_owned())
            .or_insert((journal.len, now));
        if sign.0 != journal.len {
            *sign = (journal.len, now);
            self.alive.insert(farmer.to_owned());
        }
        if !journal.is_free && now - sign.1 <= self.takeover {
            return Ok(None);
        }
        if host_of(farmer) == host {
            guard::end_all(farmer);
        }
        let found = session.seal(farmer, Some(&journal), waiting)?;
        self.signs.remove(farmer);
        let Some(found) = found else {
            return Ok(None);
        };
        let how = if journal.is_free {
            "is dead"
        } else {
            "gave no sign of life"
        };
        Ok(Some(told(&found, how)))
    }
}

fn told(found: &Found, how: &str) -> String {
    format!(
        "farmer {} {how}: {} results settled, {} tasks back in toprocess",
        found.farmer, found.settled, found.lost
    )
}
