//! The ledger: the one thread that touches the shared files.
//!
//! It takes turns. One turn takes the lock once: it settles all results that
//! came in since the last, gives back what must go back, claims for the slots
//! that are idle or soon will be. In between it keeps the journal, watches the
//! neighbours for signs of life, and waits, in one place, on one set of channels.
//!
//! Others rely on this: a result is in the synced journal before the turn that
//! settles it; what is not settled when the workdir refuses stays here and is
//! tried again; a sealed ledger writes nothing any more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};

use super::clock::Clock;
use super::feeder::{Fed, Occurrences};
use super::message::{Event, Order, Places, Report};
use super::patience::Patience;
use super::queue::Queue;
use crate::model::ids::Ids;
use crate::model::outcome::{Destination, Outcome};
use crate::model::pace::Pace;
use crate::model::record::{End, Record, Start};
use crate::model::task::{Task, push_line};
use crate::workdir::commit::{Attempts, QueueCopy, Txn, Why};
use crate::workdir::error::{Error, Result};
use crate::workdir::journal::Journal;
use crate::workdir::open::Workdir;
use crate::workdir::recovery;
use crate::workdir::resume::look;
use crate::workdir::state::{Act, State};

/// How long an end by a signal from outside is held back: a scheduler that ends
/// tasks and farmer together reaches the tasks first.
const SUSPICION: Duration = Duration::from_millis(1500);
/// How long a workdir may refuse while nothing runs that could be lost.
const PATIENCE_IDLE: Duration = Duration::from_secs(10);
/// How long it may refuse while tasks run.
const PATIENCE_BUSY: Duration = Duration::from_secs(300);
/// How often the run is looked at while there is nothing to do.
const LOOK_EVERY: Duration = Duration::from_millis(700);

/// How the run stands, for whoever wants to see it.
pub type Board = Arc<Mutex<Option<State>>>;

/// What the ledger works with.
pub struct Desk {
    /// The workdir.
    pub workdir: Workdir,
    /// Our journal.
    pub journal: Journal,
    /// Our number in the log.
    pub number: u32,
    /// The scheduler's id of our job.
    pub job: String,
    /// The state when we joined.
    pub state: State,
    /// Tasks for the slots.
    pub queue: Arc<Queue>,
    /// What runs.
    pub places: Places,
    /// From the slots and the supervisor.
    pub orders: Receiver<Order>,
    /// From the slots.
    pub reports: Receiver<Report>,
    /// From a stream of tasks.
    pub fed: Option<Receiver<Fed>>,
    /// To the supervisor.
    pub events: Sender<Event>,
    /// How the run stands, for the supervisor.
    pub board: Board,
    /// The farmer's clock.
    pub clock: Clock,
    /// How to wait for the lock.
    pub patience: Patience,
    /// When a silent farmer is taken for dead.
    pub takeover: Duration,
    /// Whether to wait for others when there is nothing to claim.
    pub linger: bool,
}

/// The ledger at work.
pub struct Ledger {
    desk: Desk,
    state: State,
    pace: Pace,
    attempts: Attempts,
    /// In the journal, not yet in `finished` or `failed`.
    unsettled: Vec<(Task, End)>,
    /// Held back: we may have been about to be stopped.
    suspects: VecDeque<(Instant, Task, End)>,
    /// To be given back.
    back: Vec<(Task, Option<Why>)>,
    stream: Stream,
    times: Times,
    /// Neighbours' journals: their length, and since when it stands still.
    signs: HashMap<String, (u64, Instant)>,
    refused_since: Option<Instant>,
    is_hungry: bool,
    was_told_complete: bool,
}

/// The tasks that come from a stream.
#[derive(Default)]
struct Stream {
    known: Occurrences,
    arrived: Vec<Vec<u8>>,
    new: Vec<Vec<u8>>,
    is_open: bool,
    is_cut: bool,
}

