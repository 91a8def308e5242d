//! The command line: `Cli::read` turns arguments and environment variables into a `Request`: it
//! checks them and completes the defaults that follow from them, and touches no file. `farm`
//! has the options of the farm; `arguments`, `variables` and `errors` do what clap does not.
//!
//! All options of PyTaskFarmer work as its users type them, also `-v True` and `--proc` without
//! a value. Long options cannot be abbreviated: the abbreviation of one option could be the
//! name of a later one. Guarantee: every option of the farm has an environment variable
//! `PYTF_…`, and an empty variable is ignored.

mod arguments;
mod device_options;
mod errors;
mod farm;
mod groups;
mod hosts;
mod steer;
#[cfg(test)]
mod tests;
mod values;
mod variables;
mod view;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use self::arguments::nearest_command;
use self::arguments::{as_option, reserved, tidy};
pub use self::device_options::{Bind, DeviceArgs, Devices};
use self::errors::clearer;
pub use self::farm::{
    FarmArgs, Halt, KeepTaskDir, Lock, Logs, SrunEnv, TEMPORARY, Tasks, default_workdir,
};
pub use self::hosts::{Hosts, On};
pub use self::steer::{Add, Cancel, Close, Drain, Edit, NewTasksFrom, Pause, Resume, Said, Stop};
pub use self::values::Order;
pub use self::view::{Export, Format, Report, Status, Timeline, Wait, Watch};
use crate::VERSION;
use crate::model::ids::Ids;
use crate::model::task::TaskId;
use crate::model::tool::Tool;

/// What the user asks for.
#[derive(Clone, Debug)]
pub enum Request {
    /// Run a task list.
    Farm {
        /// Where the tasks come from.
        tasks: Tasks,
        /// Where the state of the run is, from `--workdir` or by default.
        workdir: PathBuf,
        /// The options.
        options: Box<FarmArgs>,
    },
    /// Say what a farm would run.
    Check {
        /// Where the tasks come from.
        tasks: Tasks,
        /// Where the state of the run would be.
        workdir: PathBuf,
        /// The options of the farm.
        options: Box<FarmArgs>,
        /// What is asked.
        check: CheckArgs,
    },
    /// One of the other commands.
    Command(Command),
    /// Be the guard of another farmer's tasks.
    Guard(Vec<OsString>),
    /// Answer another pytf that asks this host, and become a farmer.
    Host,
    /// Run tasks of a workdir that another pytf has prepared, which controls this one.
    Hosted {
        /// Whether the workdir is at the other end of standard input and output.
        is_piped: bool,
        /// The workdir, or how it is locked; then the job, the rank and the size of the launch.
        place: [OsString; 4],
        /// The options; what they say of tasks and workdir does not count.
        options: Box<FarmArgs>,
    },
}

/// Run a list of commands on every node of an allocation.
///
/// Start one pytf per node (`srun pytf tasks.txt`), or a single one anywhere. The
/// processes share a workdir and take tasks from it until none is left. They may start
/// and end at any time. To resume a run, run the same command again.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "pytf",
    version = VERSION,
    override_usage = "pytf [OPTIONS] <TASKLIST>\n       \
                      pytf [OPTIONS] --workdir <DIR>\n       \
                      pytf [OPTIONS] --workdir <DIR> -- <COMMAND> ::: <VALUE>...\n       \
                      pytf <COMMAND>",
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    disable_help_subcommand = true,
    disable_help_flag = true,
    disable_version_flag = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    farm: FarmArgs,
}

/// A command beside the farm.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "each has the help of its arguments")]
pub enum Command {
    Run(ExplicitFarm),
    Check(ExplicitCheck),
    Log(Log),
    Retry(Retry),
    Add(Add),
    Convert(Convert),
    Combine(Combine),
    Pause(Pause),
    Resume(Resume),
    Drain(Drain),
    Stop(Stop),
    Cancel(Cancel),
    Edit(Edit),
    Close(Close),
    Repair(Repair),
    Reset(Reset),
    Status(Status),
    Watch(Watch),
    Wait(Wait),
    Export(Export),
    Timeline(Timeline),
    Report(Report),
    Devices(Box<Devices>),
    Hosts(Hosts),
    On(On),
    Runners(Runners),
    Handlers(Handlers),
    Completions(Completions),
}

