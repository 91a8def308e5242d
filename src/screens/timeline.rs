//! `timeline.json`: every attempt of every run of a workdir as a Chrome trace,
//! for Perfetto and `chrome://tracing`.
//!
//! A node is a process and a slot is a thread; an attempt is exactly one complete slice (`ph`
//! "X") with `PyTaskFarmer`'s fields. Guarantee: pid and tid are integers, slices of one thread
//! never overlap and are never empty, and each event is one line. The file is made from the
//! journals each time, under another name that is then renamed, so a reader never sees half of
//! one. The same journals give the same bytes. What `PyTaskFarmer` left there is kept, and
//! drawn too.
//!
//! Above a million slices short neighbours are drawn as one: viewers hold no
//! more. It reads the journals twice, the first time for the figures, and holds
//! a few numbers a farmer and slot, however many tasks there are.

mod counters;
mod drawing;
mod gpus;
mod late_ends;

mod links;
mod merge;
mod plan;
mod pytaskfarmer;
mod rows;
mod slice;
mod trace;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use self::drawing::Drawing;
use self::plan::Plan;
use self::pytaskfarmer::OldTimeline;
use self::slice::Slices;
use self::trace::Trace;
use super::output::replace;
use crate::history::journals::Damage;
use crate::history::run::Run;
use crate::model::escape::escape;

/// Its name in the workdir.
pub const NAME: &str = "timeline.json";

/// Options of a timeline.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Only what happened in the last part of the run, this long.
    pub since: Option<Duration>,
    /// Whether to compress it.
    pub gzip: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// How many slices are in it: one for each attempt, when `merged` is 0.
    pub slices: u64,
    /// How many attempts are drawn together with their neighbours.
    pub merged: u64,
    /// Journals with lines that are not records.
    pub damage: Vec<(PathBuf, Damage)>,
    /// What is missing of an earlier timeline.
    pub left_out: Option<String>,
}

/// Writes the `timeline.json` of a run into its workdir.
pub fn write(run: &Run) -> io::Result<Written> {
    write_file(run, &run.workdir.join(NAME), Options::default())
}

/// Writes a timeline into a file, which it replaces when it is whole, or to standard
/// output (`-`).
pub fn write_file(run: &Run, path: &Path, wishes: Options) -> io::Result<Written> {
    if path == run.workdir.join(NAME) {
        pytaskfarmer::keep(&run.workdir)?;
    }
    let old = OldTimeline::read(&run.workdir)?;
    let drawn = replace(path, |out| write_to(run, &old, out, wishes))?;
    Ok(drawn.written(run, path, old.left_out))
}

/// How many slices were drawn.
struct Drawn {
    slices: u64,
    merged: u64,
}

impl Drawn {
    fn written(self, run: &Run, path: &Path, left_out: Option<String>) -> Written {
        let damaged = run.farmers.iter().filter(|farmer| farmer.damage.lines > 0);
        Written {
            path: path.to_owned(),
            slices: self.slices,
            merged: self.merged,
            damage: damaged
                .map(|farmer| (farmer.journal.path.clone(), farmer.damage.clone()))
                .collect(),
            left_out,
        }
    }
}

fn write_to(
    run: &Run,
    old: &OldTimeline,
    out: &mut dyn Write,
    wishes: Options,
) -> io::Result<Drawn> {
    let plan = Plan::new(run, old.first(), wishes.since);
    if !wishes.gzip {
        return draw(&plan, old, out);
    }
    let mut out = BufWriter::new(GzEncoder::new(out, Compression::fast()));
    let drawn = draw(&plan, old, &mut out)?;
    let encoder = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    encoder.finish()?;
    Ok(drawn)
}

/// Draws everything.
fn draw(plan: &Plan, old: &OldTimeline, out: &mut dyn Write) -> io::Result<Drawn> {
    let mut trace = Trace::begin(out, plan.origin, plan.since)?;
    trace.name_rows(plan)?;
    let last = plan.farmers().map(|(_, rows)| rows.pid).max().unwrap_or(0);
    trace.old(old, last)?;
    let mut slices = Slices::of(plan, trace)?;
    for (farmer, rows) in plan.farmers() {
        Drawing {
            slices: &mut slices,
            farmer,
            rows,
        }
        .draw()?;
    }
    let (mut trace, merged) = slices.finish()?;
    trace.counters(plan)?;
    let drawn = Drawn {
        slices: trace.slices,
        merged,
    };
    trace.finish(about(plan, &drawn))?;
    Ok(drawn)
}

/// Facts about the whole trace.
fn about(plan: &Plan, drawn: &Drawn) -> Map<String, Value> {
    let damaged = plan.run.farmers.iter().map(|farmer| farmer.damage.lines);
    let clocks: Map<String, Value> = plan
        .farmers()
        .filter_map(|(farmer, _)| {
            let name = escape(farmer.header().farmer.as_bytes());
            Some((name, farmer.clock_offset()?.into()))
        })
        .collect();
    let difference = plan.run.clock_difference();
    let skews: Map<String, Value> = plan
        .farmers()
        .filter_map(|(farmer, _)| {
            let host = &farmer.header().host;
            let us = difference.as_ref()?.of(host)?;
            let ahead = json!({ "ahead": us, "within": Value::Null });
            Some((escape(host.as_bytes()), ahead))
        })
        .collect();
    let other = [
        ("farmers", plan.farmers().count().into()),
        ("slices", drawn.slices.into()),
        ("merged", drawn.merged.into()),
        ("damaged_records", damaged.sum::<u64>().into()),
        ("clock_offset_us", clocks.into()),
        ("clock_ahead_us", skews.into()),
        ("pytf", env!("CARGO_PKG_VERSION").into()),
    ];
    let other = other.into_iter();
    other.map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests;
