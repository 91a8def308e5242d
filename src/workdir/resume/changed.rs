//! A list that has changed since the workdir was made from it.
//!
//! It is matched by the text of its lines, and the n-th occurrence of it: a line that was there
//! keeps its id, a new one gets the next free id, a line that was removed leaves `toprocess`
//! and `failed`. Tasks of `pytf add` are not of the list: no line is matched with them, and they
//! stay where they are. What is said of a task is not matched: where it has changed, the new line
//! takes the place of the old one in `tasks`, `toprocess` and `failed`. Guarantee: an id never means another command than before; a task that has
//! ended or that a live farmer has claimed is not queued again; every other line of the list is
//! in `toprocess` afterwards, and so is every added task that was there.

use crate::workdir::state::{Act, Members};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::list::{ListFailure, ListFile};
use crate::model::attributes::split;
use crate::model::ids::{IdSet, Ids};
use crate::model::task::{TaskId, fingerprint, parse_line, push_line};
use crate::model::tasklist::Remarks;
use crate::workdir::error::{Context, Result};
use crate::workdir::files::{NewFile, lines_of};
use crate::workdir::layout::{FAILED, FINISHED, TASKS, TOPROCESS};
use crate::workdir::orders;
use crate::workdir::retry::take_failed;
use crate::workdir::transaction::{RequeueReason, Txn, has_attributes};

/// How a list differs from the one that the workdir knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListChanges {
    /// Lines that are new.
    pub new: u64,
    /// The id that the first of them got.
    pub first_new: u64,
    /// Lines that are gone.
    pub vanished: u64,
    /// Of these, tasks that waited and will not run.
    pub dropped: u64,
    /// Of these, tasks that had failed and count no longer.
    pub forgotten: u64,
    /// Tasks that had been dropped and wait again, since their lines are back.
    pub restored: u64,
    /// Tasks of which something else is said than before.
    pub attributes: u64,
}

/// What may become of a workdir whose list has changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct EditPolicy {
    /// No difference is accepted: `--strict`.
    pub strict: bool,
    /// Tasks that wait are dropped when their lines are gone: `--drop`.
    pub drop: bool,
}

/// The known tasks of the list by text, and which occurrences the new list has used.
struct ByText {
    tasks: Vec<((u64, u64), Known)>,
    used: Vec<bool>,
}

/// A task that the workdir knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    id: u64,
    /// A hash of what is said of it.
    said: u64,
}

/// A hash of what is said of the task of a line.
fn said(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    split(line).1.unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

impl ByText {
    /// All but these.
    fn read(txn: &mut Txn<'_>, added: &IdSet) -> Result<Self> {
        let mut tasks = Vec::new();
        txn.each_line(TASKS, |line| {
            if let Some((id, text)) = parse_line(line)
                && !added.contains(id)
            {
                let (id, said) = (id.0, said(text));
                tasks.push((fingerprint(text), Known { id, said }));
            }
        })?;
        tasks.sort_unstable();
        let used = vec![false; tasks.len()];
        Ok(Self { tasks, used })
    }

    /// The first task with this text that is not yet used.
    fn take(&mut self, line: &[u8]) -> Option<Known> {
        let key = fingerprint(line);
        let from = self.tasks.partition_point(|(there, _)| *there < key);
        let same = self.tasks[from..]
            .iter()
            .take_while(|(there, _)| *there == key)
            .count();
        let free = (from..from + same).find(|&at| !self.used[at])?;
        self.used[free] = true;
        Some(self.tasks[free].1)
    }

    fn vanished(&self) -> impl Iterator<Item = u64> + '_ {
        self.tasks
            .iter()
            .zip(&self.used)
            .filter(|(_, used)| !**used)
            .map(|((_, known), _)| known.id)
    }
}

/// Where a task is that the workdir has known before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In none of the files: its line had vanished, and it was dropped.
    Dropped,
    Waiting,
    Claimed,
    Failed,
    Finished,
}

/// The result of matching a list with the known tasks.
pub(super) struct Matched {
    pub(super) remarks: Remarks,
    pub(super) changed: Option<ListChanges>,
    /// The entry for the log.
    pub(super) act: Act,
}

impl Matched {
    fn new(remarks: Remarks, changed: Option<ListChanges>, gone: Gone) -> Self {
        let forgotten: Ids = gone.failed.into_iter().collect();
        let act = if forgotten.is_empty() {
            Act::Prepare
        } else {
            Act::Edit { forgotten }
        };
        Self {
            remarks,
            changed,
            act,
        }
    }
}

