//! Which tasks are asked to end while the farm goes on, and killed when they do not: those
//! that exceed the time limit, and those that were cancelled.
//!
//! Time in which the farmer itself was frozen is not charged.

use std::collections::HashMap;
use std::time::Duration;

/// A task that runs, as the limits see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningTask {
    /// The slot.
    pub slot: u32,
    /// The process: it distinguishes one task of a slot from the next.
    pub pid: i32,
    /// When it started, by the same clock as all times here.
    pub since: Duration,
    /// Whether it was cancelled.
    pub is_cancelled: bool,
    /// Its own time limit; without one that of all tasks holds.
    pub limit: Option<Duration>,
}

/// What to do to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAction {
    /// Ask the task of this slot to end.
    Terminate(u32),
    /// End it.
    Kill(u32),
}

/// While there is no time limit, a cancelled task is seen after so long: it may have been about
/// to start.
const LOOK: Duration = Duration::from_millis(500);

/// The time limit, and the tasks that were asked to end.
#[derive(Clone, Debug)]
pub struct Limits {
    limit: Option<Duration>,
    grace: Duration,
    asked: HashMap<(u32, i32), Duration>,
    /// When the farmer was frozen, and for how long.
    gaps: Vec<(Duration, Duration)>,
}

impl Limits {
    /// Every task may run for `limit`, and has `grace` to end after it.
    pub fn new(limit: Option<Duration>, grace: Duration) -> Self {
        Self {
            limit,
            grace,
            asked: HashMap::new(),
            gaps: Vec::new(),
        }
    }

    /// The farmer was frozen for `length` until `now`.
    pub fn frozen(&mut self, now: Duration, length: Duration) {
        self.gaps.push((now, length));
        for kill_at in self.asked.values_mut() {
            *kill_at += length;
        }
    }

    /// Tasks that were not asked to end were stopped for `length` until `now`.
    pub fn stopped(&mut self, now: Duration, length: Duration) {
        self.gaps.push((now, length));
    }

    /// Returns what is due, and when to ask again: no task can be due before that.
    pub fn due(&mut self, now: Duration, running: &[RunningTask]) -> (Vec<LimitAction>, Duration) {
        let there = |key: &(u32, i32)| running.iter().any(|runs| (runs.slot, runs.pid) == *key);
        self.asked.retain(|key, _| there(key));
        let (mut due, mut next) = (Vec::new(), now + self.limit.unwrap_or(LOOK));
        for runs in running {
            let key = (runs.slot, runs.pid);
            let frozen: Duration = self
                .gaps
                .iter()
                .filter(|(at, _)| *at >= runs.since)
                .map(|(_, length)| *length)
                .sum();
            let over_at = match runs.limit.or(self.limit) {
                _ if runs.is_cancelled => Some(now),
                limit => limit.map(|limit| runs.since.saturating_add(limit) + frozen),
            };
            match self.asked.get(&key).copied() {
                Some(kill_at) if now >= kill_at => {
                    due.push(LimitAction::Kill(runs.slot));
                    // Should it not die: again, not more often than each second.
                    self.asked.insert(key, now + Duration::from_secs(1));
                    next = next.min(now + Duration::from_secs(1));
                }
                Some(kill_at) => next = next.min(kill_at),
                None if over_at.is_some_and(|at| now >= at) => {
                    due.push(LimitAction::Terminate(runs.slot));
                    self.asked.insert(key, now + self.grace);
                    next = next.min(now + self.grace);
                }
                None => next = over_at.map_or(next, |at| next.min(at)),
            }
        }
        (due, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn runs(slot: u32, pid: i32, since: u64) -> RunningTask {
        RunningTask {
            slot,
            pid,
            since: S(since),
            is_cancelled: false,
            limit: None,
        }
    }

    #[test]
    fn a_cancelled_task_is_asked_at_once_and_killed_after_the_grace() {
        let mut limits = Limits::new(None, S(3));
        let cancelled = RunningTask {
            is_cancelled: true,
            ..runs(0, 7, 5)
        };
        let both = [cancelled, runs(1, 8, 0)];
        let terminate = vec![LimitAction::Terminate(0)];
        assert_eq!(limits.due(S(6), &both), (terminate, S(6) + LOOK));
        assert_eq!(limits.due(S(8), &both), (vec![], S(8) + LOOK));
        assert_eq!(limits.due(S(9), &both).0, [LimitAction::Kill(0)]);
        // A task that starts in its place is not cancelled.
        assert_eq!(limits.due(S(10), &[runs(0, 9, 9)]).0, []);
    }

    #[test]
    fn asked_at_the_limit_killed_after_the_grace_forgotten_when_gone() {
        let mut limits = Limits::new(Some(S(10)), S(3));
        let task = [runs(0, 7, 5)];
        assert_eq!(limits.due(S(6), &task), (vec![], S(15)));
        assert_eq!(
            limits.due(S(15), &task),
            (vec![LimitAction::Terminate(0)], S(18))
        );
        assert_eq!(limits.due(S(16), &task), (vec![], S(18)));
        assert_eq!(
            limits.due(S(18), &task),
            (vec![LimitAction::Kill(0)], S(19))
        );
        // The next task of the slot has a limit of its own.
        assert_eq!(limits.due(S(19), &[runs(0, 8, 19)]), (vec![], S(29)));
    }

    #[test]
    fn a_limit_of_its_own_holds_instead_of_that_of_all() {
        let mut limits = Limits::new(Some(S(10)), S(3));
        let own = |slot, pid, limit| RunningTask {
            limit: Some(S(limit)),
            ..runs(slot, pid, 0)
        };
        let both = [own(0, 7, 20), own(1, 8, 5), runs(2, 9, 0)];
        assert_eq!(limits.due(S(4), &both), (vec![], S(5)));
        assert_eq!(limits.due(S(5), &both).0, [LimitAction::Terminate(1)]);
        assert_eq!(
            limits.due(S(10), &both).0,
            [LimitAction::Kill(1), LimitAction::Terminate(2)]
        );
        let mut none = Limits::new(None, S(3));
        assert_eq!(none.due(S(20), &both).0.len(), 2);
    }

    #[test]
    fn a_task_that_starts_later_cannot_be_due_before_the_next_look() {
        let mut limits = Limits::new(Some(S(10)), S(3));
        assert_eq!(limits.due(S(0), &[]), (vec![], S(10)));
    }

    #[test]
    fn frozen_time_is_not_charged() {
        let mut limits = Limits::new(Some(S(10)), S(3));
        limits.frozen(S(60), S(55));
        assert_eq!(
            limits.due(S(60), &[runs(0, 7, 0), runs(1, 8, 60)]),
            (vec![], S(65))
        );
        assert_eq!(
            limits.due(S(65), &[runs(0, 7, 0)]).0,
            [LimitAction::Terminate(0)]
        );
    }
}