/// When what was done last.
struct Times {
    turned: Instant,
    counted: Instant,
    beat: Instant,
    noted: Instant,
    watched: Instant,
    looked: Instant,
    compacted: Instant,
}

impl Ledger {
    /// A ledger that has just joined.
    pub fn new(desk: Desk) -> Self {
        let now = Instant::now();
        let state = desk.state.clone();
        let stream = Stream {
            is_open: desk.fed.is_some(),
            ..Stream::default()
        };
        let times = Times {
            turned: now,
            counted: now,
            beat: now,
            noted: now,
            watched: now,
            looked: now,
            compacted: now,
        };
        Self {
            desk,
            state,
            pace: Pace::new(),
            attempts: Attempts::default(),
            unsettled: Vec::new(),
            suspects: VecDeque::new(),
            back: Vec::new(),
            stream,
            times,
            signs: HashMap::new(),
            refused_since: None,
            is_hungry: true,
            was_told_complete: false,
        }
    }

    /// Works until it is told to leave.
    pub fn run(mut self) {
        let why = loop {
            if let Err(error) = self.work() {
                match self.refused(error) {
                    Next::Again => {}
                    Next::OnlyLeave => break self.wait_to_leave(),
                }
            }
            if let Some(why) = self.wait() {
                break why;
            }
        };
        let left = self.leave(&why);
        if let Err(error) = &left {
            self.say(format!(
                "could not leave the workdir in good order: {error}"
            ));
        }
        let _ = self.desk.events.send(Event::Left(left.ok().map(Box::new)));
    }

    /// Everything that is due now.
    fn work(&mut self) -> Result<()> {
        self.take_reports();
        if self.is_turn_due() {
            self.turn()?;
        }
        self.keep_journal()?;
        self.watch()?;
        self.look()?;
        self.refused_since = None;
        Ok(())
    }

    // ---- what came in ----------------------------------------------------

    fn take_reports(&mut self) {
        let now = Instant::now();
        while let Ok(report) = self.desk.reports.try_recv() {
            self.take_report(report);
        }
        while self
            .suspects
            .front()
            .is_some_and(|(at, ..)| now >= *at + SUSPICION)
        {
            if let Some((_, task, end)) = self.suspects.pop_front() {
                self.record(task, end);
            }
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Ended {
                task,
                end,
                suspect: Some(at),
            } => self.suspects.push_back((at, task, end)),
            Report::Ended {
                task,
                end,
                suspect: None,
            } => self.record(task, end),
            Report::Unstarted(task) => self.back.push((task, None)),
        }
    }

    fn record(&mut self, task: Task, end: End) {
        self.desk.journal.push(&Record::End(end.clone()));
        if end.outcome.destination() == Destination::ToProcess {
            self.back.push((task, Some(Why::Interrupted)));
        } else {
            self.unsettled.push((task, end));
        }
    }

    fn take_fed(&mut self, fed: Fed) {
        match fed {
            Fed::Lines(lines) => self.stream.arrived.extend(lines),
            Fed::End(remarks) => {
                self.stream.is_open = false;
                remarks
                    .messages()
                    .into_iter()
                    .for_each(|message| self.say(message));
            }
            Fed::Broken(why) => self.cut_stream(&format!("standard input broke off: {why}")),
            Fed::Wrong(wrong) => self.cut_stream(&format!("standard input: {wrong}")),
        }
    }

    fn cut_stream(&mut self, why: &str) {
        (self.stream.is_open, self.stream.is_cut) = (false, true);
        self.say(format!("{why}; what came before it runs"));
    }

    // ---- the turn --------------------------------------------------------

