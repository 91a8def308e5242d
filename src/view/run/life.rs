//! Whether a farmer lives, by what the workdir shows without touching it.
//!
//! No lock is tried: whoever tries one holds it for a moment. A seal or a last
//! record says that a farmer is over; on its own node its process is looked
//! for; elsewhere the age of its journal tells, which grows every ten seconds.

use std::time::{Duration, SystemTime};

use super::farmer::Farmer;
use crate::workdir::exclusion::is_gone;

/// A farmer gives a sign of life each ten seconds; this is three of them.
const FRESH: Duration = Duration::from_secs(30);

/// After so long without a sign others take its tasks over.
const TAKEOVER: Duration = Duration::from_mins(2);

/// How a farmer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// At work.
    Alive,
    /// No sign of life for this long: the file system may be slow.
    Silent(Duration),
    /// It has no process any more, or gave no sign for too long, and nobody has
    /// taken over from it yet.
    Dead,
    /// It died, and its tasks were given back.
    Lost,
    /// It left in good order.
    Left,
}

impl Life {
    /// Judges a farmer from the node `host`.
    pub(super) fn of(farmer: &Farmer, host: &str, now: SystemTime) -> Self {
        if farmer.left.is_some() {
            return Self::Left;
        }
        if farmer.journal.is_sealed {
            return Self::Lost;
        }
        if is_gone(&farmer.header().farmer, host) {
            return Self::Dead;
        }
        match silence(farmer, now) {
            silence if silence < FRESH => Self::Alive,
            silence if silence < TAKEOVER => Self::Silent(silence),
            _ => Self::Dead,
        }
    }

    /// Whether it may still run tasks.
    pub fn is_there(self) -> bool {
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

/// How long ago its journal was written.
pub(super) fn silence(farmer: &Farmer, now: SystemTime) -> Duration {
    let modified = farmer.modified.unwrap_or(now);
    now.duration_since(modified).unwrap_or_default()
}
