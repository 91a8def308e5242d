//! The main loop of a farmer: every event comes in here, the model decides,
//! this thread acts.
//!
//! Guarantee: it alone asks tasks to end, it never touches the shared files, and it blocks only
//! on its channel, until the next deadline.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::anomalies::Anomalies;
use super::lock_wait::CancelOnDrop;
use super::message::{Event, FailedAttempt, LedgerRequest};
use super::shared::{Farm, Shared};
use super::suspension::Suspension;
use super::walltime::Endgame;
use crate::host::process::{StopReason, end_orphans, stop_self};
use crate::host::signals::SUSPENDS;
use crate::model::dialects::as_written;
use crate::model::durations;
use crate::model::escape::{clip, escape};
use crate::model::farmer::{self, Action, Cause, Lifecycle, Phase};
use crate::model::figures::counted;
use crate::model::ids::Ids;
use crate::model::limits::{LimitAction, Limits, RunningTask};
use crate::model::outcome::signal_name;
use crate::model::record::{LogAt, Mark, Record};
use crate::model::task::TaskId;
use crate::ui::progress::{Progress, ProgressCounts};
use crate::ui::stopping::Stopping;
use crate::ui::summary::quoted;
use crate::workdir::orders::Cancel;
use crate::workdir::state::State;

/// Progress is shown and orphans are reaped this often, which is also the
/// longest sleep.
const SHOW: Duration = Duration::from_millis(500);
/// The first time comes early, when users watch.
pub(super) const FIRST_SHOW: Duration = Duration::from_millis(100);
/// When a wait lasts so much longer than planned, the process was frozen.
const FROZEN: Duration = Duration::from_secs(2);
/// How much of a reason is shown.
const SHOWN: usize = 200;
/// How many failures are kept for the summary.
const FAILURES_KEPT: usize = 5;
/// The time of a slot between taking a task and its process.
const STARTING: Duration = Duration::from_millis(20);

/// What the supervisor works with.
pub(super) struct Supervisor<'a> {
    /// What stays when the farmer ends.
    pub farm: &'a Farm<'a>,
    /// What it shares with the slots and the ledger.
    pub shared: Arc<Shared>,
    /// Decides.
    pub farmer: Lifecycle,
    /// The time limit of tasks, and the end of cancelled ones.
    pub limits: Limits,
    /// When a task can be over it, or is to be killed.
    pub limit_at: Option<Duration>,
    /// The end of the allocation.
    pub endgame: Endgame,
    /// What happens to tasks beside their ends.
    pub anomalies: Anomalies,
    /// Whether a paused run stops them.
    pub suspension: Suspension,
    /// Shows the state of the run.
    pub progress: Progress,
    /// Dropped to end the ledger's waits for the lock.
    pub cancel: Option<CancelOnDrop>,
    /// Children of ours that are no orphans: the guard, and the way to a workdir elsewhere.
    pub own: Vec<Pid>,
    /// Slots that still run.
    pub slots: usize,
    /// When the run is shown next.
    pub show_at: Duration,
    /// How long the process was suspended, not accounted for yet.
    pub suspended: Duration,
    /// For how long the process was frozen so far.
    pub frozen: Duration,
    /// The first failures so far.
    pub failures: Vec<FailedAttempt>,
    /// Whether it was said that we wait for tasks.
    pub has_waited: bool,
}

/// How a farmer ended.
pub(super) struct FarmerEnd {
    /// The decisions that were made.
    pub farmer: Lifecycle,
    /// The state of the run; none when the ledger could not leave.
    pub state: Option<State>,
    /// The first failures.
    pub failures: Vec<FailedAttempt>,
    /// Why tasks were not started, when time was lacking.
    pub short: Option<String>,
    /// When nothing may run any more, by the end of the allocation.
    pub stop_at: Option<Instant>,
    /// For how long the process was frozen.
    pub frozen: Duration,
    /// Slots whose tasks did not end.
    pub slots: usize,
    /// What showed the run.
    pub progress: Progress,
}

