//! What a task printed, whatever form its log has.
//!
//! The journals say which attempts there were and where their output is. An
//! attempt that runs has no such record yet, and a workdir that `PyTaskFarmer`
//! wrote has none at all: there the log is looked for under the name that it
//! would have. A name in a journal is believed only if it stays in the workdir.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::exit::RunExit;
use crate::history::commands::Commands;
use crate::history::journals::journals;
use crate::history::logs::log_path;
use crate::history::open;
use crate::history::run::{counts, each_line};
use crate::model::durations;
use crate::model::escape::{Stream, clip, escape};
use crate::model::logs::log_name;
use crate::model::outcome::Outcome;
use crate::model::record::{End, LogAt, Record, Start};
use crate::model::refusal::{hint, is_resource};
use crate::model::task::TaskId;

/// How much of a command stands above its output.
const COMMAND: usize = 500;

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct LogRequest {
    /// The task.
    pub id: TaskId,
    /// Which attempt; the latest one when not said.
    pub attempt: Option<u32>,
    /// Whether the output goes to a terminal: then it is made harmless.
    pub to_terminal: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The folder holds no run.
    #[error("{0} is not a workdir: it has neither tasks nor journals")]
    NoWorkdir(PathBuf),
    /// No task has that id.
    #[error("there is no task {id}{}", .last.map_or(String::new(), |last| format!(": the last one is {last}")))]
    NoTask {
        /// What was asked for.
        id: TaskId,
        /// The highest id.
        last: Option<TaskId>,
    },
    /// It has no such attempt.
    #[error("task {id} has no attempt {attempt}: it was started {} so far", times(*.of))]
    NoAttempt {
        /// The task.
        id: TaskId,
        /// What was asked for.
        attempt: u32,
        /// How many there are.
        of: u32,
    },
    /// It was never started.
    #[error("task {0} has not been started yet: it waits in `toprocess`")]
    NotStarted(TaskId),
    /// It runs, and its output cannot be seen yet.
    #[error(
        "task {0} has no log that can be read now: with --logs packed and --logs failed it \
         can be read when the task has ended, with --logs none there is no log"
    )]
    NotYet(TaskId),
    /// It has ended, and its output was thrown away.
    #[error(
        "no log was kept of attempt {attempt} of task {id} ({outcome}): --logs files keeps \
         all of them, --logs failed those of failures"
    )]
    NotKept {
        /// The task.
        id: TaskId,
        /// Which attempt.
        attempt: u32,
        /// How it ended.
        outcome: String,
    },
    /// The log was deleted.
    #[error("{0}: the log is gone")]
    Gone(PathBuf),
    /// The journal names a file elsewhere.
    #[error("a journal names '{0}' as a log, which is not in the workdir: not shown")]
    Outside(String),
    /// Something could not be read or written.
    #[error("{0}{hint}", hint = hint(.0))]
    Io(#[from] io::Error),
}

impl LogError {
    /// The status to end with.
    pub fn exit(&self) -> RunExit {
        match self {
            Self::Io(error) if is_resource(error) => RunExit::System,
            Self::NoWorkdir(_) | Self::Io(_) => RunExit::WorkdirUnusable,
            Self::NoTask { .. }
            | Self::NoAttempt { .. }
            | Self::NotStarted(_)
            | Self::NotYet(_)
            | Self::NotKept { .. }
            | Self::Gone(_)
            | Self::Outside(_) => RunExit::Usage,
        }
    }
}

/// `once`, `3 times`.
fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}

/// What is known of an attempt.
struct Attempt {
    /// Where it ran; unknown without a record.
    host: Option<String>,
    state: AttemptState,
    log: Option<LogAt>,
}

