//! The main loop of a farmer: every event comes in here, the model decides,
//! this thread acts.
//!
//! Others rely on this: it alone tells tasks to end, it never touches the
//! shared files, and it blocks on nothing but its channel, with the next
//! deadline.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::clock::Clock;
use super::ledger::Board;
use super::lock_wait::CancelOnDrop;
use super::message::{Event, Failure, Order, Places, Stopped};
use super::queue::Queue;
use super::walltime::Endgame;
use crate::host::memory::OomKills;
use crate::host::process::{Place, Told, end_orphans, is_stopped, reap_orphans, stand_still};
use crate::host::signals::SUSPENDS;
use crate::model::escape::{clip, escape};
use crate::model::farmer::{self, Action, Cause, Lifecycle, Phase};
use crate::model::ids::Ids;
use crate::model::limits::{LimitAction, Limits, RunningTask};
use crate::model::outcome::signal_name;
use crate::model::record::{Mark, Record};
use crate::model::task::TaskId;
use crate::ui::progress::{Progress, ProgressCounts};
use crate::ui::stopping::Stopping;
use crate::workdir::state::State;

/// Progress is shown and orphans are reaped this often, which is also the
/// longest sleep.
const SHOW: Duration = Duration::from_millis(500);
/// The first time comes early: people look then.
pub(super) const FIRST_SHOW: Duration = Duration::from_millis(100);
/// A sleep that lasts so much longer than planned was none of ours: we were
/// frozen.
const FROZEN: Duration = Duration::from_secs(2);
/// How many failures are kept for the summary.
const FAILURES_KEPT: usize = 5;
/// Of so many tasks people are told that they left processes behind, and of so many it
/// is noted.
const LEFT_TOLD: u32 = 5;
const LEFT_NOTED: u32 = 100;
/// A slot may take so long between a task and its process.
const STARTING: Duration = Duration::from_millis(20);
/// A task is told to be stopped when it has been for so long: what suspends a job stops
/// tasks and farmer one after the other.
const STOPPED_FOR: Duration = Duration::from_secs(1);

/// What the supervisor works with.
pub(super) struct Supervisor {
    /// The workdir as the user names it.
    pub workdir: String,
    /// Decides.
    pub farmer: Lifecycle,
    /// The time limit of tasks.
    pub limits: Option<Limits>,
    /// The end of the allocation.
    pub endgame: Endgame,
    /// Whether this process reports what every process of the run knows.
    pub speaks_for_all: bool,
    /// Whether to tell them more than they need.
    pub is_verbose: bool,
    /// The farmer's clock.
    pub clock: Clock,
    /// Everything that happens.
    pub events: Receiver<Event>,
    /// To the ledger.
    pub orders: Sender<Order>,
    /// Closed when nothing may start any more.
    pub queue: Arc<Queue>,
    /// What runs.
    pub places: Places,
    /// How the run stands.
    pub board: Board,
    /// Shows it.
    pub progress: Progress,
    /// Dropped to end the ledger's waits for the lock.
    pub cancel: Option<CancelOnDrop>,
    /// The guard, which is a child of ours and no orphan.
    pub guard: Pid,
    /// Slots that still run.
    pub slots: usize,
    /// When the run is shown next.
    pub show_at: Duration,
    /// What was seen of tasks beside their ends.
    pub seen: Seen,
    /// For how long the process was frozen so far.
    pub frozen: Duration,
    /// The first failures so far.
    pub failures: Vec<Failure>,
}

/// What was seen of tasks beside their ends.
pub(super) struct Seen {
    /// Those that a signal has stopped and nobody was told of.
    stopped: Vec<Stopped>,
    /// Evidence of kills for lack of memory.
    oom: Arc<OomKills>,
    /// How many have left processes behind.
    left_behind: u32,
    /// For how long we stood still as we were told, and it is not accounted for yet.
    stood: Duration,
}

impl Seen {
    /// Nothing yet.
    pub(super) fn new(oom: Arc<OomKills>) -> Self {
        Self {
            stopped: Vec::new(),
            oom,
            left_behind: 0,
            stood: Duration::ZERO,
        }
    }
}

/// How it ended.
pub(super) struct Ended {
    /// The decisions that were made.
    pub farmer: Lifecycle,
    /// How the run stands; none when the ledger could not leave.
    pub state: Option<State>,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// Why tasks were not started, when time was lacking.
    pub short: Option<String>,
    /// For how long the process was frozen.
    pub frozen: Duration,
    /// Slots whose tasks did not end.
    pub slots: usize,
    /// What showed the run.
    pub progress: Progress,
}

