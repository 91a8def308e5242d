//! What the file `lock` holds: the state of the workdir and the newest segment of the
//! log of its transactions.
//!
//! ```text
//! 0      the format, for programs that know only older ones   ( 1024 bytes)
//! 2048   who took the lock last, for people                   (  512 bytes)
//! 4096   state, written by transactions with an even number   (16384 bytes)
//! 20480  state, written by transactions with an odd number    (16384 bytes)
//! 36864  the log: one line of JSON per transaction
//! ```
//!
//! The first kilobyte and the holder's line are where format 1 has them, so that a
//! program that knows only format 1 sees that it must keep away, and two programs of
//! different formats that want the lock understand each other.
//!
//! A transaction first writes its line of the log behind the known end, then
//! the state that knows of it, into the place of the older state. **Writing the
//! state is the one moment at which everything in a transaction comes true**:
//! claims, results, requeued tasks, new files. Whatever was written behind a
//! known length before that never happened. Each state carries a checksum of
//! itself and of its line of the log, so a torn write leaves the older state in
//! force. **No byte of the segment that the state in force speaks of is ever written
//! over**: a new segment begins before or behind it. `log` has what the lines of the
//! log say, `format1` reads the format before this one.

mod format1;
mod log;
pub mod sum;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Context, Error, Result};
use super::fs::{Dir, File, NoFile, Open, looks, read_full};
use super::layout::{FAILED, FINISHED, REQUEUED, TASKS};
use super::lock::Mechanism;

#[cfg(test)]
pub(super) use log::samples;
pub use log::{
    Act, Entry, Member, Members, bytes, bytes_since, entries, kept, parse_entries, segment_of,
};

/// The newest format of a workdir that this program reads and writes.
pub const FORMAT: u32 = 2;
/// The file that is locked and holds all this.
pub const LOCK: &str = "lock";

/// What the file begins with: the format alone, as the even state of format 1 would be.
const STAMP: usize = 1024;
const HOLDER_AT: u64 = 2048;
/// Where the first of the two states begins.
const PLACES_AT: usize = 4096;
/// The most bytes that a state may have.
const PLACE: usize = 16 << 10;
/// A state is filled up to a multiple of so many bytes.
const STEP: usize = 1024;
/// Where the log of transactions begins.
pub const LOG_AT: u64 = (PLACES_AT + 2 * PLACE) as u64;
/// How often damage is looked at again before it is believed.
const LOOKS: u32 = 10;

/// The known part of an append-only file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its length in bytes.
    pub len: u64,
    /// Its lines.
    pub lines: u64,
    /// Its checksum.
    #[serde(default)]
    pub sum: u32,
}

impl Known {
    /// The same, with so many lines more behind it.
    #[must_use]
    pub fn with(self, bytes: &[u8], lines: u64) -> Self {
        Self {
            len: self.len + bytes.len() as u64,
            lines: self.lines + lines,
            sum: sum::grown(self.sum, self.len, bytes),
        }
    }
}

/// A queue of tasks of one class: its file from the cursor on. That of class 0 is
/// `toprocess`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The length of the file in bytes.
    pub len: u64,
    /// Where the first line begins that nobody has claimed.
    pub cursor: u64,
    /// How many lines nobody has claimed.
    pub left: u64,
    /// Counts the times that the file was written anew.
    pub generation: u64,
    /// What it holds at the cursor: an older `toprocess` that somebody put back
    /// holds something else there.
    #[serde(default)]
    pub head: Head,
    /// The checksum of the file.
    #[serde(default)]
    pub sum: u32,
    /// The checksum of what is before the cursor: what was claimed.
    #[serde(default)]
    pub taken: u32,
}

impl Queue {
    /// What is known of its file; the lines are those that nobody has claimed.
    pub fn known(&self) -> Known {
        Known {
            len: self.len,
            lines: self.left,
            sum: self.sum,
        }
    }

    /// The checksum of what nobody has claimed.
    pub fn rest(&self) -> u32 {
        sum::rest(self.sum, self.taken, self.len.saturating_sub(self.cursor))
    }
}

/// The length and the checksum of the first bytes at some place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head(u32, u32);

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

/// A file that takes the place of another when its transaction has come true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    /// The complete new file.
    pub from: String,
    /// The name it gets.
    pub to: String,
}

/// Which task list the workdir was made from, as far as stat(2) tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListIdentity {
    /// Length in bytes.
    pub len: u64,
    /// Last modification, seconds since 1970.
    pub mtime: i64,
    /// And the nanoseconds of it.
    pub mtime_nsec: i64,
    /// The number of the file.
    pub inode: u64,
}

