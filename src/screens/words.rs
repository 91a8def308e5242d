//! The words and the colours that all views use for the same things.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::history::cancellations::Cancellation;
use crate::history::run::Run;
use crate::model::durations;
use crate::model::escape::escape;
use crate::model::figures::micros;
use crate::model::forecast::Forecast;
use crate::ui::rate::show_rate;
use crate::ui::style::Paint;

/// The state of a run in one word.
pub(crate) fn word(run: &Run) -> &'static str {
    let counts = &run.counts;
    if counts.left() == 0 && counts.feeding == 0 {
        "complete"
    } else if run.living().next().is_some() {
        "running"
    } else {
        "stopped"
    }
}

/// In place of the [`word`] `complete`, while processes stay for tasks that are added.
pub(super) const WAITING: &str = "waiting";

/// The state of a run for people.
pub(super) fn state(run: &Run) -> (&'static str, Paint) {
    let (is_paused, is_stopped) = (run.is_paused(), run.is_stopped());
    let word = match word(run) {
        "complete" if run.is_followed() => WAITING,
        word => word,
    };
    let counts = (run.counts.failed, run.counts.cancelled);
    run_state(word, is_paused, is_stopped, counts)
}

/// The state of a run for people, from its [`word`], whether it is paused, whether its tasks
/// are stopped, and the numbers of failed and of cancelled tasks.
pub(super) fn run_state(
    word: &str,
    is_paused: bool,
    is_stopped: bool,
    (failed, cancelled): (u64, u64),
) -> (&'static str, Paint) {
    match word {
        WAITING if failed > 0 => ("waiting for tasks, some failed", Paint::Bad),
        WAITING => ("waiting for tasks (pytf close ends that)", Paint::Good),
        "complete" if failed > 0 => ("complete, some tasks failed", Paint::Bad),
        "complete" if cancelled > 0 => ("complete, some tasks were cancelled", Paint::Warn),
        "complete" => ("complete", Paint::Good),
        "running" if is_stopped => {
            let text = "paused, running tasks stopped (pytf resume continues them)";
            (text, Paint::Warn)
        }
        "running" if is_paused => ("paused (pytf resume lifts it)", Paint::Warn),
        "running" => ("running", Paint::Good),
        _ if is_paused => ("paused, and no process works on it", Paint::Warn),
        _ => ("stopped, with work left", Paint::Warn),
    }
}

/// How many tasks of a run are where.
pub(super) fn counts(run: &Run) -> Vec<(u64, &'static str, Paint)> {
    let (counts, running) = (&run.counts, run.running());
    let claimed = counts.claimed.saturating_sub(running);
    let mut all = vec![
        (counts.finished, "finished", Paint::Good),
        (counts.failed, "failed", Paint::Bad),
        (counts.cancelled, "cancelled", Paint::Warn),
        (running, "running", Paint::Strong),
        (claimed, "claimed", Paint::Faint),
        (counts.waiting, "waiting", Paint::Faint),
        (counts.blocked, "blocked", Paint::Faint),
        (counts.dropped, "dropped from the list", Paint::Faint),
    ];
    all.retain(|(count, word, _)| {
        *count > 0 || !["cancelled", "claimed", "blocked", "dropped from the list"].contains(word)
    });
    all
}

/// How fast a run goes, and how long it may take.
pub(super) fn speed(run: &Run) -> Vec<String> {
    let rate = run.rate().map(|rate| format!("rate {}", show_rate(rate)));
    let left = match run.forecast() {
        Forecast::Over => None,
        Forecast::Range(low, high) => Some(format!("left {}", range(low, high))),
        Forecast::Unknown(why) => Some(format!("left unknown: {why}")),
    };
    rate.into_iter().chain(left).collect()
}

/// The colour of a node, from its word.
pub(super) fn node_paint(word: &str) -> Paint {
    match word {
        "alive" => Paint::Good,
        "draining" | "unsure" | "silent" | "lost" => Paint::Warn,
        "left" => Paint::Faint,
        _ => Paint::Bad,
    }
}

/// `5m10s to 6m30s`, or `about 5m10s` where both are the same.
pub(crate) fn range(low: Duration, high: Duration) -> String {
    // A forecast is not more exact than a tenth.
    let coarse = |span: Duration| {
        let seconds = span.as_secs_f64().max(1.0);
        let unit = 10_f64.powf(seconds.log10().floor() - 1.0).max(1.0);
        Duration::try_from_secs_f64((seconds / unit).round() * unit).unwrap_or(span)
    };
    let (low, high) = (durations::show(coarse(low)), durations::show(coarse(high)));
    if low == high {
        format!("about {low}")
    } else {
        format!("{low} to {high}")
    }
}

/// By whom tasks were cancelled, when and why, in a line.
pub(super) fn cancellation(one: &Cancellation, now: SystemTime) -> String {
    let at = UNIX_EPOCH + micros(one.at);
    let ago = durations::show(now.duration_since(at).unwrap_or_default());
    let reason = one.reason.as_ref().map_or_else(String::new, |reason| {
        format!(": {}", escape(reason.as_bytes()))
    });
    format!(
        "cancelled by {} {ago} ago{reason}",
        escape(one.by.as_bytes())
    )
}
