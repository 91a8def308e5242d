//! Progress of a farm while it runs, on stderr: a bar on a terminal, a plain line now and then
//! in a log file, nothing with --quiet.
//!
//! It costs nothing per task: the farm calls [`Progress::update`] a few times a
//! second at most. Nothing here can fail: a closed or full stderr is not a reason
//! to stop a run, so errors of writing are dropped.

mod bar;
mod counts;

use std::io::Write;
use std::time::Duration;

use super::rate::{RecentRate, show_rate};
use super::style::{OutputStyle, Terminal};
use crate::model::escape::{clip, without_error_numbers};
use crate::model::figures::grouped;
use bar::{Bar, beside_bar};
pub use counts::ProgressCounts;
use counts::eta;

/// How progress is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A bar that is drawn over itself.
    Bar,
    /// A line now and then.
    Lines,
    /// Not at all: only errors are reported.
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

/// The time before the first line, and the longest time between two lines: a log of a day
/// has 1,500 lines of progress at most.
const FIRST_LINE: Duration = Duration::from_secs(10);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// The longest line in a log, well below what a pipe takes in one piece.
const LONGEST: usize = 500;

/// How many failures are reported one by one before they are only counted, and how often
/// one more may be: a list whose every task fails must not fill the disk.
const FAILURES: u32 = 20;
const FAILURE_EVERY: Duration = Duration::from_secs(5);

/// Writes a line to standard error, where no progress is shown.
pub fn warn(text: &str) {
    let text = without_error_numbers(text);
    let _ = writeln!(std::io::stderr(), "pytf: {text}");
}

/// Reports progress.
pub struct Progress {
    mode: Mode,
    bar: Option<Bar>,
    out: Box<dyn Write + Send>,
    rate: RecentRate,
    /// The counts in the last line.
    last_line: Option<ProgressCounts>,
    /// Whether there is a bar on the screen.
    is_drawn: bool,
    /// When the next line is due, and how long after it the one after that.
    due: Duration,
    wait: Duration,
    failures: Failures,
}

impl Progress {
    /// For stderr.
    pub fn new(mode: Mode, style: OutputStyle) -> Self {
        let bar = (mode == Mode::Bar).then(|| Bar::new(style));
        Self::with_out(mode, bar, Box::new(std::io::stderr()))
    }

    fn with_out(mode: Mode, bar: Option<Bar>, out: Box<dyn Write + Send>) -> Self {
        Self {
            mode,
            bar,
            out,
            rate: RecentRate::default(),
            last_line: None,
            is_drawn: false,
            due: FIRST_LINE,
            wait: FIRST_LINE,
            failures: Failures::new(),
        }
    }

    /// Shows the state at `now`, which is counted from the start of the run.
    pub fn update(&mut self, now: Duration, counts: &ProgressCounts) {
        self.rate.note(now, counts.ended());
        if let Some(unsaid) = self.failures.unsaid(now) {
            self.warn(&format!("pytf: {unsaid} more failed (ids in `failed`)"));
        }
        match self.mode {
            Mode::Silent => {}
            Mode::Lines => self.update_line(now, counts),
            Mode::Bar => self.update_bar(now, counts),
        }
    }

    fn update_line(&mut self, now: Duration, counts: &ProgressCounts) {
        if now < self.due || self.last_line == Some(*counts) {
            return;
        }
        self.wait = (self.wait * 3 / 2).min(LAST_WAIT);
        self.due = now + self.wait;
        self.last_line = Some(*counts);
        let line = format!("pytf: {}", sentence(counts, &self.rate, now));
        self.say(&line);
    }

    fn update_bar(&mut self, now: Duration, counts: &ProgressCounts) {
        let Some(bar) = &self.bar else { return };
        self.is_drawn = true;
        let columns = usize::from(Terminal::of_stderr().columns);
        bar.show(counts, beside_bar(counts, &self.rate, now, columns));
    }

    /// Prints a line at once, above the bar where there is one.
    pub fn say(&mut self, line: &str) {
        if self.mode != Mode::Silent {
            self.warn(line);
        }
    }

    /// Prints a line in each mode.
    pub fn warn(&mut self, line: &str) {
        let line = clip(&without_error_numbers(line), LONGEST) + "\n";
        let out = &mut self.out;
        // One write a line: lines of several farmers must not mix.
        let mut write = || drop(out.write_all(line.as_bytes()));
        match &self.bar {
            Some(bar) if self.is_drawn => bar.drawn.suspend(&mut write),
            _ => write(),
        }
    }

    /// Reports a failure at once, in each mode, unless very many tasks fail: then their
    /// number is reported.
    pub fn failure(&mut self, now: Duration, line: &str) {
        if self.failures.may_say(now) {
            self.task(line);
        }
    }

    /// Prints a line about a task in each mode: one line on a terminal, whatever the command.
    pub fn task(&mut self, line: &str) {
        let columns = usize::from(Terminal::of_stderr().columns);
        match &self.bar {
            Some(bar) if columns > 0 => {
                let line = bar.style.clip(line, columns);
                self.warn(&line);
            }
            _ => self.warn(line),
        }
    }

    /// Removes the bar and reports failures that were only counted.
    pub fn finish(&mut self) {
        if let Some(unsaid) = self.failures.unsaid(Duration::MAX) {
            self.warn(&format!("pytf: {unsaid} more failed (ids in `failed`)"));
        }
        if let Some(bar) = &self.bar {
            bar.drawn.finish_and_clear();
        }
    }
}

/// The state as one line of a log.
fn sentence(counts: &ProgressCounts, rate: &RecentRate, now: Duration) -> String {
    if counts.is_waiting() {
        return format!(
            "{} finished, {} failed, waiting for tasks",
            grouped(counts.done),
            grouped(counts.failed)
        );
    }
    let eta = eta(counts, rate, now);
    let rate = rate.rate(now);
    let rate = rate.map(|rate| format!(", {}", show_rate(rate)));
    let cancelled = match counts.cancelled {
        0 => String::new(),
        n => format!(", {} cancelled", grouped(n)),
    };
    format!(
        "{} of {} finished, {} failed{cancelled}, {} running, {} waiting{}, eta {eta}",
        grouped(counts.done),
        counts.known(),
        grouped(counts.failed),
        grouped(counts.running),
        grouped(counts.left),
        rate.unwrap_or_default(),
    )
}

/// Which failures are reported one by one.
#[derive(Debug)]
struct Failures {
    /// How many may be reported now.
    may: u32,
    /// When that was so.
    at: Duration,
    /// How many were not reported one by one, and when their number was last reported.
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

    /// How many were not reported, when it is time to report their number.
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
mod tests;
