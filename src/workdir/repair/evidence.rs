//! What can be read from the files of a damaged workdir.
//!
//! Guarantee: the newest attempt of a task counts; if an attempt has several ends, the best one
//! counts; a file whose checksum is right takes precedence over all others; of `orders` each
//! line that can be read is kept, so that tasks that were added stay so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::model::attributes::command;
use crate::model::ids::{AttemptSet, IdSet};
use crate::model::outcome::Destination;
use crate::model::record::Record;
use crate::model::task::{TaskId, parse_line};
use crate::model::tasklist::Dialect;
use crate::workdir::copies::open_if_file;
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{Lines, sum_of};
use crate::workdir::fs::{Dir, File, Open};
use crate::workdir::layout::{self, BLOCKED, FAILED, FINISHED, ORDERS, REQUEUED, TASKS, class_of};
use crate::workdir::membership;
use crate::workdir::orders::Order;
use crate::workdir::resume::{ListFailure, ListFile};
use crate::workdir::state::{self, Log, Members, PLAIN, State};
use crate::workdir::transaction::{BlockedLine, RequeueReason, parse_note};

/// What was read from the files.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) lines: BTreeMap<TaskId, Vec<u8>>,
    /// Tasks whose lines are not the same in all files: what else they may be.
    disputed: BTreeMap<TaskId, Vec<Vec<u8>>>,
    pub(super) fates: BTreeMap<TaskId, LastAttempt>,
    /// Their lines had vanished from the list.
    pub(super) dropped: BTreeSet<TaskId>,
    /// The attempts that were cancelled.
    cancelled: AttemptSet,
    /// How many tasks there were, by `tasks`.
    n_tasks: u64,
    /// The files that have the checksums which the state knows.
    whole: BTreeSet<&'static str>,
    /// The tasks that have certainly not ended. A file without its checksum cannot prove
    /// otherwise.
    not_ended: BTreeSet<TaskId>,
    /// The tasks in `finished`.
    in_finished: BTreeSet<TaskId>,
    /// The orders that can be read.
    orders: Vec<Vec<u8>>,
    /// Of these, the tasks that were added: they are not of the list.
    added: IdSet,
    pub(super) unusable: u64,
    /// Nothing that is known belongs to a later transaction.
    pub(super) seq: u64,
}

/// What is known of a task: its newest attempt, and how that ended. The newer attempt
/// counts; of two records of one attempt the better end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LastAttempt {
    pub(super) attempt: u32,
    end: Option<Destination>,
}

impl LastAttempt {
    pub(super) fn is(self, end: Destination) -> bool {
        self.end == Some(end)
    }
}

impl Findings {
    pub(super) fn read(dir: &Arc<dyn Dir>, lock: &dyn File, state: Option<&State>) -> Result<Self> {
        let mut found = Self::default();
        if let Some(state) = state {
            for name in [TASKS, FINISHED, ORDERS] {
                if is_whole(dir, state, name)? {
                    found.whole.insert(name);
                }
            }
            found.not_ended = not_ended(dir, lock, state)?;
        }
        for farmer in membership::present(dir)? {
            found.read_journal(dir, &layout::journal(&farmer))?;
        }
        for over in membership::departed(dir)? {
            found.seq = found.seq.max(over.seq);
            found.read_journal(dir, &over.journal)?;
        }
        // `tasks` last: where two files know a line, it is right. First when it has its
        // checksum: then no other line is believed.
        let queues = dir.list("").context("list", "the workdir")?;
        let queues = queues.into_iter().filter(|name| class_of(name).is_some());
        let mut files: Vec<(String, _)> = queues.map(|name| (name, None)).collect();
        files.push((BLOCKED.into(), None));
        files.push((FAILED.into(), Some(Destination::Failed)));
        files.push((FINISHED.into(), Some(Destination::Finished)));
        files.push((TASKS.into(), None));
        if found.whole.contains(TASKS) {
            files.rotate_right(1);
        }
        for (name, end) in files {
            found.read_tasks(dir, &name, end)?;
        }
        found.read_orders(dir, state.map(|state| state.orders.len))?;
        found.take_cancelled();
        // After that: a task that was put back is not cancelled any more.
        found.read_requeued(dir)?;
        Ok(found)
    }

