//! The tasks of a run that is paused with `--stop`: their processes are stopped, too.
//!
//! Guarantee: until it ends, every process group of a task is stopped again and again. So one
//! that was about to be started, or that another process has continued, stops as well. A task that is
//! asked to end is continued, or it could not.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::shared::Shared;
use crate::host::process::Running;

/// Whether the tasks of this farmer are stopped, and since when.
pub(super) struct Suspension {
    shared: Arc<Shared>,
    since: Option<Duration>,
}

impl Suspension {
    /// They are not.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let since = None;
        Self { shared, since }
    }

    /// Whether they are.
    pub(super) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// Stops them.
    pub(super) fn begin(&mut self, now: Duration) {
        self.since.get_or_insert(now);
        self.repeat();
    }

    /// Stops those that run and were not asked to end.
    pub(super) fn repeat(&self) {
        if !self.is_on() {
            return;
        }
        for process in &self.shared.processes {
            let is_asked = |running: Running| running.stop_reason.is_some();
            if !process.running().is_some_and(is_asked) {
                process.signal(Signal::SIGSTOP);
            }
        }
    }

    /// Continues them. Returns for how long they were stopped; none when they were not.
    pub(super) fn end(&mut self, now: Duration) -> Option<Duration> {
        let length = self.lift(now)?;
        for process in &self.shared.processes {
            process.signal(Signal::SIGCONT);
        }
        Some(length)
    }

    /// As [`Self::end`], where their signals are sent by the caller.
    pub(super) fn lift(&mut self, now: Duration) -> Option<Duration> {
        let since = self.since.take()?;
        Some(now.saturating_sub(since))
    }

    /// This process was frozen for this time, which is accounted for by itself.
    pub(super) fn thawed(&mut self, length: Duration) {
        if let Some(since) = &mut self.since {
            *since += length;
        }
    }
}
