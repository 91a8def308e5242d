//! Whether a farmer is dead, by what was observed of its journal: observations go in, a
//! verdict comes out.
//!
//! A farmer has a lease. Heartbeats renew it: each growth of its journal is one. Guarantee:
//! before the takeover time is over, no farmer is declared dead on one piece of evidence alone.
//! It is dead at once when its lock is free and its process, on our own node, has ended. It is
//! dead after two heartbeat intervals without growth when one of these two is known and the
//! other is not known. Silence for the takeover time is enough, regardless of other evidence. A
//! failed observation proves nothing. When the observer itself or the file system stood still,
//! the count of every silence is restarted. All times are from the observer's own clock.

use std::collections::HashMap;
use std::time::Duration;

use super::identity::Process;

/// A farmer renews its lease at least this often.
pub fn heartbeat(takeover: Duration) -> Duration {
    (takeover / 6).min(Duration::from_secs(10))
}

/// The takeover time of a run whose first farmer was not given another.
pub const DEFAULT_TAKEOVER: Duration = Duration::from_secs(2 * 60);

/// A farmer whose lock is free is dead after a silence of this length: two heartbeat intervals.
pub fn unlocked_after(takeover: Duration) -> Duration {
    heartbeat(takeover) * 2
}

/// How long after a heartbeat that has arrived a farmer may start tasks: others cannot
/// declare it dead before.
pub fn good_for(takeover: Duration) -> Duration {
    heartbeat(takeover) * 3 / 2
}

/// Whether a journal is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// It is held.
    Held,
    /// It is free.
    Free,
    /// Not known: an error, or a lock that does not reach this node.
    Unknown,
}

/// One observation of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When it began.
    pub began: Duration,
    /// When it ended: what was read was true at some moment between the two.
    pub ended: Duration,
    /// How long the journal was.
    pub len: u64,
    /// Whether it was locked.
    pub lock: LockState,
    /// The farmer's process.
    pub process: Process,
}

/// Why a farmer is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Its process on our own node has ended, and its lock is free.
    Gone,
    /// No heartbeat came for two intervals. In addition its lock is free, or its process, on
    /// our own node, has ended and the state of the lock is unknown.
    Unlocked,
    /// It gave no sign of life for the takeover time.
    Silent,
}

/// The verdict on a farmer after an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It gave a sign of life since the previous observation.
    Alive,
    /// Nothing is proved so far.
    Unproved,
    /// It is dead.
    Dead(Evidence),
}

/// Whether a farmer seems to be dead after a single observation. That is enough to decide which
/// process reports on a run, and for nothing else.
pub fn seems_dead(process: Process, lock: LockState) -> bool {
    process != Process::Runs && lock == LockState::Free
}

/// Since when a journal has not grown.
#[derive(Clone, Copy, Debug)]
struct Sign {
    len: u64,
    /// When the first observation of this length ended.
    since: Duration,
}

/// What one process has seen of the others.
#[derive(Debug)]
pub struct Observer {
    takeover: Duration,
    signs: HashMap<String, Sign>,
    /// When it was last known to work: an observation ended, or a planned pause ends.
    awake: Option<Duration>,
}

impl Observer {
    /// One that has seen nothing.
    pub fn new(takeover: Duration) -> Self {
        Self {
            takeover,
            signs: HashMap::new(),
            awake: None,
        }
    }

    /// The run has another takeover time.
    pub fn set_takeover(&mut self, takeover: Duration) {
        self.takeover = takeover;
    }

    /// It is `now`, and the next observation is planned for `until`: the pause until then is
    /// not a stall. The time before `now` may have been one.
    pub fn rests(&mut self, now: Duration, until: Duration) {
        self.wake(now);
        self.awake = self.awake.max(Some(until));
    }

    /// The observer works at this moment. If it stood still until now, silence in that time
    /// proves nothing.
    fn wake(&mut self, now: Duration) {
        let gap = self.awake.map(|awake| now.saturating_sub(awake));
        if gap.is_some_and(|gap| gap > self.takeover / 4) {
            self.signs.clear();
        }
        self.awake = self.awake.max(Some(now));
    }

    /// The verdict on a farmer after this observation.
    pub fn judge(&mut self, farmer: &str, look: Observation) -> Verdict {
        self.wake(look.began);
        // It observes, so a planned pause is over.
        self.awake = Some(look.began);
        self.wake(look.ended);
        let new = Sign {
            len: look.len,
            since: look.ended,
        };
        let sign = self.signs.entry(farmer.to_owned()).or_insert(new);
        if sign.len != look.len {
            *sign = new;
            return Verdict::Alive;
        }
        let silence = look.began.saturating_sub(sign.since);
        let is_overdue = silence > unlocked_after(self.takeover);
        match (look.process, look.lock) {
            (Process::Gone, LockState::Free) => Verdict::Dead(Evidence::Gone),
            (Process::Gone, LockState::Unknown) | (Process::Unknown, LockState::Free)
                if is_overdue =>
            {
                Verdict::Dead(Evidence::Unlocked)
            }
            _ if silence > self.takeover => Verdict::Dead(Evidence::Silent),
            _ => Verdict::Unproved,
        }
    }

