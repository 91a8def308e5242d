//! What is checked before something is written: that the lock is still ours, and that the files
//! are those that the state describes.
//!
//! Guarantee: nothing is written once others may consider the lock abandoned; only the holder
//! of the lock reports a file as damaged.

use super::txn::Txn;
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{CHANGED, Head, read_full};
use crate::workdir::fs::File;
use crate::workdir::lock;
use crate::workdir::state::Queue;

impl Txn<'_> {
    /// Nothing may be written once others might take the lock for abandoned:
    /// the transaction is given up, and may be tried again.
    pub(super) fn may_write(&self) -> Result<()> {
        if self.held.is_stale(self.waiting) {
            // They must not do it while the next holder has the lock.
            let _ = lock::announce(self.dir, &*self.held.file, "nobody", self.waiting);
            return Err(Error::HeldTooLong);
        }
        Ok(())
    }

    /// An error that speaks of what the workdir holds is a verdict only while
    /// the lock is ours.
    pub fn verdict<E: From<Error>>(&self, error: E) -> E {
        self.may_write().map_or_else(E::from, |()| error)
    }

    /// What is wrong with a file, as a verdict.
    pub fn damaged(&self, name: &str, what: impl std::fmt::Display) -> Error {
        self.verdict(Error::damaged(name, what))
    }

    /// What is known ends with a line's end, unless the file system lost it: it
    /// may leave zeros after a crash of the machine.
    pub(super) fn check_last_line(&self, file: &dyn File, name: &str, known: u64) -> Result<()> {
        let mut last = [b'\n'];
        let read = read_full(file, &mut last, known.saturating_sub(1)).context("read", name)?;
        if known == 0 || read == 0 || last == [b'\n'] {
            return Ok(());
        }
        let what = format!("its last line, before byte {known}, has no line feed");
        Err(self.damaged(name, what))
    }

    /// What was read of a file has the checksum that was recorded.
    pub(super) fn check_sum(&self, name: &str, read: u32, recorded: u32) -> Result<()> {
        if read == recorded {
            return Ok(());
        }
        Err(self.damaged(name, CHANGED))
    }

    /// How long a file is, which is no less than what is known of it.
    pub(super) fn length_of(&self, file: &dyn File, name: &str, known: u64) -> Result<u64> {
        let length = file.len().context("look at", name)?;
        if length < known {
            let what = format!("it has {length} bytes where {known} were recorded");
            return Err(self.damaged(name, what));
        }
        Ok(length)
    }

    /// What is at the cursor of a queue is what was there when the state was written.
    pub(super) fn check_head(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let Queue { cursor, head, .. } = self.state.queue_named(name);
        if head.fits(bytes) {
            return Ok(());
        }
        let what = format!(
            "at byte {cursor} it differs from what was recorded: it \
             and the file lock are of different times"
        );
        Err(self.damaged(name, what))
    }

    /// The same, of an open file.
    pub(super) fn check_queue(&self, name: &str, file: &dyn File) -> Result<()> {
        let mut bytes = [0; Head::MOST];
        let read = read_full(file, &mut bytes, self.state.queue_named(name).cursor);
        self.check_head(name, &bytes[..read.context("read", name)?])
    }
}
