//! One attempt of a task, as a start or an end in a journal records it.

use crate::model::outcome::Outcome;
use crate::model::record::{End, Header, Leased, Start, Used};

/// A start or an end, as far as figures are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// The task.
    pub id: u64,
    /// Which attempt of it.
    pub attempt: u32,
    /// The slot it runs in.
    pub slot: u32,
    /// Its process; 0 in an end.
    pub pid: u32,
    /// When it started.
    pub at: u64,
    /// For how long it ran, in microseconds.
    pub us: u64,
    /// How it ended; `None` in a start.
    pub outcome: Option<Outcome>,
    /// When the task is tried again after it: for how long it is kept back, in microseconds.
    pub again: Option<u64>,
    /// What it used, when that is known.
    pub used: Option<Used>,
    /// Whether it was done already, and not started.
    pub is_skipped: bool,
    /// What it has of its node, where that is not what its slot has.
    pub lease: Option<Box<Leased>>,
}

impl Attempt {
    /// Its GPUs, by the header of its farmer.
    pub fn gpus<'a>(&'a self, header: &'a Header) -> &'a [String] {
        match &self.lease {
            Some(lease) => &lease.gpus,
            None => header.gpus(self.slot),
        }
    }

    /// When it ended.
    pub fn end(&self) -> u64 {
        self.at.saturating_add(self.us)
    }

    /// Whether the other record is of the same attempt.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.id, self.attempt, self.slot) == (other.id, other.attempt, other.slot)
    }
}

impl From<Start> for Attempt {
    fn from(start: Start) -> Self {
        Self {
            id: start.id.0,
            attempt: start.attempt,
            slot: start.slot,
            pid: start.pid,
            at: start.at,
            lease: start.lease,
            ..Self::default()
        }
    }
}

impl From<End> for Attempt {
    fn from(end: End) -> Self {
        Self {
            id: end.id.0,
            attempt: end.attempt,
            slot: end.slot,
            pid: 0,
            at: end.at,
            us: end.us,
            outcome: Some(end.outcome),
            again: end.again,
            used: end.used,
            is_skipped: end.skipped.is_some(),
            lease: end.lease,
        }
    }
}
