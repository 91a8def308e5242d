//! Parts of a line that mean something to another tool and not to a shell: directives of
//! other task farmers, and variables that only they set.
//!
//! Such a line would run, but not do what its author meant: a barrier would be a comment, and
//! the tasks before and after it would run at the same time. Guarantee: only forms that never
//! occur in a plain list of commands are found; text in quotes is never a directive.

use std::collections::HashSet;

use super::shell_text::{Piece, comment, pieces};

/// A mark of another tool in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignSyntax {
    /// Where it begins in the line, in bytes from 0.
    pub at: usize,
    /// What it is and what to do.
    pub what: String,
}

/// Comments that are directives to a tool, alone in a line or after a command.
const DIRECTIVES: [(&str, &str); 6] = [
    ("#DISBATCH", "disBatch"),
    ("#HYPERSHELL", "HyperShell"),
    ("#SWARM", "swarm"),
    ("#METAQ", "METAQ"),
    ("#HQ", "HyperQueue"),
    ("#FLUX", "Flux"),
];
/// Variables that only another farmer sets, by how their names begin.
const FAMILIES: [(&str, &str); 5] = [
    ("LAUNCHER_", "launcher"),
    ("DISBATCH_", "disBatch"),
    ("HQ_", "HyperQueue"),
    ("PARALLEL_SEQ", "GNU parallel"),
    ("PARALLEL_JOBSLOT", "GNU parallel"),
];
const PLAIN: &str = "or run the list as it is with --plain";

/// What a list may hold. It is checked for many lines at once: to search for a byte costs far
/// less than to search for such parts, and most lists have none.
#[derive(Debug, Default)]
pub struct Suspicion {
    /// Words that another farmer replaces.
    words: bool,
    /// Variables, or macros between `%`.
    variables: bool,
}

impl Suspicion {
    /// Takes the next part of the list in.
    pub fn read(&mut self, part: &[u8]) {
        self.words |= memchr::memchr(b'P', part).is_some();
        self.variables |= memchr::memchr2(b'$', b'%', part).is_some();
    }

    /// Whether a line that was read may hold a mark or a variable at all.
    pub fn falls_on(&self, line: &[u8]) -> bool {
        self.words
            || matches!(line.first(), Some(b'[' | b'0'..=b'9'))
            || memchr::memchr(b'#', line).is_some()
            || self.variables && memchr::memchr2(b'$', b'%', line).is_some()
    }
}

/// The first such part of a line that has no blanks around it; `is_set` says which
/// variables tasks will have.
pub fn find(line: &[u8], is_set: &dyn Fn(&str) -> bool) -> Option<ForeignSyntax> {
    if line.first() == Some(&b'#') {
        return directive(line).map(|what| ForeignSyntax { at: 0, what });
    }
    prefix(line)
        .or_else(|| trailing(line))
        .or_else(|| macro_word(line))
        .or_else(|| variable(line, is_set))
}

/// What a comment that begins with the word of a directive means.
fn directive(comment: &[u8]) -> Option<String> {
    let is = |word: &str| {
        let rest = comment.strip_prefix(word.as_bytes());
        rest.is_some_and(|rest| {
            rest.first()
                .is_none_or(|b| matches!(b, b' ' | b'\t' | b':'))
        })
    };
    if comment.starts_with(b"#PYTF:") {
        return Some("a directive is written #PYTF, without a colon".to_owned());
    }
    let (_, tool) = DIRECTIVES.iter().find(|(word, _)| is(word))?;
    let instead = instead(comment).map_or("remove it".to_owned(), |ours| format!("write {ours}"));
    Some(format!(
        "'{}' is a directive of {tool}, which pytf does not follow: {instead}, {PLAIN}",
        shown(comment)
    ))
}

