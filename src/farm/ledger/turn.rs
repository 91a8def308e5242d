//! The turn of the ledger: one transaction that settles ends and claims tasks. Before it the
//! ledger takes the reports of the slots.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Ledger, NOTED_AFTER, NOTED_EVERY};
use crate::farm::message::{Event, FailedAttempt, Report};
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
        let counts = self.shared.queue.counts();
        let (state, live) = (self.state(), self.state().live);
        let queue = &state.queues[state.most_claimed()];
        let for_others = self.backoff.left(Instant::now());
        LedgerView {
            slots: self.shared.processes.len() as u64,
            idle: counts.idle,
            queued: counts.queued,
            barred: counts.barred,
            is_paused: counts.is_paused,
            live,
            farmer: self.session.number(),
            generation: queue.generation,
            left: self.left_for_us().saturating_sub(for_others),
            cursor: queue.cursor,
            rest: queue.len - queue.cursor,
            has_pending: self.session.has_pending()
                || !self.reports.is_empty()
                || self.is_suspect_due(),
            since_turn: self.times.turned.elapsed(),
            since_compaction: self.times.compacted.elapsed(),
        }
    }

    /// How many tasks wait that we may claim.
    pub(super) fn left_for_us(&self) -> u64 {
        match self.unfit {
            Some((arrived, returned))
                if arrived == self.state().arrivals()
                    && returned == self.shared.queue.returned() =>
            {
                0
            }
            _ => self.state().left(),
        }
    }

    pub(super) fn is_turn_due(&self) -> bool {
        let is_silent = !self.shared.queue.lease().is_valid();
        is_silent
            || self
                .view()
                .is_turn_due(&self.pace, self.times.starved_since.is_some())
    }

    pub(super) fn turn(&mut self) -> Result<()> {
        self.dealer.observe(self.session.state(), &self.placement);
        let starved_since = self.times.starved_since.take();
        let began = self.waiter.now();
        let mut copy = None;
        if self.view().is_compaction_due(&self.pace) {
            self.times.compacted = Instant::now();
            copy = self.session.copy_queue(self.state().most_claimed())?;
        }
        let is_doubtful = !self.shared.queue.lease().is_valid();
        if is_doubtful {
            // The lease holds from now on if the turn succeeds.
            let at = self.shared.clock.micros(Instant::now());
            let beat = Record::Beat { at };
            self.session.journal().lock().push(&beat);
        }
        let upto = self.take_reports(false);
        for task in self.shared.queue.take_late(self.shared.times.left()) {
            self.session.give_back(task, None);
        }
        for task in self.shared.queue.retract(self.view().surplus(&self.pace)) {
            self.session.give_back(task, None);
        }
        let generation = self.view().generation;
        let (pace, queue) = (&self.pace, &self.shared.queue);
        let (quarantine, placement) = (self.quarantine.as_ref(), &self.placement);
        let for_others = self.backoff.left(Instant::now());
        let (mut wanted, returned) = (0, queue.returned());
        let claim = |state: &State| {
            let counts = queue.counts();
            let most = match quarantine {
                _ if counts.is_paused => 0,
                Some(quarantine) if quarantine.is_wary(state) => counts.idle,
                _ => u64::MAX,
            };
            let left = state.left().saturating_sub(for_others);
            let claimed = pace.claim(counts.idle, counts.queued, state.live, left);
            wanted = claimed.min(most).min(left);
            let ahead = pace.lookahead(state.live, left);
            placement.claim(state, wanted, ahead)
        };
        let mut turn = self.session.turn(upto, copy, claim, &mut self.waiter)?;
        let is_unfit = wanted > 0 && turn.tasks.is_empty() && !self.state().paused;
        self.unfit = is_unfit.then(|| (self.state().arrivals(), returned));
        let claiming = self.state().claiming();
        let others = (self.backoff).take_left(&mut turn.tasks, claiming, Instant::now());
        for task in others {
            self.session.give_back(task, None);
        }
        let (now, ended) = (Instant::now(), self.waiter.now());
        let took = |since| ended.saturating_sub(since);
        self.longest_wait = self.longest_wait.max(turn.waited);
        let idle = starved_since.map_or(Duration::ZERO, |since| now - since);
        let span = now - std::mem::replace(&mut self.times.turned, now);
        let (turn_took, held) = (took(began), took(turn.locked));
        let (ends, slots) = (std::mem::take(&mut self.ends), self.shared.processes.len());
        self.pace
            .measured(turn_took, held, ends, span.saturating_sub(idle), slots);
        if self.view().generation != generation {
            self.times.compacted = now;
        }
        self.times.read = now;
        if is_doubtful {
            self.shared.queue.lease().renew(began);
        }
        self.put(turn.tasks);
        self.show();
        Ok(())
    }

    /// Puts claimed tasks into the queue. Those that this node can never hold are given back.
    fn put(&mut self, tasks: Vec<Task>) {
        for task in self.dealer.put(tasks) {
            self.session.give_back(task, None);
        }
    }

    /// Takes the reports of the slots, and the suspect ends whose time is over; returns the
    /// end of the journal after all of them. The journal is locked, so what is in it has
    /// been reported, and in the same order.
    pub(super) fn take_reports(&mut self, is_last: bool) -> u64 {
        let journal = self.session.journal();
        let mut journal = journal.lock();
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::Ended { task, end, suspect } => {
                    if let Some(quarantine) = &mut self.quarantine {
                        quarantine.ended(&end, self.session.state());
                    }
                    match suspect {
                        Some(at) => self.suspects.push_back((at, task, end)),
                        None => self.enter(task, end, Instant::now()),
                    }
                }
                Report::Unstarted(task) => self.session.give_back(task, None),
            }
        }
        while is_last || self.is_suspect_due() {
            let Some((ended, task, mut end)) = self.suspects.pop_front() else {
                break;
            };
            // The queue is closed: the task was killed a moment before the farm was
            // asked to stop, for the same reason.
            let is_over = is_last || self.shared.queue.is_closed_within(Duration::ZERO);
            if is_over || self.was_interrupted(&end, ended) || self.was_ended_by_others(&end, ended)
            {
                end.outcome = Outcome::Interrupted;
            } else {
                self.shared.decide_again(&task, &mut end);
                let failure = Event::TaskFailed(FailedAttempt::of(&task, &end));
                self.shared.send(failure);
            }
            self.shared.log_end(&task, &end);
            journal.push(&Record::End(end.clone()));
            self.enter(task, end, ended);
        }
        self.times.noted = Instant::now();
        self.note_starts(&mut journal, self.times.noted);
        journal.end()
    }

    /// Records the start of tasks that run since `before` or longer.
    pub(super) fn note_starts(&self, journal: &mut Journal, before: Instant) {
        for (slot, process) in (0..).zip(self.shared.processes.iter()) {
            if let Some(running) = process.note(before) {
                journal.push(&Record::Start(Start {
                    id: running.id,
                    attempt: running.attempt,
                    slot,
                    pid: running.pid.as_raw().unsigned_abs(),
                    at: self.shared.clock.micros(running.started),
                    lease: process.leased(),
                }));
            }
        }
    }

    /// When the next start is to be recorded.
    pub(super) fn start_due_at(&self) -> Option<Instant> {
        let unnoted = self.shared.running().filter(|running| !running.noted);
        let oldest = unnoted.map(|running| running.started).min()?;
        Some((oldest + NOTED_AFTER).max(self.times.noted + NOTED_EVERY))
    }

    /// An end that is in the journal, of an attempt that ended at this moment.
    pub(super) fn enter(&mut self, task: Task, end: End, ended: Instant) {
        self.ends.count += 1;
        self.ends.ran += Duration::from_micros(end.us);
        if let Some(again) = end.again {
            let until = ended + Duration::from_micros(again);
            if let Some(task) = self.backoff.hold(task, until, Instant::now()) {
                self.session.give_back(task, Some(RequeueReason::Again));
            }
        } else if end.destination() == Destination::ToProcess {
            self.session
                .give_back(task, Some(RequeueReason::Interrupted));
        } else {
            self.session.settle(task, end);
        }
    }

    /// Whether a signal that this process has received explains a failed end.
    pub(super) fn was_interrupted(&self, end: &End, ended: Instant) -> bool {
        let started = ended.checked_sub(Duration::from_micros(end.us));
        let span = Span {
            started: started.unwrap_or(ended),
            ended,
        };
        let received = self.received.lock();
        received
            .unwrap_or_else(PoisonError::into_inner)
            .explain(&end.outcome, span)
    }

    /// Whether a farmer that takes us for dead has killed the task. Its own death, or an error,
    /// may keep it from fencing us afterwards.
    fn was_ended_by_others(&self, end: &End, ended: Instant) -> bool {
        let span = ended.elapsed() + SUSPICION;
        // A shell whose child was killed ends with exit status 137.
        let was_killed = matches!(end.outcome, Outcome::Signal(9) | Outcome::Exit(137));
        was_killed && self.shared.queue.lease().has_lapsed_within(span)
    }

    pub(super) fn is_suspect_due(&self) -> bool {
        self.suspects
            .front()
            .is_some_and(|(at, ..)| at.elapsed() >= SUSPICION)
    }

    pub(super) fn show(&self) {
        let mut shown = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shown.clone_from(self.state());
    }
}
