//! How long tasks took: all together for the summary, and each one that finished, to decide
//! near the end of the allocation whether there is time for another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::host::process::Running;
use crate::model::walltime::lengths::Lengths;

/// How long tasks took, reported by the slots.
#[derive(Default)]
pub(super) struct TaskTimes {
    /// All together, in microseconds.
    busy: AtomicU64,
    finished: Mutex<Finished>,
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