impl Supervisor {
    /// Runs the farmer to its end.
    pub(super) fn run(mut self) -> Ended {
        let (mut state, mut frozen) = (None, self.frozen);
        // The farmer's time stands still while we are frozen; all other times
        // here are the clock's.
        let mut limit_at = self.limits.as_ref().map(|_| Duration::ZERO);
        while self.farmer.phase() != Phase::Done {
            let farmer_at = self.farmer.deadline().map(|at| at + frozen);
            let wakes = [Some(self.show_at), farmer_at, limit_at];
            let planned = wakes.into_iter().flatten().min().unwrap_or_default();
            let event = self.events.recv_deadline(self.clock.began() + planned);
            let now = self.clock.now();
            let late = now.saturating_sub(planned);
            if late > FROZEN {
                frozen += late;
                self.thawed(now, late);
            }
            if limit_at.is_some_and(|at| now >= at) {
                limit_at = self.enforce_limits(now);
            }
            let signal = match &event {
                Ok(Event::Signal(signal)) => Some(*signal),
                _ => None,
            };
            let before = self.farmer.phase();
            let event = event.map_or(Some(farmer::Event::Tick), |event| {
                self.take(event, &mut state)
            });
            let stood = std::mem::take(&mut self.seen.stood);
            frozen += stood;
            limit_at = limit_at.map(|at| at + stood);
            // Time passes also while events keep coming.
            let walltime = self.look_at_walltime();
            let mut asked = None;
            for event in event
                .into_iter()
                .chain(walltime)
                .chain([farmer::Event::Tick])
            {
                for action in self.farmer.handle(now.saturating_sub(frozen), event) {
                    if matches!(action, Action::Terminate | Action::Kill) {
                        asked = Some(self.running());
                    }
                    self.act(action);
                }
            }
            self.tell_stopping(signal, before, asked, now.saturating_sub(frozen));
            self.show(now);
        }
        Ended {
            short: self.endgame.why(),
            farmer: self.farmer,
            state,
            failures: self.failures,
            frozen,
            slots: self.slots,
            progress: self.progress,
        }
    }

    /// Whether the end of the allocation asks for something.
    fn look_at_walltime(&mut self) -> Option<farmer::Event> {
        if self.farmer.phase() != Phase::Running {
            return None;
        }
        let event = self.endgame.look();
        if let Some((mark, text)) = self.endgame.news() {
            self.tell(&text);
            let at = self.clock.micros(Instant::now());
            let mark = Some(mark);
            // The ledger wakes up by it, and gives back what is held.
            let _ = self
                .orders
                .send(Order::Write(Box::new(Record::Note { at, text, mark })));
        }
        event
    }

    /// What happens next, when a signal came or the farm begins to stop; `asked` is how
    /// many tasks were told to end just now: some may have ended since.
    fn tell_stopping(
        &mut self,
        signal: Option<i32>,
        before: Phase,
        asked: Option<u64>,
        now: Duration,
    ) {
        if signal.is_none() && (!self.speaks_for_all || before == self.farmer.phase()) {
            return;
        }
        let stopping = Stopping {
            signal,
            before,
            after: self.farmer.phase(),
            cause: self.farmer.cause(),
            running: asked.unwrap_or_else(|| self.running()),
            now,
            ends_in: self.endgame.stops_in(),
        };
        if let Some(text) = stopping.text() {
            self.progress.say(&format!("pytf: {text}"));
        }
    }

    /// How many tasks run here.
    fn running(&self) -> u64 {
        let places = self.places.iter();
        places.filter(|place| place.look().is_some()).count() as u64
    }

    /// Tells people what every process of the run knows.
    fn tell(&mut self, text: &str) {
        if self.speaks_for_all {
            self.progress.say(&format!("pytf: {text}"));
        }
    }

