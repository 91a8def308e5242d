//! Cancelling tasks.
//!
//! A task that waits goes from `toprocess` to `failed` at once. A task that a farmer has claimed
//! is named in an order; its farmer ends it, or never starts it. Guarantee: a cancelled attempt
//! is never in `toprocess` again. Whoever returns the task instead of its result, its own farmer
//! or one that fences that, puts it into `failed`; a result that is on its way counts. A later
//! attempt, after `pytf retry`, is not cancelled.

use std::collections::BTreeMap;
use std::mem;

use super::orders::{Cancel, Order, read_since};
use crate::model::ids::{AttemptSet, IdSet, Ids};
use crate::model::outcome::Destination;
use crate::model::record::End;
use crate::model::task::{Task, TaskId, parse_line, push_line};
use crate::workdir::error::{Error, Result};
use crate::workdir::files::Committed;
use crate::workdir::fs::Workdir;
use crate::workdir::layout::{FAILED, FINISHED, ORDERS};
use crate::workdir::liveness::Waiting;
use crate::workdir::state::{Act, State};
use crate::workdir::transaction::{Attempts, RequeueReason, Txn};

/// The attempts that were cancelled, as far as a process has read `orders`.
#[derive(Default)]
pub struct Cancels {
    read: Committed,
    attempts: AttemptSet,
}

impl Cancels {
    /// Reads what is new in `orders`: mostly nothing.
    pub(super) fn refresh(&mut self, txn: &mut Txn<'_>) -> Result<()> {
        if txn.state().orders.len <= self.read.len {
            return Ok(());
        }
        let file = txn.current(ORDERS)?;
        let new = read_since(&*file, txn.state(), self.read);
        for order in new.map_err(|error| txn.verdict(error))? {
            if let Order::Cancel(cancel) = order {
                self.attempts.insert(cancel.attempt, &cancel.ids);
            }
        }
        self.read = txn.state().orders;
        Ok(())
    }

    /// Whether this attempt was cancelled.
    pub(super) fn contains(&self, id: TaskId, attempt: u32) -> bool {
        self.attempts.contains(id, attempt)
    }

    /// Takes those that were cancelled out of the tasks that are to be given back.
    pub(super) fn take_cancelled(
        &mut self,
        txn: &mut Txn<'_>,
        back: &mut Vec<(Task, Option<RequeueReason>)>,
    ) -> Result<Vec<Task>> {
        self.refresh(txn)?;
        if self.attempts.is_empty() || back.is_empty() {
            return Ok(Vec::new());
        }
        let (cancelled, rest) = mem::take(back)
            .into_iter()
            .partition::<Vec<_>, _>(|(task, _)| self.contains(task.id, task.attempt));
        *back = rest;
        Ok(cancelled.into_iter().map(|(task, _)| task).collect())
    }

    /// Puts cancelled tasks that were not given back into `failed`, and counts them and those
    /// among the results that go there.
    pub(super) fn settle<'e>(
        &self,
        txn: &mut Txn<'_>,
        cancelled: &[Task],
        results: impl Iterator<Item = &'e End>,
    ) -> Result<()> {
        if self.attempts.is_empty() {
            return Ok(());
        }
        let failed = results.filter(|end| {
            end.destination() == Destination::Failed && self.contains(end.id, end.attempt)
        });
        let failed = failed.count() as u64;
        let mut lines = Vec::new();
        for task in cancelled {
            push_line(&mut lines, task.id, &task.line);
        }
        txn.append(FAILED, &lines)?;
        txn.state_mut().cancelled += failed + cancelled.len() as u64;
        Ok(())
    }
}

/// Which tasks are to be cancelled.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// These, whether they wait or run.
    Ids(Ids),
    /// All that wait.
    Waiting,
    /// All that wait or run.
    All,
}

/// Who cancels, and why.
#[derive(Clone, Debug, Default)]
pub struct Author {
    /// `USER@HOST`.
    pub by: String,
    /// In their words.
    pub reason: Option<String>,
}

/// What became of the tasks that were to be cancelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// They waited, and are in `failed` now.
    pub waiting: Ids,
    /// A farmer has claimed them, and ends them or does not start them.
    pub claimed: Ids,
    /// They were cancelled before, and their farmer is about to obey.
    pub ordered: Ids,
    /// Not cancelled: they had finished.
    pub finished: Ids,
    /// Not cancelled: they were in `failed`.
    pub failed: Ids,
    /// Not cancelled: they had been dropped from the list.
    pub dropped: Ids,
    /// There are no such tasks.
    pub unknown: Ids,
}

