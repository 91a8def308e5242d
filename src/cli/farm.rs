//! The options of the farm, their forms and their help.

#![expect(
    clippy::doc_markdown,
    reason = "the comments of options are their help, shown as they are written"
)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};

use super::device_options::DeviceArgs;
use super::groups::{ADVANCED, COMMON, LOGS, RESOURCES, TIME, WORKDIR};
use super::values::{Causes, Order, causes, follow, key_value, order, slots, start_rate};
use crate::model::attributes::values;
use crate::model::durations;
use crate::model::failure_limit::FailureLimit;
use crate::model::relative::relative;
use crate::model::template::Template;

/// The options of the farm, by the groups in which the help shows them.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct FarmArgs {
    /// The task list, one command per line (- is standard input)
    ///
    /// Blank lines and lines that begin with # are ignored. A simple command is executed
    /// directly, any other line by the shell. From standard input, tasks start as they
    /// arrive, and --workdir is required. A list that has the name of a command is given
    /// with its folder: ./log. Without a list, the tasks that wait in the workdir are run,
    /// and --workdir is required.
    #[arg(value_name = "TASKLIST", required_unless_present_any = ["template", "workdir"])]
    list: Option<PathBuf>,

    /// In place of a list: a command and its values
    ///
    /// As in -- ./md -T {} ::: 300 310. The command runs once for each value after :::, or
    /// for each line of the files after ::::. With several lists it runs for each
    /// combination of their values; :::+ and ::::+ go along with the list before. The words mean what they mean to GNU parallel:
    /// {} is the value, {2} that of the second list, {.} without extension, {/} without
    /// folder, {//} the folder, {/.} the name alone, {#} the number of the task. Values are
    /// quoted for the shell; the command is not. --workdir is required.
    #[arg(value_name = "COMMAND", last = true, conflicts_with = "list")]
    template: Vec<OsString>,

    /// How many tasks run at a time [default: one per CPU]
    ///
    /// The number of slots of this pytf process, not of the whole run. Without it, or
    /// without its value, there is one slot per CPU that the process may use.
    /// (PyTaskFarmer: always 8.) -j and --jobs are the same option.
    #[arg(short = 'n', long, short_alias = 'j', alias = "jobs", env = "PYTF_PROC", value_name = "N",
          value_parser = slots, help_heading = COMMON)]
    pub proc: Option<Option<u32>>,

    /// Folder for state and logs [default: TASKLIST_workdir]
    ///
    /// All processes of a run use the same workdir, on a file system that they share. It
    /// is created when it does not exist. When it holds a run, that run is resumed. One on another
    /// host is ssh://[USER@]HOST[:PORT]/PATH: see docs/hosts.md.
    #[arg(short, long, env = "PYTF_WORKDIR", value_name = "DIR", help_heading = COMMON)]
    workdir: Option<PathBuf>,

    /// Start a farmer on each of these hosts, by ssh
    ///
    /// HOSTS is a list (n1,n2:8,me@n3 with eight tasks at a time on n2), a file of hosts
    /// (hosts.toml), or a file with a host in each line. : is this machine. Hosts that do not share the
    /// folder of the workdir reach it by ssh. Where a host has no pytf of this version, a copy is
    /// used. See docs/hosts.md.
    #[arg(long, env = "PYTF_HOSTS", value_name = "HOSTS", help_heading = COMMON)]
    pub hosts: Option<String>,

    /// An option of ssh, as ssh -o has it: Name=value
    ///
    /// For --hosts, and a workdir on another host. It may be given several times. ~/.ssh/config is read, too.
    #[arg(long, env = "PYTF_SSH_OPTION", value_name = "O", help_heading = ADVANCED)]
    pub ssh_option: Vec<String>,

    /// Copy these files and folders to each host
    ///
    /// For --hosts: to each host that does not share the workdir, before its first task, under the
    /// same names. PATHS are below the current folder, separated by commas; . is all of it. Only
    /// what has changed is copied. See docs/hosts.md.
    #[arg(long, env = "PYTF_COPY_IN", value_name = "PATHS", value_delimiter = ',',
          requires = "hosts", value_parser = relative, help_heading = COMMON)]
    pub copy_in: Vec<String>,

    /// Run failed tasks again, too
    ///
    /// The same as `pytf retry` on the workdir before the start.
    #[arg(long, env = "PYTF_RETRY_FAILED", value_parser = BoolishValueParser::new(),
          help_heading = COMMON)]
    pub retry_failed: bool,

    /// Try a task that fails again, so many times
    ///
    /// With 2, a task has failed when three attempts have. It is tried again after --retry-delay,
    /// on another node while one claims tasks. Exit statuses 126 and 127 are not tried again unless
    /// --retry-on names them. An attempt that was stopped with its farmer does not count; nor does the loss
    /// of a node, up to five times for a task. A task may have its own number (#PYTF retries=2).
    #[arg(long, env = "PYTF_RETRIES", value_name = "N", default_value = "0",
          value_parser = values::retries, help_heading = COMMON)]
    pub retries: u32,

    /// Say what would run, and start nothing
    ///
    /// The same as pytf check: what a farm here would do with the list, and which of its
    /// tasks would fail.
    #[arg(long, env = "PYTF_DRY_RUN", value_parser = BoolishValueParser::new(),
          help_heading = COMMON)]
    pub dry_run: bool,

    /// Stay for tasks that are added (pytf add)
    ///
    /// Until 'pytf close', the end of the allocation, or a signal; with a TIME also until
    /// nothing has run or waited for so long. 'pytf add' adds tasks. No TASKLIST is needed;
    /// --workdir is, then. Forms: seconds (600), units (90s, 10m, 1h30m), or Slurm's
    /// [D-]HH:MM:SS.
    #[arg(long, env = "PYTF_FOLLOW", value_name = "TIME", num_args = 0..=1,
          require_equals = true, default_missing_value = "always", value_parser = follow,
          help_heading = COMMON)]
    pub follow: Option<Duration>,

    /// Start nothing more after so many failures: 20, or 5%
    ///
    /// Tasks that failed in this run count, on all nodes; a percentage is of all tasks. Running
    /// tasks go on (see --halt), waiting ones stay in the workdir, and the exit status is 1. The
    /// same command again resumes the run, and counts from 0.
    #[arg(long, env = "PYTF_MAX_FAIL", value_name = "N", help_heading = COMMON)]
    pub max_fail: Option<FailureLimit>,

    /// Print more messages
    ///
    /// PyTaskFarmer's form with a value (-v True) works, too.
    #[arg(short, long, env = "PYTF_VERBOSE", value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set,
          require_equals = true, default_missing_value = "true", default_value = "false",
          value_parser = BoolishValueParser::new(), help_heading = COMMON)]
    pub verbose: bool,

    /// Print failures and errors only
    ///
    /// No progress and no summary. Failed tasks and errors are still printed.
    #[arg(short, long, env = "PYTF_QUIET", value_parser = BoolishValueParser::new(),
          help_heading = COMMON)]
    pub quiet: bool,

    /// Print help: -h one line per option, --help a paragraph
    #[arg(short, long, action = ArgAction::Help, help_heading = COMMON)]
    help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = COMMON)]
    version: Option<bool>,

    /// Stop the farm after this time, to be resumed later
    ///
    /// Running tasks get TERM, then KILL after --grace, and are requeued; the same command
    /// resumes the run. Forms: seconds (3600), units (90s, 10m, 1h30m), or Slurm's
    /// [D-]HH:MM:SS (01:30:00). 0, the default, means no limit. Choose a value below the
    /// time limit of the job.
    #[arg(long, env = "PYTF_TIMEOUT", value_name = "TIME", value_parser = durations::parse,
          help_heading = TIME)]
    pub timeout: Option<Duration>,

    /// Stop a task that runs longer; it counts as failed
    ///
    /// The task gets TERM, then KILL after --grace. Forms: seconds (3600), units (90s,
    /// 10m, 1h30m), or Slurm's [D-]HH:MM:SS. 0, the default, means no limit.
    #[arg(long, env = "PYTF_TASK_TIMEOUT", value_name = "TIME", value_parser = durations::parse,
          help_heading = TIME)]
    pub task_timeout: Option<Duration>,

    /// How much memory a task may have: 4000M, 4G, 1.5T
    ///
    /// Tasks run at the same time only as far as the memory of the node, or of the job on it,
    /// suffices for all of them. A task that has more is killed, and fails as out of memory.
    /// By default nothing is counted or limited.
    #[arg(long, env = "PYTF_MEM", value_name = "SIZE", value_parser = values::size,
          help_heading = RESOURCES)]
    pub mem: Option<u64>,

    /// Use only what others leave of CPUs and memory
    ///
    /// For machines that are shared without a scheduler. pytf measures every second what programs
    /// that are not of this process use. A task starts when its CPUs and its memory (--mem) are
    /// free beside that; together they may use 10% more CPUs than there are, at least half a
    /// CPU. Nothing starts while less than 5% of the memory is available. Tasks that run go on.
    #[arg(long, env = "PYTF_ONLY_FREE", value_parser = BoolishValueParser::new(),
          help_heading = RESOURCES)]
    pub only_free: bool,

    /// Grace period between TERM and KILL [default: 10s]
    ///
    /// How long a task that is stopped has to end. Forms: seconds (20), units (20s, 1m30s),
    /// or Slurm's MM:SS. With 0, tasks are killed at once. Choose a value below that of the
    /// scheduler (Slurm: KillWait, 30 s).
    #[arg(long, env = "PYTF_GRACE", value_name = "TIME", value_parser = durations::parse,
          default_value = "10s", help_heading = TIME)]
    pub grace: Duration,

    /// Time left of the job [default: asks the scheduler]
    ///
    /// Near the end of the job no task is started that is not expected to end before it,
    /// and shortly before the end running tasks are stopped; the run can be resumed.
    /// Without the option Slurm and PBS are asked. Forms: seconds (3600), units (90s,
    /// 10m, 1h30m), or Slurm's [D-]HH:MM:SS (01:30:00). 0 means no end.
    #[arg(long, env = "PYTF_WALLTIME", value_name = "TIME", value_parser = durations::parse,
          help_heading = TIME)]
    pub walltime: Option<Duration>,

    /// Ignore the end of the job
    ///
    /// The scheduler is not asked, and tasks are started until its signal comes. The
    /// option wins over --walltime and its variable.
    #[arg(long, env = "PYTF_NO_WALLTIME", value_parser = BoolishValueParser::new(),
          help_heading = TIME)]
    pub no_walltime: bool,

    /// How long a task takes [default: from past tasks]
    ///
    /// When less than this time is left before the end of the job, no task is started.
    /// Without the option, the 90th percentile of the tasks that finished here is used.
    /// Forms: seconds (3600), units (90s, 10m, 1h30m), or Slurm's [D-]HH:MM:SS.
    #[arg(long, env = "PYTF_TASK_ESTIMATE", value_name = "TIME", value_parser = durations::parse,
          help_heading = TIME)]
    pub task_estimate: Option<Duration>,

    /// What this node is called in `node=` of tasks
    ///
    /// A task with node=fat runs only on nodes with --label fat, or with this name. Several
    /// labels are separated by commas.
    #[arg(long, env = "PYTF_LABEL", value_name = "NAME", value_delimiter = ',',
          help_heading = RESOURCES)]
    pub label: Vec<String>,

    /// GPUs and CPUs.
    #[command(flatten)]
    pub devices: DeviceArgs,

    /// Task output: files, split, packed, failed, none
    ///
    /// What becomes of the output of tasks:
    #[arg(long, env = "PYTF_LOGS", value_name = "FORM", default_value = "files", help_heading = LOGS)]
    pub logs: Logs,

    /// Run this command when the run is complete
    ///
    /// The last process to leave runs it once, with the shell. In its environment are
    /// PYTF_RUN_STATUS and other figures of the run. It is not run when tasks are left, nor
    /// when none has ended since the run was started.
    #[arg(long, env = "PYTF_ON_END", value_name = "COMMAND", help_heading = TIME)]
    pub on_end: Option<OsString>,

    /// Outcomes that --retries is for [default: all]
    ///
    /// A list of outcomes, separated by commas: exit (any exit status but 126 and 127), exit:75
    /// (this one), signal (killed by a signal), timeout (--task-timeout), oom (out of memory).
    /// Without it, all of these. lost (its node died) is accepted: such a task is tried again in
    /// any case.
    #[arg(long, env = "PYTF_RETRY_ON", value_name = "LIST", value_parser = causes,
          help_heading = TIME)]
    pub retry_on: Option<Causes>,

    /// Wait before a task is tried again [default: 1s]
    ///
    /// After each further failure of the task twice as long, at most a minute, or this time if it
    /// is longer. The task takes no slot meanwhile. Forms: seconds (5), units (5s, 1m30s), or
    /// Slurm's MM:SS. A failure is judged after 1.5 seconds, since a signal that stops the farm may
    /// be its cause: the task waits that long at least.
    #[arg(long, env = "PYTF_RETRY_DELAY", value_name = "TIME", value_parser = durations::parse,
          default_value = "1s", help_heading = TIME)]
    pub retry_delay: Duration,

    /// The time between the first starts of two slots
    ///
    /// The second slot of this process starts its first task so long after the first one, the
    /// third twice as long, and so on. Forms: seconds (0.5), units (500ms, 2s), or Slurm's MM:SS.
    #[arg(long, env = "PYTF_START_DELAY", value_name = "TIME", value_parser = durations::parse,
          default_value = "0s", help_heading = TIME)]
    pub start_delay: Duration,

    /// Start at most so many tasks per second: 10/s, 30/m
    ///
    /// Of this process, not of the whole run. Without a unit, the number is per second; 30/m is
    /// per minute, 100/h per hour.
    #[arg(long, env = "PYTF_START_RATE", value_name = "N", value_parser = start_rate,
          help_heading = TIME)]
    pub start_rate: Option<Duration>,

    /// Run this command before the first task here
    ///
    /// Each process runs it once, with the shell, before it joins the run. If it fails, the
    /// process claims nothing, and its exit status is 69. Its output is in WORKDIR/logs. What
    /// is left of its process group is killed when it has ended.
    #[arg(long, env = "PYTF_NODE_SETUP", value_name = "CMD", help_heading = TIME)]
    pub node_setup: Option<OsString>,

    /// Run this command after the last task here
    ///
    /// Each process runs it once when it has left the run, also after a signal (for --grace at
    /// most) and when --node-setup failed. If it fails, a warning says so.
    #[arg(long, env = "PYTF_NODE_TEARDOWN", value_name = "CMD", help_heading = TIME)]
    pub node_teardown: Option<OsString>,

    /// Time limit of --node-setup and --node-teardown
    ///
    /// Forms: seconds (600), units (90s, 10m, 1h30m), or Slurm's [D-]HH:MM:SS. 0, the
    /// default, means no limit.
    #[arg(long, env = "PYTF_NODE_TIMEOUT", value_name = "TIME", value_parser = durations::parse,
          help_heading = TIME)]
    pub node_timeout: Option<Duration>,

    /// Print a line when a task starts, and one when it ends
    ///
    /// Also with --quiet. Each has the time, the task's id, node and slot, the outcome, and
    /// the command.
    #[arg(long, env = "PYTF_LOG_TASKS", value_parser = BoolishValueParser::new(),
          help_heading = LOGS)]
    pub log_tasks: bool,

    /// Do not write timeline.json
    ///
    /// The timeline opens in Perfetto (ui.perfetto.dev) and chrome://tracing.
    #[arg(long, env = "PYTF_NO_TIMELINE", value_parser = BoolishValueParser::new(),
          help_heading = LOGS)]
    pub no_timeline: bool,

    /// Run each task in a fresh folder
    ///
    /// The folder is made for each attempt below $SLURM_TMPDIR, $TMPDIR or /tmp, or below
    /// DIR, is the task's current folder, and is removed at its end. PYTF_TASK_DIR is its path, PYTF_RUN_DIR that of
    /// the folder in which pytf was started. The variable takes a DIR or auto.
    #[arg(long, env = "PYTF_TASK_DIR", value_name = "DIR", num_args = 0..=1,
          require_equals = true, default_missing_value = TEMPORARY, help_heading = RESOURCES)]
    pub task_dir: Option<PathBuf>,

    /// Keep these files and folders of each task
    ///
    /// When a task has ended with exit status 0, they are copied from the folder in which it ran
    /// to WORKDIR/results/ID. PATHS are relative, separated by commas, and may have * and ?. A task
    /// without one of them has failed. out= in the list says the same of single tasks.
    #[arg(long, env = "PYTF_COPY_OUT", value_name = "PATHS", value_delimiter = ',',
          value_parser = values::path_below, help_heading = RESOURCES)]
    pub copy_out: Vec<String>,

    /// Keep folders of tasks: never, failed, always
    ///
    /// What becomes of the folders of --task-dir:
    #[arg(long, env = "PYTF_KEEP_TASK_DIR", value_name = "WHEN", default_value = "never",
          requires = "task_dir", help_heading = RESOURCES)]
    pub keep_task_dir: KeepTaskDir,

    /// Order of the tasks: list or longest-first[=DIR]
    ///
    /// longest-first needs the records of an earlier run with the same commands: those of the workdir
    /// DIR, or of the run's own workdir, also from before a `pytf reset`. A task of which nothing is known is
    /// taken to need as long as the others on average. Then the end of the run has short tasks, and few slots
    /// wait for the last one. The waiting tasks are put in order when the first process starts.
    #[arg(long, env = "PYTF_ORDER", value_name = "ORDER", default_value = "list",
          value_parser = order, help_heading = WORKDIR)]
    pub order: Order,

    /// Refuse to resume when the task list has changed
    ///
    /// Without it, tasks are matched by their text: new lines are added, lines that come
    /// back run, and the differences are printed. See --drop for lines that are missing.
    #[arg(long, env = "PYTF_STRICT", value_parser = BoolishValueParser::new(),
          help_heading = WORKDIR)]
    pub strict: bool,

    /// Drop waiting tasks that are no longer in the list
    ///
    /// Without it, a list that lacks lines of waiting tasks is refused: it may be
    /// truncated, or the wrong list. Finished and failed tasks are kept in any case.
    #[arg(long, env = "PYTF_DROP", value_parser = BoolishValueParser::new(),
          help_heading = WORKDIR)]
    pub drop: bool,

    /// Read each line of the list as one task, as it is
    ///
    /// Without it, a list with marks of another tool is read as that tool reads it, or refused,
    /// and a line that ends with a backslash continues in the next line.
    #[arg(long, env = "PYTF_PLAIN", value_parser = BoolishValueParser::new(),
          help_heading = WORKDIR)]
    pub plain: bool,

    /// Split each value into columns at this text
    ///
    /// As in --colsep , -- ./md {1} -T {2} :::: table.csv: {2} is the second column, without the
    /// blanks around it. A text or \\t, not a regular expression; all rows have as many columns.
    #[arg(long, env = "PYTF_COLSEP", value_name = "TEXT", requires = "template",
          help_heading = WORKDIR)]
    colsep: Option<OsString>,

    /// Accept a workdir that others own or may write to
    ///
    /// Everyone who may write to the workdir decides which commands run as you.
    #[arg(long, env = "PYTF_SHARED_WORKDIR", value_parser = BoolishValueParser::new(),
          help_heading = WORKDIR)]
    pub shared_workdir: bool,

    /// The lock: auto, flock, fcntl, link [default: auto]
    ///
    /// How processes exclude each other. The first process chooses by the file system of
    /// the workdir, and all others use the same lock. Each start tests that it works. A
    /// lock that is known to be unsafe on this file system is refused.
    #[arg(long, env = "PYTF_LOCK", value_name = "WAY", default_value = "auto", help_heading = WORKDIR)]
    pub lock: Lock,

    /// Shell of tasks that need one [default: bash, else sh]
    ///
    /// A path, or a name that is looked up in PATH. It must take -c COMMAND.
    #[arg(long, env = "PYTF_SHELL", value_name = "PATH", help_heading = ADVANCED)]
    pub shell: Option<OsString>,

    /// Launcher's variables: keep, scrub [default: keep]
    ///
    /// A task that is an MPI program and finds the variables of the srun or mpiexec that
    /// started pytf takes itself for a rank of that launch. What becomes of these
    /// variables:
    #[arg(long, env = "PYTF_SRUN_ENV", value_name = "WAY", default_value = "keep",
          help_heading = ADVANCED)]
    pub srun_env: SrunEnv,

    /// Leave when no task waits, even if others run some
    ///
    /// Without it, a process without tasks stays until the last task of the run has ended,
    /// to take over the tasks of a node that dies.
    #[arg(long, env = "PYTF_NO_LINGER", value_parser = BoolishValueParser::new(),
          help_heading = ADVANCED)]
    pub no_linger: bool,

    /// How --max-fail ends the run: soon, now [default: soon]
    ///
    /// What becomes of the tasks that run when too many have failed:
    #[arg(long, env = "PYTF_HALT", value_name = "WHEN", default_value = "soon",
          help_heading = ADVANCED)]
    pub halt: Halt,

    /// Keep claiming tasks, whatever fails on this node
    ///
    /// Without it, a process whose tasks fail quickly one after the other claims no more
    /// until other nodes have tried some of them. If they succeed there, the process
    /// claims nothing more, and the others run what it failed.
    #[arg(long, env = "PYTF_NO_QUARANTINE", value_parser = BoolishValueParser::new(),
          help_heading = ADVANCED)]
    pub no_quarantine: bool,

    /// How a task becomes a process ('pytf runners')
    ///
    /// The default runner executes simple commands directly and passes all others to the
    /// shell. 'pytf runners' lists the others: those that are ready to use, and those that INI
    /// files define, as for PyTaskFarmer.
    #[arg(short, long, env = "PYTF_RUNNER", value_name = "NAME", default_value = "default",
          help_heading = ADVANCED)]
    pub runner: String,

    /// A key of the runner, as in image=model.sif
    ///
    /// It replaces that of its definition. May be given several times.
    #[arg(long, env = "PYTF_RUNNER_KEY", value_name = "K=V", value_parser = key_value,
          help_heading = ADVANCED)]
    pub runner_key: Vec<(String, String)>,

    /// What makes the tasks of the list ('pytf handlers')
    ///
    /// The default is one command per line; a list of disBatch or another tool is recognized by its
    /// marks, if it has any, and pytf says so. 'pytf handlers' lists the others: those that are
    /// part of pytf, such as disbatch, and those that INI files define, as for PyTaskFarmer.
    #[arg(short, long, env = "PYTF_TASKLIST", value_name = "NAME", default_value = "default",
          help_heading = ADVANCED)]
    pub tasklist: String,

    /// An INI file that defines runners or handlers
    ///
    /// May be given several times. Files in ~/.pytaskfarmer and ~/.config/pytf need not be
    /// given; those in the current folder are read only so, since they decide which programs
    /// run.
    #[arg(long, env = "PYTF_CONFIG", value_name = "FILE", help_heading = ADVANCED)]
    pub config: Vec<PathBuf>,

    /// After which silence others take over the tasks of a process
    ///
    /// Forms: seconds (120), units (2m), or Slurm's MM:SS. Default: 120s.
    #[arg(long, env = "PYTF_TAKEOVER", value_name = "TIME", value_parser = durations::parse,
          default_value = "120s", hide = true, help_heading = ADVANCED)]
    pub takeover: Duration,
}

