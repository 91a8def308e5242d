//! How the threads of a farmer wait for the lock: with pauses that the
//! supervisor can end.
//!
//! Others rely on this: a pause is one sleep. A channel would spin and yield before
//! it sleeps, which where many wait costs more than the tries.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::clock::{Clock, since_boot};
use super::message::Event;
use super::queue::Queue;
use crate::host::guard;
use crate::workdir::liveness::Waiting;
use crate::workdir::liveness::Watcher;
use crate::workdir::liveness::node::Here;

/// Waits go on as long as somebody has this; dropped, it ends them at once.
pub struct CancelOnDrop(Arc<Ended>);

/// What tells those who wait that it was dropped.
#[derive(Clone)]
pub struct CancelToken(Arc<Ended>);

#[derive(Default)]
struct Ended {
    is_true: Mutex<bool>,
    changed: Condvar,
}

/// Waits that can be ended together.
pub fn cancellation() -> (CancelOnDrop, CancelToken) {
    let ended = Arc::<Ended>::default();
    (CancelOnDrop(ended.clone()), CancelToken(ended))
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let is_true = self.0.is_true.lock();
        *is_true.unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

impl CancelToken {
    /// Waits so long; `false` when the wait was ended.
    fn pause(&self, time: Duration) -> bool {
        let Ended { is_true, changed } = &*self.0;
        let is_true = is_true.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(is_true, time, |is_true| !*is_true);
        let (is_true, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !*is_true
    }
}

/// The waits of one thread.
pub struct LockWaiter {
    clock: Clock,
    abort: CancelToken,
    events: Option<Sender<Event>>,
    takeover: Duration,
    launched: u32,
    watcher: Watcher,
    queue: Option<Arc<Queue>>,
}

impl LockWaiter {
    /// Waits until `abort` ends it; tells of long waits by `events`, or on standard
    /// error.
    pub fn new(abort: CancelToken, events: Option<Sender<Event>>, takeover: Duration) -> Self {
        Self {
            clock: Clock::start(),
            abort,
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

    /// The same, that knows already what another has seen of other farmers.
    #[must_use]
    pub fn with(self, mut watcher: Watcher) -> Self {
        watcher.observer.set_takeover(self.takeover);
        Self { watcher, ..self }
    }

    /// The same, that lets tasks be taken from this queue as long as our lease holds.
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
        self.abort.pause(time)
    }

    fn jitter(&mut self) -> f64 {
        fastrand::f64()
    }

    fn tell(&mut self, message: String) {
        match &self.events {
            Some(events) => {
                let _ = events.send(Event::Say(message));
            }
            None => {
                let _ = std::io::Write::write_fmt(
                    &mut std::io::stderr(),
                    format_args!("pytf: {message}\n"),
                );
            }
        }
    }

    fn takeover(&self) -> Duration {
        self.takeover
    }

    fn crowd(&self) -> u32 {
        self.launched
    }

    fn renewed(&mut self, begun: Duration) {
        // After a long silence only a turn tells whether we were sealed.
        if let Some(queue) = &self.queue
            && queue.life().is_good()
        {
            queue.life().sign(begun);
        }
    }

    fn watcher(&mut self) -> Option<&mut Watcher> {
        Some(&mut self.watcher)
    }

    fn end_tasks(&mut self, farmer: &str) {
        guard::end_all(farmer);
    }
}
