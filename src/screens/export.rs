//! `pytf export`: every attempt that has ended, for other tools.
//!
//! It streams: one journal after the other, a line for each end, whatever the
//! number of tasks.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::replace::replace;
use super::status::json::seconds;
use crate::history::commands::Commands;
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
    /// One JSON object a line.
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

/// Writes all attempts into a file, which it replaces when it is whole; returns how
/// many journal lines were damaged.
pub fn write_file(workdir: &Path, form: Form, path: &Path) -> Result<u64, RunError> {
    let mut damage = Ok(0);
    let done = replace(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 18, file);
        damage = write(workdir, form, &mut out);
        match &damage {
            Ok(_) => out.flush(),
            Err(_) => Err(io::Error::other("nothing was written")),
        }
    });
    let lines = damage?;
    done?;
    Ok(lines)
}

/// Writes all attempts; returns how many journal lines were damaged.
pub fn write(workdir: &Path, form: Form, out: &mut dyn Write) -> Result<u64, RunError> {
    if !["tasks", "nodes", "toprocess"]
        .iter()
        .any(|name| workdir.join(name).exists())
    {
        return Err(RunError::NoWorkdir(workdir.to_owned()));
    }
    let mut commands = Commands::open(workdir)?;
    match form {
        Form::Joblog => out.write_all(
            b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n",
        )?,
        Form::Csv => table::csv(out, &COLUMNS.map(str::to_owned))?,
        Form::Jsonl => {}
    }
    let mut damage = 0;
    for journal in journals(workdir)? {
        let header = &journal.header;
        let (host, farmer) = (
            escape(header.host.as_bytes()),
            escape(header.farmer.as_bytes()),
        );
        let mut records = journal.records()?;
        for record in &mut records {
            let Record::End(end) = record? else {
                continue;
            };
            let command = commands.get(end.id)?.unwrap_or_default();
            match form {
                Form::Joblog => joblog(out, &host, &end, command)?,
                Form::Csv => table::csv(out, &cells(&host, &farmer, &end, command))?,
                Form::Jsonl => {
                    serde_json::to_writer(&mut *out, &object(&host, &farmer, &end, command))
                        .map_err(io::Error::from)?;
                    out.write_all(b"\n")?;
                }
            }
        }
        damage += records.damage().lines;
    }
    out.flush()?;
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

fn numbers(end: &End) -> (Option<i32>, Option<i32>) {
    super::status::numbers(Some(&end.outcome))
}

fn cells(host: &str, farmer: &str, end: &End, command: &[u8]) -> Vec<String> {
    let text = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let number = |value: Option<i32>| value.map_or_else(String::new, |value| value.to_string());
    let time =
        |value: Option<u64>| value.map_or_else(String::new, |us| format!("{:.6}", seconds(us)));
    let (status, signal) = numbers(end);
    let used = end.used;
    let log = end.log.as_ref();
    vec![
        end.id.to_string(),
        end.attempt.to_string(),
        host.to_owned(),
        farmer.to_owned(),
        end.slot.to_string(),
        format!("{:.6}", seconds(end.at)),
        format!("{:.6}", seconds(end.us)),
        end.outcome.word().to_owned(),
        number(status),
        number(signal),
        time(used.map(|used| used.user)),
        time(used.map(|used| used.sys)),
        text(used.map(|used| used.peak)),
        text(used.map(|used| used.read)),
        text(used.map(|used| used.written)),
        log.map_or_else(String::new, |log| escape(log.file.as_bytes())),
        escape(command),
    ]
}

fn object(host: &str, farmer: &str, end: &End, command: &[u8]) -> serde_json::Value {
    let (status, signal) = numbers(end);
    json!({
        "id": end.id,
        "attempt": end.attempt,
        "node": host,
        "farmer": farmer,
        "slot": end.slot,
        "start": seconds(end.at),
        "seconds": seconds(end.us),
        "outcome": end.outcome.word(),
        "status": status,
        "signal": signal,
        "user": end.used.map(|used| seconds(used.user)),
        "sys": end.used.map(|used| seconds(used.sys)),
        "peak_kib": end.used.map(|used| used.peak),
        "read_kib": end.used.map(|used| used.read),
        "written_kib": end.used.map(|used| used.written),
        "log": end.log.as_ref().map(|log| escape(log.file.as_bytes())),
        "part": end.log.as_ref().and_then(|log| log.part),
        "command": escape(command),
    })
}
