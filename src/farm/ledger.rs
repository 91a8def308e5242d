//! The ledger: the one thread that touches the shared files.
//!
//! It drives the farmer's [`Session`]: it takes turns, few large or many small ones, as the
//! pace decides. In between it writes heartbeats, watches the neighbours, and waits in one
//! place, on one set of channels.
//!
//! Others rely on this: what the workdir refuses stays here and is tried again up to a
//! time limit; a ledger that others have fenced writes nothing any more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, never};

use super::clock::Clock;
use super::feeder::Fed;
use super::lock_wait::LockWaiter;
use super::message::{Event, FailedAttempt, Order, ReceivedSignals, Report, SlotProcesses};
use super::neighbours::Neighbours;
use super::quarantine::Quarantine;
use super::queue::Queue;
use crate::host::process::SlotProcess;
use crate::model::interruption::{SUSPICION, Span};
use crate::model::liveness::heartbeat;
use crate::model::outcome::{Destination, Outcome};
use crate::model::pace::{Ends, Pace};
use crate::model::record::{End, Record, Start};
use crate::model::refusal::is_resource;
use crate::model::task::Task;
use crate::model::turn::LedgerView;
use crate::model::watch::look_every;
use crate::workdir::error::{Error, Result};
use crate::workdir::journal::Journal;
use crate::workdir::liveness::Waiting;
use crate::workdir::membership;
use crate::workdir::session::Session;
use crate::workdir::state::State;
use crate::workdir::transaction::RequeueReason;

/// How long the ledger retries when the workdir refuses and no task runs.
pub(super) const RETRY_IDLE_FOR: Duration = Duration::from_secs(10);
/// How long it retries while tasks run.
pub(super) const RETRY_BUSY_FOR: Duration = Duration::from_mins(5);
/// The pause between two tries.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// A task that has run for this long has a record of its start, for `pytf status`. One that
/// ends sooner has only the record of its end.
const NOTED_AFTER: Duration = Duration::from_millis(200);
/// Starts are written at most this often.
const NOTED_EVERY: Duration = Duration::from_millis(100);
/// How many lines of a stream may wait.
const MOST_WAITING: usize = 10_000;

/// The state of the run, shared with the supervisor.
pub(super) type SharedState = Arc<Mutex<State>>;

/// What the ledger works with.
pub(super) struct LedgerConfig {
    /// Our part in the workdir.
    pub session: Session,
    /// How often it takes a turn, and how much it claims.
    pub pace: Pace,
    /// Our job, as headers have it.
    pub job: Option<String>,
    /// Tasks for the slots.
    pub queue: Arc<Queue>,
    /// What runs.
    pub processes: SlotProcesses,
    /// From the slots and the supervisor.
    pub orders: Receiver<Order>,
    /// From the slots.
    pub reports: Receiver<Report>,
    /// From a stream of tasks.
    pub fed: Option<Receiver<Fed>>,
    /// To the supervisor.
    pub events: Sender<Event>,
    /// The state of the run, for the supervisor.
    pub shared_state: SharedState,
    /// The farmer's clock.
    pub clock: Clock,
    /// How to wait for the lock.
    pub waiter: LockWaiter,
    /// Whether to stay while other farmers still run tasks.
    pub linger: bool,
    /// What to do when the node seems unhealthy; none: nothing.
    pub quarantine: Option<Quarantine>,
    /// The signals that this process has received.
    pub received: ReceivedSignals,
}

/// The ledger at work.
pub(super) struct Ledger {
    config: LedgerConfig,
    neighbours: Neighbours,
    /// Ends that are held back: they may be due to a signal that is about to arrive.
    suspects: VecDeque<(Instant, Task, End)>,
    /// What has ended since the last turn.
    ends: Ends,
    times: Times,
    refused_since: Option<Instant>,
    /// Since when nothing has run, while the workdir refuses.
    idle_since: Option<Instant>,
    longest_wait: Duration,
    /// Since when a slot has no task, or other farmers have left some.
    starved_since: Option<Instant>,
    is_complete_reported: bool,
    is_fenced: bool,
}

