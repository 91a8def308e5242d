//! The command line: flags, their forms and their help. No decision is taken
//! here; `Cli::read` turns arguments and variables into a `Request`.
//!
//! PyTaskFarmer's options all work as its users type them, also `-v True`, a
//! bare `--proc`, and abbreviated long options. Others rely on this: every
//! option of the farm has its `PYTF_` variable, and an empty variable is none.

#![expect(
    clippy::doc_markdown,
    reason = "the comments of options are their help, shown as they are written"
)]

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{
    Arg, ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};

use crate::exit;
use crate::model::durations;
use crate::model::ids::Ids;
use crate::model::task::TaskId;

/// Version and commit of this build.
pub const VERSION: &str = env!("PYTF_BUILD");

/// What the user wants.
#[derive(Clone, Debug)]
pub enum Request {
    /// Run a task list.
    Farm {
        /// Where the tasks come from.
        list: List,
        /// Where the state of the run is, from `--workdir` or by default.
        workdir: PathBuf,
        /// The options.
        options: Box<Farm>,
    },
    /// Show what a task printed.
    Log(Log),
    /// Make failed tasks wait again.
    Retry(Retry),
    /// Be the guard of another farmer's tasks.
    Guard(Guard),
}

/// Where the tasks come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// `-`: standard input.
    Stdin,
    /// A file, or anything that can be read like one.
    File(PathBuf),
}

/// Runs the tasks of a list, one line a task, on every node of an allocation.
///
/// Start one pytf on each node (`srun pytf tasks.txt`), or a single one
/// anywhere. All of them meet in the workdir, take tasks from it until none is
/// left, and may come and go at any time. The same command again resumes.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "pytf",
    version = VERSION,
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    disable_help_subcommand = true,
    infer_long_args = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Other>,
    #[command(flatten)]
    farm: Farm,
}

#[derive(Clone, Debug, Subcommand)]
enum Other {
    Log(Log),
    Retry(Retry),
    #[command(name = "__guard", hide = true)]
    Guard(Guard),
}

/// Show what a task printed.
#[derive(Clone, Debug, Args)]
pub struct Log {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// The task's id: the first number in its line of finished or failed
    pub id: TaskId,
    /// Which attempt, counted from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
}

/// Make failed tasks wait to be run again.
///
/// They move from failed to toprocess; the next run of the same command, or one
/// that is under way, starts them. Attempts are counted on.
#[derive(Clone, Debug, Args)]
pub struct Retry {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// Which of the failed tasks: ids and ranges like 17 or 3-9,12 [default: all]
    pub ids: Vec<Ids>,
}

/// Kills what a farmer has left behind when it is gone.
#[derive(Clone, Debug, Args)]
pub struct Guard {
    /// What it needs to know, in a form of its own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

/// The options of the farm.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Farm {
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
    /// one slot per CPU that this process may use. (PyTaskFarmer: always 8.)
    #[arg(short = 'n', long, env = "PYTF_PROC", value_name = "N", value_parser = slots)]
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
    /// No progress, no summary; errors are still told.
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
    /// Without it, tasks are matched by their text: new lines are added, vanished
    /// ones are dropped unless they have run, and the differences are told.
    #[arg(long, env = "PYTF_STRICT", value_parser = BoolishValueParser::new())]
    pub strict: bool,

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

    /// Do not write timeline.json
    ///
    /// The timeline opens in Perfetto (ui.perfetto.dev) or chrome://tracing.
    #[arg(long, env = "PYTF_NO_TIMELINE", value_parser = BoolishValueParser::new())]
    pub no_timeline: bool,

    /// How long a silent process keeps its tasks from the others
    ///
    /// Forms: seconds (120), units (2m), or Slurm's MM:SS. Default: 120s.
    #[arg(long, env = "PYTF_TAKEOVER", value_name = "DURATION", value_parser = durations::parse,
          default_value = "120s", hide = true)]
    pub takeover: Duration,
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

