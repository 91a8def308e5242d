//! Whether our own node is sick: tasks fail on it, soon after their start and one after
//! the other, that succeed on other nodes.
//!
//! One farmer's state machine, without clock or I/O. The farmer reports each end; after many
//! quick failures in a row it is asked to suspect its node: it claims nothing more, and other
//! farmers try some of the tasks that failed on it. Their results decide. Guarantee: without
//! that evidence no node is called sick, and a suspicion ends by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use super::ids::Ids;
use super::outcome::Destination;
use super::record::{End, NodeHealth};
use super::task::TaskId;

/// A failure counts when it came within this time: slower failures do no harm before
/// a person sees them.
const QUICK: Duration = Duration::from_secs(60);
/// So many quick failures in a row are needed on the smallest node; on others one a
/// slot, since all slots may have begun at once.
const FEWEST: usize = 8;
/// The number of tasks that are tried elsewhere.
const ASKED: usize = 8;
/// Their results count once this number has ended.
const ENOUGH: usize = 3;
/// The most failures that are remembered.
const REMEMBERED: usize = 10_000;
/// Without an answer a doubt ends after this: all others may be busy for hours, and
/// the tasks may be to blame.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// After each time without an answer it waits twice as long, at most this long.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

/// How a doubt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// How many of the tasks that were tried elsewhere succeeded there, and how many ended.
    NodeAtFault(usize, usize),
    /// How many of them failed elsewhere, too, and how many ended.
    TasksAtFault(usize, usize),
    /// No other farmer had time to try them.
    TimedOut,
    /// A task succeeded here.
    Recovered,
}

/// The health of one farmer's node, as far as it knows.
#[derive(Clone, Debug)]
pub struct HealthMonitor {
    health: NodeHealth,
    /// The quick failures since the last success, the oldest first.
    streak: Vec<TaskId>,
    /// How many are needed for a doubt.
    needed: usize,
    asked: BTreeSet<TaskId>,
    succeeded: usize,
    failed: usize,
    has_recovered: bool,
    since: Duration,
    /// How long to wait for an answer.
    wait: Duration,
    /// Whether the tasks are at fault, as others found, or no other farmer is left.
    is_cleared: bool,
}

impl HealthMonitor {
    /// A node with this number of slots.
    pub fn new(slots: usize) -> Self {
        Self {
            health: NodeHealth::Healthy,
            streak: Vec::new(),
            needed: slots.max(FEWEST),
            asked: BTreeSet::new(),
            succeeded: 0,
            failed: 0,
            has_recovered: false,
            since: Duration::ZERO,
            wait: FIRST_WAIT,
            is_cleared: false,
        }
    }

    /// What is concluded so far.
    pub fn health(&self) -> NodeHealth {
        self.health
    }

    /// An attempt has ended here.
    pub fn ended(&mut self, end: &End) {
        match end.outcome.destination() {
            Destination::Finished if self.health == NodeHealth::Unhealthy => {}
            Destination::Finished => {
                self.streak.clear();
                self.has_recovered = true;
            }
            Destination::Failed
                if end.outcome.is_failure() && Duration::from_micros(end.us) < QUICK =>
            {
                if self.streak.len() < REMEMBERED {
                    self.streak.push(end.id);
                }
            }
            Destination::Failed | Destination::ToProcess => {}
        }
    }

    /// Whether to claim no more than is started at once: half of the failures for a
    /// suspicion have come. A sick node would claim hundreds of tasks as if they were
    /// short, and all would fail.
    pub fn is_suspicious(&self) -> bool {
        !self.is_cleared && self.streak.len() * 2 >= self.needed
    }

    /// Whether others are to be asked now to try tasks.
    pub fn has_request(&self) -> bool {
        match self.health {
            NodeHealth::Healthy => self.streak.len() >= self.needed,
            NodeHealth::Suspect => false,
            NodeHealth::Unhealthy => !self.streak.is_empty(),
        }
    }

