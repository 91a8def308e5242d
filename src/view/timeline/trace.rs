//! The trace while it is written: rows, slices, marks.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::links::Links;
use super::pytaskfarmer::Old;
use super::slice::{Ending, Slice};
use super::thin::{Group, Thin};
use super::{Drawn, gpus};
use crate::model::outcome::Outcome;
use crate::model::record::{Record, Start};
use crate::view::commands::Commands;
use crate::view::escape::{clip, escape};
use crate::view::journals::Records;
use crate::view::lanes::{Lane, Span, lanes};
use crate::view::run::faults::Faults;
use crate::view::run::{Farmer, Run};

/// How much of a command is the name of its slice.
pub(super) const NAME: usize = 200;

/// How much of a command is shown when the slice is selected.
pub(super) const COMMAND: usize = 1000;

/// Clocks that differ by more are no clocks, or the files are copies.
const WRONG: i64 = 86_400_000_000;

/// What is to be drawn, and where.
pub(super) struct Plan<'a> {
    pub(super) run: &'a Run,
    farmers: Vec<(&'a Farmer, Lane)>,
    /// The time that is 0 in the trace.
    origin: u64,
    /// What ended before is not drawn.
    since: u64,
    /// How many attempts our journals tell of.
    pub(super) attempts: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(run: &'a Run, old: &Old, since: Option<Duration>) -> Self {
        // A journal may tell no time at all.
        let mut farmers: Vec<&Farmer> =
            run.farmers.iter().filter(|f| f.first != u64::MAX).collect();
        farmers.sort_by(|a, b| (a.first, &a.journal.path).cmp(&(b.first, &b.journal.path)));
        let spans: Vec<Span> = farmers
            .iter()
            .map(|farmer| farmer.span(!is_over(farmer)))
            .collect();
        let lanes = lanes(&spans);
        let firsts = [farmers.first().map(|farmer| farmer.first), old.first()];
        let last = farmers.iter().map(|farmer| farmer.last).max().unwrap_or(0);
        let since = since.map_or(0, |since| {
            last.saturating_sub(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
        });
        Self {
            run,
            origin: firsts.into_iter().flatten().min().unwrap_or(0),
            since,
            attempts: farmers
                .iter()
                .map(|f| f.ended() + f.running.len() as u64)
                .sum(),
            farmers: farmers.into_iter().zip(lanes).collect(),
        }
    }

    /// The farmers and where they are drawn.
    pub(super) fn farmers(&self) -> impl Iterator<Item = (&'a Farmer, Lane)> + '_ {
        self.farmers.iter().copied()
    }

    /// Whether what ended at a time is drawn.
    pub(super) fn is_in(&self, at: u64) -> bool {
        at >= self.since
    }
}

fn is_over(farmer: &Farmer) -> bool {
    farmer.left.is_some() || farmer.journal.is_sealed
}

/// By how much a farmer's clock was behind the file server's, in microseconds:
/// its last record and the time of that write are of the same moment.
fn clock_offset(farmer: &Farmer) -> Option<i64> {
    let written = farmer.modified?.duration_since(UNIX_EPOCH).ok()?;
    let written = i64::try_from(written.as_micros()).ok()?;
    let offset = written - i64::try_from(farmer.last).ok()?;
    (offset.abs() < WRONG).then_some(offset)
}

/// The trace.
pub(super) struct Trace<'a> {
    out: &'a mut dyn Write,
    commands: Commands,
    origin: u64,
    since: u64,
    /// Whether there is an event before the next one.
    is_begun: bool,
    slices: u64,
    /// Up to when each row (pid, tid) is drawn.
    ends: BTreeMap<(u64, u64), u64>,
    thin: Thin,
    links: Links,
    faults: Faults<'a>,
}

impl<'a> Trace<'a> {
    /// Draws everything.
    pub(super) fn draw(plan: &Plan<'a>, old: &Old, out: &'a mut dyn Write) -> io::Result<Drawn> {
        let mut trace = Self {
            out,
            commands: Commands::open(&plan.run.workdir)?,
            origin: plan.origin,
            since: plan.since,
            is_begun: false,
            slices: 0,
            ends: BTreeMap::new(),
            thin: Thin::new(&plan.run.durations()),
            links: Links::new(plan.run),
            faults: plan.run.faults(),
        };
        trace.out.write_all(b"{\"traceEvents\":[")?;
        trace.name_rows(plan)?;
        let last = plan.farmers().map(|(_, lane)| lane.pid).max().unwrap_or(0);
        trace.old(old, last)?;
        for (farmer, lane) in plan.farmers() {
            trace.farmer(farmer, lane)?;
        }
        while let Some((row, group)) = trace.thin.take_any() {
            trace.group(row, group)?;
        }
        trace.arrows()?;
        trace.counters(plan)?;
        trace.finish(plan)
    }

    /// The time that is 0 in the trace.
    pub(super) fn origin(&self) -> u64 {
        self.origin
    }

    /// Writes one event as a line.
    pub(super) fn event(&mut self, line: &[u8]) -> io::Result<()> {
        self.out
            .write_all(if self.is_begun { b",\n" } else { b"\n" })?;
        self.is_begun = true;
        self.out.write_all(line)
    }

    /// Names nodes and slots, and puts them in order.
    fn name_rows(&mut self, plan: &Plan) -> io::Result<()> {
        let (mut nodes, mut rows) = (BTreeMap::new(), BTreeMap::new());
        for (farmer, lane) in plan.farmers() {
            let host = escape(farmer.header().host.as_bytes());
            nodes.entry(lane.pid).or_insert(host);
            for slot in &farmer.used_slots {
                let gpus = farmer.header().gpus(*slot);
                let row: &mut &[String] = rows.entry((lane.pid, lane.tid(*slot))).or_default();
                *row = if row.is_empty() { gpus } else { row };
            }
        }
        for (pid, name) in nodes {
            self.name_process(pid, &name, pid)?;
        }
        for ((pid, tid), gpus) in rows {
            // The first farmer on a node has its slots from the first row on.
            let name = format!("slot {}{}", tid - 1, gpus::suffix(gpus));
            self.metadata("thread", pid, tid, &name, tid)?;
        }
        Ok(())
    }

    /// Names a node, or what else has curves.
    pub(super) fn name_process(&mut self, pid: u64, name: &str, at: u64) -> io::Result<()> {
        self.metadata("process", pid, 0, name, at)
    }

    pub(super) fn metadata(
        &mut self,
        of: &str,
        pid: u64,
        tid: u64,
        name: &str,
        at: u64,
    ) -> io::Result<()> {
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
    fn farmer(&mut self, farmer: &Farmer, lane: Lane) -> io::Result<()> {
        let mut records = farmer.journal.records()?;
        self.mark(farmer, lane, farmer.first, "farmer joined")?;
        let (open, last) = self.attempts(farmer, lane, &mut records)?;
        for start in open.into_values() {
            let ending = if is_over(farmer) {
                Ending::Lost
            } else {
                Ending::Running
            };
            self.slice(farmer, lane, &Slice::open(&start, last, ending))?;
        }
        Ok(())
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
            last = last.max(end_of(&record));
            match record {
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
                Record::Gpus { at, gpus } if at >= self.since => self.gpus(lane, at, &gpus)?,
                Record::Gpus { .. } | Record::Header(_) | Record::Beat { .. } => {}
                Record::Note { at, text } | Record::Health { at, text, .. } => {
                    self.mark(farmer, lane, at, &text)?;
                }
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
        if at < self.since {
            return Ok(());
        }
        let event = json!({
            "name": clip(&escape(text.as_bytes()), NAME),
            "cat": "farmer",
            "ph": "i",
            "s": "p",
            "ts": at.saturating_sub(self.origin),
            "pid": lane.pid,
            "tid": lane.tid(0),
            "args": { "farmer": escape(farmer.header().farmer.as_bytes()) },
        });
        self.event(event.to_string().as_bytes())
    }

    /// Where in its row a slice is drawn, and how long it is there. Where
    /// clocks or damage would make it overlap what is drawn there already, it
    /// begins where that ends.
    pub(super) fn place(&mut self, row: (u64, u64), from: u64, to: u64) -> (u64, u64) {
        let drawn = self.ends.entry(row).or_insert(0);
        let from = from.saturating_sub(self.origin).max(*drawn);
        let to = to.saturating_sub(self.origin).max(from.saturating_add(1));
        *drawn = to;
        self.slices += 1;
        (from, to - from)
    }

    /// Draws an attempt, by itself or with its neighbours.
    fn slice(&mut self, farmer: &Farmer, lane: Lane, slice: &Slice) -> io::Result<()> {
        if slice.to < self.since {
            return Ok(());
        }
        let row = (lane.pid, lane.tid(slice.slot));
        let finished = matches!(slice.ending, Ending::Recorded(Outcome::Exit(0), _));
        let is_plain = finished && !self.links.is_wanted(slice.id.0);
        let done = if is_plain && self.thin.is_short(slice.to - slice.from) {
            let done = self.thin.add(row, slice.from, slice.to, slice.id.0);
            return done.map_or(Ok(()), |group| self.group(row, group));
        } else {
            self.thin.take(row)
        };
        if let Some(group) = done {
            self.group(row, group)?;
        }
        self.attempt(farmer, lane, slice)
    }

    /// Writes an attempt.
    fn attempt(&mut self, farmer: &Farmer, lane: Lane, slice: &Slice) -> io::Result<()> {
        let tid = lane.tid(slice.slot);
        let (from, dur) = self.place((lane.pid, tid), slice.from, slice.to);
        self.links
            .drawn(slice.id.0, slice.attempt, (lane.pid, tid), from, dur);
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
        if slice.ending.is_failure() && self.faults.is_nodes(slice.id.0, &farmer.header().host) {
            event.extend_from_slice(b",\"fault\":\"node\"");
        }
        let gpus = farmer.header().gpus(slice.slot);
        if !gpus.is_empty() {
            event.extend_from_slice(b",\"gpus\":");
            push_text(&mut event, &escape(gpus.join(",").as_bytes()))?;
        }
        let name = escape(farmer.header().farmer.as_bytes());
        event.extend_from_slice(b",\"farmer\":");
        push_text(&mut event, &name)?;
        event.extend_from_slice(b"}}");
        self.event(&event)
    }

    /// Writes attempts that are drawn as one.
    fn group(&mut self, row: (u64, u64), group: Group) -> io::Result<()> {
        let (from, dur) = self.place(row, group.from, group.to);
        let event = json!({
            "name": format!("{} short tasks", group.count),
            "cat": "tasks",
            "ph": "X",
            "ts": from,
            "dur": dur,
            "pid": row.0,
            "tid": row.1,
            "args": { "count": group.count, "first": group.ids.0, "last": group.ids.1 },
        });
        self.event(event.to_string().as_bytes())
    }

    /// Links the attempts of a task.
    fn arrows(&mut self) -> io::Result<()> {
        for (number, link) in (1_u64..).zip(self.links.all()) {
            for (phase, ((pid, tid), ts)) in [("s", link.from), ("f", link.to)] {
                let mut event = json!({
                    "name": "tried again",
                    "cat": "retry",
                    "ph": phase,
                    "id": number,
                    "ts": ts,
                    "pid": pid,
                    "tid": tid,
                    "args": { "id": link.id },
                });
                if phase == "f" {
                    event["bp"] = "e".into();
                }
                self.event(event.to_string().as_bytes())?;
            }
        }
        Ok(())
    }

    /// Writes the end of the file.
    fn finish(self, plan: &Plan) -> io::Result<Drawn> {
        let mut other = Map::new();
        let start = format!("{}.{:06}", self.origin / 1_000_000, self.origin % 1_000_000);
        other.insert(
            "start_unix".into(),
            start.parse::<f64>().unwrap_or(0.0).into(),
        );
        let lines: u64 = plan
            .run
            .farmers
            .iter()
            .map(|farmer| farmer.damage.lines)
            .sum();
        let clocks: Map<String, Value> = plan
            .farmers()
            .filter_map(|(farmer, _)| {
                let name = escape(farmer.header().farmer.as_bytes());
                Some((name, clock_offset(farmer)?.into()))
            })
            .collect();
        other.insert("farmers".into(), plan.farmers.len().into());
        other.insert("slices".into(), self.slices.into());
        other.insert("merged".into(), self.thin.merged.into());
        other.insert("damaged_records".into(), lines.into());
        other.insert("clock_offset_us".into(), clocks.into());
        other.insert("pytf".into(), env!("CARGO_PKG_VERSION").into());
        let other = Value::Object(other);
        write!(
            self.out,
            "\n],\"displayTimeUnit\":\"ms\",\"otherData\":{other}}}\n"
        )?;
        Ok(Drawn {
            slices: self.slices,
            merged: self.thin.merged,
        })
    }
}

/// When what a record tells of ended.
fn end_of(record: &Record) -> u64 {
    match record {
        Record::Header(header) => header.at,
        Record::Start(start) => start.at,
        Record::End(end) => end.at.saturating_add(end.us),
        Record::Beat { at }
        | Record::Note { at, .. }
        | Record::Health { at, .. }
        | Record::Gpus { at, .. }
        | Record::Leave { at, .. } => *at,
    }
}

/// Appends a text as JSON has it.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}