/// What of ours means the same as a directive of disBatch.
fn instead(comment: &[u8]) -> Option<&'static str> {
    let words = str::from_utf8(comment).ok()?.to_ascii_uppercase();
    let words: Vec<&str> = words.split_whitespace().collect();
    match words[..] {
        ["#DISBATCH", "BARRIER", "CHECK", ..] => Some("'#PYTF barrier ok' in its place"),
        ["#DISBATCH", "BARRIER", ..] => Some("'#PYTF barrier' in its place"),
        ["#DISBATCH", "PREFIX", ..] => Some("'#PYTF prefix TEXT' in its place"),
        ["#DISBATCH", "SUFFIX", ..] => Some("'#PYTF suffix TEXT' in its place"),
        ["#DISBATCH", "REPEAT", ..] => Some("'#PYTF repeat i=FROM-TO COMMAND' in its place"),
        _ => None,
    }
}

/// GREASY's and pylauncher's forms, in front of a command.
fn prefix(line: &[u8]) -> Option<ForeignSyntax> {
    let has = |end: &[u8]| memchr::memmem::find(line, end).map(|at| shown(&line[..at + 2]));
    let of = |what| Some(ForeignSyntax { at: 0, what });
    if let Some(form) = line.strip_prefix(b"[#").and_then(|_| has(b"#]")) {
        return of(format!(
            "'{form}' says to GREASY what the task waits for, which pytf does not follow: \
             write '#PYTF name=NAME' behind that one and '#PYTF after=NAME' behind this, {PLAIN}"
        ));
    }
    if let Some(form) = line.strip_prefix(b"[@").and_then(|_| has(b"@]")) {
        return of(format!(
            "'{form}' says to GREASY where the task runs: write cd DIR && COMMAND, {PLAIN}"
        ));
    }
    let digits = line.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits > 0 && line.get(digits) == Some(&b',') && line.len() > digits + 1 {
        return of(format!(
            "'{}' says to pylauncher how many cores the task has: remove it and run with \
             --cpus-per-task, {PLAIN}",
            shown(&line[..=digits])
        ));
    }
    None
}

/// A directive after a command.
fn trailing(line: &[u8]) -> Option<ForeignSyntax> {
    memchr::memchr(b'#', line)?;
    let at = comment(line)?;
    let comment = &line[at..];
    let what = directive(comment).or_else(|| {
        is_runtask(comment).then(|| {
            format!(
                "'{}' is a tag of runtask (DistributedTaskQueue), which pytf does not follow: \
                 write what sets up the shell into each line, and '#PYTF after=NAME' where a task \
                 must wait, {PLAIN}",
                shown(comment)
            )
        })
    })?;
    Some(ForeignSyntax { at, what })
}

/// `#!`, `#@2`, `#:group`, `#+group`, and several of them, up to the line's end.
fn is_runtask(comment: &[u8]) -> bool {
    let is_tag = |tag: &[u8]| match tag.split_first() {
        Some((b'!', rest)) => rest.is_empty(),
        Some((b'@', rest)) => !rest.is_empty() && rest.iter().all(u8::is_ascii_digit),
        Some((b':' | b'+', rest)) => !rest.is_empty() && rest.iter().all(|&b| is_word(b)),
        _ => false,
    };
    comment[1..]
        .split(|&b| b == b'#')
        .all(|tag| is_tag(tag.trim_ascii_end()))
}

/// Words that another farmer replaces in the text, wherever they are.
fn macro_word(line: &[u8]) -> Option<ForeignSyntax> {
    // Nearly all lines are told apart by it, for far less.
    memchr::memchr2(b'P', b'%', line)?;
    for word in ["PYL_ID", "PYLTID"] {
        for at in memchr::memmem::find_iter(line, word) {
            let end = at + word.len();
            let alone = (at == 0 || !is_word(line[at - 1]))
                && line.get(end).is_none_or(|&b| !is_word(b) && b != b'=');
            if alone {
                let what = replaced(word, "pylauncher");
                return Some(ForeignSyntax { at, what });
            }
        }
    }
    let at = memchr::memmem::find(line, b"%TASKFARM_")?;
    let rest = &line[at + 1..];
    let len = rest.iter().take_while(|&&b| is_word(b)).count();
    (rest.get(len) == Some(&b'%')).then(|| ForeignSyntax {
        at,
        what: replaced(&shown(&line[at..at + len + 2]), "TaskFarm"),
    })
}

