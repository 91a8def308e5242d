//! `--copy-in`: how files and folders are copied to a host before its farmer starts. `send` is
//! the end of the starter, `receive` that of the host.
//!
//! The starter sends a list; the host answers which files it lacks; the starter sends those. A
//! file that has the size and the time of the one here is taken to be the same. One with the
//! same size and another time is compared by its SHA-256, and sent only if that is not the same.
//!
//! Guarantee: a file has its name on the host only when it is whole and on its disk, and the
//! farmer starts only when all are there.

use std::fs::Metadata;
use std::io;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// The first byte of a frame with part of a file.
pub(super) const DATA: u8 = 0;
/// That of one with the time of a file that is complete.
pub(super) const END: u8 = 1;
/// That of one with the time of a file that is the same there.
pub(super) const SAME: u8 = 2;
/// That of one that says why the rest does not come.
pub(super) const FAILED: u8 = 3;
/// So much of a file is in a frame.
pub(super) const PIECE: usize = 1 << 20;

/// What is to be on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Where, below the folder of the host.
    pub(super) path: String,
    /// What.
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    Folder { mode: u32 },
    File { size: u64, time: Time, mode: u32 },
    Link { to: String },
}

/// When a file was last written: seconds and nanoseconds since 1970.
pub(super) type Time = (u64, u32);

/// A file that the host lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Need {
    /// Its place in the list.
    pub(super) at: usize,
    /// The SHA-256 of what is there, where only the times differ.
    pub(super) hash: Option<String>,
}

/// What the host says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Files that it lacks; none after the last of them.
    Needs(Vec<Need>),
    /// All are there.
    Done,
    /// It cannot have them.
    Problem(String),
}

/// Writes a frame.
pub(super) type Frame<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;
/// Writes frames.
pub(super) type Frames<'a> = &'a mut (dyn FnMut(Frame<'_>) -> io::Result<()> + Send);

/// When a file was last written.
pub(super) fn time_of(stat: &Metadata) -> Option<Time> {
    let since = stat.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((since.as_secs(), since.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_way() {
        let entry = Entry {
            path: "a/ö b".into(),
            what: What::File {
                size: 1 << 60,
                time: (1, 2),
                mode: 0o644,
            },
        };
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
        let reply = Reply::Needs(vec![Need { at: 3, hash: None }]);
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
    }
}
