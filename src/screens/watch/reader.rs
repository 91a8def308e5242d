//! The thread that reads the workdir, so that a slow file system never delays a
//! key. It alone touches files; the screen gets values.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use console::measure_text_width;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::message::{LogTail, Message};
use super::snapshot::{AttemptKey, CommandCache, Snapshot};
use crate::history::logs::read_end;
use crate::history::run::Run;
use crate::model::escape::{escape, without_colours};
use crate::model::task::TaskId;
use crate::screens::log::{Found, LogError, find, open_log};

/// The time between two reads.
const GAP: Duration = Duration::from_secs(1);

/// Reading takes a fifth of the time at most, to spare the file server.
const SHARE: u32 = 4;

/// How much of the end of a log is shown.
const TAIL: u64 = 256 << 10;

/// Reads the run again and again, until the screen is gone.
pub(super) fn read(mut run: Run, requests: &Receiver<Option<AttemptKey>>, out: &Sender<Message>) {
    let (mut commands, mut log) = (CommandCache::default(), None::<Log>);
    loop {
        let began = Instant::now();
        let snapshot = run
            .refresh()
            .and_then(|()| Ok(Snapshot::of(&run, &mut commands)?));
        let message = match snapshot {
            Ok(snapshot) => Message::Snapshot(Box::new(snapshot)),
            Err(error) => Message::ReadFailed(escape(error.to_string().as_bytes())),
        };
        if out.send(message).is_err() {
            return;
        }
        if let Some(log) = &mut log {
            let _ = out.send(Message::Log(log.read(&run)));
        }
        let next = Instant::now() + GAP.max(began.elapsed() * SHARE);
        loop {
            match requests.recv_deadline(next) {
                Ok(Some((id, attempt))) => {
                    let mut opened = Log::new(run.workdir.clone(), id, attempt);
                    let _ = out.send(Message::Log(opened.read(&run)));
                    log = Some(opened);
                }
                Ok(None) => log = None,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// A log that is shown.
struct Log {
    workdir: PathBuf,
    id: u64,
    attempt: u32,
    found: Option<Found>,
    /// Whether its task ran when it was found: its end may move the log.
    ran: bool,
}

impl Log {
    fn new(workdir: PathBuf, id: u64, attempt: u32) -> Self {
        Self {
            workdir,
            id,
            attempt,
            found: None,
            ran: false,
        }
    }

    fn read(&mut self, run: &Run) -> LogTail {
        let runs = run.living().any(|farmer| {
            let mut running = farmer.slots.running.values();
            running.any(|one| (one.id, one.attempt) == (self.id, self.attempt))
        });
        if runs != self.ran {
            self.found = None;
        }
        self.ran = runs;
        let mut snapshot = LogTail {
            id: self.id,
            attempt: self.attempt,
            ..LogTail::default()
        };
        if let Err(error) = self.fill(&mut snapshot) {
            self.found = None;
            snapshot.error = Some(escape(error.to_string().as_bytes()));
        }
        snapshot
    }

    fn fill(&mut self, snapshot: &mut LogTail) -> Result<(), LogError> {
        let found = if let Some(found) = &self.found {
            found
        } else {
            let mut notes = Vec::new();
            let found = find(&self.workdir, TaskId(self.id), Some(self.attempt), |note| {
                notes.push(note.to_owned());
            });
            snapshot.notes = notes;
            self.found.insert(found?)
        };
        snapshot.notes.clone_from(&found.notes);
        let (bytes, is_cut) = read_end(open_log(&found.path)?, found.part, TAIL)?;
        snapshot.is_cut = is_cut;
        snapshot.lines = lines(&bytes);
        if let Some(path) = &found.stderr {
            let (bytes, is_cut) = read_end(open_log(path)?, None, TAIL)?;
            snapshot.is_cut |= is_cut;
            snapshot.lines.push("-- standard error --".to_owned());
            snapshot.lines.extend(lines(&bytes));
        }
        Ok(())
    }
}

/// Lines that may be printed: without colours, tabs to the next eighth column.
fn lines(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let line = |line: &[u8]| {
        let line = without_colours(line.strip_suffix(b"\r").unwrap_or(line));
        let mut out = String::new();
        for (number, piece) in line.split(|&byte| byte == b'\t').enumerate() {
            if number > 0 {
                out += &" ".repeat(8 - measure_text_width(&out) % 8);
            }
            out += &escape(piece);
        }
        out
    };
    bytes.split(|&byte| byte == b'\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::synthetic::{end, header, start, workdir};
    use crate::model::outcome::Outcome;

    #[test]
    fn lines_of_a_log_are_harmless() {
        for (bytes, expected) in [
            (&b""[..], &[][..]),
            (b"one\ntwo\n", &["one", "two"]),
            (b"dos\r\n\x1b[31mred\x1b[0m", &["dos", "red"]),
            (b"a\tb\n\x1b[2J", &["a       b", "^[[2J"]),
            ("雪雪\tb".as_bytes(), &["雪雪    b"]),
            (b"\n\xff", &["", "\\xff"]),
        ] {
            assert_eq!(lines(bytes), expected);
        }
    }

    #[test]
    fn standard_error_follows_in_a_split_log() {
        let dir = workdir(&["echo a"]);
        let at = 1_800_000_000_000_000;
        dir.journal("n1.0.1.1", &[header("n1", at, 1), start(0, 1, 0, at)]);
        dir.file("logs/log_0", b"out\n");
        dir.file("logs/log_0.err", b"err\n");
        let run = Run::open(dir.path()).unwrap();
        let seen = Log::new(dir.path().to_owned(), 0, 1).read(&run);
        assert_eq!(seen.lines, ["out", "-- standard error --", "err"]);
    }

    #[test]
    fn the_end_of_a_log_is_found_whatever_its_task_does() {
        let dir = workdir(&["echo a", "false"]);
        let at = 1_800_000_000_000_000;
        let first = end(0, 1, 0, at, 5, Outcome::Exit(1));
        dir.journal(
            "n1.0.1.1",
            &[header("n1", at, 1), first, start(1, 1, 0, at)],
        );
        let run = Run::open(dir.path()).unwrap();
        let mut log = Log::new(dir.path().to_owned(), 1, 1);
        let none = log.read(&run);
        assert!(
            none.error
                .unwrap()
                .contains("has no log that can be read now")
        );
        let printed = "0123456789\n".repeat(30_000) + "half";
        dir.file("logs/log_1", printed.as_bytes());
        let seen = log.read(&run);
        assert_eq!((seen.error, seen.is_cut), (None, true));
        assert_eq!(seen.lines.last().map(String::as_str), Some("half"));
        assert_eq!(seen.lines[0], "0123456789", "a whole line");
        assert!(seen.notes[1].contains("command: false"), "{:?}", seen.notes);
        // It grows, and is followed.
        dir.file("logs/log_1", (printed + " and more\n").as_bytes());
        let seen = log.read(&run);
        assert_eq!(seen.lines.last().map(String::as_str), Some("half and more"));
    }
}
