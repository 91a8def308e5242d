//! The file `requeued`: why and how often tasks were put back into `toprocess`.
//!
//! Others rely on this: who puts back a task that may have been started says why,
//! and that makes the number of its next attempt one higher.

use std::collections::HashMap;

use super::Txn;
use crate::model::task::{Task, TaskId, push_line};
use crate::workdir::error::{Context, Result};
use crate::workdir::layout::REQUEUED;
use crate::workdir::lines::Lines;

/// How often tasks were started, as far as a process has read `requeued`.
#[derive(Default)]
pub struct Attempts {
    read: u64,
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
pub enum Why {
    /// Its farmer was told to stop while it ran.
    Interrupted,
    /// Its farmer died while it had it.
    Lost,
    /// It failed and somebody wants it tried again.
    Retry,
    /// It failed on a node that its farmer doubts.
    Doubted,
}

impl Why {
    /// The word in `requeued`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Lost => "lost",
            Self::Retry => "retry",
            Self::Doubted => "doubted",
        }
    }
}

impl Txn<'_> {
    /// Notes why tasks are put back; returns their lines.
    pub(super) fn note_requeued(&mut self, tasks: &[(Task, Option<Why>)]) -> Result<Vec<u8>> {
        let (mut lines, mut notes, mut n_notes) = (Vec::new(), Vec::new(), 0);
        for (task, why) in tasks {
            push_line(&mut lines, task.id, &task.line);
            if let Some(why) = why {
                let note = format!("{} {} {}\n", task.id, task.attempt + 1, why.word());
                notes.extend_from_slice(note.as_bytes());
                n_notes += 1;
            }
        }
        self.state.requeued = self.append(REQUEUED, self.state.requeued, &notes, n_notes)?;
        Ok(lines)
    }

    /// Reads what is new in `requeued`.
    pub fn refresh(&mut self, attempts: &mut Attempts) -> Result<()> {
        if attempts.read == self.state.requeued.len {
            return Ok(());
        }
        let file = self.current(REQUEUED)?;
        let mut lines = Lines::new(&*file, attempts.read, self.state.requeued.len);
        while let Some(line) = lines.next().context("read", REQUEUED)? {
            let mut words = line
                .split(|&b| b == b' ')
                .map(|word| std::str::from_utf8(word).ok());
            let mut number = || {
                words
                    .next()
                    .flatten()
                    .and_then(|word| word.parse::<u64>().ok())
            };
            if let (Some(id), Some(attempt)) = (number(), number()) {
                attempts
                    .next
                    .insert(TaskId(id), u32::try_from(attempt).unwrap_or(u32::MAX));
            }
        }
        attempts.read = self.state.requeued.len;
        Ok(())
    }
}
