//! The file `requeued`: why and how often tasks were put back into `toprocess`, and which were
//! not: their lines were removed from the list, or they have lost too many farmers.
//!
//! Guarantee: a task that may have been started is put back with a reason, which makes the
//! number of its next attempt one higher. How often a task has failed and has been lost, since a
//! person put it back, follows from the reasons alone.

use std::collections::HashMap;

use super::txn::Txn;
use crate::model::task::{Task, TaskId, push_line};
use crate::workdir::error::{Context, Result};
use crate::workdir::files::Lines;
use crate::workdir::layout::{FAILED, REQUEUED};

/// How often tasks were started, as far as a process has read `requeued`.
#[derive(Default)]
pub struct Attempts {
    read: u64,
    sum: u32,
    tasks: HashMap<TaskId, Count>,
}

/// What is known of a task.
#[derive(Clone, Copy)]
struct Count {
    /// The number of its next attempt.
    next: u32,
    /// Failures after which it was tried again, and how often its farmer died, since a person
    /// put it back.
    failures: u32,
    losses: u32,
}

impl Default for Count {
    fn default() -> Self {
        Self {
            next: 1,
            failures: 0,
            losses: 0,
        }
    }
}

impl Attempts {
    fn count(&self, id: TaskId) -> Count {
        self.tasks.get(&id).copied().unwrap_or_default()
    }

    /// The number of the attempt that a task starts next.
    pub fn of(&self, id: TaskId) -> u32 {
        self.count(id).next
    }

    /// How often a task has lost its farmer since a person put it back.
    pub fn losses(&self, id: TaskId) -> u32 {
        self.count(id).losses
    }

    /// The task as it is claimed.
    pub fn task(&self, id: TaskId, line: &[u8]) -> Task {
        let Count { next, failures, .. } = self.count(id);
        Task {
            id,
            line: line.to_vec(),
            attempt: next,
            failures,
        }
    }

    /// Takes a line of `requeued`.
    fn note(&mut self, id: TaskId, attempt: u32, why: &str) {
        let count = self.tasks.entry(id).or_default();
        count.next = attempt;
        if why == RequeueReason::Again.word() {
            count.failures += 1;
        } else if [RequeueReason::Lost, RequeueReason::LostLimit]
            .map(RequeueReason::word)
            .contains(&why)
        {
            count.losses += 1;
        } else if ![RequeueReason::Interrupted, RequeueReason::Doubted]
            .map(RequeueReason::word)
            .contains(&why)
        {
            (count.failures, count.losses) = (0, 0);
        }
    }
}

/// Why a task is back in `toprocess`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequeueReason {
    /// Its farmer was stopped while it ran.
    Interrupted,
    /// Its farmer died while it had it.
    Lost,
    /// It failed, and is tried again by itself.
    Again,
    /// Its farmer died while it had it, once too often: it is not put back, and is in `failed`.
    LostLimit,
    /// It failed and `pytf retry` put it back.
    Retry,
    /// It failed on a node that its farmer doubts.
    Doubted,
    /// Its line has vanished from the list: it is not put back, and counts no longer.
    Dropped,
    /// Its line is back in the list.
    Restored,
}

impl RequeueReason {
    /// The word in `requeued`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Lost => "lost",
            Self::Again => "again",
            Self::LostLimit => "lost-limit",
            Self::Retry => "retry",
            Self::Doubted => "doubted",
            Self::Dropped => "dropped",
            Self::Restored => "restored",
        }
    }
}

/// The line of a task in `requeued`: its next attempt, and why it was put back.
pub(in crate::workdir) fn note(id: TaskId, attempt: u32, why: RequeueReason) -> Vec<u8> {
    format!("{id} {attempt} {}\n", why.word()).into_bytes()
}

/// The task, its next attempt and the reason in a line of `requeued`.
pub fn parse_note(line: &[u8]) -> Option<(TaskId, u64, &str)> {
    let mut words = std::str::from_utf8(line).ok()?.splitn(3, ' ');
    let id = words.next()?.parse().ok()?;
    let attempt = words.next()?.parse().ok()?;
    Some((id, attempt, words.next().unwrap_or("")))
}

