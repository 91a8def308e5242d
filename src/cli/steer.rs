//! The commands that steer a run.

use std::path::PathBuf;

use clap::Args;

/// Let a run start no more tasks, until it is resumed.
///
/// Running tasks go on, or are stopped with --stop. The processes of the run obey within ten
/// seconds, and stay. The run stays paused when they end and others start. 'pytf resume' lifts
/// it.
#[derive(Clone, Debug, Args)]
pub struct Pause {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// Stop running tasks, too, by SIGSTOP; the resume sends them SIGCONT
    ///
    /// Their memory stays in use. While a task is stopped its time limit (--task-timeout) does
    /// not run; the end of the allocation and --timeout hold. Processes that a task has moved
    /// out of its process group go on. Without --stop, tasks that were stopped are continued.
    #[arg(long)]
    pub stop: bool,
}

/// Let a paused run start tasks again.
///
/// The processes of the run obey within ten seconds.
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// The workdir of the run
    pub workdir: PathBuf,
}

/// Stop all processes of a run in good order, on all nodes.
///
/// Each of them stops within ten seconds, as if it had got SIGTERM: running tasks get TERM,
/// then KILL after the grace period, and wait again. Processes that start later are not
/// affected: the same command again resumes the run.
#[derive(Clone, Debug, Args)]
pub struct Stop {
    /// The workdir of the run
    pub workdir: PathBuf,
}

/// Let processes of a run finish their running tasks, and leave.
///
/// Within ten seconds they start no more tasks, and give back those that they have claimed
/// and not started. Processes that start later are not affected.
#[derive(Clone, Debug, Args)]
pub struct Drain {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// Only the processes on this node, by its name in pytf status
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}
