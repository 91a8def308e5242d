//! Parts of a line that mean something to another tool and not to a shell: directives of
//! other task farmers, and variables that only they set.
//!
//! Such a line would run, but not do what its author meant: a barrier would be a comment, and
//! the tasks before and after it would run at the same time. Guarantee: only forms that never
//! occur in a plain list of commands are found; text in quotes is never a directive.

use std::collections::HashSet;

use super::shell_text::{Piece, comment, pieces};
use super::tool::Tool;

/// A mark of another tool in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignSyntax {
    /// Where it begins in the line, in bytes from 0.
    pub at: usize,
    /// What it is.
    pub what: String,
    /// What to do, where the list is not read as one of the tool already.
    pub how: String,
    /// The mark itself, for a message.
    pub shown: String,
    /// The tool, where its lists are understood.
    pub tool: Option<Tool>,
}

/// Comments that are directives to a tool, alone in a line or after a command.
const DIRECTIVES: [(&str, &str, Option<Tool>); 7] = [
    ("#DISBATCH", "disBatch", Some(Tool::DisBatch)),
    ("#HYPERSHELL", "HyperShell", None),
    ("#SWARM", "swarm", Some(Tool::Swarm)),
    ("#METAQ", "METAQ", None),
    ("#HQ", "HyperQueue", None),
    ("#FLUX", "Flux", None),
    ("#LASTWORKER", "runtask", Some(Tool::Runtask)),
];
/// Variables that only another farmer sets, by how their names begin.
const FAMILIES: [(&str, &str, Option<Tool>); 8] = [
    ("LAUNCHER_", "launcher", Some(Tool::Launcher)),
    ("DISBATCH_", "disBatch", Some(Tool::DisBatch)),
    ("HQ_", "HyperQueue", None),
    ("PARALLEL_SEQ", "GNU parallel", Some(Tool::Parallel)),
    ("PARALLEL_JOBSLOT", "GNU parallel", Some(Tool::Parallel)),
    ("SWARM_COMM_ID", "swarm", Some(Tool::Swarm)),
    ("SWARM_PROC_ID", "swarm", Some(Tool::Swarm)),
    ("SWARM_ARRAY_TASK_ID", "swarm", Some(Tool::Swarm)),
];

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
        return directive(line, 0).or_else(|| interpreter(line));
    }
    prefix(line)
        .or_else(|| trailing(line))
        .or_else(|| macro_word(line))
        .or_else(|| variable(line, is_set))
}

impl ForeignSyntax {
    /// A mark of a tool whose lists are understood.
    fn of(tool: Tool, at: usize, shown: String, what: String) -> Self {
        // It is a stream, or no list at all: else its list would have been recognized.
        let how = format!(
            "with --tasklist {} a list is read as its list, with --plain as it is",
            tool.name()
        );
        let tool = Some(tool);
        Self {
            at,
            what,
            how,
            shown,
            tool,
        }
    }

    /// A mark of another tool.
    fn unknown(at: usize, shown: String, what: String, how: &str) -> Self {
        Self {
            at,
            what,
            how: format!("{how}or run the list as it is with --plain"),
            shown,
            tool: None,
        }
    }
}

/// What a comment at this place of a line means that begins with the word of a directive.
fn directive(comment: &[u8], at: usize) -> Option<ForeignSyntax> {
    let is = |word: &str| {
        let rest = comment.strip_prefix(word.as_bytes());
        rest.is_some_and(|rest| {
            rest.first()
                .is_none_or(|b| matches!(b, b' ' | b'\t' | b':'))
        })
    };
    let mark = shown(comment);
    if comment.starts_with(b"#PYTF:") {
        let what = format!("'{mark}' is not followed");
        let how = "a directive is written #PYTF, without a colon; write it so, ";
        return Some(ForeignSyntax::unknown(at, mark, what, how));
    }
    let (_, name, tool) = DIRECTIVES.iter().find(|(word, ..)| is(word))?;
    let what = format!("'{mark}' is a directive of {name}");
    Some(if let Some(tool) = tool {
        ForeignSyntax::of(*tool, at, mark, what)
    } else {
        let how = "pytf does not follow it: remove it, ";
        ForeignSyntax::unknown(at, mark, what, how)
    })
}

