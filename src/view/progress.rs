//! What is told while the farm runs, on stderr: a bar on a terminal, a plain
//! line now and then in a log file, nothing when asked so.
//!
//! It costs nothing per task: the farm calls [`Progress::update`] a few times a
//! second at most. Nothing here can fail: a closed or full stderr is no reason
//! to stop a run, so errors of writing are dropped.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::escape::clip;
use super::look::{Look, Terminal};
use super::pace::{Pace, show_rate};
use crate::model::durations;
use crate::model::figures::grouped;

/// The state of the run in numbers, for all farmers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks that finished.
    pub done: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks that run now.
    pub running: u64,
    /// Tasks that wait.
    pub left: u64,
    /// All tasks; `None` while more may come.
    pub total: Option<u64>,
}

impl Counts {
    /// All tasks, with a plus while more may come.
    fn known(&self) -> String {
        match self.total {
            Some(total) => grouped(total),
            None => format!("{}+", grouped(self.ended() + self.running + self.left)),
        }
    }

    fn ended(&self) -> u64 {
        self.done + self.failed
    }
}

/// How progress is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A bar that is drawn over itself.
    Bar,
    /// A line now and then.
    Lines,
    /// Not at all.
    Silent,
}

impl Mode {
    /// The mode for a stream. Inside of `srun`, in a step, stderr is a pipe or
    /// something that is only made to look like a terminal, and many processes
    /// share it.
    pub fn decide(stderr: Terminal, term: Option<&str>, is_step: bool, is_quiet: bool) -> Self {
        if is_quiet {
            Self::Silent
        } else if stderr.is_real(term) && !is_step {
            Self::Bar
        } else {
            Self::Lines
        }
    }
}

/// How long the first line lets wait for itself, and the longest wait: a log
/// of a day has 1,500 lines of progress at most.
const FIRST_LINE: Duration = Duration::from_secs(10);
const LAST_WAIT: Duration = Duration::from_mins(1);

/// The longest line in a log, well below what a pipe takes in one piece.
const LONGEST: usize = 500;

/// So many failures are told at once before they are only counted, and so often
/// one more may be: a list whose every task fails must not fill the disk.
const FAILURES: u32 = 20;
const FAILURE_EVERY: Duration = Duration::from_secs(5);

/// Tells how the run goes.
pub struct Progress {
    mode: Mode,
    bar: Option<Bar>,
    out: Box<dyn Write + Send>,
    pace: Pace,
    /// What the last line said.
    told: Option<Counts>,
    /// When the next line is due, and how long after it the one after that.
    due: Duration,
    wait: Duration,
    failures: Failures,
}

impl Progress {
    /// For stderr.
    pub fn new(mode: Mode, look: Look) -> Self {
        let bar = (mode == Mode::Bar).then(|| Bar::new(look));
        Self::with_out(mode, bar, Box::new(std::io::stderr()))
    }

    fn with_out(mode: Mode, bar: Option<Bar>, out: Box<dyn Write + Send>) -> Self {
        Self {
            mode,
            bar,
            out,
            pace: Pace::default(),
            told: None,
            due: FIRST_LINE,
            wait: FIRST_LINE,
            failures: Failures::new(),
        }
    }

    /// Shows the state at `now`, which is counted from the start of the run.
    pub fn update(&mut self, now: Duration, counts: &Counts) {
        self.pace.note(now, counts.ended());
        if let Some(unsaid) = self.failures.unsaid(now) {
            self.say(&format!("pytf: {unsaid} more failed (ids in `failed`)"));
        }
        match self.mode {
            Mode::Silent => {}
            Mode::Lines => self.update_line(now, counts),
            Mode::Bar => self.update_bar(now, counts),
        }
    }

    fn update_line(&mut self, now: Duration, counts: &Counts) {
        if now < self.due || self.told == Some(*counts) {
            return;
        }
        self.wait = (self.wait * 3 / 2).min(LAST_WAIT);
        self.due = now + self.wait;
        self.told = Some(*counts);
        let line = format!("pytf: {}", sentence(counts, &self.pace, now));
        self.say(&line);
    }

