//! The summary at the end of a run: how it went, what failed and why, and what to do next.
//!
//! The text is a pure function of its [`Summary`] and the [`OutputStyle`]. `combined` sums
//! up many farmers, `process` is the line of a process that prints no summary.

pub mod combined;
pub mod process;

use std::fmt::Write as _;
use std::time::Duration;

use console::measure_text_width;

use super::style::{OutputStyle, Paint};
use crate::model::dialects::as_written;
use crate::model::durations;
use crate::model::escape::escape;
use crate::model::figures::grouped;
use crate::model::outcome::Outcome;
use crate::model::task::TaskId;

/// How many failures are shown.
pub const FAILURES: usize = 5;

/// How many lines of the log of each.
pub const TAIL: usize = 3;

/// A run that has ended, or the part of it that this farmer saw.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate fact")]
pub struct Summary {
    /// The workdir as the user names it.
    pub workdir: String,
    /// Tasks in `finished`, from all runs of the workdir.
    pub finished: u64,
    /// Tasks in `failed`, without the cancelled ones.
    pub failed: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Tasks that are neither, the interrupted ones too.
    pub left: u64,
    /// Tasks among `left` that wait for a task that failed.
    pub blocked: u64,
    /// Tasks among `left` that no process could run, and what they ask for.
    pub unfit: Option<(u64, String)>,
    /// Tasks among `left` that were stopped while they ran.
    pub interrupted: u64,
    /// Why the run was stopped, when it was: "the time limit", "SIGTERM".
    pub stopped: Option<String>,
    /// Tasks among `left` that were never started in this run.
    pub unstarted: u64,
    /// Why they were not started, when there was too little time for them.
    pub short: Option<String>,
    /// Whether other farmers still work on what is left.
    pub others_work: bool,
    /// Whether the stream of tasks was not read to its end.
    pub is_cut: bool,
    /// Whether the run is paused, so that it must be resumed first.
    pub is_paused: bool,
    /// How long this run took.
    pub wall: Duration,
    /// The slots of this run.
    pub slots: u64,
    /// How long tasks ran in them, all together.
    pub busy: Duration,
    /// The first that failed, one for each way to fail.
    pub failures: Vec<Failure>,
    /// What `pytf log` shows of a task that finished; none where no output is kept.
    pub output: Option<String>,
    /// Whether failures have logs.
    pub has_logs: bool,
    /// Whether others declared this farmer dead and took over its tasks.
    pub is_cut_off: bool,
    /// What could be better.
    pub advice: Vec<String>,
}

/// A task that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The task.
    pub id: TaskId,
    /// Its command.
    pub command: Vec<u8>,
    /// How its last attempt ended.
    pub outcome: Outcome,
    /// How many tasks ended in the same way, besides this one.
    pub more: u64,
    /// Where that was.
    pub node: String,
    /// Its log, when that is a separate file.
    pub log: Option<String>,
    /// The last lines of what it printed.
    pub tail: Vec<String>,
}