    /// Whether there is anything to do under the lock.
    fn wants_turn(&self) -> bool {
        let (idle, queued) = self.desk.queue.counts();
        let could_claim = self.state.queue.left > 0
            && (idle > queued
                || queued < self.pace.lookahead(self.state.live, self.state.queue.left) / 2);
        let fed =
            !self.stream.arrived.is_empty() || !self.stream.new.is_empty() || self.stream_ended();
        could_claim
            || fed
            || !self.unsettled.is_empty()
            || !self.back.is_empty()
            || self.surplus() > 0
            || self.is_compaction_due()
    }

    /// The stream is over here and the workdir does not know it yet.
    fn stream_ended(&self) -> bool {
        self.desk.fed.is_some() && !self.stream.is_open
    }

    fn is_turn_due(&self) -> bool {
        let rested = self.times.turned.elapsed() >= self.pace.gap(self.state.live);
        let hurry = self.is_hungry && self.state.queue.left > 0;
        (rested || hurry || !self.desk.queue.life().is_good())
            && (self.wants_turn() || !self.desk.queue.life().is_good())
    }

    fn turn(&mut self) -> Result<()> {
        self.is_hungry = false;
        let began = Instant::now();
        let copy = self.queue_copy()?;
        self.note_starts();
        self.desk.journal.sync()?;
        let settled = self.desk.journal.end();
        let n_ends = self.unsettled.len() as u64;
        let workdir = self.desk.workdir.clone();
        let who = self.desk.journal.farmer().to_owned();
        let mut txn = Txn::begin(
            &workdir.dir,
            workdir.mechanism,
            &who,
            &mut self.desk.patience,
        )?;
        let locked = Instant::now();
        check_seal(&txn, &self.state, self.desk.number)?;
        recovery::settle(
            &mut txn,
            self.unsettled
                .iter()
                .map(|(task, end)| (&task.line[..], end)),
        )?;
        let (fed, fed_all) = feed(
            &mut txn,
            &workdir,
            &mut self.stream,
            self.desk.fed.is_some(),
        )?;
        self.back.extend(retract(
            &self.desk.queue,
            surplus(&self.pace, txn.state(), &self.desk.queue),
        ));
        txn.requeue(&self.back)?;
        count_interrupted(txn.state_mut(), &self.back);
        txn.refresh(&mut self.attempts)?;
        let (idle, queued) = self.desk.queue.counts();
        let (live, left) = (txn.state().live, txn.state().queue.left);
        let tasks = txn.claim(self.pace.claim(idle, queued, live, left), &self.attempts)?;
        if let Some(copy) = copy {
            txn.adopt_queue(copy)?;
        }
        let claim = tasks.iter().map(|task| task.id).collect();
        let back = self.back.iter().map(|(task, _)| task.id).collect();
        let act = Act::Turn {
            by: self.desk.number,
            settled,
            claim,
            back,
            fed,
            fed_all,
            leave: false,
        };
        let state = txn.commit(act)?;
        self.turned(state, (began, locked), n_ends, fed_all);
        self.desk.queue.put(tasks);
        Ok(())
    }

    fn turned(
        &mut self,
        state: State,
        (began, locked): (Instant, Instant),
        ends: u64,
        fed_all: bool,
    ) {
        let now = Instant::now();
        self.unsettled.clear();
        self.back.clear();
        self.stream.new.clear();
        if fed_all {
            self.desk.fed = None;
        }
        if state.queue.generation != self.state.queue.generation {
            self.times.compacted = now;
        }
        self.pace
            .measured(now - began, now - locked, ends, now - self.times.counted);
        (self.times.turned, self.times.counted, self.times.looked) = (now, now, now);
        self.desk.queue.life().sign();
        self.see(state);
    }

    fn see(&mut self, state: State) {
        *self
            .desk
            .board
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(state.clone());
        self.state = state;
    }

    /// Claimed tasks that wait here although others could start them.
    fn surplus(&self) -> u64 {
        surplus(&self.pace, &self.state, &self.desk.queue)
    }

