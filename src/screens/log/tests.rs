//! A workdir with a task in every state, and what is shown of each.

use std::time::Duration;

use super::*;
use crate::history::synthetic::{Workdir, end, header, start, workdir};
use crate::model::record::{LogAt, Record};

/// An end that knows its log.
fn logged(id: u64, attempt: u32, file: &str, part: Option<(u64, u64)>) -> Record {
    let Record::End(mut record) = end(id, attempt, 0, 20, 5_000_000, Outcome::Exit(3)) else {
        unreachable!();
    };
    record.log = Some(LogAt {
        file: file.into(),
        part,
        stderr: None,
    });
    Record::End(record)
}

/// Tasks in every state there is.
fn all_kinds() -> Workdir {
    let commands = [
        "retried",
        "packed",
        "runs",
        "none kept",
        "waits",
        "lost",
        "evil",
        "now",
    ];
    let dir = workdir(&commands);
    dir.journal(
        "n1.0.1.1",
        &[
            header("n1", 10, 2),
            logged(0, 1, "logs/log_0", None),
            logged(0, 2, "logs/log_0.2", None),
            logged(1, 1, "logs/packed_n1_0", Some((3, 4))),
            start(2, 1, 0, 30),
            end(3, 1, 1, 30, 5, Outcome::Exit(0)),
            logged(6, 1, "../../etc/passwd", None),
            logged(6, 2, "/etc/passwd", None),
            logged(6, 3, "logs/deleted", None),
        ],
    );
    dir.journal("n2.0.1.1", &[header("n2", 10, 2), start(5, 1, 0, 30)]);
    dir.seal("n2.0.1.1");
    dir.file("toprocess", b"4 waits\n");
    for (name, text) in [
        ("logs/log_0", "first\n"),
        ("logs/log_0.2", "second\n"),
        ("logs/packed_n1_0", "xxxpart5yyy"),
        ("logs/log_2", "so far"),
        ("logs/log_5", "last words"),
        ("logs/log_7", "just now \u{1b}[2J"),
    ] {
        dir.file(name, text.as_bytes());
    }
    dir
}

/// What is printed, and what is said about it or why nothing is printed.
fn shown(dir: &Workdir, id: u64, attempt: Option<u32>, to_terminal: bool) -> (String, String) {
    shown_as(dir, id, attempt, to_terminal, Output::Both)
}

fn shown_as(
    dir: &Workdir,
    id: u64,
    attempt: Option<u32>,
    to_terminal: bool,
    output: Output,
) -> (String, String) {
    let ask = LogRequest {
        id: TaskId(id),
        attempt,
        output,
        to_terminal,
    };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let said = match show(dir.path(), &ask, &mut out, &mut notes) {
        Ok(()) => String::from_utf8(notes).unwrap(),
        Err(error) => error.to_string(),
    };
    (String::from_utf8(out).unwrap(), said)
}

#[test]
fn every_kind_of_log_is_shown() {
    let dir = all_kinds();
    let lasted = durations::show(Duration::from_secs(5));
    for (id, attempt, printed, said) in [
        (
            0,
            None,
            "second\n",
            format!("attempt 2 of 2: exit status 3 after {lasted} on n1"),
        ),
        (0, Some(1), "first\n", "attempt 1 of 2: exit".into()),
        (1, None, "part", "command: packed\n".into()),
        (2, None, "so far", "runs now on n1, slot 0, pid 100".into()),
        (5, None, "last words", "lost with its farmer on n2".into()),
        (
            7,
            None,
            "just now \u{1b}[2J",
            "just started, or lost".into(),
        ),
    ] {
        let (found, notes) = shown(&dir, id, attempt, false);
        assert_eq!(found, printed);
        assert!(notes.contains(&said), "{notes}");
    }
    assert_eq!(shown(&dir, 7, None, true).0, "just now ^[[2J");
}

#[test]
fn what_cannot_be_shown_has_its_reason() {
    let dir = all_kinds();
    for (id, attempt, said) in [
        (99, None, "there is no task 99: the last one is 7"),
        (
            0,
            Some(3),
            "task 0 has no attempt 3: it was started 2 times so far",
        ),
        (3, None, "no log was kept of attempt 1 of task 3 (finished)"),
        (4, None, "task 4 has not been started yet"),
        (6, Some(1), "a journal names '../../etc/passwd'"),
        (6, Some(2), "a journal names '/etc/passwd'"),
        (6, Some(3), "logs/deleted: the log is gone"),
    ] {
        let (printed, found) = shown(&dir, id, attempt, false);
        assert!(found.contains(said), "{found}");
        assert_eq!(printed, "");
    }
    std::fs::remove_file(dir.path().join("logs/log_2")).unwrap();
    assert!(
        shown(&dir, 2, None, false)
            .1
            .contains("has no log that can be read now")
    );
    std::fs::remove_file(dir.path().join("logs/log_7")).unwrap();
    assert!(
        shown(&dir, 7, None, false)
            .1
            .contains("has no log that can be read now")
    );
}

