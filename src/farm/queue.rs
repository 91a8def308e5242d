//! The tasks that are claimed and wait for a slot of this farmer.
//!
//! The ledger puts them in, the slots take them out. Short tasks are claimed ahead, so a slot
//! finds the next one here. A slot that finds the queue empty reports that once, and waits
//! until the ledger has claimed more.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::clock::since_boot;
use super::message::LedgerRequest;
use crate::model::task::Task;

/// How often a slot asks again whether it may start a task.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The queue of one farmer.
pub struct Queue {
    slots: u64,
    /// The least time between two starts.
    interval: Duration,
    inner: Mutex<Inner>,
    changed: Condvar,
    /// For threads that wait for something else than a task: a notification to one of
    /// them must not wake a slot.
    closed: Condvar,
    requests: Sender<LedgerRequest>,
    lease: Lease,
}

/// Until when a farmer may start tasks: for some time after its last heartbeat, so that it has
/// stopped by itself before others declare it dead. Times are those since the boot: they run on
/// while the machine sleeps.
pub struct Lease {
    good_for: Duration,
    /// When the last heartbeat began, in milliseconds.
    last: AtomicU64,
    /// Only a heartbeat that began later counts.
    doubted: AtomicU64,
    /// When it was last renewed after it had run out, in milliseconds; 0: never.
    revived: AtomicU64,
    is_revoked: AtomicBool,
}

impl Lease {
    /// A lease that each heartbeat renews for this time. The first heartbeat is joining,
    /// at the moment at which that took the lock.
    pub fn new(good_for: Duration, joined: Duration) -> Self {
        Self {
            good_for,
            last: AtomicU64::new(millis(joined)),
            doubted: AtomicU64::new(0),
            revived: AtomicU64::new(0),
            is_revoked: AtomicBool::new(false),
        }
    }

    /// A heartbeat that began at this moment has been written, and no farmer had taken over then.
    pub fn renew(&self, begun: Duration) {
        if !self.is_valid() {
            let now = millis(since_boot());
            self.revived.fetch_max(now, Ordering::Relaxed);
        }
        self.last.fetch_max(millis(begun), Ordering::Relaxed);
    }

    /// An operation on the workdir failed: only a heartbeat from now on renews the lease.
    pub fn doubt(&self) {
        let now = millis(since_boot());
        self.doubted.fetch_max(now, Ordering::Relaxed);
    }

    /// Whether it has run out, or had within the last `span`: others may have begun to take our
    /// tasks over.
    pub fn has_lapsed_within(&self, span: Duration) -> bool {
        let since = millis(since_boot().saturating_sub(span));
        !self.is_valid() || self.revived.load(Ordering::Relaxed) > since
    }

