//! How the ledger ends: when it gives up on a workdir whose operations fail, when others have
//! fenced it, and when it leaves.

use std::time::Instant;

use super::{Ledger, RETRY_BUSY_FOR, RETRY_EVERY, RETRY_IDLE_FOR};
use crate::farm::message::{Event, LedgerRequest};
use crate::model::record::Record;
use crate::model::refusal::is_resource;
use crate::workdir::error::{Error, Result};
use crate::workdir::liveness::Waiting;
use crate::workdir::state::State;
use crate::workdir::transaction::RequeueReason;

impl Ledger {
    /// An operation on the workdir failed: whether to give up.
    pub(super) fn is_over(&mut self, error: Error) -> bool {
        let is_busy = self.shared.running().next().is_some();
        let is_first = self.times.refused_since.is_none();
        let now = Instant::now();
        let since = *self.times.refused_since.get_or_insert(now);
        // The limit for running tasks holds until they have ended, then the other one.
        let (began, limit) = if is_busy {
            self.times.idle_since = None;
            (since, RETRY_BUSY_FOR)
        } else {
            (*self.times.idle_since.get_or_insert(now), RETRY_IDLE_FOR)
        };
        if matches!(error, Error::Io { .. } | Error::HeldTooLong) {
            self.shared.queue.lease().doubt();
        }
        match error {
            // A pipe to the workdir that has ended does not come back.
            error if error.is_lost_pipe() => self.shared.send(Event::WorkdirUnusable(error)),
            // A refused resource is not an error of the workdir: a task that ends gives
            // some back, and no task is stopped for it.
            Error::Io { ref source, .. } if is_busy && is_resource(source) => {
                if is_first {
                    self.shared
                        .warn(format!("{error}; retrying until one of our tasks ends"));
                }
                return false;
            }
            Error::Io { .. } | Error::HeldTooLong
                if now - began < limit && now - since < RETRY_BUSY_FOR =>
            {
                if is_first {
                    let (busy, idle) = (RETRY_BUSY_FOR.as_secs(), RETRY_IDLE_FOR.as_secs());
                    let long = if is_busy {
                        format!("{busy}s, or {idle}s when no task runs any more")
                    } else {
                        format!("{idle}s")
                    };
                    self.shared
                        .warn(format!("{error}; retrying for up to {long}"));
                }
                return false;
            }
            Error::Fenced => self.fenced(),
            Error::Canceled => {}
            error => self.shared.send(Event::WorkdirUnusable(error)),
        }
        true
    }

    /// Others have taken over our tasks.
    pub(super) fn fenced(&mut self) {
        if !std::mem::replace(&mut self.is_fenced, true) {
            self.shared.queue.lease().revoke();
            self.shared.warn(Error::Fenced.to_string());
            self.shared.send(Event::Fenced);
        }
    }

    pub(super) fn wait_to_leave(&mut self) -> String {
        let has_left = self.left.is_some();
        let leave = |request| match request {
            LedgerRequest::Leave(why) => Some(why),
            LedgerRequest::Write(record) if has_left => {
                self.session.journal().lock().push(&record);
                None
            }
            _ => None,
        };
        self.requests.iter().find_map(leave).unwrap_or_default()
    }

    /// The record by which we leave.
    pub(super) fn leave_record(&self, why: String) -> Record {
        Record::Leave {
            at: self.shared.clock.micros(Instant::now()),
            why,
            longest_wait_us: u64::try_from(self.longest_wait.as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// Settles the last ends, gives back tasks that did not run, and leaves.
    pub(super) fn leave(&mut self, why: String) -> Result<State> {
        self.take_reports(true);
        for task in self.shared.queue.retract(u64::MAX) {
            self.session.give_back(task, None);
        }
        for task in self.backoff.take_all() {
            self.session.give_back(task, Some(RequeueReason::Again));
        }
        let journal = self.session.journal();
        journal.lock().push(&self.leave_record(why));
        let upto = journal.lock().end();
        let since = Instant::now();
        loop {
            match self.session.leave(upto, &mut self.waiter) {
                // As a turn, it may be repeated; the supervisor can end that, too.
                Err(error) if error.is_lost_pipe() => return Err(error),
                Err(Error::Io { .. } | Error::HeldTooLong)
                    if since.elapsed() < RETRY_IDLE_FOR && self.waiter.pause(RETRY_EVERY) => {}
                left => return left,
            }
        }
    }
}
