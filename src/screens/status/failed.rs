//! `pytf status --failed`: a row for each failed task.

use std::io::{self, Write};

use serde_json::json;

use super::form::{Form, numbers};
use super::json::{SCHEMA, seconds};
use crate::history::commands::Commands;
use crate::history::failures::{Details, FailedTask, failures};
use crate::history::run::Run;
use crate::model::durations;
use crate::model::escape::{clip, escape};
use crate::model::figures::{micros, show_kib};
use crate::model::outcome::{Outcome, signal_name};
use crate::model::record::{End, LogAt};
use crate::model::task::TaskId;
use crate::ui::table;

/// How much of a command is shown.
const COMMAND: usize = 1000;

/// The columns of a table for programs.
const COLUMNS: [&str; 11] = [
    "id", "attempts", "outcome", "status", "signal", "node", "start", "seconds", "peak_kib", "log",
    "command",
];

/// Shows all failed tasks.
pub(super) fn show(run: &Run, form: Form, out: &mut dyn Write) -> io::Result<()> {
    let (failures, mut details) = (failures(run), Details::default());
    let mut commands = Commands::open(&run.workdir)?;
    match form {
        Form::Text(look) if failures.is_empty() => {
            let text = "no task is in failed";
            return writeln!(out, "{}", look.clip(text, look.width));
        }
        Form::Text(look) => {
            let head = [
                "task", "attempts", "outcome", "node", "time", "memory", "log", "command",
            ];
            let mut rows = vec![head.map(str::to_owned).to_vec()];
            for failure in &failures {
                rows.push(FailedEntry::of(*failure, &mut details, &mut commands)?.text());
            }
            return table::text(out, &look, &rows);
        }
        Form::Csv => table::csv(out, &COLUMNS.map(str::to_owned))?,
        Form::Tsv => table::tsv(out, &COLUMNS.map(str::to_owned))?,
        Form::Json => {
            write!(
                out,
                "{{\"schema\":{SCHEMA},\"kind\":\"failed\",\"failed\":["
            )?;
        }
    }
    for (number, failure) in failures.iter().enumerate() {
        let row = FailedEntry::of(*failure, &mut details, &mut commands)?;
        match form {
            Form::Csv => table::csv(out, &row.cells())?,
            Form::Tsv => table::tsv(out, &row.cells())?,
            _ => {
                out.write_all(if number == 0 { b"\n" } else { b",\n" })?;
                serde_json::to_writer(&mut *out, &row.json())?;
            }
        }
    }
    if matches!(form, Form::Json) {
        out.write_all(b"\n]}\n")?;
    }
    Ok(())
}

/// The first failed tasks, at most so many.
pub(crate) fn failed_entries(run: &Run, most: usize) -> io::Result<Vec<FailedEntry<'_>>> {
    let mut commands = Commands::open(&run.workdir)?;
    let mut details = Details::default();
    let failures = failures(run).into_iter().take(most);
    failures
        .map(|failure| FailedEntry::of(failure, &mut details, &mut commands))
        .collect()
}

/// All that is known of a failed task.
pub(crate) struct FailedEntry<'a> {
    failure: FailedTask<'a>,
    end: Option<End>,
    command: String,
}

impl<'a> FailedEntry<'a> {
    fn of(
        failure: FailedTask<'a>,
        details: &mut Details,
        commands: &mut Commands,
    ) -> io::Result<Self> {
        let command = commands.get(TaskId(failure.id))?;
        let command = command.map(|command| clip(&escape(command), COMMAND));
        Ok(Self {
            end: details.of(&failure),
            command: command.unwrap_or_default(),
            failure,
        })
    }

    fn attempts(&self) -> Option<u32> {
        self.failure.last.map(|(_, failed)| failed.attempt)
    }

    fn node(&self) -> String {
        let last = self.failure.last;
        last.map_or_else(String::new, |(farmer, _)| {
            escape(farmer.header().host.as_bytes())
        })
    }

    fn log(&self) -> Option<String> {
        Some(escape(self.log_at()?.file.as_bytes()))
    }

    fn peak(&self) -> Option<u64> {
        self.end.as_ref()?.used.map(|used| used.peak)
    }

    fn text(&self) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let time = self
            .failure
            .last
            .map(|(_, failed)| durations::show(micros(failed.us)));
        vec![
            self.failure.id.to_string(),
            or_dash(self.attempts().map(|attempts| attempts.to_string())),
            self.failure.words(),
            self.node(),
            or_dash(time),
            or_dash(self.peak().map(show_kib)),
            or_dash(self.log()),
            clip(&self.command, 200),
        ]
    }

    fn cells(&self) -> Vec<String> {
        let text = |value: Option<String>| value.unwrap_or_default();
        let (status, signal) = numbers(self.failure.outcome());
        vec![
            self.failure.id.to_string(),
            text(self.attempts().map(|attempts| attempts.to_string())),
            self.failure
                .outcome()
                .map_or("unknown", Outcome::word)
                .to_owned(),
            text(status.map(|status| status.to_string())),
            text(signal.map(signal_name)),
            self.node(),
            text(
                self.end
                    .as_ref()
                    .map(|end| format!("{:.6}", seconds(end.at))),
            ),
            text(
                self.failure
                    .last
                    .map(|(_, failed)| format!("{:.6}", seconds(failed.us))),
            ),
            text(self.peak().map(|peak| peak.to_string())),
            text(self.log()),
            self.command.clone(),
        ]
    }

    /// Where its log is, when that was kept.
    pub(crate) fn log_at(&self) -> Option<&LogAt> {
        self.end.as_ref()?.log.as_ref()
    }

    /// As `--json` has it.
    pub(crate) fn json(&self) -> serde_json::Value {
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
            "seconds": self.failure.last.map(|(_, failed)| seconds(failed.us)),
            "peak_kib": self.peak(),
            "log": self.log(),
            "command": self.command,
        })
    }
}
