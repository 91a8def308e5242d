//! Reading and writing the state in the file `lock`.
//!
//! Guarantee: the newer state that is whole is the current one; the current state is never
//! overwritten.

use super::fields::{FORMAT, Log, State};
use super::format1;
use super::log::{Act, Entry, last_is_whole};
use super::members::Members;
use super::place::{
    HOLDER_AT, LOG_AT, PLACE, PLACES_AT, STAMP, decode, encode, stamp, unwritable, version,
};
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{checksum, read_full, retry_stale};
use crate::workdir::fs::{Dir, File, NotAFile, Open};
use crate::workdir::layout::LOCK;
use crate::workdir::mechanism::Mechanism;
use std::io;
use std::sync::Arc;

/// How often damage is looked at again before it is believed.
const LOOKS: u32 = 10;

/// Reads the current state under the lock; `None` when the workdir is not prepared.
pub fn read_locked(file: &dyn File) -> Result<Option<State>> {
    for _ in 0..LOOKS {
        match read_once(file) {
            Err(Error::Damaged { .. }) => {}
            done => return done,
        }
    }
    read_once(file)
}

/// Reads the current state from an open file that others may be writing: that it is torn is
/// not a verdict.
pub fn read(file: &dyn File) -> Result<Option<State>> {
    read_locked(file).map_err(Error::no_verdict)
}

/// Reads the current state without the lock; `None` before the workdir was prepared. What
/// another process is writing may be read in part, so the file is opened and read again. If it
/// is never whole, the error is not a verdict: only the holder of the lock can call the file
/// damaged.
pub fn peek(dir: &Arc<dyn Dir>) -> Result<Option<State>> {
    let mut tries = 0;
    loop {
        tries += 1;
        let seen = retry_stale(|| match dir.open(LOCK, Open::Fresh) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ok(None)),
            // It is not there for a moment only.
            Err(error) if NotAFile::of(&error).is_some() => Ok(Err(error)),
            file => read_once(&*file.context("open", LOCK)?).map(Ok),
        });
        match seen {
            Err(Error::Damaged { .. }) if tries < LOOKS => {}
            Err(error) => return Err(error.no_verdict()),
            Ok(seen) => return seen.context("open", LOCK),
        }
    }
}

/// How a lock is taken, by whatever is left of its states.
pub fn mechanism_in(file: &dyn File) -> Option<Mechanism> {
    let mut begin = vec![0_u8; PLACES_AT + 2 * PLACE];
    read_full(file, &mut begin, 0).ok()?;
    let new = begin[PLACES_AT..].chunks(PLACE).filter_map(decode);
    let mut states = new.chain(format1::states(&begin));
    states.next().map(|state| state.mechanism)
}

fn read_once(file: &dyn File) -> Result<Option<State>> {
    let mut begin = vec![0_u8; PLACES_AT + 2 * PLACE];
    read_full(file, &mut begin, 0).context("read", LOCK)?;
    let begin = &begin[..];
    let (even, odd) = begin[PLACES_AT..].split_at(PLACE);
    let mut states: Vec<State> = [even, odd].into_iter().filter_map(decode).collect();
    states.sort_by_key(|state| std::cmp::Reverse(state.seq));
    let newest = states.iter().map(|state| state.format);
    if let Some(found) = newest.chain(version(&begin[..STAMP])).max()
        && found > FORMAT
    {
        let known = FORMAT;
        return Err(Error::Newer { found, known });
    }
    for state in states {
        if last_is_whole(file, &state.log, LOG_AT)? {
            return Ok(Some(state));
        }
    }
    if let Some(state) = format1::read(file, begin)? {
        return Ok(Some(state));
    }
    // The very first state goes into the odd place: a torn one alone does not count.
    let mut stamped = stamp().into_iter().zip(begin);
    let is_stamp = stamped.all(|(stamp, &there)| there == 0 || there == stamp);
    if !is_stamp || even.iter().any(|&b| b != 0) {
        let what = "neither of its two states is whole";
        return Err(Error::damaged(LOCK, what));
    }
    Ok(None)
}

