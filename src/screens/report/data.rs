//! What a report shows: the document of `pytf status --json`, and what it does not have.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::gantt::Gantt;
use crate::history::commands::Commands;
use crate::history::logs::log_tail;
use crate::history::run::farmer::Top;
use crate::history::run::nodes::{Node, nodes};
use crate::history::run::{Farmer, Run};
use crate::model::escape::escape;
use crate::model::figures::Histogram;
use crate::model::series::Series;
use crate::model::task::TaskId;
use crate::screens::status::failed::{FailedEntry, failed_entries};
use crate::screens::status::json::status;

/// The most nodes, and the most GPUs, that get a row over time.
const NODES: usize = 200;

/// How many failed tasks are on the page.
const FAILURES: usize = 200;

/// How many lines of the log of each.
const TAIL: usize = 12;

/// How many of the longest and the largest tasks.
const TOP: usize = 8;

/// What a report shows.
pub(super) struct ReportData {
    /// The absolute path of the workdir.
    pub(super) path: PathBuf,
    /// What `pytf status --json` prints.
    pub(super) status: Value,
    /// What the charts show.
    charts: Value,
    /// The longest attempts, in microseconds.
    pub(super) longest: Vec<TopAttempt>,
    /// Those with the most memory, in KiB.
    pub(super) largest: Vec<TopAttempt>,
    /// The first of the failed tasks.
    pub(super) failed: Vec<FailedDetails>,
}

/// One of the attempts with the greatest values.
pub(super) struct TopAttempt {
    pub(super) value: u64,
    pub(super) id: u64,
    pub(super) node: String,
    pub(super) command: String,
}

/// A failed task.
pub(super) struct FailedDetails {
    /// What `pytf status --failed --json` prints of it.
    pub(super) entry: Value,
    /// The last lines of its log.
    pub(super) tail: Vec<String>,
}

impl ReportData {
    /// Reads what a run has; all journals once more.
    pub(super) fn of(run: &Run) -> io::Result<Self> {
        let workdir = &run.workdir;
        let mut commands = Commands::open(workdir)?;
        let failed = failed_entries(run, |failed| failed.cancelled.is_none())?.take(FAILURES);
        Ok(Self {
            path: std::fs::canonicalize(workdir).unwrap_or_else(|_| workdir.clone()),
            status: status(run),
            charts: charts(run)?,
            longest: top(run, &mut commands, |farmer| &farmer.longest)?,
            largest: top(run, &mut commands, |farmer| &farmer.largest)?,
            failed: failed
                .map(|entry| Ok(FailedDetails::of(run, &entry?)))
                .collect::<io::Result<_>>()?,
        })
    }

    /// The data for the page's script, as JSON that may stand inside a script element.
    pub(super) fn script_data(&self) -> String {
        let (status, charts) = (&self.status, &self.charts);
        inside_script(&format!("{{\"status\":{status},\"charts\":{charts}}}"))
    }
}

impl FailedDetails {
    fn of(run: &Run, entry: &FailedEntry<'_>) -> Self {
        let tail = entry.log_at().map(|log| log_tail(&run.workdir, log, TAIL));
        Self {
            entry: entry.as_json(),
            tail: tail.unwrap_or_default(),
        }
    }
}

/// The attempts with the greatest values.
fn top(
    run: &Run,
    commands: &mut Commands,
    of: fn(&Farmer) -> &Vec<Top>,
) -> io::Result<Vec<TopAttempt>> {
    let farmers = run.farmers.iter();
    let all = farmers.flat_map(|farmer| of(farmer).iter().map(move |top| (top, farmer)));
    let mut all: Vec<_> = all.collect();
    all.sort_unstable_by_key(|(top, _)| std::cmp::Reverse((top.value, top.id)));
    let first = all.into_iter().take(TOP);
    first
        .map(|(top, farmer)| {
            Ok(TopAttempt {
                value: top.value,
                id: top.id,
                node: escape(farmer.header().host.as_bytes()),
                command: commands.text(TaskId(top.id), 120)?.unwrap_or_default(),
            })
        })
        .collect()
}

/// What the page's script draws.
fn charts(run: &Run) -> io::Result<Value> {
    let (first, last) = run.span().unwrap_or((0, 0));
    let nodes = nodes(run);
    let rows: Vec<Value> = nodes
        .iter()
        .take(NODES)
        .map(|node| {
            let mut series = Series::default();
            for farmer in &node.farmers {
                series.merge(&run.series_of(farmer));
            }
            json!({ "node": escape(node.host.as_bytes()), "series": points(&series, first) })
        })
        .collect();
    Ok(json!({
        "start": first,
        "length": last - first,
        "series": points(&run.series(), first),
        "durations": bins(&run.durations()),
        "peaks": bins(&run.peaks()),
        "nodes": rows,
        "gpus": gpus(run, &nodes, first),
        "gantt": Gantt::of(run)?.json(),
    }))
}

/// No text in it can end the script element.
fn inside_script(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// How busy GPUs were over time, and how much of their memory was in use.
fn gpus(run: &Run, nodes: &[Node], first: u64) -> Vec<Value> {
    let mut rows = Vec::new();
    for node in nodes {
        let host = escape(node.host.as_bytes());
        for gpu in node.gpus(run).iter() {
            if rows.len() == NODES {
                return rows;
            }
            let points = gpu.series.iter().map(|(at, one)| {
                let percent = |(time, sum): (u64, u64)| (time > 0).then(|| sum / time);
                json!([since(at, first), percent(one.load), percent(one.memory)])
            });
            rows.push(json!({
                "node": host,
                "gpu": gpu.title(),
                "width": gpu.series.width(),
                "points": points.collect::<Vec<_>>(),
            }));
        }
    }
    rows
}

/// From one time to another, which may be before it.
fn since(at: u64, first: u64) -> i64 {
    i64::try_from(at).unwrap_or(0) - i64::try_from(first).unwrap_or(0)
}

/// Stretches with their times from the first, all in microseconds.
fn points(series: &Series, first: u64) -> Value {
    let points = series.iter().map(|(at, one)| {
        json!([
            since(at, first),
            one.busy,
            one.slots,
            one.cpu,
            one.ended,
            one.failed
        ])
    });
    json!({ "width": series.width(), "points": points.collect::<Vec<_>>() })
}

/// Bins of half an octave.
fn bins(values: &Histogram) -> Vec<(u64, u64, u64)> {
    let mut joined: Vec<(u64, u64, u64)> = Vec::new();
    for (from, to, count) in values.bins() {
        let octave = if from == 0 { 1 } else { 1_u64 << from.ilog2() };
        let middle = octave + octave / 2;
        let (low, high) = match from {
            0 => (0, 1),
            _ if from < middle => (octave, middle),
            _ => (middle, octave.saturating_mul(2)),
        };
        match joined.last_mut() {
            Some(last) if last.0 == low => last.2 += count,
            _ => joined.push((low, high.max(to), count)),
        }
    }
    joined
}
