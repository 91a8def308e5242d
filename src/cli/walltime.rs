//! The options for the end of the allocation, and for what tasks see of it.

use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use crate::model::durations;

/// What a farm is told of its allocation.
#[derive(Clone, Debug, Args)]
pub struct AllocationArgs {
    /// How long the job lasts from now [default: the scheduler knows]
    ///
    /// No task is started that is not expected to end before it, and shortly
    /// before it what runs is stopped, to be resumed. Without it Slurm and PBS
    /// are asked. Forms: seconds (3600), units (90s, 10m, 1h30m), or Slurm's
    /// [D-]HH:MM:SS (01:30:00). 0 is no end.
    #[arg(long, env = "PYTF_WALLTIME", value_name = "DURATION", value_parser = durations::parse)]
    pub walltime: Option<Duration>,

    /// Take no notice of when the job ends
    ///
    /// The scheduler is not asked, tasks are started until its signal comes.
    /// It wins over --walltime and its variable.
    #[arg(long, env = "PYTF_NO_WALLTIME", value_parser = BoolishValueParser::new())]
    pub no_walltime: bool,

    /// How long a task takes [default: what finished tasks took]
    ///
    /// With less than that left before the end of the job, none is started.
    /// Without it: what nine of ten of the tasks that finished here did not
    /// exceed. Forms: seconds (3600), units (90s, 10m, 1h30m), or Slurm's
    /// [D-]HH:MM:SS.
    #[arg(long, env = "PYTF_TASK_ESTIMATE", value_name = "DURATION", value_parser = durations::parse)]
    pub task_estimate: Option<Duration>,

    /// Launcher's variables in tasks: keep, scrub [default: keep]
    ///
    /// An MPI program that is a task, and finds the variables of the srun or
    /// mpiexec that has started pytf, takes itself for a part of that. What
    /// becomes of them:
    #[arg(
        long,
        env = "PYTF_SRUN_ENV",
        value_name = "WAY",
        default_value = "keep"
    )]
    pub srun_env: SrunEnv,
}

/// What becomes of the variables of the launcher that started us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SrunEnv {
    /// Tasks see them
    Keep,
    /// They are hidden from tasks; docs/options.md lists them
    Scrub,
}