/// A first line by which GNU parallel runs the lines below as arguments of its command.
fn interpreter(line: &[u8]) -> Option<ForeignSyntax> {
    let has = |word: &str| memchr::memmem::find(line, word.as_bytes()).is_some();
    let is_it =
        line.starts_with(b"#!") && has("parallel") && (has("--shebang") || has("--hashbang"));
    is_it.then(|| {
        let mark = shown(line);
        let what = format!(
            "'{mark}' makes the lines below arguments of a command of GNU parallel, which pytf \
             would take for commands"
        );
        let how = "run 'pytf -w DIR -- COMMAND :::: LIST' with a list without this line, ";
        ForeignSyntax::unknown(0, mark, what, how)
    })
}

/// GREASY's and pylauncher's forms, in front of a command.
fn prefix(line: &[u8]) -> Option<ForeignSyntax> {
    let has = |end: &[u8]| memchr::memmem::find(line, end).map(|at| shown(&line[..at + 2]));
    let of = |form: String, what: &str, tool: Tool| {
        let what = format!("'{form}' says to {what}");
        Some(ForeignSyntax::of(tool, 0, form, what))
    };
    if let Some(form) = line.strip_prefix(b"[#").and_then(|_| has(b"#]")) {
        return of(form, "GREASY what the task waits for", Tool::Greasy);
    }
    if let Some(form) = line.strip_prefix(b"[@").and_then(|_| has(b"@]")) {
        return of(form, "GREASY where the task runs", Tool::Greasy);
    }
    let digits = line.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits > 0 && line.get(digits) == Some(&b',') && line.len() > digits + 1 {
        let what = "pylauncher how many cores the task has";
        return of(shown(&line[..=digits]), what, Tool::Pylauncher);
    }
    None
}

/// A directive after a command.
fn trailing(line: &[u8]) -> Option<ForeignSyntax> {
    memchr::memchr(b'#', line)?;
    let at = comment(line)?;
    let comment = &line[at..];
    directive(comment, at).or_else(|| {
        is_runtask(comment).then(|| {
            let mark = shown(comment);
            let what = format!("'{mark}' is a tag of runtask (DistributedTaskQueue)");
            ForeignSyntax::of(Tool::Runtask, at, mark, what)
        })
    })
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
                let what = format!("'{word}' is replaced by pylauncher only: write $PYTF_TASK_ID");
                let mark = word.to_owned();
                return Some(ForeignSyntax::of(Tool::Pylauncher, at, mark, what));
            }
        }
    }
    let at = memchr::memmem::find(line, b"%TASKFARM_")?;
    let rest = &line[at + 1..];
    let len = rest.iter().take_while(|&&b| is_word(b)).count();
    (rest.get(len) == Some(&b'%')).then(|| {
        let mark = shown(&line[at..at + len + 2]);
        let what = format!("'{mark}' is replaced by TaskFarm only");
        ForeignSyntax::unknown(at, mark, what, "write $PYTF_TASK_ID, ")
    })
}

/// A variable of another task farmer that is not set.
fn variable(line: &[u8], is_set: &dyn Fn(&str) -> bool) -> Option<ForeignSyntax> {
    unset(line, is_set).find_map(|(at, name)| {
        let (_, setter, tool) = FAMILIES
            .iter()
            .find(|(family, ..)| name.starts_with(family))?;
        let mark = format!("${name}");
        let what = format!(
            "{mark} is set by {setter} only: a task of pytf has $PYTF_TASK_ID, $PYTF_SLOT and \
             $PYTF_NODE"
        );
        Some(match tool {
            Some(tool) => ForeignSyntax::of(*tool, at, mark, what),
            None => ForeignSyntax::unknown(at, mark, what, "write one of these, "),
        })
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
        find(line.as_bytes(), &is_set).map(|mark| (mark.at, mark.what + ": " + &mark.how))
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
            ("#LASTWORKER 3", 0, "runtask"),
            ("#!/usr/bin/parallel --shebang -r wget", 0, "GNU parallel"),
            ("echo $SWARM_PROC_ID", 5, "swarm"),
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
            "#!/usr/bin/parallel",
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
