//! The run as JSON: docs/status-json.md has the schema.
//!
//! Guarantee: a member, once there, keeps its name and its meaning as long as `schema` is the
//! same; new ones may be added.

use std::path::Path;

use serde_json::{Value, json};

use crate::history::failures::{CancelledTasks, FailureCause, cancelled, causes, failures};
use crate::history::run::gpus::Gpu;
use crate::history::run::nodes::{Node, nodes};
use crate::history::run::{ClockDifference, Farmer, FarmerState, Run};
use crate::history::waiting::{WaitingClass, waiting_classes};
use crate::model::class::Class;
use crate::model::escape::escape;
use crate::model::figures::{Histogram, float, share};
use crate::model::forecast::Forecast;
use crate::model::outcome::Outcome;
use crate::screens::attempt_json::{self, numbers, seconds};
use crate::screens::words::word;
use crate::ui::advice::advice;

/// The version of the schema.
pub const SCHEMA: u32 = 1;

/// A path or a name as it may be printed.
pub(super) fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// The whole run.
pub fn status(run: &Run) -> Value {
    let counts = &run.counts;
    let (failures, nodes) = (failures(run), nodes(run));
    let (clocks, span) = (run.clock_difference(), run.span());
    let (low, high, unknown) = match run.forecast() {
        Forecast::Over => (Some(0.0), Some(0.0), None),
        Forecast::Range(low, high) => (Some(low.as_secs_f64()), Some(high.as_secs_f64()), None),
        Forecast::Unknown(why) => (None, None, Some(why)),
    };
    let sum = |of: fn(&Farmer) -> u64| run.farmers.iter().map(of).sum::<u64>();
    let damaged = run.farmers.iter().filter(|farmer| farmer.damage.lines > 0);
    json!({
        "schema": SCHEMA,
        "kind": "status",
        "pytf": env!("CARGO_PKG_VERSION"),
        "workdir": shown(&run.workdir),
        "at": run.now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        "state": word(run),
        "paused": run.is_paused(),
        "tasks_stopped": run.is_stopped(),
        "followed": run.is_followed(),
        "first": span.map(|(first, _)| seconds(first)),
        "last": span.map(|(_, last)| seconds(last)),
        "tasks": {
            "total": counts.total,
            "finished": counts.finished,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
            "running": run.running(),
            "claimed": counts.claimed,
            "waiting": counts.waiting,
            "blocked": counts.blocked,
            "left": counts.left(),
            "dropped": counts.dropped,
            "arriving": counts.feeding > 0,
        },
        "attempts": {
            "ended": sum(|farmer| farmer.ended),
            "finished": sum(|farmer| farmer.finished),
            "failed": sum(Farmer::failed),
            "cancelled": sum(|farmer| farmer.cancelled),
            "interrupted": sum(|farmer| farmer.interrupted),
            "skipped": sum(|farmer| farmer.skipped),
        },
        "rate": run.rate(),
        "eta": { "low": low, "high": high, "unknown": unknown },
        "slots": run.slots(),
        "busy": run.busy(&run.farmers),
        "durations": spread(&run.durations(), 1e6),
        "memory": spread(&run.peaks(), 1.0),
        "used": {
            "user": seconds(sum(|farmer| farmer.spent.user)),
            "sys": seconds(sum(|farmer| farmer.spent.sys)),
            "read": sum(|farmer| farmer.spent.read),
            "written": sum(|farmer| farmer.spent.written),
        },
        "waiting": waiting(run),
        "nodes": nodes.iter().map(|one| node(one, clocks.as_ref())).collect::<Vec<_>>(),
        "gpus": nodes.iter().flat_map(|node| gpus(run, node)).collect::<Vec<_>>(),
        "causes": causes(&failures).iter().map(cause).collect::<Vec<_>>(),
        "cancellations": cancelled(&failures).iter().map(cancellation).collect::<Vec<_>>(),
        "advice": advice(run).iter().map(|advice| {
            json!({ "kind": advice.kind, "text": advice.text })
        }).collect::<Vec<_>>(),
        "damage": damaged.map(damage).collect::<Vec<_>>(),
        "clocks": clocks.as_ref().map(ClockDifference::text),
        "problem": counts.problem.as_deref().map(|problem| escape(problem.as_bytes())),
    })
}

/// What of a journal could not be read.
fn damage(farmer: &Farmer) -> Value {
    json!({
        "journal": shown(&farmer.journal.path),
        "lines": farmer.damage.lines,
        "first": farmer.damage.first,
    })
}