fn replaced(word: &str, tool: &str) -> String {
    format!("'{word}' is replaced by {tool} only: write $PYTF_TASK_ID, {PLAIN}")
}

/// A variable of another task farmer that is not set.
fn variable(line: &[u8], is_set: &dyn Fn(&str) -> bool) -> Option<ForeignSyntax> {
    unset(line, is_set).find_map(|(at, name)| {
        let (_, tool) = FAMILIES
            .iter()
            .find(|(family, _)| name.starts_with(family))?;
        let what = format!(
            "${name} is set by {tool} only: a task of pytf has $PYTF_TASK_ID, $PYTF_SLOT and \
             $PYTF_NODE; {}",
            PLAIN.replacen("or ", "", 1)
        );
        Some(ForeignSyntax { at, what })
    })
}

/// The variables in a line that are not set: neither by the environment of tasks, nor the
/// line, nor the shell.
pub fn unset<'a>(
    line: &'a [u8],
    is_set: &'a dyn Fn(&str) -> bool,
) -> impl Iterator<Item = (usize, &'a str)> {
    let any = memchr::memchr(b'$', line).map(|_| pieces(line));
    let mut seen = HashSet::new();
    any.into_iter()
        .flatten()
        .filter_map(move |piece| match piece {
            Piece::Variable { at, name } => {
                let is_new = seen.insert(name);
                (is_new && !is_shells(name) && !is_set(name) && !is_made_by(line, name))
                    .then_some((at, name))
            }
            Piece::Comment(_) => None,
        })
}

/// Whether the line has the name in another place than where a variable is read:
/// `for i in`, `read x`, `n=3`, `((n++))`.
fn is_made_by(line: &[u8], name: &str) -> bool {
    memchr::memmem::find_iter(line, name).any(|at| {
        let before = line[..at].last();
        let is_whole = line.get(at + name.len()).is_none_or(|&b| !is_word(b));
        is_whole && before.is_none_or(|&b| !is_word(b) && !b"${!#".contains(&b))
    })
}

