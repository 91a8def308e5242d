//! Which of the waiting tasks this farmer may claim, by what is said of them.

use std::collections::HashSet;

use wildmatch::WildMatch;

use crate::model::class::Class;
use crate::workdir::state::State;
use crate::workdir::transaction::Claim;

/// What this farmer offers.
#[derive(Clone, Debug, Default)]
pub(super) struct Placement {
    /// The name of its node.
    pub(super) node: String,
    /// What `--label` says.
    pub(super) labels: HashSet<String>,
}

impl Placement {
    /// How the farmer claims at most so many.
    pub(super) fn claim<'a>(&'a self, state: &State, most: u64) -> Claim<'a> {
        if state.queues.iter().all(|queue| queue.class.is_plain()) {
            return most.into();
        }
        Claim::fitting(most, |class| self.can_hold(class))
    }

    /// Whether a task waits that can run here.
    pub(super) fn has_work(&self, state: &State) -> bool {
        let queues = state.queues.iter().filter(|queue| queue.left > 0);
        queues.into_iter().any(|queue| self.can_hold(&queue.class))
    }

    /// Whether tasks of a class can ever run here.
    pub(super) fn can_hold(&self, class: &Class) -> bool {
        class.node.as_deref().is_none_or(|wanted| {
            self.labels.contains(wanted) || WildMatch::new(wanted).matches(&self.node)
        })
    }
}
