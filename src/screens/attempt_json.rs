//! An attempt as JSON, for `status` and `export`.

use crate::history::cancellations::Cancellation;
use serde_json::{Value, json};

use crate::model::escape::escape;
use crate::model::figures::float;
use crate::model::outcome::Outcome;
use crate::model::record::LogAt;

use crate::history::run::attempt::Attempt;

/// Seconds of microseconds.
pub(super) fn seconds(us: u64) -> f64 {
    float(us) / 1e6
}

/// The number that goes with an outcome: an exit status or a signal.
pub(super) fn numbers(outcome: Option<&Outcome>) -> (Option<i32>, Option<i32>) {
    match outcome {
        Some(Outcome::Exit(status) | Outcome::NotStarted(status)) => (Some(*status), None),
        Some(Outcome::Signal(signal)) => (None, Some(*signal)),
        _ => (None, None),
    }
}

/// What a record has of an attempt. The names of node and farmer are escaped already.
pub(super) fn attempt(host: &str, farmer: &str, of: &Attempt, log: Option<&LogAt>) -> Value {
    let (status, signal) = numbers(of.outcome.as_ref());
    json!({
        "attempt": of.attempt,
        "node": host,
        "farmer": farmer,
        "slot": of.slot,
        "start": seconds(of.at),
        "seconds": seconds(of.us),
        "outcome": of.outcome.as_ref().map(Outcome::word),
        "status": status,
        "signal": signal,
        "again": of.again.map(seconds),
        "user": of.used.map(|used| seconds(used.user)),
        "sys": of.used.map(|used| seconds(used.sys)),
        "peak_kib": of.used.map(|used| used.peak),
        "read_kib": of.used.map(|used| used.read),
        "written_kib": of.used.map(|used| used.written),
        "lease": of.lease,
        "log": log.map(|log| escape(log.file.as_bytes())),
        "part": log.and_then(|log| log.part),
        "stderr": log.and_then(|log| Some(escape(log.stderr.as_ref()?.as_bytes()))),
    })
}

/// By whom a task was cancelled, when and why.
pub(super) fn cancellation(one: &Cancellation) -> Value {
    json!({
        "at": seconds(one.at),
        "by": escape(one.by.as_bytes()),
        "reason": one.reason.as_ref().map(|reason| escape(reason.as_bytes())),
    })
}
