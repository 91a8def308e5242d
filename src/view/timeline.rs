//! `timeline.json`: every attempt of every run of a workdir as a Chrome trace,
//! for Perfetto and `chrome://tracing`.
//!
//! A node is a process and a slot is a thread; an attempt is exactly one
//! complete slice (`ph` "X") with `PyTaskFarmer`'s fields. Consumers rely on
//! this: pid and tid are integers, slices of one thread never overlap and are
//! never empty, and each event is one line. The file is made anew from the
//! journals each time, under another name that is then renamed, so a reader
//! never sees half of one. The same journals give the same bytes. What
//! `PyTaskFarmer` left there is kept, and drawn too.
//!
//! It reads the journals twice, the first time for when each farmer was there,
//! and holds a few numbers a farmer and slot, however many tasks there are.

mod gpus;
mod pytaskfarmer;
mod slice;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use self::pytaskfarmer::Old;
use self::slice::{Ending, Slice};
use super::commands::Commands;
use super::escape::{clip, escape};
use super::journals::{Damage, Journal, Records, journals};
use super::lanes::{Lane, Span, lanes};
use crate::model::record::{Record, Start};

/// How much of a command is the name of its slice.
const NAME: usize = 200;

/// How much of a command is shown when the slice is selected.
const COMMAND: usize = 1000;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// How many attempts are in it.
    pub slices: u64,
    /// Journals with lines that are no records.
    pub damage: Vec<(PathBuf, Damage)>,
    /// What of an earlier timeline is not in it.
    pub left_out: Option<String>,
}