impl Command {
    /// What is wrong with its options together.
    fn fault(&self) -> Option<String> {
        match self {
            Self::Status(status) => status.fault().map(str::to_owned),
            Self::Add(add) => add.fault(),
            Self::Devices(devices) => devices.options.check().err(),
            _ => None,
        }
    }

    /// The workdir that it is for.
    pub fn workdir_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Log(Log { workdir, .. })
            | Self::Retry(Retry { workdir, .. })
            | Self::Add(Add { workdir, .. })
            | Self::Pause(Pause { workdir, .. })
            | Self::Resume(Resume { workdir })
            | Self::Drain(Drain { workdir, .. })
            | Self::Stop(Stop { workdir })
            | Self::Cancel(Cancel { workdir, .. })
            | Self::Edit(Edit { workdir, .. })
            | Self::Close(Close { workdir })
            | Self::Repair(Repair { workdir, .. })
            | Self::Reset(Reset { workdir, .. })
            | Self::Status(Status { workdir, .. })
            | Self::Watch(Watch { workdir })
            | Self::Wait(Wait { workdir, .. })
            | Self::Export(Export { workdir, .. })
            | Self::Timeline(Timeline { workdir, .. })
            | Self::Report(Report { workdir, .. }) => Some(workdir),
            Self::Run(_)
            | Self::Check(_)
            | Self::Devices(_)
            | Self::Hosts(_)
            | Self::On(_)
            | Self::Runners(_)
            | Self::Handlers(_)
            | Self::Convert(_)
            | Self::Combine(_)
            | Self::Completions(_) => None,
        }
    }
}

/// Run a task list: the same as pytf without a command.
///
/// For scripts, and for a task list that has the name of a command. All options of the farm
/// are allowed.
#[derive(Clone, Debug, Args)]
pub struct ExplicitFarm {
    /// The task list and the options of the farm
    #[arg(
        value_name = "TASKLIST",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    list: Vec<OsString>,
}

/// Say what a farm would run, and start nothing.
///
/// It reads the task list as a farm on this machine would, and reports what would fail: lines
/// that are refused, programs that are missing, syntax that the shell refuses. No workdir is
/// made. All options of the farm are allowed. The exit status is 1 when a task would fail.
#[derive(Clone, Debug, Args)]
pub struct ExplicitCheck {
    #[command(flatten)]
    farm: ExplicitFarm,
    #[command(flatten)]
    check: CheckArgs,
}

// Without a comment for the help: it would replace that of the command.
#[expect(missing_docs, reason = "each has its help")]
#[derive(Clone, Debug, Default, Args)]
pub struct CheckArgs {
    /// Show the command line by which a task would be run
    #[arg(long, value_name = "ID")]
    pub show: Option<TaskId>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// The command line of `pytf check`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "pytf check",
    version = VERSION,
    override_usage = "pytf check [OPTIONS] <TASKLIST>\n       \
                      pytf check [OPTIONS] --workdir <DIR> -- <COMMAND> ::: <VALUE>...",
    about = "Say what a farm would run, and start nothing",
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true,
    max_term_width = 100
)]
struct CheckAlone {
    #[command(flatten)]
    farm: FarmArgs,
    #[command(flatten)]
    check: CheckArgs,
}

/// The command line of the farm alone: no word in it is a command.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "pytf run",
    version = VERSION,
    override_usage = "pytf run [OPTIONS] <TASKLIST>\n       \
                      pytf run [OPTIONS] --workdir <DIR>\n       \
                      pytf run [OPTIONS] --workdir <DIR> -- <COMMAND> ::: <VALUE>...",
    about = "Run a list of commands on every node of an allocation",
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true,
    max_term_width = 100
)]
struct FarmAlone {
    #[command(flatten)]
    farm: FarmArgs,
}

/// List the runners (--runner): how a task becomes a process
///
/// Those that are ready to use, with their keys, and those that INI files define, with their
/// files.
#[derive(Clone, Debug, Args)]
pub struct Runners {
    /// An INI file that defines runners
    #[arg(long, env = "PYTF_CONFIG", value_name = "FILE")]
    pub config: Vec<PathBuf>,
}

/// List the handlers (--tasklist): what makes the tasks of a list
///
/// Those that are part of pytf, and those that INI files define, with their files.
#[derive(Clone, Debug, Args)]
pub struct Handlers {
    /// An INI file that defines handlers
    #[arg(long, env = "PYTF_CONFIG", value_name = "FILE")]
    pub config: Vec<PathBuf>,
}

