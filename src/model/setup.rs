//! Lines that only set up the shell that runs them: each task has its own shell, so no other
//! task sees the effect.

use super::shell_text::comment;

/// First words of commands that change only their own shell.
const WORDS: [&str; 18] = [
    "cd",
    "pushd",
    "popd",
    "export",
    "unset",
    "source",
    ".",
    "ml",
    "umask",
    "ulimit",
    "set",
    "shopt",
    "alias",
    "unalias",
    "declare",
    "typeset",
    "workon",
    "deactivate",
];
/// Commands that do so with these second words.
const PAIRS: [(&str, &[&str]); 6] = [
    (
        "module",
        &[
            "load", "unload", "swap", "switch", "purge", "use", "add", "rm", "restore",
        ],
    ),
    ("conda", &["activate", "deactivate"]),
    ("mamba", &["activate", "deactivate"]),
    ("micromamba", &["activate", "deactivate"]),
    ("spack", &["load", "unload"]),
    ("pyenv", &["shell", "activate"]),
];

/// Whether a line only sets up its own shell. A line of which that is not certain does
/// more.
pub fn only_sets_up(line: &[u8]) -> bool {
    // Most lines are decided by their first byte, the others by their first word.
    if !matches!(line.first(), Some(b'.' | b'_' | b'A'..=b'Z' | b'a'..=b'z')) {
        return false;
    }
    let is_end = |b: &u8| matches!(b, b' ' | b'\t' | b';' | b'&');
    let first = &line[..line.iter().position(is_end).unwrap_or(line.len())];
    if !is_first(first) {
        return false;
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return false;
    };
    if text.contains(['|', '<', '>', '(', '`', '{', '"', '\'', '\\']) {
        return false;
    }
    let commands = &text[..comment(line).unwrap_or(text.len())];
    let commands = commands.split(';').flat_map(|part| part.split("&&"));
    let mut commands = commands
        .map(str::trim)
        .filter(|command| !command.is_empty());
    commands.all(|command| !command.contains('&') && is_set_up(command))
}

fn is_first(word: &[u8]) -> bool {
    WORDS.iter().any(|first| first.as_bytes() == word)
        || PAIRS.iter().any(|(first, _)| first.as_bytes() == word)
        || word.contains(&b'=') && std::str::from_utf8(word).is_ok_and(is_assignment)
}

fn is_set_up(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let first = words.next().unwrap_or("");
    if let Some((_, seconds)) = PAIRS.iter().find(|(pair, _)| *pair == first) {
        return words.next().is_some_and(|second| seconds.contains(&second));
    }
    WORDS.contains(&first) || is_assignment(first) && words.all(is_assignment)
}

/// `NAME=value`
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.starts_with(|c: char| is_name(c) && !c.is_ascii_digit()) && name.chars().all(is_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_only_set_up_their_own_shell() {
        for line in [
            "cd run1",
            "cd run1; export A=1",
            "module load gcc && cd x",
            "source env.sh",
            ". ./env.sh  # once",
            "conda activate a",
            "A=1 B=2",
            "A=1; B=2",
            "ml gcc",
            "ulimit -c 0",
        ] {
            assert!(only_sets_up(line.as_bytes()), "{line}");
        }
        for line in [
            "cd run1 && ./sim",
            "cd run1; ./sim",
            "A=1 ./sim",
            "module list",
            "conda run a b",
            "cd x || exit 1",
            "export A=1 | cat",
            "cdo a",
            "source env.sh && make",
            "(cd x)",
            "cd x & ./sim",
            "./sim",
            "",
            "echo a=1",
            "source 'a b'; ./sim",
        ] {
            assert!(!only_sets_up(line.as_bytes()), "{line}");
        }
    }
}
