//! Whose fault a failure was: the node's, when the same task finished on another.

use std::collections::HashMap;

use super::farmer::Farmer;

/// What became of tasks that were tried again.
#[derive(Debug, Default)]
pub struct Faults<'a> {
    /// Tasks that finished in a later attempt than the first, and where.
    finished: HashMap<u64, &'a str>,
}

impl<'a> Faults<'a> {
    /// As far as the journals of these farmers show.
    pub(super) fn of(farmers: &'a [Farmer]) -> Self {
        let late = farmers.iter().flat_map(|farmer| {
            let host = &*farmer.header().host;
            farmer.late.iter().map(move |id| (*id, host))
        });
        Self {
            finished: late.collect(),
        }
    }

    /// Whether a failure of this task on this node was the node's.
    pub fn is_nodes(&self, id: u64, host: &str) -> bool {
        self.finished.get(&id).is_some_and(|other| *other != host)
    }
}
