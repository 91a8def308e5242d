//! The arguments before clap reads them: the forms of PyTaskFarmer, first words that mean an
//! option, names that are reserved for later commands.

use std::ffi::{OsStr, OsString};

use strsim::osa_distance;

/// `pytf help [COMMAND]` and `pytf version`, as their options.
pub(super) fn as_option(argv: Vec<OsString>) -> Vec<OsString> {
    let word = argv.get(1).and_then(|word| word.to_str());
    match (word, argv.len()) {
        (Some("help"), _) => {
            let (program, rest) = (&argv[..1], &argv[2..]);
            [program, rest, &["--help".into()]].concat()
        }
        (Some("version"), 2) => vec![argv[0].clone(), "--version".into()],
        _ => argv,
    }
}

/// All commands.
pub(super) const COMMANDS: &[&str] = &[
    "run",
    "check",
    "add",
    "convert",
    "wait",
    "pause",
    "resume",
    "drain",
    "stop",
    "cancel",
    "edit",
    "close",
    "status",
    "watch",
    "log",
    "retry",
    "repair",
    "reset",
    "report",
    "timeline",
    "export",
    "devices",
    "hosts",
    "on",
    "runners",
    "handlers",
    "completions",
    "help",
];
/// Reserved for commands of a later pytf: a list of such a name would then not run.
const RESERVED: &[&str] = &["attach", "init", "plan"];

/// What is wrong with a first word that is reserved.
pub(super) fn reserved(argv: &[OsString]) -> Option<String> {
    let word = argv.get(1)?.to_str()?;
    RESERVED.contains(&word).then(|| {
        format!(
            "'{word}' is reserved for a command of a later pytf; for a task list of that name, use \
             ./{word}"
        )
    })
}

/// The command that a word was probably meant to be, when it is not one.
pub fn nearest_command(word: &str) -> Option<&'static str> {
    let word = Some(word).filter(|word| word.len() > 2 && !word.starts_with('-'))?;
    let near = COMMANDS
        .iter()
        .map(|command| (osa_distance(word, command), command));
    let (edits, command) = near.min()?;
    (1..=2)
        .contains(&edits)
        .then_some(command)
        .filter(|_| edits < word.len() / 2)
        .copied()
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
