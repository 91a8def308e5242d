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
use crate::model::allocator::{Allocator, Capacity, Claimer, ResourceLease, Withheld};
use crate::model::attributes::Attributes;
use crate::model::devices::availability::GpuState;
use crate::model::needs::Needs;
use crate::model::record::Deals;
use crate::model::task::{Task, TaskId};

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

/// Tells the state of each GPU.
pub(super) type GpuStates = Box<dyn Fn() -> Vec<GpuState> + Send + Sync>;

/// What deals resources to tasks, once the first one has needs of its own.
pub(super) struct Dealing {
    allocator: Allocator<Task>,
    /// What a task needs that says nothing.
    defaults: Needs,
    states: Option<GpuStates>,
    /// Whether the GPUs of the node are known.
    knows_gpus: bool,
    /// The leases of tasks that were started without one, by their slots.
    adopted: Vec<Option<ResourceLease>>,
    began: Instant,
}

impl Dealing {
    /// With this allocator; a task that says nothing has the needs of `defaults`.
    pub(super) fn new(allocator: Allocator<Task>, defaults: Needs, knows_gpus: bool) -> Self {
        Self {
            allocator,
            defaults,
            knows_gpus,
            states: None,
            adopted: Vec::new(),
            began: Instant::now(),
        }
    }

    fn put(&mut self, task: Task) {
        // A line that cannot be read is one of a later version, and runs as it is.
        let attributes = Attributes::of_line(&task.line).unwrap_or_default();
        let needs = Needs::of(&attributes, task.attempt, &self.defaults);
        self.allocator.put(task, needs);
    }

    /// Asks which GPUs can be used; whether all can.
    fn look_at_gpus(&mut self) -> bool {
        let states = self.states.as_ref().map(|states| states());
        let mut are_all = true;
        for (gpu, state) in states.into_iter().flatten().enumerate() {
            self.allocator.set_usable(gpu, state == GpuState::Usable);
            if state == GpuState::Lost {
                self.allocator.lose(gpu);
            }
            are_all &= state != GpuState::Busy;
        }
        are_all
    }

    fn take(&mut self) -> Option<(Task, ResourceLease)> {
        self.allocator.take(self.began.elapsed())
    }

    fn give_back(&mut self, lease: &ResourceLease) {
        self.allocator.give_back(lease, self.began.elapsed());
    }

    /// For how many of these idle slots a task could start that says nothing. One for which
    /// resources are collected waits beside them.
    fn wanting(&self, idle: u64) -> u64 {
        let (used, ..) = self.allocator.in_use();
        let (dealt, _) = self.allocator.dealt();
        let free = dealt.saturating_sub(used);
        let reserved = u64::from(self.allocator.reserved_for().is_some());
        idle.min(u64::from(free / self.defaults.cpus.max(1))) + reserved
    }
}

/// A task to be started.
pub(super) struct Taken {
    /// The task.
    pub task: Task,
    /// What it has of the node; `None`: what its slot has.
    pub lease: Option<ResourceLease>,
}

#[derive(Default)]
struct Inner {
    tasks: VecDeque<Task>,
    dealing: Option<Dealing>,
    /// The slots whose tasks were started without a lease.
    plain: Vec<bool>,
    /// How often something became free.
    returned: u64,
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
    /// For how long nothing may be started, since another task was started a moment ago.
    fn until_next_start(&self, interval: Duration) -> Option<Duration> {
        let at = self.next_start.filter(|_| !interval.is_zero())?;
        Some(at.saturating_duration_since(Instant::now())).filter(|time| !time.is_zero())
    }

    /// A task is started now.
    fn has_started(&mut self, interval: Duration) {
        if !interval.is_zero() {
            self.next_start = Instant::now().checked_add(interval);
        }
    }

    /// The next task that may start; marks the slot as busy.
    fn next(&mut self, slot: usize) -> Option<Taken> {
        if let Some(dealing) = &mut self.dealing {
            let (task, lease) = dealing.take()?;
            let lease = Some(lease);
            return Some(Taken { task, lease });
        }
        let task = self.tasks.pop_front()?;
        self.plain[slot] = true;
        Some(Taken { task, lease: None })
    }

    /// The task of a slot that had no lease has ended.
    fn ended(&mut self, slot: usize) {
        self.plain[slot] = false;
        if let Some(dealing) = &mut self.dealing
            && let Some(lease) = dealing.adopted.get_mut(slot).and_then(Option::take)
        {
            dealing.give_back(&lease);
            self.returned += 1;
        }
    }

    fn queued(&self) -> u64 {
        let waiting = self.dealing.as_ref();
        let waiting = waiting.map_or(0, |dealing| dealing.allocator.waiting());
        (self.tasks.len() + waiting) as u64
    }

