//! What a farm is asked to do, as plain values. `src/options.rs` makes them once from the
//! command line, with its defaults. Where an option is `None`, the farm decides: the number of
//! slots, the shell, the lock, the binding.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;

use crate::definitions::Places;
use crate::history::run::Run;
use crate::model::devices::Gpus;
use crate::model::failure_limit::FailureLimit;
use crate::model::logs::LogMode;
use crate::model::retry::RetryRule;
use crate::model::tasklist::Dialect;
use crate::model::template::Template;
use crate::model::tool::NodeCommands;
use crate::runner::chosen::RunnerChoice;
use crate::workdir::fs::PipeDir;
use crate::workdir::mechanism::Mechanism;

/// In which order waiting tasks start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// That of the list.
    #[default]
    List,
    /// The longest first, by the records of this workdir; none: of the run's own.
    LongestFirst(Option<PathBuf>),
}

/// The options of a farm.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Options {
    /// Where the tasks come from.
    pub tasks: TaskList,
    /// What makes the tasks of the list.
    pub handler: HandlerChoice,
    /// How tasks become processes.
    pub runner: RunnerChoice,
    /// In which order waiting tasks start.
    pub order: Order,
    /// The folder that holds the state of the run.
    pub workdir: PathBuf,
    /// The run on hosts that this process is part of: another pytf has prepared the workdir and
    /// started this one.
    pub hosted: Option<Hosted>,
    /// The workdir, where it is at the other end of a pipe. Then [`Options::workdir`] is a folder of
    /// this process, in which the output of tasks waits.
    pub pipe: Option<Piped>,
    /// How many tasks run at a time; none: one per usable CPU, or as many as the devices
    /// allow.
    pub slots: Option<u32>,
    /// After this time the farm stops.
    pub timeout: Option<Duration>,
    /// After this time a task is stopped.
    pub task_timeout: Option<Duration>,
    /// How much memory a task may have, in KiB; none: as much as there is.
    pub mem_kib: Option<u64>,
    /// Whether only that is used of the node which programs of others leave free.
    pub only_free: bool,
    /// How long a task has between TERM and KILL.
    pub grace: Duration,
    /// The takeover time of a run that this process is the first to join.
    pub takeover: Duration,
    /// When the allocation ends.
    pub end: AllocationEnd,
    /// How long a task takes; none: what finished tasks took.
    pub task_estimate: Option<Duration>,
    /// Whether tasks do not see the variables of the launcher.
    pub hides_launcher: bool,
    /// What becomes of the output of tasks.
    pub logs: LogMode,
    /// A fresh folder for each attempt; none: tasks run where the farm does.
    pub task_dir: Option<TaskDirOptions>,
    /// What each task makes that is to be kept: paths below the folder in which it runs.
    pub copy_out: Vec<String>,
    /// The shell for tasks that need one; none: bash, else sh.
    pub shell: Option<OsString>,
    /// The locking mechanism; none: chosen by the file system.
    pub lock: Option<Mechanism>,
    /// When a task that fails is tried again by itself.
    pub retry: RetryRule,
    /// Whether failed tasks run again.
    pub retry_failed: bool,
    /// Whether a changed task list is refused.
    pub strict: bool,
    /// Whether each line of the list is a task as it is.
    pub plain: bool,
    /// Whether waiting tasks are dropped whose lines are no longer in the list.
    pub drop: bool,
    /// Whether the workdir may belong to others.
    pub shared_workdir: bool,
    /// Whether to stay while other farmers still run tasks.
    pub linger: bool,
    /// For how long to stay when all tasks have ended, since more may be added; none: not at all.
    pub follow: Option<Duration>,
    /// Whether to stop claiming on a node that seems sick.
    pub quarantine: bool,
    /// After how many failed tasks nothing more is started.
    pub max_fail: Option<FailureLimit>,
    /// What this node is called in `node=` of tasks, beside its name.
    pub labels: HashSet<String>,
    /// Whether running tasks are stopped then.
    pub halt_now: bool,
    /// Writes `timeline.json`; none: it is not written.
    pub write_timeline: Option<WriteTimeline>,
    /// Whether to report more.
    pub verbose: bool,
    /// Whether to report failures and errors only.
    pub quiet: bool,
    /// The time between the first starts of two slots.
    pub start_delay: Duration,
    /// The least time between two starts.
    pub start_interval: Duration,
    /// What this process runs before its first task.
    pub node_setup: Option<OsString>,
    /// What it runs after its last task.
    pub node_teardown: Option<OsString>,
    /// How long each of the two may take; none: without a limit.
    pub node_timeout: Option<Duration>,
    /// What the last process to leave a complete run runs.
    pub on_end: Option<OsString>,
    /// Whether to print a line when a task starts, and one when it ends.
    pub log_tasks: bool,
    /// GPUs and CPUs.
    pub devices: DeviceOptions,
    /// What was wrong with the options and is ignored; shown once per job.
    pub ignored: Vec<String>,
}

