//! The file `requeued`: why and how often tasks were put back into `toprocess`, and which were
//! dropped because their lines were removed from the list.
//!
//! Guarantee: a task that may have been started is put back with a reason, which makes the
//! number of its next attempt one higher.

use std::collections::HashMap;

use crc32fast::Hasher;

use super::txn::Txn;
use crate::model::task::{Task, TaskId, push_line};
use crate::workdir::error::{Context, Result};
use crate::workdir::files::Lines;
use crate::workdir::layout::REQUEUED;

/// How often tasks were started, as far as a process has read `requeued`.
#[derive(Default)]
pub struct Attempts {
    read: u64,
    sum: u32,
    next: HashMap<TaskId, u32>,
}

impl Attempts {
    /// The number of the attempt that a task starts next.
    pub fn of(&self, id: TaskId) -> u32 {
        self.next.get(&id).copied().unwrap_or(1)
    }
}

/// Why a task is back in `toprocess`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequeueReason {
    /// Its farmer was stopped while it ran.
    Interrupted,
    /// Its farmer died while it had it.
    Lost,
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
pub(in crate::workdir) fn parse_note(line: &[u8]) -> Option<(TaskId, u64, &str)> {
    let mut words = std::str::from_utf8(line).ok()?.splitn(3, ' ');
    let id = words.next()?.parse().ok()?;
    let attempt = words.next()?.parse().ok()?;
    Some((id, attempt, words.next().unwrap_or("")))
}

impl Txn<'_> {
    /// Notes why tasks are put back; returns their lines.
    pub(super) fn note_requeued(
        &mut self,
        tasks: &[(Task, Option<RequeueReason>)],
    ) -> Result<Vec<u8>> {
        let (mut lines, mut notes) = (Vec::new(), Vec::new());
        for (task, why) in tasks {
            push_line(&mut lines, task.id, &task.line);
            if let Some(why) = why {
                notes.extend(note(task.id, task.attempt + 1, *why));
            }
        }
        self.append(REQUEUED, &notes)?;
        Ok(lines)
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
        let mut lines = Lines::new(&*file, attempts.read, self.state.requeued.len);
        let mut sum = Hasher::new_with_initial_len(attempts.sum, attempts.read);
        while let Some(line) = lines.next().context("read", REQUEUED)? {
            sum.update(line);
            sum.update(b"\n");
            if let Some((id, attempt @ 2.., _)) = parse_note(line) {
                let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
                attempts.next.insert(id, attempt);
            }
        }
        attempts.sum = sum.finalize();
        attempts.read = self.state.requeued.len;
        self.check_sum(REQUEUED, attempts.sum, self.state.requeued.sum)
    }
}
