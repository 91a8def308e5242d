//! The run in numbers, and when it may be over.

use std::time::Duration;

use crate::model::durations;
use crate::model::figures::grouped;
use crate::model::forecast::{Forecast, Known, forecast};
use crate::ui::rate::RecentRate;

/// The state of the run in numbers, for all farmers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressCounts {
    /// Tasks that finished.
    pub done: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Tasks that run now.
    pub running: u64,
    /// Tasks that wait.
    pub left: u64,
    /// All tasks; `None` while more may come.
    pub total: Option<u64>,
}

impl ProgressCounts {
    /// All tasks, with a plus while more may come.
    pub(super) fn known(&self) -> String {
        match self.total {
            Some(total) => grouped(total),
            None => format!("{}+", grouped(self.ended() + self.running + self.left)),
        }
    }

    /// Whether nothing is left to do until more tasks come.
    pub(super) fn is_waiting(&self) -> bool {
        self.total.is_none() && self.running == 0 && self.left == 0
    }

    pub(super) fn ended(&self) -> u64 {
        self.done + self.failed + self.cancelled
    }
}

/// How long it may take until all tasks have ended, in words.
pub(super) fn eta(counts: &ProgressCounts, rate: &RecentRate, now: Duration) -> String {
    let known = Known {
        left: counts.total.unwrap_or(0).saturating_sub(counts.ended()),
        ended: rate.ended(counts.ended()),
        slots: counts.running.max(1),
        rate: rate.rate(now),
        long: Duration::ZERO,
        is_open: counts.total.is_none(),
    };
    match forecast(&known) {
        Forecast::Over => durations::show(Duration::ZERO),
        Forecast::Range(low, _) => durations::show(low),
        Forecast::Unknown(_) => "unknown".to_owned(),
    }
}
