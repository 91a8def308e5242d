//! `pytf export`: every attempt that has ended, for other tools.
//!
//! It streams: one journal after the other, a line for each end, whatever the
//! number of tasks.

use std::io::{self, Write};
use std::path::Path;

use super::attempt_json::{attempt, seconds};
use super::output::replace;
use crate::history::commands::Commands;
use crate::history::is_workdir;
use crate::history::journals::journals;
use crate::history::run::RunError;
use crate::model::escape::escape;
use crate::model::outcome::Outcome;
use crate::model::record::{End, Record};
use crate::ui::table;

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

/// The columns of [`Form::Csv`].
const COLUMNS: [&str; 17] = [
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
];

/// Writes all attempts into a file, which it replaces when it is whole, or to standard
/// output (`-`); returns how many journal lines were damaged.
pub fn write_file(workdir: &Path, form: Form, path: &Path) -> Result<u64, RunError> {
    replace(path, |out| write(workdir, form, out))
}

/// Writes all attempts; returns how many journal lines were damaged.
fn write(workdir: &Path, form: Form, out: &mut dyn Write) -> Result<u64, RunError> {
    if !is_workdir(workdir) {
        return Err(RunError::NoWorkdir(workdir.to_owned()));
    }
    let mut commands = Commands::open(workdir)?;
    match form {
        Form::Joblog => out.write_all(
            b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n",
        )?,
        Form::Csv => table::csv(out, &COLUMNS)?,
        Form::Jsonl => {}
    }
    let mut damage = 0;
    for journal in journals(workdir)? {
        let header = &journal.header;
        let (host, farmer) = (
            escape(header.host.as_bytes()),
            escape(header.farmer.as_bytes()),
        );
        let damaged = journal.each_record(|record| {
            let Record::End(mut end) = record else {
                return Ok(());
            };
            let command = commands.get(end.id)?.unwrap_or_default();
            if form == Form::Joblog {
                return joblog(out, &host, &end, command);
            }
            let (id, log) = (end.id, end.log.take());
            let mut row = attempt(&host, &farmer, &end.into(), log.as_ref());
            row["id"] = id.0.into();
            row["command"] = escape(command).into();
            if form == Form::Csv {
                return table::csv(out, &table::cells(&row, &COLUMNS));
            }
            serde_json::to_writer(&mut *out, &row)?;
            out.write_all(b"\n")
        })?;
        damage += damaged.lines;
    }
    Ok(damage)
}

/// A line of GNU parallel's joblog: Seq counts from 1; what `pytf` stopped has
/// -1, as there.
fn joblog(out: &mut dyn Write, host: &str, end: &End, command: &[u8]) -> io::Result<()> {
    let (status, signal) = match end.outcome {
        Outcome::Exit(status) | Outcome::NotStarted(status) => (status, 0),
        Outcome::Signal(signal) => (0, signal),
        Outcome::OutOfMemory => (0, 9),
        Outcome::TimeLimit | Outcome::Interrupted | Outcome::Lost | Outcome::Unknown => (-1, 15),
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
