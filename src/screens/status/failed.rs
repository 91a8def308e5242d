//! `pytf status --failed`: a row for each failed task.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::form::{COMMAND, Entry, Form, List};
use crate::history::commands::Commands;
use crate::history::failures::{Details, FailedTask, failures};
use crate::history::run::farmer::FailedAttempt;
use crate::history::run::{Farmer, Run};
use crate::model::durations;
use crate::model::escape::{clip, escape};
use crate::model::figures::{micros, show_kib};
use crate::model::outcome::{Outcome, signal_name};
use crate::model::record::{End, LogAt};
use crate::model::task::TaskId;
use crate::screens::attempt_json::{cancellation, numbers, seconds};

const LIST: List = List {
    kind: "failed",
    empty: "no task is in failed",
    head: &[
        "task", "attempts", "outcome", "node", "time", "memory", "log", "command",
    ],
    columns: &[
        "id", "attempts", "outcome", "status", "signal", "node", "start", "seconds", "peak_kib",
        "log", "command", "reason", "stderr",
    ],
};

/// Shows all failed tasks.
pub(super) fn show(run: &Run, form: Form, out: &mut dyn Write) -> io::Result<()> {
    LIST.show(form, out, failed_entries(run, |_| true)?)
}

/// The tasks in `failed` by their ids, those that are wanted.
pub(crate) fn failed_entries(
    run: &Run,
    is_wanted: impl Fn(&FailedTask) -> bool,
) -> io::Result<impl ExactSizeIterator<Item = io::Result<FailedEntry<'_>>>> {
    let mut commands = Commands::open(&run.workdir)?;
    let mut details = Details::default();
    let mut failures = failures(run);
    failures.retain(is_wanted);
    Ok(failures.into_iter().map(move |failure| {
        let command = commands.text(TaskId(failure.id), COMMAND)?;
        Ok(FailedEntry {
            end: failure
                .given_up
                .is_none()
                .then(|| details.of(&failure))
                .flatten(),
            command: command.unwrap_or_default(),
            failure,
        })
    }))
}

/// All that is known of a failed task.
pub(crate) struct FailedEntry<'a> {
    failure: FailedTask<'a>,
    end: Option<End>,
    command: String,
}

impl FailedEntry<'_> {
    fn attempts(&self) -> Option<u32> {
        let last = self.failure.last.map(|(_, failed)| failed.attempt);
        self.failure.given_up.or(last)
    }

    /// Its last failure, where a journal has it.
    fn last(&self) -> Option<(&Farmer, &FailedAttempt)> {
        self.failure
            .last
            .filter(|_| self.failure.given_up.is_none())
    }

    fn node(&self) -> String {
        let last = self.last();
        last.map_or_else(String::new, |(farmer, _)| {
            escape(farmer.header().host.as_bytes())
        })
    }

    fn log(&self) -> Option<String> {
        Some(escape(self.log_at()?.file.as_bytes()))
    }

    fn stderr(&self) -> Option<String> {
        Some(escape(self.log_at()?.stderr.as_ref()?.as_bytes()))
    }

    fn peak(&self) -> Option<u64> {
        self.end.as_ref()?.used.map(|used| used.peak)
    }

    /// Where its log is, when that was kept.
    pub(crate) fn log_at(&self) -> Option<&LogAt> {
        self.end.as_ref()?.log.as_ref()
    }

    fn reason(&self) -> Option<String> {
        let reason = self.failure.cancelled?.reason.as_ref()?;
        Some(escape(reason.as_bytes()))
    }

    /// How it ended, and why it was cancelled.
    fn text_words(&self) -> String {
        match self.reason() {
            Some(reason) => format!("{}: {}", self.failure.words(), clip(&reason, 60)),
            None => self.failure.words(),
        }
    }

    /// As `--json` has it.
    pub(crate) fn as_json(&self) -> Value {
        let (status, signal) = numbers(self.failure.outcome());
        json!({
            "id": self.failure.id,
            "attempts": self.attempts(),
            "outcome": self.failure.outcome().map(Outcome::word),
            "status": status,
            "signal": signal,
            "words": self.failure.words(),
            "node": self.node(),
            "start": self.end.as_ref().map(|end| seconds(end.at)),
            "seconds": self.last().map(|(_, failed)| seconds(failed.us)),
            "peak_kib": self.peak(),
            "log": self.log(),
            "stderr": self.stderr(),
            "command": self.command,
            "cancelled": self.failure.cancelled.map(cancellation),
        })
    }
}

impl Entry for FailedEntry<'_> {
    fn text(&self) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let time = self
            .last()
            .map(|(_, failed)| durations::show(micros(failed.us)));
        vec![
            self.failure.id.to_string(),
            or_dash(self.attempts().map(|attempts| attempts.to_string())),
            self.text_words(),
            self.node(),
            or_dash(time),
            or_dash(self.peak().map(show_kib)),
            or_dash(self.log().map(|log| {
                [Some(log), self.stderr()]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(" ")
            })),
            clip(&self.command, 200),
        ]
    }

    fn json(&self) -> Value {
        self.as_json()
    }

    fn row(&self) -> Value {
        let mut row = self.as_json();
        let (outcome, (_, signal)) = (self.failure.outcome(), numbers(self.failure.outcome()));
        row["outcome"] = outcome.map_or("unknown", Outcome::word).into();
        row["reason"] = self.reason().into();
        row["signal"] = signal.map(signal_name).into();
        row
    }
}
