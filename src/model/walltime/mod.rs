//! The end of the allocation: until when tasks may be started, and when running tasks are
//! stopped.
//!
//! All times are of one clock that also runs while the node is suspended. Guarantee: only a
//! task that is expected to end before [`Walltime::stop_at`] may start; without a known end
//! each may.

pub mod answer;
pub mod lengths;

use std::time::Duration;

/// The time to stop, in addition to the grace period of the tasks: waiting for tasks that
/// do not die, recording results, leaving.
const LEAVING: Duration = Duration::from_secs(15);
/// The margin is never more than this part of the time that there was.
const LARGEST_PART: u32 = 4;
/// The shortest and the longest time between two questions for the end of a job.
const ASK_EVERY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10 * 60));
/// How many processes ask within a second: a scheduler has other things to do.
const ASK_RATE: u32 = 20;

/// Whether a task of which a time limit is said may need more time than is left. `longest` is
/// the longest run so far of such tasks: it counts where it is shorter than the limit.
pub fn needs_more(limit: Duration, longest: Option<Duration>, left: Duration) -> bool {
    longest.map_or(limit, |longest| longest.min(limit)) > left
}

/// What is known of the end, and what tasks need.
#[derive(Clone, Debug)]
pub struct Walltime {
    grace: Duration,
    limit: Option<Duration>,
    estimate: Option<Duration>,
    ends_at: Option<Duration>,
    /// The longest time that was ever left.
    whole: Duration,
}

/// Too little time is left for another task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// The time that is left for tasks.
    pub left: Duration,
    /// The time that a task takes; `None` when nothing may start for another reason.
    pub need: Option<Duration>,
}

impl Walltime {
    /// Nothing is known yet. Tasks have `grace` to end; they are stopped after
    /// `limit`, and are said to take `estimate`, when those are given.
    pub fn new(grace: Duration, limit: Option<Duration>, estimate: Option<Duration>) -> Self {
        Self {
            grace,
            limit,
            estimate,
            ends_at: None,
            whole: Duration::ZERO,
        }
    }

    /// Takes the end of the allocation, as it is known `now`: it may be later or earlier than
    /// before.
    pub fn learn(&mut self, now: Duration, ends_at: Option<Duration>) {
        self.ends_at = ends_at;
        let left = ends_at.unwrap_or_default().saturating_sub(now);
        self.whole = self.whole.max(left);
    }

    /// When the allocation ends.
    pub fn ends_at(&self) -> Option<Duration> {
        self.ends_at
    }

    /// How long before the end everything is stopped: the grace period and what
    /// leaving takes, but never more than a quarter of the time that there was.
    /// In a short job the grace period of the scheduler must suffice.
    pub fn margin(&self) -> Duration {
        (self.grace + LEAVING).min(self.whole / LARGEST_PART)
    }

    /// When what still runs is stopped.
    pub fn stop_at(&self) -> Option<Duration> {
        Some(self.ends_at?.saturating_sub(self.margin()))
    }

    /// The time that a task needs: what the user says, else the time that tasks have taken
    /// (`seen`), but no more than the time limit. Before any task has ended it is the
    /// limit, unless the whole allocation is shorter: then it
    /// is ignored, or no task would ever be started.
    pub fn need(&self, seen: Option<Duration>) -> Option<Duration> {
        let limit = self.limit;
        self.estimate
            .or_else(|| seen.map(|seen| limit.map_or(seen, |limit| seen.min(limit))))
            .or_else(|| limit.filter(|limit| *limit + self.margin() < self.whole))
    }

    /// The last moment at which a task may be started.
    pub fn last_start(&self, seen: Option<Duration>) -> Option<Duration> {
        let stop_at = self.stop_at()?;
        Some(stop_at.saturating_sub(self.need(seen).unwrap_or_default()))
    }

    /// Whether there is too little time for another task.
    pub fn short(&self, now: Duration, seen: Option<Duration>) -> Option<Short> {
        let (stop_at, last) = (self.stop_at()?, self.last_start(seen)?);
        (now > last).then(|| Short {
            left: stop_at.saturating_sub(now),
            need: self.need(seen),
        })
    }
}

