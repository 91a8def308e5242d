//! runtask.sh of DistributedTaskQueue: tags in the comment after a command.
//!
//! | tag | meaning there | here |
//! |---|---|---|
//! | `#!` | each worker executes the line in its own shell | the lines below begin with it |
//! | `#@2` | worker 2 runs it | `node=worker-2` |
//! | `#:g` | after all lines above with `#:g` or `#+g` have finished | `after=` |
//! | `#+g` | after all lines above with `#:g` have finished | `after=` |
//!
//! A list that runtask.sh has worked on has what it did in comments.

use std::collections::HashMap;

use super::out::{Around, Out};
use super::text::{Result, lines, shown, trim};
use crate::model::attributes::Attributes;
use crate::model::setup;
use crate::model::shell_text::{Piece, comment, pieces};
use crate::model::tool::{List, Refusal};

/// Words that change which list a worker has, or end it.
const FLOW: [&str; 4] = ["exit", "newtask=", "newid=", "jumpto="];

/// The lines of a group for which the next one has to wait.
#[derive(Default)]
struct Group {
    /// How many lines with `#:`.
    number: u64,
    /// The last of them.
    sequential: Option<String>,
    /// Those with `#+` since then.
    parallel: Vec<String>,
}

/// The tags of a line.
#[derive(Default)]
struct Tags<'a> {
    is_init: bool,
    workers: Vec<&'a str>,
    sequential: Vec<&'a str>,
    parallel: Vec<&'a str>,
}

pub(super) fn translate(list: &List<'_>, out: &mut Out) -> Result<()> {
    let mut around = Around::default();
    let mut groups: HashMap<&str, Group> = HashMap::new();
    for (number, line) in lines(list.text) {
        let text = trim(line);
        if matches!(text.first(), None | Some(b'#')) {
            check_done(number, text)?;
            if text.starts_with(b"#LASTWORKER") {
                out.line(number, b"");
            } else {
                out.comment(number, line)?;
            }
            continue;
        }
        let at = comment(text);
        let command = trim(&text[..at.unwrap_or(text.len())]);
        let tags = match at {
            Some(at) => Tags::of(number, &text[at..])?,
            None => Tags::default(),
        };
        check_variables(number, command)?;
        if tags.is_init {
            if init(number, command, &tags, list, out)? {
                around.prefix = joined(&around.prefix, command);
            }
            out.line(number, b"");
            continue;
        }
        let mut attributes = wait(number, &tags, &mut groups);
        if !tags.workers.is_empty() {
            let labels: Vec<_> = tags
                .workers
                .iter()
                .map(|id| format!("worker-{id}"))
                .collect();
            for (id, label) in tags.workers.iter().zip(&labels) {
                out.note(format!(
                    "#@{id} means nodes with the label {label}: start pytf there with --label \
                     {label}"
                ));
            }
            attributes.node = Some(labels.join(","));
        }
        out.task(number, &around, command, &attributes)?;
    }
    Ok(())
}

impl<'a> Tags<'a> {
    /// Those of a comment.
    fn of(number: u64, comment: &'a [u8]) -> Result<Self> {
        let mut tags = Self::default();
        for part in comment.split(|&byte| byte == b'#').skip(1) {
            let part = part.trim_ascii_end();
            let refused = |what: &str| {
                let what = format!("'#{}' is not a tag: {what}", shown(part));
                Err(Refusal::of(number, what))
            };
            let Some((kind @ (b'!' | b'@' | b':' | b'+'), name)) = part.split_first() else {
                continue;
            };
            if *kind == b'!' {
                tags.is_init = true;
                continue;
            }
            let Ok(name) = std::str::from_utf8(name) else {
                return refused("it is not UTF-8");
            };
            if name.is_empty() {
                return refused("a name follows it, as in #:group and #@2");
            }
            if name.contains([' ', '\t', ',']) {
                return refused("its name has no blank and no comma");
            }
            match kind {
                b'@' if !name.bytes().all(|byte| byte.is_ascii_digit()) => {
                    return refused("the number of a worker follows #@");
                }
                b'@' => tags.workers.push(name),
                b':' => tags.sequential.push(name),
                _ => tags.parallel.push(name),
            }
        }
        Ok(tags)
    }
}

