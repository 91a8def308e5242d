//! An attempt as the timeline draws it, from what its journal tells.

use crate::model::outcome::{Destination, Outcome};
use crate::model::record::{End, Start, Used};
use crate::model::task::TaskId;

/// One attempt, as it is drawn.
pub(super) struct Slice<'a> {
    /// The task.
    pub(super) id: TaskId,
    /// Which attempt of it.
    pub(super) attempt: u32,
    /// Where it ran.
    pub(super) slot: u32,
    /// When it began.
    pub(super) from: u64,
    /// When it ended, or the last that is known of it.
    pub(super) to: u64,
    /// How it ended.
    pub(super) ending: Ending<'a>,
}

impl<'a> Slice<'a> {
    /// An attempt of which only the start is known.
    pub(super) fn open(start: &Start, to: u64, ending: Ending<'a>) -> Self {
        Self {
            id: start.id,
            attempt: start.attempt,
            slot: start.slot,
            from: start.at,
            to,
            ending,
        }
    }

    /// An attempt that has ended.
    pub(super) fn ended(end: &'a End) -> Self {
        Self {
            id: end.id,
            attempt: end.attempt,
            slot: end.slot,
            from: end.at,
            to: end.at.saturating_add(end.us),
            ending: Ending::Recorded(&end.outcome, end.used),
        }
    }
}

/// How an attempt ended, as far as the journal tells.
pub(super) enum Ending<'a> {
    /// As its record says.
    Recorded(&'a Outcome, Option<Used>),
    /// It was running when its farmer was lost.
    Lost,
    /// It runs.
    Running,
    /// The slot went on to another task, and the record of the end is damaged.
    Unknown,
}

impl Ending<'_> {
    /// Whether the task has failed in this attempt.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Recorded(outcome, _)
            if outcome.destination() == Destination::Failed)
    }

    /// One word for machines.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Recorded(outcome, _) => outcome.word(),
            Self::Lost => Outcome::Lost.word(),
            Self::Running => "running",
            Self::Unknown => "unknown",
        }
    }

    /// What the outcome has besides its word.
    pub(super) fn detail(&self) -> Option<(&'static str, i32)> {
        match self {
            Self::Recorded(Outcome::Exit(code) | Outcome::NotStarted(code), _) => {
                Some(("status", *code))
            }
            Self::Recorded(Outcome::Signal(signal), _) => Some(("signal", *signal)),
            _ => None,
        }
    }
}