/// How long until the scheduler is asked again when this time is `left` (`None`: not known,
/// or without end) and this number of `processes` asks.
pub fn ask_again(left: Option<Duration>, processes: u32) -> Duration {
    let (least, most) = ASK_EVERY;
    let every = left.map_or(most, |left| (left / 2).clamp(least, most));
    every.max(Duration::from_secs(1) * (processes / ASK_RATE))
}

/// How long a process waits before it first asks: they take turns.
pub fn ask_first(rank: u32) -> Duration {
    Duration::from_secs(1) * rank / ASK_RATE
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn hour(limit: Option<u64>, estimate: Option<u64>) -> Walltime {
        let mut walltime = Walltime::new(S(10), limit.map(S), estimate.map(S));
        walltime.learn(S(1000), Some(S(4600)));
        walltime
    }

    #[test]
    fn what_cannot_end_before_the_stop_is_not_started() {
        for (limit, estimate, seen, last) in [
            (None, None, None, 4575),
            (None, None, Some(540), 4575 - 540),
            (Some(300), None, Some(540), 4575 - 300),
            (Some(300), None, Some(60), 4575 - 60),
            (Some(300), None, None, 4575 - 300),
            // A limit that no job of this length can reach means nothing.
            (Some(7200), None, None, 4575),
            (Some(7200), None, Some(540), 4575 - 540),
            (Some(300), Some(900), Some(60), 4575 - 900),
            (None, Some(90_000), None, 0),
        ] {
            let walltime = hour(limit, estimate);
            let case = format!("{limit:?} {estimate:?} {seen:?}");
            let seen = seen.map(S);
            assert_eq!(walltime.last_start(seen), Some(S(last)), "{case}");
            assert_eq!(walltime.short(S(last), seen), None, "{case}");
            assert!(walltime.short(S(last + 1), seen).is_some(), "{case}");
        }
        let short = hour(None, None).short(S(4325), Some(S(540)));
        let need = Some(S(540));
        assert_eq!(short, Some(Short { left: S(250), need }));
    }

    #[test]
    fn the_margin_has_room_for_the_grace_and_leaves_most_of_a_short_job() {
        assert_eq!(hour(None, None).stop_at(), Some(S(4575)));
        let mut minute = Walltime::new(S(10), None, None);
        minute.learn(S(0), Some(S(60)));
        assert_eq!(minute.stop_at(), Some(S(45)));
        // It was longer once: what is left does not shrink the margin.
        minute.learn(S(20), Some(S(60)));
        assert_eq!(minute.margin(), S(15));
        // Extended, cut, without end.
        minute.learn(S(20), Some(S(1220)));
        assert_eq!(minute.stop_at(), Some(S(1195)));
        minute.learn(S(30), Some(S(40)));
        assert_eq!(minute.stop_at(), Some(S(15)));
        minute.learn(S(30), None);
        assert_eq!(minute.stop_at(), None);
        assert_eq!(minute.short(S(9999), Some(S(1))), None);
    }

    #[test]
    fn the_scheduler_is_asked_rarely() {
        for (left, processes, every) in [
            (Some(36_000), 1, 600),
            (Some(600), 1, 300),
            (Some(10), 4, 60),
            (None, 4, 600),
            (Some(10), 2000, 100),
        ] {
            assert_eq!(ask_again(left.map(S), processes), S(every));
        }
        assert_eq!(ask_first(0), S(0));
        assert_eq!(ask_first(1000), S(50));
    }

    proptest! {
        #[test]
        fn nothing_starts_that_cannot_end(
            left in 1..1_000_000_u64,
            grace in 0..1000_u64,
            seen in proptest::option::of(0..1_000_000_u64),
            now in 0..1_000_000_u64,
        ) {
            let mut walltime = Walltime::new(S(grace), None, None);
            walltime.learn(S(0), Some(S(left)));
            let stop_at = walltime.stop_at().unwrap();
            prop_assert!(stop_at <= S(left) && stop_at >= S(left) / 2);
            let seen = seen.map(S);
            let starts = walltime.short(S(now), seen).is_none();
            prop_assert_eq!(starts, S(now) <= walltime.last_start(seen).unwrap());
            if starts && let Some(seen) = seen {
                prop_assert!(S(now) + seen <= stop_at.max(seen));
            }
        }
    }
}