    fn read_journal(&mut self, dir: &Arc<dyn Dir>, name: &str) -> Result<()> {
        self.unusable += count_unusable(dir, name, |line| {
            let record = Record::parse(line);
            let (id, attempt, end) = match &record {
                Some(Record::Start(start)) => (start.id, start.attempt, None),
                Some(Record::End(end)) => (end.id, end.attempt, Some(end.destination())),
                _ => return record.is_some(),
            };
            let (fate, seen) = (self.fates.entry(id), LastAttempt { attempt, end });
            fate.and_modify(|fate| *fate = seen.max(*fate))
                .or_insert(seen);
            true
        })?;
        Ok(())
    }

    /// Lines of tasks; in `finished` and `failed` they say how the task ended, in
    /// case its journal is gone.
    fn read_tasks(
        &mut self,
        dir: &Arc<dyn Dir>,
        name: &str,
        end: Option<Destination>,
    ) -> Result<()> {
        self.unusable += count_unusable(dir, name, |line| match task_in(name, line) {
            Some((id, text)) if !text.contains(&0) => self.take_task(name, end, id, text),
            _ => false,
        })?;
        Ok(())
    }

    /// A line of a task in this file; whether it may be right.
    fn take_task(&mut self, name: &str, end: Option<Destination>, id: TaskId, text: &[u8]) -> bool {
        // What is said of a task may have changed since it ended.
        let known = self.lines.get(&id);
        let known = known.map(|known| command(known) == command(text));
        if self.whole.contains(TASKS) && name != TASKS && known != Some(true) {
            return false;
        }
        let may_be = self.whole.contains(name) || !self.not_ended.contains(&id);
        if end.is_some() && may_be {
            // Journals know better.
            let attempt = 1;
            self.fates.entry(id).or_insert(LastAttempt { attempt, end });
        }
        match name {
            TASKS => self.n_tasks += 1,
            FINISHED => {
                self.in_finished.insert(id);
            }
            _ => {}
        }
        if self.whole.contains(TASKS) && name != TASKS {
            return true;
        }
        if let Some(other) = self.lines.insert(id, text.to_vec())
            && known == Some(false)
        {
            self.disputed.entry(id).or_default().push(other);
        }
        true
    }

    /// What the state knows decides between files: it leaves out tasks whose numbers are
    /// beyond all that it and `tasks` know, since these are damage themselves; and where
    /// `finished` has its checksum, a task in it is finished, whatever its journal says.
    pub(super) fn weigh(&mut self, state: &State) {
        self.forget_from(TaskId(self.n_tasks.max(state.tasks.lines)));
        if !self.whole.contains(FINISHED) {
            return;
        }
        for id in &self.in_finished {
            if let Some(fate) = self.fates.get_mut(id) {
                fate.end = Some(Destination::Finished);
            }
        }
    }

    fn forget_from(&mut self, first: TaskId) {
        let strangers = self.lines.split_off(&first);
        let mut strangers: BTreeSet<TaskId> = strangers.into_keys().collect();
        strangers.extend(self.fates.split_off(&first).into_keys());
        self.disputed.split_off(&first);
        self.dropped.split_off(&first);
        self.unusable += strangers.len() as u64;
    }

    /// A cancelled attempt failed, unless it succeeded. A later one is another.
    fn take_cancelled(&mut self) {
        let end = Some(Destination::Failed);
        let Some(last) = self.lines.keys().next_back().copied() else {
            return;
        };
        for (attempt, ids) in self.cancelled.iter() {
            let cancelled = LastAttempt { attempt, end };
            // A range may be longer than the list. A line within it may be missing.
            for id in ids.iter().take_while(|id| *id <= last) {
                let fate = self.fates.entry(id).or_insert(cancelled);
                if fate.attempt <= attempt && !fate.is(Destination::Finished) {
                    *fate = cancelled;
                }
            }
        }
    }

    /// Whether a task is in `failed` since it was cancelled.
    pub(super) fn is_cancelled(&self, id: TaskId, fate: LastAttempt) -> bool {
        self.cancelled.contains(id, fate.attempt)
    }

