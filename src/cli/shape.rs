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

/// Clap takes a second task list for a subcommand and says so; what is meant is
/// mostly a command with its arguments, or a subcommand with a slip in it.
pub(super) fn clearer(error: clap::Error, command: &mut Command) -> clap::Error {
    let word = error.get(ContextKind::InvalidSubcommand);
    let (ErrorKind::ArgumentConflict, Some(ContextValue::String(word))) = (error.kind(), word)
    else {
        return error;
    };
    let why = format!(
        "unexpected '{word}': there is one TASKLIST, a file with a command on each line; \
         the other commands are status, watch, log, retry, repair, report, timeline, export and \
         devices"
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