/// What becomes of the tasks' output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Logs {
    /// One file per task: logs/log_ID
    Files,
    /// Two files per task: logs/log_ID, and standard error in logs/log_ID.err
    Split,
    /// One file per slot; `pytf log` finds the part of a task
    Packed,
    /// One file per task, kept only when the task failed
    Failed,
    /// No output is kept
    None,
}

/// As a value of --task-dir: where temporary files are.
pub const TEMPORARY: &str = "auto";

/// Which folders of tasks are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeepTaskDir {
    /// None
    Never,
    /// Those of attempts that failed; 'pytf log' names them
    Failed,
    /// All
    Always,
}

/// How processes exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lock {
    /// Chosen by the file system: see docs/workdir.md, Locks
    Auto,
    /// flock(2)
    Flock,
    /// fcntl(2), open file description locks
    Fcntl,
    /// A file that only one process can create: works on every file system
    Link,
}

/// How a run ends in which too many tasks have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Halt {
    /// Running tasks go on to their end
    Soon,
    /// They are stopped, and wait again
    Now,
}

/// What becomes of the variables of the launcher that started us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SrunEnv {
    /// Tasks see them
    Keep,
    /// Tasks do not see them; docs/options.md lists them
    Scrub,
}

impl FarmArgs {
    /// Checks what clap does not, and completes the defaults: the tasks, the workdir and
    /// the other options.
    pub(super) fn check(mut self) -> Result<(Tasks, PathBuf, Self), String> {
        self.devices.check()?;
        let words: Vec<&[u8]> = self.template.iter().map(|word| word.as_bytes()).collect();
        let tasks = match self.list.take() {
            Some(list) => Tasks::List(list),
            None if words.is_empty() => Tasks::Added,
            None => {
                let template = match &self.colsep {
                    Some(separator) => Template::of_columns(&words, separator.as_bytes()),
                    None => Template::of(&words),
                };
                Tasks::Template(template.map_err(|error| error.to_string())?)
            }
        };
        let workdir = match self.workdir.take() {
            Some(workdir) => workdir,
            None => tasks.default_workdir()?,
        };
        self.timeout = self.timeout.filter(|limit| !limit.is_zero());
        self.follow = self.follow.filter(|limit| !limit.is_zero());
        self.node_timeout = self.node_timeout.filter(|limit| !limit.is_zero());
        self.task_timeout = self.task_timeout.filter(|limit| !limit.is_zero());
        Ok((tasks, workdir, self))
    }

    /// The requested number of slots; `None` is one per usable CPU.
    pub fn slots(&self) -> Option<u32> {
        self.proc.flatten()
    }
}

/// Where the tasks of a farm come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tasks {
    /// A task list; `-` is standard input.
    List(PathBuf),
    /// A command and its values.
    Template(Template),
    /// None: those that wait in the workdir.
    Added,
}

impl Tasks {
    /// The workdir when none is given.
    fn default_workdir(&self) -> Result<PathBuf, String> {
        let what = match self {
            Self::Added => return Err("no TASKLIST is given".into()),
            Self::Template(_) => "a command and its values",
            Self::List(list) => match default_workdir(list) {
                Some(workdir) => return Ok(workdir),
                None if matches!(list.to_str(), Some("-" | "/dev/stdin")) => "standard input",
                None => "a pipe",
            },
        };
        Err(format!(
            "tasks from {what} need --workdir: there is no file to name it after"
        ))
    }
}

/// `tasks.txt` → `tasks.txt_workdir`. Standard input and other devices have none.
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