    /// A task that was put back is not over, though its last attempt is; unless that
    /// succeeded: such a task is not put back.
    fn read_requeued(&mut self, dir: &Arc<dyn Dir>) -> Result<()> {
        self.unusable += count_unusable(dir, REQUEUED, |line| {
            let note = parse_note(line);
            let attempt = note.and_then(|(_, attempt, _)| u32::try_from(attempt).ok());
            let attempt = attempt.filter(|&attempt| attempt < u32::MAX / 2);
            let Some(((id, _, why), attempt)) = note.zip(attempt) else {
                return false;
            };
            if why == RequeueReason::Dropped.word() {
                self.dropped.insert(id);
            } else {
                self.dropped.remove(&id);
            }
            // That one is not put back: it has lost too many farmers.
            let is_given_up = why == RequeueReason::LostLimit.word();
            let (attempt, end) = if is_given_up {
                (attempt, Some(Destination::Failed))
            } else {
                (attempt.saturating_sub(1), Some(Destination::ToProcess))
            };
            let back = LastAttempt { attempt, end };
            let fate = self.fates.entry(id).or_insert(back);
            if fate.attempt <= attempt && !fate.is(Destination::Finished) {
                *fate = back;
            }
            true
        })?;
        Ok(())
    }

    /// Orders; where the file is as it was written, those that were given.
    fn read_orders(&mut self, dir: &Arc<dyn Dir>, known: Option<u64>) -> Result<()> {
        let known = known.filter(|_| self.whole.contains(ORDERS));
        let mut at = 0;
        self.unusable += count_unusable(dir, ORDERS, |line| {
            at += line.len() as u64 + 1;
            if known.is_some_and(|known| at > known) {
                return true;
            }
            match Order::of(line) {
                Order::Unknown(_) if serde_json::from_slice::<Value>(line).is_err() => {
                    return false;
                }
                Order::Add { ids } => self.added.insert(&ids),
                Order::Cancel(cancel) => self.cancelled.insert(cancel.attempt, &cancel.ids),
                _ => {}
            }
            self.orders.push(line.to_vec());
            true
        })?;
        Ok(())
    }

    /// The orders that a repaired workdir has, unless the file is as it was written.
    pub(super) fn orders(&self) -> Option<Vec<u8>> {
        let n = self.lines.len() as u64;
        let is_of_run = |line: &&Vec<u8>| match Order::of(line) {
            // It may have been cut off before its tasks were there.
            Order::Add { ids } => ids.iter().all(|id| id.0 < n),
            _ => true,
        };
        let kept = self.orders.iter().filter(is_of_run);
        let lines = kept.flat_map(|line| [line, &b"\n"[..]].concat());
        (!self.whole.contains(ORDERS)).then(|| lines.collect())
    }

    /// The k-th task of the list is task k, not counting those that were added, unless a file
    /// says otherwise.
    pub(super) fn take_lines_of(
        &mut self,
        list: &Path,
        dialect: &Dialect,
    ) -> Result<(), ListFailure> {
        let unreadable = |source| ListFailure::Unreadable {
            list: list.display().to_string(),
            source,
        };
        let Some(file) = ListFile::at(list).map_err(unreadable)? else {
            let what = "a repair needs the task list as a file, not as a stream";
            return Err(ListFailure::Refused(what.into()));
        };
        let file = file.read_as(dialect);
        // Whose list it is has to be known before its first task is taken in.
        file.check()?;
        let mut next = 0;
        file.each(|line| {
            while self.added.contains(TaskId(next)) {
                next += 1;
            }
            let id = TaskId(next);
            next += 1;
            let known = self.lines.entry(id).or_insert_with(|| line.to_vec());
            let others = self.disputed.get(&id).map(Vec::as_slice);
            if others
                .is_some_and(|others| others.iter().any(|other| command(other) == command(line)))
            {
                *known = line.to_vec();
            }
            Ok(())
        })?;
        self.disputed.clear();
        // What the list does not lead up to is the line of no task.
        let mut ids = (0..).zip(self.lines.keys());
        let gap = ids.find(|(n, id)| id.0 != *n).map(|(n, _)| n);
        let all = self.lines.len() as u64;
        self.forget_from(TaskId(gap.unwrap_or(all).max(next)));
        Ok(())
    }

    /// Every task up to the last that is known has its line, and one only.
    pub(super) fn check_complete(&self, has_list: bool) -> Result<()> {
        let way_out = if has_list {
            "the list has other lines than the one that this workdir was made from"
        } else {
            "give the list that this workdir was made from: pytf repair WORKDIR TASKLIST"
        };
        let last = self.lines.keys().chain(self.fates.keys()).max();
        let Some(last) = last else {
            let what =
                "no file holds a task: there is nothing to repair; run the list in a new workdir";
            return Err(Error::Refused(what.into()));
        };
        let is_known = |id: u64| self.lines.contains_key(&TaskId(id));
        let missing: Vec<u64> = (0..=last.0).filter(|&id| !is_known(id)).take(2).collect();
        if let Some(first) = missing.first() {
            let others = if missing.len() > 1 { " and others" } else { "" };
            return Err(Error::Refused(format!(
                "no file holds the line of task {first}{others}: {way_out}"
            )));
        }
        let Some(first) = self.disputed.keys().next() else {
            return Ok(());
        };
        Err(Error::Refused(format!(
            "the files differ in the line of task {first}: {way_out}"
        )))
    }
}

