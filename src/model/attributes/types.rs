//! The types of attributes.

use std::time::Duration;

/// What is said of a task. Nothing is what the farmer's options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Number of CPUs (`cpus`).
    pub cpus: Option<u32>,
    /// Number of GPUs (`gpus`).
    pub gpus: Option<u32>,
    /// Memory in KiB (`mem`), for each attempt; the last value holds for all later ones.
    pub mem: Vec<u64>,
    /// The time limit of an attempt (`time`).
    pub time: Option<Duration>,
    /// On which nodes it may run (`node`): patterns with `*` and `?` for the name of the node, or
    /// labels, with commas between them.
    pub node: Option<String>,
    /// Larger comes first (`priority`).
    pub priority: i32,
    /// How often it is tried again (`retries`).
    pub retries: Option<u32>,
    /// After which outcomes (`retry-on`); empty is what the farmer's options say.
    pub retry_on: Vec<RetryCause>,
    /// The name by which other tasks refer to it; several tasks may share it (`name`).
    pub name: Option<String>,
    /// All tasks of these names have to finish before it starts (`after`).
    pub after: Vec<String>,
    /// All tasks of these names have to end before it starts (`after-any`).
    pub after_any: Vec<String>,
    /// Where this file exists the task is finished without a start (`creates`).
    pub creates: Option<String>,
    /// The files that it needs (`in`), below the folder in which the run was started.
    pub inputs: Vec<String>,
    /// The files and folders that it makes (`out`), below the folder in which it runs; names may
    /// have `*` and `?`.
    pub outputs: Vec<String>,
    /// The runner that makes a process of it (`runner`).
    pub runner: Option<String>,
    /// Number of nodes of its step (`nodes`).
    pub nodes: Option<u32>,
    /// Number of MPI ranks of its step (`ntasks`).
    pub ntasks: Option<u32>,
    /// Number of barriers above it; no number is 0 (`stage`, `stage-ok`).
    pub stage: Stage,
}

/// The place of a task between barriers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// Number of barriers above it.
    pub number: u32,
    /// Whether the last of them is a `barrier ok`: all tasks between it and the barrier before
    /// have to finish, not only to end.
    pub ok: bool,
}

/// An outcome after which a task is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCause {
    /// Any exit status but 0, 126 and 127 (`exit`).
    Exit,
    /// This exit status (`exit:75`).
    Status(i32),
    /// A signal that we did not send (`signal`).
    Signal,
    /// Its time limit (`timeout`).
    Timeout,
    /// Too little memory (`oom`).
    Memory,
    /// Its farmer died (`lost`).
    Lost,
}