/// Write the list of another tool as a list of pytf.
///
/// It is written to standard output, and means the same. Without --from the list is recognized by
/// its marks; a list without any is written as it is.
#[derive(Clone, Debug, Args)]
pub struct Convert {
    /// The list; - is standard input
    pub list: PathBuf,
    /// The tool whose list it is
    ///
    /// disbatch, runtask, greasy, launcher, pylauncher, swarm, dsq or parallel.
    #[arg(long, value_name = "NAME", hide_possible_values = true,
          value_parser = PossibleValuesParser::new(Tool::ALL.map(Tool::name)))]
    pub from: Option<String>,
    /// What is written: a list of pytf
    #[arg(long, value_name = "NAME", default_value = "pytf", value_parser = ["pytf"],
          hide_possible_values = true)]
    pub to: String,
}

/// Put the results of all tasks into one folder.
///
/// Those of out= and --copy-out, which are in the folder results of the workdir. Files that are the
/// same in several tasks are there once. Where files of one name differ, also from those in the
/// folder, they are named, nothing is written, and the exit status is 1.
#[derive(Clone, Debug, Args)]
pub struct Combine {
    /// The folder results of a workdir, or the workdir
    pub results: PathBuf,
    /// Where they are put; it is made
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Make a shell complete options, workdirs, ids of tasks, runners and handlers.
///
/// Add this line to ~/.bashrc: source <(pytf completions bash). To ~/.zshrc, after
/// compinit: source <(pytf completions zsh). For fish:
/// pytf completions fish > ~/.config/fish/completions/pytf.fish
#[derive(Clone, Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// A shell that can ask us for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Show what a task printed.
///
/// With --logs split first its standard output, then its standard error, or one of them.
#[derive(Clone, Debug, Args)]
pub struct Log {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// The id of the task, as the files finished and failed have it
    pub id: TaskId,
    /// The attempt, counted from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// Only its standard output (--logs split)
    #[arg(long, conflicts_with = "stderr")]
    pub stdout: bool,
    /// Only its standard error (--logs split)
    #[arg(long)]
    pub stderr: bool,
}

/// Requeue failed tasks, to be run again.
///
/// They move from failed to toprocess. A farm that runs starts them, or the next run of
/// the same command. The number of attempts goes on. Cancelled tasks stay in failed unless
/// they are named.
#[derive(Clone, Debug, Args)]
pub struct Retry {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// Which tasks: ids, ranges such as 3-9 [default: all but cancelled]
    pub ids: Vec<Ids>,
    /// Also all that were cancelled
    #[arg(long, conflicts_with = "ids")]
    pub cancelled: bool,
}

/// Repair a damaged workdir.
///
/// The journals hold every result. All other files are written again from them and from
/// what is left of the files. The old files are kept in the folder damaged-1, damaged-2,
/// ... of the workdir. Refused while a pytf works on the run.
#[derive(Clone, Debug, Args)]
pub struct Repair {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// The task list of the run, for lines that are in no other file
    pub tasklist: Option<PathBuf>,
    /// Read each line of the list as one task, as it is
    #[arg(long)]
    pub plain: bool,
    /// Change nothing, only report damage: then exit status 74
    #[arg(long, conflicts_with_all = ["tasklist", "plain"])]
    pub check: bool,
}

/// Reset a run, as if it had never run.
///
/// All tasks wait again, from attempt 1. Nothing is deleted: what there was of the run is moved
/// into the folder reset-1, reset-2, ... of the workdir, a workdir of its own, which pytf status
/// and the other views show. Refused while a pytf works on the run.
#[derive(Clone, Debug, Args)]
pub struct Reset {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// Only tasks with this id or a higher one
    #[arg(
        long,
        value_name = "ID",
        default_value = "0",
        hide_default_value = true
    )]
    pub from: TaskId,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// The word by which a farmer starts its guard.
const GUARD: &str = "__guard";
/// The words by which `--hosts` starts a pytf elsewhere.
const HOST: &str = "__host";
const HOSTED: &str = "__hosted";
const PIPED: &str = "__piped";

