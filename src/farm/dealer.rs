//! Puts claimed tasks into the queue, and begins to deal leases when the first task has needs of
//! its own.
//!
//! Guarantee: in a run whose tasks say nothing of their needs, slots keep the CPUs and GPUs that
//! they were planned with. No GPU is looked for before an option or a task needs one.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gates::Gates;
use super::lease_plan::{GpuTasks, LeasePlan};
use super::memory_watch;
use super::node_setup::Node;
use super::node_share::NodeShare;
use super::offer::Offer;
use super::only_free;
use super::options::{Bind, DeviceOptions, Options};
use super::placement::{Placement, says_needs};
use super::queue::Dealing;
use super::shared::Shared;
use super::slot_plan::{Plan, SlotPlan};
use crate::host::cpus;
use crate::model::attributes::Attributes;
use crate::model::class::Class;
use crate::model::durations;
use crate::model::figures::{grouped, show_kib};
use crate::model::needs::Needs;
use crate::model::record::{Deals, Record, Reserved};
use crate::model::task::Task;
use crate::workdir::state::State;

/// What deals the resources of a node to the tasks of one farmer.
pub(super) struct Dealer {
    shared: Arc<Shared>,
    offer: Offer,
    /// What the slots were planned with.
    fixed: Vec<SlotPlan>,
    plan: LeasePlan,
    is_dealing: bool,
    binds: bool,
    watches_memory: bool,
    /// What keeps the GPUs measured that were looked for later.
    found: Option<Plan>,
    /// The classes of which it was said that no task of theirs can run here.
    reported: HashSet<Class>,
    /// What the journal has of what is dealt, and since when.
    noted: Option<(Deals, Instant)>,
}

impl Dealer {
    /// Of a node with this offer, whose slots have these gates.
    pub(super) fn new(
        shared: &Arc<Shared>,
        offer: Offer,
        node: &Node,
        env: &[(OsString, OsString)],
        gates: Option<Arc<Gates>>,
    ) -> Self {
        let gates = gates.map(|gates| gates as Arc<dyn GpuTasks>);
        Self {
            shared: shared.clone(),
            fixed: node.plan.slots.clone(),
            plan: LeasePlan::new(&node.plan, &offer.devices, env, gates),
            offer,
            is_dealing: false,
            binds: false,
            watches_memory: false,
            found: None,
            reported: HashSet::new(),
            noted: None,
        }
    }

    /// What is dealt, for the journal, if that has changed; the task that waits for resources
    /// changes at most once in this time.
    pub(super) fn news(&mut self, every: Duration) -> Option<Record> {
        let (mut deals, reserved) = self.shared.queue.dealt()?;
        deals.reserved = reserved.map(|(id, since)| Reserved {
            id,
            since: self.shared.clock.micros(since),
        });
        if let Some((noted, at)) = &self.noted {
            let is_same =
                (noted.cpus, noted.gpus, noted.mem) == (deals.cpus, deals.gpus, deals.mem);
            if *noted == deals || is_same && at.elapsed() < every {
                return None;
            }
        }
        let now = Instant::now();
        self.noted = Some((deals.clone(), now));
        let at = self.shared.clock.micros(now);
        Some(Record::Deals { at, deals })
    }

    /// How many slots a farmer needs whose first tasks are these: one for each CPU, unless an
    /// option says how many, as soon as a task of the run has needs of its own.
    pub(super) fn slots(options: &Options, node: &Node, state: &State, tasks: &[Task]) -> u32 {
        let waiting = state.queues.iter().filter(|queue| queue.left > 0);
        let has_needs = waiting.into_iter().any(|queue| says_needs(&queue.class));
        if options.slots.is_some() || !has_needs && tasks.iter().all(|task| class(task).is_none()) {
            return node.slots;
        }
        let share = NodeShare::read(&node.allocation, cpus::usable());
        share.usable.max(node.slots)
    }

    /// Prepares for the classes of the tasks that wait, before any of them is claimed.
    pub(super) fn observe(&mut self, state: &State, placement: &Placement) {
        let waiting = state.queues.iter().filter(|queue| queue.left > 0);
        for queue in waiting {
            if says_needs(&queue.class) {
                self.prepare(&queue.class);
            }
            let is_new = !self.reported.contains(&queue.class);
            if let Some(left) = placement.too_little_time(&queue.class).filter(|_| is_new) {
                self.reported.insert(queue.class.clone());
                let tasks = match queue.left {
                    1 => "1 task is not started here: its".to_owned(),
                    n => format!("{} tasks are not started here: their", grouped(n)),
                };
                let limit = durations::show(queue.class.time().unwrap_or_default());
                let left = durations::show(left);
                self.shared.say(format!(
                    "{tasks} time limit is {limit}, and {left} are left of the allocation"
                ));
            }
            if self.is_dealing && is_new && !placement.can_hold(&queue.class) {
                self.reported.insert(queue.class.clone());
                if let Some(lacks) = self.lacks(&queue.class) {
                    let tasks = match queue.left {
                        1 => "1 task".to_owned(),
                        n => format!("{} tasks", grouped(n)),
                    };
                    self.shared.warn(format!(
                        "{tasks} can never run on this node: each needs {lacks}; others may run them"
                    ));
                }
            }
        }
    }

