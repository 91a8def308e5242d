//! The data that the page's script draws.

use std::io;

use serde_json::{Value, json};

use super::gantt::Gantt;
use crate::history::run::Run;
use crate::history::run::nodes::{Node, nodes};
use crate::model::escape::escape;
use crate::model::figures::Histogram;
use crate::model::series::Series;

/// The most nodes, and the most GPUs, that get a row over time.
const NODES: usize = 200;

/// The data, of which `status` is a part, as JSON that may stand inside a script element.
pub(super) fn json(run: &Run, status: &Value) -> io::Result<String> {
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
    let data = json!({
        "status": status,
        "start": first,
        "length": last - first,
        "series": points(&run.series(), first),
        "durations": bins(&run.durations()),
        "peaks": bins(&run.peaks()),
        "nodes": rows,
        "gpus": gpus(run, &nodes, first),
        "gantt": Gantt::of(run)?.json(),
    });
    Ok(inside_script(&data.to_string()))
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
