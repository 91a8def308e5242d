//! Editing the tasks that wait: their order, their commands, which of them run at all.
//!
//! An edit is made without the lock, on a copy. Guarantee: what has changed meanwhile is not undone.
//! A task that was claimed since is left alone, a task that waits since stays, and of two
//! edits each changes what it says; all of an edit is committed, or nothing.

use std::collections::{HashMap, HashSet};

use crate::model::attributes::command;
use crate::model::ids::Ids;
use crate::model::task::{TaskId, parse_line, push_line};
use crate::workdir::cancel::{Author, Cancelled, orders};
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::fs::Workdir;
use crate::workdir::layout::{FAILED, ORDERS, TASKS, TOPROCESS};
use crate::workdir::liveness;
use crate::workdir::names::check_names;
use crate::workdir::orders::Order;
use crate::workdir::state::{Act, State};
use crate::workdir::transaction::{Attempts, Txn, has_attributes};

/// A line of an edited list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A task that waited, with its command, which may have been changed.
    Task(TaskId, &'a [u8]),
    /// A new command.
    New(&'a [u8]),
}

/// What an edit has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edited {
    /// Their lines were deleted or changed: they are in `failed` now.
    pub cancelled: Ids,
    /// New tasks: new lines, and the changed commands.
    pub added: Ids,
    /// Something else is said of them than before.
    pub changed: Ids,
    /// Their lines were deleted or changed, but a farmer has claimed them meanwhile.
    pub left_alone: Ids,
}

/// The lines `ID COMMAND` of all tasks that wait, in the order in which they will be claimed.
pub fn waiting_tasks(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn liveness::Waiting,
) -> Result<Vec<u8>> {
    let mut txn = Txn::begin(workdir, who, waiting)?;
    if txn.state().seq == 0 {
        let what = "the run has not begun: its workdir has no tasks yet";
        return Err(Error::Refused(what.into()));
    }
    txn.gather_all()?;
    lines(&mut txn)
}

fn lines(txn: &mut Txn<'_>) -> Result<Vec<u8>> {
    let cursor = txn.state().queue().cursor;
    let mut lines = Vec::new();
    txn.each_line_from(cursor, TOPROCESS, |line| {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    })?;
    Ok(lines)
}

/// The tasks of such lines.
pub fn tasks(lines: &[u8]) -> impl Iterator<Item = (TaskId, &[u8])> {
    let lines = lines.split(|&byte| byte == b'\n');
    lines.filter_map(parse_line)
}