    fn update_bar(&mut self, now: Duration, counts: &Counts) {
        let Some(bar) = &self.bar else { return };
        let columns = usize::from(Terminal::of_stderr().columns);
        bar.show(counts, beside_bar(counts, &self.pace, now, columns));
    }

    /// Prints a line at once, above the bar where there is one.
    pub fn say(&mut self, line: &str) {
        if self.mode != Mode::Silent {
            self.warn(line);
        }
    }

    /// Says a line that must be said.
    pub fn warn(&mut self, line: &str) {
        let line = clip(line, LONGEST) + "\n";
        let out = &mut self.out;
        // One write a line: lines of several farmers must not mix.
        let mut write = || drop(out.write_all(line.as_bytes()));
        match &self.bar {
            Some(bar) => bar.drawn.suspend(&mut write),
            None => write(),
        }
    }

    /// Tells a failure at once, unless very many fail: then how many.
    pub fn failure(&mut self, now: Duration, line: &str) {
        if !self.failures.may_say(now) {
            return;
        }
        // Whatever the command is, a failure is one line on the terminal.
        let columns = usize::from(Terminal::of_stderr().columns);
        match &self.bar {
            Some(bar) if columns > 0 => self.say(&bar.look.clip(line, columns)),
            _ => self.say(line),
        }
    }

    /// Takes the bar away and tells what was only counted.
    pub fn finish(&mut self) {
        if let Some(unsaid) = self.failures.unsaid(Duration::MAX) {
            self.say(&format!("pytf: {unsaid} more failed (ids in `failed`)"));
        }
        if let Some(bar) = &self.bar {
            bar.drawn.finish_and_clear();
        }
    }
}

/// The bar, and what stands before and behind it: all is drawn in one stroke.
struct Bar {
    drawn: ProgressBar,
    look: Look,
    beside: Arc<Mutex<(String, String)>>,
}

impl Bar {
    fn new(look: Look) -> Self {
        let template = if look.colour {
            "{before} {wide_bar:.green/dim} {behind}"
        } else {
            "{before} {wide_bar} {behind}"
        };
        let characters = if look.unicode { "━╸─" } else { "=>-" };
        let beside = Arc::new(Mutex::new((String::new(), String::new())));
        let part = |part: fn(&(String, String)) -> &String| {
            let beside = beside.clone();
            move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                let beside = beside.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = out.write_str(part(&beside));
            }
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("before", part(|beside| &beside.0))
            .with_key("behind", part(|beside| &beside.1))
            .progress_chars(characters);
        // `with_style` draws nothing: there is nothing to show yet.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let bar = bar.with_style(style);
        Self {
            drawn: bar,
            look,
            beside,
        }
    }

    fn show(&self, counts: &Counts, beside: (String, String)) {
        *self.beside.lock().unwrap_or_else(PoisonError::into_inner) = beside;
        self.drawn.update(|state| {
            if let Some(total) = counts.total {
                state.set_len(total);
            }
            state.set_pos(counts.ended());
        });
    }
}

/// What stands before and behind the bar: what matters most, as far as it fits.
fn beside_bar(counts: &Counts, pace: &Pace, now: Duration, columns: usize) -> (String, String) {
    let before = format!("{}/{}", grouped(counts.ended()), counts.known());
    let eta = match pace.eta(now, counts.ended(), counts.running, counts.total) {
        Some(eta) => format!("eta {}", durations::show(eta)),
        None => "eta unknown".to_owned(),
    };
    let mut parts = vec![];
    if counts.failed > 0 {
        parts.push(format!("{} failed", grouped(counts.failed)));
    }
    parts.push(format!("{} running", grouped(counts.running)));
    parts.push(eta);
    parts.push(format!("{} left", grouped(counts.left)));
    parts.extend(pace.rate(now).map(show_rate));
    // The bar keeps a quarter of the line, if there is no need for it.
    let room = (columns * 3 / 4).saturating_sub(before.chars().count() + 2);
    let mut behind = String::new();
    for part in parts {
        if behind.chars().count() + part.chars().count() + 2 > room {
            break;
        }
        let comma = if behind.is_empty() { "" } else { ", " };
        behind.push_str(comma);
        behind.push_str(&part);
    }
    (before, behind)
}

