//! The trace as a stream of events, one per line.
//!
//! Guarantee: slices of one row never overlap and are never empty ([`Trace::place`]).

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::merge::Row;

/// How many characters of a command are the name of its slice.
pub(super) const NAME: usize = 200;

/// How many characters of a command are shown when the slice is selected.
pub(super) const COMMAND: usize = 1000;

/// The name of the event with facts about the whole trace.
pub(super) const FACTS: &str = "pytf_trace";

/// A trace that is being written.
pub(super) struct Trace<'a> {
    out: &'a mut dyn Write,
    /// The time that is 0 in the trace.
    origin: u64,
    /// What ended before is not drawn.
    since: u64,
    /// Whether there is an event before the next one.
    is_begun: bool,
    /// How many slices were placed.
    pub(super) slices: u64,
    /// Up to when each row is drawn.
    ends: BTreeMap<Row, u64>,
}

impl<'a> Trace<'a> {
    /// Begins a trace: `origin` is the time that is 0 in it, and what ended before
    /// `since` is not drawn.
    pub(super) fn begin(out: &'a mut dyn Write, origin: u64, since: u64) -> io::Result<Self> {
        out.write_all(b"[")?;
        Ok(Self {
            out,
            origin,
            since,
            is_begun: false,
            slices: 0,
            ends: BTreeMap::new(),
        })
    }

    /// Whether what ended at a time is drawn.
    pub(super) fn is_in(&self, at: u64) -> bool {
        at >= self.since
    }

    /// A time as the trace has it.
    pub(super) fn ts(&self, at: u64) -> u64 {
        at.saturating_sub(self.origin)
    }

    /// Writes one event as a line.
    pub(super) fn event(&mut self, line: &[u8]) -> io::Result<()> {
        self.out
            .write_all(if self.is_begun { b",\n" } else { b"\n" })?;
        self.is_begun = true;
        self.out.write_all(line)
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

    /// Where in its row a slice is drawn, and how long it is there. Where
    /// clocks or damage would make it overlap what is drawn there already, it
    /// begins where that ends.
    pub(super) fn place(&mut self, row: Row, from: u64, to: u64) -> (u64, u64) {
        let drawn = self.ends.entry(row).or_insert(0);
        let from = from.saturating_sub(self.origin).max(*drawn);
        let to = to.saturating_sub(self.origin).max(from.saturating_add(1));
        *drawn = to;
        self.slices += 1;
        (from, to - from)
    }

    /// Writes the end of the file. `other` has facts about the whole trace: they are the
    /// arguments of its last event.
    pub(super) fn finish(mut self, mut other: Map<String, Value>) -> io::Result<()> {
        let start = format!("{}.{:06}", self.origin / 1_000_000, self.origin % 1_000_000);
        let start = start.parse::<f64>().unwrap_or(0.0);
        other.insert("start_unix".into(), start.into());
        let facts = json!({"name": FACTS, "ph": "M", "pid": 0, "tid": 0, "args": other});
        self.event(facts.to_string().as_bytes())?;
        self.out.write_all(b"\n]\n")
    }
}

/// Appends a text as JSON has it.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}