impl Summary {
    /// How much of the slots' time tasks ran, 0 to 1; `None` for a run that
    /// took no time.
    pub fn utilisation(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "shown as a percentage")]
        let all = self.wall.as_secs_f64() * self.slots as f64;
        (all > 0.0).then(|| (self.busy.as_secs_f64() / all).min(1.0))
    }

    /// The text, lines of at most `style.width` characters.
    pub fn text(&self, style: &OutputStyle) -> String {
        let mut out = String::new();
        self.push_headline(&mut out, style);
        if self.finished + self.failed + self.cancelled + self.left > 0 {
            self.push_numbers(&mut out, style);
        }
        self.push_short(&mut out, style);
        self.push_stranded(&mut out, style);
        for failure in self.failures.iter().take(FAILURES) {
            failure.push_to(&mut out, style);
        }
        let shown = self.failures.iter().take(FAILURES);
        let shown = shown.map(|failure| 1 + failure.more).sum::<u64>();
        if shown > 0 && self.failed > shown {
            let workdir = escape(self.workdir.as_bytes());
            let more = format!(
                "and {} more in {workdir}/failed",
                grouped(self.failed - shown)
            );
            let _ = writeln!(
                out,
                "\n  {}",
                style.paint(Paint::Faint, &style.clip(&more, style.width - 2))
            );
        }
        if !self.advice.is_empty() {
            out.push('\n');
        }
        for advice in &self.advice {
            push_wrapped(&mut out, style, advice);
        }
        self.push_next(&mut out, style);
        out
    }

    /// The headline.
    fn push_headline(&self, out: &mut String, style: &OutputStyle) {
        let marks = style.marks();
        let all = self.finished + self.failed + self.cancelled + self.left;
        let total = grouped(all);
        let of = |number| match all {
            1 => "the task".to_owned(),
            _ => format!("{} of {total} tasks", grouped(number)),
        };
        let (paint, mark, text) = if self.left == 0 && self.is_cut {
            let text = "the task list was not read to its end".to_owned();
            (Paint::Warn, marks.more, text)
        } else if self.left > 0 {
            let why = match (&self.stopped, self.others_work) {
                (Some(why), _) => format!(": stopped by {}", escape(why.as_bytes())),
                (None, true) => ", others work on them".to_owned(),
                (None, false) => String::new(),
            };
            let are = if self.left == 1 { "is" } else { "are" };
            let text = format!("{} {are} left{why}", of(self.left));
            (Paint::Warn, marks.more, text)
        } else if self.is_cut_off {
            let text = format!(
                "this process was cut off, and others did its tasks: {} finished, {} failed",
                of(self.finished),
                grouped(self.failed)
            );
            (Paint::Warn, marks.more, text)
        } else if self.failed > 0 {
            (Paint::Bad, marks.bad, format!("{} failed", of(self.failed)))
        } else if self.cancelled > 0 {
            let were = if self.cancelled == 1 { "was" } else { "were" };
            let text = format!("{} {were} cancelled", of(self.cancelled));
            (Paint::Warn, marks.more, text)
        } else if self.finished == 0 {
            let text = "nothing to do, the list has no tasks".to_owned();
            (Paint::Good, marks.good, text)
        } else if self.finished == 1 {
            (Paint::Good, marks.good, "the task finished".to_owned())
        } else {
            (
                Paint::Good,
                marks.good,
                format!("all {total} tasks finished"),
            )
        };
        let line = style.clip(&format!("{mark} {text}"), style.width);
        let _ = writeln!(out, "{}", style.paint(paint, &line));
    }

    fn push_numbers(&self, out: &mut String, style: &OutputStyle) {
        let mut parts = vec![format!("{} finished", grouped(self.finished))];
        if self.failed > 0 {
            parts.push(format!("{} failed", grouped(self.failed)));
        }
        if self.cancelled > 0 {
            parts.push(format!("{} cancelled", grouped(self.cancelled)));
        }
        if self.left > 0 {
            parts.push(format!("{} left{}", grouped(self.left), self.whereof()));
        }
        let slots = if self.slots == 1 { "slot" } else { "slots" };
        let mut time = format!(
            "{} on {} {slots}",
            durations::show(self.wall),
            grouped(self.slots)
        );
        if let Some(utilisation) = self.utilisation() {
            let _ = write!(time, ", {:.0} % busy", utilisation * 100.0);
        }
        let numbers = parts.join(style.marks().dot);
        let line = format!("  {numbers}{}{time}", style.marks().dot);
        if measure_text_width(&line) <= style.width {
            let _ = writeln!(out, "{line}");
        } else {
            for part in [numbers, time] {
                let _ = writeln!(out, "  {}", style.clip(&part, style.width - 2));
            }
        }
    }

    /// `27 tasks not started: 4m10s left, tasks like them take 9m00s`
    fn push_short(&self, out: &mut String, style: &OutputStyle) {
        let Some(short) = self.short.as_deref().filter(|_| !self.others_work) else {
            return;
        };
        let tasks = match self.unstarted {
            0 => return,
            1 => "1 task".to_owned(),
            n => format!("{} tasks", grouped(n)),
        };
        let line = format!("{tasks} not started: {short}");
        let _ = writeln!(out, "  {}", style.clip(&line, style.width - 2));
    }

    /// What became of the tasks that are left, as far as that is final.
    fn whereof(&self) -> String {
        let stranded = self.blocked + self.unfit.as_ref().map_or(0, |(tasks, _)| *tasks);
        let interrupted = self.interrupted.min(self.left - stranded.min(self.left));
        match (interrupted, self.left - interrupted) {
            _ if self.others_work => String::new(),
            _ if stranded >= self.left => String::new(),
            (0, _) => " (not started)".to_owned(),
            (_, 0) => " (interrupted)".to_owned(),
            (interrupted, rest) => format!(
                " ({} interrupted, {} not started)",
                grouped(interrupted),
                grouped(rest)
            ),
        }
    }

    /// Whether the same command again would run more.
    pub fn can_go_on(&self) -> bool {
        let unfit = self.unfit.as_ref().map_or(0, |(tasks, _)| *tasks);
        self.left > self.blocked + unfit
    }

    /// Why tasks are left that nothing will run as things are.
    fn push_stranded(&self, out: &mut String, style: &OutputStyle) {
        if self.others_work {
            return;
        }
        let count = |tasks, one: &str, more: &str| match tasks {
            1 => format!("1 {one}"),
            tasks => format!("{} {more}", grouped(tasks)),
        };
        let mut lines = Vec::new();
        if self.blocked > 0 {
            let what = ["waits for a task that failed", "wait for tasks that failed"];
            lines.push(count(self.blocked, what[0], what[1]));
        }
        if let Some((tasks, asked)) = &self.unfit {
            let tasks = count(
                *tasks,
                "fits no process of this run",
                "fit no process of this run",
            );
            lines.push(format!("{tasks}: {}", escape(asked.as_bytes())));
        }
        for line in lines {
            let _ = writeln!(out, "  {}", style.clip(&line, style.width - 2));
        }
    }

    /// What to do next; nothing when there is nothing to do.
    fn push_next(&self, out: &mut String, style: &OutputStyle) {
        let workdir = quoted(&escape(self.workdir.as_bytes()));
        let mut next = Vec::new();
        if self.left > 0 && self.is_paused {
            next.push((
                format!("pytf resume {workdir}"),
                "lifts the pause: until then no task is started".to_owned(),
            ));
        }
        if self.can_go_on() && !self.others_work {
            next.push((
                "run the same command again to continue".to_owned(),
                String::new(),
            ));
        }
        let ended_badly = self.failed + self.cancelled;
        let is_good = self.left == 0 && ended_badly == 0 && self.finished > 0;
        if let Some(output) = self.output.as_ref().filter(|_| is_good) {
            next.push((format!("pytf log {workdir} ID"), output.clone()));
        }
        if let Some(failure) = self.failures.first().filter(|_| self.has_logs) {
            let id = failure.id;
            next.push((
                format!("pytf log {workdir} {id}"),
                format!("all that task {id} printed"),
            ));
        }
        if self.failed > 0 {
            let what = match self.failed {
                1 => "requeues the failed task; then run the same command",
                _ => "requeues the failed tasks; then run the same command",
            };
            next.push((format!("pytf retry {workdir}"), what.to_owned()));
        }
        if self.cancelled > 0 && self.failed == 0 {
            let command = format!("pytf retry {workdir} --cancelled");
            let what = "requeues the cancelled tasks, if they are to run after all";
            next.push((command, what.to_owned()));
        }
        if !next.is_empty() {
            out.push('\n');
        }
        push_commands(out, style, &next);
    }
}