/// Writes an entry at the end of the log and then the state that refers to it, and syncs both.
/// `state.seq` must have been raised by the caller. With a checkpoint, of the state before, a
/// new segment begins with it. A state that does not fit its place is an error, and nothing is
/// written.
pub fn write(
    file: &dyn File,
    state: &mut State,
    at: u64,
    act: Act,
    checkpoint: Option<Members>,
) -> Result<()> {
    let seq = state.seq;
    let mut bytes = Vec::new();
    if let Some(members) = checkpoint {
        let (seq, act) = (seq - 1, members.into_act());
        bytes = Entry { seq, at, act }.line().map_err(unwritable)?;
    }
    let checkpoint = bytes.len() as u64;
    bytes.extend(Entry { seq, at, act }.line().map_err(unwritable)?);
    let length = bytes.len() as u64;
    if checkpoint > 0 {
        state.log = Log {
            checkpoint,
            ..state.log.next(length)
        };
    }
    let log = &mut state.log;
    let log_at = LOG_AT + log.at + log.len;
    log.sum = checksum::grown(log.sum, log.len, &bytes);
    log.len += length;
    log.last = (length, crc32fast::hash(&bytes));
    let place = encode(state)?;
    if state.seq <= 2 {
        // Once more, should the first one be torn.
        write_stamp(file)?;
    }
    file.write_at(&bytes, log_at).context("write", LOCK)?;
    file.write_at(&place, place_of(state))
        .context("write", LOCK)?;
    file.sync().context("sync", LOCK)
}

/// Writes a state and its line of the log once more, as they are, and syncs
/// both: after a sync that failed the system may take them for written.
pub fn write_again(file: &dyn File, state: &State) -> Result<()> {
    let ((length, _), at) = (state.log.last, LOG_AT + state.log.last_at());
    let mut line = vec![0; usize::try_from(length).unwrap_or(0)];
    read_full(file, &mut line, at).context("read", LOCK)?;
    file.write_at(&line, at).context("write", LOCK)?;
    file.write_at(&encode(state)?, place_of(state))
        .context("write", LOCK)?;
    file.sync().context("sync", LOCK)
}

/// Writes a state into its place in a file that no other process knows yet.
pub fn write_place(file: &dyn File, state: &State) -> Result<()> {
    let place = encode(state)?;
    write_stamp(file)?;
    file.write_at(&place, place_of(state))
        .context("write", LOCK)
}

/// Writes an entry and a state into a new file that will take the place of `lock`, and
/// syncs it. The log begins with the entry.
pub fn write_new(file: &dyn File, state: &mut State, at: u64, act: Act) -> Result<()> {
    state.log = Log {
        segment: state.log.segment,
        ..Log::default()
    };
    write_stamp(file)?;
    write(file, state, at, act, None)
}

/// Programs that know only format 1 take it for a state of a newer format.
fn write_stamp(file: &dyn File) -> Result<()> {
    file.write_at(&stamp(), 0).context("write", LOCK)
}

/// Writes who took the lock, and when. No two such notes are the same.
pub fn write_holder(file: &dyn File, who: &str, at: u64) -> Result<()> {
    let mut text = format!("lock taken at {at} by {who}");
    text.truncate(511);
    let text = format!("{text:<511}\n");
    file.write_at(text.as_bytes(), HOLDER_AT)
        .context("write", LOCK)
}

/// The note of the last holder of the lock.
pub fn read_holder(file: &dyn File) -> Option<String> {
    let mut text = [0_u8; 512];
    let read = read_full(file, &mut text, HOLDER_AT).ok()?;
    let text = std::str::from_utf8(&text[..read]).ok()?.trim();
    text.strip_prefix("lock taken at ").map(str::to_owned)
}

/// Where a state belongs.
pub(super) fn place_of(state: &State) -> u64 {
    PLACES_AT as u64 + (state.seq % 2) * PLACE as u64
}
