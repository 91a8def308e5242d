//! What clap does not do by itself: the option forms of PyTaskFarmer, variables that do
//! not count, errors that name what was meant, help that names variables.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::exit;

/// Removes the variables that do not count, and adds to the help what clap does not write
/// by itself.
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

/// Names the variable of an option in its help, and removes it where it does not count.
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

/// Options of other programs, and what to use instead.
const FOREIGN: [(&str, &str); 5] = [
    (
        "--time",
        "--timeout ends the whole farm, --task-timeout each task; options cannot be abbreviated",
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
        "pytf continues when tasks fail, and ends with exit status 1",
    ),
];

/// Says what was meant: a word that is not a command, an option that is abbreviated or of
/// another program, a variable with a wrong value.
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
        // Clap takes a second task list for a command. Mostly a task is meant, with its
        // arguments, or a command whose name is misspelled.
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
            let foreign = FOREIGN.iter().find(|(name, _)| Some(*name) == word);
            let why = match (foreign, word.and_then(|word| in_full(word, command, argv))) {
                (Some((name, meant)), _) => format!("there is no {name}: {meant}"),
                (None, Some(why)) => why,
                (None, None) => return error,
            };
            command.error(ErrorKind::UnknownArgument, why)
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

/// What tasks find in their environment. These are not options.
const OF_TASKS: [&str; 5] = [
    "PYTF_TASK_ID",
    "PYTF_ATTEMPT",
    "PYTF_SLOT",
    "PYTF_NODE",
    "PYTF_FARMER",
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

/// The option with its variable and its possible values in the long help, and without
/// them in the short help, which has one line per option.
fn documented(arg: Arg, variable: &str) -> Arg {
    let mut help = arg
        .get_long_help()
        .or(arg.get_help())
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

/// Whether a variable is read as an option. An empty one is not. In the environment of a
/// task two of them describe the task: a pytf that is started there must not join the
/// run of its own parent, and finds its GPUs by the same variables as any other program.
fn counts(name: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let inside_a_task = variable("PYTF_TASK_ID").is_some();
    variable(name).is_some_and(|value| !value.is_empty())
        && !(inside_a_task && ["PYTF_WORKDIR", "PYTF_GPUS"].contains(&name))
}

/// Turns PyTaskFarmer's `-v VALUE` into `--verbose=VALUE`. Only a word for yes or no is
/// a value: in `-v tasks.txt` the task list is not.
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