    /// Puts claimed tasks into the queue. Returns those that this node cannot hold.
    pub(super) fn put(&mut self, tasks: Vec<Task>) -> Vec<Task> {
        if self.offer.defaults.mem_kib > 0 || self.offer.others.is_some() {
            self.prepare(&Class::default());
        }
        for class in tasks.iter().filter_map(class) {
            self.prepare(&class);
        }
        self.shared.queue.put(tasks)
    }

    /// Does what tasks of this class require.
    fn prepare(&mut self, class: &Class) {
        if !self.is_dealing {
            self.begin();
        }
        let needs_gpus = class.gpus.is_some_and(|n| n > 0);
        let mut has_changed = false;
        if !self.offer.knows_gpus && needs_gpus {
            self.offer.knows_gpus = true;
            self.look_for_gpus();
            has_changed = true;
        }
        if !self.binds && (class.cpus.is_some() || needs_gpus) {
            self.binds = true;
            self.plan.bind_by_default(&self.offer.devices);
            has_changed = true;
        }
        if has_changed {
            self.shared.leases.set(self.plan.clone());
        }
        let has_limit = self.offer.defaults.mem_kib > 0 || class.mem.is_some();
        if !self.watches_memory && has_limit {
            self.watches_memory = true;
            memory_watch::start(&self.shared);
        }
    }

    /// From now on each attempt has a lease.
    fn begin(&mut self) {
        self.is_dealing = true;
        let allocator = self.offer.allocator();
        self.plan.set_layout(allocator.capacity().cpu_list.clone());
        self.shared.leases.set(self.plan.clone());
        let fixed: Vec<_> = (self.fixed.iter())
            .map(|slot| (slot.cpus.clone().unwrap_or_default(), slot.devices.clone()))
            .collect();
        if let Some(others) = &self.offer.others {
            only_free::watch(&self.shared, others.clone());
        }
        let queue = &self.shared.queue;
        let dealing = Dealing::new(allocator, self.offer.defaults, self.offer.knows_gpus);
        queue.deal(dealing, &fixed);
        if let Some(gates) = self.plan.gates.clone() {
            queue.ask_about_gpus(Box::new(move || gates.states()));
        }
    }

    /// The first task needs GPUs, and no option did.
    fn look_for_gpus(&mut self) {
        let share = NodeShare::read(&self.offer.allocation, cpus::usable());
        let options = DeviceOptions {
            wants_gpus: true,
            gpus_per_task: Some(1),
            cpus_per_task: None,
            bind: Some(Bind::None),
            ..self.offer.devices.clone()
        };
        let queue = &self.shared.queue;
        let Ok(plan) = Plan::make(&options, None, &share) else {
            return queue.give_gpus(|_| {});
        };
        for remark in &plan.remarks {
            self.shared.say(remark.clone());
        }
        let gates = Gates::open(&plan, &options, &self.shared);
        let gates = gates.map(|gates| gates as Arc<dyn GpuTasks>);
        self.plan.add_gpus(&plan, gates.clone());
        self.offer.add_gpus(&plan);
        queue.give_gpus(|allocator| self.offer.give_gpus(allocator));
        if let Some(gates) = gates {
            queue.ask_about_gpus(Box::new(move || gates.states()));
        }
        self.found = Some(plan);
    }

    /// What this node lacks for tasks of a class, if it is not its name.
    fn lacks(&self, class: &Class) -> Option<String> {
        let needs = class.needs(&self.offer.defaults);
        let (cpus, gpus, mem_kib) = self.shared.queue.has()?;
        let mut lacks = Vec::new();
        if needs.cpus > cpus {
            lacks.push(format!("{} CPUs of {cpus}", needs.cpus));
        }
        if needs.gpus > gpus {
            let gpus = if gpus == 0 {
                "none".to_owned()
            } else {
                gpus.to_string()
            };
            let plural = if needs.gpus == 1 { "" } else { "s" };
            lacks.push(format!("{} GPU{plural} of {gpus}", needs.gpus));
        }
        if let Some(mem_kib) = mem_kib.filter(|mem_kib| needs.mem_kib > *mem_kib) {
            let (needs, has) = (show_kib(needs.mem_kib), show_kib(mem_kib));
            lacks.push(format!("{needs} of memory of {has}"));
        }
        (!lacks.is_empty()).then(|| lacks.join(" and "))
    }
}

/// The class of a task that has needs of its own.
fn class(task: &Task) -> Option<Class> {
    // A line that cannot be read is one of a later version, and runs as it is.
    let attributes = Attributes::of_line(&task.line).ok()?;
    Needs::are_said(&attributes).then(|| Class::of(&attributes, task.attempt))
}
