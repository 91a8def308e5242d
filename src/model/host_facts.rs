//! What a host is and what of it is free, for `pytf hosts`.

use serde::{Deserialize, Serialize};

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its name, from its kernel.
    pub node: String,
    /// How many CPUs a process may use there.
    pub cpus: Option<u32>,
    /// How many processes have run or waited for a CPU, on average over a minute.
    pub load: Option<f64>,
    /// Its memory, and how much of it is free, in KiB.
    pub memory_kib: Option<u64>,
    /// How much of its memory is free, in KiB.
    pub free_kib: Option<u64>,
    /// Its GPUs.
    pub gpus: Vec<GpuFacts>,
    /// What there is to say about its GPUs.
    pub remarks: Vec<String>,
    /// The program that has answered.
    pub program: String,
}

/// A GPU, and how busy it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuFacts {
    /// Its number.
    pub index: u32,
    /// What it is called.
    pub name: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its memory in bytes.
    pub memory: Option<u64>,
    /// How busy it is, 0 to 1.
    pub load: Option<f64>,
    /// How much of its memory is in use, 0 to 1.
    pub memory_used: Option<f64>,
    /// Whose processes use it.
    pub users: Vec<String>,
}

/// How the clock of a host differs from ours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Clock {
    /// By how many seconds it is ahead.
    pub ahead: f64,
    /// How long a message takes to the host and back, in seconds: `ahead` is known within half of it.
    pub round_trip: f64,
}

/// A host that was asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// What it is called.
    pub host: String,
    /// Why it cannot be used.
    pub problem: Option<String>,
    /// What it says.
    #[serde(flatten)]
    pub facts: Option<HostFacts>,
    /// Whether it shares our current folder, where that is known.
    pub shares_folder: Option<bool>,
    /// Its clock.
    pub clock: Option<Clock>,
}
