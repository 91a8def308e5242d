//! The log of transactions: one line of JSON for each, which says what it did.
//!
//! It has segments. Each begins with a checkpoint of the members, so the newest segment is
//! complete by itself, whatever the age of the run. That one is in the file `lock`; those
//! before are copied into files `log.N` as they end, for diagnosis and for the timeline: no
//! decision depends on them.
//!
//! Guarantee: the lines of one segment, in their order, are enough to know the members, the
//! outstanding tasks of each, and up to where its journal is settled.

use serde::{Deserialize, Serialize};

use super::fields::Log;
use super::place::LOG_AT;
use crate::model::ids::{IdSet, Ids};
use crate::model::record::is_zero;
use crate::model::task::TaskId;
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{checksum, read_full};
use crate::workdir::fs::File;
use crate::workdir::layout::LOCK;

/// One line of the log: what one transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The transaction.
    pub seq: u64,
    /// When, in microseconds since 1970. It makes a line of the log unlike that
    /// of an earlier try, whose torn state would be whole by it.
    #[serde(default)]
    pub at: u64,
    /// What it did.
    #[serde(flatten)]
    pub act: Act,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum Act {
    /// The workdir was prepared, or prepared again for a changed list.
    Prepare,
    /// It was prepared again for a list in which the lines of failed tasks are gone.
    Edit {
        /// Which: they are not in `failed` any more.
        forgotten: Ids,
    },
    /// A farmer joined.
    Join {
        /// Its number.
        by: u32,
        /// Its name.
        farmer: String,
        /// Whether it reads tasks from a stream.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        feeds: bool,
        /// What it claimed at once.
        #[serde(default, skip_serializing_if = "Ids::is_empty")]
        claim: Ids,
    },
    /// A farmer's turn: it settled results, gave tasks back, claimed others.
    Turn {
        /// Its number.
        by: u32,
        /// The ends in its journal before this offset are in `finished`,
        /// `failed` or (interrupted) `toprocess`.
        settled: u64,
        /// What went into `finished` or `failed` by it.
        #[serde(default, skip_serializing_if = "Ids::is_empty")]
        ended: Ids,
        /// What it claimed.
        #[serde(default, skip_serializing_if = "Ids::is_empty")]
        claim: Ids,
        /// What it gave back to `toprocess`.
        #[serde(default, skip_serializing_if = "Ids::is_empty")]
        back: Ids,
        /// How many new tasks it brought in from its stream.
        #[serde(default, skip_serializing_if = "is_zero")]
        fed: u64,
        /// Whether its stream ended with this turn.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fed_all: bool,
        /// Whether this was its last turn.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        leave: bool,
    },
    /// A dead farmer's results were settled and its other tasks given back.
    Seal {
        /// The farmer that was fenced.
        of: u32,
        /// The one that did it.
        by: u32,
    },
    /// Failed tasks were put back into `toprocess`.
    Retry {
        /// Which.
        ids: Ids,
    },
    /// A farmer claims nothing more, since it doubts its node, and failed tasks of
    /// its were put back into `toprocess`; it may do so again.
    Quarantine {
        /// Its number.
        by: u32,
        /// Which tasks.
        ids: Ids,
    },
    /// It claims again.
    Release {
        /// Its number.
        by: u32,
    },
    /// An order to the farmers was given.
    Order {
        /// Its word in `orders`.
        order: String,
        /// The tasks that it concerns.
        #[serde(default, skip_serializing_if = "Ids::is_empty")]
        ids: Ids,
    },
    /// The run was reset.
    Reset {
        /// From which task on.
        from: TaskId,
    },
    /// Tasks were cancelled: `orders` has which.
    Cancel {
        /// How many of them waited: they went from `toprocess` to `failed`.
        waiting: u64,
    },
    /// The tasks that wait were edited: `toprocess` was rewritten.
    EditQueue {
        /// How many of them went into `failed`.
        #[serde(default, skip_serializing_if = "is_zero")]
        cancelled: u64,
        /// New tasks.
        #[serde(default, skip_serializing_if = "Ids::is_empty")]
        added: Ids,
    },
    /// Not a transaction: the members when a segment of the log began.
    Checkpoint {
        /// The members, in the order in which they joined.
        members: Vec<Member>,
    },
}

impl Entry {
    /// Its line.
    pub(super) fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// The file of a finished segment.
pub fn kept(segment: u64) -> String {
    format!("log.{segment}")
}

/// The number of the segment that is kept under this name.
pub fn segment_of(name: &str) -> Option<u64> {
    name.strip_prefix("log.")?.parse().ok()
}

/// The bytes of a segment, in the file `lock`, from one of its lengths on, as they are.
pub fn bytes(file: &dyn File, log: &Log, from: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(log.len.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    let read = read_full(file, &mut bytes, LOG_AT + log.at + from).context("read", LOCK)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The bytes of a segment that were written since it was as `then`; all of them when
/// that is another segment. They have the recorded checksum, or are damage.
pub fn bytes_since(file: &dyn File, log: &Log, then: &Log) -> Result<Vec<u8>> {
    let is_same = log.segment == then.segment && then.len <= log.len;
    let (from, before) = if is_same {
        (then.len, then.sum)
    } else {
        (0, 0)
    };
    let (bytes, length) = (bytes(file, log, from)?, log.len - from);
    let recorded = checksum::rest(log.sum, before, length);
    if bytes.len() as u64 == length && crc32fast::hash(&bytes) == recorded {
        return Ok(bytes);
    }
    let what = "the checksum of its transaction log is not the recorded one";
    Err(Error::damaged(LOCK, what))
}

/// The entries of a segment, as [`bytes_since`] has them.
pub fn entries(file: &dyn File, log: &Log, then: &Log) -> Result<Vec<Entry>> {
    parse_entries(&bytes_since(file, log, then)?)
}

/// The entries in a part of the log, oldest first.
pub fn parse_entries(bytes: &[u8]) -> Result<Vec<Entry>> {
    bytes
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_slice(line).map_err(|error| {
                let what = "its transaction log holds a line that cannot be parsed";
                Error::damaged(LOCK, format_args!("{what} ({error})"))
            })
        })
        .collect()
}

/// A farmer that is alive by the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number.
    pub by: u32,
    /// Its name.
    pub farmer: String,
    /// Up to where its journal is settled.
    pub settled: u64,
    /// Whether it reads tasks from a stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub feeds: bool,
    /// Whether it claims nothing, since it doubts its node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quarantined: bool,
    /// What it has claimed and neither ended nor given back.
    #[serde(default, skip_serializing_if = "IdSet::is_empty")]
    pub open: IdSet,
}

/// Whether what the last transaction wrote into the log is as recorded; `log_at` is where
/// the log begins.
pub(super) fn last_is_whole(file: &dyn File, log: &Log, log_at: u64) -> Result<bool> {
    let (length, sum) = log.last;
    let mut line = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = read_full(file, &mut line, log_at + log.last_at()).context("read", LOCK)?;
    Ok(read as u64 == length && crc32fast::hash(&line) == sum)
}
