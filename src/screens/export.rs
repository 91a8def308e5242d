//! `pytf export`: every attempt that has ended, or every task, for other tools.
//!
//! It streams: one journal after the other, a line for each end, whatever the
//! number of tasks. For tasks some bytes of each are kept.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use super::attempt_json::{attempt, seconds};
use super::output::replace;
use crate::history::commands::Commands;
use crate::history::ended::ended;
use crate::history::is_workdir;
use crate::history::journals::{Journal, journals};
use crate::history::run::counts::{Counts, cancellations_until, given_up_until};
use crate::history::run::{Run, RunError};
use crate::model::escape::escape;
use crate::model::ids::IdSet;
use crate::model::outcome::Outcome;
use crate::model::record::{End, Header, Record};
use crate::model::task::TaskId;
use crate::ui::table;
use crate::workdir::layout::{FAILED, FINISHED};

/// A form that others read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// GNU parallel's `--joblog`.
    Joblog,
    /// Values between commas.
    Csv,
    /// One JSON object per line.
    Jsonl,
}

/// The place of a task that is in `failed` since it was cancelled.
const CANCELLED: &str = "cancelled";

/// The columns of [`Form::Csv`].
const COLUMNS: [&str; 20] = [
    "id",
    "attempt",
    "node",
    "farmer",
    "slot",
    "start",
    "seconds",
    "outcome",
    "status",
    "signal",
    "user",
    "sys",
    "peak_kib",
    "read_kib",
    "written_kib",
    "log",
    "command",
    "stderr",
    "attributes",
    "again",
];

/// Writes all attempts into a file, which it replaces when it is whole, or to standard
/// output (`-`); returns how many journal lines were damaged.
pub fn write_file(workdir: &Path, form: Form, path: &Path) -> Result<u64, RunError> {
    replace(path, |out| write(workdir, form, out))
}

/// The same for the tasks that have ended, all or these: each with its last attempt, and with
/// the file that it is in as its `place`; that of a cancelled task is `cancelled`.
pub fn write_tasks(
    workdir: &Path,
    ids: Option<&IdSet>,
    form: Form,
    path: &Path,
) -> Result<u64, RunError> {
    replace(path, |out| {
        let counts = Run::counts_of(workdir)?;
        let mut tasks = Tasks::read(workdir, &counts, ids)?;
        let mut table = Table::new(workdir, form, out, true)?;
        for journal in &tasks.journals {
            let farmer = Names::of(&journal.header);
            journal.each_record(|record| {
                let Record::End(end) = record else {
                    return Ok(());
                };
                let is_last = |last: &&mut Last| last.attempt == Some(end.attempt);
                if let Some(last) = tasks.last.get_mut(&end.id).filter(is_last) {
                    // An attempt that was recorded twice is written once.
                    last.attempt = None;
                    last.is_written = true;
                    return table.end(&farmer, end, Some(last.place));
                }
                Ok(())
            })?;
        }
        for (id, last) in tasks.last.iter().filter(|(_, last)| !last.is_written) {
            let nothing = COLUMNS.iter().map(|column| (*column, Value::Null));
            let mut row: Value = nothing.collect();
            if let Some(attempt) = last.given_up {
                row["attempt"] = attempt.into();
                row["outcome"] = Outcome::Lost.word().into();
            }
            table.row(*id, row, Some(last.place))?;
        }
        Ok(tasks.damage)
    })
}

/// The tasks that have ended, and their last attempts.
struct Tasks {
    last: BTreeMap<TaskId, Last>,
    journals: Vec<Journal>,
    /// How many journal lines were damaged.
    damage: u64,
}

/// What is known of a task that has ended.
struct Last {
    place: &'static str,
    /// Its last attempt, until it is written; none where no journal has one.
    attempt: Option<u32>,
    is_written: bool,
    /// Its last attempt, if it has lost too many farmers.
    given_up: Option<u32>,
}

impl Tasks {
    fn read(workdir: &Path, counts: &Counts, ids: Option<&IdSet>) -> io::Result<Self> {
        let last = |is_finished| Last {
            place: if is_finished { FINISHED } else { FAILED },
            attempt: None,
            is_written: false,
            given_up: None,
        };
        let ended = ended(workdir, counts, ids)?.into_iter();
        let mut last: BTreeMap<TaskId, Last> = ended.map(|(id, done)| (id, last(done))).collect();
        let (journals, mut damage) = (journals(workdir)?, 0);
        for journal in &journals {
            let damaged = journal.each_record(|record| {
                if let Record::End(end) = record
                    && let Some(last) = last.get_mut(&end.id)
                {
                    last.attempt = last.attempt.max(Some(end.attempt));
                }
                Ok(())
            })?;
            damage += damaged.lines;
        }
        let state = counts.state.as_ref();
        for (id, attempt) in given_up_until(workdir, state)?.iter() {
            if let Some(task) = last.get_mut(&TaskId(id))
                && task.place == FAILED
                && task.attempt.is_none_or(|last| last <= attempt)
            {
                (task.attempt, task.given_up) = (None, Some(attempt));
            }
        }
        for one in cancellations_until(workdir, state)?.all {
            for (first, end) in one.ids.ranges() {
                for (_, task) in last.range_mut(first..=end) {
                    // A later attempt is not cancelled.
                    let is_last = task.attempt.is_none_or(|attempt| attempt <= one.attempt)
                        && task.given_up.is_none_or(|attempt| attempt < one.attempt);
                    if task.place == FAILED && is_last {
                        task.place = CANCELLED;
                    }
                }
            }
        }
        Ok(Self {
            last,
            journals,
            damage,
        })
    }
}