    /// The slots for which tasks are to be claimed.
    fn wanting(&self) -> u64 {
        match &self.dealing {
            Some(dealing) if self.queued() > 0 || dealing.allocator.in_use().0 > 0 => {
                dealing.wanting(self.idle)
            }
            _ => self.idle,
        }
    }

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
            inner: Mutex::new(Inner {
                plain: vec![false; slots as usize],
                ..Inner::default()
            }),
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

    /// The next task for this slot, whose last one has ended; waits for it. `None` when nothing
    /// may start any more.
    pub(super) fn take(&self, slot: usize) -> Option<Taken> {
        let mut inner = self.lock();
        inner.ended(slot);
        inner.idle += 1;
        let taken = loop {
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
            let dealing = inner.dealing.as_mut();
            let waits_for_gpu = dealing.is_some_and(|dealing| !dealing.look_at_gpus());
            if inner.queued() > 0
                && let Some(time) = inner.until_next_start(self.interval)
            {
                let waited = self.changed.wait_timeout(inner, time);
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if let Some(taken) = inner.next(slot) {
                inner.has_started(self.interval);
                if inner.dealing.is_some() && inner.idle > 1 && inner.queued() > 0 {
                    // Others may start beside it.
                    self.changed.notify_one();
                }
                break Some(taken);
            }
            let is_last = inner.idle + inner.barred == self.slots;
            let is_starved = inner.dealing.is_none() || inner.wanting() > inner.queued();
            if is_starved
                && (inner.idle_reported == 0 || is_last && inner.idle_reported < self.slots)
            {
                inner.idle_reported = inner.idle;
                // The ledger is gone only when the queue is closed.
                let _ = self.requests.send(LedgerRequest::Starved);
            }
            inner = if waits_for_gpu && inner.queued() > 0 {
                let waited = self.changed.wait_timeout(inner, ASK_EVERY);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                let waited = self.changed.wait(inner);
                waited.unwrap_or_else(PoisonError::into_inner)
            };
        };
        inner.idle -= 1;
        taken
    }

    /// A task has ended, and what it had is free.
    pub fn give_back(&self, lease: &ResourceLease) {
        let mut inner = self.lock();
        if let Some(dealing) = &mut inner.dealing {
            dealing.give_back(lease);
        }
        inner.returned += 1;
        inner.idle_reported = 0;
        if inner.queued() > 0 {
            self.changed.notify_one();
        }
    }

    /// Deals resources from now on. `fixed` has the CPUs and GPUs of each slot, for the tasks
    /// that run already.
    pub(super) fn deal(&self, mut dealing: Dealing, fixed: &[(Vec<usize>, Vec<usize>)]) {
        let mut inner = self.lock();
        dealing.adopted = vec![None; fixed.len()];
        for (slot, (cpus, gpus)) in fixed
            .iter()
            .enumerate()
            .filter(|(slot, _)| inner.plain[*slot])
        {
            let needs = dealing.defaults;
            let lease = dealing.allocator.adopt(needs, cpus, gpus.clone());
            dealing.adopted[slot] = Some(lease);
        }
        for task in std::mem::take(&mut inner.tasks) {
            dealing.put(task);
        }
        inner.dealing = Some(dealing);
    }

    /// The GPUs of the node are known from now on: the allocator gets them.
    pub(super) fn give_gpus(&self, give: impl FnOnce(&mut Allocator<Task>)) {
        let mut inner = self.lock();
        inner.returned += 1;
        if let Some(dealing) = &mut inner.dealing {
            dealing.knows_gpus = true;
            give(&mut dealing.allocator);
        }
    }

    /// What is dealt: CPUs, GPUs, and KiB of memory if that is known.
    pub(super) fn has(&self) -> Option<(u32, u32, Option<u64>)> {
        let inner = self.lock();
        let allocator = &inner.dealing.as_ref()?.allocator;
        let capacity = allocator.capacity();
        Some((capacity.cpus, allocator.gpus(), capacity.mem_kib))
    }

    /// What is dealt, and the task for which something is collected, with since when; `None`
    /// while no task has needs of its own.
    pub(super) fn dealt(&self) -> Option<(Deals, Option<(TaskId, Instant)>)> {
        let inner = self.lock();
        let dealing = inner.dealing.as_ref()?;
        let allocator = &dealing.allocator;
        let capacity = allocator.capacity();
        let deals = Deals {
            cpus: capacity.cpus,
            gpus: dealing.knows_gpus.then(|| allocator.gpus()),
            mem: capacity.mem_kib,
            withheld: allocator.withheld(),
            reserved: None,
        };
        let reserved = allocator.reserved_for().zip(allocator.reserved_since());
        let reserved = reserved.map(|((task, _), since)| (task.id, dealing.began + since));
        Some((deals, reserved))
    }

    /// Whether such a task can run here when nothing else does; also while that is unknown.
    pub(super) fn can_ever_hold(&self, needs: &Needs) -> bool {
        let inner = self.lock();
        inner.dealing.as_ref().is_none_or(|dealing| {
            let mut needs = *needs;
            if !dealing.knows_gpus {
                needs.gpus = 0;
            }
            dealing.allocator.can_ever_hold(&needs)
        })
    }

    /// The longest run so far here of a task with these needs.
    pub(super) fn usual(&self, needs: &Needs) -> Option<Duration> {
        let inner = self.lock();
        inner.dealing.as_ref()?.allocator.usual(needs)
    }

    /// What decides which tasks to claim, once leases are dealt.
    pub(super) fn claimer(&self, ahead: u64) -> Option<Claimer> {
        let inner = self.lock();
        let dealing = inner.dealing.as_ref()?;
        Some(dealing.allocator.claimer(ahead))
    }

    /// How often something became free: what did not fit before may fit now.
    pub(super) fn returned(&self) -> u64 {
        self.lock().returned
    }

    /// Whether tasks may start on each of the GPUs, to be asked before each start.
    pub(super) fn ask_about_gpus(&self, states: GpuStates) {
        if let Some(dealing) = &mut self.lock().dealing {
            dealing.states = Some(states);
        }
    }

    /// Others use this much of the node from now on, of what `used` is told. Returns the tasks
    /// that cannot start beside that: they may elsewhere.
    pub(super) fn withhold(&self, used: impl FnOnce(&Capacity) -> Withheld) -> Vec<Task> {
        let mut inner = self.lock();
        let Some(dealing) = &mut inner.dealing else {
            return Vec::new();
        };
        let withheld = used(dealing.allocator.capacity());
        if withheld == dealing.allocator.withheld() {
            return Vec::new();
        }
        let unfit = dealing.allocator.withhold(withheld);
        inner.returned += 1;
        inner.idle_reported = 0;
        drop(inner);
        self.changed.notify_all();
        unfit
    }

    /// Adds claimed tasks at the end. Returns those that this node cannot hold.
    pub fn put(&self, tasks: Vec<Task>) -> Vec<Task> {
        let mut inner = self.lock();
        inner.idle_reported = 0;
        let n = tasks.len();
        let Some(dealing) = &mut inner.dealing else {
            inner.tasks.extend(tasks);
            self.notify(inner, n);
            return Vec::new();
        };
        for task in tasks {
            dealing.put(task);
        }
        let unfit = dealing.allocator.take_unfit();
        self.notify(inner, n);
        unfit
    }

    fn notify(&self, inner: MutexGuard<'_, Inner>, n: usize) {
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
            idle: inner.wanting(),
            queued: inner.queued(),
            barred: inner.barred,
            is_paused: inner.is_paused(),
        }
    }

