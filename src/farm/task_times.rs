//! How long tasks took: all together for the summary, and each one that finished, to decide
//! near the end of the allocation whether there is time for another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::since_boot;
use crate::host::process::Running;
use crate::model::walltime::lengths::Lengths;

/// How long tasks took, reported by the slots.
#[derive(Default)]
pub(super) struct TaskTimes {
    /// All together, in microseconds.
    busy: AtomicU64,
    finished: Mutex<Finished>,
    /// When all tasks are stopped, in milliseconds since the boot, and one more; 0: not known.
    stop_at: AtomicU64,
}

/// The times of tasks that finished.
#[derive(Default)]
struct Finished {
    lengths: Lengths,
    /// When this process was last continued: tasks that were frozen with it do not count.
    thawed: Option<Instant>,
}

impl TaskTimes {
    /// A task ended after this time, in microseconds.
    pub(super) fn push(&self, started: Instant, us: u64, has_finished: bool) {
        self.busy.fetch_add(us, Ordering::Relaxed);
        if has_finished {
            let mut finished = self.lock();
            if finished.thawed.is_none_or(|thawed| started >= thawed) {
                finished.lengths.push(Duration::from_micros(us));
            }
        }
    }

    /// Tasks are stopped at this moment, by the time since the boot; `None`: that is not known.
    pub(super) fn stop_at(&self, at: Option<Duration>) {
        let millis = |at: Duration| u64::try_from(at.as_millis()).unwrap_or(u64::MAX - 1);
        let at = at.map_or(0, |at| millis(at) + 1);
        self.stop_at.store(at, Ordering::Relaxed);
    }

    /// How long a task may run that starts now, if that is known.
    pub(super) fn left(&self) -> Option<Duration> {
        let at = self.stop_at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(at).saturating_sub(since_boot()))
    }

    /// How long all tasks ran together.
    pub(super) fn busy(&self) -> Duration {
        Duration::from_micros(self.busy.load(Ordering::Relaxed))
    }

    /// This process was frozen until now.
    pub(super) fn thawed(&self) {
        self.lock().thawed = Some(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a task takes, from those that finished and those that run longer.
    pub(super) fn estimate(&self, running: impl Iterator<Item = Running>) -> Option<Duration> {
        let Finished { lengths, thawed } = &*self.lock();
        let started = running.map(|running| running.started);
        let counts = started.filter(|started| thawed.is_none_or(|thawed| *started >= thawed));
        lengths.estimate(&counts.map(|started| started.elapsed()).collect::<Vec<_>>())
    }
}
