//! The log of transactions, as a view reads it without the lock: the newest segment in
//! `lock`, and those before as far as they are kept.
//!
//! Segments that are gone, or were read in part, are left out: no decision depends on them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::history::open_if_any;
use crate::workdir::files::read_from;
use crate::workdir::fs::{Dir, Open, RealDir};
use crate::workdir::layout::LOCK;
use crate::workdir::state::{Act, Log, bytes, kept, peek, segment_of};

/// The segments that are kept, oldest first.
pub(super) fn all_kept(workdir: &Path) -> io::Result<Vec<u64>> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(workdir)? {
        kept.extend(entry?.file_name().to_str().and_then(segment_of));
    }
    kept.sort_unstable();
    Ok(kept)
}

/// What is in a segment that is kept, from one of its lengths on; nothing when it is
/// gone.
pub(super) fn of_kept(workdir: &Path, segment: u64, from: u64) -> io::Result<Vec<u8>> {
    let file = open_if_any(&workdir.join(kept(segment)))?;
    file.map_or(Ok(Vec::new()), |file| read_from(&file, from))
}

/// What is in the newest segment of a state, from one of its lengths on; nothing when
/// it is gone by now.
pub(super) fn of_newest(workdir: &Path, log: &Log, from: u64) -> io::Result<Vec<u8>> {
    let dir: Arc<dyn Dir> = RealDir::open(workdir)?;
    let file = match dir.open(LOCK, Open::Fresh) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let bytes = bytes(&*file, log, from).map_err(io::Error::other)?;
    let now = peek(&dir).ok().flatten();
    let is_intact = now.is_some_and(|now| log.is_intact(&now.log));
    Ok(if is_intact { bytes } else { Vec::new() })
}

/// The number of the farmer that did a transaction; `None` for those that no farmer does.
pub(super) fn by(act: &Act) -> Option<u32> {
    match act {
        Act::Join { by, .. }
        | Act::Turn { by, .. }
        | Act::Seal { by, .. }
        | Act::Quarantine { by, .. }
        | Act::Release { by } => Some(*by),
        Act::Prepare
        | Act::Edit { .. }
        | Act::Retry { .. }
        | Act::Order { .. }
        | Act::Reset { .. }
        | Act::Cancel { .. }
        | Act::EditQueue { .. }
        | Act::Checkpoint { .. } => None,
    }
}
