//! Whether a failed attempt was interrupted by the scheduler or user that stops the farm.
//!
//! A scheduler signals tasks and farmer together, and mostly the tasks first: PBS signals each
//! process of a job, the youngest first. A task may die of the signal or end with any status.
//! Guarantee: an end is judged only when [`SUSPICION`] is over, so that the farmer's own signal
//! has arrived by then.

use std::time::{Duration, Instant};

use super::outcome::Outcome;

/// How long a failing end is held back: a scheduler that signals tasks and farmer
/// together reaches the tasks up to 0.1 s earlier (measured on OpenPBS).
pub const SUSPICION: Duration = Duration::from_millis(1500);

/// A shell that reports a death by signal adds this to the signal's number.
const SHELL_BASE: i32 = 128;

/// The signals that the farmer was sent, and when.
#[derive(Clone, Debug, Default)]
pub struct Signals(Vec<(Instant, i32)>);

/// When an attempt ran.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// When it started.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
}

impl Signals {
    /// The farmer was sent this signal.
    pub fn got(&mut self, at: Instant, signal: i32) {
        self.0.push((at, signal));
    }

    /// Whether one of the signals explains a failing end: any end close to it, and
    /// at any later time the death of an attempt that ran then of the same signal.
    pub fn explain(&self, outcome: &Outcome, span: Span) -> bool {
        self.0.iter().any(|(at, signal)| {
            let is_close = span.ended + SUSPICION >= *at && *at + SUSPICION >= span.ended;
            let ran_then = span.started <= *at + SUSPICION && *at <= span.ended + SUSPICION;
            is_close || (ran_then && dies_of(outcome, *signal))
        })
    }
}

/// Whether an attempt was killed by this signal, as the kernel or a shell reports it.
fn dies_of(outcome: &Outcome, signal: i32) -> bool {
    match outcome {
        Outcome::Signal(by) => *by == signal,
        Outcome::Exit(status) => *status == SHELL_BASE + signal,
        _ => false,
    }
}

/// Whether an end may turn out to be an interruption: it failed, and neither we nor
/// the kernel's lack of memory is the reason.
pub fn is_suspect(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Signal(_)) || matches!(outcome, Outcome::Exit(n) if *n != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USR1: i32 = 10;

    #[test]
    fn what_fails_close_to_a_signal_or_dies_of_it_was_interrupted() {
        let base = Instant::now();
        let at = |ms: u64| base + Duration::from_millis(ms);
        let span = |started, ended| Span {
            started: at(started),
            ended: at(ended),
        };
        let mut signals = Signals::default();
        assert!(!signals.explain(&Outcome::Signal(USR1), span(1000, 100_000)));
        signals.got(at(100_000), USR1);
        for (outcome, started, ended, is_explained) in [
            // PBS: the tasks die first, whatever they answer.
            (Outcome::Exit(143), 1000, 98_500, true),
            (Outcome::Exit(1), 1000, 101_000, true),
            (Outcome::Signal(15), 1000, 100_000, true),
            // Long before, and long after, it is the task's own end ...
            (Outcome::Exit(1), 1000, 98_000, false),
            (Outcome::Exit(1), 1000, 102_000, false),
            (Outcome::Signal(15), 1000, 102_000, false),
            // ... unless it dies of that very signal, and ran when it came.
            (Outcome::Signal(USR1), 1000, 160_000, true),
            (Outcome::Exit(138), 1000, 160_000, true),
            (Outcome::Signal(USR1), 102_000, 160_000, false),
            (Outcome::Signal(USR1), 1000, 98_000, false),
        ] {
            let is = signals.explain(&outcome, span(started, ended));
            assert_eq!(is, is_explained, "{outcome:?} at {ended}");
        }
    }

    #[test]
    fn only_failures_by_themselves_are_suspect() {
        for (outcome, is) in [
            (Outcome::Exit(0), false),
            (Outcome::Exit(1), true),
            (Outcome::Signal(11), true),
            (Outcome::TimeLimit, false),
            (Outcome::OutOfMemory, false),
            (Outcome::NotStarted(127), false),
            (Outcome::Interrupted, false),
        ] {
            assert_eq!(is_suspect(&outcome), is, "{outcome:?}");
        }
    }
}
