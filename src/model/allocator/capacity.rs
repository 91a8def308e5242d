//! What the allocator of a node deals.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::devices::assign::Locality;
use crate::model::devices::cores::Cpu;

/// A GPU of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuPlace {
    /// Its neighbours.
    pub locality: Locality,
    /// The CPUs near it; empty when unknown.
    pub near: BTreeSet<usize>,
}

/// What a node has for tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// How many CPUs are dealt.
    pub cpus: u32,
    /// Which these are; fewer than `cpus`: tasks are not bound.
    pub cpu_list: Vec<Cpu>,
    /// The GPUs.
    pub gpus: Vec<GpuPlace>,
    /// How many tasks may share a GPU.
    pub tasks_per_gpu: u32,
    /// Memory in KiB; `None` is unknown, and not limited.
    pub mem_kib: Option<u64>,
}

/// What a node has, and does not deal, since programs of others use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory in KiB.
    #[serde(rename = "mem")]
    pub mem_kib: u64,
}

impl Withheld {
    /// Whether all is dealt.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}
