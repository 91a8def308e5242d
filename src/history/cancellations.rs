//! Which tasks were cancelled, by whom, when and why, by the file `orders`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::model::ids::Ids;
use crate::model::task::TaskId;
use crate::workdir::files::Committed;
use crate::workdir::fs::{Dir, RealDir};
use crate::workdir::orders::cancels_since;
use crate::workdir::state::State;

/// Tasks that were cancelled together, all in the same attempt.
#[derive(Clone, Debug)]
pub struct Cancellation {
    /// When, in microseconds since 1970.
    pub at: u64,
    /// Who, as `USER@HOST`.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<String>,
    /// The number of the attempt.
    pub attempt: u32,
    /// The tasks.
    pub ids: Ids,
}

/// All cancellations, as far as they were read.
#[derive(Debug, Default)]
pub struct Cancellations {
    read: Committed,
    /// In the order in which they were given.
    pub all: Vec<Cancellation>,
}

impl Cancellations {
    /// Reads what is new in a state.
    pub(super) fn refresh(&mut self, workdir: &Path, state: &State) -> io::Result<()> {
        if state.orders.len < self.read.len {
            *self = Self::default();
        }
        if state.orders.len == self.read.len {
            return Ok(());
        }
        let dir: Arc<dyn Dir> = RealDir::open(workdir)?;
        let new = cancels_since(&dir, state, self.read).map_err(io::Error::other)?;
        self.all
            .extend(new.into_iter().map(|(at, cancel)| Cancellation {
                at,
                by: cancel.by,
                reason: cancel.reason,
                attempt: cancel.attempt,
                ids: cancel.ids,
            }));
        self.read = state.orders;
        Ok(())
    }

    /// That of the last attempt of a task that was cancelled.
    pub fn of(&self, id: u64) -> Option<&Cancellation> {
        let its = self
            .all
            .iter()
            .rev()
            .filter(|one| one.ids.contains(TaskId(id)));
        its.max_by_key(|one| one.attempt)
    }
}
