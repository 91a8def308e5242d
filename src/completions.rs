//! Completions of command lines: the script that `pytf completions SHELL` prints, and the
//! answers when the shell runs it.
//!
//! The shell runs `pytf` with [`VARIABLE`] and the words so far, so that the candidates come
//! from this version and from the existing files: workdirs, the ids of failed or waiting
//! tasks, runners and handlers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use clap::{Arg, Command, ValueHint};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use pytf::cli::{Shell, default_workdir, definition};
use pytf::definitions::What;
use pytf::history::run::counts::queues;
use pytf::model::escape::{clip, escape};
use pytf::model::tasklist::handlers::HANDLERS;
use pytf::runner::ready::READY;
use pytf::workdir::layout::{FAILED, LOCK, TOPROCESS};

use crate::defined;

/// The variable by which the shell asks.
const VARIABLE: &str = "PYTF_COMPLETE";
/// How much of a command is shown beside its id, in columns.
const SHOWN: usize = 60;
/// How many ids are offered at most: no user reads more, and a shell is slow with them.
const OFFERED: usize = 500;

/// zsh loads a file `_pytf` of its folders at the first Tab, as a function, which must
/// complete then, too.
const LOADED_BY_ZSH: &str = r#"
if [[ "$funcstack[1]" == _pytf ]]; then
    _clap_dynamic_completer_pytf "$@"
fi
"#;

/// The script for this shell.
pub(crate) fn script(shell: Shell) -> io::Result<String> {
    let shell: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "pytf", "pytf", "pytf", &mut script)?;
    if shell.is("zsh") {
        script.extend(LOADED_BY_ZSH.as_bytes());
    }
    String::from_utf8(script).map_err(io::Error::other)
}

/// Answers a shell that asks for completions; none when this is another call.
pub(crate) fn answer() -> Option<io::Result<()>> {
    // Before anything is built: farms start without this.
    std::env::var_os(VARIABLE)?;
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(completing)
        .var(VARIABLE)
        .bin("pytf")
        .completer("pytf")
        .try_complete(std::env::args_os(), here.as_deref())
        .map_err(io::Error::other)
        .map(|asked| asked.then_some(()))
        .transpose()
}

/// The command line, with what completes its values.
fn completing() -> Command {
    definition().mut_args(with_values).mut_subcommands(|sub| {
        let cancels = sub.get_name() == "cancel";
        sub.mut_args(|arg| match arg.get_id().as_str() {
            "ids" if cancels => arg.add(ArgValueCompleter::new(waiting_ids)),
            _ => with_values(arg),
        })
    })
}

fn with_values(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "workdir" => arg.add(ArgValueCompleter::new(
            PathCompleter::dir().filter(is_workdir),
        )),
        "id" | "ids" | "task" => arg.add(ArgValueCompleter::new(failed_ids)),
        "list" => arg.value_hint(ValueHint::FilePath),
        "runner" => arg.add(ArgValueCompleter::new(|word: &OsStr| {
            let ready = READY.iter().map(|ready| (ready.name, ready.about));
            names(word, ready, What::Runner)
        })),
        "tasklist" if !arg.is_positional() => arg.add(ArgValueCompleter::new(|word: &OsStr| {
            let ready = HANDLERS.iter().map(|handler| (handler.name, handler.about));
            names(word, ready, What::TaskList)
        })),
        _ => arg,
    }
}

/// The names of what is ready, and of what the user's files define.
fn names(
    word: &OsStr,
    ready: impl Iterator<Item = (&'static str, &'static str)>,
    what: What,
) -> Vec<CompletionCandidate> {
    let ready = ready.map(|(name, about)| (name.to_owned(), about.to_owned()));
    let mut known: BTreeMap<String, String> = ready.collect();
    for definition in defined::places().read(what).unwrap_or_default() {
        let place = definition.place();
        known.insert(definition.name, place);
    }
    let typed = word.to_string_lossy();
    let meant = known
        .into_iter()
        .filter(|(name, _)| name.starts_with(&*typed));
    let candidates =
        meant.map(|(name, help)| CompletionCandidate::new(name).help(Some(help.into())));
    candidates.collect()
}

fn is_workdir(path: &Path) -> bool {
    path.join(LOCK).is_file() && path.join(FAILED).is_file()
}

/// The ids of failed tasks in the workdir that the command line names before.
fn failed_ids(word: &OsStr) -> Vec<CompletionCandidate> {
    ids_in(word, FAILED, |_| 0)
}

/// The ids of tasks that no farmer has claimed.
fn waiting_ids(word: &OsStr) -> Vec<CompletionCandidate> {
    ids_in(word, TOPROCESS, |workdir| {
        let queues = queues(workdir).unwrap_or_default();
        queues.first().map_or(0, |queue| queue.cursor)
    })
}

/// The ids in a file of that workdir, from a line on.
fn ids_in(word: &OsStr, file: &str, from: impl Fn(&Path) -> u64) -> Vec<CompletionCandidate> {
    let words = std::env::args_os()
        .skip_while(|word| word != "--")
        .map(PathBuf::from);
    let Some(workdir) = words
        .flat_map(|word| [default_workdir(&word), Some(word)])
        .flatten()
        .find(|path| is_workdir(path))
    else {
        return Vec::new();
    };
    let Ok(mut file) = File::open(workdir.join(file)) else {
        return Vec::new();
    };
    if file.seek(SeekFrom::Start(from(&workdir))).is_err() {
        return Vec::new();
    }
    let typed = word.to_string_lossy();
    let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    lines
        .filter_map(|line| {
            let line = String::from_utf8_lossy(&line);
            let (id, command) = line.split_once(' ')?;
            id.starts_with(&*typed).then(|| {
                let help = clip(&escape(command.as_bytes()), SHOWN);
                CompletionCandidate::new(id).help(Some(help.into()))
            })
        })
        .take(OFFERED)
        .collect()
}
