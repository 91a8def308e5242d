//! The command line: what the commands are. No decision is taken here;
//! `Cli::read` turns arguments and variables into a `Request`. `farm` has the
//! options of the farm, `shape` what clap does not do by itself.
//!
//! PyTaskFarmer's options all work as its users type them, also `-v True` and a bare
//! `--proc`. Long options are not abbreviated: what one means today, `--time` for
//! example, could be another's beginning tomorrow. Others rely on this: every option
//! of the farm has its `PYTF_` variable, an empty variable is none, and one that is
//! no option's is told.

mod devices;
mod farm;
mod repair;
mod shape;
#[cfg(test)]
mod tests;
mod values;
mod view;
mod walltime;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, FromArgMatches, Parser, Subcommand};

pub use self::devices::{Bind, DeviceArgs, Devices};
pub use self::farm::default_workdir;
pub use self::farm::{FarmArgs, Lock, Logs};
pub use self::repair::Repair;
pub use self::shape::unknown_variables;
use self::shape::{clearer, command, tidy};
pub use self::values::Gpus;
pub use self::view::{Export, Format, Report, Status, Timeline, Watch};
pub use self::walltime::{AllocationArgs, SrunEnv};
pub use self::words::nearest_command;
use self::words::{meant, reserved, worded};
use crate::VERSION;
use crate::model::ids::Ids;
use crate::model::task::TaskId;

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
        options: Box<FarmArgs>,
    },
    /// Show what a task printed.
    Log(Log),
    /// Make failed tasks wait again.
    Retry(Retry),
    /// Make a damaged workdir whole again.
    Repair(Repair),
    /// Show how a run stands.
    Status(Status),
    /// Watch a run.
    Watch(Watch),
    /// Write the results for other tools.
    Export(Export),
    /// Write the report.
    Report(Report),
    /// Write the timeline.
    Timeline(Timeline),
    /// Show GPUs and CPUs.
    Devices(Box<Devices>),
    /// Be the guard of another farmer's tasks.
    Guard(Vec<OsString>),
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
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Other>,
    #[command(flatten)]
    farm: FarmArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum Other {
    Log(Log),
    Retry(Retry),
    Repair(Repair),
    Status(Status),
    Watch(Watch),
    Export(Export),
    Timeline(Timeline),
    Report(Report),
    Devices(Box<Devices>),
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

/// The word by which we start ourselves to kill what we leave behind.
const GUARD: &str = "__guard";

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
        let argv: Vec<OsString> = argv.into_iter().collect();
        // Once for each farmer: nobody waits for all options to be made for it.
        if argv.get(1).is_some_and(|word| word == GUARD) {
            return Ok(Request::Guard(argv[2..].to_vec()));
        }
        let mut command = command(&variable);
        if let Some(why) = reserved(&argv) {
            return Err(command.error(ErrorKind::InvalidSubcommand, why));
        }
        let argv = tidy(worded(argv));
        let matches = command.try_get_matches_from_mut(&argv).map_err(|error| {
            match meant(&error, &argv) {
                Some(why) => command.error(ErrorKind::InvalidSubcommand, why),
                None => clearer(error, &mut command, &argv, &variable),
            }
        })?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        match cli.command {
            Some(Other::Log(log)) => Ok(Request::Log(log)),
            Some(Other::Retry(retry)) => Ok(Request::Retry(retry)),
            Some(Other::Repair(repair)) => Ok(Request::Repair(repair)),
            Some(Other::Status(status)) => match status.fault() {
                None => Ok(Request::Status(status)),
                Some(why) => Err(command.error(ErrorKind::ArgumentConflict, why)),
            },
            Some(Other::Watch(watch)) => Ok(Request::Watch(watch)),
            Some(Other::Report(report)) => Ok(Request::Report(report)),
            Some(Other::Export(export)) => Ok(Request::Export(export)),
            Some(Other::Timeline(timeline)) => Ok(Request::Timeline(timeline)),
            Some(Other::Devices(wish)) => match wish.options.check() {
                Ok(()) => Ok(Request::Devices(wish)),
                Err(why) => Err(command.error(ErrorKind::ArgumentConflict, why)),
            },
            None => cli
                .farm
                .request()
                .map_err(|why| command.error(ErrorKind::MissingRequiredArgument, why)),
        }
    }
}