impl Cancelled {
    /// Whether nothing was there to cancel for some that were asked for.
    pub fn has_others(&self) -> bool {
        let others = [&self.finished, &self.failed, &self.dropped, &self.unknown];
        others.iter().any(|ids| !ids.is_empty())
    }
}

/// Cancels tasks, in one transaction. Returns the state after it, and what became of each.
pub fn cancel(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn Waiting,
    wanted: &Wanted,
    author: &Author,
) -> Result<(State, Cancelled)> {
    let mut txn = Txn::begin(workdir, who, waiting)?;
    if txn.state().seq == 0 {
        let what = "the run has not begun: its workdir has no tasks yet";
        return Err(Error::Refused(what.into()));
    }
    let (mut attempts, mut cancels) = (Attempts::default(), Cancels::default());
    txn.refresh(&mut attempts)?;
    cancels.refresh(&mut txn)?;
    let asked = match wanted {
        Wanted::Ids(ids) => Some(IdSet::from(ids.clone())),
        _ => None,
    };
    let is_wanted = |id| asked.as_ref().is_none_or(|asked| asked.contains(id));
    let mut done = Cancelled::default();
    if !matches!(wanted, Wanted::Waiting) {
        for id in txn.outstanding()?.iter().filter(|id| is_wanted(*id)) {
            let is_ordered = cancels.contains(id, attempts.of(id));
            let to = if is_ordered {
                &mut done.ordered
            } else {
                &mut done.claimed
            };
            to.push(id);
        }
    }
    let mut lines = Vec::new();
    let mut ids = Vec::new();
    txn.gather_all()?;
    txn.take_waiting(is_wanted, |id, line| {
        ids.push(id);
        push_line(&mut lines, id, line);
    })?;
    ids.sort_unstable();
    done.waiting = ids.into_iter().collect();
    if let Some(asked) = asked {
        classify(&mut txn, asked, &mut done)?;
    }
    if done.waiting.is_empty() && done.claimed.is_empty() {
        return Ok((txn.state().clone(), done));
    }
    txn.append(FAILED, &lines)?;
    txn.deal()?;
    let waiting = done.waiting.count();
    txn.state_mut().cancelled += waiting;
    let orders = orders(&done, &attempts, author);
    let at = txn.micros();
    let orders: Vec<u8> = orders.iter().flat_map(|order| order.line(at)).collect();
    txn.append(ORDERS, &orders)?;
    Ok((txn.commit(Act::Cancel { waiting })?, done))
}

/// One order for each number of attempt.
pub(super) fn orders(done: &Cancelled, attempts: &Attempts, author: &Author) -> Vec<Order> {
    let mut by_attempt: BTreeMap<u32, IdSet> = BTreeMap::new();
    for ids in [&done.waiting, &done.claimed] {
        let mut runs: BTreeMap<u32, Ids> = BTreeMap::new();
        for id in ids.iter() {
            runs.entry(attempts.of(id)).or_default().push(id);
        }
        for (attempt, ids) in runs {
            by_attempt.entry(attempt).or_default().insert(&ids);
        }
    }
    let orders = by_attempt.into_iter().map(|(attempt, ids)| {
        Order::Cancel(Cancel {
            attempt,
            ids: ids.ids(),
            by: author.by.clone(),
            reason: author.reason.clone(),
        })
    });
    orders.collect()
}

/// Where those are that were asked for and are not to be cancelled.
fn classify(txn: &mut Txn<'_>, mut asked: IdSet, done: &mut Cancelled) -> Result<()> {
    for ids in [&done.waiting, &done.claimed, &done.ordered] {
        asked.remove(ids);
    }
    let n = txn.state().tasks.lines;
    let beyond = asked.split_off(TaskId(n));
    done.unknown = beyond.ids();
    for (name, to) in [(FINISHED, &mut done.finished), (FAILED, &mut done.failed)] {
        if asked.is_empty() {
            break;
        }
        let mut found = Vec::new();
        txn.each_line(name, |line| {
            found.extend(
                parse_line(line)
                    .map(|(id, _)| id)
                    .filter(|id| asked.contains(*id)),
            );
        })?;
        found.sort_unstable();
        *to = found.into_iter().collect();
        asked.remove(to);
    }
    done.dropped = asked.ids();
    Ok(())
}