/// For which tasks a line waits, and its own name.
fn wait<'a>(number: u64, tags: &Tags<'a>, groups: &mut HashMap<&'a str, Group>) -> Attributes {
    let all = || tags.sequential.iter().chain(&tags.parallel);
    let mut after = Vec::new();
    for (nth, group) in all().enumerate() {
        let group = groups.entry(group).or_default();
        after.extend(group.sequential.clone());
        if nth < tags.sequential.len() {
            after.append(&mut group.parallel);
        }
    }
    let mut seen = std::collections::HashSet::new();
    after.retain(|name| seen.insert(name.clone()));
    let name = match (&tags.sequential[..], &tags.parallel[..]) {
        ([], []) => None,
        ([group], []) => groups
            .get(group)
            .map(|of| format!("{group}.{}", of.number + 1)),
        ([], [group]) => groups
            .get(group)
            .map(|of| format!("{group}.{}+", of.number)),
        _ => Some(format!("line{number}")),
    };
    if let Some(name) = &name {
        for group in &tags.sequential {
            let group = groups.entry(group).or_default();
            group.number += 1;
            group.sequential = Some(name.clone());
        }
        for group in &tags.parallel {
            let group = groups.entry(group).or_default();
            if group.parallel.last() != Some(name) {
                group.parallel.push(name.clone());
            }
        }
    }
    Attributes {
        name,
        after,
        ..Attributes::default()
    }
}

/// Whether the lines below begin with this one; another runs once per node.
fn init(
    number: u64,
    command: &[u8],
    tags: &Tags<'_>,
    list: &List<'_>,
    out: &mut Out,
) -> Result<bool> {
    let text = shown(command);
    let begins = |word: &str| command.starts_with(word.as_bytes());
    if FLOW.iter().any(|word| begins(word)) {
        let what = format!(
            "'{text}' with #! changes what workers do at this place of the list: 'pytf drain' \
             retires a node, 'pytf add WORKDIR --from LIST' adds the tasks of another list"
        );
        return Err(Refusal::of(number, what));
    }
    if !tags.workers.is_empty() || !tags.sequential.is_empty() || !tags.parallel.is_empty() {
        let what = "a line with #! is for all workers: other tags with it cannot be carried over; \
                    write a condition, as in [ \"$PYTF_NODE\" != n2 ] || cd data";
        return Err(Refusal::of(number, what));
    }
    if setup::only_sets_up(command) {
        return Ok(true);
    }
    if list.node.setup {
        out.note(format!(
            "line {number}: --node-setup runs in place of '{text}'"
        ));
        return Ok(false);
    }
    let what = format!(
        "'{text}' with #! runs once in each worker, and is more than cd, export, module, source \
         or an assignment without quotes: with --node-setup COMMAND this line is accepted, and \
         COMMAND runs once per node in place of it; or write it into each line"
    );
    Err(Refusal::of(number, what))
}

/// What all lines begin with, and one more.
fn joined(prefix: &[u8], command: &[u8]) -> Vec<u8> {
    let mut all = prefix.to_vec();
    if !all.is_empty() {
        all.push(b' ');
    }
    all.extend_from_slice(command);
    if !command.ends_with(b";") {
        all.push(b';');
    }
    all
}

/// A line that a worker has taken is a comment; one that it has not finished cannot be judged.
fn check_done(number: u64, comment: &[u8]) -> Result<()> {
    let is_taken = comment.starts_with(b"#")
        && memchr::memmem::find(comment, b" # worker ").is_some()
        && comment.ends_with(b"...");
    if !is_taken {
        return Ok(());
    }
    let what = "a worker has taken this line and not finished it: when none runs, 'runtask.sh LIST \
                --reset' makes the list new, or remove the # and all from '# worker' on";
    Err(Refusal::of(number, what))
}

fn check_variables(number: u64, command: &[u8]) -> Result<()> {
    for piece in pieces(command) {
        let Piece::Variable { at, name } = piece else {
            continue;
        };
        let instead = match name {
            "WORKERID" => "$PYTF_NODE and $PYTF_SLOT say where a task runs",
            "TASKFILE" => "write the path of the list",
            _ => continue,
        };
        return Err(Refusal {
            line: number,
            column: at as u64 + 1,
            what: format!("${name} is set by runtask only: {instead}"),
        });
    }
    Ok(())
}