impl Cli {
    /// Reads a command line. The error prints itself, on the right stream, and
    /// knows its exit status: 2, or 0 for `--help` and `--version`.
    ///
    /// Values of variables are clap's to read; `variable` only tells which of
    /// them must not count.
    pub fn read(
        argv: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Request, clap::Error> {
        let mut command = command(&variable);
        let matches = command
            .try_get_matches_from_mut(tidy(argv))
            .map_err(|error| clearer(error, &mut command))?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        match cli.command {
            Some(Other::Log(log)) => Ok(Request::Log(log)),
            Some(Other::Retry(retry)) => Ok(Request::Retry(retry)),
            Some(Other::Guard(guard)) => Ok(Request::Guard(guard)),
            None => cli
                .farm
                .request()
                .map_err(|why| command.error(ErrorKind::MissingRequiredArgument, why)),
        }
    }
}

impl Farm {
    fn request(mut self) -> Result<Request, &'static str> {
        let path = self.list.take().ok_or("no TASKLIST is given")?;
        let workdir = match self.workdir.take() {
            Some(workdir) => workdir,
            None => default_workdir(&path).ok_or(
                "tasks from standard input need --workdir: there is no file to name it after",
            )?,
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
fn default_workdir(list: &Path) -> Option<PathBuf> {
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

/// The command as clap sees it, with those variables taken out that do not
/// count, and what clap does not write into the help by itself.
fn command(variable: &dyn Fn(&str) -> Option<OsString>) -> Command {
    let statuses = exit::TABLE
        .iter()
        .map(|(exit, _, sentence)| format!("\n  {:>3}  {sentence}", exit.code()));
    Cli::command()
        .after_help("pytf --help explains each option.")
        .after_long_help(format!(
            "Every option of the farm can be given by its variable; the command line wins.\n\n\
             Exit status:{}",
            statuses.collect::<String>()
        ))
        .mut_args(|arg| {
            let Some(name) = arg.get_env().and_then(OsStr::to_str).map(str::to_owned) else {
                return arg;
            };
            let arg = documented(arg, &name);
            if counts(&name, variable) {
                arg
            } else {
                arg.env(None::<&str>)
            }
        })
}

/// Clap takes a second task list for a subcommand and says so; what is meant is
/// mostly a command with its arguments, or a subcommand with a slip in it.
fn clearer(error: clap::Error, command: &mut Command) -> clap::Error {
    let word = error.get(ContextKind::InvalidSubcommand);
    let (ErrorKind::ArgumentConflict, Some(ContextValue::String(word))) = (error.kind(), word)
    else {
        return error;
    };
    let why = format!(
        "unexpected '{word}': there is one TASKLIST, a file with a command on each line; \
         the other commands are log and retry"
    );
    command.error(ErrorKind::UnknownArgument, why)
}

/// The option with its variable and its possible values in the long help, and
/// out of the short one, which has a line for each option.
fn documented(arg: Arg, variable: &str) -> Arg {
    let mut help = arg
        .get_long_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    for value in arg.get_possible_values() {
        if let Some(what) = value.get_help() {
            let _ = write!(help, "\n  {:<8}{what}", value.get_name());
        }
    }
    let _ = write!(help, "\n\nVariable: {variable}");
    let takes_values = arg.get_action().takes_values();
    arg.long_help(help)
        .hide_env(true)
        .hide_default_value(takes_values)
        .hide_possible_values(takes_values)
}

/// Whether a variable is an option of ours. An empty one is none. And a task's
/// environment names the workdir that it belongs to: a pytf which is started
/// inside a task must not join that run, its own parent.
fn counts(name: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let inside_a_task = variable("PYTF_TASK_ID").is_some();
    variable(name).is_some_and(|value| !value.is_empty())
        && !(inside_a_task && name == "PYTF_WORKDIR")
}

/// Turns PyTaskFarmer's `-v VALUE` into `--verbose=VALUE`. Only a word that says
/// yes or no is a value: in `-v tasks.txt` the task list is none.
fn tidy(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut tidied = Vec::new();
    let mut argv = argv.into_iter().peekable();
    while let Some(arg) = argv.next() {
        if arg == "--" {
            tidied.push(arg);
            break;
        }
        let attached = arg.to_str().and_then(|text| text.strip_prefix("-v"));
        let abbreviated = arg
            .to_str()
            .is_some_and(|arg| arg.starts_with("--verb") && "--verbose".starts_with(arg));
        let verbose = if arg == "-v" || abbreviated {
            argv.next_if(|next| truth(next).is_some())
                .and_then(|word| truth(&word))
        } else {
            attached.and_then(|word| truth(OsStr::new(word)))
        };
        match verbose {
            Some(verbose) => tidied.push(format!("--verbose={verbose}").into()),
            None => tidied.push(arg),
        }
    }
    tidied.extend(argv);
    tidied
}

fn truth(word: &OsStr) -> Option<bool> {
    match word.to_str()?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// More slots than any node has threads for; a larger number is a slip.
const MOST_SLOTS: u32 = 65_536;

fn slots(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(n @ 1..=MOST_SLOTS) => Ok(n),
        _ => Err(format!(
            "the number of tasks at a time is a whole number from 1 to {MOST_SLOTS}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, clap::Error> {
        let argv = std::iter::once("pytf").chain(line.split_whitespace());
        Cli::read(argv.map(OsString::from), |_| None)
    }

    fn farm(line: &str) -> (List, PathBuf, Farm) {
        match read(line) {
            Ok(Request::Farm {
                list,
                workdir,
                options,
            }) => (list, workdir, *options),
            other => panic!("'{line}': {other:?}"),
        }
    }

    fn error(line: &str) -> String {
        let error = read(line).map(|request| panic!("'{line}': {request:?}"));
        let error = error.unwrap_err();
        assert_eq!(error.exit_code(), 2, "'{line}'");
        error.to_string()
    }

    #[test]
    fn clap_finds_no_fault() {
        Cli::command().debug_assert();
        command(&|_| None).debug_assert();
    }

    #[test]
    fn every_option_is_explained_and_has_its_variable() {
        let command = command(&|_| None);
        let unset = Cli::command();
        for (arg, original) in command.get_arguments().zip(unset.get_arguments()) {
            let id = arg.get_id().as_str();
            let short = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let long = arg.get_long_help().map(ToString::to_string);
            assert!((10..=64).contains(&short.len()), "--{id}: '{short}'");
            if matches!(id, "help" | "version") {
                continue;
            }
            let long = long.unwrap_or_default();
            assert!(long.len() > short.len(), "--{id}: no paragraphs");
            if arg.get_action().takes_values() {
                let name = &arg.get_value_names().unwrap()[0];
                assert_eq!(name.to_uppercase(), name.as_str(), "--{id}");
            }
            if arg.is_positional() {
                continue;
            }
            let variable = format!("PYTF_{}", id.to_uppercase());
            assert_eq!(original.get_env(), Some(OsStr::new(&variable)));
            assert!(long.ends_with(&variable), "--{id}: '{long}'");
            if arg
                .get_value_names()
                .is_some_and(|names| names[0] == "DURATION")
            {
                assert!(long.contains("Forms: seconds"), "--{id}");
            }
        }
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some() || sub.is_hide_set());
            for arg in sub.get_arguments() {
                assert!(
                    arg.get_help().is_some(),
                    "{} {}",
                    sub.get_name(),
                    arg.get_id()
                );
            }
        }
    }

    /// `cargo test -- --ignored print_help --nocapture`
    #[test]
    #[ignore = "for reading"]
    fn print_help() {
        println!("{}\n-----\n", command(&|_| None).render_help());
        println!("{}", command(&|_| None).render_long_help());
    }

    #[test]
    fn short_help_is_a_line_a_flag() {
        let short = command(&|_| None).term_width(100).render_help().to_string();
        let from = short.lines().position(|line| line == "Options:").unwrap();
        let lines = short.lines().skip(from + 1);
        for line in lines.take_while(|line| !line.is_empty()) {
            assert!(line.contains(" --"), "more than a line: {short}");
        }
        assert!(short.lines().all(|line| line.len() <= 100), "{short}");
        assert!(!short.contains("takeover") && !short.contains("__guard"));
        let long = command(&|_| None).render_long_help().to_string();
        assert!(long.contains("75  stopped by a signal"), "{long}");
    }

    #[test]
    fn pytaskfarmers_command_lines_work() {
        let (list, workdir, options) =
            farm("tasks.txt --proc 16 --timeout 3600 --workdir run1 -v True -r default -t default");
        assert_eq!(list, List::File("tasks.txt".into()));
        assert_eq!(workdir, Path::new("run1"));
        assert_eq!(options.slots(), Some(16));
        assert_eq!(options.timeout, Some(Duration::from_hours(1)));
        assert!(options.verbose);
        assert_eq!(farm("-n 4 -w run1 d/tasks.txt").2.slots(), Some(4));
        assert_eq!(farm("tasks.txt --proc").2.slots(), None);
        assert_eq!(farm("tasks.txt --work run1").1, Path::new("run1"));
        assert_eq!(
            farm("tasks.txt --verb True --time 9").2.timeout,
            Some(Duration::from_secs(9))
        );
    }

    #[test]
    fn verbose_takes_a_value_only_when_it_says_yes_or_no() {
        for (line, verbose) in [
            ("t", false),
            ("-v t", true),
            ("t -v", true),
            ("t -v True", true),
            ("t -v False", false),
            ("-v 1 t", true),
            ("t -vTrue", true),
            ("t --verbose", true),
            ("t --verbose no", false),
            ("t --verbose=yes", true),
            ("t --verbose=False", false),
            ("-vq t", true),
            ("-v t --quiet", true),
        ] {
            let (list, _, options) = farm(line);
            assert_eq!(options.verbose, verbose, "'{line}'");
            assert_eq!(list, List::File("t".into()), "'{line}'");
        }
        assert_eq!(farm("-- -v").0, List::File("-v".into()));
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let (_, workdir, options) = farm("d/tasks.txt");
        assert_eq!(workdir, Path::new("d/tasks.txt_workdir"));
        assert_eq!((options.slots(), options.timeout), (None, None));
        assert_eq!((options.task_timeout, options.shell), (None, None));
        assert_eq!(options.grace, Duration::from_secs(10));
        assert_eq!(options.takeover, Duration::from_mins(2));
        assert_eq!((options.logs, options.lock), (Logs::Files, Lock::Auto));
        assert!(!(options.verbose || options.quiet || options.strict || options.retry_failed));
        assert!(!(options.shared_workdir || options.no_linger || options.no_timeline));
        assert_eq!(farm("t --timeout 0 --task-timeout 0s").2.timeout, None);
        assert_eq!(farm("t --grace 0").2.grace, Duration::ZERO);
    }

    #[test]
    fn options_are_read() {
        let options = farm(
            "t -q --task-timeout 10m --grace 20s --logs packed --shell /bin/dash --lock link \
             --retry-failed --strict --shared-workdir --no-linger --no-timeline --takeover 1:30",
        )
        .2;
        assert_eq!(options.task_timeout, Some(Duration::from_mins(10)));
        assert_eq!(options.grace, Duration::from_secs(20));
        assert_eq!(options.takeover, Duration::from_secs(90));
        assert_eq!((options.logs, options.lock), (Logs::Packed, Lock::Link));
        assert_eq!(options.shell, Some("/bin/dash".into()));
        assert!(options.quiet && options.strict && options.retry_failed);
        assert!(options.shared_workdir && options.no_linger && options.no_timeline);
    }

    #[test]
    fn standard_input_needs_a_workdir() {
        assert_eq!(farm("- --workdir w").0, List::Stdin);
        for list in ["-", "/dev/stdin", "/dev/fd/5", "/proc/self/fd/0"] {
            assert!(error(list).contains("--workdir"), "{list}");
            assert_eq!(farm(&format!("{list} -w w")).1, Path::new("w"));
        }
    }

    #[test]
    fn wrong_lines_say_why() {
        for (line, told) in [
            ("", "<TASKLIST>"),
            ("--proc 0 t", "from 1 to 65536"),
            ("--proc -3 t", "-3"),
            ("--proc many t", "from 1 to 65536"),
            ("--timeout soon t", "HH:MM:SS"),
            ("-r shifter t", "possible values: default"),
            ("-t atlas t", "possible values: default"),
            ("--logs some t", "packed"),
            ("--bogus t", "--bogus"),
            ("a b", "unexpected 'b'"),
            ("a b c", "one TASKLIST"),
            ("lgo w 3", "log and retry"),
            ("log w", "<ID>"),
            ("log w x", "whole number before its command"),
            ("log w 3 --attempt 0", "0"),
            ("retry w 9-3", "9-3"),
        ] {
            let message = error(line);
            assert!(message.contains(told), "'{line}': {message}");
        }
    }

    #[test]
    fn the_other_commands_are_read() {
        match read("log run1 17 --attempt 2").unwrap() {
            Request::Log(log) => {
                assert_eq!((log.id, log.attempt), (TaskId(17), Some(2)));
                assert_eq!(log.workdir, Path::new("run1"));
            }
            other => panic!("{other:?}"),
        }
        match read("retry run1 3-9,12 20").unwrap() {
            Request::Retry(retry) => {
                assert_eq!(retry.ids.iter().map(Ids::count).sum::<u64>(), 9);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(read("retry run1"), Ok(Request::Retry(retry)) if retry.ids.is_empty()));
        match read("__guard 3 --x").unwrap() {
            Request::Guard(guard) => assert_eq!(guard.args, ["3", "--x"]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_version_names_the_build() {
        let version = read("--version").unwrap_err();
        assert_eq!(version.exit_code(), 0);
        assert_eq!(version.to_string(), format!("pytf {VERSION}\n"));
        assert!(VERSION.starts_with(env!("CARGO_PKG_VERSION")));
    }

    /// Clap reads the real environment, so this test runs itself in another one.
    #[test]
    fn variables_are_options() {
        const PROBE: &str = "PYTF_TEST_PROBE";
        let Ok(probe) = std::env::var(PROBE) else {
            let base = [
                ("PYTF_PROC", "3"),
                ("PYTF_WORKDIR", "w"),
                ("PYTF_TIMEOUT", ""),
            ];
            let flags = [
                ("PYTF_STRICT", "1"),
                ("PYTF_QUIET", "no"),
                ("PYTF_VERBOSE", "True"),
            ];
            for probe in ["outside", "inside"] {
                let inside = (probe == "inside").then_some(("PYTF_TASK_ID", "5"));
                let test = std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "cli::tests::variables_are_options"])
                    .env_remove("PYTF_TASK_ID")
                    .envs(base.into_iter().chain(flags).chain(inside))
                    .env(PROBE, probe)
                    .output()
                    .unwrap();
                assert!(test.status.success(), "{probe}: {test:?}");
            }
            return;
        };
        let read = |line: &str| {
            let argv = std::iter::once("pytf").chain(line.split_whitespace());
            Cli::read(argv.map(OsString::from), |name| std::env::var_os(name)).unwrap()
        };
        let Request::Farm {
            workdir, options, ..
        } = read("t")
        else {
            panic!("not a farm")
        };
        let expected = if probe == "inside" { "t_workdir" } else { "w" };
        assert_eq!(workdir, Path::new(expected));
        assert_eq!((options.slots(), options.timeout), (Some(3), None));
        assert!(options.strict && options.verbose && !options.quiet);
        let Request::Farm {
            workdir, options, ..
        } = read("t -w x -n 4 --timeout 5")
        else {
            panic!("not a farm")
        };
        assert_eq!(
            (workdir.as_path(), options.slots()),
            (Path::new("x"), Some(4))
        );
        assert!(matches!(read("log w 3"), Request::Log(_)));
        assert!(matches!(read("retry w"), Request::Retry(_)));
    }
}
