//! How the threads of a farmer wait for the lock: with pauses that another thread can end.
//!
//! A pause is a single wait on a condition variable. A channel would spin and yield first,
//! which costs more than the tries when many processes wait.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::clock::{Clock, since_boot};
use super::message::Event;
use super::queue::Queue;
use crate::host::guard;
use crate::ui::progress::warn;
use crate::workdir::liveness::own_node::Here;
use crate::workdir::liveness::{Waiting, Watcher};

/// Ends the waits of its [`CancelToken`]s when it is dropped.
pub struct CancelOnDrop(Arc<Canceled>);

/// A pause with this token ends when its [`CancelOnDrop`] is dropped.
#[derive(Clone)]
pub struct CancelToken(Arc<Canceled>);

#[derive(Default)]
struct Canceled {
    is_canceled: Mutex<bool>,
    changed: Condvar,
}

/// A pair: dropping the first ends the pauses of the second and its clones.
pub fn cancellation() -> (CancelOnDrop, CancelToken) {
    let ended = Arc::<Canceled>::default();
    (CancelOnDrop(ended.clone()), CancelToken(ended))
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let is_canceled = self.0.is_canceled.lock();
        *is_canceled.unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

impl CancelToken {
    /// Waits for this time; `false` when the wait was canceled.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let Canceled {
            is_canceled,
            changed,
        } = &*self.0;
        let is_canceled = is_canceled.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(is_canceled, time, |is_canceled| !*is_canceled);
        let (is_canceled, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !*is_canceled
    }
}

/// How one thread waits for the lock.
pub struct LockWaiter {
    clock: Clock,
    cancel: CancelToken,
    events: Option<Sender<Event>>,
    takeover: Duration,
    launched: u32,
    watcher: Watcher,
    queue: Option<Arc<Queue>>,
}

impl LockWaiter {
    /// Waits until `cancel` ends it; reports long waits by `events`, or on standard error.
    pub fn new(cancel: CancelToken, events: Option<Sender<Event>>, takeover: Duration) -> Self {
        Self {
            clock: Clock::start(),
            cancel,
            events,
            takeover,
            launched: 1,
            watcher: Watcher::new(Box::new(Here::read()), takeover),
            queue: None,
        }
    }

    /// The takeover time of the run that we join, when it has one.
    pub fn set_takeover(&mut self, takeover: Duration) {
        self.takeover = takeover;
        self.watcher.observer.set_takeover(takeover);
    }

    /// The same, with what another has seen of other farmers.
    #[must_use]
    pub fn with(self, mut watcher: Watcher) -> Self {
        watcher.observer.set_takeover(self.takeover);
        Self { watcher, ..self }
    }

    /// The same, which renews the lease of this queue while it holds.
    #[must_use]
    pub fn renewing(self, queue: Arc<Queue>) -> Self {
        let queue = Some(queue);
        Self { queue, ..self }
    }

    /// What it has seen of other farmers.
    pub fn into_watcher(self) -> Watcher {
        self.watcher
    }

    /// The same, of one of so many processes that were launched together.
    #[must_use]
    pub fn among(self, launched: u32) -> Self {
        Self { launched, ..self }
    }
}

impl Waiting for LockWaiter {
    fn now(&self) -> Duration {
        since_boot()
    }

    fn micros(&self) -> u64 {
        self.clock.micros(Instant::now())
    }

    fn pause(&mut self, time: Duration) -> bool {
        self.cancel.pause(time)
    }

    fn jitter(&mut self) -> f64 {
        fastrand::f64()
    }

    fn notify(&mut self, message: String) {
        match &self.events {
            Some(events) => drop(events.send(Event::Say(message))),
            None => warn(&message),
        }
    }

    fn takeover(&self) -> Duration {
        self.takeover
    }

    fn contenders(&self) -> u32 {
        self.launched
    }

    fn lease_renewed(&mut self, begun: Duration) {
        // When the lease has run out, only a turn finds out whether others took over.
        if let Some(queue) = &self.queue
            && queue.lease().is_valid()
        {
            queue.lease().renew(begun);
        }
    }

    fn watcher(&mut self) -> Option<&mut Watcher> {
        Some(&mut self.watcher)
    }

    fn end_tasks(&mut self, farmer: &str) {
        guard::end_all(farmer);
    }
}
