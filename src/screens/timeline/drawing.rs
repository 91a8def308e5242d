//! What a farmer did, from its journal: its attempts and the marks on its node.

use std::io;

use serde_json::json;

use super::early::Early;
use super::slice::{Ending, Slice, Slices};
use super::trace::NAME;
use crate::history::farmer_rows::FarmerRows;
use crate::history::journals::Records;
use crate::history::run::Farmer;
use crate::history::run::slots::Order;
use crate::model::escape::{clip, escape};
use crate::model::record::{LATEST, Mark, Record};

/// A farmer that is being drawn.
pub(super) struct Drawing<'s, 'a> {
    pub(super) slices: &'s mut Slices<'a>,
    pub(super) farmer: &'a Farmer,
    pub(super) rows: FarmerRows,
}

impl Drawing<'_, '_> {
    /// Writes all that a farmer did.
    pub(super) fn draw(&mut self) -> io::Result<()> {
        let farmer = self.farmer;
        // What came since the figures were read is in neither.
        let mut records = farmer.journal.records_to(farmer.offset)?;
        self.mark(farmer.first, "farmer joined")?;
        let mut early = Early::of(farmer);
        let last = self.records(&mut records, &mut early)?;
        for slot in early.slots() {
            let running = farmer.slots.running.get(&slot);
            let to = running.map_or(last, |running| running.at);
            while let Some(slice) = early.next(farmer, slot, u64::MAX, to) {
                self.slice(&slice.as_slice(farmer))?;
            }
        }
        for start in farmer.slots.running.values() {
            let ending = if farmer.is_over() {
                Ending::Lost
            } else {
                Ending::Running
            };
            let slice = Slice::open(start, last, ending);
            self.slice(&slice)?;
        }
        Ok(())
    }

    /// Writes the attempts that have ended and the marks; returns the last time in
    /// the journal.
    fn records(&mut self, records: &mut Records, early: &mut Early) -> io::Result<u64> {
        let farmer = self.farmer;
        let (mut last, mut has_left) = (farmer.first, false);
        let mut order = Order::default();
        for record in records {
            let record = record?;
            last = last.max(end_of(&record));
            match record {
                Record::Start(start) if start.at < LATEST => {
                    order.is_late(start.slot, start.at);
                }
                // It was drawn where it belongs.
                Record::End(end) if end.at < LATEST && order.is_late(end.slot, end.at) => {}
                Record::End(end) => {
                    while let Some(slice) = early.next(farmer, end.slot, end.at, end.at) {
                        self.slice(&slice.as_slice(farmer))?;
                    }
                    self.slice(&Slice::ended(&end))?;
                }
                Record::Gpus { at, gpus } => {
                    if self.slices.trace.is_in(at) {
                        self.slices.trace.gpus(self.rows, at, &gpus)?;
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
                    self.mark(at, &mark)?;
                }
                Record::Health { at, text, .. } => {
                    self.mark(at, &text)?;
                }
                Record::Leave { at, why, .. } => {
                    has_left = true;
                    let text = format!("farmer left: {why}");
                    self.mark(at, &text)?;
                }
            }
        }
        if farmer.journal.is_sealed && !has_left {
            self.mark(last, "farmer lost")?;
        }
        Ok(last)
    }

    /// Writes a mark on the node.
    fn mark(&mut self, at: u64, text: &str) -> io::Result<()> {
        if !self.slices.trace.is_in(at) {
            return Ok(());
        }
        let event = json!({
            "name": clip(&escape(text.as_bytes()), NAME),
            "cat": "farmer",
            "ph": "i",
            "s": "p",
            "ts": self.slices.trace.ts(at),
            "pid": self.rows.pid,
            "tid": self.rows.tid(0),
            "args": { "farmer": escape(self.farmer.header().farmer.as_bytes()) },
        });
        self.slices.trace.event(event.to_string().as_bytes())
    }

    fn slice(&mut self, slice: &Slice) -> io::Result<()> {
        self.slices.draw(self.farmer, self.rows, slice)
    }
}

/// The end of what is recorded.
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