/// Lets what waits be as it was edited: `before` is what [`waiting_tasks`] returned. `None` when
/// that changes nothing.
pub fn edit(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn liveness::Waiting,
    (before, after): (&[u8], &[Line<'_>]),
    author: &Author,
) -> Result<Option<(State, Edited)>> {
    let mut txn = Txn::begin(workdir, who, waiting)?;
    txn.gather_all()?;
    let now = lines(&mut txn)?;
    let before: HashMap<TaskId, &[u8]> = tasks(before).collect();
    let next = txn.state().tasks.lines;
    let change = Change::of(&before, after, &now, next);
    if change.queue == now {
        let edited = change.edited;
        let is_all = edited.left_alone.is_empty();
        let state = txn.state().clone();
        return Ok((!is_all).then_some((state, edited)));
    }
    let mut attempts = Attempts::default();
    txn.refresh(&mut attempts)?;
    let Change {
        queue,
        added,
        cancelled,
        changed,
        edited,
    } = change;
    txn.append(TASKS, &added)?;
    let lines: Vec<u8> = (changed.iter())
        .flat_map(|(id, text)| [format!("{id} ").as_bytes(), text, b"\n"].concat())
        .collect();
    if !changed.is_empty() && txn.state().feeding > 0 {
        let what = "what is said of a task cannot be changed while a process reads a stream of tasks: \
                    edit again when it has ended";
        return Err(Error::Refused(what.into()));
    }
    txn.replace_lines(TASKS, &changed)?;
    check_names(&mut txn, &[&added[..], &lines].concat())?;
    txn.append(FAILED, &cancelled)?;
    let mut new = txn.new_file(TOPROCESS)?;
    new.write(&queue).context("write", TOPROCESS)?;
    txn.replace_queue(new)?;
    let mut new = tasks(&added).chain(tasks(&lines));
    txn.state_mut().attributes |= new.any(|(_, line)| has_attributes(line));
    if txn.state().live > 0 {
        // Else the first farmer that joins does it.
        txn.deal()?;
    }
    txn.state_mut().cancelled += edited.cancelled.count();
    let done = Cancelled {
        waiting: edited.cancelled.clone(),
        ..Cancelled::default()
    };
    let mut orders = orders(&done, &attempts, author);
    if !edited.added.is_empty() {
        let ids = edited.added.clone();
        orders.push(Order::Add { ids });
    }
    let at = txn.micros();
    let orders: Vec<u8> = orders.iter().flat_map(|order| order.line(at)).collect();
    txn.append(ORDERS, &orders)?;
    let act = Act::EditQueue {
        cancelled: edited.cancelled.count(),
        added: edited.added.clone(),
    };
    Ok(Some((txn.commit(act)?, edited)))
}

/// What an edit means for the tasks that wait now.
#[derive(Default)]
struct Change {
    /// The new lines of `toprocess`.
    queue: Vec<u8>,
    /// New lines of `tasks`.
    added: Vec<u8>,
    /// New lines of `failed`.
    cancelled: Vec<u8>,
    /// The lines of tasks of which something else is said.
    changed: HashMap<TaskId, Vec<u8>>,
    edited: Edited,
}

impl Change {
    /// `next` is the id of the next new task.
    fn of(before: &HashMap<TaskId, &[u8]>, after: &[Line<'_>], now: &[u8], next: u64) -> Self {
        let mut change = Self::default();
        let waiting: HashMap<TaskId, &[u8]> = tasks(now).collect();
        let mut cancelled = Vec::new();
        let mut left_alone = Vec::new();
        let mut kept = HashSet::new();
        let mut next = (next..).map(TaskId);
        for line in after {
            let (old, text) = match *line {
                Line::Task(id, text) => (Some(id), text),
                Line::New(text) => (None, text),
            };
            let is_changed = old.is_none_or(|id| before.get(&id) != Some(&text));
            if let Some(id) = old {
                kept.insert(id);
                match (waiting.get(&id), is_changed) {
                    (Some(_), false) => {
                        push_line(&mut change.queue, id, text);
                        continue;
                    }
                    (Some(known), true) if command(known) == command(text) => {
                        push_line(&mut change.queue, id, text);
                        change.changed.insert(id, text.to_vec());
                        continue;
                    }
                    (Some(_), true) => cancelled.push(id),
                    (None, true) => {
                        left_alone.push(id);
                        continue;
                    }
                    (None, false) => continue,
                }
            }
            let id = next.next().unwrap_or(TaskId(u64::MAX));
            push_line(&mut change.queue, id, text);
            push_line(&mut change.added, id, text);
            change.edited.added.push(id);
        }
        for id in before.keys().filter(|id| !kept.contains(id)) {
            let is_waiting = waiting.contains_key(id);
            let to = if is_waiting {
                &mut cancelled
            } else {
                &mut left_alone
            };
            to.push(*id);
        }
        // What waits only since the copy was made.
        for (id, text) in tasks(now).filter(|(id, _)| !before.contains_key(id)) {
            push_line(&mut change.queue, id, text);
        }
        cancelled.sort_unstable();
        left_alone.sort_unstable();
        for id in &cancelled {
            push_line(&mut change.cancelled, *id, waiting[id]);
        }
        change.edited.cancelled = cancelled.into_iter().collect();
        let mut changed: Vec<TaskId> = change.changed.keys().copied().collect();
        changed.sort_unstable();
        change.edited.changed = changed.into_iter().collect();
        change.edited.left_alone = left_alone.into_iter().collect();
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_changes_what_it_says_and_nothing_else() {
        use Line::{New, Task};
        let task = |id, text: &'static str| Task(TaskId(id), text.as_bytes());
        let copy = "0 a\n1 b\n2 c\n";
        for (after, now, queue, cancelled, added, left_alone) in [
            // Nothing, another order, a line less.
            (
                vec![task(0, "a"), task(1, "b"), task(2, "c")],
                copy,
                copy,
                "",
                "",
                "",
            ),
            (
                vec![task(2, "c"), task(0, "a"), task(1, "b")],
                copy,
                "2 c\n0 a\n1 b\n",
                "",
                "",
                "",
            ),
            (vec![task(2, "c")], copy, "2 c\n", "0 a\n1 b\n", "", ""),
            // A changed command and new ones stand where they were put.
            (
                vec![task(0, "a"), New(b"n"), task(1, "x"), task(2, "c")],
                copy,
                "0 a\n9 n\n10 x\n2 c\n",
                "1 b\n",
                "9 n\n10 x\n",
                "",
            ),
            // Task 0 was claimed meanwhile, and task 7 waits since.
            (
                vec![task(1, "b"), task(0, "a"), task(2, "c")],
                "1 b\n2 c\n7 d\n",
                "1 b\n2 c\n7 d\n",
                "",
                "",
                "",
            ),
            (
                vec![task(0, "x"), task(2, "c"), task(1, "b")],
                "1 b\n2 c\n7 d\n",
                "2 c\n1 b\n7 d\n",
                "",
                "",
                "0",
            ),
            (
                vec![task(2, "c")],
                "1 b\n2 c\n7 d\n",
                "2 c\n7 d\n",
                "1 b\n",
                "",
                "0",
            ),
        ] {
            let before: HashMap<TaskId, &[u8]> = tasks(copy.as_bytes()).collect();
            let change = Change::of(&before, &after, now.as_bytes(), 9);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(text(&change.queue), queue, "{after:?}");
            assert_eq!(text(&change.cancelled), cancelled, "{after:?}");
            assert_eq!(text(&change.added), added, "{after:?}");
            assert_eq!(
                change.edited.left_alone.to_string(),
                left_alone,
                "{after:?}"
            );
        }
    }

    #[test]
    fn where_only_what_is_said_of_a_task_is_changed_the_task_stays() {
        let copy = "0 a\n1 b #PYTF cpus=4\n2 c\n";
        let after = [
            Line::Task(TaskId(0), b"a #PYTF cpus=2"),
            Line::Task(TaskId(1), b"b"),
            Line::Task(TaskId(2), b"x #PYTF cpus=2"),
        ];
        let before: HashMap<TaskId, &[u8]> = tasks(copy.as_bytes()).collect();
        let change = Change::of(&before, &after, copy.as_bytes(), 9);
        let queue = "0 a #PYTF cpus=2\n1 b\n9 x #PYTF cpus=2\n";
        assert_eq!(String::from_utf8(change.queue).unwrap(), queue);
        let Edited {
            cancelled,
            added,
            changed,
            ..
        } = change.edited;
        let ids = [cancelled, added, changed].map(|ids| ids.to_string());
        assert_eq!(ids, ["2", "9", "0-1"]);
    }
}
