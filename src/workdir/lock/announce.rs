//! What keeps waiters from breaking a lock that has changed hands.
//!
//! Guarantee: once it is announced, no process breaks the lock on earlier evidence.

use crate::workdir::error::{Context, Result};
use crate::workdir::fs::{Dir, File};
use crate::workdir::layout::LOCK;
use crate::workdir::liveness::Waiting;
use crate::workdir::state;
use std::sync::Arc;

/// How the names begin of files that are to take the place of the lock.
pub(super) const NEXT: &str = "lock.next.";

/// Announces that the lock has changed hands, or is about to, to processes that
/// may want to break it: those that watch it, and those that have prepared to replace it.
pub fn announce(
    dir: &Arc<dyn Dir>,
    lock: &dyn File,
    owner: &str,
    waiting: &dyn Waiting,
) -> Result<()> {
    state::write_holder(lock, owner, waiting.micros())?;
    lock.sync().context("sync", LOCK)?;
    disarm(dir, "")
}

/// Removes the files by which other processes have prepared to replace the lock.
pub(super) fn disarm(dir: &Arc<dyn Dir>, but: &str) -> Result<()> {
    for name in dir.list("").context("list", "the workdir")? {
        if name.starts_with(NEXT) && name != but {
            dir.remove(&name).context("remove", &name)?;
        }
    }
    Ok(())
}