impl Supervisor<'_> {
    /// Runs the farmer to its end.
    pub(super) fn run(mut self) -> FarmerEnd {
        let (mut state, mut frozen) = (None, self.frozen);
        // The farmer's time stands still while we are frozen; all other times
        // here are the clock's.
        self.limit_at = self.farm.options.task_timeout.map(|_| Duration::ZERO);
        while self.farmer.phase() != Phase::Done {
            let farmer_at = self.farmer.deadline().map(|at| at + frozen);
            let wakes = [Some(self.show_at), farmer_at, self.limit_at];
            let planned = wakes.into_iter().flatten().min().unwrap_or_default();
            let event = self
                .farm
                .inbox
                .recv_deadline(self.shared.clock.began() + planned);
            let now = self.shared.clock.now();
            let late = now.saturating_sub(planned);
            if late > FROZEN {
                frozen += late;
                self.thawed(now, late);
            }
            let is_cancel = matches!(event, Ok(Event::Cancel { .. } | Event::LimitRuns));
            if is_cancel || self.limit_at.is_some_and(|at| now >= at) {
                self.limit_at = Some(self.enforce_limits(now));
            }
            let signal = match &event {
                Ok(Event::Signal(signal)) => Some(*signal),
                _ => None,
            };
            let before = self.farmer.phase();
            let event = event.map_or(Some(farmer::Event::Tick), |event| {
                self.take(event, &mut state)
            });
            let suspended = std::mem::take(&mut self.suspended);
            frozen += suspended;
            self.limit_at = self.limit_at.map(|at| at + suspended);
            // Time passes also while events keep coming.
            let walltime = self.check_walltime();
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
            self.report_stopping(signal, before, asked, now.saturating_sub(frozen));
            self.show(now);
        }
        FarmerEnd {
            short: self.endgame.why(),
            stop_at: self.endgame.stops_in().map(|left| Instant::now() + left),
            farmer: self.farmer,
            state,
            failures: self.failures,
            frozen,
            slots: self.slots,
            progress: self.progress,
        }
    }

    /// Whether the end of the allocation requires something.
    fn check_walltime(&mut self) -> Option<farmer::Event> {
        if self.farmer.phase() != Phase::Running {
            return None;
        }
        let event = self.endgame.check();
        if let Some((mark, text)) = self.endgame.news() {
            self.report(&text);
            // The ledger wakes up by it, and gives back what is held.
            self.note(text, Some(mark));
        }
        event
    }

    /// Reports what happens next, when a signal came or the farm begins to stop; `asked` is
    /// how many tasks were asked to end just now: some may have ended since.
    fn report_stopping(
        &mut self,
        signal: Option<i32>,
        before: Phase,
        asked: Option<u64>,
        now: Duration,
    ) {
        if signal.is_none()
            && (!self.farm.node.allocation.speaks_for_all() || before == self.farmer.phase())
        {
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
            self.say(&text);
        }
    }

    /// How many tasks run here.
    fn running(&self) -> u64 {
        self.shared.running().count() as u64
    }

    fn say(&mut self, text: &str) {
        self.progress.say(&format!("pytf: {text}"));
    }

    fn warn(&mut self, text: &str) {
        self.progress.warn(&format!("pytf: {text}"));
    }

    /// Records a note in the journal and the timeline.
    fn note(&self, text: String, mark: Option<Mark>) {
        let at = self.shared.clock.micros(Instant::now());
        let note = Record::Note { at, text, mark };
        self.shared.request(LedgerRequest::Write(Box::new(note)));
    }

    /// Shows what every process of the run knows.
    fn report(&mut self, text: &str) {
        if self.farm.node.allocation.speaks_for_all() {
            self.say(text);
        }
    }

    /// What an event means to the model; some are only shown.
    fn take(&mut self, event: Event, left: &mut Option<State>) -> Option<farmer::Event> {
        match event {
            Event::Signal(SUSPENDS) => self.suspend(),
            Event::Signal(signal) => {
                self.note(signal_name(signal), None);
                let is_known = self.endgame.is_known();
                return Some(match Signal::try_from(signal) {
                    Ok(Signal::SIGUSR1) => farmer::Event::EndNear { signal, is_known },
                    _ => farmer::Event::Signal(signal),
                });
            }
            Event::TaskFailed(failure) => {
                self.report_failure(&failure);
                if failure.again.is_none() && self.failures.len() < FAILURES_KEPT {
                    self.failures.push(failure);
                }
            }
            Event::LogTask(line) => self.progress.task(&line),
            Event::Say(text) => self.say(&text),
            Event::Warn(text) => self.warn(&text),
            Event::Ends(left) => {
                if let Some(text) = self.endgame.learn(left) {
                    if self.farm.options.verbose {
                        self.report(&text);
                    }
                    self.note(text, None);
                }
            }
            Event::WrongInput => self.farmer.note_wrong_input(),
            Event::Complete => return Some(farmer::Event::Complete),
            Event::WorkdirUnusable(error) => {
                let workdir = self.farm.workdir.path.display().to_string();
                let way_out = error.way_out(&workdir).unwrap_or_default();
                self.warn(&format!("{error}{way_out}"));
                return Some(farmer::Event::WorkdirUnusable);
            }
            Event::Fenced => return Some(farmer::Event::Fenced),
            Event::Paused(is_paused) => self.report_paused(is_paused),
            Event::Waiting => self.report_waiting(),
            Event::Stop => return Some(farmer::Event::Stop),
            Event::StopTasks(is_on) => self.stop_tasks(is_on),
            Event::Drain => {
                // What is stopped does not end.
                self.stop_tasks(false);
                return Some(farmer::Event::Drain);
            }
            Event::TooManyFailed(failed) => {
                let stop = self.farm.options.halt_now;
                self.stop_tasks(false);
                self.report_too_many_failed(failed);
                return Some(farmer::Event::TooManyFailed { stop });
            }
            Event::Cancel { cancel, running } => self.report_cancelled(&cancel, running),
            Event::LimitRuns => {}
            // We have stopped it ourselves.
            Event::Stopped(_) if self.suspension.is_on() => {}
            Event::Stopped(one) => self.anomalies.add_stopped(one),
            Event::SlotDone => {
                self.slots -= 1;
                return (self.slots == 0).then_some(farmer::Event::SlotsDone);
            }
            Event::Left(state) => {
                *left = state.map(|state| *state);
                return Some(farmer::Event::Left);
            }
        }
        None
    }

    /// Once: tasks may come one by one.
    fn report_waiting(&mut self) {
        if std::mem::replace(&mut self.has_waited, true) {
            return;
        }
        let path = self.farm.workdir.path.as_os_str().as_encoded_bytes();
        let workdir = quoted(&escape(path));
        let idle = self
            .farm
            .options
            .follow
            .filter(|idle| *idle < Duration::MAX);
        let idle = idle.map_or_else(String::new, |idle| {
            format!(", or until none has come for {}", durations::show(idle))
        });
        self.report(&format!(
            "waiting for tasks of 'pytf add {workdir}', until 'pytf close {workdir}'{idle}"
        ));
    }

    fn report_paused(&mut self, is_paused: bool) {
        if !is_paused {
            self.report("the run is resumed: tasks are started again");
            return self.note("the run is resumed".into(), None);
        }
        let workdir = self.farm.workdir.path.as_os_str().as_encoded_bytes();
        self.report(&format!(
            "the run is paused: nothing more is started; 'pytf resume {}' lifts it",
            quoted(&escape(workdir))
        ));
        self.note("the run is paused".into(), None);
    }

    fn report_too_many_failed(&mut self, failed: u64) {
        if self.farm.node.allocation.speaks_for_all() {
            self.report(&format!(
                "{}, the limit of --max-fail",
                counted(failed, "task has failed", "tasks have failed")
            ));
        }
    }

    /// Stops running tasks while the run is paused, or continues them. Those that were asked to
    /// end are left alone.
    fn stop_tasks(&mut self, is_on: bool) {
        let now = self.shared.clock.now();
        if is_on && !self.suspension.is_on() && self.farmer.phase() == Phase::Running {
            self.suspension.begin(now);
            self.anomalies.forget_stopped();
            self.report("running tasks are stopped until the run is resumed");
            self.note("running tasks are stopped".into(), None);
        } else if !is_on && let Some(length) = self.suspension.end(now) {
            self.continued(now, length);
            self.report("running tasks are continued");
            self.note("running tasks are continued".into(), None);
        }
    }

    /// Tasks were stopped for this time, which does not count for their time limit.
    fn continued(&mut self, now: Duration, length: Duration) {
        self.anomalies.forget_stopped();
        self.shared.times.thawed();
        self.limit_at = self.limit_at.map(|_| now);
        self.limits.stopped(now, length);
    }

    /// Says which of our tasks are ended: those that ran when the order came, and those that
    /// were about to start.
    fn report_cancelled(&mut self, cancel: &Cancel, mut ids: Vec<TaskId>) {
        ids.extend(self.shared.running_of(cancel));
        if ids.is_empty() {
            return;
        }
        ids.sort_unstable();
        ids.dedup();
        let ids: Ids = ids.into_iter().collect();
        let tasks = match ids.count() {
            1 => "task",
            _ => "tasks",
        };
        let reason = cancel.reason.as_ref().map_or_else(String::new, |reason| {
            format!(": {}", clip(&escape(reason.as_bytes()), SHOWN))
        });
        let text = format!("pytf cancel: running {tasks} {ids} asked to end{reason}");
        self.say(&text);
        self.note(text, None);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Hold => self.endgame.drain(match self.farmer.drained_by() {
                Some(Cause::Drain) => "pytf drain; running tasks go on",
                Some(Cause::Failures) => "--max-fail; running tasks go on",
                _ => "the end of the allocation is near",
            }),
            Action::Close(_) => {
                // From now on tasks are asked to end.
                let now = self.shared.clock.now();
                if let Some(length) = self.suspension.lift(now) {
                    self.continued(now, length);
                }
                self.shared.queue.close();
            }
            // CONT after TERM: a stopped task must be able to die.
            Action::Terminate => self.signal_all(&[Signal::SIGTERM, Signal::SIGCONT]),
            Action::Kill => self.signal_all(&[Signal::SIGKILL]),
            Action::Leave => {
                self.endgame.close();
                self.report_left_behind();
                self.report_memory_kills(true);
                end_orphans(&self.own);
                self.shared
                    .request(LedgerRequest::Leave(why(self.farmer.cause())));
                if self.farmer.cause() == Cause::Fenced {
                    // The ledger cannot leave any more, and waits for nothing.
                    self.cancel = None;
                }
            }
            Action::GiveUp => self.cancel = None,
        }
    }

    fn signal_all(&self, signals: &[Signal]) {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        for process in &self.shared.processes {
            process.stop(StopReason::Stop, signals);
        }
    }

    /// Asks tasks that are over their limit to end; returns when the next can be.
    fn enforce_limits(&mut self, now: Duration) -> Duration {
        let cancelled = &self.shared.cancelled;
        let began = self.shared.clock.began();
        let running: Vec<RunningTask> = (0..)
            .zip(self.shared.processes.iter())
            .filter_map(|(slot, process)| {
                let running = process.running()?;
                let is_cancelled = cancelled.contains(running.id, running.attempt);
                // A task that is stopped does not reach its time limit. One that was asked to
                // end is not stopped.
                let is_asked = running.stop_reason.is_some();
                if self.suspension.is_on() && !is_cancelled && !is_asked {
                    return None;
                }
                Some(RunningTask {
                    slot,
                    pid: running.pid.as_raw(),
                    since: running.started.saturating_duration_since(began),
                    is_cancelled,
                    limit: running.limit,
                })
            })
            .collect();
        let (due, next) = self.limits.due(now, &running);
        for over in due {
            let (slot, signals): (u32, &[Signal]) = match over {
                LimitAction::Terminate(slot) => (slot, &[Signal::SIGTERM, Signal::SIGCONT]),
                LimitAction::Kill(slot) => (slot, &[Signal::SIGKILL]),
            };
            let is_it = |task: &RunningTask| task.slot == slot && task.is_cancelled;
            let why = if running.iter().any(is_it) {
                StopReason::Cancel
            } else {
                StopReason::TimeLimit
            };
            self.shared.processes[slot as usize].stop(why, signals);
        }
        next
    }

    /// Stops the tasks and then this process, as a suspension requires; continues both
    /// when it is over.
    fn suspend(&mut self) {
        let text = "SIGTSTP: stopped with its tasks until SIGCONT (fg); others take them \
                    over after the takeover time";
        self.say(text);
        self.note("SIGTSTP".into(), None);
        self.shared.queue.pause_after(Some(Instant::now()));
        let began = self.shared.clock.now();
        // A slot may have been about to start a task: repeated a moment later.
        for _ in 0..2 {
            for process in &self.shared.processes {
                process.signal(Signal::SIGSTOP);
            }
            self.shared.queue.is_closed_within(STARTING);
        }
        stop_self();
        if !self.suspension.is_on() {
            for process in &self.shared.processes {
                process.signal(Signal::SIGCONT);
            }
        }
        let now = self.shared.clock.now();
        let length = now.saturating_sub(began);
        self.suspended += length;
        self.show_at = now;
        self.anomalies.forget_stopped();
        // It also releases the queue.
        self.thawed(now, length);
    }

    /// Reports tasks that a signal has stopped, and that are still stopped.
    fn report_stopped(&mut self) {
        for text in self.anomalies.stopped() {
            self.warn(&text);
            self.note(text, None);
        }
    }

    /// Reaps orphans, and reports tasks that have left processes behind.
    fn report_left_behind(&mut self) {
        for left in self.anomalies.left_behind(&self.own) {
            if left.is_shown {
                self.say(&left.text);
            }
            self.note(left.text, Some(Mark::LeftBehind));
        }
    }

    /// Reports kills for lack of memory that no end of a task explains.
    fn report_memory_kills(&mut self, is_last: bool) {
        if let Some(text) = self.anomalies.memory_kills(is_last) {
            self.warn(&text);
            self.note(text, Some(Mark::MemoryKill));
        }
    }

    fn thawed(&mut self, now: Duration, length: Duration) {
        self.endgame.thawed(length);
        self.suspension.thawed(length);
        self.limits.frozen(now, length);
        let text = format!(
            "frozen for {:.1}s, which is not charged",
            length.as_secs_f64()
        );
        self.note(text, None);
    }

    fn report_failure(&mut self, failure: &FailedAttempt) {
        let is_final = failure.again.is_none();
        if self.farm.options.log_tasks || self.farm.options.quiet && !is_final {
            // It has a line already, or it is none of the failures of the run.
            return;
        }
        let log = failure.log.as_ref().and_then(LogAt::names);
        let log = log.map_or_else(String::new, |log| format!(" [{log}]"));
        let attempt = match failure.attempt {
            1 => String::new(),
            n => format!(", attempt {n}"),
        };
        let again = failure.again.map_or_else(String::new, |delay| {
            format!(", tried again in {}", durations::show(delay))
        });
        let text = format!(
            "pytf: task {}{attempt}: {}{again}{log}: {}",
            failure.id,
            failure.outcome,
            escape(as_written(&failure.line))
        );
        self.progress.failure(self.shared.clock.now(), &text);
    }

    /// Shows the state of the run and reaps orphans, from time to time.
    fn show(&mut self, now: Duration) {
        if now < self.show_at {
            return;
        }
        self.show_at = now + SHOW;
        self.suspension.repeat();
        self.report_stopped();
        self.report_memory_kills(false);
        self.report_left_behind();
        let state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let running = self.running();
        let follows = self.farm.options.follow.is_some();
        self.progress.update(now, &counts(&state, running, follows));
    }
}

/// The state of the run, as it is shown; `follows`: more tasks may be added.
pub(super) fn counts(state: &State, running: u64, follows: bool) -> ProgressCounts {
    ProgressCounts {
        done: state.finished.lines,
        failed: state.failures(),
        cancelled: state.cancelled,
        running,
        left: state.left() + state.claimed().saturating_sub(running),
        total: (state.feeding == 0 && !follows)
            .then(|| state.tasks.lines.saturating_sub(state.dropped)),
    }
}

/// Why a farmer ends, for its journal and its summary.
pub(super) fn why(cause: Cause) -> String {
    match cause {
        Cause::Complete => "nothing left to do".into(),
        Cause::TimeUp => "the time limit".into(),
        Cause::Walltime => "the end of the allocation".into(),
        Cause::Drain => "pytf drain".into(),
        Cause::Failures => "--max-fail".into(),
        Cause::Stop => "pytf stop".into(),
        Cause::Signal(signal) => signal_name(signal),
        Cause::WorkdirUnusable => "an error of the workdir".into(),
        Cause::Fenced => "a takeover: others run its tasks".into(),
    }
}
