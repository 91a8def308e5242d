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

use crate::exit::RunExit;
use crate::history::attempts::{Recorded, attempts};
use crate::history::commands::Commands;
use crate::history::journals::{Journal, journals};
use crate::history::logs::{log_path, stderr_path, unrecorded_log};
use crate::history::run::counts;
use crate::history::{is_workdir, lines, open, open_if_any};
use crate::model::durations;
use crate::model::escape::{Stream, clip, escape};
use crate::model::figures::micros;
use crate::model::logs::log_name;
use crate::model::outcome::Outcome;
use crate::model::record::LogAt;
use crate::model::refusal::{hint, is_resource};
use crate::model::task::TaskId;
use crate::workdir::layout::{self, FAILED, FINISHED, TOPROCESS};

/// How much of a command is shown above its output.
const COMMAND: usize = 500;

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct LogRequest {
    /// The task.
    pub id: TaskId,
    /// Which attempt; the latest one by default.
    pub attempt: Option<u32>,
    /// Which of its outputs.
    pub output: Output,
    /// Whether the output goes to a terminal: then control characters are escaped.
    pub to_terminal: bool,
}

/// Which output of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Standard output, then standard error where it has a file of its own.
    #[default]
    Both,
    /// Standard output alone.
    Stdout,
    /// Standard error alone.
    Stderr,
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
        /// The one that was requested.
        id: TaskId,
        /// The highest id.
        last: Option<TaskId>,
    },
    /// It has no such attempt.
    #[error("task {id} has no attempt {attempt}: it was started {} so far", times(*.of))]
    NoAttempt {
        /// The task.
        id: TaskId,
        /// The one that was requested.
        attempt: u32,
        /// How many there are.
        of: u32,
    },
    /// It was never started.
    #[error("task {0} has not been started yet: it waits in `toprocess`")]
    NotStarted(TaskId),
    /// It runs, and its output cannot be read yet.
    #[error(
        "task {0} has no log that can be read now: with --logs packed and --logs failed it \
         can be read when the task has ended, with --logs none there is no log"
    )]
    NotYet(TaskId),
    /// It has ended, and its output was not kept.
    #[error(
        "no log was kept of attempt {attempt} of task {id} ({outcome}): --logs files and \
         --logs split keep all of them, --logs failed those of failures"
    )]
    NotKept {
        /// The task.
        id: TaskId,
        /// Which attempt.
        attempt: u32,
        /// How it ended.
        outcome: String,
    },
    /// Both outputs are in one file.
    #[error(
        "both outputs of task {0} are in one log: only --logs split keeps them apart; omit \
         --stdout and --stderr"
    )]
    NotSplit(TaskId),
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
            | Self::NotSplit(_)
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
enum Known<'a> {
    /// A start or an end in a journal.
    Recorded(Box<Recorded<'a>>),
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
    /// The file of standard error, where it is not the same.
    pub(crate) stderr: Option<PathBuf>,
}

/// Finds the log of an attempt, or of the latest one. `note` gets what is known of it
/// first, also when there is no log.
pub(crate) fn find(
    workdir: &Path,
    id: TaskId,
    attempt: Option<u32>,
    mut note: impl FnMut(&str),
) -> Result<Found, LogError> {
    let mut notes = Vec::new();
    let mut add_note = |line: String| {
        note(&line);
        notes.push(line);
    };
    let mut commands = Commands::open(workdir)?;
    let journals = journals(workdir)?;
    let attempts = known_attempts(workdir, &journals, id)?;
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
    add_note(format!("{what}: {}", attempt.in_words()));
    if let Some(command) = command {
        add_note(format!("command: {}", clip(&escape(&command), COMMAND)));
    }
    if let Known::Recorded(recorded) = attempt
        && let Recorded { journal, dir, .. } = &**recorded
        && let Some(dir) = dir
    {
        let host = escape(journal.header.host.as_bytes());
        add_note(format!("folder: {} on {host}", escape(dir.as_bytes())));
    }
    let log = attempt.log(workdir, id, number)?;
    let outside = |name: &str| LogError::Outside(escape(name.as_bytes()));
    let path = log_path(workdir, &log).ok_or_else(|| outside(&log.file))?;
    let stderr = log.stderr.as_ref().map(|name| {
        let path = stderr_path(workdir, &log);
        path.ok_or_else(|| outside(name))
    });
    add_note(format!("log: {}", shown(&path)));
    Ok(Found {
        notes,
        path,
        part: log.part,
        stderr: stderr.transpose()?,
    })
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// Opens a log that was found.
pub(crate) fn open_log(path: &Path) -> Result<File, LogError> {
    open_if_any(path)?.ok_or_else(|| LogError::Gone(path.to_owned()))
}

/// Writes the log of a task to `out`, and facts about it to `notes`.
pub fn show(
    workdir: &Path,
    ask: &LogRequest,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), LogError> {
    let found = find(workdir, ask.id, ask.attempt, |line| {
        let _ = writeln!(notes, "{line}");
    })?;
    if ask.output != Output::Both && found.stderr.is_none() {
        return Err(LogError::NotSplit(ask.id));
    }
    let stdout = (ask.output != Output::Stderr).then(|| open_log(&found.path));
    let stdout = stdout.transpose()?;
    let stderr = found.stderr.filter(|_| ask.output != Output::Stdout);
    let stderr = stderr.map(|path| Ok::<_, LogError>((open_log(&path)?, path)));
    let stderr = stderr.transpose()?;
    if let Some(file) = stdout {
        copy(file, found.part, ask.to_terminal, out)?;
    }
    if let Some((file, path)) = stderr {
        let _ = writeln!(notes, "standard error: {}", shown(&path));
        copy(file, None, ask.to_terminal, out)?;
    }
    Ok(())
}

/// All attempts of a task, by their number.
fn known_attempts<'a>(
    workdir: &Path,
    journals: &'a [Journal],
    id: TaskId,
) -> io::Result<BTreeMap<u32, Known<'a>>> {
    let recorded = attempts(journals, id)?.into_iter();
    let mut found: BTreeMap<u32, Known> = recorded
        .map(|(number, recorded)| (number, Known::Recorded(Box::new(recorded))))
        .collect();
    // A task that was started a moment ago is in no journal yet.
    let next = found.keys().next_back().map_or(1, |last| last + 1);
    if open(&workdir.join(log_name(id, next))).is_ok() {
        found.insert(next, Known::Unrecorded(place(workdir, id)?));
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
    Ok(match place(workdir, id)? {
        _ if !is_workdir(workdir) => LogError::NoWorkdir(workdir.to_owned()),
        // It has ended, but neither a record nor a log is left of that.
        Some(file @ (FINISHED | FAILED)) => LogError::NotKept {
            id,
            attempt: 1,
            outcome: file.to_owned(),
        },
        _ if place_in_queue(workdir, id)?.is_some() => LogError::NotStarted(id),
        // Claimed, or in a list that is still being written.
        _ if is_in_list => LogError::NotYet(id),
        _ => LogError::NoTask {
            id,
            last: commands.last()?,
        },
    })
}