/// When each thing was done last.
struct Times {
    turned: Instant,
    beat: Instant,
    noted: Instant,
    /// When there was something to do.
    busy: Instant,
    looked: Instant,
    compacted: Instant,
}

impl Ledger {
    /// A ledger that has just joined.
    pub(super) fn new(config: LedgerConfig) -> Self {
        let now = Instant::now();
        let times = Times {
            turned: now,
            beat: now,
            noted: now,
            busy: now,
            looked: now,
            compacted: now,
        };
        Self {
            neighbours: Neighbours::new(config.session.number(), config.waiter.takeover()),
            config,
            suspects: VecDeque::new(),
            ends: Ends::default(),
            times,
            refused_since: None,
            idle_since: None,
            longest_wait: Duration::ZERO,
            starved_since: Some(now),
            is_complete_reported: false,
            is_fenced: false,
        }
    }

    /// Works until it is asked to leave.
    pub(super) fn run(mut self) {
        let why = loop {
            if let Err(error) = self.work()
                && self.is_over(error)
            {
                break self.wait_to_leave();
            }
            if let Some(why) = self.wait() {
                break why;
            }
        };
        let left = if self.is_fenced {
            Err(Error::Fenced)
        } else {
            self.leave(why)
        };
        match &left {
            Err(Error::Fenced) => self.fenced(),
            Err(error) => self.warn(format!(
                "could not leave the workdir in good order: {error}"
            )),
            Ok(_) => {}
        }
        // Its last event: a farmer that joins again has another ledger.
        let _ = self
            .config
            .events
            .send(Event::Left(left.ok().map(Box::new)));
    }

    /// Everything that is due now.
    fn work(&mut self) -> Result<()> {
        if !self.config.queue.lease().is_valid() {
            // Nothing is written before it is known that nobody has taken over.
            self.config.session.check_over()?;
        }
        if self.is_turn_due() {
            self.turn()?;
        }
        self.keep_journal()?;
        let is_idle = self.state().left() == 0 && self.config.queue.counts().idle > 0;
        // What was refused is retried until it succeeds, or the time limit would not end.
        let was_refused = self.refused_since.is_some() && self.state().live > 1;
        if was_refused || self.neighbours.are_due(self.state().live) {
            let found = self.neighbours.watch(
                &mut self.config.session,
                is_idle,
                &mut self.config.waiter,
            )?;
            if !found.is_empty() {
                self.starved_since.get_or_insert_with(Instant::now);
            }
            for text in found {
                self.say(text);
            }
        }
        self.check_health()?;
        self.check_complete()?;
        (self.refused_since, self.idle_since) = (None, None);
        Ok(())
    }

    fn state(&self) -> &State {
        self.config.session.state()
    }

    /// Whether tasks fail on this node that succeed elsewhere.
    fn check_health(&mut self) -> Result<()> {
        let LedgerConfig {
            quarantine,
            session,
            waiter,
            ..
        } = &mut self.config;
        if let Some(quarantine) = quarantine
            && let Some(text) = quarantine.run_due(session, !self.suspects.is_empty(), waiter)?
        {
            let _ = self.config.events.send(Event::Warn(text));
        }
        Ok(())
    }

    fn quarantine_due_at(&self) -> Option<Instant> {
        let quarantine = self.config.quarantine.as_ref()?;
        quarantine.due_at(&self.config.session, !self.suspects.is_empty())
    }

    // ---- the turn --------------------------------------------------------

