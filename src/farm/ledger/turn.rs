//! The turn of the ledger: one transaction that settles ends and claims tasks, and what it
//! takes from the slots before.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Ledger, NOTED_AFTER, NOTED_EVERY};
use crate::farm::message::{Event, FailedAttempt, Report};
use crate::host::process::SlotProcess;
use crate::model::interruption::{SUSPICION, Span};
use crate::model::outcome::{Destination, Outcome};
use crate::model::record::{End, Record, Start};
use crate::model::task::Task;
use crate::model::turn::LedgerView;
use crate::workdir::error::Result;
use crate::workdir::journal::Journal;
use crate::workdir::liveness::Waiting;
use crate::workdir::state::State;
use crate::workdir::transaction::RequeueReason;

impl Ledger {
    /// What the decisions about turns are made from.
    pub(super) fn view(&self) -> LedgerView {
        let counts = self.config.queue.counts();
        let (queue, live) = (self.state().queue(), self.state().live);
        LedgerView {
            slots: self.config.processes.len() as u64,
            idle: counts.idle,
            queued: counts.queued,
            barred: counts.barred,
            is_held: counts.is_held,
            live,
            farmer: self.config.session.number(),
            generation: queue.generation,
            left: queue.left,
            cursor: queue.cursor,
            rest: queue.len - queue.cursor,
            has_pending: self.config.session.has_pending()
                || !self.config.reports.is_empty()
                || self.is_suspect_due(),
            since_turn: self.times.turned.elapsed(),
            since_compaction: self.times.compacted.elapsed(),
        }
    }

    pub(super) fn is_turn_due(&self) -> bool {
        let is_silent = !self.config.queue.lease().is_valid();
        is_silent
            || self
                .view()
                .is_turn_due(&self.config.pace, self.starved_since.is_some())
    }

    pub(super) fn turn(&mut self) -> Result<()> {
        let starved_since = self.starved_since.take();
        let began = self.config.waiter.now();
        let mut copy = None;
        if self.view().is_compaction_due(&self.config.pace) {
            self.times.compacted = Instant::now();
            copy = self.config.session.copy_queue()?;
        }
        let is_doubtful = !self.config.queue.lease().is_valid();
        if is_doubtful {
            // The lease holds from now on if the turn succeeds.
            let at = self.config.clock.micros(Instant::now());
            let beat = Record::Beat { at };
            self.config.session.journal().lock().push(&beat);
        }
        let upto = self.take_reports(false);
        for task in self
            .config
            .queue
            .retract(self.view().surplus(&self.config.pace))
        {
            self.config.session.give_back(task, None);
        }
        let generation = self.state().queue().generation;
        let (pace, queue) = (&self.config.pace, &self.config.queue);
        let quarantine = self.config.quarantine.as_ref();
        let claim = |state: &State| {
            let counts = queue.counts();
            let most = match quarantine {
                _ if counts.is_held => 0,
                Some(quarantine) if quarantine.is_wary(state) => counts.idle,
                _ => u64::MAX,
            };
            let wanted = pace.claim(counts.idle, counts.queued, state.live, state.left());
            wanted.min(most)
        };
        let turn = self
            .config
            .session
            .turn(upto, copy, claim, &mut self.config.waiter)?;
        let (now, ended) = (Instant::now(), self.config.waiter.now());
        let took = |since| ended.saturating_sub(since);
        self.longest_wait = self.longest_wait.max(turn.waited);
        let idle = starved_since.map_or(Duration::ZERO, |since| now - since);
        let span = now - std::mem::replace(&mut self.times.turned, now);
        let (turn_took, held) = (took(began), took(turn.locked));
        let (ends, slots) = (std::mem::take(&mut self.ends), self.config.processes.len());
        self.config
            .pace
            .measured(turn_took, held, ends, span.saturating_sub(idle), slots);
        if self.state().queue().generation != generation {
            self.times.compacted = now;
        }
        self.times.looked = now;
        if is_doubtful {
            self.config.queue.lease().renew(began);
        }
        self.config.queue.put(turn.tasks);
        self.show();
        Ok(())
    }