/// How many unclaimed tasks are before this one in its queue; `None` when it waits in none.
pub(crate) fn place_in_queue(workdir: &Path, id: TaskId) -> io::Result<Option<u64>> {
    let begin = format!("{id} ");
    for (class, queue) in counts::queues(workdir)?.iter().enumerate() {
        let Some(file) = open_if_any(&workdir.join(layout::queue(class)))? else {
            continue;
        };
        let (mut before, mut found) = (0, None);
        // It begins with tasks that have been claimed since it was written.
        lines::each(&file, queue.cursor, |line, _| {
            if line.starts_with(begin.as_bytes()) {
                found = Some(before);
            }
            before += 1;
            Ok(())
        })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Which of the three files a task is in.
pub(crate) fn place(workdir: &Path, id: TaskId) -> io::Result<Option<&'static str>> {
    let begin = format!("{id} ");
    for name in [FINISHED, FAILED, TOPROCESS] {
        let Some(file) = open_if_any(&workdir.join(name))? else {
            continue;
        };
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            // The beginning is enough: lines may be very long.
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

impl Known<'_> {
    fn in_words(&self) -> String {
        let recorded = match self {
            Self::Recorded(recorded) => &**recorded,
            Self::Unrecorded(Some(file @ (FINISHED | FAILED))) => return (*file).to_owned(),
            Self::Unrecorded(_) => return "just started, or lost with its farmer".to_owned(),
        };
        let Recorded {
            journal, attempt, ..
        } = recorded;
        let host = escape(journal.header.host.as_bytes());
        match recorded.end_in_words() {
            Some(words) if attempt.is_skipped => format!("{words}, on {host}"),
            Some(words) => {
                let time = durations::show(micros(attempt.us));
                format!("{words} after {time} on {host}")
            }
            None if journal.is_sealed => format!("{} on {host}", Outcome::Lost),
            None => format!(
                "runs now on {host}, slot {}, pid {}",
                attempt.slot, attempt.pid
            ),
        }
    }

    /// Its log.
    fn log(&self, workdir: &Path, id: TaskId, number: u32) -> Result<LogAt, LogError> {
        let not_kept = |outcome| {
            Err(LogError::NotKept {
                id,
                attempt: number,
                outcome,
            })
        };
        let mut runs = false;
        if let Self::Recorded(recorded) = self {
            let outcome = &recorded.attempt.outcome;
            match (&recorded.log, outcome) {
                (Some(log), _) => return Ok(log.clone()),
                (None, Some(outcome)) => {
                    return not_kept(
                        recorded
                            .end_in_words()
                            .unwrap_or_else(|| outcome.to_string()),
                    );
                }
                (None, None) => runs = !recorded.journal.is_sealed,
            }
        }
        let log = unrecorded_log(workdir, id, number);
        match workdir.join(&log.file).exists() {
            true => Ok(log),
            false if runs => Err(LogError::NotYet(id)),
            false => not_kept(self.in_words()),
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
