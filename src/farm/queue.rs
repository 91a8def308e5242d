//! The tasks that are claimed and wait for a slot of this farmer.
//!
//! The ledger puts them in, the slots take them out: between two tasks of a
//! slot there is no round trip to anybody. A slot that finds it empty says so
//! once, which is what makes the ledger hurry.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::clock::since_boot;
use super::message::Order;
use crate::model::task::Task;

/// How often it is asked whether a slot may start a task.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The queue of one farmer.
pub struct Queue {
    slots: u64,
    inner: Mutex<Inner>,
    changed: Condvar,
    /// For those who wait for something else than a task: a word to one of them
    /// must not be lost to a slot.
    closed: Condvar,
    hungry: Sender<Order>,
    life: Life,
}

/// Until when a farmer may start tasks: for some time after its last sign of
/// life, so that it has stopped by itself before others take it for dead. Times are
/// those since the boot: while a machine sleeps, others do not.
pub struct Life {
    good_for: Duration,
    /// When the last sign of life was begun, in milliseconds.
    last: AtomicU64,
    /// A sign counts that was begun later.
    doubted: AtomicU64,
    is_over: AtomicBool,
}

impl Life {
    /// A life whose every sign is good for so long. The first is that it has joined: it
    /// dates from when that took the lock, however long ago that is by now.
    pub fn new(good_for: Duration, joined: Duration) -> Self {
        Self {
            good_for,
            last: AtomicU64::new(millis(joined)),
            doubted: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// A sign has arrived that was begun at this moment, and nobody had sealed us then.
    pub fn sign(&self, begun: Duration) {
        self.last.fetch_max(millis(begun), Ordering::Relaxed);
    }

    /// Something was refused: only a sign from now on tells that we are not cut off.
    pub fn doubt(&self) {
        let now = millis(since_boot());
        self.doubted.fetch_max(now, Ordering::Relaxed);
    }

    /// Others have taken our tasks over.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether they have, as far as we know.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Whether the last sign is good still.
    pub fn is_good(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let age = millis(since_boot()).saturating_sub(last);
        let is_fresh = Duration::from_millis(age) < self.good_for;
        is_fresh && last > self.doubted.load(Ordering::Relaxed) && !self.is_over()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How a queue stands.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Slots that wait for a task.
    pub idle: u64,
    /// Tasks that wait for a slot.
    pub queued: u64,
    /// Slots that wait for something else than a task.
    pub barred: u64,
    /// Whether nothing may be started now.
    pub is_held: bool,
}

#[derive(Default)]
struct Inner {
    tasks: VecDeque<Task>,
    idle: u64,
    barred: u64,
    is_closed: bool,
    /// How many slots were idle when the ledger was last told.
    cried: u64,
    /// After this moment nothing is started.
    held_after: Option<Instant>,
    is_quarantined: bool,
}

impl Inner {
    fn is_held(&self) -> bool {
        self.is_quarantined || self.held_after.is_some_and(|at| Instant::now() >= at)
    }
}

impl Queue {
    /// An empty queue; the first and the last of the `slots` that find it so send
    /// a word to the ledger.
    pub fn new(slots: u32, hungry: Sender<Order>, life: Life) -> Self {
        Self {
            slots: slots.into(),
            inner: Mutex::default(),
            changed: Condvar::new(),
            closed: Condvar::new(),
            hungry,
            life,
        }
    }

    /// The farmer's life.
    pub fn life(&self) -> &Life {
        &self.life
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
            if !self.life.is_good() {
                // The ledger gives the next sign once it has looked whether we
                // were sealed.
                let waited = self.changed.wait_timeout(inner, Duration::from_millis(100));
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if inner.is_held() {
                // Whoever holds it lets it go, or closes it.
                inner = self
                    .changed
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Some(task) = inner.tasks.pop_front() {
                break Some(task);
            }
            let is_last = inner.idle + inner.barred == self.slots;
            if inner.cried == 0 || is_last && inner.cried < self.slots {
                inner.cried = inner.idle;
                // The ledger is gone only when the queue is closed.
                let _ = self.hungry.send(Order::Hungry);
            }
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        };
        inner.idle -= 1;
        task
    }

    /// Adds claimed tasks at the end.
    pub fn put(&self, tasks: Vec<Task>) {
        let mut inner = self.lock();
        inner.cried = 0;
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

    /// Lets nothing be started after this moment; none lets everything.
    pub fn hold_after(&self, at: Option<Instant>) {
        self.change_hold(|inner| inner.held_after = at);
    }

    /// Lets nothing be started as long as the node is doubted.
    pub fn quarantine(&self, is_on: bool) {
        self.change_hold(|inner| inner.is_quarantined = is_on);
    }

    fn change_hold(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        let was_held = inner.is_held();
        change(&mut inner);
        let is_free = was_held && !inner.is_held();
        drop(inner);
        if is_free {
            self.changed.notify_all();
        }
    }

    /// Lets nobody start anything any more.
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

    /// Waits until the slot may start a task, which is asked now and then; false
    /// when nothing may start any more. Meanwhile it is not idle: no task is
    /// claimed for it.
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

    /// How it stands at this moment.
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts {
            idle: inner.idle,
            queued: inner.tasks.len() as u64,
            barred: inner.barred,
            is_held: inner.is_held(),
        }
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
    fn a_life_dates_from_joining_however_late_its_first_task_is() {
        let now = since_boot();
        assert!(Life::new(3600 * SECOND, now).is_good());
        // Frozen for as long in between, it may be sealed by now.
        let late = Life::new(SECOND, now.saturating_sub(2 * SECOND));
        assert!(!late.is_good());
        late.sign(now + 3600 * SECOND);
        assert!(late.is_good());
    }
}
