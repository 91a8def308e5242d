//! What a node offers to tasks with needs of their own, whether it deals leases already or not.

use std::collections::BTreeSet;

use super::node_setup::Node;
use super::node_share::NodeShare;
use super::only_free;
use super::options::{DeviceOptions, Options};
use super::slot_plan::{Plan, SlotPlan};
use crate::host::cpus;
use crate::model::allocation::Allocation;
use crate::model::allocator::{Allocator, Capacity, GpuPlace};
use crate::model::devices::Gpus;
use crate::model::needs::Needs;
use crate::model::others::Others;

/// What a node offers.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) allocation: Allocation,
    pub(super) devices: DeviceOptions,
    /// `--proc`.
    slots: Option<u32>,
    /// What a task needs that says nothing.
    pub(super) defaults: Needs,
    /// What others use, as it was when this farmer started; `None`: they do not matter.
    pub(super) others: Option<Others>,
    /// The CPUs that this process may use.
    cpus: BTreeSet<usize>,
    pub(super) gpus: Vec<GpuPlace>,
    /// The GPUs that are ours.
    ours: BTreeSet<usize>,
    tasks_per_gpu: u32,
    /// Whether the GPUs are known: nobody looks for them before they are needed.
    pub(super) knows_gpus: bool,
}

impl Offer {
    /// What this node offers.
    pub(super) fn of(node: &Node, options: &Options) -> Self {
        let plan = &node.plan;
        let mut offer = Self {
            allocation: node.allocation.clone(),
            devices: options.devices.clone(),
            slots: options.slots,
            defaults: defaults(options),
            others: node.others.clone(),
            cpus: plan.cpus.clone(),
            gpus: Vec::new(),
            ours: BTreeSet::new(),
            tasks_per_gpu: 1,
            // Where tasks are to see no GPU, none is looked for.
            knows_gpus: plan.pool.is_some()
                || options.devices.gpus == Some(Gpus::Untouched)
                || options.devices.gpus_per_task == Some(0),
        };
        offer.add_gpus(plan);
        let sharing = (0..offer.gpus.len()).map(|gpu| {
            let has = |slot: &&SlotPlan| slot.devices.contains(&gpu);
            plan.slots.iter().filter(has).count()
        });
        let sharing = u32::try_from(sharing.max().unwrap_or(1)).unwrap_or(u32::MAX);
        offer.tasks_per_gpu = options.devices.tasks_per_gpu.unwrap_or(sharing.max(1));
        offer
    }

    /// The GPUs of this plan are offered.
    pub(super) fn add_gpus(&mut self, plan: &Plan) {
        (self.gpus, self.ours) = (plan.places(), plan.ours.clone());
    }

    /// An allocator that deals it, with nothing in use.
    pub(super) fn allocator<T>(&self) -> Allocator<T> {
        let share = NodeShare::read(&self.allocation, cpus::usable());
        let asked = self
            .slots
            .map_or(0, |slots| slots.saturating_mul(self.defaults.cpus));
        let mut allocator = Allocator::new(Capacity {
            // Who asks for more slots than CPUs wants them.
            cpus: share.usable.max(asked).max(1),
            cpu_list: cpus::layout(&share.access.sysfs, &self.cpus),
            gpus: Vec::new(),
            tasks_per_gpu: self.tasks_per_gpu,
            mem_kib: share.memory_kib(),
        });
        self.give_gpus(&mut allocator);
        if let Some(others) = &self.others {
            allocator.withhold(others.withheld(allocator.capacity(), only_free::cpus()));
        }
        allocator
    }

    /// Lets an allocator that has no GPU deal those that are ours.
    pub(super) fn give_gpus<T>(&self, allocator: &mut Allocator<T>) {
        allocator.add_gpus(self.gpus.clone(), self.tasks_per_gpu);
        for gpu in (0..self.gpus.len()).filter(|gpu| !self.ours.contains(gpu)) {
            allocator.exclude(gpu);
        }
    }
}

/// What a task needs that says nothing.
fn defaults(options: &Options) -> Needs {
    let devices = &options.devices;
    let gpus = devices.gpus_per_task.unwrap_or(1);
    Needs {
        cpus: devices.cpus_per_task.unwrap_or(1),
        gpus: if devices.wants_gpus { gpus } else { 0 },
        mem_kib: options.mem_kib.unwrap_or(0),
        time: options.task_timeout,
    }
}
