//! What clap does not do by itself: PyTaskFarmer's forms of options, variables
//! that must not count, errors that say what was meant, help with variables.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory};

use super::Cli;
use crate::exit;

/// The command as clap sees it, with those variables taken out that do not
/// count, and what clap does not write into the help by itself.
pub(super) fn command(variable: &dyn Fn(&str) -> Option<OsString>) -> Command {
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
        .mut_args(|arg| with_variable(arg, variable))
        .mut_subcommands(|sub| sub.mut_args(|arg| with_variable(arg, variable)))
}

/// An option that has a variable, with it in its help, and without it where it
/// must not count.
fn with_variable(arg: Arg, variable: &dyn Fn(&str) -> Option<OsString>) -> Arg {
    let Some(name) = arg.get_env().and_then(OsStr::to_str).map(str::to_owned) else {
        return arg;
    };
    let arg = documented(arg, &name);
    if counts(&name, variable) {
        arg
    } else {
        arg.env(None::<&str>)
    }
}

/// What people type who know other programs, and what to do instead.
const FOREIGN: [(&str, &str); 5] = [
    (
        "--time",
        "--timeout ends the whole farm, --task-timeout each task; options are not abbreviated",
    ),
    (
        "--dry-run",
        "'pytf devices' shows the slots that a farm would have here; to try a list, run its first \
         lines: head -n 3 tasks.txt >try.txt; pytf try.txt",
    ),
    (
        "--joblog",
        "'pytf export WORKDIR --joblog' writes it, at any time",
    ),
    ("--resume", "the same command again resumes"),
    (
        "--halt",
        "'pytf' goes on when tasks fail; its exit status is then 1",
    ),
];

/// Says what was meant: a word that is no subcommand, an option of another program, a
/// variable of ours with a value that is none.
pub(super) fn clearer(
    error: clap::Error,
    command: &mut Command,
    argv: &[OsString],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> clap::Error {
    let of = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        // Clap takes a second task list for a subcommand. What is meant is mostly a
        // command with its arguments, or a subcommand with a slip in it.
        ErrorKind::ArgumentConflict => {
            let Some(word) = of(ContextKind::InvalidSubcommand) else {
                return error;
            };
            let why = format!(
                "unexpected '{word}': there is one TASKLIST, a file with a command on each line; \
                 the other commands are status, watch, log, retry, repair, report, timeline, \
                 export and devices"
            );
            command.error(ErrorKind::UnknownArgument, why)
        }
        ErrorKind::UnknownArgument => {
            let word =
                of(ContextKind::InvalidArg).map(|word| word.split('=').next().unwrap_or(word));
            let meant = FOREIGN.iter().find(|(name, _)| Some(*name) == word);
            let Some((name, meant)) = meant else {
                return error;
            };
            command.error(
                ErrorKind::UnknownArgument,
                format!("there is no {name}: {meant}"),
            )
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let arg = of(ContextKind::InvalidArg).unwrap_or_default();
            let value = of(ContextKind::InvalidValue).unwrap_or_default();
            match from_variable(command, (arg, value), argv, variable) {
                Some(name) => {
                    let text = error.to_string();
                    let told = text.trim_start_matches("error: ");
                    let told = told.replace(&format!("'{arg}'"), &format!("the variable {name}"));
                    let told = told
                        .split("\n\nFor more")
                        .next()
                        .unwrap_or(&told)
                        .trim_end();
                    command.error(error.kind(), told)
                }
                None => error,
            }
        }
        _ => error,
    }
}

/// The variable that a wrong value came from, when it is on no command line.
fn from_variable(
    command: &Command,
    (arg, value): (&str, &str),
    argv: &[OsString],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Option<String> {
    let subcommands = command.get_subcommands().flat_map(Command::get_arguments);
    let mut all = command.get_arguments().chain(subcommands);
    // `--proc [<N>]`
    let long = arg.strip_prefix("--")?;
    let long = long.split([' ', '[', '=']).next()?;
    let found = all.find(|known| known.get_long() == Some(long) && known.get_env().is_some())?;
    let name = found.get_env()?.to_str()?;
    let is_typed = argv
        .iter()
        .any(|word| word.to_string_lossy().ends_with(value));
    let is_set = variable(name).is_some_and(|set| set.to_string_lossy() == value);
    (is_set && !is_typed).then(|| name.to_owned())
}

/// What tasks find in their environment, which is no option.
const OF_TASKS: [&str; 5] = [
    "PYTF_TASK_ID",
    "PYTF_ATTEMPT",
    "PYTF_SLOT",
    "PYTF_NODE",
    "PYTF_FARMER",
];

/// Those of these variables that look like options of ours and are none, each with the
/// one that it may have been meant for.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<(String, Option<String>)> {
    let command = Cli::command();
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
                .map(|option| (distance(&name, option), option));
            let nearest = nearest.min().filter(|(distance, _)| *distance <= 3);
            let meant = nearest.map(|(_, option)| (*option).to_owned());
            (name, meant)
        })
        .collect();
    unknown.sort();
    unknown
}

/// How many letters are to be changed, taken out or put in to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
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
/// environment names the workdir and the GPUs that it belongs to: a pytf which is
/// started inside a task must not join that run, its own parent, and what it may
/// use is told by the same variables as to any other program.
fn counts(name: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let inside_a_task = variable("PYTF_TASK_ID").is_some();
    variable(name).is_some_and(|value| !value.is_empty())
        && !(inside_a_task && ["PYTF_WORKDIR", "PYTF_GPUS"].contains(&name))
}

/// Turns PyTaskFarmer's `-v VALUE` into `--verbose=VALUE`. Only a word that says
/// yes or no is a value: in `-v tasks.txt` the task list is none.
pub(super) fn tidy(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut tidied = Vec::new();
    let mut argv = argv.into_iter().peekable();
    while let Some(arg) = argv.next() {
        if arg == "--" {
            tidied.push(arg);
            break;
        }
        let attached = arg.to_str().and_then(|text| text.strip_prefix("-v"));
        let verbose = if arg == "-v" || arg == "--verbose" {
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
