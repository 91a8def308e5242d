//! The ledger: the one thread that touches the shared files.
//!
//! It drives the farmer's [`Session`]: it takes turns, few large or many small ones, as the
//! pace decides. In between it writes heartbeats, watches the neighbours, and waits in one
//! place, on one set of channels.
//!
//! Others rely on this: what the workdir refuses stays here and is tried again up to a
//! time limit; a ledger that others have fenced writes nothing any more.

mod complete;
mod leave;
mod turn;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, never};

use super::clock::Clock;
use super::feeder::Fed;
use super::lock_wait::LockWaiter;
use super::message::{Event, Order, ReceivedSignals, Report, SlotProcesses};
use super::neighbours::Neighbours;
use super::quarantine::Quarantine;
use super::queue::Queue;
use crate::model::interruption::SUSPICION;
use crate::model::liveness::heartbeat;
use crate::model::pace::{Ends, Pace};
use crate::model::record::{End, Record};
use crate::model::task::Task;
use crate::workdir::error::{Error, Result};
use crate::workdir::liveness::Waiting;
use crate::workdir::session::Session;
use crate::workdir::state::State;

/// How long the ledger retries when the workdir refuses and no task runs.
pub(super) const RETRY_IDLE_FOR: Duration = Duration::from_secs(10);
/// How long it retries while tasks run.
pub(super) const RETRY_BUSY_FOR: Duration = Duration::from_secs(5 * 60);
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
            self.config.session.check_fence_unlocked()?;
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
            self.config.waiter.lease_renewed(begun);
        }
        Ok(())
    }

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

    fn warn(&self, text: String) {
        let _ = self.config.events.send(Event::Warn(text));
    }

    fn say(&self, text: String) {
        let _ = self.config.events.send(Event::Say(text));
    }
}
