use crate::model::durations;
use std::io;
use std::sync::{Arc, Mutex};

use super::*;

/// A stderr that the test can read.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Out {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn progress(mode: Mode) -> (Progress, Out) {
    let out = Out::default();
    (Progress::with_out(mode, None, Box::new(out.clone())), out)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn counts(done: u64, running: u64, total: u64) -> ProgressCounts {
    ProgressCounts {
        done,
        failed: 0,
        cancelled: 0,
        running,
        left: total - done - running,
        total: Some(total),
    }
}

#[test]
fn a_bar_only_where_it_can_be_drawn() {
    let real = Terminal {
        is_terminal: true,
        columns: 80,
        rows: 24,
    };
    let faked = Terminal {
        columns: 0,
        rows: 0,
        ..real
    };
    let pipe = Terminal {
        is_terminal: false,
        ..faked
    };
    for (terminal, term, is_step, is_quiet, mode) in [
        (real, Some("xterm"), false, false, Mode::Bar),
        (real, Some("dumb"), false, false, Mode::Lines),
        (real, Some("xterm"), true, false, Mode::Lines),
        (faked, Some("xterm"), false, false, Mode::Lines),
        (pipe, Some("xterm"), false, false, Mode::Lines),
        (real, Some("xterm"), false, true, Mode::Silent),
        (pipe, None, true, true, Mode::Silent),
    ] {
        let decided = Mode::decide(terminal, term, is_step, is_quiet);
        assert_eq!(decided, mode, "{terminal:?}");
    }
}

#[test]
fn while_more_may_come_the_known_tasks_are_reported() {
    let counts = ProgressCounts {
        total: None,
        ..counts(1, 2, 1003)
    };
    let (before, _) = beside_bar(&counts, &RecentRate::default(), seconds(0), 80);
    assert_eq!(before, "1/1,003+");
    let line = sentence(&counts, &RecentRate::default(), seconds(0));
    assert!(line.starts_with("1 of 1,003+ finished"), "{line}");
}

#[test]
fn lines_come_ever_more_rarely_and_only_with_news() {
    let (mut progress, out) = progress(Mode::Lines);
    for now in 0..3600 {
        progress.update(seconds(now), &counts(now, 4, 10_000));
    }
    let busy = out.lines().len();
    assert!((50..80).contains(&busy), "{busy} lines in an hour");
    for now in 3600..7200 {
        progress.update(seconds(now), &counts(3599, 4, 10_000));
    }
    assert!(out.lines().len() <= busy + 1);
    assert_eq!(
        out.lines()[0],
        format!(
            "pytf: 10 of 10,000 finished, 0 failed, 4 running, 9,986 waiting, 1.0/s, eta {}",
            durations::show(seconds(9990))
        )
    );
}

#[test]
fn many_failures_are_counted_and_not_listed() {
    let (mut progress, out) = progress(Mode::Lines);
    for n in 0..1000 {
        progress.failure(seconds(1), &format!("task {n} failed"));
    }
    assert_eq!(out.lines().len(), 20);
    progress.update(seconds(2), &ProgressCounts::default());
    assert_eq!(out.lines().len(), 20);
    progress.failure(seconds(1000), "task 1000 failed");
    progress.finish();
    assert_eq!(
        out.lines()[20..],
        [
            "task 1000 failed",
            "pytf: 980 more failed (ids in `failed`)"
        ]
    );
}

#[test]
fn silence_shows_failures_only_and_lines_are_short() {
    let (mut silent, out) = progress(Mode::Silent);
    silent.say("x");
    silent.update(seconds(100), &counts(1, 2, 3));
    assert!(out.lines().is_empty());
    for _ in 0..=FAILURES {
        silent.failure(seconds(100), "a task failed");
    }
    silent.finish();
    let lines = out.lines();
    let (last, each) = lines.split_last().unwrap();
    assert_eq!(each, vec!["a task failed"; FAILURES as usize]);
    assert_eq!(last, "pytf: 1 more failed (ids in `failed`)");
    let (mut progress, out) = progress(Mode::Lines);
    progress.say(&"x".repeat(10_000));
    assert!(out.lines()[0].len() < 1024);
}

#[test]
fn a_full_or_closed_stderr_is_ignored() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let mut progress = Progress::with_out(Mode::Lines, None, Box::new(full.unwrap()));
    progress.say("x");
    progress.update(seconds(100), &counts(1, 2, 3));
    progress.finish();
}

#[test]
fn the_text_beside_the_bar_fits_and_failures_come_first() {
    let mut pace = RecentRate::default();
    pace.note(seconds(0), 0);
    pace.note(seconds(10), 1003);
    let counts = ProgressCounts {
        done: 1000,
        failed: 3,
        cancelled: 0,
        running: 16,
        left: 981,
        total: Some(2000),
    };
    for columns in [0, 20, 40, 60, 80, 200] {
        let (before, behind) = beside_bar(&counts, &pace, seconds(10), columns);
        assert_eq!(before, "1,003/2,000");
        assert!(
            before.len() + behind.len() + 2 <= columns.max(13),
            "{columns}"
        );
    }
    let (_, behind) = beside_bar(&counts, &pace, seconds(10), 200);
    let eta = durations::show(Duration::from_secs_f64(997.0 / 100.3));
    assert_eq!(
        behind,
        format!("3 failed, 16 running, eta {eta}, 981 left, 100/s")
    );
}