/// The tasks that wait, by what they need.
fn waiting(run: &Run) -> Vec<Value> {
    let classes = waiting_classes(run).unwrap_or_default();
    classes.iter().map(waiting_class).collect()
}

fn waiting_class(of: &WaitingClass) -> Value {
    let Class {
        cpus,
        gpus,
        mem,
        node,
        priority,
        ..
    } = &of.class;
    json!({
        "tasks": of.waiting,
        "cpus": cpus,
        "gpus": gpus,
        "mem": mem,
        "time": of.class.time().map(|time| time.as_secs_f64()),
        "node": node.as_ref().map(|node| escape(node.as_bytes())),
        "priority": priority,
        "words": of.words(),
        "nowhere": of.nowhere,
    })
}

fn cause(cause: &FailureCause) -> Value {
    let outcome = cause.first.outcome();
    let (status, signal) = numbers(outcome);
    json!({
        "outcome": outcome.map(Outcome::word),
        "status": status,
        "signal": signal,
        "words": cause.words,
        "tasks": cause.tasks,
        "nodes": cause.nodes,
        "first": cause.first.id,
    })
}

/// Tasks that were cancelled together.
fn cancellation(cancelled: &CancelledTasks) -> Value {
    let mut json = attempt_json::cancellation(cancelled.of);
    json["tasks"] = cancelled.tasks.into();
    json["first"] = cancelled.first.into();
    json
}

/// The GPUs of a node.
fn gpus(run: &Run, node: &Node) -> Vec<Value> {
    let (host, gpus) = (escape(node.host.as_bytes()), node.gpus(run));
    let value = |gpu: &Gpu| {
        json!({
            "node": host,
            "gpu": escape(gpu.name.as_bytes()),
            "slots": gpu.slots,
            "tasks": gpu.tasks,
            "load": gpu.load(),
            "load_with_tasks": gpu.load_with_tasks(),
            "memory": gpu.memory(),
            "memory_max": gpu.most_memory.map(|most| f64::from(most) / 100.0),
        })
    };
    gpus.iter().map(value).collect()
}

/// How values are distributed; null without any.
fn spread(values: &Histogram, unit: f64) -> Value {
    let of = |value: Option<u64>| value.map(|value| float(value) / unit);
    if values.count == 0 {
        return Value::Null;
    }
    json!({
        "count": values.count,
        "mean": values.mean().map(|mean| mean / unit),
        "min": of(Some(values.min)),
        "median": of(values.quantile(0.5)),
        "p95": of(values.quantile(0.95)),
        "max": of(Some(values.max)),
    })
}

fn node(node: &Node, clocks: Option<&ClockDifference>) -> Value {
    let ahead = clocks.and_then(|clocks| clocks.of(node.host));
    let silent = match node.state {
        FarmerState::Silent(silence) => Some(silence.as_secs_f64()),
        _ => None,
    };
    let farmers = node.farmers.iter();
    let sum = |of: fn(&Farmer) -> u64| farmers.clone().map(|farmer| of(farmer)).sum::<u64>();
    json!({
        "node": escape(node.host.as_bytes()),
        "life": node.state.word(),
        "words": node.word(),
        "silent": silent,
        "health": node.health.word(),
        "draining": node.is_draining,
        "clock": ahead.map(|us| json!({
            "ahead": seconds(us.unsigned_abs()) * if us < 0 { -1.0 } else { 1.0 },
            "within": Value::Null,
        })),
        "reserved": node.reserved().map(|one| one.id),
        "slots": node.slots,
        "running": node.running.len(),
        "finished": node.ended.0,
        "failed": node.ended.1,
        "interrupted": node.ended.2,
        "forgiven": node.forgiven,
        "busy": node.busy,
        "cpu": share(sum(|f| f.spent.user.saturating_add(f.spent.sys)), sum(|f| f.ran)),
        "peak": node.farmers.iter().map(|farmer| farmer.spent.peak).max(),
        "longest": node.running.first().map(|one| json!({
            "id": one.attempt.id,
            "attempt": one.attempt.attempt,
            "slot": one.attempt.slot,
            "pid": one.pid(),
            "ran": seconds(one.ran),
        })),
        "farmers": farmers.map(|farmer| escape(farmer.header().farmer.as_bytes())).collect::<Vec<_>>(),
    })
}
