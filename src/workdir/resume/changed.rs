//! A list that has changed since the workdir was made from it.
//!
//! It is matched by the text of its lines, and the how-manieth occurrence of it: a line
//! that was there keeps its id, a new one gets the next free id, one that vanished
//! leaves `toprocess`. Others rely on this: an id never means another line than before,
//! and what is done or in the hands of a live farmer is not queued again.

use super::key;
use super::list::{ListFile, ListTrouble};
use crate::model::task::{TaskId, parse_line, push_line};
use crate::model::tasklist::Remarks;
use crate::workdir::commit::Txn;
use crate::workdir::error::{Context, Result};
use crate::workdir::layout::{FAILED, FINISHED, TASKS, TOPROCESS};
use crate::workdir::state::{Members, Queue};

/// How a list differs from the one that the workdir knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Lines that are new.
    pub new: u64,
    /// The id that the first of them got.
    pub first_new: u64,
    /// Lines that are gone.
    pub vanished: u64,
    /// Of these, tasks that will not run any more.
    pub dropped: u64,
}

/// The known tasks by text, and which occurrences the new list has used.
struct ByText {
    tasks: Vec<((u64, u64), u64)>,
    used: Vec<bool>,
}

impl ByText {
    fn read(txn: &mut Txn<'_>) -> Result<Self> {
        let mut tasks = Vec::new();
        txn.each_line(TASKS, |line| {
            if let Some((id, text)) = parse_line(line) {
                tasks.push((key(text), id.0));
            }
        })?;
        tasks.sort_unstable();
        let used = vec![false; tasks.len()];
        Ok(Self { tasks, used })
    }

    /// The first task with this text that is not yet used.
    fn take(&mut self, line: &[u8]) -> Option<u64> {
        let key = key(line);
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
            .map(|((_, id), _)| *id)
    }
}

/// Matches a list with the known tasks; writes `toprocess` anew when it differs.
pub(super) fn matched(
    txn: &mut Txn<'_>,
    list: &ListFile,
    strict: bool,
) -> Result<(Remarks, Option<Changed>), ListTrouble> {
    let was_known = txn.state().tasks.lines;
    let mut by_text = ByText::read(txn)?;
    let (mut order, mut new, mut next) = (Vec::new(), Vec::new(), was_known);
    let remarks = list.each(|line| {
        order.push(by_text.take(line).unwrap_or_else(|| {
            push_line(&mut new, TaskId(next), line);
            next += 1;
            next - 1
        }));
        Ok(())
    })?;
    let is_same = next == was_known && order.iter().copied().eq(0..was_known);
    let is_prepared = txn.state().seq > 0;
    if is_same && is_prepared {
        return Ok((remarks, None));
    }
    let n_new = next - was_known;
    let mut changed = Changed {
        new: n_new,
        first_new: was_known,
        ..Changed::default()
    };
    changed.vanished = by_text.vanished().count() as u64;
    if is_prepared {
        refuse(&changed, was_known, order.len() as u64, list, strict)?;
    }
    let busy = busy(txn, next)?;
    let gone = by_text.vanished().filter(|&id| !busy[index(id)]).count() as u64;
    changed.dropped = gone.saturating_sub(txn.state().dropped);
    txn.state_mut().dropped = gone;
    txn.append_tasks(&new, n_new)?;
    requeue_all(txn, list, &order, &busy)?;
    Ok((remarks, (!is_same).then_some(changed)))
}

fn refuse(
    changed: &Changed,
    was_known: u64,
    lines: u64,
    list: &ListFile,
    strict: bool,
) -> Result<(), ListTrouble> {
    let name = list.path.display();
    if strict {
        return Err(ListTrouble::Refused(format!(
            "{name} is not the list that this workdir was made from: {} lines are new, {} are gone; \
             without --strict it is matched line by line",
            changed.new, changed.vanished
        )));
    }
    if was_known > 0 && lines > 0 && changed.new == lines {
        return Err(ListTrouble::Refused(format!(
            "no line of {name} is among the {was_known} tasks of this workdir: it belongs to another \
             list; choose another with --workdir"
        )));
    }
    Ok(())
}

/// Which tasks must not be queued: done, or in the hands of a live farmer.
fn busy(txn: &mut Txn<'_>, n: u64) -> Result<Vec<bool>> {
    let mut busy = vec![false; usize::try_from(n).unwrap_or(0)];
    for name in [FINISHED, FAILED] {
        txn.each_line(name, |line| {
            let id = parse_line(line).and_then(|(id, _)| usize::try_from(id.0).ok());
            if let Some(busy) = id.and_then(|id| busy.get_mut(id)) {
                *busy = true;
            }
        })?;
    }
    for member in Members::after(&txn.entries()?).iter() {
        for id in member.open.ids().iter() {
            if let Some(busy) = busy.get_mut(index(id.0)) {
                *busy = true;
            }
        }
    }
    Ok(busy)
}

fn index(id: u64) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

/// Writes `toprocess` anew: the lines of the list, in its order, that are not busy.
fn requeue_all(
    txn: &mut Txn<'_>,
    list: &ListFile,
    order: &[u64],
    busy: &[bool],
) -> Result<(), ListTrouble> {
    let mut queue = txn.new_file(TOPROCESS)?;
    let mut order = order.iter();
    list.each(|line| match order.next() {
        Some(&id) if !busy[index(id)] => queue
            .write_task(TaskId(id), line)
            .context("write", TOPROCESS),
        _ => Ok(()),
    })?;
    let (known, generation) = (queue.known(), txn.state().queue.generation + 1);
    txn.state_mut().queue = Queue {
        len: known.len,
        left: known.lines,
        cursor: 0,
        generation,
        head: queue.head(),
    };
    txn.replace(TOPROCESS, queue)?;
    Ok(())
}