enum AttemptState {
    Ended(Outcome, Duration),
    /// Its farmer is over and did not see its end.
    Lost,
    /// It runs in this slot, as this process.
    Running(u32, u32),
    /// There is a log but no record, and in which file its task is now.
    Unrecorded(Option<&'static str>),
}

/// The log of an attempt, found.
#[derive(Debug)]
pub(crate) struct Found {
    /// What it is the log of, in lines that may be printed.
    pub(crate) notes: Vec<String>,
    /// The file.
    pub(crate) path: PathBuf,
    /// The part of the file that is meant: offset and length.
    pub(crate) part: Option<(u64, u64)>,
}

/// Finds the log of an attempt, or of the latest one. `note` gets first what
/// is known of it, also when there is no log.
pub(crate) fn find(
    workdir: &Path,
    id: TaskId,
    attempt: Option<u32>,
    mut note: impl FnMut(&str),
) -> Result<Found, LogError> {
    let mut notes = Vec::new();
    let mut tell = |line: String| {
        note(&line);
        notes.push(line);
    };
    let mut commands = Commands::open(workdir)?;
    let attempts = attempts(workdir, id)?;
    let command = commands.get(id)?.map(<[u8]>::to_vec);
    if attempts.is_empty() {
        return Err(why_none(workdir, id, command.is_some(), &mut commands)?);
    }
    let of = attempts.keys().next_back().copied().unwrap_or(0);
    let number = attempt.unwrap_or(of);
    let attempt = attempts.get(&number).ok_or(LogError::NoAttempt {
        id,
        attempt: number,
        of,
    })?;
    let what = format!("task {id}, attempt {number} of {of}");
    tell(format!("{what}: {}", attempt.in_words()));
    if let Some(command) = command {
        tell(format!("command: {}", clip(&escape(&command), COMMAND)));
    }
    let (path, part) = attempt.log(workdir, id, number)?;
    tell(format!(
        "log: {}",
        escape(path.as_os_str().as_encoded_bytes())
    ));
    Ok(Found { notes, path, part })
}

/// Opens a log that was found.
pub(crate) fn open_log(path: &Path) -> Result<File, LogError> {
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(LogError::Gone(path.to_owned()))
        }
        opened => Ok(opened?),
    }
}

/// Shows the log of a task on `out`, and on `notes` what it is the log of.
pub fn show(
    workdir: &Path,
    ask: &LogRequest,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), LogError> {
    let found = find(workdir, ask.id, ask.attempt, |line| {
        let _ = writeln!(notes, "{line}");
    })?;
    let file = open_log(&found.path)?;
    Ok(copy(file, found.part, ask.to_terminal, out)?)
}

/// All attempts of a task, by their number.
fn attempts(workdir: &Path, id: TaskId) -> Result<BTreeMap<u32, Attempt>, LogError> {
    let mut found: BTreeMap<u32, Attempt> = BTreeMap::new();
    for journal in journals(workdir)? {
        let is_over = journal.is_sealed;
        let host = &journal.header.host;
        for record in journal.records_of(id)? {
            let (number, attempt) = match record? {
                Record::Start(start) => (start.attempt, Attempt::started(host, &start, is_over)),
                Record::End(end) => (end.attempt, Attempt::ended(end, host)),
                _ => continue,
            };
            // An end is never replaced by the start of the same attempt.
            let is_news = !matches!(
                attempt.state,
                AttemptState::Lost | AttemptState::Running(..)
            ) || !matches!(
                found.get(&number).map(|a| &a.state),
                Some(AttemptState::Ended(..))
            );
            if is_news {
                found.insert(number, attempt);
            }
        }
    }
    // A task that was started a moment ago is in no journal yet.
    let next = found.keys().next_back().map_or(1, |last| last + 1);
    if open(&workdir.join(log_name(id, next))).is_ok() {
        let attempt = Attempt {
            host: None,
            state: AttemptState::Unrecorded(place(workdir, id)?),
            log: None,
        };
        found.insert(next, attempt);
    }
    Ok(found)
}

/// Why there is no attempt of a task.
fn why_none(
    workdir: &Path,
    id: TaskId,
    is_in_list: bool,
    commands: &mut Commands,
) -> Result<LogError, LogError> {
    let is_workdir = ["tasks", "nodes", "toprocess"]
        .iter()
        .any(|name| workdir.join(name).exists());
    Ok(match place(workdir, id)? {
        _ if !is_workdir => LogError::NoWorkdir(workdir.to_owned()),
        // It has ended, but neither a record nor a log is left of that.
        Some(file @ ("finished" | "failed")) => LogError::NotKept {
            id,
            attempt: 1,
            outcome: file.to_owned(),
        },
        Some(_) if !is_claimed(workdir, id)? => LogError::NotStarted(id),
        // Claimed, or in a list that is still being written.
        _ if is_in_list => LogError::NotYet(id),
        _ => LogError::NoTask {
            id,
            last: commands.last()?,
        },
    })
}