    /// The tasks to try: some at first, and all that failed here once the node is known to be
    /// sick.
    pub fn request(&self) -> Ids {
        let some = match self.health {
            NodeHealth::Healthy => &self.streak[self.streak.len().saturating_sub(ASKED)..],
            _ => &self.streak[..],
        };
        let sorted: BTreeSet<TaskId> = some.iter().copied().collect();
        sorted.into_iter().collect()
    }

    /// Others try these tasks from `now` on. Their failures here do not count any more.
    pub fn requested(&mut self, now: Duration, ids: &Ids) {
        let ids: BTreeSet<TaskId> = ids.iter().collect();
        self.streak.retain(|id| !ids.contains(id));
        if self.health == NodeHealth::Healthy {
            self.health = NodeHealth::Suspect;
            self.asked = ids;
            (self.succeeded, self.failed, self.since) = (0, 0, now);
            self.has_recovered = false;
        }
    }

    /// The tasks could not be given to others: they were not in `failed` any more, or no
    /// farmer is left to try them.
    pub fn request_failed(&mut self) {
        self.streak.clear();
    }

    /// A task has ended elsewhere.
    pub fn ended_elsewhere(&mut self, id: TaskId, to: Destination) {
        if !self.asked.remove(&id) {
            return;
        }
        match to {
            Destination::Finished => self.succeeded += 1,
            Destination::Failed => self.failed += 1,
            Destination::ToProcess => {}
        }
    }

    /// The result of a suspicion that ends now.
    pub fn diagnosis(&mut self, now: Duration) -> Option<Diagnosis> {
        if self.health != NodeHealth::Suspect {
            return None;
        }
        let (good, bad) = (self.succeeded, self.failed);
        let verdict = if self.has_recovered {
            Diagnosis::Recovered
        } else if good >= ENOUGH && good >= 3 * bad {
            Diagnosis::NodeAtFault(good, good + bad)
        } else if bad >= ENOUGH || self.asked.is_empty() && good + bad >= ENOUGH {
            Diagnosis::TasksAtFault(bad, good + bad)
        } else if self.asked.is_empty() || now >= self.since + self.wait {
            Diagnosis::TimedOut
        } else {
            return None;
        };
        self.health = NodeHealth::Healthy;
        match verdict {
            Diagnosis::NodeAtFault(..) => self.health = NodeHealth::Unhealthy,
            // A list may be bad from here to its end: ask ever less often.
            Diagnosis::TasksAtFault(..) => {
                self.needed = self.needed.saturating_mul(2);
                self.is_cleared = true;
                self.streak.clear();
            }
            // What failed meanwhile counts on.
            Diagnosis::TimedOut => self.wait = (self.wait * 2).min(LONGEST_WAIT),
            Diagnosis::Recovered => self.streak.clear(),
        }
        Some(verdict)
    }

