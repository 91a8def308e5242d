//! What is recorded of a shared file: its committed length, and how its unclaimed part begins.
//!
//! Guarantee: bytes past a committed length are uncommitted and are ignored.

use super::checksum;
use serde::{Deserialize, Serialize};

/// The known part of an append-only file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Its length in bytes.
    pub len: u64,
    /// Its lines.
    pub lines: u64,
    /// Its checksum.
    #[serde(default)]
    pub sum: u32,
}

impl Committed {
    /// Whether nothing of it is known.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same, followed by these bytes.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        Self {
            len: self.len + bytes.len() as u64,
            lines: self.lines + memchr::memchr_iter(b'\n', bytes).count() as u64,
            sum: checksum::grown(self.sum, self.len, bytes),
        }
    }
}

/// The length and the checksum of the first bytes at some place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head(pub(in crate::workdir) u32, pub(in crate::workdir) u32);

impl Head {
    /// No more bytes than these are looked at.
    pub const MOST: usize = 64;

    /// Of what begins with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(Self::MOST)];
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        Self(length, crc32fast::hash(bytes))
    }

    /// Whether these bytes begin as those did; nothing known fits everything.
    pub fn fits(self, bytes: &[u8]) -> bool {
        let known = usize::try_from(self.0).ok().and_then(|n| bytes.get(..n));
        known.is_some_and(|known| known.is_empty() || crc32fast::hash(known) == self.1)
    }
}