    /// What an event means to the model; some are only told.
    fn take(&mut self, event: Event, left: &mut Option<State>) -> Option<farmer::Event> {
        match event {
            Event::Signal(SUSPENDS) => {
                self.stand_still();
                None
            }
            Event::Signal(signal) => {
                let name = signal_name(signal);
                let _ = self.orders.send(Order::Note(name));
                Some(match Signal::try_from(signal) {
                    Ok(Signal::SIGUSR1) => {
                        let is_known = self.endgame.is_known();
                        farmer::Event::EndNear { signal, is_known }
                    }
                    _ => farmer::Event::Signal(signal),
                })
            }
            Event::TaskFailed(failure) => {
                self.tell_failure(&failure);
                if self.failures.len() < FAILURES_KEPT {
                    self.failures.push(failure);
                }
                None
            }
            Event::Say(text) => {
                self.progress.say(&format!("pytf: {text}"));
                None
            }
            Event::Warn(text) => {
                self.progress.warn(&format!("pytf: {text}"));
                None
            }
            Event::Ends(left) => {
                if let Some(text) = self.endgame.learn(left) {
                    if self.is_verbose {
                        self.tell(&text);
                    }
                    let _ = self.orders.send(Order::Note(text));
                }
                None
            }
            Event::WrongInput => {
                self.farmer.note_wrong_input();
                None
            }
            Event::Complete => Some(farmer::Event::Complete),
            Event::Trouble(error) => {
                let way_out = error.way_out(&self.workdir).unwrap_or_default();
                self.progress.warn(&format!("pytf: {error}{way_out}"));
                Some(farmer::Event::Trouble)
            }
            Event::Sealed => Some(farmer::Event::Sealed),
            Event::Stopped(one) => {
                self.seen.stopped.push(one);
                None
            }
            Event::SlotDone => {
                self.slots -= 1;
                (self.slots == 0).then_some(farmer::Event::SlotsDone)
            }
            Event::Left(state) => {
                *left = state.map(|state| *state);
                Some(farmer::Event::Left)
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Hold => self.endgame.drain(),
            Action::Close(_) => self.queue.close(),
            // CONT after TERM: a stopped task must be able to die.
            Action::Terminate => self.tell_all(&[Signal::SIGTERM, Signal::SIGCONT]),
            Action::Kill => self.tell_all(&[Signal::SIGKILL]),
            Action::Leave => {
                self.endgame.close();
                self.tell_left_behind();
                self.tell_memory_kills(true);
                end_orphans(Some(self.guard));
                let why = self.why();
                let _ = self.orders.send(Order::Leave(why));
                if self.farmer.cause() == Cause::Sealed {
                    // There is nothing to leave any more, nor to wait for.
                    self.cancel = None;
                }
            }
            Action::GiveUp => self.cancel = None,
        }
    }

    fn why(&self) -> String {
        match self.farmer.cause() {
            Cause::Complete => "nothing left to do".into(),
            Cause::TimeUp => "the time is over".into(),
            Cause::Walltime => "the allocation ends".into(),
            Cause::Signal(signal) => signal_name(signal),
            Cause::Trouble => "the workdir cannot be used".into(),
            Cause::Sealed => "cut off".into(),
        }
    }

    fn tell_all(&self, signals: &[Signal]) {
        for place in self.places.iter() {
            place.tell(Told::Stop, signals);
        }
    }

    /// Tells tasks that are over their limit to end; returns when the next can be.
    fn enforce_limits(&mut self, now: Duration) -> Option<Duration> {
        let limits = self.limits.as_mut()?;
        let began = self.clock.began();
        let running: Vec<RunningTask> = (0..)
            .zip(self.places.iter())
            .filter_map(|(slot, place)| {
                let running = place.look()?;
                let since = running.started.saturating_duration_since(began);
                Some(RunningTask {
                    slot,
                    pid: running.pid.as_raw(),
                    since,
                })
            })
            .collect();
        let (due, next) = limits.due(now, &running);
        for over in due {
            let (slot, signals): (u32, &[Signal]) = match over {
                LimitAction::Terminate(slot) => (slot, &[Signal::SIGTERM, Signal::SIGCONT]),
                LimitAction::Kill(slot) => (slot, &[Signal::SIGKILL]),
            };
            self.places[slot as usize].tell(Told::TimeLimit, signals);
        }
        Some(next)
    }

    /// Stops our tasks, and then this process, as whoever suspends a job expects; goes
    /// on with both when that is over.
    fn stand_still(&mut self) {
        let text = "SIGTSTP: stands still with its tasks until SIGCONT (fg); others take \
                    them over if that lasts";
        self.progress.say(&format!("pytf: {text}"));
        let _ = self.orders.send(Order::Note("SIGTSTP".into()));
        self.queue.hold_after(Some(Instant::now()));
        let began = self.clock.now();
        // A slot may have been about to start a task: once more, a moment later.
        for _ in 0..2 {
            for place in self.places.iter() {
                place.signal(Signal::SIGSTOP);
            }
            self.queue.is_closed_within(STARTING);
        }
        stand_still();
        for place in self.places.iter() {
            place.signal(Signal::SIGCONT);
        }
        let now = self.clock.now();
        let length = now.saturating_sub(began);
        self.seen.stood += length;
        self.show_at = now;
        self.seen.stopped.clear();
        // It also lets the queue go again.
        self.thawed(now, length);
    }

    /// Tells of tasks that a signal has stopped, and that still stand.
    fn tell_stopped(&mut self) {
        let due = |one: &Stopped| one.at.elapsed() >= STOPPED_FOR;
        let (due, wait) = std::mem::take(&mut self.seen.stopped)
            .into_iter()
            .partition(due);
        self.seen.stopped = wait;
        let due: Vec<Stopped> = due;
        for one in due {
            let running = self.places[one.slot as usize].look();
            let is_there = running.is_some_and(|running| running.pid == one.pid);
            if !is_there || !is_stopped(one.pid) {
                continue;
            }
            let text = format!(
                "task {} is stopped by {}: it goes on after 'kill -CONT {}' on this node, and \
                 ends at its time limit (--task-timeout) or with the farm",
                one.id,
                one.signal.as_str(),
                one.pid
            );
            let _ = self.orders.send(Order::Note(text.clone()));
            self.progress.warn(&format!("pytf: {text}"));
        }
    }

    /// Reaps orphans, and tells which tasks have left processes behind.
    fn tell_left_behind(&mut self) {
        let mut of: BTreeMap<TaskId, u32> = BTreeMap::new();
        for group in reap_orphans(Some(self.guard)) {
            let had = self.places.iter().find_map(|place| place.had(group));
            if let Some(id) = had {
                *of.entry(id).or_default() += 1;
            }
        }
        for (id, count) in of {
            self.seen.left_behind += 1;
            if self.seen.left_behind > LEFT_NOTED {
                return;
            }
            let them = if count == 1 { "a process" } else { "processes" };
            let text = format!("task {id} ended and left {them} behind, ended with it");
            self.note(text.clone(), Mark::LeftBehind);
            if self.seen.left_behind <= LEFT_TOLD {
                self.progress.say(&format!("pytf: {text}"));
            }
        }
    }

    /// Tells of kills for lack of memory that no end of a task tells of.
    fn tell_memory_kills(&mut self, is_last: bool) {
        let kills = self.seen.oom.unexplained(is_last);
        if kills == 0 {
            return;
        }
        let running = self.places.iter().filter_map(Place::look);
        let ids: Ids = running.map(|running| running.id).collect();
        let ran = if ids.is_empty() {
            String::new()
        } else {
            format!("; running now: {}", clip(&ids.to_string(), 60))
        };
        let text = format!(
            "the kernel killed for lack of memory ({kills} times, counted for {}), and no task \
             ended by it: a task whose child was killed may finish without its result{ran}",
            self.seen.oom.scope()
        );
        self.note(text.clone(), Mark::MemoryKill);
        self.progress.warn(&format!("pytf: {text}"));
    }

    fn note(&self, text: String, mark: Mark) {
        let at = self.clock.micros(Instant::now());
        let mark = Some(mark);
        let _ = self
            .orders
            .send(Order::Write(Box::new(Record::Note { at, text, mark })));
    }

    fn thawed(&mut self, now: Duration, length: Duration) {
        self.endgame.thawed(length);
        if let Some(limits) = &mut self.limits {
            limits.frozen(now, length);
        }
        let text = format!(
            "frozen for {:.1}s, which is not charged",
            length.as_secs_f64()
        );
        let _ = self.orders.send(Order::Note(text));
    }

    fn tell_failure(&mut self, failure: &Failure) {
        let log = match &failure.log {
            Some(log) if log.part.is_none() => format!(" [{}]", log.file),
            _ => String::new(),
        };
        let attempt = match failure.attempt {
            1 => String::new(),
            n => format!(", attempt {n}"),
        };
        let text = format!(
            "pytf: task {}{attempt}: {}{log}: {}",
            failure.id,
            failure.outcome,
            escape(&failure.line)
        );
        self.progress.failure(self.clock.now(), &text);
    }

    /// Shows how the run stands, and reaps orphans; not at every event.
    fn show(&mut self, now: Duration) {
        if now < self.show_at {
            return;
        }
        self.show_at = now + SHOW;
        self.tell_stopped();
        self.tell_memory_kills(false);
        self.tell_left_behind();
        let state = self
            .board
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let running = self.running();
        self.progress.update(now, &counts(&state, running));
    }
}

/// How the run stands, as it is shown.
pub(super) fn counts(state: &State, running: u64) -> ProgressCounts {
    ProgressCounts {
        done: state.finished.lines,
        failed: state.failed.lines,
        running,
        left: state.left() + state.claimed().saturating_sub(running),
        total: (state.feeding == 0).then(|| state.tasks.lines.saturating_sub(state.dropped)),
    }
}
