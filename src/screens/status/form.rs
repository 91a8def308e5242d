//! The forms of a status, and lists of tasks in each of them.

use std::io::{self, Write};

use serde_json::Value;

use super::json::SCHEMA;
use crate::ui::style::OutputStyle;
use crate::ui::table;

/// How much of a command is shown.
pub(super) const COMMAND: usize = 1000;

/// How it is to be shown.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// For people.
    Text(OutputStyle),
    /// One JSON object.
    Json,
    /// A table with commas; failed and running tasks only.
    Csv,
    /// A table with tabs; failed and running tasks only.
    Tsv,
}

/// A list of tasks.
pub(super) struct List {
    /// The kind of its JSON object, and the name of the array in it.
    pub(super) kind: &'static str,
    /// The text for people where the list is empty.
    pub(super) empty: &'static str,
    /// The columns for people.
    pub(super) head: &'static [&'static str],
    /// The columns for programs: members of the JSON objects.
    pub(super) columns: &'static [&'static str],
}

/// A task in a list.
pub(super) trait Entry {
    /// The cells for people.
    fn text(&self) -> Vec<String>;

    /// As `--json` has it.
    fn json(&self) -> Value;

    /// As tables for programs have it.
    fn row(&self) -> Value {
        self.json()
    }
}

impl List {
    /// Shows the list; for programs entry by entry, however many there are.
    pub(super) fn show<E: Entry>(
        &self,
        form: Form,
        out: &mut dyn Write,
        entries: impl ExactSizeIterator<Item = io::Result<E>>,
    ) -> io::Result<()> {
        match form {
            Form::Text(style) if entries.len() == 0 => {
                return writeln!(out, "{}", style.clip(self.empty, style.width));
            }
            Form::Text(style) => {
                let head = self.head.iter().map(|&name| name.to_owned());
                let mut rows = vec![head.collect()];
                for entry in entries {
                    rows.push(entry?.text());
                }
                return table::text(out, &style, &rows);
            }
            Form::Csv => table::csv(out, self.columns)?,
            Form::Tsv => table::tsv(out, self.columns)?,
            Form::Json => {
                let kind = self.kind;
                write!(
                    out,
                    "{{\"schema\":{SCHEMA},\"kind\":\"{kind}\",\"{kind}\":["
                )?;
            }
        }
        for (number, entry) in entries.enumerate() {
            let entry = entry?;
            let cells = || table::cells(&entry.row(), self.columns);
            match form {
                Form::Csv => table::csv(out, &cells())?,
                Form::Tsv => table::tsv(out, &cells())?,
                _ => {
                    out.write_all(if number == 0 { b"\n" } else { b",\n" })?;
                    serde_json::to_writer(&mut *out, &entry.json())?;
                }
            }
        }
        if matches!(form, Form::Json) {
            out.write_all(b"\n]}\n")?;
        }
        Ok(())
    }
}