/// The newest segment of the log: a part of the file `lock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Its number, from 0.
    pub segment: u64,
    /// Where it begins, in bytes behind [`LOG_AT`].
    pub at: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The length of the checkpoint that it begins with.
    pub checkpoint: u64,
    /// Its checksum.
    pub sum: u32,
    /// The length of what the last transaction wrote into it, and its checksum.
    pub last: (u64, u32),
}

impl Log {
    /// Whether it is time for a new segment, by a limit in bytes: a checkpoint is
    /// written again only when at least as much has come after it.
    fn is_long(&self, limit: u64) -> bool {
        self.len - self.checkpoint.min(self.len) >= limit.max(self.checkpoint)
    }

    /// The segment after this one, of which nothing is written yet, when it begins
    /// with that many bytes: they lie nowhere in this one.
    fn next(&self, first: u64) -> Self {
        let at = if first <= self.at {
            0
        } else {
            self.at + self.len
        };
        Self {
            segment: self.segment + 1,
            at,
            ..Self::default()
        }
    }

    /// Whether it is still there, in whole, when the newest segment is `now`.
    pub fn is_intact(&self, now: &Self) -> bool {
        let (end, now_end) = (self.at + self.len, now.at + now.len);
        match now.segment.checked_sub(self.segment) {
            Some(0) => true,
            Some(1) => now_end <= self.at || end <= now.at,
            _ => false,
        }
    }

    /// Where its last write begins, in bytes behind [`LOG_AT`].
    fn last_at(&self) -> u64 {
        self.at + self.len.saturating_sub(self.last.0)
    }
}

/// The state of a workdir between two transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The format of the workdir.
    pub format: u32,
    /// Counts transactions.
    pub seq: u64,
    /// How its lock is taken.
    pub mechanism: Mechanism,
    /// The queue of each class of tasks; there is at least that of class 0.
    pub queues: Vec<Queue>,
    /// `finished`.
    pub finished: Known,
    /// `failed`.
    pub failed: Known,
    /// `requeued`.
    pub requeued: Known,
    /// `tasks`; its number of lines is the next new task's id.
    pub tasks: Known,
    /// Tasks that vanished from the list before they ran.
    pub dropped: u64,
    /// Farmers that joined and have neither left nor been sealed.
    pub live: u32,
    /// Those of them that claim nothing, since they doubt their node.
    #[serde(default)]
    pub quarantined: u32,
    /// The number of the next farmer that joins.
    pub next_farmer: u32,
    /// Counts the farmers that others sealed: whoever sees it change looks
    /// whether it was meant.
    pub seals: u64,
    /// The transaction with which the present run began: somebody joined, and nobody
    /// else was alive.
    #[serde(default)]
    pub began: u64,
    /// Counts the times that the lock was broken.
    #[serde(default)]
    pub breaks: u32,
    /// The value of `breaks` when the shared files were last written anew: an
    /// old holder of the lock that comes back may still have them open.
    #[serde(default)]
    pub renewed: u32,
    /// After how many seconds without a sign of life a farmer of this run is taken for
    /// dead: one value for all, set by who joins when nobody is alive.
    #[serde(default)]
    pub takeover: u64,
    /// Farmers that still read tasks from a stream.
    pub feeding: u32,
    /// Tasks that were taken from a farmer since the first one joined: stopped
    /// with it or lost with it.
    pub interrupted: u64,
    /// The newest segment of the log.
    pub log: Log,
    /// The list it was made from; none for standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<ListIdentity>,
    /// The folder in which the run was first started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Files that still have to take their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renames: Vec<Rename>,
}

impl State {
    /// The state of a workdir that nobody has prepared.
    pub fn new(mechanism: Mechanism) -> Self {
        Self {
            format: FORMAT,
            seq: 0,
            mechanism,
            queues: vec![Queue::default()],
            finished: Known::default(),
            failed: Known::default(),
            requeued: Known::default(),
            tasks: Known::default(),
            dropped: 0,
            live: 0,
            quarantined: 0,
            next_farmer: 0,
            seals: 0,
            began: 0,
            breaks: 0,
            renewed: 0,
            takeover: 0,
            feeding: 0,
            interrupted: 0,
            log: Log::default(),
            list: None,
            folder: None,
            renames: Vec::new(),
        }
    }

    /// What is known of a shared file, by its name.
    pub fn known(&self, name: &str) -> Known {
        match name {
            FINISHED => self.finished,
            FAILED => self.failed,
            REQUEUED => self.requeued,
            TASKS => self.tasks,
            _ => self.queue().known(),
        }
    }