/// Whether a task whose line is in `toprocess` has been claimed since that was written.
fn is_claimed(workdir: &Path, id: TaskId) -> io::Result<bool> {
    let cursor = counts::cursor(workdir)?;
    let (begin, mut found) = (format!("{id} "), None);
    each_line(&open(&workdir.join("toprocess"))?, |line, at| {
        if line.starts_with(begin.as_bytes()) {
            found = Some(at);
        }
    })?;
    Ok(found.is_none_or(|at| at < cursor))
}

/// Which of the three files a task is in.
pub(crate) fn place(workdir: &Path, id: TaskId) -> io::Result<Option<&'static str>> {
    let begin = format!("{id} ");
    for name in ["finished", "failed", "toprocess"] {
        let file = match open(&workdir.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            // The begin is enough: lines may be very long.
            let mut head = (&mut reader).take(begin.len() as u64);
            if head.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line == begin.as_bytes() {
                return Ok(Some(name));
            }
            if !line.ends_with(b"\n") {
                reader.skip_until(b'\n')?;
            }
        }
    }
    Ok(None)
}

impl Attempt {
    fn started(host: &str, start: &Start, is_over: bool) -> Self {
        Self {
            host: Some(host.to_owned()),
            state: if is_over {
                AttemptState::Lost
            } else {
                AttemptState::Running(start.slot, start.pid)
            },
            log: None,
        }
    }

    fn ended(end: End, host: &str) -> Self {
        Self {
            host: Some(host.to_owned()),
            state: AttemptState::Ended(end.outcome, Duration::from_micros(end.us)),
            log: end.log,
        }
    }

    fn in_words(&self) -> String {
        let mut words = match &self.state {
            AttemptState::Ended(outcome, lasted) => {
                format!("{outcome} after {}", durations::show(*lasted))
            }
            AttemptState::Lost => Outcome::Lost.to_string(),
            AttemptState::Running(..) => "runs now".to_owned(),
            AttemptState::Unrecorded(Some(file @ ("finished" | "failed"))) => (*file).to_owned(),
            AttemptState::Unrecorded(_) => "just started, or lost with its farmer".to_owned(),
        };
        if let Some(host) = &self.host {
            words = format!("{words} on {}", escape(host.as_bytes()));
        }
        if let AttemptState::Running(slot, pid) = self.state {
            words += &format!(", slot {slot}, pid {pid}");
        }
        words
    }

    /// Its log, and the part of it that is meant.
    fn log(
        &self,
        workdir: &Path,
        id: TaskId,
        number: u32,
    ) -> Result<(PathBuf, Option<(u64, u64)>), LogError> {
        if let Some(log) = &self.log {
            return match log_path(workdir, log) {
                Some(path) => Ok((path, log.part)),
                None => Err(LogError::Outside(escape(log.file.as_bytes()))),
            };
        }
        if let AttemptState::Ended(outcome, _) = &self.state {
            return Err(LogError::NotKept {
                id,
                attempt: number,
                outcome: outcome.to_string(),
            });
        }
        let path = workdir.join(log_name(id, number));
        match (&self.state, path.exists()) {
            (_, true) => Ok((path, None)),
            (AttemptState::Running(..), false) => Err(LogError::NotYet(id)),
            (_, false) => Err(LogError::NotKept {
                id,
                attempt: number,
                outcome: self.in_words(),
            }),
        }
    }
}

/// Copies a log, or a part of it; the reader of the output may close it.
fn copy(
    mut file: File,
    part: Option<(u64, u64)>,
    to_terminal: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (begin, length) = part.unwrap_or((0, u64::MAX));
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = vec![0; 1 << 16];
    let mut rest = file.take(length);
    let mut stream = Stream::default();
    let mut text = String::new();
    loop {
        let count = match rest.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = if to_terminal {
            text.clear();
            stream.push(&mut text, &bytes[..count]);
            text.as_bytes()
        } else {
            &bytes[..count]
        };
        if !is_heard(out.write_all(piece))? {
            return Ok(());
        }
    }
    text.clear();
    stream.finish(&mut text);
    is_heard(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    Ok(())
}

/// Whether the output is still open: a closed pipe, as of `head`, is not an error.
fn is_heard(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