    /// What the decisions about turns are made from.
    fn view(&self) -> LedgerView {
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

    fn is_turn_due(&self) -> bool {
        let is_silent = !self.config.queue.lease().is_valid();
        is_silent
            || self
                .view()
                .is_turn_due(&self.config.pace, self.starved_since.is_some())
    }

    fn turn(&mut self) -> Result<()> {
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
    fn take_reports(&mut self, is_last: bool) -> u64 {
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
    fn note_starts(&self, journal: &mut Journal, before: Instant) {
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
    fn start_due_at(&self) -> Option<Instant> {
        let unnoted = self.config.processes.iter().filter_map(unnoted_since);
        let oldest = unnoted.min()?;
        Some((oldest + NOTED_AFTER).max(self.times.noted + NOTED_EVERY))
    }

    /// An end that is in the journal.
    fn enter(&mut self, task: Task, end: End) {
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
    fn was_interrupted(&self, end: &End, ended: Instant) -> bool {
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

    fn is_suspect_due(&self) -> bool {
        self.suspects
            .front()
            .is_some_and(|(at, ..)| at.elapsed() >= SUSPICION)
    }

    fn show(&self) {
        let mut shared_state = self
            .config
            .shared_state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shared_state.clone_from(self.state());
    }

    // ---- the journal -----------------------------------------------------

    fn beat_every(&self) -> Duration {
        heartbeat(self.config.waiter.takeover())
    }

    /// Writes starts, and the heartbeats that others watch.
    fn keep_journal(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.start_due_at().is_some_and(|at| at <= now) {
            self.times.noted = now;
            let journal = self.config.session.journal();
            let mut journal = journal.lock();
            self.note_starts(&mut journal, now.checked_sub(NOTED_AFTER).unwrap_or(now));
            journal.write()?;
        }
        if self.times.beat.elapsed() >= self.beat_every() {
            let at = self.config.clock.micros(Instant::now());
            let begun = self.config.waiter.now();
            self.config.session.heartbeat(at)?;
            self.times.beat = Instant::now();
            self.config.waiter.renewed(begun);
        }
        Ok(())
    }

    // ---- nothing to do ---------------------------------------------------

    /// Without tasks: whether the run is complete for us.
    fn check_complete(&mut self) -> Result<()> {
        let is_feeding = self
            .config
            .session
            .feed()
            .is_some_and(|feed| feed.is_open() || feed.waiting() > 0);
        if !self.view().wants_look() || is_feeding {
            self.times.busy = Instant::now();
            return Ok(());
        }
        if self.is_complete_reported {
            return Ok(());
        }
        if self.times.looked.elapsed() >= self.look_every() {
            self.times.looked = Instant::now();
            self.config.session.refresh_state()?;
            self.show();
        }
        if self.state().left() > 0 {
            return Ok(());
        }
        let is_clean = self.suspects.is_empty()
            && self.config.reports.is_empty()
            && !self.config.session.has_pending();
        if is_clean && (self.is_stream_cut() || !self.has_reason_to_stay()?) {
            self.is_complete_reported = true;
            let _ = self.config.events.send(Event::Complete);
        }
        Ok(())
    }

    fn look_every(&self) -> Duration {
        look_every(self.times.busy.elapsed(), self.state().live)
    }

    /// Whether our stream ended early: others that wait for its rest wait for us.
    fn is_stream_cut(&mut self) -> bool {
        self.config
            .session
            .feed()
            .is_some_and(|feed| !feed.is_open() && !feed.is_whole())
    }

    /// Whether to stay while others still run tasks: one of our job may die.
    fn has_reason_to_stay(&mut self) -> Result<bool> {
        let state = self.state();
        if !self.config.linger || state.live < 2 || state.is_complete() {
            return Ok(false);
        }
        let live = state.live as usize;
        let workdir = self.config.session.workdir().clone();
        let me = self.config.session.farmer().to_owned();
        let all = membership::present(&workdir.dir)?;
        if live > all.len() {
            // A farmer that comes later cannot detect the death of one without journal.
            return Ok(true);
        }
        // From ours on: a thousand that become idle together do not all check the same one.
        let after = all.partition_point(|name| *name <= me);
        for farmer in all[after..].iter().chain(&all[..after]) {
            // The farmers of another job watch each other. One whose heartbeat was not seen
            // may have died a moment before we joined.
            if *farmer != me
                && (!self.neighbours.have_seen_alive(farmer) || self.is_of_our_job(farmer)?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_of_our_job(&mut self, farmer: &str) -> Result<bool> {
        let dir = &self.config.session.workdir().dir;
        let Some(watcher) = self.config.waiter.watcher() else {
            return Ok(false);
        };
        let id = watcher.id_of(dir, farmer)?;
        Ok(id.is_some_and(|id| id.job == self.config.job))
    }

    // ---- waiting ---------------------------------------------------------

    /// Waits for work; `Some` when it is to leave.
    fn wait(&mut self) -> Option<String> {
        let now = Instant::now();
        let rest = self.rest();
        let deadline = self.next_deadline(now);
        let accepts_input = self
            .config
            .session
            .feed()
            .is_some_and(|feed| feed.is_open() && feed.waiting() < MOST_WAITING);
        let fed = self
            .config
            .fed
            .clone()
            .filter(|_| accepts_input)
            .unwrap_or_else(never);
        // Until the next turn is allowed, ends of tasks do not wake it.
        let (reports, deadline) = if rest.is_zero() {
            (self.config.reports.clone(), deadline)
        } else {
            (never(), deadline.min(now + rest))
        };
        let mut ready = Select::new();
        let (orders_at, _, fed_at) = (
            ready.recv(&self.config.orders),
            ready.recv(&reports),
            ready.recv(&fed),
        );
        match ready.ready_deadline(deadline) {
            Ok(at) if at == orders_at => self
                .config
                .orders
                .try_recv()
                .map_or(None, |order| self.handle(order)),
            Ok(at) if at == fed_at => {
                match fed.try_recv() {
                    Ok(fed) => self.take_fed(fed),
                    Err(_) => self.end_stream(false),
                }
                None
            }
            // Reports stay where they are: the turn takes them.
            _ => None,
        }
    }

    /// How long no turn is allowed.
    fn rest(&self) -> Duration {
        if self.refused_since.is_some() {
            return RETRY_EVERY;
        }
        self.view()
            .rest(&self.config.pace, self.starved_since.is_some())
    }

    /// Handles an order of the supervisor or a slot; `Some` when it is to leave.
    fn handle(&mut self, order: Order) -> Option<String> {
        match order {
            Order::Starved => drop(self.starved_since.get_or_insert_with(Instant::now)),
            Order::Note(text) => {
                let at = self.config.clock.micros(Instant::now());
                self.config.session.journal().lock().push(&Record::Note {
                    at,
                    text,
                    mark: None,
                });
            }
            Order::Write(record) => self.config.session.journal().lock().push(&record),
            Order::Leave(why) => return Some(why),
        }
        None
    }

    fn take_fed(&mut self, fed: Fed) {
        match fed {
            Fed::Lines(lines) => {
                if let Some(feed) = self.config.session.feed() {
                    feed.arrive(lines);
                }
            }
            Fed::End(remarks) => {
                self.end_stream(true);
                remarks
                    .messages()
                    .into_iter()
                    .for_each(|message| self.say(message));
            }
            Fed::Broken(why) => {
                self.end_stream(false);
                let _ = self.config.events.send(Event::WrongInput);
                self.warn(format!(
                    "the task list cannot be read on: {why}; the lines before this run"
                ));
            }
            Fed::Wrong(wrong) => {
                self.end_stream(false);
                let _ = self.config.events.send(Event::WrongInput);
                self.warn(format!(
                    "{wrong}; the lines before it run, those after it do not"
                ));
            }
        }
    }

    fn end_stream(&mut self, is_whole: bool) {
        if let Some(feed) = self.config.session.feed() {
            feed.end(is_whole);
        }
    }

    fn next_deadline(&self, now: Instant) -> Instant {
        if self.refused_since.is_some() {
            return now + RETRY_EVERY;
        }
        let state = self.state();
        let view = self.view();
        [
            Some(self.times.beat + self.beat_every()),
            (state.live > 1).then(|| self.neighbours.due_at(state.live)),
            self.quarantine_due_at(),
            self.start_due_at(),
            self.suspects.front().map(|(at, ..)| *at + SUSPICION),
            view.wants_look()
                .then(|| self.times.looked + self.look_every()),
            (state.queue().cursor > 0)
                .then(|| {
                    self.times.compacted
                        + view.compact_every(&self.config.pace)
                        + Duration::from_millis(1)
                })
                .filter(|at| *at > now),
            view.wants_turn(&self.config.pace)
                .then(|| now + self.rest().max(Duration::from_micros(1))),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now)
    }

    // ---- trouble and the end ---------------------------------------------

    /// The workdir refused: whether to give up.
    fn is_over(&mut self, error: Error) -> bool {
        let is_busy = self
            .config
            .processes
            .iter()
            .any(|process| process.running().is_some());
        let is_first = self.refused_since.is_none();
        let now = Instant::now();
        let since = *self.refused_since.get_or_insert(now);
        // The limit for running tasks holds until they have ended, then the other one.
        let (began, limit) = if is_busy {
            self.idle_since = None;
            (since, RETRY_BUSY_FOR)
        } else {
            (*self.idle_since.get_or_insert(now), RETRY_IDLE_FOR)
        };
        if matches!(error, Error::Io { .. } | Error::HeldTooLong) {
            self.config.queue.lease().doubt();
        }
        match error {
            // A refused resource is not an error of the workdir: a task that ends gives
            // some back, and no task is stopped for it.
            Error::Io { ref source, .. } if is_busy && is_resource(source) => {
                if is_first {
                    self.warn(format!("{error}; retrying until one of our tasks ends"));
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
                    self.warn(format!("{error}; retrying for up to {long}"));
                }
                return false;
            }
            Error::Fenced => self.fenced(),
            Error::Canceled => {}
            error => drop(self.config.events.send(Event::WorkdirUnusable(error))),
        }
        true
    }

    /// Others have taken over our tasks.
    fn fenced(&mut self) {
        if !std::mem::replace(&mut self.is_fenced, true) {
            self.config.queue.lease().revoke();
            self.warn(Error::Fenced.to_string());
            let _ = self.config.events.send(Event::Fenced);
        }
    }

    fn wait_to_leave(&mut self) -> String {
        loop {
            match self.config.orders.recv() {
                Ok(Order::Leave(why)) => return why,
                Ok(_) => {}
                Err(_) => return "the supervisor is gone".into(),
            }
        }
    }

    /// Settles the last ends, gives back tasks that did not run, and leaves.
    fn leave(&mut self, why: String) -> Result<State> {
        self.take_reports(true);
        for task in self.config.queue.retract(u64::MAX) {
            self.config.session.give_back(task, None);
        }
        let at = self.config.clock.micros(Instant::now());
        let journal = self.config.session.journal();
        let longest_wait_us = u64::try_from(self.longest_wait.as_micros()).unwrap_or(u64::MAX);
        journal.lock().push(&Record::Leave {
            at,
            why,
            longest_wait_us,
        });
        let upto = journal.lock().end();
        let since = Instant::now();
        loop {
            match self.config.session.leave(upto, &mut self.config.waiter) {
                // As a turn, it may be repeated; the supervisor can end that, too.
                Err(Error::Io { .. } | Error::HeldTooLong)
                    if since.elapsed() < RETRY_IDLE_FOR
                        && self.config.waiter.pause(RETRY_EVERY) => {}
                left => return left,
            }
        }
    }

    fn warn(&self, text: String) {
        let _ = self.config.events.send(Event::Warn(text));
    }

    fn say(&self, text: String) {
        let _ = self.config.events.send(Event::Say(text));
    }
}

/// When its task was started, while the journal has no record of that.
fn unnoted_since(process: &SlotProcess) -> Option<Instant> {
    let running = process.running().filter(|running| !running.noted)?;
    Some(running.started)
}