    /// The queue of class 0.
    pub fn queue(&self) -> Queue {
        self.queues.first().copied().unwrap_or_default()
    }

    /// Changes the queue of class 0.
    pub fn set_queue(&mut self, queue: Queue) {
        match self.queues.first_mut() {
            Some(first) => *first = queue,
            None => self.queues.push(queue),
        }
    }

    /// How many tasks nobody has claimed, of all classes.
    pub fn left(&self) -> u64 {
        self.queues.iter().map(|queue| queue.left).sum()
    }

    /// The takeover time of the run, while somebody is alive.
    pub fn takeover(&self) -> Option<Duration> {
        (self.live > 0 && self.takeover > 0).then(|| Duration::from_secs(self.takeover))
    }

    /// Farmers that are alive and claim tasks.
    pub fn claiming(&self) -> u32 {
        self.live.saturating_sub(self.quarantined)
    }

    /// Whether the log is so long that a new segment begins, by a limit in bytes.
    pub fn has_long_log(&self, limit: u64) -> bool {
        self.log.is_long(limit)
    }

    /// Tasks that some farmer has claimed and not yet settled.
    pub fn claimed(&self) -> u64 {
        let elsewhere = self.finished.lines + self.failed.lines + self.dropped + self.left();
        self.tasks.lines.saturating_sub(elsewhere)
    }

    /// What of its numbers cannot be: each task is in one place, and what is claimed
    /// somebody must have. `None` when they agree.
    pub fn contradiction(&self) -> Option<String> {
        let known = self.tasks.lines;
        let elsewhere = self.finished.lines + self.failed.lines + self.dropped + self.left();
        if elsewhere > known {
            return Some(format!(
                "it counts {elsewhere} tasks that ended, wait or were dropped, of {known}"
            ));
        }
        let claimed = known - elsewhere;
        (self.live == 0 && claimed > 0)
            .then(|| format!("{claimed} tasks are claimed, but no farmer is alive that has them"))
    }

    /// Whether every task is in `finished` or `failed` and no more can come.
    pub fn is_complete(&self) -> bool {
        self.left() == 0 && self.claimed() == 0 && self.feeding == 0
    }
}

/// Reads the state in force; `None` when nobody has prepared the workdir. What it
/// says of damage is a verdict only while the lock is held: see [`look`].
pub fn read(file: &dyn File) -> Result<Option<State>> {
    for _ in 0..LOOKS {
        match read_once(file) {
            Err(Error::Damaged { .. }) => {}
            done => return done,
        }
    }
    read_once(file)
}

/// The state in force, as a look without the lock shows it; `None` before the workdir
/// was prepared. What somebody writes at that moment may be seen in part. So the file
/// is opened and looked at again, and what is never whole is an error that says so and
/// no verdict: only who holds the lock can call it damaged.
pub fn look(dir: &Arc<dyn Dir>) -> Result<Option<State>> {
    let mut tries = 0;
    loop {
        tries += 1;
        let seen = looks(|| match dir.open(LOCK, Open::Fresh) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ok(None)),
            // Nobody puts that there for a moment.
            Err(error) if NoFile::of(&error).is_some() => Ok(Err(error)),
            file => read_once(&*file.context("open", LOCK)?).map(Ok),
        });
        match seen {
            Err(Error::Damaged { .. }) if tries < LOOKS => {}
            Err(error) => return Err(no_verdict(error)),
            Ok(seen) => return seen.context("open", LOCK),
        }
    }
}

/// What was seen without the lock is no verdict.
pub fn no_verdict(error: Error) -> Error {
    let Error::Damaged { file, what } = error else {
        return error;
    };
    let what = format!("at this moment, {what}");
    Error::Io {
        doing: "make sense of",
        file,
        source: io::Error::new(io::ErrorKind::InvalidData, what),
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
        if last_line_is_whole(file, &state, LOG_AT)? {
            return Ok(Some(state));
        }
    }
    if let Some(state) = format1::read(file, begin)? {
        return Ok(Some(state));
    }
    // The very first state goes into the odd place: a torn one alone is none.
    let mut stamped = stamp().into_iter().zip(begin);
    let is_stamp = stamped.all(|(stamp, &there)| there == 0 || there == stamp);
    if !is_stamp || even.iter().any(|&b| b != 0) {
        let what = "neither of its two states is whole; see docs/workdir.md, \"A damaged workdir\"";
        return Err(Error::Damaged {
            file: LOCK.into(),
            what: what.into(),
        });
    }
    Ok(None)
}