    /// No other farmer is left: it goes on as before.
    pub fn released(&mut self) {
        *self = Self {
            needed: self.needed.saturating_mul(2),
            is_cleared: true,
            ..Self::new(self.needed)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Outcome;
    use proptest::prelude::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn end(id: u64, outcome: Outcome, us: u64) -> End {
        End {
            id: TaskId(id),
            attempt: 1,
            slot: 0,
            at: 0,
            us,
            outcome,
            again: None,
            used: None,
            log: None,
            dir: None,
            skipped: None,
            lease: None,
        }
    }

    fn failing(from: u64, n: u64, health: &mut HealthMonitor) {
        for id in from..from + n {
            health.ended(&end(id, Outcome::Exit(1), 1000));
        }
    }

    fn doubtful() -> HealthMonitor {
        let mut health = HealthMonitor::new(4);
        failing(0, 8, &mut health);
        assert!(health.has_request());
        health.requested(S(1), &health.request());
        health
    }

    #[test]
    fn it_is_doubted_after_quick_failures_in_a_row_one_a_slot_at_least() {
        let mut health = HealthMonitor::new(16);
        failing(0, 7, &mut health);
        assert!(!health.is_suspicious());
        failing(7, 8, &mut health);
        assert!(!health.has_request() && health.is_suspicious());
        health.ended(&end(50, Outcome::Exit(0), 1));
        assert!(!health.is_suspicious());
        failing(100, 15, &mut health);
        health.ended(&end(51, Outcome::Exit(1), 61_000_000));
        health.ended(&end(52, Outcome::Interrupted, 1));
        assert!(
            !health.has_request(),
            "slow ones and stopped ones do not count"
        );
        failing(115, 1, &mut health);
        assert_eq!(health.request(), "108-115".parse().unwrap());
    }

    #[test]
    fn others_say_whether_it_is_sick() {
        let mut health = doubtful();
        health.ended_elsewhere(TaskId(0), Destination::Finished);
        health.ended_elsewhere(TaskId(1), Destination::Finished);
        assert_eq!(health.diagnosis(S(2)), None, "not enough");
        health.ended_elsewhere(TaskId(99), Destination::Finished);
        assert_eq!(health.diagnosis(S(2)), None, "nobody asked for that one");
        health.ended_elsewhere(TaskId(2), Destination::Finished);
        assert_eq!(health.diagnosis(S(2)), Some(Diagnosis::NodeAtFault(3, 3)));
        assert_eq!(health.health(), NodeHealth::Unhealthy);
        // What fails from now on is for others as well.
        failing(20, 2, &mut health);
        assert_eq!(health.request(), "20-21".parse().unwrap());
        health.requested(S(3), &"20-21".parse().unwrap());
        assert!(!health.has_request());
    }

    #[test]
    fn tasks_that_fail_everywhere_clear_it_and_it_asks_less_often() {
        let mut health = doubtful();
        for id in 0..3 {
            health.ended_elsewhere(TaskId(id), Destination::Failed);
        }
        assert_eq!(health.diagnosis(S(2)), Some(Diagnosis::TasksAtFault(3, 3)));
        failing(20, 15, &mut health);
        assert!(!health.has_request() && !health.is_suspicious());
        failing(40, 1, &mut health);
        assert!(health.has_request());
    }

    #[test]
    fn a_doubt_ends_without_an_answer_and_by_a_success_here() {
        let mut health = doubtful();
        let mut now = 1;
        for wait in [60, 120, 240, 480, 600, 600] {
            assert_eq!(health.diagnosis(S(now + wait - 1)), None);
            now += wait;
            assert_eq!(health.diagnosis(S(now)), Some(Diagnosis::TimedOut));
            failing(now * 100, 8, &mut health);
            health.requested(S(now), &health.request());
        }
        let mut health = doubtful();
        health.ended(&end(30, Outcome::Exit(0), 1));
        assert_eq!(health.diagnosis(S(2)), Some(Diagnosis::Recovered));
        assert_eq!(health.health(), NodeHealth::Healthy);
    }

    proptest! {
        #[test]
        fn every_doubt_ends_and_sickness_needs_three_successes_elsewhere(
            steps in proptest::collection::vec((0_u8..5, 0_u64..40), 0..200)
        ) {
            let (mut health, mut good, mut now) = (HealthMonitor::new(2), 0, 0);
            for (step, id) in steps {
                now += 1;
                match step {
                    0 => health.ended(&end(id, Outcome::Exit(0), 1)),
                    1 => failing(id, 3, &mut health),
                    2 => {
                        health.ended_elsewhere(TaskId(id), Destination::Finished);
                        good += 1;
                    }
                    3 => health.ended_elsewhere(TaskId(id), Destination::Failed),
                    _ if health.has_request() => health.requested(S(now), &health.request()),
                    _ => {}
                }
                if let Some(Diagnosis::NodeAtFault(..)) = health.diagnosis(S(now)) {
                    prop_assert!(good >= 3);
                }
            }
            let _ = health.diagnosis(S(now + 601));
            prop_assert!(health.health() != NodeHealth::Suspect);
        }
    }
}
