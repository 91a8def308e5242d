//! The heartbeats of a farmer that waits for the lock.
//!
//! Guarantee: the journal grows during a wait of any length, and the wait ends when others have
//! fenced the farmer.

use crate::model::liveness::heartbeat;
use crate::model::record::Record;
use crate::workdir::error::{Error, Result};
use crate::workdir::fencing::check_fence_unlocked;
use crate::workdir::fs::Dir;
use crate::workdir::journal::SharedJournal;
use crate::workdir::liveness::{Waiting, Watcher};
use crate::workdir::membership;
use std::sync::Arc;
use std::time::Duration;

/// The waits of a farmer: its journal grows by heartbeats meanwhile. They end when others have
/// fenced it.
pub(super) struct WithHeartbeats<'a> {
    dir: Arc<dyn Dir>,
    is_fenced: bool,
    journal: SharedJournal,
    /// Farmers that were alive when we last looked.
    live: u32,
    waiting: &'a mut dyn Waiting,
    due: Duration,
}

impl<'a> WithHeartbeats<'a> {
    pub(super) fn new(
        dir: &Arc<dyn Dir>,
        journal: &SharedJournal,
        live: u32,
        waiting: &'a mut dyn Waiting,
    ) -> Self {
        let due = waiting.now() + heartbeat(waiting.takeover());
        Self {
            dir: dir.clone(),
            is_fenced: false,
            journal: journal.clone(),
            live,
            waiting,
            due,
        }
    }

    fn beat(&mut self) -> Result<()> {
        let (begun, at) = (self.waiting.now(), self.waiting.micros());
        self.journal.lock().push(&Record::Beat { at });
        self.journal.sync()?;
        let farmer = {
            let journal = self.journal.lock();
            journal.relock();
            journal.farmer().to_owned()
        };
        if membership::has_departed_by_name(&self.dir, &farmer)? {
            check_fence_unlocked(&self.dir, &farmer)?;
        }
        self.waiting.lease_renewed(begun);
        Ok(())
    }

    /// The result of a wait that may have ended because we were fenced.
    pub(super) fn ended<T>(&self, done: Result<T>) -> Result<T> {
        match done {
            Err(Error::Canceled) if self.is_fenced => Err(Error::Fenced),
            done => done,
        }
    }
}

impl Waiting for WithHeartbeats<'_> {
    fn now(&self) -> Duration {
        self.waiting.now()
    }

    fn micros(&self) -> u64 {
        self.waiting.micros()
    }

    fn pause(&mut self, time: Duration) -> bool {
        let goes_on = self.waiting.pause(time);
        if self.now() >= self.due {
            // If a heartbeat fails, the next one follows.
            self.is_fenced = matches!(self.beat(), Err(Error::Fenced));
            self.due = self.now() + heartbeat(self.takeover());
        }
        goes_on && !self.is_fenced
    }

    fn jitter(&mut self) -> f64 {
        self.waiting.jitter()
    }

    fn notify(&mut self, message: String) {
        self.waiting.notify(message);
    }

    fn takeover(&self) -> Duration {
        self.waiting.takeover()
    }

    fn contenders(&self) -> u32 {
        self.waiting.contenders().max(self.live)
    }

    fn lease_renewed(&mut self, begun: Duration) {
        self.waiting.lease_renewed(begun);
    }

    fn watcher(&mut self) -> Option<&mut Watcher> {
        self.waiting.watcher()
    }

    fn end_tasks(&mut self, farmer: &str) {
        self.waiting.end_tasks(farmer);
    }
}