/// Whether what the last transaction wrote into a state's log is as recorded; `log_at`
/// is where the log begins.
fn last_line_is_whole(file: &dyn File, state: &State, log_at: u64) -> Result<bool> {
    let (length, sum) = state.log.last;
    let mut line = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = read_full(file, &mut line, log_at + state.log.last_at()).context("read", LOCK)?;
    Ok(read as u64 == length && crc32fast::hash(&line) == sum)
}

/// Writes an entry behind the log and then the state that knows of it, and
/// syncs both. `state.seq` must have been raised by the caller. With a checkpoint, of
/// the state before, a new segment begins with it. A state that does not fit its place
/// is an error, and nothing is written.
pub fn write(
    file: &dyn File,
    state: &mut State,
    (at, act): (u64, Act),
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
    log.sum = sum::grown(log.sum, log.len, &bytes);
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

/// Writes a state into its place in a file that nobody else knows yet.
pub fn write_place(file: &dyn File, state: &State) -> Result<()> {
    let place = encode(state)?;
    write_stamp(file)?;
    file.write_at(&place, place_of(state))
        .context("write", LOCK)
}

/// Writes an entry and a state into a new file that will take the place of `lock`, and
/// syncs it. The log begins with the entry.
pub fn write_new(file: &dyn File, state: &mut State, act: (u64, Act)) -> Result<()> {
    state.log = Log {
        segment: state.log.segment,
        ..Log::default()
    };
    write_stamp(file)?;
    write(file, state, act, None)
}

/// Programs that know only format 1 take it for a state of a newer format.
fn write_stamp(file: &dyn File) -> Result<()> {
    file.write_at(&stamp(), 0).context("write", LOCK)
}

/// Where a state belongs.
fn place_of(state: &State) -> u64 {
    PLACES_AT as u64 + (state.seq % 2) * PLACE as u64
}

/// Leaves a word about who took the lock, and when: no two are the same.
pub fn write_holder(file: &dyn File, who: &str, at: u64) -> Result<()> {
    let mut text = format!("lock taken at {at} by {who}");
    text.truncate(511);
    let text = format!("{text:<511}\n");
    file.write_at(text.as_bytes(), HOLDER_AT)
        .context("write", LOCK)
}

/// The word that the last holder of the lock left.
pub fn read_holder(file: &dyn File) -> Option<String> {
    let mut text = [0_u8; 512];
    let read = read_full(file, &mut text, HOLDER_AT).ok()?;
    let text = std::str::from_utf8(&text[..read]).ok()?.trim();
    text.strip_prefix("lock taken at ").map(str::to_owned)
}

/// `crc json`, filled up with blanks, closed by a line end.
fn encode(state: &State) -> Result<Vec<u8>> {
    let mut text = line_of(&serde_json::to_string(state).map_err(unwritable)?);
    let length = (text.len() + 1).next_multiple_of(STEP);
    if length > PLACE {
        let what = format!("the state has {} bytes, more than {PLACE}", text.len());
        return Err(unwritable(what));
    }
    text.resize(length - 1, b' ');
    text.push(b'\n');
    Ok(text)
}

/// The first kilobyte of the file.
fn stamp() -> Vec<u8> {
    let mut text = line_of(&format!("{{\"format\":{FORMAT}}}"));
    text.resize(STAMP - 1, b' ');
    text.push(b'\n');
    text
}

fn line_of(json: &str) -> Vec<u8> {
    format!("{:08x} {json}", crc32fast::hash(json.as_bytes())).into_bytes()
}

/// What cannot be written is refused as a file system refuses it.
fn unwritable(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Io {
        doing: "write",
        file: LOCK.into(),
        source: std::io::Error::new(std::io::ErrorKind::FileTooLarge, what),
    }
}

/// A newer format may have fields that we do not know: its number it has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// The format that a line with a checksum names.
fn version(place: &[u8]) -> Option<u32> {
    let Version { format } = serde_json::from_str(checked(place)?).ok()?;
    Some(format)
}

/// The JSON in a line with a checksum, when it is whole. What is behind the line may be
/// of an older state, which was longer.
fn checked(place: &[u8]) -> Option<&str> {
    let end = memchr::memchr(b'\n', place)?;
    let text = std::str::from_utf8(place[..end].trim_ascii_end()).ok()?;
    let (sum, json) = text.split_once(' ')?;
    let is_whole = u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(json.as_bytes());
    is_whole.then_some(json)
}

fn decode(place: &[u8]) -> Option<State> {
    let json = checked(place)?;
    serde_json::from_str(json).ok().or_else(|| {
        let format = version(place).filter(|&format| format > FORMAT)?;
        Some(State {
            format,
            seq: u64::MAX,
            ..State::new(Mechanism::Flock)
        })
    })
}

#[cfg(test)]
mod tests;