/// Shows the whole lines of a file, if there is one; returns how many are of no use.
fn count_unusable(
    dir: &Arc<dyn Dir>,
    name: &str,
    mut is_good: impl FnMut(&[u8]) -> bool,
) -> Result<u64> {
    let Some(file) = open_if_file(dir, name)? else {
        return Ok(0);
    };
    let len = file.len().context("look at", name)?;
    let mut lines = Lines::new(&*file, 0, len);
    let mut unusable = 0;
    while let Some(line) = lines.next().context("read", name)? {
        unusable += u64::from(!is_good(line));
    }
    Ok(unusable + u64::from(lines.at() < len))
}

/// The task in a line of this file.
fn task_in<'l>(name: &str, line: &'l [u8]) -> Option<(TaskId, &'l [u8])> {
    match name {
        BLOCKED => BlockedLine::parse(line).map(|task| (task.id, task.line)),
        _ => parse_line(line),
    }
}

/// Whether a file is what the state knows; format 1 knew no more than lengths and
/// numbers of lines.
fn is_whole(dir: &Arc<dyn Dir>, state: &State, name: &str) -> Result<bool> {
    let known = state.committed(name);
    let Some(file) = open_if_file(dir, name)? else {
        return Ok(false);
    };
    if file.len().context("look at", name)? < known.len {
        return Ok(false);
    }
    if state.format < PLAIN {
        let mut lines = Lines::new(&*file, 0, known.len);
        let mut n = 0;
        while lines.next().context("read", name)?.is_some() {
            n += 1;
        }
        return Ok(n == known.lines && lines.at() == known.len);
    }
    Ok(sum_of(&*file, known.len).context("read", name)? == known.sum)
}

/// The tasks that have not ended, as far as that is certain: those that are unclaimed,
/// by a queue that has its checksum, and those that are open, by a log that has it.
fn not_ended(dir: &Arc<dyn Dir>, lock: &dyn File, state: &State) -> Result<BTreeSet<TaskId>> {
    let mut ids = BTreeSet::new();
    if state.format < PLAIN {
        return Ok(ids);
    }
    for (class, queue) in state.queues.iter().enumerate() {
        let name = &*layout::queue(class);
        if !is_whole(dir, state, name)? {
            continue;
        }
        let file = dir.open(name, Open::Read).context("open", name)?;
        let mut lines = Lines::new(&*file, queue.cursor, queue.len);
        while let Some(line) = lines.next().context("read", name)? {
            ids.extend(parse_line(line).map(|(id, _)| id));
        }
    }
    match state::entries(lock, &state.log, &Log::default()) {
        Err(Error::Damaged { .. }) => {}
        entries => {
            for member in Members::after(&entries?).iter() {
                ids.extend(member.open.ids().iter());
            }
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(attempt: u32, end: Option<Destination>) -> LastAttempt {
        LastAttempt { attempt, end }
    }

    #[test]
    fn the_newest_attempt_counts_and_of_one_attempt_the_better_end() {
        use Destination::{Failed, Finished, ToProcess};
        for (records, outcome) in [
            (vec![(1, None)], (1, None)),
            (vec![(1, None), (1, Some(Failed))], (1, Some(Failed))),
            (
                vec![(1, Some(Finished)), (1, Some(Failed))],
                (1, Some(Finished)),
            ),
            (vec![(1, Some(Failed)), (2, None)], (2, None)),
            (
                vec![(2, Some(ToProcess)), (1, Some(Failed))],
                (2, Some(ToProcess)),
            ),
            (
                vec![(1, Some(Failed)), (2, Some(Finished))],
                (2, Some(Finished)),
            ),
        ] {
            let records = records.into_iter().map(|(attempt, end)| fate(attempt, end));
            assert_eq!(records.max(), Some(fate(outcome.0, outcome.1)));
        }
    }
}
