//! What a farmer did, from its journal: its attempts and the marks on its node.

use std::io;

use serde_json::json;

use super::late_ends::LateEnds;
use super::slice::Slices;
use super::trace::NAME;
use crate::history::farmer_rows::FarmerRows;
use crate::history::run::Farmer;
use crate::history::run::attempt::Attempt;
use crate::history::run::slots::TimeOrder;
use crate::model::escape::{clip, escape};
use crate::model::outcome::Outcome;
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
        self.mark(farmer.first, "farmer joined")?;
        let (mut late, mut order) = (LateEnds::of(farmer), TimeOrder::default());
        let (mut last, mut has_left) = (farmer.first, false);
        // Records that were written after the figures were read are left out.
        farmer.journal.each_record_to(farmer.offset, |record| {
            last = last.max(end_of(&record));
            has_left |= matches!(record, Record::Leave { .. });
            self.record(record, &mut late, &mut order)
        })?;
        if farmer.journal.is_sealed && !has_left {
            self.mark(last, "farmer lost")?;
        }
        for slot in late.slots() {
            let running = farmer.slots.running.get(&slot);
            let to = running.map_or(last, |running| running.at);
            while let Some(attempt) = late.next(farmer, slot, u64::MAX, to) {
                self.slice(&attempt, false)?;
            }
        }
        for start in farmer.slots.running.values() {
            let attempt = Attempt {
                us: last.saturating_sub(start.at),
                outcome: farmer.is_over().then_some(Outcome::Lost),
                ..start.clone()
            };
            self.slice(&attempt, true)?;
        }
        Ok(())
    }

    /// Writes an attempt that has ended, those that come before it, or a mark.
    fn record(
        &mut self,
        record: Record,
        late: &mut LateEnds,
        order: &mut TimeOrder,
    ) -> io::Result<()> {
        match record {
            Record::Start(start) if start.at < LATEST => {
                order.is_late(start.slot, start.at);
                Ok(())
            }
            // It was drawn at its own time.
            Record::End(end) if end.at < LATEST && order.is_late(end.slot, end.at) => Ok(()),
            Record::End(end) => {
                while let Some(attempt) = late.next(self.farmer, end.slot, end.at, end.at) {
                    self.slice(&attempt, false)?;
                }
                self.slice(&end.into(), false)
            }
            Record::Gpus { at, gpus } if self.slices.trace.is_in(at) => {
                self.slices.trace.gpus(self.rows, at, &gpus)
            }
            Record::Deals { at, deals } => match deals.reserved {
                Some(one) => self.mark(at, &format!("resources are collected for task {}", one.id)),
                None => Ok(()),
            },
            Record::Header(_) | Record::Start(_) | Record::Beat { .. } | Record::Gpus { .. } => {
                Ok(())
            }
            Record::Note { at, text, mark } => match mark {
                Some(Mark::Drained) => self.mark(at, &format!("farmer drained: {text}")),
                Some(Mark::Resumed) => self.mark(at, &format!("farmer resumed: {text}")),
                Some(Mark::LeftBehind | Mark::MemoryKill) | None => self.mark(at, &text),
            },
            Record::Health { at, text, .. } => self.mark(at, &text),
            Record::Leave { at, why, .. } => self.mark(at, &format!("farmer left: {why}")),
        }
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

    fn slice(&mut self, attempt: &Attempt, is_running: bool) -> io::Result<()> {
        self.slices
            .draw(self.farmer, self.rows, attempt, is_running)
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
        | Record::Deals { at, .. }
        | Record::Leave { at, .. } => *at,
    }
}
