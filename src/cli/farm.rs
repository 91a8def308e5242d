//! The options of the farm, their forms and their help.

#![expect(
    clippy::doc_markdown,
    reason = "the comments of options are their help, shown as they are written"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};

use super::devices::DeviceArgs;
use super::values::slots;
use super::{AllocationArgs, List, Request};
use crate::model::durations;

/// The options of the farm.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct FarmArgs {
    /// The list of tasks, one command a line (- is standard input)
    ///
    /// Blank lines and lines that begin with # are no tasks. A simple command is
    /// executed directly, anything else by the shell. From standard input, tasks
    /// start as they arrive, and --workdir is needed. A list named like a
    /// subcommand is written with its folder: ./log.
    #[arg(value_name = "TASKLIST", required = true)]
    list: Option<PathBuf>,

    /// How many tasks run at a time [default: one per usable CPU]
    ///
    /// Each pytf process has this many slots. Without it, or without its value:
    /// one slot per CPU that this process may use. (PyTaskFarmer: always 8.) -j and
    /// --jobs are the same.
    #[arg(short = 'n', long, short_alias = 'j', alias = "jobs", env = "PYTF_PROC", value_name = "N", value_parser = slots)]
    pub proc: Option<Option<u32>>,

    /// Stop the whole farm after this long, to be resumed
    ///
    /// Running tasks get TERM, then KILL after --grace, and go back to the tasks
    /// that wait. Forms: seconds (3600), units (90s, 10m, 1h30m), or Slurm's
    /// [D-]HH:MM:SS (01:30:00). 0, the default, is no limit. Choose it
    /// shorter than the job's own limit.
    #[arg(long, env = "PYTF_TIMEOUT", value_name = "DURATION", value_parser = durations::parse)]
    pub timeout: Option<Duration>,

    /// Stop each task that runs longer; it has failed
    ///
    /// It gets TERM, then KILL after --grace. Forms: seconds (3600), units (90s,
    /// 10m, 1h30m), or Slurm's [D-]HH:MM:SS. 0, the default, is no limit.
    #[arg(long, env = "PYTF_TASK_TIMEOUT", value_name = "DURATION", value_parser = durations::parse)]
    pub task_timeout: Option<Duration>,

    /// How long a task has between TERM and KILL [default: 10s]
    ///
    /// Forms: seconds (20), units (20s, 1m30s), or Slurm's MM:SS. 0 kills at
    /// once. Keep it shorter than the scheduler's own patience (Slurm: KillWait,
    /// 30 s).
    #[arg(long, env = "PYTF_GRACE", value_name = "DURATION", value_parser = durations::parse,
          default_value = "10s")]
    pub grace: Duration,

    /// Where the state and the logs are [default: TASKLIST_workdir]
    ///
    /// All processes of a run use the same one, on a file system that they
    /// share. It is made when it does not exist; a run in it is resumed.
    #[arg(short, long, env = "PYTF_WORKDIR", value_name = "DIR")]
    workdir: Option<PathBuf>,

    /// Say more about what happens
    ///
    /// PyTaskFarmer's form with a value (-v True) works too.
    #[arg(short, long, env = "PYTF_VERBOSE", value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set,
          require_equals = true, default_missing_value = "true", default_value = "false",
          value_parser = BoolishValueParser::new())]
    pub verbose: bool,

    /// Say only what went wrong
    ///
    /// No progress, no summary; failed tasks and errors are still told.
    #[arg(short, long, env = "PYTF_QUIET", value_parser = BoolishValueParser::new())]
    pub quiet: bool,

    /// How a task becomes a process
    ///
    /// There is one runner: default. It executes simple commands directly and
    /// leaves all others to the shell.
    #[arg(short, long, env = "PYTF_RUNNER", value_name = "NAME", default_value = "default",
          value_parser = ["default"])]
    pub runner: String,

    /// How the task list is read
    ///
    /// There is one way: default. One command a line.
    #[arg(short, long, env = "PYTF_TASKLIST", value_name = "NAME", default_value = "default",
          value_parser = ["default"])]
    pub tasklist: String,

    /// The tasks' output: files, packed, failed, none [default: files]
    ///
    /// What becomes of what the tasks print:
    #[arg(long, env = "PYTF_LOGS", value_name = "FORM", default_value = "files")]
    pub logs: Logs,

    /// The shell for tasks that need one [default: bash, else sh]
    ///
    /// A path or a name to be looked up in PATH. It must take -c COMMAND.
    #[arg(long, env = "PYTF_SHELL", value_name = "PATH")]
    pub shell: Option<OsString>,

    /// The lock: auto, flock, fcntl, link [default: auto]
    ///
    /// How processes exclude each other. The first process chooses by the file
    /// system that the workdir is on; all others use the same. Each start tests
    /// that it works. One that is known to be unsafe here is refused.
    #[arg(long, env = "PYTF_LOCK", value_name = "WAY", default_value = "auto")]
    pub lock: Lock,

    /// Also run the tasks again that failed before
    ///
    /// The same as `pytf retry` on the workdir before the start.
    #[arg(long, env = "PYTF_RETRY_FAILED", value_parser = BoolishValueParser::new())]
    pub retry_failed: bool,

    /// Refuse to resume when the task list has changed
    ///
    /// Without it, tasks are matched by their text: new lines are added, lines that
    /// come back run, and the differences are told. See --drop for vanished lines.
    #[arg(long, env = "PYTF_STRICT", value_parser = BoolishValueParser::new())]
    pub strict: bool,

    /// Read the list as it is: one line, one task
    ///
    /// Without it, directives of other tools in the list are refused, since they would
    /// be ignored, and a line that ends in a backslash goes on in the next one.
    #[arg(long, env = "PYTF_PLAIN", value_parser = BoolishValueParser::new())]
    pub plain: bool,

    /// Drop waiting tasks whose lines are not in the task list any more
    ///
    /// Without it, a list in which such lines are missing is refused: it may be cut
    /// off, or another list than was meant. What has run is kept in any case.
    #[arg(long, env = "PYTF_DROP", value_parser = BoolishValueParser::new())]
    pub drop: bool,

    /// Accept a workdir that belongs to or is writable by others
    ///
    /// Whoever may write into the workdir decides which commands run as you.
    #[arg(long, env = "PYTF_SHARED_WORKDIR", value_parser = BoolishValueParser::new())]
    pub shared_workdir: bool,

    /// Leave when no task waits, even if others still run some
    ///
    /// Without it, a process whose slots have run dry stays until the last task
    /// has ended, to take over the tasks of a node that dies.
    #[arg(long, env = "PYTF_NO_LINGER", value_parser = BoolishValueParser::new())]
    pub no_linger: bool,

    /// Go on claiming, whatever fails on this node
    ///
    /// Without it, a process whose tasks fail quickly one after the other claims
    /// nothing more until others have tried some of them. If they succeed there it
    /// stays so, and what it failed goes to the others.
    #[arg(long, env = "PYTF_NO_QUARANTINE", value_parser = BoolishValueParser::new())]
    pub no_quarantine: bool,

    /// Do not write timeline.json
    ///
    /// The timeline opens in Perfetto (ui.perfetto.dev) or chrome://tracing.
    #[arg(long, env = "PYTF_NO_TIMELINE", value_parser = BoolishValueParser::new())]
    pub no_timeline: bool,

    /// The end of the allocation, and what tasks see of it.
    #[command(flatten)]
    pub allocation: AllocationArgs,

    /// How long a silent process keeps its tasks from the others
    ///
    /// Forms: seconds (120), units (2m), or Slurm's MM:SS. Default: 120s.
    #[arg(long, env = "PYTF_TAKEOVER", value_name = "DURATION", value_parser = durations::parse,
          default_value = "120s", hide = true)]
    pub takeover: Duration,

    /// GPUs and CPUs.
    #[command(flatten)]
    pub devices: DeviceArgs,
}