impl Txn<'_> {
    /// Notes why tasks are put back, and counts those whose farmer stopped or died; returns their
    /// lines.
    pub(super) fn note_requeued(
        &mut self,
        tasks: &[(Task, Option<RequeueReason>)],
    ) -> Result<Vec<u8>> {
        let (mut lines, mut notes) = (Vec::new(), Vec::new());
        for (task, why) in tasks {
            push_line(&mut lines, task.id, &task.line);
            if let Some(why) = why {
                notes.extend(note(task.id, task.attempt + 1, *why));
                let is_cut = matches!(why, RequeueReason::Interrupted | RequeueReason::Lost);
                self.state.interrupted += u64::from(is_cut);
            }
        }
        self.append(REQUEUED, &notes)?;
        Ok(lines)
    }

    /// Puts tasks that have lost too many farmers into `failed`.
    pub fn give_up(&mut self, tasks: &[Task]) -> Result<()> {
        let (mut lines, mut notes) = (Vec::new(), Vec::new());
        for task in tasks {
            push_line(&mut lines, task.id, &task.line);
            notes.extend(note(task.id, task.attempt, RequeueReason::LostLimit));
        }
        self.append(FAILED, &lines)?;
        self.append(REQUEUED, &notes)
    }

    /// Notes that tasks are dropped: some that waited, some that had failed and so
    /// have used up an attempt.
    pub fn note_dropped(&mut self, waiting: &[TaskId], failed: &[TaskId]) -> Result<()> {
        let waiting = waiting.iter().map(|&id| (id, 0));
        let failed = failed.iter().map(|&id| (id, 1));
        self.note(waiting.chain(failed), RequeueReason::Dropped)
    }

    /// Notes that dropped tasks wait again.
    pub fn note_restored(&mut self, tasks: &[TaskId]) -> Result<()> {
        self.note(tasks.iter().map(|&id| (id, 0)), RequeueReason::Restored)
    }

    /// Notes a reason for tasks, and how many more attempts they have used up.
    fn note(
        &mut self,
        tasks: impl Iterator<Item = (TaskId, u32)>,
        why: RequeueReason,
    ) -> Result<()> {
        let mut attempts = Attempts::default();
        self.refresh(&mut attempts)?;
        let notes =
            tasks.flat_map(|(id, used)| note(id, attempts.of(id).saturating_add(used), why));
        self.append(REQUEUED, &notes.collect::<Vec<u8>>())
    }

    /// Reads what is new in `requeued`.
    pub fn refresh(&mut self, attempts: &mut Attempts) -> Result<()> {
        if attempts.read == self.state.requeued.len {
            return Ok(());
        }
        let file = self.current(REQUEUED)?;
        let lines = Lines::new(&*file, attempts.read, self.state.requeued.len);
        let mut lines = lines.after(attempts.sum);
        while let Some(line) = lines.next().context("read", REQUEUED)? {
            if let Some((id, attempt @ 2.., why)) = parse_note(line) {
                let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
                attempts.note(id, attempt, why);
            }
        }
        attempts.sum = lines.sum();
        attempts.read = self.state.requeued.len;
        self.check_sum(REQUEUED, attempts.sum, self.state.requeued.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever decides about a task counts the same, whatever else happened to it.
    #[test]
    fn failures_and_losses_count_since_a_person_put_the_task_back() {
        let mut attempts = Attempts::default();
        let mut count = |attempt, why| {
            attempts.note(TaskId(7), attempt, why);
            let Count {
                next,
                failures,
                losses,
            } = attempts.count(TaskId(7));
            (next, failures, losses)
        };
        assert_eq!(count(2, "again"), (2, 1, 0));
        assert_eq!(count(3, "interrupted"), (3, 1, 0));
        assert_eq!(count(4, "lost"), (4, 1, 1));
        assert_eq!(count(5, "doubted"), (5, 1, 1));
        assert_eq!(count(6, "again"), (6, 2, 1));
        assert_eq!(count(6, "lost-limit"), (6, 2, 2));
        assert_eq!(count(7, "retry"), (7, 0, 0));
        for why in ["dropped", "restored", "repair", "a later word"] {
            assert_eq!(count(8, "again"), (8, 1, 0));
            assert_eq!(count(8, why), (8, 0, 0));
        }
    }
}