/// Both outputs, or one of them; a journal leads to no file outside of the workdir.
#[test]
fn the_outputs_of_a_split_log_are_shown_together_or_alone() {
    let dir = all_kinds();
    let split = |id, stderr: &str| {
        let Record::End(mut record) = logged(id, 1, "logs/log_0", None) else {
            unreachable!("an end");
        };
        record.log.as_mut().unwrap().stderr = Some(stderr.to_owned());
        Record::End(record)
    };
    let at = 1_800_000_000_000_000;
    dir.file("logs/log_0.err", b"why\n");
    dir.journal(
        "n3.0.1.1",
        &[
            header("n3", at, 1),
            split(3, "logs/log_0.err"),
            split(4, "../log_0"),
        ],
    );
    for (output, printed) in [
        (Output::Both, "first\nwhy\n"),
        (Output::Stdout, "first\n"),
        (Output::Stderr, "why\n"),
    ] {
        let (found, notes) = shown_as(&dir, 3, Some(1), false, output);
        assert_eq!(found, printed);
        let is_named = notes.ends_with("/logs/log_0.err\n");
        assert_eq!(is_named, output != Output::Stdout, "{notes}");
        let (none, why) = shown_as(&dir, 4, Some(1), false, output);
        assert_eq!(none, "");
        assert!(why.contains("a journal names '../log_0'"), "{why}");
    }
    let (none, why) = shown_as(&dir, 0, None, false, Output::Stderr);
    assert_eq!(none, "");
    assert!(
        why.contains("both outputs of task 0 are in one log"),
        "{why}"
    );
    // One that runs, and has no record of its log yet.
    dir.file("logs/log_2.err", b"warning\n");
    assert_eq!(shown(&dir, 2, None, false).0, "so farwarning\n");
}

/// A task that was done already has no log; why, is told.
#[test]
fn an_attempt_that_was_not_started_is_no_lost_log() {
    let dir = all_kinds();
    let at = 1_800_000_000_000_000;
    let Record::End(mut record) = end(4, 1, 0, 20, 0, Outcome::Exit(0)) else {
        unreachable!();
    };
    record.skipped = Some("out/\u{1b}4".to_owned());
    dir.journal("n3.0.1.1", &[header("n3", at, 1), Record::End(record)]);
    let (none, why) = shown(&dir, 4, None, false);
    assert_eq!(none, "");
    let words = "task 4 (finished without a start: out/^[4 is there)";
    assert!(why.contains(words), "{why}");
}

#[test]
fn a_workdir_of_pytaskfarmer_has_logs_and_no_journals() {
    let dir = workdir(&[]);
    std::fs::remove_file(dir.path().join("tasks")).unwrap();
    std::fs::remove_dir(dir.path().join("nodes")).unwrap();
    assert!(
        shown(&dir, 1, None, false)
            .1
            .ends_with("is not a workdir: it has neither tasks nor journals")
    );
    dir.file("toprocess", b"2 echo two\n");
    dir.file("finished", b"11 echo eleven\n1 echo one\n");
    dir.file("failed", b"");
    dir.file("logs/log_1", b"one\n");
    let (printed, notes) = shown(&dir, 1, None, false);
    assert_eq!(printed, "one\n");
    assert!(
        notes.starts_with("task 1, attempt 1 of 1: finished\n"),
        "{notes}"
    );
    assert!(
        shown(&dir, 2, None, false)
            .1
            .contains("has not been started yet")
    );
    assert!(shown(&dir, 11, None, false).1.contains("no log was kept"));
}

#[test]
fn a_reader_may_go_away_and_a_full_disk_is_reported() {
    struct Closed(io::ErrorKind);
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = all_kinds();
    let ask = LogRequest {
        id: TaskId(0),
        attempt: None,
        output: Output::Both,
        to_terminal: false,
    };
    for (kind, is_fine) in [
        (io::ErrorKind::BrokenPipe, true),
        (io::ErrorKind::StorageFull, false),
    ] {
        let shown = show(dir.path(), &ask, &mut Closed(kind), &mut io::sink());
        assert_eq!(shown.is_ok(), is_fine);
    }
}
