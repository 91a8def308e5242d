//! The first word of a command line: words that mean an option, misspelled commands, and
//! names that are reserved for later commands.

use std::ffi::OsString;

use clap::error::ErrorKind;

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
const COMMANDS: [&str; 11] = [
    "status",
    "watch",
    "log",
    "retry",
    "repair",
    "report",
    "timeline",
    "export",
    "devices",
    "completions",
    "help",
];
/// Reserved for commands of a later pytf: a list of such a name would then not run.
const RESERVED: [&str; 13] = [
    "add", "attach", "cancel", "check", "close", "drain", "edit", "init", "pause", "plan",
    "resume", "run", "stop",
];

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
    let word = Some(word).filter(|word| word.len() > 2)?;
    let near = COMMANDS
        .iter()
        .map(|command| (edits(word, command), command));
    let (edits, command) = near.min()?;
    (1..=2)
        .contains(&edits)
        .then_some(command)
        .filter(|_| edits < word.len() / 2)
        .copied()
}

/// How many letters must be inserted, removed, replaced or swapped with the next one.
fn edits(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let least = same.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if is_swap {
                    least.min(rows[i - 2][j - 2] + 1)
                } else {
                    least
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

/// The command that was meant, where an error is one of a task list's options or
/// arguments.
pub(super) fn misspelled(error: &clap::Error, argv: &[OsString]) -> Option<String> {
    let is_odd = matches!(
        error.kind(),
        ErrorKind::ArgumentConflict | ErrorKind::UnknownArgument
    );
    let first = argv.get(1).filter(|_| is_odd)?;
    let near = nearest_command(first.to_str()?)?;
    Some(format!(
        "there is no command '{}'; did you mean 'pytf {near}'?",
        first.display()
    ))
}
