//! Which tasks are in `failed` since they have lost too many farmers, by the file `requeued`: no
//! journal has the end of such an attempt.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{lines, open_if_any};
use crate::workdir::state::State;
use crate::workdir::transaction::{RequeueReason, parse_note};

/// All such tasks, as far as they were read.
#[derive(Debug, Default)]
pub struct GivenUp {
    read: u64,
    /// The last attempt of each, by task.
    attempts: BTreeMap<u64, u32>,
}

impl GivenUp {
    /// Reads what is new in a state, from the file that is `requeued` then: nothing in a run in
    /// which nothing was put back.
    pub(super) fn refresh(&mut self, requeued: &Path, state: &State) -> io::Result<()> {
        let known = state.requeued.len;
        if known < self.read {
            *self = Self::default();
        }
        if known == self.read {
            return Ok(());
        }
        if let Some(file) = open_if_any(requeued)? {
            lines::each(&file, self.read, |line, at| {
                if at < known
                    && let Some((id, attempt, why)) = parse_note(line)
                    && why == RequeueReason::LostLimit.word()
                    && let Ok(attempt) = u32::try_from(attempt)
                {
                    self.attempts.insert(id.0, attempt);
                }
                Ok(())
            })?;
        }
        self.read = known;
        Ok(())
    }

    /// All of them, each with its last attempt.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.attempts.iter().map(|(id, attempt)| (*id, *attempt))
    }
}
