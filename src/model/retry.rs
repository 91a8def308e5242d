//! When a task is tried again by itself: after which outcomes, how often, and how long after
//! the failure.
//!
//! Guarantee: these are pure functions of an outcome, of how often the task has failed or been
//! lost since it was put back by a person, and of the rule. The farmer that saw a failure decides
//! and records its decision with the end of the attempt; nobody else decides it again.

use std::time::Duration;

use super::attributes::{Attributes, RetryCause};
use super::outcome::Outcome;

/// So often a task may lose its farmer; then it counts as failed, since it may be the reason.
pub const CRASH_LIMIT: u32 = 5;

/// The longest delay, unless the first one is longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Exit statuses of a shell that found nothing to execute: trying again does not help.
const NOT_FOUND: [i32; 2] = [126, 127];

/// How often and after what a task is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRule {
    /// How many failures are followed by another attempt.
    pub retries: u32,
    /// After which outcomes; empty: every failure but exit status 126 and 127, and tasks that
    /// could not be started.
    pub on: Vec<RetryCause>,
    /// How long after the first failure; after each other one twice as long as before.
    pub delay: Duration,
}

impl Default for RetryRule {
    fn default() -> Self {
        Self {
            retries: 0,
            on: Vec::new(),
            delay: Duration::from_secs(1),
        }
    }
}

impl RetryRule {
    /// The rule for a task: what it says itself is more than what holds for all.
    #[must_use]
    pub fn of(&self, task: &Attributes) -> Self {
        Self {
            retries: task.retries.unwrap_or(self.retries),
            on: if task.retry_on.is_empty() {
                self.on.clone()
            } else {
                task.retry_on.clone()
            },
            delay: self.delay,
        }
    }

    /// For how long the task is kept back before it is tried again; `None` when it is not.
    /// `failures` is how often it had failed before.
    pub fn again(&self, outcome: &Outcome, failures: u32) -> Option<Duration> {
        (failures < self.retries && self.is_cause(outcome)).then(|| self.delay(failures))
    }

    fn is_cause(&self, outcome: &Outcome) -> bool {
        if !outcome.is_failure() {
            return false;
        }
        if self.on.is_empty() {
            return match outcome {
                Outcome::Exit(status) => !NOT_FOUND.contains(status),
                Outcome::NotStarted(_) => false,
                _ => true,
            };
        }
        self.on.iter().any(|cause| match (cause, outcome) {
            (RetryCause::Exit, Outcome::Exit(status)) => !NOT_FOUND.contains(status),
            (RetryCause::Status(n), Outcome::Exit(status) | Outcome::NotStarted(status)) => {
                n == status
            }
            (RetryCause::Exit, Outcome::NoResult)
            | (RetryCause::Signal, Outcome::Signal(_))
            | (RetryCause::Timeout, Outcome::TimeLimit)
            | (RetryCause::Memory, Outcome::OutOfMemory) => true,
            // A task whose farmer died is tried again in any case.
            _ => false,
        })
    }

    fn delay(&self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures);
        self.delay
            .saturating_mul(factor)
            .min(LONGEST.max(self.delay))
    }
}

/// Whether a task that has lost its farmer so often, this time included, is not tried again.
pub fn is_given_up(losses: u32) -> bool {
    losses >= CRASH_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn rule(retries: u32, on: &[RetryCause]) -> RetryRule {
        RetryRule {
            retries,
            on: on.to_vec(),
            ..RetryRule::default()
        }
    }

    #[test]
    fn every_failure_is_a_cause_but_what_cannot_be_better_next_time() {
        let all = rule(1, &[]);
        for (outcome, is) in [
            (Outcome::Exit(0), false),
            (Outcome::Exit(1), true),
            (Outcome::Exit(126), false),
            (Outcome::Exit(127), false),
            (Outcome::Signal(9), true),
            (Outcome::TimeLimit, true),
            (Outcome::OutOfMemory, true),
            (Outcome::NotStarted(127), false),
            (Outcome::Unknown, true),
            (Outcome::NoResult, true),
            (Outcome::Cancelled, false),
            (Outcome::Interrupted, false),
            (Outcome::Lost, false),
        ] {
            assert_eq!(all.again(&outcome, 0).is_some(), is, "{outcome:?}");
        }
    }

    #[test]
    fn named_causes_are_the_only_ones() {
        use RetryCause::{Exit, Lost, Memory, Signal, Status, Timeout};
        for (on, outcome, is) in [
            (&[Exit][..], Outcome::Exit(3), true),
            (&[Exit], Outcome::Exit(127), false),
            (&[Exit], Outcome::Signal(9), false),
            (&[Status(75)], Outcome::Exit(75), true),
            (&[Status(75)], Outcome::Exit(1), false),
            (&[Status(127)], Outcome::NotStarted(127), true),
            (&[Signal], Outcome::Signal(11), true),
            (&[Timeout, Memory], Outcome::TimeLimit, true),
            (&[Timeout, Memory], Outcome::OutOfMemory, true),
            (&[Timeout, Memory], Outcome::Exit(1), false),
            (&[Lost], Outcome::Exit(1), false),
        ] {
            assert_eq!(rule(1, on).again(&outcome, 0).is_some(), is, "{on:?}");
        }
    }

    #[test]
    fn two_retries_are_three_attempts_with_growing_delays() {
        let rule = rule(2, &[]);
        let again = |failures| rule.again(&Outcome::Exit(1), failures);
        assert_eq!(
            [again(0), again(1), again(2)],
            [Some(S(1)), Some(S(2)), None]
        );
        let many = RetryRule {
            retries: u32::MAX,
            ..RetryRule::default()
        };
        for (first, failures, delay) in [(1, 5, 32), (1, 6, 60), (1, 1000, 60), (300, 3, 300)] {
            let rule = RetryRule {
                delay: S(first),
                ..many.clone()
            };
            let found = rule.again(&Outcome::Exit(1), failures);
            assert_eq!(found, Some(S(delay)));
        }
    }

    #[test]
    fn what_a_task_says_itself_is_more_than_what_holds_for_all() {
        let all = rule(2, &[RetryCause::Exit]);
        assert_eq!(all.of(&Attributes::default()), all);
        let own = Attributes {
            retries: Some(0),
            retry_on: vec![RetryCause::Signal],
            ..Attributes::default()
        };
        assert_eq!(all.of(&own), rule(0, &[RetryCause::Signal]));
    }
}
