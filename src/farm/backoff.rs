//! The tasks that failed here and are tried again: kept back for a while, and then left to other
//! nodes as long as these may still try them.
//!
//! The ledger asks it before each turn what goes back, and after each claim what it should not
//! have got. Without a clock and without I/O. Guarantee: a task is in here or in the session's
//! hands, never in both; each leaves by itself, and all of them leave with [`Backoff::take_all`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use crate::model::task::{Task, TaskId};

/// For how long a task is left to others after it could have started again here.
const LEFT_FOR: Duration = Duration::from_secs(60);
/// For how long it is not claimed again at first; each time twice as long. Farmers that are idle
/// look for tasks at least this often.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The most tasks that are kept back, and of which it is remembered that they failed here.
const MOST: usize = 10_000;

/// The tasks of one farmer that are tried again.
#[derive(Default)]
pub(super) struct Backoff {
    /// Those that are kept back, by the time at which they go back.
    held: BTreeMap<(Instant, TaskId), Task>,
    /// Those that failed here.
    here: HashMap<TaskId, FailedHere>,
    /// One for each task in the queue that is left to others: until when.
    left: BinaryHeap<Reverse<Instant>>,
}

/// A task that failed here.
struct FailedHere {
    /// Until when others are to try it.
    until: Instant,
    /// How long it is not claimed again when it goes back next.
    pause: Duration,
}

impl Backoff {
    /// A task has failed here, and is kept back until then. Returns the one that goes back at
    /// once, where there are too many.
    pub(super) fn hold(&mut self, task: Task, until: Instant, now: Instant) -> Option<Task> {
        if self.here.len() >= MOST {
            self.here.retain(|_, failed| failed.until > now);
        }
        if self.here.len() < MOST {
            let failed = FailedHere {
                until: until + LEFT_FOR,
                pause: FIRST_PAUSE,
            };
            self.here.insert(task.id, failed);
        }
        self.held.insert((until, task.id), task);
        let is_full = self.held.len() > MOST;
        is_full
            .then(|| self.held.pop_first())
            .flatten()
            .map(|(_, task)| task)
    }

    /// Whether nothing is kept back.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Those that go back now. `claiming` is how many farmers claim tasks, this one included.
    pub(super) fn take_due(&mut self, claiming: u32, now: Instant) -> Vec<Task> {
        let mut due = Vec::new();
        while let Some(first) = self.held.first_entry()
            && first.key().0 <= now
        {
            let task = first.remove();
            // It has failed once more than it had when it was claimed.
            self.leave(task.id, task.failures + 1, claiming, now);
            due.push(task);
        }
        due
    }

    /// All that are kept back.
    pub(super) fn take_all(&mut self) -> Vec<Task> {
        std::mem::take(&mut self.held).into_values().collect()
    }

    /// Takes certain ones out.
    pub(super) fn take_out(&mut self, is_wanted: impl Fn(&Task) -> bool) -> Vec<Task> {
        let (out, stay) = std::mem::take(&mut self.held)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, task)| is_wanted(task));
        self.held = stay;
        out.into_values().collect()
    }

    /// Takes those out of claimed tasks that others are to try first: they go back, and are
    /// claimed again after a pause.
    pub(super) fn take_left(
        &mut self,
        tasks: &mut Vec<Task>,
        claiming: u32,
        now: Instant,
    ) -> Vec<Task> {
        if self.here.is_empty() {
            return Vec::new();
        }
        let is_left = |task: &mut Task| self.leave(task.id, task.failures, claiming, now);
        tasks.extract_if(.., is_left).collect()
    }

    /// Whether a task is left to others now: it failed here, and another farmer may not have
    /// tried it yet.
    fn leave(&mut self, id: TaskId, failures: u32, claiming: u32, now: Instant) -> bool {
        let Some(failed) = self.here.get_mut(&id) else {
            return false;
        };
        if claiming <= failures.max(1) || failed.until <= now {
            self.here.remove(&id);
            return false;
        }
        self.left.push(Reverse(now + failed.pause));
        failed.pause *= 2;
        true
    }

    /// How many of the tasks that wait are left to others.
    pub(super) fn left(&self, now: Instant) -> u64 {
        self.left
            .iter()
            .filter(|Reverse(until)| *until > now)
            .count() as u64
    }

    /// Drops what is over; when there is something to do next.
    pub(super) fn next_at(&mut self, now: Instant) -> Option<Instant> {
        while self.left.peek().is_some_and(|Reverse(until)| *until <= now) {
            self.left.pop();
        }
        let due = self.held.first_key_value().map(|((at, _), _)| *at);
        let free = self.left.peek().map(|Reverse(until)| *until);
        due.into_iter().chain(free).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn task(id: u64, failures: u32) -> Task {
        Task {
            id: TaskId(id),
            line: Vec::new(),
            attempt: failures + 1,
            failures,
        }
    }

    fn ids(tasks: &[Task]) -> Vec<u64> {
        tasks.iter().map(|task| task.id.0).collect()
    }

    #[test]
    fn a_task_is_kept_back_for_its_time() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        assert_eq!(backoff.next_at(now), None);
        for (id, delay) in [(1, 4), (2, 1), (3, 2)] {
            assert_eq!(backoff.hold(task(id, 0), now + S(delay), now), None);
        }
        assert_eq!(backoff.next_at(now), Some(now + S(1)));
        assert_eq!(ids(&backoff.take_due(1, now)), [0; 0]);
        assert_eq!(ids(&backoff.take_due(1, now + S(2))), [2, 3]);
        assert_eq!(ids(&backoff.take_out(|task| task.id.0 == 3)), [0; 0]);
        assert_eq!(ids(&backoff.take_out(|task| task.id.0 == 1)), [1]);
        assert!(backoff.is_empty());
    }

    #[test]
    fn of_too_many_the_one_that_is_due_first_goes_back() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        for id in 0..MOST as u64 {
            assert_eq!(backoff.hold(task(id, 0), now + S(id + 1), now), None);
        }
        let out = backoff.hold(task(99_999, 0), now + S(99_999), now);
        assert_eq!(out, Some(task(0, 0)));
        assert_eq!(backoff.take_all().len(), MOST);
    }

    /// It is claimed again after growing pauses, and in the end it runs here.
    #[test]
    fn what_failed_here_is_left_to_others_for_a_minute() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        backoff.hold(task(7, 0), now, now);
        assert_eq!(ids(&backoff.take_due(2, now)), [7]);
        let (mut at, mut pauses) = (now, Vec::new());
        loop {
            let next = backoff.next_at(at).unwrap();
            assert_eq!(backoff.left(at), 1);
            pauses.push((next - at).as_secs());
            at = next;
            assert_eq!(backoff.left(at), 0);
            let mut claimed = vec![task(5, 0), task(7, 1)];
            if backoff.take_left(&mut claimed, 2, at).is_empty() {
                assert_eq!(ids(&claimed), [5, 7]);
                break;
            }
            assert_eq!(ids(&claimed), [5]);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32]);
        assert_eq!(backoff.next_at(at), None);
    }

    #[test]
    fn nothing_is_left_to_farmers_that_are_not_there_or_have_tried_it() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        for (failures, claiming, is_left) in
            [(1, 1, false), (1, 2, true), (2, 2, false), (2, 3, true)]
        {
            backoff.hold(task(7, failures - 1), now, now);
            assert_eq!(ids(&backoff.take_due(claiming, now)), [7]);
            assert_eq!(backoff.left(now) > 0, is_left, "{failures} {claiming}");
            backoff.left.clear();
        }
    }
}
