//! The lines of `--log-tasks`: one when a task starts, one when it ends.

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::durations::show;
use crate::model::escape::escape;
use crate::model::figures::date;
use crate::model::outcome::{Destination, Outcome};
use crate::model::record::{End, LogAt};
use crate::model::task::Task;

/// Words the lines of one farmer.
#[derive(Clone, Debug)]
pub struct TaskLog {
    /// Its node, fit to be printed.
    node: String,
}

impl TaskLog {
    /// That of a farmer on this node.
    pub fn new(node: &str) -> Self {
        let node = escape(node.as_bytes());
        Self { node }
    }

    /// A task has started: at this time in microseconds since 1970, in this slot, as this
    /// process.
    pub fn started(&self, task: &Task, at: u64, slot: u32, pid: i32) -> String {
        let mut text = self.begin(task, at, "started", slot);
        let _ = write!(text, ", process {pid}: {}", escape(task.command()));
        text
    }

    /// An attempt has ended, and nothing can change its outcome any more.
    pub fn ended(&self, task: &Task, end: &End) -> String {
        let (outcome, us) = (&end.outcome, end.us);
        let word = match outcome.destination() {
            Destination::Finished => "finished",
            Destination::Failed if *outcome == Outcome::Cancelled => "cancelled",
            Destination::Failed => "failed",
            Destination::ToProcess => "interrupted",
        };
        let mut text = self.begin(task, end.at.saturating_add(us), word, end.slot);
        match &end.skipped {
            Some(file) => {
                let _ = write!(
                    text,
                    " without a start: {} is there",
                    escape(file.as_bytes())
                );
            }
            None => {
                let _ = write!(text, ", after {}", show(Duration::from_micros(us)));
            }
        }
        if word == "failed" {
            let _ = write!(text, ": {outcome}");
            if let Some(again) = end.again {
                let delay = show(Duration::from_micros(again));
                let _ = write!(text, ", tried again in {delay}");
            }
            if let Some(log) = end.log.as_ref().and_then(LogAt::names) {
                let _ = write!(text, " [{log}]");
            }
        }
        let _ = write!(text, ": {}", escape(task.command()));
        text
    }

    fn begin(&self, task: &Task, at: u64, word: &str, slot: u32) -> String {
        let attempt = match task.attempt {
            1 => String::new(),
            n => format!(", attempt {n},"),
        };
        let (id, node) = (task.id, &self.node);
        format!(
            "pytf: {} task {id}{attempt} {word} on {node}, slot {slot}",
            date(at)
        )
    }
}