    /// Others have taken our tasks over.
    pub fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
    }

    /// Whether they have, as far as we know.
    pub fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Relaxed)
    }

    /// Whether the lease still holds.
    pub fn is_valid(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let age = millis(since_boot()).saturating_sub(last);
        let is_fresh = Duration::from_millis(age) < self.good_for;
        is_fresh && last > self.doubted.load(Ordering::Relaxed) && !self.is_revoked()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The state of a queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueCounts {
    /// Slots that wait for a task.
    pub idle: u64,
    /// Tasks that wait for a slot.
    pub queued: u64,
    /// Slots that wait for a GPU.
    pub barred: u64,
    /// Whether nothing may be started now.
    pub is_paused: bool,
}

#[derive(Default)]
struct Inner {
    tasks: VecDeque<Task>,
    idle: u64,
    barred: u64,
    is_closed: bool,
    /// How many slots were idle when that was last reported to the ledger.
    idle_reported: u64,
    /// Before this moment nothing is started, since a task was started a moment ago.
    next_start: Option<Instant>,
    /// After this moment nothing is started.
    paused_after: Option<Instant>,
    is_quarantined: bool,
    is_run_paused: bool,
}

impl Inner {
    fn is_paused(&self) -> bool {
        self.is_quarantined
            || self.is_run_paused
            || self.paused_after.is_some_and(|at| Instant::now() >= at)
    }
}

impl Queue {
    /// An empty queue. The first and the last of the `slots` that find it empty report that
    /// to the ledger.
    pub fn new(slots: u32, requests: Sender<LedgerRequest>, lease: Lease) -> Self {
        Self {
            slots: slots.into(),
            interval: Duration::ZERO,
            inner: Mutex::default(),
            changed: Condvar::new(),
            closed: Condvar::new(),
            requests,
            lease,
        }
    }

    /// The same, with at least this time between two starts.
    #[must_use]
    pub fn starting_every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// The farmer's lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next task; waits for it. `None` when nothing may start any more.
    pub fn take(&self) -> Option<Task> {
        let mut inner = self.lock();
        inner.idle += 1;
        let task = loop {
            if inner.is_closed {
                break None;
            }
            if !self.lease.is_valid() {
                // The ledger renews it once it has checked that no farmer has taken over.
                let waited = self.changed.wait_timeout(inner, Duration::from_millis(100));
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if inner.is_paused() {
                // The thread that paused it resumes or closes it.
                inner = self
                    .changed
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Some(task) = inner.tasks.pop_front() {
                let Some(time) = self.until_next_start(&mut inner) else {
                    break Some(task);
                };
                inner.tasks.push_front(task);
                let waited = self.changed.wait_timeout(inner, time);
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let is_last = inner.idle + inner.barred == self.slots;
            if inner.idle_reported == 0 || is_last && inner.idle_reported < self.slots {
                inner.idle_reported = inner.idle;
                // The ledger is gone only when the queue is closed.
                let _ = self.requests.send(LedgerRequest::Starved);
            }
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        };
        inner.idle -= 1;
        task
    }

    /// For how long nothing may be started, since another task was started a moment ago. None:
    /// a task is started now.
    fn until_next_start(&self, inner: &mut Inner) -> Option<Duration> {
        if self.interval.is_zero() {
            return None;
        }
        let now = Instant::now();
        if let Some(at) = inner.next_start.filter(|at| *at > now) {
            return Some(at - now);
        }
        inner.next_start = now.checked_add(self.interval);
        None
    }

    /// Adds claimed tasks at the end.
    pub fn put(&self, tasks: Vec<Task>) {
        let mut inner = self.lock();
        inner.idle_reported = 0;
        let n = tasks.len();
        inner.tasks.extend(tasks);
        let idle = inner.idle;
        drop(inner);
        if n == 1 || idle == 1 {
            self.changed.notify_one();
        } else if n > 0 {
            self.changed.notify_all();
        }
    }

    /// Starts no task after this moment; with none, tasks are started again.
    pub fn pause_after(&self, at: Option<Instant>) {
        self.change_pause(|inner| inner.paused_after = at);
    }

    /// Starts no task while the node is in quarantine.
    pub fn quarantine(&self, is_on: bool) {
        self.change_pause(|inner| inner.is_quarantined = is_on);
    }

    /// Starts no task while the run is paused.
    pub fn pause_run(&self, is_on: bool) {
        self.change_pause(|inner| inner.is_run_paused = is_on);
    }

    fn change_pause(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        let was_paused = inner.is_paused();
        change(&mut inner);
        let is_free = was_paused && !inner.is_paused();
        drop(inner);
        if is_free {
            self.changed.notify_all();
        }
    }

    /// Starts no task any more.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
        self.closed.notify_all();
    }

    /// Waits for some time or until the queue is closed; whether it is.
    pub fn is_closed_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut inner = self.lock();
        while !inner.is_closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.closed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits until the slot may start a task; false when the queue is closed. Meanwhile
    /// the slot is not idle: no task is claimed for it.
    pub fn is_open_for(&self, mut may_start: impl FnMut() -> bool) -> bool {
        if may_start() {
            return true;
        }
        self.lock().barred += 1;
        let is_open = loop {
            if self.is_closed_within(ASK_EVERY) {
                break false;
            }
            if may_start() {
                break true;
            }
        };
        self.lock().barred -= 1;
        is_open
    }

    /// Waits for this time, or until the queue is closed; whether it is. Meanwhile the slot is
    /// not idle: no task is claimed for it.
    pub fn is_closed_before(&self, time: Duration) -> bool {
        self.lock().barred += 1;
        let is_closed = self.is_closed_within(time);
        self.lock().barred -= 1;
        is_closed
    }

    /// Its state at this moment.
    pub fn counts(&self) -> QueueCounts {
        let inner = self.lock();
        QueueCounts {
            idle: inner.idle,
            queued: inner.tasks.len() as u64,
            barred: inner.barred,
            is_paused: inner.is_paused(),
        }
    }

    /// Takes certain tasks out again, to give them back.
    pub fn take_out(&self, is_wanted: impl Fn(&Task) -> bool) -> Vec<Task> {
        let mut inner = self.lock();
        let all = std::mem::take(&mut inner.tasks).into_iter();
        let (out, stay) = all.partition::<VecDeque<_>, _>(is_wanted);
        inner.tasks = stay;
        out.into()
    }

    /// Takes the last `n` tasks out again, to give them back.
    pub fn retract(&self, n: u64) -> Vec<Task> {
        let mut inner = self.lock();
        let keep = (inner.tasks.len() as u64).saturating_sub(n);
        inner
            .tasks
            .split_off(usize::try_from(keep).unwrap_or(0))
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_dates_from_joining_however_late_its_first_task_is() {
        let now = since_boot();
        assert!(Lease::new(3600 * SECOND, now).is_valid());
        // After a freeze of that length others may have taken over.
        let late = Lease::new(SECOND, now.saturating_sub(2 * SECOND));
        assert!(!late.is_valid());
        assert!(late.has_lapsed_within(Duration::ZERO));
        late.renew(now + 3600 * SECOND);
        assert!(late.is_valid());
        assert!(late.has_lapsed_within(3600 * SECOND));
        assert!(!late.has_lapsed_within(Duration::ZERO));
        late.renew(now + 3601 * SECOND);
        assert!(
            !late.has_lapsed_within(Duration::ZERO),
            "it had not run out"
        );
    }

    /// The next start waits, whoever asks, and not beyond the end of the farm.
    #[test]
    fn between_two_starts_is_the_interval() {
        let (requests, _requests) = crossbeam_channel::unbounded();
        let lease = Lease::new(3600 * SECOND, since_boot());
        let queue = Queue::new(2, requests, lease).starting_every(3600 * SECOND);
        let task = |id| Task {
            id: crate::model::task::TaskId(id),
            line: Vec::new(),
            attempt: 1,
            failures: 0,
        };
        queue.put(vec![task(0), task(1)]);
        assert_eq!(queue.take().map(|task| task.id.0), Some(0));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| queue.take());
            while queue.counts().idle == 0 {
                std::thread::yield_now();
            }
            queue.close();
            assert!(second.join().unwrap().is_none());
        });
        assert_eq!(queue.counts().queued, 1, "it can be given back");
    }

    /// A heartbeat that began before something was refused does not tell whether others
    /// have taken over since.
    #[test]
    fn after_a_refusal_only_a_later_heartbeat_counts() {
        let joined = since_boot();
        let lease = Lease::new(3600 * SECOND, joined);
        lease.doubt();
        assert!(!lease.is_valid());
        lease.renew(joined);
        assert!(!lease.is_valid(), "it was begun before");
        lease.renew(since_boot() + SECOND);
        assert!(lease.is_valid());
    }
}