/// Matches a list with the known tasks; rewrites `toprocess` when it differs.
pub(super) fn matched(
    txn: &mut Txn<'_>,
    list: &ListFile,
    edits: EditPolicy,
) -> Result<Matched, ListFailure> {
    txn.gather_all()?;
    let was_known = txn.state().tasks.lines;
    let is_prepared = txn.state().seq > 0;
    let added = orders::added(txn, 0)?;
    let mut by_text = ByText::read(txn, &added)?;
    let of_list = by_text.tasks.len() as u64;
    // The run began with tasks that were added.
    let is_first_list = of_list == 0 && !added.is_empty();
    let places = places(txn, was_known)?;
    let mut queue = txn.new_file(TOPROCESS)?;
    let (mut new, mut next, mut lines) = (Vec::new(), was_known, 0);
    let (mut in_order, mut above, mut restored) = (true, 0, Vec::new());
    let mut resaid = HashMap::new();
    let remarks = list.each(|line| {
        let known = by_text.take(line);
        let id = known.map_or(next, |known| known.id);
        match known {
            None => {
                push_line(&mut new, TaskId(next), line);
                next += 1;
            }
            Some(known) if known.said != said(line) => {
                resaid.insert(TaskId(id), line.to_vec());
            }
            Some(_) => {}
        }
        in_order &= id >= above;
        above = id + 1;
        lines += 1;
        match known.and_then(|known| places.get(index(known.id))) {
            Some(Place::Claimed | Place::Failed | Place::Finished) => return Ok(()),
            Some(Place::Dropped) => restored.push(TaskId(id)),
            Some(Place::Waiting) | None => {}
        }
        let written = queue.write_task(TaskId(id), line);
        written.context("write", TOPROCESS)
    })?;
    let is_same = in_order && next == was_known && lines == of_list;
    if is_same && is_prepared && restored.is_empty() && resaid.is_empty() {
        deal(txn)?;
        return Ok(Matched::new(remarks, None, Gone::default()));
    }
    let gone = Gone::of(&by_text, &places);
    let changed = ListChanges {
        new: next - was_known,
        first_new: was_known,
        vanished: gone.count(),
        dropped: gone.waiting.len() as u64,
        forgotten: gone.failed.len() as u64,
        restored: restored.len() as u64,
        attributes: resaid.len() as u64,
    };
    if is_prepared && !is_first_list {
        refuse(&changed, of_list, lines, is_same, list, edits)?;
        gone.check_may_drop(txn, list, edits)?;
    }
    keep_added(txn, &added, &mut queue)?;
    replace_lines(txn, &resaid)?;
    txn.append(TASKS, &new)?;
    gone.drop_all(txn)?;
    if is_prepared {
        txn.note_restored(&restored)?;
    }
    txn.replace_queue(queue)?;
    note_attributes(txn, &new, &resaid);
    deal(txn)?;
    // If a farmer still runs a task whose line was removed, the next start looks again.
    let is_settled = gone.claimed.is_empty();
    txn.state_mut().list = is_settled.then(|| list.identity.clone());
    let is_changed = !is_same || changed.restored > 0 || changed.attributes > 0;
    let is_reported = !is_first_list && is_changed;
    Ok(Matched::new(remarks, is_reported.then_some(changed), gone))
}

/// Lets these lines take the place of the old ones in `tasks` and `failed`. A task that is
/// claimed now ends with its old line.
fn replace_lines(txn: &mut Txn<'_>, lines: &HashMap<TaskId, Vec<u8>>) -> Result<(), ListFailure> {
    if lines.is_empty() {
        return Ok(());
    }
    if txn.state().feeding > 0 {
        // It reads on where it has stopped in `tasks`.
        let what = "something else is said of tasks than before, which cannot be changed while a \
                    process reads a stream of tasks: run again when it has ended";
        return Err(ListFailure::Refused(what.into()));
    }
    for name in [TASKS, FAILED] {
        txn.replace_lines(name, lines)?;
    }
    Ok(())
}

/// The run has attributes as soon as one of its tasks has.
fn note_attributes(txn: &mut Txn<'_>, new: &[u8], resaid: &HashMap<TaskId, Vec<u8>>) {
    let mut new = new.split(|&byte| byte == b'\n');
    let has_any = new.any(has_attributes) || resaid.values().any(|line| has_attributes(line));
    txn.state_mut().attributes |= has_any;
}

/// While farmers work; else the first that joins does it.
fn deal(txn: &mut Txn<'_>) -> Result<()> {
    if txn.state().live > 0 {
        txn.deal()
    } else {
        Ok(())
    }
}

/// Added tasks that wait go on waiting, after those of the list.
fn keep_added(txn: &mut Txn<'_>, added: &IdSet, queue: &mut NewFile) -> Result<()> {
    if added.is_empty() {
        return Ok(());
    }
    let mut written = Ok(());
    txn.each_line_from(txn.state().queue().cursor, TOPROCESS, |line| {
        if let Some((id, text)) = parse_line(line)
            && added.contains(id)
            && written.is_ok()
        {
            written = queue.write_task(id, text);
        }
    })?;
    written.context("write", TOPROCESS)
}

