//! What a process may use of its node, and where it reads that.

use crate::host::gpus::Access;
use crate::host::memory::usable_kib;
use crate::model::allocation::Allocation;
use crate::model::cpus::{Cpus, usable};
use crate::model::devices::assign::Share;

/// What a process may use of its node, and where it reads that.
pub(super) struct NodeShare<'a> {
    /// The environment variables.
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
    /// How GPUs are accessed.
    pub(super) access: Access,
    /// The job and the step.
    pub(super) allocation: &'a Allocation,
    /// How many CPUs only we use.
    pub(super) usable: u32,
}

impl<'a> NodeShare<'a> {
    /// Of this process in this allocation.
    pub(super) fn read(allocation: &'a Allocation, cpus: Cpus) -> Self {
        Self {
            lookup: &|name| std::env::var(name).ok(),
            access: Access::from(|name| std::env::var_os(name)),
            allocation,
            usable: usable(cpus, allocation),
        }
    }

    /// The memory of this process and its tasks in KiB, if that is known.
    pub(super) fn memory_kib(&self) -> Option<u64> {
        let of = u64::from(self.part().of.max(1));
        usable_kib().map(|kib| kib / of)
    }

    /// The part of the node that belongs to this process: the whole node, unless a launcher
    /// started several processes here.
    pub(super) fn part(&self) -> Share {
        match (self.allocation.local_rank, self.allocation.local_size) {
            (Some(rank), Some(of)) if rank < of => Share { rank, of },
            _ => Share::WHOLE,
        }
    }
}