/// Writes all attempts; returns how many journal lines were damaged.
fn write(workdir: &Path, form: Form, out: &mut dyn Write) -> Result<u64, RunError> {
    if !is_workdir(workdir) {
        return Err(RunError::NoWorkdir(workdir.to_owned()));
    }
    let mut table = Table::new(workdir, form, out, false)?;
    let mut damage = 0;
    for journal in journals(workdir)? {
        let farmer = Names::of(&journal.header);
        let damaged = journal.each_record(|record| match record {
            Record::End(end) => table.end(&farmer, end, None),
            _ => Ok(()),
        })?;
        damage += damaged.lines;
    }
    Ok(damage)
}

/// A node and a farmer, fit to be printed.
struct Names {
    host: String,
    farmer: String,
}

impl Names {
    fn of(header: &Header) -> Self {
        Self {
            host: escape(header.host.as_bytes()),
            farmer: escape(header.farmer.as_bytes()),
        }
    }
}

/// Rows that go out one by one.
struct Table<'a> {
    out: &'a mut dyn Write,
    form: Form,
    commands: Commands,
    columns: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// Begins with the names of the columns, where the form has them.
    fn new(
        workdir: &Path,
        form: Form,
        out: &'a mut dyn Write,
        has_place: bool,
    ) -> io::Result<Self> {
        let mut columns = COLUMNS.to_vec();
        if has_place {
            columns.insert(1, "place");
        }
        match form {
            Form::Joblog => out.write_all(
                b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n",
            )?,
            Form::Csv => table::csv(out, &columns)?,
            Form::Jsonl => {}
        }
        let commands = Commands::open(workdir)?;
        Ok(Self {
            out,
            form,
            commands,
            columns,
        })
    }

    /// The end of an attempt.
    fn end(&mut self, farmer: &Names, mut end: End, place: Option<&str>) -> io::Result<()> {
        if self.form == Form::Joblog {
            let command = self.commands.get(end.id)?.unwrap_or_default();
            return joblog(self.out, &farmer.host, &end, command);
        }
        let (id, log) = (end.id, end.log.take());
        let attempt = attempt(&farmer.host, &farmer.farmer, &end.into(), log.as_ref());
        self.row(id, attempt, place)
    }

    fn row(&mut self, id: TaskId, mut row: Value, place: Option<&str>) -> io::Result<()> {
        row["id"] = id.0.into();
        if let Some(place) = place {
            row["place"] = place.into();
        }
        let command = self.commands.get(id)?.unwrap_or_default();
        row["command"] = escape(command).into();
        let attributes = self.commands.attributes(id)?.map(escape);
        row["attributes"] = attributes.into();
        if self.form == Form::Csv {
            return table::csv(self.out, &table::cells(&row, &self.columns));
        }
        serde_json::to_writer(&mut *self.out, &row)?;
        self.out.write_all(b"\n")
    }
}

/// A line of GNU parallel's joblog: Seq counts from 1; what `pytf` stopped has
/// -1, as there.
fn joblog(out: &mut dyn Write, host: &str, end: &End, command: &[u8]) -> io::Result<()> {
    let (status, signal) = match end.outcome {
        Outcome::Exit(status) | Outcome::NotStarted(status) => (status, 0),
        Outcome::Signal(signal) => (0, signal),
        Outcome::NoResult => (1, 0),
        Outcome::OutOfMemory => (0, 9),
        Outcome::TimeLimit
        | Outcome::Cancelled
        | Outcome::Interrupted
        | Outcome::Lost
        | Outcome::Unknown => (-1, 15),
    };
    write!(
        out,
        "{}\t{host}\t{:.3}\t{:10.3}\t0\t0\t{status}\t{signal}\t",
        end.id.0 + 1,
        seconds(end.at),
        seconds(end.us),
    )?;
    // The command as it is: GNU parallel compares it with that of its own.
    out.write_all(command)?;
    out.write_all(b"\n")
}
