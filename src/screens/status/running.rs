//! `pytf status --running`: a row for each task that runs, the longest first.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::form::{COMMAND, Entry, Form, List};
use crate::history::commands::Commands;
use crate::history::run::{Run, Running};
use crate::model::durations;
use crate::model::escape::escape;
use crate::model::figures::micros;
use crate::model::task::TaskId;
use crate::screens::attempt_json::seconds;

const LIST: List = List {
    kind: "running",
    empty: "no running task is recorded yet",
    head: &["task", "attempt", "for", "node", "slot", "pid", "command"],
    columns: &[
        "id", "attempt", "node", "slot", "pid", "farmer", "start", "seconds", "command",
    ],
};

/// Shows all that runs.
pub(super) fn show(run: &Run, form: Form, out: &mut dyn Write) -> io::Result<()> {
    let all = run.running_attempts();
    let mut commands = Commands::open(&run.workdir)?;
    let entries = all.iter().map(|running| {
        let command = commands.text(TaskId(running.attempt.id), COMMAND)?;
        Ok(RunningEntry {
            running,
            command: command.unwrap_or_default(),
        })
    });
    LIST.show(form, out, entries)
}

/// A running attempt and its command.
struct RunningEntry<'a> {
    running: &'a Running<'a>,
    command: String,
}

impl Entry for RunningEntry<'_> {
    fn text(&self) -> Vec<String> {
        let (attempt, pid) = (self.running.attempt, self.running.pid());
        vec![
            attempt.id.to_string(),
            attempt.attempt.to_string(),
            durations::show(micros(self.running.ran)),
            escape(self.running.farmer.host.as_bytes()),
            attempt.slot.to_string(),
            pid.map_or_else(String::new, |pid| pid.to_string()),
            self.command.clone(),
        ]
    }

    fn json(&self) -> Value {
        let Running {
            attempt, farmer, ..
        } = self.running;
        json!({
            "id": attempt.id,
            "attempt": attempt.attempt,
            "node": escape(farmer.host.as_bytes()),
            "slot": attempt.slot,
            "pid": self.running.pid(),
            "farmer": escape(farmer.farmer.as_bytes()),
            "start": seconds(attempt.at),
            "seconds": seconds(self.running.ran),
            "lease": attempt.lease,
            "command": self.command,
        })
    }
}
