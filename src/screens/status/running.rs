//! `pytf status --running`: a row for each task that runs, the longest first.

use std::io::{self, Write};

use serde_json::json;

use super::form::Form;
use super::json::{SCHEMA, seconds};
use crate::history::commands::Commands;
use crate::history::run::Run;
use crate::history::run::attempt::Attempt;
use crate::model::durations;
use crate::model::escape::{clip, escape};
use crate::model::figures::micros;
use crate::model::task::TaskId;
use crate::ui::table;

/// How much of a command is shown.
const COMMAND: usize = 1000;

/// The columns of a table for programs.
const COLUMNS: [&str; 9] = [
    "id", "attempt", "node", "slot", "pid", "farmer", "start", "seconds", "command",
];

/// An attempt that runs.
pub(super) struct Running<'a> {
    pub(super) attempt: &'a Attempt,
    /// Its node.
    pub(super) host: &'a str,
    /// The farmer that runs it.
    pub(super) farmer: &'a str,
    /// For how long, in microseconds.
    pub(super) ran: u64,
}

/// What runs, according to the journals: what has run for less than half a second may
/// not be there yet.
pub(super) fn running(run: &Run) -> Vec<Running<'_>> {
    let of_farmer = |farmer| {
        let now = run.now_of(farmer);
        let header = farmer.header();
        farmer.slots.running.values().map(move |attempt| Running {
            attempt,
            host: &header.host,
            farmer: &header.farmer,
            ran: now.saturating_sub(attempt.at),
        })
    };
    let mut all: Vec<_> = run.living().flat_map(of_farmer).collect();
    all.sort_by_key(|one| (std::cmp::Reverse(one.ran), one.attempt.id));
    all
}

/// Shows all that runs.
pub(super) fn show(run: &Run, form: Form, out: &mut dyn Write) -> io::Result<()> {
    let all = running(run);
    let mut commands = Commands::open(&run.workdir)?;
    let mut command = |one: &Running| -> io::Result<String> {
        let command = commands.get(TaskId(one.attempt.id))?;
        let command = command.map(|command| clip(&escape(command), COMMAND));
        Ok(command.unwrap_or_default())
    };
    match form {
        Form::Text(look) if all.is_empty() => {
            let text = "no running task is recorded yet";
            return writeln!(out, "{}", look.clip(text, look.width));
        }
        Form::Text(look) => {
            let head = ["task", "attempt", "for", "node", "slot", "pid", "command"];
            let mut rows = vec![head.map(str::to_owned).to_vec()];
            for one in &all {
                let command = command(one)?;
                rows.push(one.text(command));
            }
            return table::text(out, &look, &rows);
        }
        Form::Csv => table::csv(out, &COLUMNS.map(str::to_owned))?,
        Form::Tsv => table::tsv(out, &COLUMNS.map(str::to_owned))?,
        Form::Json => write!(
            out,
            "{{\"schema\":{SCHEMA},\"kind\":\"running\",\"running\":["
        )?,
    }
    for (number, one) in all.iter().enumerate() {
        let command = command(one)?;
        match form {
            Form::Csv => table::csv(out, &one.cells(command))?,
            Form::Tsv => table::tsv(out, &one.cells(command))?,
            _ => {
                out.write_all(if number == 0 { b"\n" } else { b",\n" })?;
                serde_json::to_writer(&mut *out, &one.json(&command))?;
            }
        }
    }
    if matches!(form, Form::Json) {
        out.write_all(b"\n]}\n")?;
    }
    Ok(())
}

impl Running<'_> {
    /// The process, where the record has it.
    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.attempt.pid).filter(|pid| *pid > 0)
    }

    fn text(&self, command: String) -> Vec<String> {
        let Attempt {
            id, attempt, slot, ..
        } = self.attempt;
        vec![
            id.to_string(),
            attempt.to_string(),
            durations::show(micros(self.ran)),
            escape(self.host.as_bytes()),
            slot.to_string(),
            self.pid().map_or_else(String::new, |pid| pid.to_string()),
            command,
        ]
    }

    fn cells(&self, command: String) -> Vec<String> {
        let Attempt {
            id,
            attempt,
            slot,
            at,
            ..
        } = self.attempt;
        vec![
            id.to_string(),
            attempt.to_string(),
            escape(self.host.as_bytes()),
            slot.to_string(),
            self.pid().map_or_else(String::new, |pid| pid.to_string()),
            escape(self.farmer.as_bytes()),
            format!("{:.6}", seconds(*at)),
            format!("{:.6}", seconds(self.ran)),
            command,
        ]
    }

    fn json(&self, command: &str) -> serde_json::Value {
        json!({
            "id": self.attempt.id,
            "attempt": self.attempt.attempt,
            "node": escape(self.host.as_bytes()),
            "slot": self.attempt.slot,
            "pid": self.pid(),
            "farmer": escape(self.farmer.as_bytes()),
            "start": seconds(self.attempt.at),
            "seconds": seconds(self.ran),
            "command": command,
        })
    }
}