    /// Whether `toprocess` should be written anew: now and then, and never so
    /// often that it costs more than a few writes for every claimed line.
    fn is_compaction_due(&self) -> bool {
        let queue = self.state.queue;
        let rest = queue.len - queue.cursor;
        let every = Duration::from_secs(1) * self.state.live.clamp(1, 60);
        queue.cursor > 0
            && (rest <= 1 << 20 || queue.cursor >= rest / 8)
            && self.times.compacted.elapsed() > every
    }

    /// A copy of the rest of the queue, made before the lock is taken.
    fn queue_copy(&mut self) -> Result<Option<QueueCopy>> {
        if !self.is_compaction_due() {
            return Ok(None);
        }
        self.times.compacted = Instant::now();
        let Some(state) = look(&self.desk.workdir.dir)? else {
            return Ok(None);
        };
        match QueueCopy::make(&self.desk.workdir.dir, state.queue, self.desk.number) {
            Ok(copy) => Ok(Some(copy)),
            // Somebody else wrote it anew at the same moment, or the disk is
            // full: the old one does as well.
            Err(Error::Io { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    // ---- the journal -----------------------------------------------------

    fn note_starts(&mut self) {
        for (slot, place) in self.desk.places.iter().enumerate() {
            if let Some(running) = place.note() {
                self.desk.journal.push(&Record::Start(Start {
                    id: running.id,
                    attempt: running.attempt,
                    slot: u32::try_from(slot).unwrap_or(u32::MAX),
                    pid: running.pid.as_raw().unsigned_abs(),
                    at: self.desk.clock.micros(running.started),
                }));
            }
        }
        self.times.noted = Instant::now();
    }

    fn beat_every(&self) -> Duration {
        (self.desk.takeover / 6).min(Duration::from_secs(10))
    }

    /// Writes what was started, and gives the sign of life that others watch.
    fn keep_journal(&mut self) -> Result<()> {
        if self.times.noted.elapsed() >= Duration::from_secs(1) {
            self.note_starts();
            self.desk.journal.write()?;
        }
        if self.times.beat.elapsed() >= self.beat_every() {
            let at = self.desk.clock.micros(Instant::now());
            self.desk.journal.push(&Record::Beat { at });
            self.desk.journal.sync()?;
            self.times.beat = Instant::now();
            // After a long silence only a turn tells whether we were sealed.
            if self.desk.queue.life().is_good() {
                self.desk.queue.life().sign();
            }
        }
        Ok(())
    }

    // ---- the others ------------------------------------------------------

    fn watch_every(&self) -> Duration {
        let every = (Duration::from_millis(50) * self.state.live).max(self.beat_every() / 2);
        every.clamp(Duration::from_millis(500), Duration::from_secs(30))
    }

    /// Looks at the next two neighbours, and when idle at all; takes over what
    /// the dead left.
    fn watch(&mut self) -> Result<()> {
        let since = self.times.watched.elapsed();
        if self.state.live < 2 || since < self.watch_every() {
            return Ok(());
        }
        if since > self.watch_every() * 3 {
            // We were frozen ourselves: nothing that stood still proves anything.
            self.signs.clear();
        }
        self.times.watched = Instant::now();
        let dir = self.desk.workdir.dir.clone();
        let me = self.desk.journal.farmer().to_owned();
        let all = recovery::unsealed(&dir)?;
        let after = all.partition_point(|name| *name <= me);
        let ring = all[after..]
            .iter()
            .chain(&all[..after])
            .filter(|name| **name != me);
        let is_idle = self.state.queue.left == 0 && self.desk.queue.counts().0 > 0;
        for farmer in ring.take(if is_idle { 64 } else { 2 }) {
            self.check(farmer)?;
        }
        Ok(())
    }

    fn check(&mut self, farmer: &str) -> Result<()> {
        let (dir, mechanism) = (self.desk.workdir.dir.clone(), self.desk.workdir.mechanism);
        let Some(journal) = recovery::look_at(&dir, mechanism, farmer)? else {
            return Ok(());
        };
        let now = Instant::now();
        let sign = self
            .signs
            .entry(farmer.to_owned())
            .or_insert((journal.len, now));
        if sign.0 != journal.len {
            *sign = (journal.len, now);
        }
        let is_still = now - sign.1 > self.desk.takeover;
        if !journal.is_free && !is_still {
            return Ok(());
        }
        let who = self.desk.journal.farmer().to_owned();
        let by = (&*who, Some(self.desk.number));
        let found = recovery::seal(
            &dir,
            mechanism,
            by,
            &mut self.desk.patience,
            (farmer, &*journal.file),
        )?;
        self.signs.remove(farmer);
        let how = if journal.is_free {
            "is dead"
        } else {
            "gave no sign of life"
        };
        self.say(format!(
            "farmer {farmer} {how}: {} results settled, {} tasks back in toprocess",
            found.settled, found.lost
        ));
        if let Some(state) = look(&dir)? {
            self.see_from_outside(state);
        }
        self.is_hungry = true;
        Ok(())
    }

    /// A state that was read without the lock: what it says of seals we have
    /// not looked at yet.
    fn see_from_outside(&mut self, state: State) {
        let (seals, log, epoch) = (self.state.seals, self.state.log, self.state.epoch);
        self.see(State {
            seals,
            log,
            epoch,
            ..state
        });
    }

    /// With nothing to claim: does the run still need us?
    fn look(&mut self) -> Result<()> {
        let (idle, queued) = self.desk.queue.counts();
        let is_idle = idle == self.desk.places.len() as u64 && queued == 0;
        let is_clean =
            self.unsettled.is_empty() && self.suspects.is_empty() && self.back.is_empty();
        if !is_idle || self.was_told_complete || self.state.queue.left > 0 || self.stream.is_open {
            return Ok(());
        }
        if self.times.looked.elapsed() >= LOOK_EVERY {
            self.times.looked = Instant::now();
            if let Some(state) = look(&self.desk.workdir.dir)? {
                self.see_from_outside(state);
            }
        }
        let is_over =
            self.state.is_complete() || self.state.queue.left == 0 && !self.has_reason_to_stay()?;
        if is_clean && is_over && !self.stream_ended() && self.desk.reports.is_empty() {
            self.was_told_complete = true;
            let _ = self.desk.events.send(Event::Complete);
        }
        Ok(())
    }

    /// Others of our job work on: should one die, its tasks need somebody.
    fn has_reason_to_stay(&self) -> Result<bool> {
        if !self.desk.linger || self.state.live < 2 {
            return Ok(false);
        }
        let me = self.desk.journal.farmer();
        let all = recovery::unsealed(&self.desk.workdir.dir)?;
        let ours = |name: &&String| name.split('.').rev().nth(2) == Some(&*self.desk.job);
        Ok(all.iter().filter(ours).any(|name| name != me))
    }

    // ---- waiting ---------------------------------------------------------

    /// Waits for something to do; `Some` when it is to leave.
    fn wait(&mut self) -> Option<String> {
        let now = Instant::now();
        let rest = self
            .pace
            .gap(self.state.live)
            .saturating_sub(self.times.turned.elapsed());
        let deadline = self.next_deadline(now);
        let fed = self
            .desk
            .fed
            .clone()
            .filter(|_| self.stream.is_open)
            .unwrap_or_else(never);
        let fed = if self.stream.arrived.len() > 10_000 {
            never()
        } else {
            fed
        };
        // Until the next turn may come, ends of tasks wake nobody.
        let reports = if rest.is_zero() {
            self.desk.reports.clone()
        } else {
            never()
        };
        let deadline = if rest.is_zero() {
            deadline
        } else {
            deadline.min(now + rest)
        };
        select! {
            recv(self.desk.orders) -> order => match order {
                Ok(Order::Hungry) => self.is_hungry = true,
                Ok(Order::Note(text)) => {
                    let at = self.desk.clock.micros(Instant::now());
                    self.desk.journal.push(&Record::Note { at, text });
                }
                Ok(Order::Leave(why)) => return Some(why),
                Err(_) => return Some("the supervisor is gone".into()),
            },
            recv(reports) -> report => {
                if let Ok(report) = report {
                    self.take_report(report);
                }
            }
            recv(fed) -> fed => match fed {
                Ok(fed) => self.take_fed(fed),
                Err(_) => self.stream.is_open = false,
            },
            default(deadline.saturating_duration_since(now)) => {}
        }
        None
    }

    fn next_deadline(&self, now: Instant) -> Instant {
        if self.refused_since.is_some() {
            return now + Duration::from_secs(1);
        }
        let mut next = self.times.beat + self.beat_every();
        if self.state.live > 1 {
            next = next.min(self.times.watched + self.watch_every());
        }
        let is_any_new =
            |place: &crate::host::process::Place| place.look().is_some_and(|r| !r.noted);
        if self.desk.places.iter().any(is_any_new) {
            next = next.min(self.times.noted + Duration::from_secs(1));
        }
        if let Some((at, ..)) = self.suspects.front() {
            next = next.min(*at + SUSPICION);
        }
        if self.desk.queue.counts().0 > 0 && self.state.queue.left == 0 {
            next = next.min(self.times.looked + LOOK_EVERY);
        }
        if self.wants_turn() {
            next = next.min(self.times.turned + self.pace.gap(self.state.live));
        } else if self.state.queue.cursor > 0 {
            next = next.min(
                self.times.compacted
                    + Duration::from_secs(1) * (self.state.live.clamp(1, 60))
                    + Duration::from_millis(1),
            );
        }
        next
    }

    // ---- trouble and the end ---------------------------------------------

    fn refused(&mut self, error: Error) -> Next {
        let is_busy = self.desk.places.iter().any(|place| place.look().is_some());
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        let patience = if is_busy {
            PATIENCE_BUSY
        } else {
            PATIENCE_IDLE
        };
        match error {
            Error::Sealed => {
                let _ = self.desk.events.send(Event::Sealed);
                Next::OnlyLeave
            }
            Error::Io { .. } if since.elapsed() < patience => {
                if since.elapsed() < Duration::from_millis(500) {
                    self.say(format!(
                        "{error}; trying on for {}s",
                        PATIENCE_IDLE.as_secs()
                    ));
                }
                Next::Again
            }
            Error::GaveUp => Next::OnlyLeave,
            error => {
                let _ = self.desk.events.send(Event::Trouble(error));
                Next::OnlyLeave
            }
        }
    }

    fn wait_to_leave(&mut self) -> String {
        loop {
            match self.desk.orders.recv() {
                Ok(Order::Leave(why)) => return why,
                Ok(_) => {}
                Err(_) => return "the supervisor is gone".into(),
            }
        }
    }

    /// Settles what is left to settle, gives back what did not run, leaves.
    fn leave(&mut self, why: &str) -> Result<State> {
        self.take_reports();
        for (_, task, mut end) in std::mem::take(&mut self.suspects) {
            // Killed a moment before we were told to stop: by the same hand.
            end.outcome = Outcome::Interrupted;
            self.record(task, end);
        }
        self.back.extend(retract(&self.desk.queue, u64::MAX));
        self.back.sort_by_key(|(task, _)| task.id);
        self.note_starts();
        let at = self.desk.clock.micros(Instant::now());
        self.desk.journal.push(&Record::Leave {
            at,
            why: why.to_owned(),
        });
        self.desk.journal.sync()?;
        let settled = self.desk.journal.end();
        let workdir = self.desk.workdir.clone();
        let who = self.desk.journal.farmer().to_owned();
        let mut txn = Txn::begin(
            &workdir.dir,
            workdir.mechanism,
            &who,
            &mut self.desk.patience,
        )?;
        check_seal(&txn, &self.state, self.desk.number)?;
        recovery::settle(
            &mut txn,
            self.unsettled
                .iter()
                .map(|(task, end)| (&task.line[..], end)),
        )?;
        if txn.state().live > 1 {
            txn.requeue(&self.back)?;
        } else {
            txn.requeue_in_front(&self.back)?;
        }
        let feeds = self.desk.fed.is_some();
        let state = txn.state_mut();
        count_interrupted(state, &self.back);
        state.live = state.live.saturating_sub(1);
        state.feeding = state.feeding.saturating_sub(u32::from(feeds));
        txn.cut_tails()?;
        let back: Ids = self.back.iter().map(|(task, _)| task.id).collect();
        let mut state = txn.commit(Act::Turn {
            by: self.desk.number,
            settled,
            claim: Ids::default(),
            back,
            fed: 0,
            fed_all: feeds,
            leave: true,
        })?;
        recovery::mark(&workdir.dir, &who)?;
        if feeds && self.stream.is_open || self.stream.is_cut {
            // What the stream still holds is work, too.
            state.feeding += 1;
        }
        Ok(state)
    }

    fn say(&self, text: String) {
        let _ = self.desk.events.send(Event::Say(text));
    }
}

enum Next {
    Again,
    OnlyLeave,
}

/// Whether others have sealed us since the state that we saw last.
fn check_seal(txn: &Txn<'_>, last: &State, number: u32) -> Result<()> {
    let now = txn.state();
    if now.epoch != last.epoch || now.log < last.log {
        // The log was begun anew: nobody was alive then, in the others' eyes.
        return Err(Error::Sealed);
    }
    if now.seals == last.seals {
        return Ok(());
    }
    let sealed = |act: &Act| matches!(act, Act::Seal { of, .. } if *of == number);
    let entries = txn.entries(last.log, now.log)?;
    if entries.iter().any(|entry| sealed(&entry.act)) {
        Err(Error::Sealed)
    } else {
        Ok(())
    }
}

fn count_interrupted(state: &mut State, back: &[(Task, Option<Why>)]) {
    state.interrupted += back.iter().filter(|(_, why)| why.is_some()).count() as u64;
}

/// Tasks that wait here beyond the lookahead, when nobody else finds any more.
fn surplus(pace: &Pace, state: &State, queue: &Queue) -> u64 {
    if state.live < 2 || state.queue.left > 0 {
        return 0;
    }
    let (idle, queued) = queue.counts();
    // Out of unclaimed tasks the lookahead is nothing: keep what starts soon.
    queued.saturating_sub(idle + pace.soon())
}

fn retract(queue: &Queue, n: u64) -> Vec<(Task, Option<Why>)> {
    if n == 0 {
        return Vec::new();
    }
    queue
        .retract(n)
        .into_iter()
        .map(|task| (task, None))
        .collect()
}

/// Adds the new tasks of a stream; how many, and whether the stream is over.
fn feed(
    txn: &mut Txn<'_>,
    workdir: &Workdir,
    stream: &mut Stream,
    feeds: bool,
) -> Result<(u64, bool)> {
    if !feeds {
        return Ok((0, false));
    }
    stream.known.refresh(&workdir.dir, txn)?;
    for line in std::mem::take(&mut stream.arrived) {
        if stream.known.is_new(&line) {
            stream.new.push(line);
        }
    }
    let mut lines = Vec::new();
    for (id, line) in (txn.state().tasks.lines..).zip(&stream.new) {
        push_line(&mut lines, crate::model::task::TaskId(id), line);
    }
    txn.add(&lines, stream.new.len() as u64)?;
    let is_over = !stream.is_open;
    if is_over {
        let state = txn.state_mut();
        state.feeding = state.feeding.saturating_sub(1);
    }
    Ok((stream.new.len() as u64, is_over))
}