/// The known tasks whose lines are not in the list, by where they are.
#[derive(Default)]
struct Gone {
    dropped: u64,
    finished: u64,
    waiting: Vec<TaskId>,
    failed: Vec<TaskId>,
    claimed: Vec<TaskId>,
}

impl Gone {
    fn of(by_text: &ByText, places: &[Place]) -> Self {
        let mut gone = Self::default();
        for id in by_text.vanished() {
            match places.get(index(id)) {
                Some(Place::Finished) => gone.finished += 1,
                Some(Place::Dropped) | None => gone.dropped += 1,
                Some(Place::Waiting) => gone.waiting.push(TaskId(id)),
                Some(Place::Failed) => gone.failed.push(TaskId(id)),
                Some(Place::Claimed) => gone.claimed.push(TaskId(id)),
            }
        }
        gone.waiting.sort_unstable();
        gone
    }

    fn count(&self) -> u64 {
        let listed = [&self.waiting, &self.failed, &self.claimed].map(Vec::len);
        self.dropped + self.finished + listed.iter().sum::<usize>() as u64
    }

    /// Tasks that wait are dropped only on request: the list may be
    /// half-written, or another than was meant.
    fn check_may_drop(
        &self,
        txn: &mut Txn<'_>,
        list: &ListFile,
        edits: EditPolicy,
    ) -> Result<(), ListFailure> {
        let Some(&first) = self.waiting.first().filter(|_| !edits.drop) else {
            return Ok(());
        };
        let line = lines_of(txn.dir(), txn.state().tasks, &[first].into_iter().collect())?;
        let line = line.get(&first).map_or(&b""[..], |line| &line[..]);
        let line = String::from_utf8_lossy(&line[..line.len().min(60)]);
        let (n, name) = (self.waiting.len(), list.path.display());
        let (tasks, are) = if n == 1 {
            ("task", "is")
        } else {
            ("tasks", "are")
        };
        let others = match txn.state().live {
            0 => "",
            _ => ", and other farmers work on them",
        };
        Err(ListFailure::Refused(format!(
            "{n} waiting {tasks} {are} not in {name} any more{others}; the first is task {first}: \
             {}\nPut the lines back, or run with --drop if they are not to run",
            line.escape_debug()
        )))
    }

    /// Neither those that wait nor those that failed count any more.
    fn drop_all(&self, txn: &mut Txn<'_>) -> Result<()> {
        let failed: HashSet<TaskId> = self.failed.iter().copied().collect();
        if !failed.is_empty() {
            take_failed(txn, |id, _| failed.contains(&id), RequeueReason::Dropped)?;
        }
        txn.note_dropped(&self.waiting, &self.failed)?;
        let dropped = self.waiting.len() + self.failed.len();
        txn.state_mut().dropped = self.dropped + dropped as u64;
        Ok(())
    }
}

fn refuse(
    changed: &ListChanges,
    of_list: u64,
    lines: u64,
    is_same: bool,
    list: &ListFile,
    edits: EditPolicy,
) -> Result<(), ListFailure> {
    let name = list.path.display();
    if of_list > 0 && lines == 0 {
        return Err(ListFailure::Refused(format!(
            "{name} holds no task, but this workdir was made from a list of {of_list}: was it \
             cut off? For another list choose another workdir with --workdir"
        )));
    }
    if edits.strict && !is_same {
        return Err(ListFailure::Refused(format!(
            "{name} is not the list that this workdir was made from: {} lines are new, {} are gone; \
             without --strict it is matched line by line",
            changed.new, changed.vanished
        )));
    }
    if of_list > 0 && changed.new == lines {
        return Err(ListFailure::Refused(format!(
            "no line of {name} is among the {of_list} tasks of this workdir: it belongs to another \
             list; choose another with --workdir"
        )));
    }
    Ok(())
}

/// Where each known task is.
fn places(txn: &mut Txn<'_>, n: u64) -> Result<Vec<Place>> {
    let mut places = vec![Place::Dropped; index(n)];
    let mut put = |id: u64, place| {
        if let Some(there) = places.get_mut(index(id)) {
            *there = place;
        }
    };
    let cursor = txn.state().queue().cursor;
    for (name, from, place) in [
        (TOPROCESS, cursor, Place::Waiting),
        (FAILED, 0, Place::Failed),
        (FINISHED, 0, Place::Finished),
    ] {
        txn.each_line_from(from, name, |line| {
            if let Some((id, _)) = parse_line(line) {
                put(id.0, place);
            }
        })?;
    }
    for member in Members::after(&txn.entries()?).iter() {
        for id in member.open.ids().iter() {
            put(id.0, Place::Claimed);
        }
    }
    Ok(places)
}

fn index(id: u64) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}
