//! The lock, while it is held.

use super::name::Name;
use crate::workdir::fs::File;
use crate::workdir::liveness::Waiting;
use crate::workdir::mechanism::Mechanism;
use std::time::Duration;

/// The lock, until it is dropped.
pub struct Held {
    /// The open lock file.
    pub file: Box<dyn File>,
    /// The same file, opened a second time to check its identity; closed after the unlock.
    #[expect(dead_code, reason = "it is held to be closed after the unlock")]
    pub(super) again: Option<Box<dyn File>>,
    pub(super) mechanism: Mechanism,
    pub(super) since: Duration,
    /// Dropped last: it is released after the file is closed.
    pub(super) name: Option<Name>,
}

impl Held {
    /// Whether the lock is held for so long that others might soon break it:
    /// then nothing may be written any more.
    pub fn is_stale(&self, waiting: &dyn Waiting) -> bool {
        waiting.now().saturating_sub(self.since) > waiting.takeover() / 2
    }

    /// To be called before a state is written under the lock. Without [`Held::ends`] after it,
    /// it is unknown whether that state is the current one.
    pub fn begins(&mut self) {
        self.name.iter_mut().for_each(Name::begins);
    }

    /// The state is the current one, or it certainly is not and will not be. `is_quiet`: that
    /// state has no member.
    pub fn ends(&mut self, is_true: bool, is_quiet: bool) {
        if let Some(name) = &mut self.name {
            name.ends(is_true, is_quiet);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.file.unlock(self.mechanism);
    }
}
