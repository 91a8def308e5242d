//! Which of the waiting tasks this farmer may claim, by what is said of them and by what is free.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use wildmatch::WildMatch;

use super::node_setup::Node;
use super::offer::Offer;
use super::options::Options;
use super::queue::Queue;
use super::task_times::TaskTimes;
use crate::model::class::Class;
use crate::model::needs::Needs;
use crate::model::walltime::needs_more;
use crate::workdir::state::State;
use crate::workdir::transaction::Claim;

/// What this farmer offers.
#[derive(Clone)]
pub(super) struct Placement {
    /// The name of its node.
    pub(super) node: String,
    /// What `--label` says.
    pub(super) labels: HashSet<String>,
    /// What its node has.
    pub(super) offer: Offer,
    /// What deals it, once the farmer has joined.
    pub(super) queue: Option<Arc<Queue>>,
    /// What knows how much time is left, from then on.
    pub(super) times: Option<Arc<TaskTimes>>,
}

impl Placement {
    /// That of a farmer on this node before it has joined.
    pub(super) fn of(node: &Node, options: &Options) -> Self {
        Self {
            node: node.name.clone(),
            labels: options.labels.clone(),
            offer: Offer::of(node, options),
            queue: None,
            times: None,
        }
    }

    /// How the farmer claims at most so many, of which `ahead` may wait until others have ended.
    pub(super) fn claim<'a>(&'a self, state: &State, most: u64, ahead: u64) -> Claim<'a> {
        let looks_at_others = self.offer.others.is_some();
        if !looks_at_others && state.queues.iter().all(|queue| queue.class.is_plain()) {
            return most.into();
        }
        let queue = self.queue.as_deref();
        let claimer = queue.and_then(|queue| queue.claimer(ahead));
        let has_needs = state.queues.iter().any(|queue| says_needs(&queue.class));
        let mut claimer = claimer.or_else(|| {
            let fresh = || self.offer.allocator::<()>().claimer(ahead);
            ((has_needs || looks_at_others) && queue.is_none()).then(fresh)
        });
        Claim::fitting(most, move |class| {
            // First: a task that may not run here takes no room.
            self.may_run(class)
                && claimer.as_mut().is_none_or(|claimer| {
                    let needs = class.needs(&self.offer.defaults);
                    claimer.one_more(&needs)
                })
        })
    }

    /// Whether a task waits that can run here.
    pub(super) fn has_work(&self, state: &State) -> bool {
        let queues = state.queues.iter().filter(|queue| queue.left > 0);
        queues.into_iter().any(|queue| self.can_hold(&queue.class))
    }

    /// Whether tasks of a class can ever run here.
    pub(super) fn can_hold(&self, class: &Class) -> bool {
        let needs = class.needs(&self.offer.defaults);
        self.may_run(class) && self.has_room(&needs)
    }

    /// The same of a node on which no task has run yet. GPUs count if they were looked for.
    pub(super) fn would_hold(&self) -> impl Fn(&Class) -> bool {
        let allocator = self.offer.allocator::<()>();
        move |class| {
            let mut needs = class.needs(&self.offer.defaults);
            if !self.offer.knows_gpus {
                needs.gpus = 0;
            }
            self.may_run(class) && allocator.can_ever_hold(&needs)
        }
    }

    /// How much time is left, if that is less than a task of this class may need: the limit that
    /// is said of it, or what such tasks have needed here.
    pub(super) fn too_little_time(&self, class: &Class) -> Option<Duration> {
        let limit = class.time()?;
        let left = self.times.as_ref()?.left()?;
        let needs = class.needs(&self.offer.defaults);
        let longest = self.queue.as_ref().and_then(|queue| queue.usual(&needs));
        needs_more(limit, longest, left).then_some(left)
    }

    /// Whether the class may run on this node, by its name, and now.
    fn may_run(&self, class: &Class) -> bool {
        self.too_little_time(class).is_none() && self.is_wanted(class)
    }

    fn is_wanted(&self, class: &Class) -> bool {
        let is_here = |wanted: &str| {
            self.labels.contains(wanted) || WildMatch::new(wanted).matches(&self.node)
        };
        let node = class.node.as_deref();
        node.is_none_or(|wanted| wanted.split(',').any(is_here))
    }

    fn has_room(&self, needs: &Needs) -> bool {
        let dealt = self.queue.as_ref();
        dealt.is_none_or(|queue| queue.can_ever_hold(needs))
    }
}

/// Whether tasks of a class have needs of their own.
pub(super) fn says_needs(class: &Class) -> bool {
    class.cpus.is_some() || class.gpus.is_some() || class.mem.is_some() || class.time.is_some()
}