    /// Forgets a farmer that has left or was fenced.
    pub fn forget(&mut self, farmer: &str) {
        self.signs.remove(farmer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEOVER: Duration = Duration::from_secs(2 * 60);

    /// A look at this second that took no time.
    fn look(at: u64, len: u64, lock: LockState, process: Process) -> Observation {
        let at = Duration::from_secs(at);
        Observation {
            began: at,
            ended: at,
            len,
            lock,
            process,
        }
    }

    /// The first second, of looks each five, at which a farmer that stands still is
    /// dead.
    fn dead_at(lock: LockState, process: Process) -> Option<(u64, Evidence)> {
        let mut observer = Observer::new(TAKEOVER);
        (0..200)
            .step_by(5)
            .find_map(|at| match observer.judge("a", look(at, 7, lock, process)) {
                Verdict::Dead(evidence) => Some((at, evidence)),
                Verdict::Unproved => None,
                Verdict::Alive => panic!("it never grew"),
            })
    }

    #[test]
    fn each_kind_of_silence_has_its_time() {
        use Evidence::{Gone, Silent, Unlocked};
        for (lock, process, at, evidence) in [
            (LockState::Free, Process::Gone, 0, Gone),
            (LockState::Free, Process::Unknown, 25, Unlocked),
            (LockState::Unknown, Process::Gone, 25, Unlocked),
            // A process that is there has lost its lock, or never got one.
            (LockState::Free, Process::Runs, 125, Silent),
            (LockState::Held, Process::Runs, 125, Silent),
            (LockState::Held, Process::Unknown, 125, Silent),
            // Its guard holds it while it ends the tasks.
            (LockState::Held, Process::Gone, 125, Silent),
            (LockState::Unknown, Process::Unknown, 125, Silent),
        ] {
            let found = dead_at(lock, process);
            assert_eq!(found, Some((at, evidence)), "{lock:?}, {process:?}");
        }
    }

    #[test]
    fn a_free_lock_beside_a_journal_that_grows_is_a_lost_lock() {
        let mut observer = Observer::new(TAKEOVER);
        for at in (0..1000).step_by(10) {
            let seen = look(at, at, LockState::Free, Process::Unknown);
            assert!(!matches!(observer.judge("a", seen), Verdict::Dead(_)));
        }
    }

    #[test]
    fn a_stall_between_two_looks_starts_all_silence_anew() {
        let mut observer = Observer::new(TAKEOVER);
        let held = |at| look(at, 7, LockState::Held, Process::Unknown);
        for at in (0..=120).step_by(10) {
            for farmer in ["a", "b"] {
                assert_eq!(observer.judge(farmer, held(at)), Verdict::Unproved);
            }
        }
        for farmer in ["a", "b"] {
            assert_eq!(observer.judge(farmer, held(151)), Verdict::Unproved);
        }
        for at in (160..=271).step_by(10) {
            assert_eq!(observer.judge("b", held(at)), Verdict::Unproved, "{at}");
        }
        let dead = Verdict::Dead(Evidence::Silent);
        assert_eq!(observer.judge("b", held(272)), dead);
    }

    #[test]
    fn a_stall_within_a_look_starts_all_silence_anew() {
        let mut observer = Observer::new(TAKEOVER);
        let free = |at| look(at, 7, LockState::Free, Process::Unknown);
        assert_eq!(observer.judge("a", free(0)), Verdict::Unproved);
        let slow = Observation {
            ended: Duration::from_secs(56),
            ..free(25)
        };
        assert_eq!(observer.judge("a", slow), Verdict::Unproved);
        assert_eq!(observer.judge("a", free(76)), Verdict::Unproved);
        let dead = Verdict::Dead(Evidence::Unlocked);
        assert_eq!(observer.judge("a", free(77)), dead);
    }

    #[test]
    fn a_rest_that_was_meant_is_no_stall() {
        let mut observer = Observer::new(TAKEOVER);
        let seen = |at| look(at, 7, LockState::Held, Process::Unknown);
        let mut verdicts = (0..3).map(|round| {
            let verdict = observer.judge("a", seen(round * 61));
            let at = Duration::from_secs(round * 61);
            observer.rests(at, at + Duration::from_secs(60));
            verdict
        });
        assert!(verdicts.any(|verdict| verdict == Verdict::Dead(Evidence::Silent)));
    }

    #[test]
    fn a_stall_before_a_rest_is_one() {
        let mut observer = Observer::new(TAKEOVER);
        let seen = |at| look(at, 7, LockState::Held, Process::Unknown);
        assert_eq!(observer.judge("a", seen(0)), Verdict::Unproved);
        // It looked at something else, and the file system stood still.
        let at = Duration::from_secs(115);
        observer.rests(at, at + Duration::from_secs(10));
        assert_eq!(observer.judge("a", seen(125)), Verdict::Unproved);
    }

    #[test]
    fn who_is_not_taken_for_dead_may_start_tasks_until_then() {
        for takeover in [2, 10, 60, 120, 3600].map(Duration::from_secs) {
            assert!(heartbeat(takeover) < good_for(takeover));
            assert!(good_for(takeover) < unlocked_after(takeover));
            assert!(unlocked_after(takeover) < takeover / 2);
        }
    }
}