/// What a shell sets by itself.
fn is_shells(name: &str) -> bool {
    const NAMES: [&str; 32] = [
        "HOME",
        "PATH",
        "PWD",
        "OLDPWD",
        "UID",
        "EUID",
        "PPID",
        "RANDOM",
        "SRANDOM",
        "SECONDS",
        "LINENO",
        "HOSTNAME",
        "IFS",
        "OPTARG",
        "OPTIND",
        "OPTERR",
        "REPLY",
        "PIPESTATUS",
        "FUNCNAME",
        "COLUMNS",
        "LINES",
        "DIRSTACK",
        "GROUPS",
        "HOSTTYPE",
        "MACHTYPE",
        "OSTYPE",
        "SHLVL",
        "SHELL",
        "SHELLOPTS",
        "EPOCHSECONDS",
        "EPOCHREALTIME",
        "MAPFILE",
    ];
    NAMES.contains(&name) || name.starts_with("BASH") || name == "_" || name == "COPROC"
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The beginning of it, as text for a message.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(40)]);
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Option<(usize, String)> {
        let is_set = |name: &str| ["USER", "PYTF_TASK_ID", "LAUNCHER_DIR"].contains(&name);
        find(line.as_bytes(), &is_set).map(|mark| (mark.at, mark.what))
    }

    #[test]
    fn marks_of_other_tools_are_found_with_their_place() {
        for (line, at, tool) in [
            ("#DISBATCH PREFIX cd /work ; ", 0, "disBatch"),
            ("#DISBATCH BARRIER CHECK", 0, "disBatch"),
            ("#DISBATCH", 0, "disBatch"),
            ("#HYPERSHELL: cores:4", 0, "HyperShell"),
            ("./sim 1  #HYPERSHELL: cores:4 memory:2GB", 9, "HyperShell"),
            ("#SWARM -g 5 -t 8", 0, "swarm"),
            ("#METAQ NODES 2", 0, "METAQ"),
            ("#HQ --cpus=2", 0, "HyperQueue"),
            ("#FLUX: -N4", 0, "Flux"),
            ("[# 3 #] ./sim 4", 0, "GREASY"),
            ("[#-1, 2-4 #] ./sim 4", 0, "GREASY"),
            ("[@ /work/a @] ./sim 4", 0, "GREASY"),
            ("5,./prog a", 0, "pylauncher"),
            ("./prog PYL_ID > out.PYL_ID", 7, "pylauncher"),
            ("./prog %TASKFARM_TASKNUM%", 7, "TaskFarm"),
            ("./prog $LAUNCHER_TSK_ID", 7, "launcher"),
            ("./prog \"${LAUNCHER_JID}\"", 8, "launcher"),
            ("echo $DISBATCH_TASKID", 5, "disBatch"),
            ("echo $HQ_TASK_ID", 5, "HyperQueue"),
            ("echo $PARALLEL_SEQ", 5, "GNU parallel"),
            ("cd ~/models #!", 12, "runtask"),
            ("train #:mygroup1", 6, "runtask"),
            ("train #+mygroup1", 6, "runtask"),
            ("train #@2", 6, "runtask"),
            ("exit #!#@1", 5, "runtask"),
            ("train #@1 #@2 ", 6, "runtask"),
        ] {
            let (place, what) = found(line).unwrap_or_else(|| panic!("nothing in {line}"));
            assert_eq!(place, at, "{line}");
            assert!(
                what.contains(tool) && what.contains("--plain"),
                "{line}: {what}"
            );
        }
    }

    #[test]
    fn plain_lines_have_no_marks() {
        for line in [
            "# a comment",
            "#",
            "##PYTF cpus=4",
            "# PYTF",
            "#!/bin/bash",
            "#!/usr/bin/env pytf",
            "#SBATCH --time=1",
            "#HQ2",
            "#DISBATCHED",
            "echo a#b # c",
            "echo '#PYTF a'",
            "echo \"a #PYTF b\"",
            "python -c 'print(1) #! x'",
            "python3 -c \"x = 1 #:a\"",
            "echo \\#PYTF",
            "awk '{print $LAUNCHER_JID}' f",
            "./run # see issue #12",
            "./run #! not a tag",
            "./run #:-)",
            "./run #@home",
            "./run # : a",
            "echo ${#a[@]} $#",
            "[ -f a ] && ./run",
            "[[ a == b ]]",
            "5 a",
            "a,b",
            "1,",
            "echo PYL_IDS $MYPYL_ID",
            "PYL_ID=3 ./run $PYL_IDX",
            "echo 100%",
            "date +%Y%m%d",
            "LAUNCHER_JID=3; echo $LAUNCHER_JID",
            "echo ${LAUNCHER_JID:-0}",
            "echo $LAUNCHER_DIR",
            "echo \\$HQ_TASK_ID",
            "parallel 'echo $PARALLEL_SEQ' ::: a b",
            "sed -e 's#a#b#' f",
            "curl http://a/b#c",
            "grep '#@1' f",
            "echo a; # b",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }

    #[test]
    fn variables_that_nobody_sets_are_named_once() {
        let is_set = |name: &str| name == "USER";
        for (line, names) in [
            ("echo $SEED $SEED ${N}", &["SEED", "N"][..]),
            ("echo $USER $HOME $1 $? $$ $@ ${1} ${#} $BASHPID", &[]),
            ("for i in 1 2; do echo $i; done", &[]),
            ("read x y < f; echo $x $y", &[]),
            ("n=3 && echo $n ${n}", &[]),
            ("echo ${A:-1} ${B-1} ${C:=1} ${D:?no} ${E:+1}", &[]),
            ("echo ${F%.txt} ${G[0]} ${#H}", &["F", "G", "H"]),
            ("awk '{print $NF}' f; echo \"$(awk '{print $NF}' g)\"", &[]),
            ("echo \"it's $K\" # $L", &["K"]),
            ("echo $'a $M' \\$N '$O'", &[]),
            ("i=0; while ((i++ < 3)); do echo $i; done", &[]),
        ] {
            let found: Vec<&str> = unset(line.as_bytes(), &is_set)
                .map(|(_, name)| name)
                .collect();
            assert_eq!(found, names, "{line}");
        }
    }
}