impl Cli {
    /// Reads a command line. The error prints itself, on the right stream, and
    /// knows its exit status: 2, or 0 for `--help` and `--version`.
    ///
    /// Clap reads the values of variables; `variable` only decides which of them are read.
    pub fn read(
        argv: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Request, clap::Error> {
        let argv: Vec<OsString> = argv.into_iter().collect();
        // Once for each farmer: it does not pay to build all options for it.
        if argv.get(1).is_some_and(|word| word == GUARD) {
            return Ok(Request::Guard(argv[2..].to_vec()));
        }
        match argv.get(1).and_then(|word| word.to_str()) {
            Some(HOST) => return Ok(Request::Host),
            Some(word @ (HOSTED | PIPED)) => {
                let is_piped = word == PIPED;
                if let Some((place, words)) = argv[2..].split_first_chunk() {
                    let words = [&argv[..1], &["run".into()], words].concat();
                    let place = place.clone();
                    return match Self::read(words, variable)? {
                        Request::Farm { options, .. } => Ok(Request::Hosted {
                            is_piped,
                            place,
                            options,
                        }),
                        other => Ok(other),
                    };
                }
            }
            _ => {}
        }
        let mut command = command(&variable);
        if let Some(why) = reserved(&argv) {
            return Err(command.error(ErrorKind::InvalidSubcommand, why));
        }
        let mut argv = tidy(as_option(argv));
        let explicit = match argv.get(1).and_then(|word| word.to_str()) {
            Some("run") => Some(FarmAlone::command()),
            Some("check") => Some(CheckAlone::command()),
            _ => None,
        };
        let is_check = argv.get(1).is_some_and(|word| word == "check");
        if let Some(alone) = explicit {
            argv.remove(1);
            command = variables::complete(alone, &variable);
        }
        let matches = command
            .try_get_matches_from_mut(&argv)
            .map_err(|error| clearer(error, &mut command, &argv, &variable))?;
        let request = if is_check {
            let alone = CheckAlone::from_arg_matches(&matches);
            alone.map(|alone| alone.farm.request(Some(alone.check)))
        } else if command.get_subcommands().next().is_none() {
            FarmAlone::from_arg_matches(&matches).map(|alone| alone.farm.request(None))
        } else {
            Self::from_arg_matches(&matches).map(Self::request)
        };
        let request = request.map_err(|error| error.format(&mut command))?;
        let request = request.map_err(|(kind, why)| command.error(kind, why))?;
        let names_workdir = matches.value_source("workdir") == Some(ValueSource::CommandLine);
        if let Request::Farm {
            tasks: Tasks::Added,
            options,
            ..
        } = &request
            && !names_workdir
            && options.follow.is_none()
        {
            // A variable alone starts no tasks: it may be set for other commands.
            let why = "no TASKLIST is given, and no --workdir in its place";
            return Err(command.error(ErrorKind::MissingRequiredArgument, why));
        }
        Ok(request)
    }

    /// What is asked for, or what is wrong with it.
    fn request(self) -> Result<Request, Fault> {
        let Some(given) = self.command else {
            return self.farm.request(None);
        };
        match given.fault() {
            None => Ok(Request::Command(given)),
            Some(why) => Err((ErrorKind::ArgumentConflict, why)),
        }
    }
}

/// What is wrong with options that clap has read.
type Fault = (ErrorKind, String);

impl FarmArgs {
    /// A farm with these options, or what it would run: if that is asked, or with `--dry-run`.
    fn request(self, check: Option<CheckArgs>) -> Result<Request, Fault> {
        let missing = |why| (ErrorKind::MissingRequiredArgument, why);
        let (tasks, workdir, options) = self.check().map_err(missing)?;
        let options = Box::new(options);
        let Some(check) = check.or_else(|| options.dry_run.then(CheckArgs::default)) else {
            return Ok(Request::Farm {
                tasks,
                workdir,
                options,
            });
        };
        if matches!(tasks, Tasks::Added) {
            let why = "no TASKLIST is given: there is nothing to check";
            return Err(missing(why.into()));
        }
        Ok(Request::Check {
            tasks,
            workdir,
            options,
            check,
        })
    }
}

/// The whole command line as data: for completions and man pages.
pub fn definition() -> clap::Command {
    command(&|_| None)
}

/// The command as clap sees it, with its help completed and without the variables that are
/// not read.
fn command(variable: &dyn Fn(&str) -> Option<OsString>) -> clap::Command {
    variables::complete(Cli::command(), variable)
}

/// The variables of all options.
pub fn variable_names() -> Vec<String> {
    let command = Cli::command();
    let names = command
        .get_arguments()
        .filter_map(|option| option.get_env());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// The variables among these that look like options but are not, each with the option that
/// was probably meant.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<(String, Option<String>)> {
    variables::unknown_variables(&Cli::command(), names)
}
