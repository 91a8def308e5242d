//! The trace while it is written: journal by journal, each event a line.
//!
//! Times of nodes whose clocks differ are made comparable as records are read.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::Drawn;
use super::links::Links;
use super::plan::{Plan, is_over};
use super::pytaskfarmer::Old;
use super::slice::{Ending, NAME, Slice};
use super::thin::Thin;
use crate::model::clocks::Ahead;
use crate::model::record::{Mark, Record, Start};
use crate::view::commands::Commands;
use crate::view::escape::{clip, escape};
use crate::view::journals::Records;
use crate::view::lanes::Lane;
use crate::view::run::Farmer;
use crate::view::run::faults::Faults;

/// The trace.
pub(super) struct Trace<'a> {
    out: &'a mut dyn Write,
    pub(super) commands: Commands,
    pub(super) origin: u64,
    pub(super) since: u64,
    /// Whether there is an event before the next one.
    is_begun: bool,
    pub(super) slices: u64,
    /// Up to when each row (pid, tid) is drawn.
    pub(super) ends: BTreeMap<(u64, u64), u64>,
    pub(super) thin: Thin,
    pub(super) links: Links,
    pub(super) faults: Faults<'a>,
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

    /// Writes all that a farmer did.
    fn farmer(&mut self, farmer: &Farmer, lane: Lane) -> io::Result<()> {
        let mut records = farmer.journal.records()?;
        self.mark(farmer, lane, farmer.common(farmer.first), "farmer joined")?;
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
        let (mut last, mut has_left) = (farmer.common(farmer.first), false);
        for record in records {
            let mut record = record?;
            let at = begin_of(&mut record);
            *at = farmer.common(*at);
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
                Record::Note { at, text, mark } => {
                    let mark = match mark {
                        Some(Mark::Drained) => format!("farmer drained: {text}"),
                        Some(Mark::Resumed) => format!("farmer resumed: {text}"),
                        None => text,
                    };
                    self.mark(farmer, lane, at, &mark)?;
                }
                Record::Health { at, text, .. } => {
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
                Some((name, farmer.clock_offset()?.into()))
            })
            .collect();
        let skews: Map<String, Value> = plan
            .farmers()
            .filter_map(|(farmer, _)| {
                let Ahead { us, within } = farmer.clock?;
                let host = escape(farmer.header().host.as_bytes());
                Some((host, json!({ "ahead": us, "within": within })))
            })
            .collect();
        other.insert("farmers".into(), plan.farmers().count().into());
        other.insert("slices".into(), self.slices.into());
        other.insert("merged".into(), self.thin.merged.into());
        other.insert("damaged_records".into(), lines.into());
        other.insert("clock_offset_us".into(), clocks.into());
        other.insert("clock_ahead_us".into(), skews.into());
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

/// When what a record tells of began.
fn begin_of(record: &mut Record) -> &mut u64 {
    match record {
        Record::Header(header) => &mut header.at,
        Record::Start(start) => &mut start.at,
        Record::End(end) => &mut end.at,
        Record::Beat { at }
        | Record::Note { at, .. }
        | Record::Health { at, .. }
        | Record::Gpus { at, .. }
        | Record::Leave { at, .. } => at,
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
