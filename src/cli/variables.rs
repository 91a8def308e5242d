//! The environment variables of options: their place in the help, which of them are read, and
//! names that look like one of them but are not.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};
use strsim::levenshtein;

use crate::exit;

/// Removes the variables that are not read, and adds to the help what clap does not write.
pub(super) fn complete(command: Command, variable: &dyn Fn(&str) -> Option<OsString>) -> Command {
    let statuses = exit::TABLE
        .iter()
        .map(|(exit, _, sentence)| format!("\n  {:>3}  {sentence}", exit.code()));
    command
        .after_help("'pytf --help' explains each option, 'pytf COMMAND --help' a command.")
        .after_long_help(format!(
            "Every option of the farm can be set by its variable; the command line overrides it.\n\n\
             Exit status:{}",
            statuses.collect::<String>()
        ))
        .mut_args(|arg| with_variable(arg, variable))
        .mut_subcommands(|sub| {
            // The farm has its own, in a group.
            let help = Arg::new("help").short('h').long("help");
            sub.mut_args(|arg| with_variable(arg, variable))
                .arg(help.action(ArgAction::Help).help("Print help"))
        })
}

/// Names the variable of an option in its help, and removes it where it is not read.
fn with_variable(arg: Arg, variable: &dyn Fn(&str) -> Option<OsString>) -> Arg {
    let Some(name) = arg.get_env().and_then(OsStr::to_str).map(str::to_owned) else {
        return arg;
    };
    let arg = documented(arg, &name);
    if is_read(&name, variable) {
        arg
    } else {
        arg.env(None::<&str>)
    }
}

/// The option with its variable and its possible values in the long help, and without
/// them in the short help, which has one line per option.
fn documented(arg: Arg, variable: &str) -> Arg {
    let mut help = arg
        .get_long_help()
        .or(arg.get_help())
        // As it is: to look for escape sequences in all texts takes longer than the rest of a start.
        .map(|help| help.ansi().to_string())
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

/// Whether a variable is read as an option. An empty one is not. In the environment of a
/// task some of them describe the task: a pytf that is started there must not join the
/// run of its own parent, and finds its GPUs by the same variables as any other program. Nor
/// does it run the command for the end of its parent, or make folders as that does.
fn is_read(name: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let inside_a_task = variable("PYTF_TASK_ID").is_some();
    variable(name).is_some_and(|value| !value.is_empty())
        && !(inside_a_task && NOT_IN_TASKS.contains(&name))
}

/// The variables of options that are not read inside a task.
const NOT_IN_TASKS: [&str; 8] = [
    "PYTF_WORKDIR",
    "PYTF_GPUS",
    "PYTF_MEM",
    "PYTF_ON_END",
    "PYTF_NODE_SETUP",
    "PYTF_NODE_TEARDOWN",
    "PYTF_TASK_DIR",
    "PYTF_KEEP_TASK_DIR",
];

/// What tasks, and the command of `--on-end`, find in their environment. These are not options.
const OF_TASKS: [&str; 12] = [
    "PYTF_CPUS",
    "PYTF_TASK_ID",
    "PYTF_ATTEMPT",
    "PYTF_SLOT",
    "PYTF_NODE",
    "PYTF_FARMER",
    "PYTF_RUN_DIR",
    "PYTF_RUN_WORKDIR",
    "PYTF_RUN_FINISHED",
    "PYTF_RUN_FAILED",
    "PYTF_RUN_CANCELLED",
    "PYTF_RUN_STATUS",
];

/// Those of these variables that look like options of this command but are not, each
/// with the one that it may have been meant for.
pub(super) fn unknown_variables(
    command: &Command,
    names: impl Iterator<Item = OsString>,
) -> Vec<(String, Option<String>)> {
    let options = command
        .get_arguments()
        .filter_map(|arg| arg.get_env()?.to_str());
    let options: Vec<&str> = options.collect();
    let mut unknown: Vec<_> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("PYTF_") && !name.starts_with("PYTF_TEST_"))
        .filter(|name| !options.contains(&&**name) && !OF_TASKS.contains(&&**name))
        .map(|name| {
            let nearest = options
                .iter()
                .map(|option| (levenshtein(&name, option), option));
            let nearest = nearest.min().filter(|(distance, _)| *distance <= 3);
            let meant = nearest.map(|(_, option)| (*option).to_owned());
            (name, meant)
        })
        .collect();
    unknown.sort();
    unknown
}