/// What becomes of the tasks' output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Logs {
    /// One file a task: logs/log_ID
    Files,
    /// One file a slot; `pytf log` finds a task's part of it
    Packed,
    /// One file a task, kept only when it failed
    Failed,
    /// None is kept
    None,
}

/// How processes exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lock {
    /// What suits the file system: see docs/workdir.md, Locks
    Auto,
    /// flock(2)
    Flock,
    /// fcntl(2), open file description locks
    Fcntl,
    /// A name that only one can make: works on every file system
    Link,
}

impl FarmArgs {
    pub(super) fn request(mut self) -> Result<Request, String> {
        self.devices.check()?;
        let path = self.list.take().ok_or("no TASKLIST is given")?;
        let workdir = match self.workdir.take() {
            Some(workdir) => workdir,
            None => default_workdir(&path).ok_or_else(|| {
                let what = match path.to_str() {
                    Some("-" | "/dev/stdin") => "standard input",
                    _ => "a pipe",
                };
                format!("tasks from {what} need --workdir: there is no file to name it after")
            })?,
        };
        self.timeout = self.timeout.filter(|limit| !limit.is_zero());
        self.task_timeout = self.task_timeout.filter(|limit| !limit.is_zero());
        let list = if path == Path::new("-") {
            List::Stdin
        } else {
            List::File(path)
        };
        Ok(Request::Farm {
            list,
            workdir,
            options: Box::new(self),
        })
    }

    /// How many slots were asked for; `None` is one per usable CPU.
    pub fn slots(&self) -> Option<u32> {
        self.proc.flatten()
    }
}

/// `tasks.txt` → `tasks.txt_workdir`. What is no file of its own has none.
pub fn default_workdir(list: &Path) -> Option<PathBuf> {
    let nameless = list == Path::new("-")
        || ["/dev/stdin", "/dev/fd", "/proc/self/fd"]
            .iter()
            .any(|device| list.starts_with(device));
    if nameless {
        return None;
    }
    let mut workdir = list.as_os_str().to_owned();
    workdir.push("_workdir");
    Some(workdir.into())
}
