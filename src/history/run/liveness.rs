//! Whether a farmer is alive, by what the workdir shows without touching it.
//!
//! No lock is tried, since a try takes the lock for a moment. A fence or a last record shows
//! that a farmer has ended. On the node of the farmer we look for its process; elsewhere the
//! age of its journal decides, by the heartbeat and the takeover time of the run. That age is
//! by the clock of the file system, where that is known: a login node may have a skewed clock.

use std::time::{Duration, SystemTime};

use super::farmer::Farmer;
use crate::model::identity::Process;
use crate::model::liveness::heartbeat;
use crate::workdir::liveness::own_node::Node;

/// Clocks that differ by less are taken as equal: times of files are coarse.
const COARSE: Duration = Duration::from_secs(1);

/// The state of a farmer, the most alive first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FarmerState {
    /// It runs, and sends heartbeats.
    Alive,
    /// No heartbeat for this long: the file system may be slow.
    Silent(Duration),
    /// It has no process, or wrote no heartbeat for too long, and no other farmer has
    /// taken over its tasks yet.
    Dead,
    /// It died, and its tasks were given back.
    Lost,
    /// It left cleanly.
    Left,
}

impl FarmerState {
    /// Determines the state of a farmer from our node; `now` is by the file system's clock,
    /// `takeover` is
    /// the takeover time of the run. A farmer that has missed three heartbeats is silent.
    pub(super) fn of(
        farmer: &Farmer,
        node: &dyn Node,
        now: SystemTime,
        takeover: Duration,
    ) -> Self {
        if farmer.left.is_some() {
            return Self::Left;
        }
        if farmer.journal.is_sealed {
            return Self::Lost;
        }
        if node.process(farmer.header()) == Process::Gone {
            return Self::Dead;
        }
        match silence(farmer, now) {
            silence if silence < heartbeat(takeover) * 3 => Self::Alive,
            silence if silence < takeover => Self::Silent(silence),
            _ => Self::Dead,
        }
    }

    /// Whether it may still run tasks.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Silent(_))
    }

    /// One word for machines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Silent(_) => "silent",
            Self::Dead => "dead",
            Self::Lost => "lost",
            Self::Left => "left",
        }
    }
}

/// What time it is by the clock of the file system.
#[derive(Debug, Default)]
pub(super) struct FileTime {
    /// By how much our clock is ahead of it, once a read has shown that.
    ahead: Option<Duration>,
    /// The latest time of any file: the clock is at least there.
    latest: Option<SystemTime>,
}

impl FileTime {
    /// Learns from what was read of the journals.
    pub(super) fn learn(&mut self, farmers: &[Farmer]) {
        let served = farmers.iter().filter_map(|farmer| farmer.served);
        if let Some((theirs, ours)) = served.max() {
            let ahead = ours.duration_since(theirs).unwrap_or_default();
            self.ahead = Some(ahead).filter(|ahead| *ahead >= COARSE);
        }
        let modified = farmers.iter().filter_map(|farmer| farmer.modified);
        self.latest = self.latest.max(modified.max());
    }

    /// The time by that clock when it is `now` by ours.
    pub(super) fn at(&self, now: SystemTime) -> SystemTime {
        let ahead = self.ahead.unwrap_or_default();
        let theirs = now.checked_sub(ahead).unwrap_or(now);
        theirs.max(self.latest.unwrap_or(theirs))
    }
}

/// How long ago its journal was written; `now` is by the file system's clock.
pub(super) fn silence(farmer: &Farmer, now: SystemTime) -> Duration {
    let modified = farmer.modified.unwrap_or(now);
    now.duration_since(modified).unwrap_or_default()
}
