//! Which failures are the fault of a node: the same task finished on another node.

use std::collections::HashMap;

use super::farmer::Farmer;

/// Which tasks finished when they were tried again.
#[derive(Debug, Default)]
pub struct Faults<'a> {
    /// Tasks that finished in a later attempt than the first, and where.
    finished: HashMap<u64, &'a str>,
}

impl<'a> Faults<'a> {
    /// From the journals of these farmers.
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