    /// Takes certain tasks out again, to give them back.
    pub fn take_out(&self, is_wanted: impl Fn(&Task) -> bool) -> Vec<Task> {
        let mut inner = self.lock();
        if let Some(dealing) = &mut inner.dealing {
            return dealing.allocator.take_out(|task, _| is_wanted(task));
        }
        let all = std::mem::take(&mut inner.tasks).into_iter();
        let (out, stay) = all.partition::<VecDeque<_>, _>(is_wanted);
        inner.tasks = stay;
        out.into()
    }

    /// Takes the tasks out that may need more time than is left: by the limit that is said of them,
    /// or by what such tasks have needed here.
    pub(super) fn take_late(&self, left: Option<Duration>) -> Vec<Task> {
        let Some(left) = left else { return Vec::new() };
        let mut inner = self.lock();
        let Some(dealing) = &mut inner.dealing else {
            return Vec::new();
        };
        let says_limit = |task: &Task| {
            // A line that cannot be read is one of a later version, and runs as it is.
            Attributes::of_line(&task.line).is_ok_and(|said| said.time.is_some())
        };
        dealing.allocator.take_late(left, says_limit)
    }

    /// Takes the last `n` tasks out again, to give them back.
    pub fn retract(&self, n: u64) -> Vec<Task> {
        let mut inner = self.lock();
        if let Some(dealing) = &mut inner.dealing {
            let mut keep = (dealing.allocator.waiting() as u64).saturating_sub(n);
            return dealing.allocator.take_out(|_, _| {
                let is_kept = keep > 0;
                keep = keep.saturating_sub(1);
                !is_kept
            });
        }
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
        assert_eq!(queue.take(0).map(|taken| taken.task.id.0), Some(0));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| queue.take(1));
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
