//! Errors that say what was meant: a word that is not a command, an option that is abbreviated
//! or of another program, an environment variable with a wrong value.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::arguments::{COMMANDS, nearest_command};
use crate::model::template::is_mark;

/// Options of other programs, and what to use instead.
const FOREIGN: [(&str, &str); 3] = [
    (
        "--time",
        "--timeout ends the whole farm, --task-timeout each task; options cannot be abbreviated",
    ),
    (
        "--joblog",
        "'pytf export WORKDIR --joblog' writes it, at any time",
    ),
    ("--resume", "the same command again resumes"),
];

/// The error in other words, where those of clap do not say what was meant.
pub(super) fn clearer(
    mut error: clap::Error,
    command: &mut Command,
    argv: &[OsString],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> clap::Error {
    let given = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let kind = error.kind();
    let why = match kind {
        ErrorKind::ArgumentConflict | ErrorKind::UnknownArgument => {
            if let Some(why) = misspelled(argv) {
                return command.error(ErrorKind::InvalidSubcommand, why);
            }
            let words: Vec<&[u8]> = argv.iter().map(|word| word.as_bytes()).collect();
            if words.iter().copied().any(is_mark) && !words.contains(&&b"--"[..]) {
                let why = "a command and its values come after --, as in: \
                           pytf -w DIR -- ./md -T {} ::: 300 310";
                return command.error(ErrorKind::UnknownArgument, why);
            }
            let word = given(ContextKind::InvalidArg);
            if kind == ErrorKind::ArgumentConflict {
                None
            } else if word.starts_with('-') || word.is_empty() {
                unknown_option(word, command, argv)
            } else {
                // A second task list. Mostly a task is meant, with its arguments, or a command
                // whose name is misspelled.
                let (last, others) = COMMANDS.split_last().unwrap_or((&"", &[]));
                Some(format!(
                    "unexpected '{word}': there is one TASKLIST, a file with a command on each \
                     line; the commands of pytf are {} and {last}",
                    others.join(", ")
                ))
            }
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let arg = given(ContextKind::InvalidArg);
            let set = (arg, given(ContextKind::InvalidValue));
            from_variable(command, set, argv, variable).map(|name| {
                let text = error.to_string();
                let text = text.split("\n\nFor more").next().unwrap_or_default();
                let text = text.trim_start_matches("error: ").trim_end();
                text.replace(&format!("'{arg}'"), &format!("the variable {name}"))
            })
        }
        _ => None,
    };
    match why {
        Some(why) if kind == ErrorKind::ArgumentConflict => {
            command.error(ErrorKind::UnknownArgument, why)
        }
        Some(why) => command.error(kind, why),
        None => {
            // "To pass '--delay' as a value, use '-- --delay'": no user wants that.
            if kind == ErrorKind::UnknownArgument {
                error.remove(ContextKind::Suggested);
            }
            error
        }
    }
}

/// The command that was meant, where a first word is nearly one.
fn misspelled(argv: &[OsString]) -> Option<String> {
    let first = argv.get(1)?;
    let near = nearest_command(first.to_str()?)?;
    Some(format!(
        "there is no command '{}'; did you mean 'pytf {near}'?",
        first.display()
    ))
}

/// What to use instead of an option that does not exist: of another program, or
/// abbreviated.
fn unknown_option(given: &str, command: &Command, argv: &[OsString]) -> Option<String> {
    let word = given.split('=').next().unwrap_or(given);
    match FOREIGN.iter().find(|(name, _)| *name == word) {
        Some((name, meant)) => Some(format!("there is no {name}: {meant}")),
        None => in_full(word, command, argv),
    }
}

/// The options that begin with this word, which is not one itself.
fn in_full(word: &str, command: &Command, argv: &[OsString]) -> Option<String> {
    let beginning = word.strip_prefix("--").filter(|rest| !rest.is_empty())?;
    let named = argv.get(1).and_then(|name| command.find_subcommand(name));
    let longs = named.unwrap_or(command).get_arguments();
    let longs = longs
        .filter(|arg| !arg.is_hide_set())
        .filter_map(Arg::get_long);
    let meant = longs.filter(|long| long.starts_with(beginning));
    let meant: Vec<String> = meant.map(|long| format!("--{long}")).collect();
    (!meant.is_empty()).then(|| {
        format!(
            "there is no option {word}, and options cannot be abbreviated; did you mean {}?",
            meant.join(", ")
        )
    })
}

/// The variable that a wrong value came from, when it is on no command line.
fn from_variable(
    command: &Command,
    (arg, value): (&str, &str),
    argv: &[OsString],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Option<String> {
    let subcommands = command.get_subcommands().flat_map(Command::get_arguments);
    // `--proc [<N>]`
    let long = arg.strip_prefix("--")?.split([' ', '[', '=']).next()?;
    let mut options = command.get_arguments().chain(subcommands);
    let is_it = |known: &&Arg| known.get_long() == Some(long) && known.get_env().is_some();
    let name = options.find(is_it)?.get_env()?.to_str()?;
    let mut words = argv.iter().map(|word| word.to_string_lossy());
    let is_typed = words.any(|word| word.ends_with(value));
    let is_set = variable(name).is_some_and(|set| set.to_string_lossy() == value);
    (is_set && !is_typed).then(|| name.to_owned())
}