/// What makes the tasks of a list.
#[derive(Clone, Debug)]
pub struct HandlerChoice {
    /// Its name.
    pub name: String,
    /// Where definitions are looked for.
    pub places: Places,
}

/// A fresh folder for each attempt.
#[derive(Clone, Debug)]
pub struct TaskDirOptions {
    /// In which folder they are made; none: that for temporary files.
    pub base: Option<PathBuf>,
    /// Whether they are kept.
    pub keep: KeepTaskDir,
}

/// Which folders of attempts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepTaskDir {
    /// None.
    Never,
    /// Those of attempts that failed.
    Failed,
    /// All of them.
    Always,
}

/// Writes the timeline of a run into its workdir; returns what of an earlier one is left out.
/// `main` provides it, since the farm does not depend on a view.
pub type WriteTimeline = fn(&Run) -> io::Result<Option<String>>;

/// Where the tasks come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskList {
    /// From nowhere: those that were added to the workdir.
    Added,
    /// Standard input.
    Stdin,
    /// A file, or a path that can be read like one.
    File(PathBuf),
    /// A command and its values.
    Template(Template),
}

/// A process among those that one pytf has started on hosts.
#[derive(Clone, Debug)]
pub struct Hosted {
    /// What these processes call their job, as that of a scheduler.
    pub job: String,
    /// Which of the processes this is, from 0.
    pub rank: u32,
    /// How many there are.
    pub size: u32,
}

/// A workdir at the other end of a pipe.
#[derive(Clone)]
pub struct Piped {
    /// Its files.
    pub dir: Arc<PipeDir>,
    /// Where it is, as the user named it there.
    pub shown: PathBuf,
    /// How its lock is taken.
    pub mechanism: Mechanism,
    /// The process that connects us to it, where that is a child of ours.
    pub connection: Option<Pid>,
}

impl fmt::Debug for Piped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a workdir by a pipe, locked by {}", self.mechanism)
    }
}

impl Options {
    /// Where the workdir is, as the user named it.
    pub(super) fn shown_workdir(&self) -> &Path {
        self.piped().map_or(&self.workdir, |piped| &piped.shown)
    }

    /// The workdir at the other end of a pipe, where it is there.
    pub(super) fn piped(&self) -> Option<&Piped> {
        self.pipe.as_ref()
    }
}

/// When the allocation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationEnd {
    /// When the scheduler says so.
    Asked,
    /// This long after the start of this process.
    After(Duration),
    /// It is ignored.
    Ignored,
}

/// The options for GPUs and CPUs.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// Whether each task gets GPUs of its own: an option requests it.
    pub wants_gpus: bool,
    /// Which GPUs may be used; none: not specified.
    pub gpus: Option<Gpus>,
    /// How many GPUs each task gets.
    pub gpus_per_task: Option<u32>,
    /// How many tasks share a GPU.
    pub tasks_per_gpu: Option<u32>,
    /// Tasks start on a GPU whose load is at most this, between 0 and 1.
    pub gpu_max_load: Option<f64>,
    /// Tasks start on a GPU of whose memory at most this part is in use.
    pub gpu_max_memory: Option<f64>,
    /// Whether NVIDIA's MPS runs with the farm.
    pub mps: bool,
    /// How many CPUs each task gets.
    pub cpus_per_task: Option<u32>,
    /// How slots are bound to CPUs; none: chosen by what is there.
    pub bind: Option<Bind>,
}

impl Options {
    /// How the list is read where tasks have variables of these names.
    pub(super) fn dialect(&self, names: impl Iterator<Item = OsString>) -> Dialect {
        let node = NodeCommands {
            setup: self.node_setup.is_some(),
            teardown: self.node_teardown.is_some(),
        };
        Dialect::of(self.plain, names).with_node(node)
    }
}

/// How slots are bound to CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Not at all.
    None,
    /// To CPUs of their own.
    Core,
    /// To a NUMA node, that of the slot's GPU.
    Numa,
    /// To all CPUs near the slot's GPU.
    Gpu,
}
