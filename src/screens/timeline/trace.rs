//! The trace while it is written: journal by journal, each event a line.
//!
//! Times of nodes whose clocks differ are made comparable as records are read.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::Drawn;
use super::early::Early;
use super::links::Links;
use super::plan::{Plan, is_over};
use super::pytaskfarmer::Old;
use super::slice::{Ending, NAME, Slice};
use super::thin::Thin;
use crate::history::commands::Commands;
use crate::history::journals::Records;
use crate::history::lanes::Lane;
use crate::history::run::Farmer;
use crate::history::run::faults::Faults;
use crate::history::run::slots::Order;
use crate::model::clocks::Ahead;
use crate::model::escape::{clip, escape};
use crate::model::record::{LATEST, Mark, Record};

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
        // What came since the figures were read is in neither.
        let mut records = farmer.journal.records_to(farmer.offset)?;
        self.mark(farmer, lane, farmer.common(farmer.first), "farmer joined")?;
        let mut early = Early::of(farmer);
        let last = self.records(farmer, lane, &mut records, &mut early)?;
        for slot in early.slots() {
            let running = farmer.slots.running.get(&slot);
            let to = running.map_or(last, |running| farmer.common(running.at));
            while let Some(slice) = early.next(farmer, slot, u64::MAX, to) {
                self.slice(farmer, lane, &slice.as_slice(farmer))?;
            }
        }
        for start in farmer.slots.running.values() {
            let ending = if is_over(farmer) {
                Ending::Lost
            } else {
                Ending::Running
            };
            let slice = Slice::open(farmer, start, last, ending);
            self.slice(farmer, lane, &slice)?;
        }
        Ok(())
    }

    /// Writes the attempts that have ended and the marks; returns the last time in
    /// the journal.
    fn records(
        &mut self,
        farmer: &Farmer,
        lane: Lane,
        records: &mut Records,
        early: &mut Early,
    ) -> io::Result<u64> {
        let (mut last, mut has_left) = (farmer.common(farmer.first), false);
        let mut order = Order::default();
        for record in records {
            let record = record?;
            last = last.max(farmer.common(end_of(&record)));
            match record {
                Record::Start(start) if start.at < LATEST => {
                    order.is_late(start.slot, start.at);
                }
                // It was drawn where it belongs.
                Record::End(end) if end.at < LATEST && order.is_late(end.slot, end.at) => {}
                Record::End(end) => {
                    let to = farmer.common(end.at);
                    while let Some(slice) = early.next(farmer, end.slot, end.at, to) {
                        self.slice(farmer, lane, &slice.as_slice(farmer))?;
                    }
                    self.slice(farmer, lane, &Slice::ended(farmer, &end))?;
                }
                Record::Gpus { at, gpus } => {
                    let at = farmer.common(at);
                    if at >= self.since {
                        self.gpus(lane, at, &gpus)?;
                    }
                }
                Record::Header(_) | Record::Start(_) | Record::Beat { .. } => {}
                Record::Note { at, text, mark } => {
                    let mark = match mark {
                        Some(Mark::Drained) => format!("farmer drained: {text}"),
                        Some(Mark::LeftBehind | Mark::MemoryKill) => text.clone(),
                        Some(Mark::Resumed) => format!("farmer resumed: {text}"),
                        None => text,
                    };
                    self.mark(farmer, lane, farmer.common(at), &mark)?;
                }
                Record::Health { at, text, .. } => {
                    self.mark(farmer, lane, farmer.common(at), &text)?;
                }
                Record::Leave { at, why, .. } => {
                    has_left = true;
                    let text = format!("farmer left: {why}");
                    self.mark(farmer, lane, farmer.common(at), &text)?;
                }
            }
        }
        if farmer.journal.is_sealed && !has_left {
            self.mark(farmer, lane, last, "farmer lost")?;
        }
        Ok(last)
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