/// The state as one line of a log.
fn sentence(counts: &Counts, pace: &Pace, now: Duration) -> String {
    let rate = pace.rate(now).map(|rate| format!(", {}", show_rate(rate)));
    let eta = match pace.eta(now, counts.ended(), counts.running, counts.total) {
        Some(eta) => durations::show(eta),
        None => "unknown".to_owned(),
    };
    format!(
        "{} of {} finished, {} failed, {} running, {} waiting{}, eta {eta}",
        grouped(counts.done),
        counts.known(),
        grouped(counts.failed),
        grouped(counts.running),
        grouped(counts.left),
        rate.unwrap_or_default(),
    )
}

/// Which failures are told one by one.
#[derive(Debug)]
struct Failures {
    /// How many may be told now.
    may: u32,
    /// When that was so.
    at: Duration,
    /// How many were not told, and when that was last said.
    unsaid: u64,
    said_at: Duration,
}

impl Failures {
    fn new() -> Self {
        Self {
            may: FAILURES,
            at: Duration::ZERO,
            unsaid: 0,
            said_at: Duration::ZERO,
        }
    }

    fn may_say(&mut self, now: Duration) -> bool {
        while self.may < FAILURES && now.saturating_sub(self.at) >= FAILURE_EVERY {
            self.may += 1;
            self.at += FAILURE_EVERY;
        }
        if self.may == FAILURES {
            self.at = now;
        }
        if self.may == 0 {
            self.unsaid += 1;
            return false;
        }
        self.may -= 1;
        true
    }

    /// How many were not told, when it is time to say that.
    fn unsaid(&mut self, now: Duration) -> Option<u64> {
        if self.unsaid == 0 || now < self.said_at.saturating_add(LAST_WAIT) && now != Duration::MAX
        {
            return None;
        }
        self.said_at = now;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
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

    fn counts(done: u64, running: u64, total: u64) -> Counts {
        Counts {
            done,
            failed: 0,
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
    fn while_more_may_come_the_known_tasks_are_told() {
        let counts = Counts {
            total: None,
            ..counts(1, 2, 1003)
        };
        let (before, _) = beside_bar(&counts, &Pace::default(), seconds(0), 80);
        assert_eq!(before, "1/1,003+");
        let line = sentence(&counts, &Pace::default(), seconds(0));
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
        progress.update(seconds(2), &Counts::default());
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
    fn silence_is_silent_and_lines_are_short() {
        let (mut silent, out) = progress(Mode::Silent);
        silent.say("x");
        silent.failure(seconds(0), "x");
        silent.update(seconds(100), &counts(1, 2, 3));
        silent.finish();
        assert!(out.lines().is_empty());
        let (mut progress, out) = progress(Mode::Lines);
        progress.say(&"x".repeat(10_000));
        assert!(out.lines()[0].len() < 1024);
    }

    #[test]
    fn a_full_or_closed_stderr_is_no_matter() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        let mut progress = Progress::with_out(Mode::Lines, None, Box::new(full.unwrap()));
        progress.say("x");
        progress.update(seconds(100), &counts(1, 2, 3));
        progress.finish();
    }

    #[test]
    fn what_stands_beside_the_bar_fits_and_the_failed_come_first() {
        let mut pace = Pace::default();
        pace.note(seconds(0), 0);
        pace.note(seconds(10), 1003);
        let counts = Counts {
            done: 1000,
            failed: 3,
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
}