impl Failure {
    fn push_to(&self, out: &mut String, style: &OutputStyle) {
        let head = match self.more {
            0 => format!("  task {}", self.id),
            more => format!("  task {} and {} more", self.id, grouped(more)),
        };
        let outcome = self.outcome.to_string();
        let taken = measure_text_width(&head) + measure_text_width(&outcome) + 4;
        let command = escape(as_written(&self.command));
        let command = style.clip(&command, style.width.saturating_sub(taken));
        let _ = writeln!(
            out,
            "\n{}  {}  {command}",
            style.paint(Paint::Strong, &head),
            style.paint(Paint::Bad, &outcome),
        );
        let mut place = escape(self.node.as_bytes());
        if let Some(log) = &self.log {
            let _ = write!(place, "{}{}", style.marks().dot, escape(log.as_bytes()));
        }
        if !place.is_empty() {
            let place = style.clip(&place, style.width - 4);
            let _ = writeln!(out, "    {}", style.paint(Paint::Faint, &place));
        }
        for line in &self.tail {
            let line = style.clip(line, style.width - 6);
            let _ = writeln!(
                out,
                "    {} {line}",
                style.paint(Paint::Faint, style.marks().bar)
            );
        }
    }
}

/// Commands to copy, which are never cut, each with what it does.
pub(crate) fn push_commands(out: &mut String, style: &OutputStyle, all: &[(String, String)]) {
    let explained = all.iter().filter(|(_, what)| !what.is_empty());
    let column = explained.map(|(command, _)| measure_text_width(command));
    let column = column.max().unwrap_or(0);
    for (command, what) in all {
        let pad = " ".repeat(column.saturating_sub(measure_text_width(command)));
        let room = style.width.saturating_sub(column + 4);
        let what = style.paint(Paint::Faint, &style.clip(what, room));
        let line = format!("  {}{pad}  {what}", style.paint(Paint::Strong, command));
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// A paragraph after a mark, indented below its first word.
pub(crate) fn push_wrapped(out: &mut String, style: &OutputStyle, text: &str) {
    let mark = style.marks().more;
    let indent = measure_text_width(mark) + 3;
    let mut line = format!("  {mark} ");
    let mut is_empty = true;
    for word in text.split(' ') {
        let width = measure_text_width(&line) + 1 + measure_text_width(word);
        if !is_empty && width > style.width {
            let _ = writeln!(out, "{}", style.clip(&line, style.width));
            line = " ".repeat(indent);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    let _ = writeln!(out, "{}", style.clip(&line, style.width));
}

/// A word quoted for a shell.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./+:@%,=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests;