/// Writes the workdir's `timeline.json`.
pub fn write(workdir: &Path) -> io::Result<Written> {
    let path = workdir.join("timeline.json");
    pytaskfarmer::keep(workdir)?;
    let old = Old::read(workdir)?;
    let (temporary, file) = temporary(workdir)?;
    let written = write_to(workdir, &old, file).and_then(|(slices, damage)| {
        fs::rename(&temporary, &path)?;
        Ok(Written {
            path,
            slices,
            damage,
            left_out: old.left_out,
        })
    });
    if written.is_err() {
        // What is wrong is told by the first error.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A new file beside the timeline, of a name that nobody else has.
fn temporary(workdir: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 0;
    loop {
        let name = format!(".timeline.json.{}.{number}", std::process::id());
        let path = workdir.join(name);
        // Fails where anything has that name already, and follows no link.
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => {
                number += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Journals with damage, as [`Written`] has them.
type Damages = Vec<(PathBuf, Damage)>;

fn write_to(workdir: &Path, old: &Old, file: File) -> io::Result<(u64, Damages)> {
    let mut farmers = Vec::new();
    for journal in journals(workdir)? {
        farmers.extend(Farmer::look_at(journal)?);
    }
    farmers.sort_by(|a, b| (a.first, &a.journal.path).cmp(&(b.first, &b.journal.path)));
    let spans: Vec<Span> = farmers.iter().map(Farmer::span).collect();
    let lanes = lanes(&spans);
    let firsts = [farmers.first().map(|farmer| farmer.first), old.first()];
    let origin = firsts.into_iter().flatten().min().unwrap_or(0);
    let mut trace = Trace {
        out: BufWriter::with_capacity(1 << 20, file),
        commands: Commands::open(workdir)?,
        origin,
        is_begun: false,
        slices: 0,
        ends: BTreeMap::new(),
    };
    trace.out.write_all(b"{\"traceEvents\":[")?;
    trace.name_rows(&farmers, &lanes)?;
    let last = lanes.iter().map(|lane| lane.pid).max().unwrap_or(0);
    trace.old(old, last)?;
    let mut damages = Vec::new();
    for (farmer, lane) in farmers.iter().zip(&lanes) {
        let damage = trace.farmer(farmer, *lane)?;
        if damage.lines > 0 {
            damages.push((farmer.journal.path.clone(), damage));
        }
    }
    let slices = trace.finish(farmers.len(), &damages)?;
    Ok((slices, damages))
}

/// What the first reading of a journal tells.
struct Farmer {
    journal: Journal,
    /// Its name, fit to be shown.
    name: String,
    /// When it started.
    first: u64,
    /// The last time in its journal.
    last: u64,
    /// Whether it left or was taken over: nothing follows.
    is_over: bool,
    /// The number of its slots, and which of them are named by the trace: the
    /// highest slot of a damaged record could be any number.
    slots: u32,
    used: Vec<u32>,
}

impl Farmer {
    /// Reads a journal; `None` when it tells no time at all.
    fn look_at(journal: Journal) -> io::Result<Option<Self>> {
        let (mut first, mut last, mut has_left) = (u64::MAX, 0, false);
        let mut used = BTreeSet::new();
        for record in journal.records()? {
            let record = record?;
            let (from, to) = times(&record);
            // A header that was made from the name has no time.
            first = first.min(from);
            last = last.max(to);
            has_left |= matches!(record, Record::Leave { .. });
            used.extend(slot_of(&record));
        }
        let highest = used.last().map_or(0, |slot| slot.saturating_add(1));
        Ok((first != u64::MAX).then(|| Self {
            first,
            last,
            is_over: has_left || journal.is_sealed,
            slots: journal.header.slots.max(highest),
            used: used.into_iter().collect(),
            name: escape(journal.header.farmer.as_bytes()),
            journal,
        }))
    }

    /// What its header tells of the GPUs of a slot.
    fn gpus(&self, slot: u32) -> &[String] {
        let table = &self.journal.header.devices;
        table.get(slot as usize).map_or(&[], |slot| &slot.gpus)
    }

    fn span(&self) -> Span<'_> {
        Span {
            host: &self.journal.header.host,
            first: self.first,
            last: if self.is_over { self.last } else { u64::MAX },
            slots: u64::from(self.slots),
        }
    }
}

/// When what a record tells of began and ended.
fn times(record: &Record) -> (u64, u64) {
    match record {
        Record::Header(header) => (header.at, header.at),
        Record::Start(start) => (start.at, start.at),
        Record::End(end) => (end.at, end.at.saturating_add(end.us)),
        Record::Beat { at }
        | Record::Note { at, .. }
        | Record::Gpus { at, .. }
        | Record::Leave { at, .. } => (*at, *at),
    }
}

fn slot_of(record: &Record) -> Option<u32> {
    match record {
        Record::Start(start) => Some(start.slot),
        Record::End(end) => Some(end.slot),
        Record::Header(_)
        | Record::Beat { .. }
        | Record::Note { .. }
        | Record::Gpus { .. }
        | Record::Leave { .. } => None,
    }
}

/// The file while it is written.
struct Trace {
    out: BufWriter<File>,
    commands: Commands,
    /// The time that is 0 in the trace.
    origin: u64,
    /// Whether there is an event before the next one.
    is_begun: bool,
    slices: u64,
    /// Up to when each row (pid, tid) is drawn.
    ends: BTreeMap<(u64, u64), u64>,
}

impl Trace {
    /// Writes one event as a line.
    fn event(&mut self, line: &[u8]) -> io::Result<()> {
        self.out
            .write_all(if self.is_begun { b",\n" } else { b"\n" })?;
        self.is_begun = true;
        self.out.write_all(line)
    }

    /// Names nodes and slots, and puts them in order.
    fn name_rows(&mut self, farmers: &[Farmer], lanes: &[Lane]) -> io::Result<()> {
        let (mut nodes, mut rows) = (BTreeMap::new(), BTreeMap::new());
        for (farmer, lane) in farmers.iter().zip(lanes) {
            let host = escape(farmer.journal.header.host.as_bytes());
            nodes.entry(lane.pid).or_insert(host);
            for slot in &farmer.used {
                let gpus = farmer.gpus(*slot);
                let row: &mut &[String] = rows.entry((lane.pid, lane.tid(*slot))).or_default();
                *row = if row.is_empty() { gpus } else { row };
            }
        }
        for (pid, name) in nodes {
            self.metadata("process", pid, 0, &name, pid)?;
        }
        for ((pid, tid), gpus) in rows {
            // The first farmer on a node has its slots from the first row on.
            let name = format!("slot {}{}", tid - 1, gpus::suffix(gpus));
            self.metadata("thread", pid, tid, &name, tid)?;
        }
        Ok(())
    }

    fn metadata(&mut self, of: &str, pid: u64, tid: u64, name: &str, at: u64) -> io::Result<()> {
        for (what, args) in [
            ("name", json!({ "name": name })),
            ("sort_index", json!({ "sort_index": at })),
        ] {
            let name = format!("{of}_{what}");
            let event = json!({"name": name, "ph": "M", "pid": pid, "tid": tid, "args": args});
            self.event(event.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Writes all that a farmer did.
    fn farmer(&mut self, farmer: &Farmer, lane: Lane) -> io::Result<Damage> {
        let mut records = farmer.journal.records()?;
        self.mark(farmer, lane, farmer.first, "farmer joined")?;
        let (open, last) = self.attempts(farmer, lane, &mut records)?;
        for start in open.into_values() {
            let ending = if farmer.is_over {
                Ending::Lost
            } else {
                Ending::Running
            };
            self.slice(farmer, lane, &Slice::open(&start, last, ending))?;
        }
        Ok(records.damage().clone())
    }

    /// Writes the attempts that have ended and the marks; returns the starts
    /// that are without an end, by slot, and the last time in the journal.
    fn attempts(
        &mut self,
        farmer: &Farmer,
        lane: Lane,
        records: &mut Records,
    ) -> io::Result<(BTreeMap<u32, Start>, u64)> {
        let mut open: BTreeMap<u32, Start> = BTreeMap::new();
        let (mut last, mut has_left) = (farmer.first, false);
        for record in records {
            let record = record?;
            last = last.max(times(&record).1);
            match record {
                Record::Header(_) | Record::Beat { .. } => {}
                Record::Start(start) => {
                    let at = start.at;
                    if let Some(other) = open.insert(start.slot, start) {
                        self.slice(farmer, lane, &Slice::open(&other, at, Ending::Unknown))?;
                    }
                }
                Record::End(end) => {
                    if let Some(other) = open.remove(&end.slot)
                        && (other.id, other.attempt) != (end.id, end.attempt)
                    {
                        self.slice(farmer, lane, &Slice::open(&other, end.at, Ending::Unknown))?;
                    }
                    self.slice(farmer, lane, &Slice::ended(&end))?;
                }
                Record::Gpus { at, gpus } => self.counters(lane, at, &gpus)?,
                Record::Note { at, text } => self.mark(farmer, lane, at, &text)?,
                Record::Leave { at, why, .. } => {
                    has_left = true;
                    self.mark(farmer, lane, at, &format!("farmer left: {why}"))?;
                }
            }
        }
        if farmer.journal.is_sealed && !has_left {
            self.mark(farmer, lane, last, "farmer lost")?;
        }
        Ok((open, last))
    }

    /// Writes a mark on the node.
    fn mark(&mut self, farmer: &Farmer, lane: Lane, at: u64, text: &str) -> io::Result<()> {
        let event = json!({
            "name": clip(&escape(text.as_bytes()), NAME),
            "cat": "farmer",
            "ph": "i",
            "s": "p",
            "ts": at.saturating_sub(self.origin),
            "pid": lane.pid,
            "tid": lane.tid(0),
            "args": { "farmer": farmer.name },
        });
        self.event(event.to_string().as_bytes())
    }

    /// Where in its row a slice is drawn, and how long it is there. Where
    /// clocks or damage would make it overlap what is drawn there already, it
    /// begins where that ends.
    fn place(&mut self, row: (u64, u64), from: u64, to: u64) -> (u64, u64) {
        let drawn = self.ends.entry(row).or_insert(0);
        let from = from.saturating_sub(self.origin).max(*drawn);
        let to = to.saturating_sub(self.origin).max(from.saturating_add(1));
        *drawn = to;
        self.slices += 1;
        (from, to - from)
    }

    /// Writes an attempt.
    fn slice(&mut self, farmer: &Farmer, lane: Lane, slice: &Slice) -> io::Result<()> {
        let tid = lane.tid(slice.slot);
        let (from, dur) = self.place((lane.pid, tid), slice.from, slice.to);
        let command = match self.commands.get(slice.id)? {
            Some(command) => clip(&escape(command), COMMAND),
            None => format!("task {}", slice.id),
        };
        let mut event = Vec::with_capacity(2 * command.len() + 256);
        event.extend_from_slice(b"{\"name\":");
        push_text(&mut event, &clip(&command, NAME))?;
        write!(
            event,
            ",\"cat\":\"task\",\"ph\":\"X\",\"ts\":{from},\"dur\":{dur},\"pid\":{},\"tid\":{tid},\
             \"args\":{{\"id\":{},\"command\":",
            lane.pid, slice.id,
        )?;
        push_text(&mut event, &command)?;
        write!(event, ",\"outcome\":\"{}\"", slice.ending.word())?;
        if let Some((what, number)) = slice.ending.detail() {
            write!(event, ",\"{what}\":{number}")?;
        }
        if let Ending::Recorded(_, Some(used)) = slice.ending {
            write!(
                event,
                ",\"user_us\":{},\"sys_us\":{},\"peak_kib\":{}",
                used.user, used.sys, used.peak
            )?;
        }
        write!(
            event,
            ",\"attempt\":{},\"slot\":{}",
            slice.attempt, slice.slot
        )?;
        let gpus = farmer.gpus(slice.slot);
        if !gpus.is_empty() {
            event.extend_from_slice(b",\"gpus\":");
            push_text(&mut event, &escape(gpus.join(",").as_bytes()))?;
        }
        event.extend_from_slice(b",\"farmer\":");
        push_text(&mut event, &farmer.name)?;
        event.extend_from_slice(b"}}");
        self.event(&event)
    }

    /// Writes the end of the file; returns the number of slices.
    fn finish(mut self, farmers: usize, damages: &Damages) -> io::Result<u64> {
        let mut other = Map::new();
        let start = format!("{}.{:06}", self.origin / 1_000_000, self.origin % 1_000_000);
        other.insert(
            "start_unix".into(),
            start.parse::<f64>().unwrap_or(0.0).into(),
        );
        other.insert("farmers".into(), farmers.into());
        other.insert("slices".into(), self.slices.into());
        let lines: u64 = damages.iter().map(|(_, damage)| damage.lines).sum();
        other.insert("damaged_records".into(), lines.into());
        other.insert("pytf".into(), env!("CARGO_PKG_VERSION").into());
        let other = Value::Object(other);
        write!(
            self.out,
            "\n],\"displayTimeUnit\":\"ms\",\"otherData\":{other}}}\n"
        )?;
        self.out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(self.slices)
    }
}

/// Appends a text as JSON has it.
fn push_text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}

#[cfg(test)]
mod tests;
