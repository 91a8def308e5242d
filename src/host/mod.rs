//! The host: processes, signals, CPUs, memory, and the allocation we run in.
//!
//! Only this folder starts, signals and reaps processes.

pub mod allocation;
pub mod cpus;
pub mod gpus;
pub mod guard;
pub mod memory;
pub mod mps;
pub mod open_files;
pub mod process;
pub mod scheduler;
pub mod signals;
pub mod usage;