    /// Takes the reports of the slots, and the suspect ends whose time is over; returns the
    /// end of the journal after all of them. The journal is locked, so what is in it has
    /// been reported, and in the same order.
    pub(super) fn take_reports(&mut self, is_last: bool) -> u64 {
        let journal = self.config.session.journal();
        let mut journal = journal.lock();
        while let Ok(report) = self.config.reports.try_recv() {
            match report {
                Report::Ended {
                    task,
                    end,
                    suspect: Some(at),
                } => {
                    if let Some(quarantine) = &mut self.config.quarantine {
                        quarantine.ended(&end, self.config.session.state());
                    }
                    self.suspects.push_back((at, task, end));
                }
                Report::Ended {
                    task,
                    end,
                    suspect: None,
                } => {
                    if let Some(quarantine) = &mut self.config.quarantine {
                        quarantine.ended(&end, self.config.session.state());
                    }
                    self.enter(task, end);
                }
                Report::Unstarted(task) => self.config.session.give_back(task, None),
            }
        }
        while is_last || self.is_suspect_due() {
            let Some((ended, task, mut end)) = self.suspects.pop_front() else {
                break;
            };
            // The queue is closed: the task was killed a moment before the farm was
            // asked to stop, for the same reason.
            let is_over = is_last || self.config.queue.is_closed_within(Duration::ZERO);
            if is_over || self.was_interrupted(&end, ended) {
                end.outcome = Outcome::Interrupted;
            } else {
                let failure = Event::TaskFailed(FailedAttempt::of(&task, &end));
                let _ = self.config.events.send(failure);
            }
            journal.push(&Record::End(end.clone()));
            self.enter(task, end);
        }
        self.times.noted = Instant::now();
        self.note_starts(&mut journal, self.times.noted);
        journal.end()
    }

    /// Records the start of tasks that run since `before` or longer.
    pub(super) fn note_starts(&self, journal: &mut Journal, before: Instant) {
        for (slot, process) in (0..).zip(self.config.processes.iter()) {
            if let Some(running) = process.note(before) {
                journal.push(&Record::Start(Start {
                    id: running.id,
                    attempt: running.attempt,
                    slot,
                    pid: running.pid.as_raw().unsigned_abs(),
                    at: self.config.clock.micros(running.started),
                }));
            }
        }
    }

    /// When the next start is to be recorded.
    pub(super) fn start_due_at(&self) -> Option<Instant> {
        let unnoted = self.config.processes.iter().filter_map(unnoted_since);
        let oldest = unnoted.min()?;
        Some((oldest + NOTED_AFTER).max(self.times.noted + NOTED_EVERY))
    }

    /// An end that is in the journal.
    pub(super) fn enter(&mut self, task: Task, end: End) {
        self.ends.count += 1;
        self.ends.ran += Duration::from_micros(end.us);
        if end.outcome.destination() == Destination::ToProcess {
            self.config
                .session
                .give_back(task, Some(RequeueReason::Interrupted));
        } else {
            self.config.session.settle(task, end);
        }
    }

    /// Whether a signal that this process has received explains a failed end.
    pub(super) fn was_interrupted(&self, end: &End, ended: Instant) -> bool {
        let started = ended.checked_sub(Duration::from_micros(end.us));
        let span = Span {
            started: started.unwrap_or(ended),
            ended,
        };
        let received = self.config.received.lock();
        received
            .unwrap_or_else(PoisonError::into_inner)
            .explain(&end.outcome, span)
    }

    pub(super) fn is_suspect_due(&self) -> bool {
        self.suspects
            .front()
            .is_some_and(|(at, ..)| at.elapsed() >= SUSPICION)
    }

    pub(super) fn show(&self) {
        let mut shared_state = self
            .config
            .shared_state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shared_state.clone_from(self.state());
    }
}

/// When its task was started, while the journal has no record of that.
fn unnoted_since(process: &SlotProcess) -> Option<Instant> {
    let running = process.running().filter(|running| !running.noted)?;
    Some(running.started)
}
