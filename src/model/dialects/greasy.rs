//! GREASY: `[# 3, -1, 5-7 #]` before a command says for which lines it waits, `[@ folder @]` where
//! it runs. Lines count from 1, comments and blank lines too.
//!
//! Lines for which the same tasks wait share a name.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use super::out::{Around, Out};
use super::text::{Result, lines, shown, trim};
use crate::model::attributes::Attributes;
use crate::model::tool::{List, Refusal};

/// So many pairs of a line and one that waits for it are followed.
const MOST_EDGES: u64 = 20_000_000;

/// A line with a command.
struct Task<'a> {
    line: u64,
    folder: Option<&'a [u8]>,
    command: &'a [u8],
    waits: Vec<RangeInclusive<u64>>,
}

pub(super) fn translate(list: &List<'_>, out: &mut Out) -> Result<()> {
    let tasks = lines(list.text).map(|(number, line)| task(number, line));
    let tasks: Vec<Option<Task<'_>>> = tasks.collect::<Result<_>>()?;
    let names = names(&tasks, list)?;
    for ((number, line), task) in lines(list.text).zip(&tasks) {
        let Some(task) = task else {
            out.comment(number, line)?;
            continue;
        };
        let mut attributes = Attributes {
            name: names.get(&number).cloned(),
            ..Attributes::default()
        };
        let mut seen = HashSet::new();
        let waits = task.waits.iter().cloned().flatten();
        for name in waits.filter_map(|line| names.get(&line)) {
            if seen.insert(name) {
                attributes.after.push(name.clone());
            }
        }
        let command = match task.folder {
            Some(folder) => [b"cd ", folder, b" && ", task.command].concat(),
            None => task.command.to_vec(),
        };
        out.task(number, &Around::default(), &command, &attributes)?;
    }
    Ok(())
}

/// The names of lines for which others wait.
fn names(tasks: &[Option<Task<'_>>], list: &List<'_>) -> Result<HashMap<u64, String>> {
    let mut waiting: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut edges = 0;
    for task in tasks.iter().flatten() {
        for line in task.waits.iter().cloned().flatten() {
            let is_task = usize::try_from(line - 1).is_ok_and(|at| tasks[at].is_some());
            if !is_task {
                let what = format!(
                    "it waits for line {line}, which has no command: GREASY leaves such a task out"
                );
                return Err(Refusal::of(task.line, what));
            }
            edges += 1;
            if edges > MOST_EDGES {
                let what = "tasks wait for too many others: write #PYTF barrier ok between them";
                return Err(Refusal::of(task.line, what));
            }
            let waiting = waiting.entry(line).or_default();
            if waiting.last() != Some(&task.line) {
                waiting.push(task.line);
            }
        }
    }
    let mut lines: Vec<_> = waiting.into_iter().collect();
    lines.sort_unstable();
    let mut classes: HashMap<Vec<u64>, Vec<u64>> = HashMap::new();
    for (line, waiting) in lines {
        classes.entry(waiting).or_default().push(line);
    }
    let mut names = HashMap::new();
    for lines in classes.into_values() {
        let (from, to) = (lines[0], lines[lines.len() - 1]);
        let mut name = match lines.len() {
            1 => format!("line{from}"),
            _ => format!("lines{from}-{to}"),
        };
        // Another class may begin and end in between, but not with both of these lines.
        if list.is_added {
            let mut hasher = DefaultHasher::new();
            list.text.hash(&mut hasher);
            name += &format!(".{:08x}", hasher.finish() & 0xffff_ffff);
        }
        names.extend(lines.into_iter().map(|line| (line, name.clone())));
    }
    Ok(names)
}

/// What a line says; nothing if it is blank or a comment.
fn task(number: u64, line: &[u8]) -> Result<Option<Task<'_>>> {
    let mut rest = trim(line);
    if matches!(rest.first(), None | Some(b'#')) {
        return Ok(None);
    }
    let mut task = Task {
        line: number,
        folder: None,
        command: b"",
        waits: Vec::new(),
    };
    loop {
        let wrong = |what: &str| Refusal::of(number, what);
        if let Some(after) = rest.strip_prefix(b"[@") {
            let end = memchr::memmem::find(after, b"@]");
            let end = end.ok_or_else(|| wrong("'[@' is not closed with '@]'"))?;
            let folder = trim(&after[..end]);
            if folder.is_empty() || task.folder.is_some() {
                return Err(wrong("one folder is expected between '[@' and '@]'"));
            }
            task.folder = Some(folder);
            rest = trim(&after[end + 2..]);
        } else if let Some(after) = rest.strip_prefix(b"[#") {
            let end = memchr::memmem::find(after, b"#]");
            let end = end.ok_or_else(|| wrong("'[#' is not closed with '#]'"))?;
            if !task.waits.is_empty() {
                return Err(wrong("'[# #]' is there twice: write one list with commas"));
            }
            task.waits = waits(number, &after[..end])?;
            rest = trim(&after[end + 2..]);
        } else {
            break;
        }
    }
    if rest.is_empty() {
        return Err(Refusal::of(
            number,
            "no command follows: GREASY leaves such a line out",
        ));
    }
    if memchr::memmem::find(rest, b"[@")
        .is_some_and(|at| memchr::memmem::find(&rest[at..], b"@]").is_some())
    {
        let what = "GREASY takes '[@ @]' for the folder of the task, also inside the command: \
                    write it before the command";
        return Err(Refusal::of(number, what));
    }
    task.command = rest;
    Ok(Some(task))
}

/// The lines of `3, -1, 5-7`.
fn waits(number: u64, text: &[u8]) -> Result<Vec<RangeInclusive<u64>>> {
    let text = String::from_utf8_lossy(text);
    let mut all = Vec::new();
    if text.trim().is_empty() {
        return Ok(all);
    }
    for item in text.split(',').map(str::trim) {
        let line = |text: &str| {
            let text = text.trim();
            let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u64>()
                .ok()
                .filter(|_| is_number && !text.starts_with('0'))
        };
        let range = match item.split_once('-') {
            None => line(item).map(|line| line..=line),
            Some(("", back)) => {
                let line = line(back).and_then(|back| number.checked_sub(back));
                line.map(|line| line..=line)
            }
            Some((from, to)) => {
                let ends = line(from).zip(line(to));
                ends.map(|(from, to)| from.min(to)..=from.max(to))
            }
        };
        let range = range.filter(|range| *range.start() > 0).ok_or_else(|| {
            let item = shown(item.as_bytes());
            let what = format!(
                "'{item}' is not a line above: write 3 for a line, -1 for the line before, 5-7 for \
                 several"
            );
            Refusal::of(number, what)
        })?;
        if *range.end() >= number {
            let what = format!(
                "it waits for line {}, which is not above it: GREASY leaves such a task out",
                range.end()
            );
            return Err(Refusal::of(number, what));
        }
        all.push(range);
    }
    Ok(all)
}
