//! What the timeline shows: the farmers, their rows, the start of the time axis.

use std::time::Duration;

use crate::history::farmer_rows::{FarmerRows, Span, farmer_rows};
use crate::history::run::{Farmer, Run};

/// What the timeline shows.
pub(super) struct Plan<'a> {
    pub(super) run: &'a Run,
    farmers: Vec<(&'a Farmer, FarmerRows)>,
    /// The time that is 0 in the trace.
    pub(super) origin: u64,
    /// The last time that any farmer has recorded.
    pub(super) last: u64,
    /// What ended before is not drawn.
    pub(super) since: u64,
    /// How many attempts our journals have.
    pub(super) attempts: u64,
}

impl<'a> Plan<'a> {
    /// For the farmers of a run; `old` is when the first task of `PyTaskFarmer` began.
    /// With `since`, only the last part of the run is drawn, this long.
    pub(super) fn new(run: &'a Run, old: Option<u64>, since: Option<Duration>) -> Self {
        // A journal may contain no time.
        let mut farmers: Vec<&Farmer> =
            run.farmers.iter().filter(|f| f.first != u64::MAX).collect();
        farmers.sort_by_key(|farmer| (farmer.first, &farmer.journal.name));
        let spans: Vec<Span> = farmers
            .iter()
            .map(|farmer| farmer.span(!farmer.is_over()))
            .collect();
        let rows = farmer_rows(&spans);
        let firsts = [farmers.first().map(|farmer| farmer.first), old];
        let last = farmers.iter().map(|farmer| farmer.last).max().unwrap_or(0);
        let since = since.map_or(0, |since| {
            last.saturating_sub(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
        });
        Self {
            run,
            origin: firsts.into_iter().flatten().min().unwrap_or(0),
            since,
            last,
            attempts: farmers.iter().map(|f| f.ended + f.slots.open()).sum(),
            farmers: farmers.into_iter().zip(rows).collect(),
        }
    }

    /// The farmers and where they are drawn.
    pub(super) fn farmers(&self) -> impl Iterator<Item = (&'a Farmer, FarmerRows)> + '_ {
        self.farmers.iter().copied()
    }

    /// Whether what ended at a time is drawn.
    pub(super) fn is_in(&self, at: u64) -> bool {
        at >= self.since
    }
}
