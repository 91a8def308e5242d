//! The model: what a task, an outcome, a journal record *is*, and what the
//! farmer decides.
//!
//! Nothing in here does I/O, reads a clock, looks at the environment or starts
//! a thread. Everything takes what it needs as an argument, so that tables and
//! generated histories can test it.

pub mod allocation;
pub mod allocator;
pub mod attributes;
pub mod class;
pub mod cpus;
pub mod devices;
pub mod dialects;
pub mod durations;
pub mod escape;
pub mod failure_limit;
pub mod far_workdir;
pub mod farmer;
pub mod figures;
pub mod forecast;
pub mod foreign_syntax;
pub mod health;
pub mod host_facts;
pub mod hosts;
pub mod identity;
pub mod ids;
pub mod interruption;
pub mod limits;
pub mod liveness;
pub mod logs;
pub mod needs;
pub mod others;
pub mod outcome;
pub mod pace;
pub mod polling;
pub mod record;
pub mod refusal;
pub mod relative;
pub mod retry;
pub mod series;
pub mod setup;
pub mod shell_text;
pub mod task;
pub mod tasklist;
pub mod template;
pub mod tool;
pub mod turn;
pub mod walltime;
