//! The life of a farmer: when it stops, how it stops, with which status it ends.
//!
//! A state machine without clock, thread or process: an event and the time go in, actions come
//! out. Guarantee: once it stops, nothing is started any more; it reaches [`Phase::Done`]
//! within the grace period and [`GIVE_UP`] whatever the tasks do; a weaker cause never replaces
//! a stronger one.
//!
//! ```text
//! Running ──complete──────────────────────────► Leaving ──left──► Done
//!    │                                             ▲
//!    └─signal, time, error──► Stopping ─► Killing ┘   (slots done, or given up)
//! ```

use std::time::Duration;

use crate::exit::RunExit;

/// How long after the last SIGKILL we wait for tasks that do not die.
pub const GIVE_UP: Duration = Duration::from_secs(5);
/// How long leaving the workdir may take when we were stopped.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(60);
/// A second SIGINT sooner than this is the same key press seen twice.
const SAME_PRESS: Duration = Duration::from_millis(100);

/// The signal of Ctrl-C.
pub const SIGINT: i32 = 2;

/// Why a farmer ends, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// There is nothing left for it to do.
    Complete,
    /// `--timeout` is over.
    TimeUp,
    /// The allocation ends.
    Walltime,
    /// It was ordered to finish what runs, and to leave.
    Drain,
    /// Too many tasks have failed.
    Failures,
    /// It was ordered to stop.
    Stop,
    /// It got this signal.
    Signal(i32),
    /// The workdir cannot be used any more.
    WorkdirUnusable,
    /// Others took its tasks over.
    Fenced,
}

/// What happens to a farmer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A signal came.
    Signal(i32),
    /// A signal came that means: the end of the allocation is near.
    EndNear {
        /// The signal.
        signal: i32,
        /// Whether it is known when the end is.
        is_known: bool,
    },
    /// The allocation ends.
    WalltimeUp,
    /// It was ordered to start nothing more, and to leave when nothing runs.
    Drain,
    /// Too many tasks have failed. Running tasks go on, or are stopped.
    TooManyFailed {
        /// Whether they are stopped.
        stop: bool,
    },
    /// It was ordered to stop.
    Stop,
    /// Nothing may be started for lack of time, and nothing runs any more.
    Drained,
    /// The ledger has nothing for us to do, now or later.
    Complete,
    /// The ledger cannot work on.
    WorkdirUnusable,
    /// The ledger found that others took over.
    Fenced,
    /// No slot runs a task any more, and none will.
    SlotsDone,
    /// The ledger has left the workdir.
    Left,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start nothing from now on; what runs goes on until the allocation ends.
    Hold,
    /// Start nothing any more; `true` when what runs was taken away from it.
    Close(bool),
    /// Ask every running task to end: SIGTERM, then SIGCONT for stopped ones.
    Terminate,
    /// End every running task: SIGKILL.
    Kill,
    /// Let the ledger give back what did not run, and leave.
    Leave,
    /// Do not wait any more.
    GiveUp,
}

/// Where a farmer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Tasks are claimed and run.
    Running,
    /// Its tasks were asked to end.
    Stopping {
        /// When they are killed.
        kill_at: Duration,
    },
    /// Its tasks were killed.
    Killing {
        /// When it leaves without those that do not die.
        give_up_at: Duration,
    },
    /// The ledger leaves the workdir.
    Leaving {
        /// When it is waited for no longer.
        give_up_at: Option<Duration>,
    },
    /// Over.
    Done,
}

/// The decisions of one farmer.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: Phase,
    cause: Cause,
    grace: Duration,
    ends_at: Option<Duration>,
    /// What nothing is started for.
    drained_by: Option<Cause>,
    interrupted_at: Option<Duration>,
    is_impatient: bool,
    is_input_wrong: bool,
    /// Whether it was stopped by anything but fencing, or did not end in time.
    was_stopped: bool,
}

impl Lifecycle {
    /// A farmer that stops after `timeout`, and gives its tasks `grace` to end.
    pub fn new(timeout: Option<Duration>, grace: Duration) -> Self {
        Self {
            phase: Phase::Running,
            cause: Cause::Complete,
            grace,
            ends_at: timeout,
            drained_by: None,
            interrupted_at: None,
            is_impatient: false,
            is_input_wrong: false,
            was_stopped: false,
        }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it ends; of use once it does.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// What it starts nothing more for, while running tasks go on.
    pub fn drained_by(&self) -> Option<Cause> {
        self.drained_by
    }

    /// When it must get a [`Event::Tick`] at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Running => self.ends_at,
            Phase::Stopping { kill_at } => Some(kill_at).filter(|at| *at < Duration::MAX),
            Phase::Killing { give_up_at } => Some(give_up_at),
            Phase::Leaving { give_up_at } => give_up_at,
            Phase::Done => None,
        }
    }

    /// Whether others took its tasks over and nothing else asks it to end: then it joins
    /// again, under another name.
    pub fn joins_again(&self) -> bool {
        self.cause == Cause::Fenced && !self.was_stopped && self.drained_by.is_none()
    }

    /// The stream of tasks could not be read to its end: what came before it
    /// runs, and the status says so.
    pub fn note_wrong_input(&mut self) {
        self.is_input_wrong = true;
    }

    /// Takes an event. Returns what is to be done.
    #[must_use]
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        match event {
            Event::Tick => self.tick(now),
            Event::Signal(signal) => self.signal(now, signal),
            Event::EndNear { signal, is_known } => self.end_near(now, signal, is_known),
            Event::WalltimeUp => self.stop(now, Cause::Walltime),
            Event::Drain => self.drain(Cause::Drain),
            Event::TooManyFailed { stop: true } => self.stop(now, Cause::Failures),
            Event::TooManyFailed { stop: false } => self.drain(Cause::Failures),
            Event::Stop => self.stop(now, Cause::Stop),
            Event::Drained => self.drained(),
            Event::Complete => self.complete(),
            Event::WorkdirUnusable => self.stop(now, Cause::WorkdirUnusable),
            Event::Fenced => self.stop(now, Cause::Fenced),
            Event::SlotsDone => self.leave(now),
            Event::Left => {
                self.phase = Phase::Done;
                Vec::new()
            }
        }
    }

    fn tick(&mut self, now: Duration) -> Vec<Action> {
        match self.phase {
            Phase::Running if self.ends_at.is_some_and(|at| now >= at) => {
                self.stop(now, Cause::TimeUp)
            }
            Phase::Stopping { kill_at } if now >= kill_at => self.kill(now),
            Phase::Killing { give_up_at } if now >= give_up_at => self.leave(now),
            Phase::Leaving {
                give_up_at: Some(at),
            } if now >= at => self.give_up(),
            _ => Vec::new(),
        }
    }

    /// SIGTERM comes twice at a time limit and three times under preemption, so
    /// only a second SIGINT, from a hand, means: hurry.
    fn signal(&mut self, now: Duration, signal: i32) -> Vec<Action> {
        let again = self.interrupted_at.is_some_and(|at| now >= at + SAME_PRESS);
        if signal == SIGINT {
            self.interrupted_at.get_or_insert(now);
        }
        if signal != SIGINT || !again {
            return self.stop(now, Cause::Signal(signal));
        }
        let was_impatient = std::mem::replace(&mut self.is_impatient, true);
        match self.phase {
            Phase::Running | Phase::Stopping { .. } => self.kill(now),
            Phase::Leaving { .. } | Phase::Killing { .. } if was_impatient => self.give_up(),
            _ => Vec::new(),
        }
    }

    /// Without a known end it may come at any moment: then we stop now.
    fn end_near(&mut self, now: Duration, signal: i32, is_known: bool) -> Vec<Action> {
        if !is_known || self.phase != Phase::Running {
            return self.signal(now, signal);
        }
        self.drained_by = Some(Cause::Signal(signal));
        vec![Action::Hold]
    }

    fn drain(&mut self, cause: Cause) -> Vec<Action> {
        if self.phase != Phase::Running {
            return Vec::new();
        }
        self.drained_by.get_or_insert(cause);
        vec![Action::Hold]
    }

    fn drained(&mut self) -> Vec<Action> {
        if self.phase == Phase::Running {
            let cause = self.drained_by.unwrap_or(Cause::Walltime);
            self.cause = self.cause.max(cause);
        }
        self.complete()
    }

    fn complete(&mut self) -> Vec<Action> {
        if self.phase == Phase::Running {
            // The slots end as soon as they find the queue closed.
            self.phase = Phase::Stopping {
                kill_at: Duration::MAX,
            };
            return vec![Action::Close(false)];
        }
        Vec::new()
    }

    /// When others have fenced us, our tasks belong to other farmers and may run there
    /// already: they end as for any other cause.
    fn stop(&mut self, now: Duration, cause: Cause) -> Vec<Action> {
        self.was_stopped |= cause != Cause::Fenced;
        self.cause = self.cause.max(cause);
        match &mut self.phase {
            Phase::Running => {
                let kill_at = now + self.grace;
                self.phase = Phase::Stopping { kill_at };
                return vec![Action::Close(true), Action::Terminate];
            }
            // Once fenced, the ledger has nothing to leave any more and answers at once.
            Phase::Leaving { give_up_at } if give_up_at.is_none() || cause == Cause::Fenced => {
                *give_up_at = Some(now + LEAVE_WITHIN);
            }
            _ => {}
        }
        Vec::new()
    }

    fn kill(&mut self, now: Duration) -> Vec<Action> {
        let close = matches!(self.phase, Phase::Running).then_some(Action::Close(true));
        self.phase = Phase::Killing {
            give_up_at: now + GIVE_UP,
        };
        close.into_iter().chain([Action::Kill]).collect()
    }

    fn leave(&mut self, now: Duration) -> Vec<Action> {
        match self.phase {
            Phase::Leaving { .. } | Phase::Done => Vec::new(),
            _ => {
                let is_limited = self.cause > Cause::Complete;
                self.phase = Phase::Leaving {
                    give_up_at: is_limited.then(|| now + LEAVE_WITHIN),
                };
                vec![Action::Leave]
            }
        }
    }

    fn give_up(&mut self) -> Vec<Action> {
        self.was_stopped = true;
        self.phase = Phase::Done;
        vec![Action::GiveUp]
    }

    /// The status to end with. `run` is the state of the run after we left it; `None` when
    /// we could not leave.
    pub fn exit(&self, run: Option<RunSummary>) -> RunExit {
        match (self.cause, run) {
            (Cause::Fenced, _) => RunExit::Fenced,
            (Cause::WorkdirUnusable, _) => RunExit::WorkdirUnusable,
            _ if self.is_impatient => RunExit::Interrupted,
            (Cause::Complete, _) if self.is_input_wrong => RunExit::Usage,
            (Cause::Complete, Some(run)) if run.is_stranded && run.others == 0 => {
                RunExit::SomeFailed
            }
            (_, Some(run)) if run.is_complete && run.failed == 0 => RunExit::Complete,
            (_, Some(run)) if run.is_complete => RunExit::SomeFailed,
            // Tasks are left, but a job that goes on until it is complete must not.
            (Cause::Failures, Some(_)) => RunExit::SomeFailed,
            (_, Some(run)) if run.others > 0 => RunExit::Complete,
            _ => RunExit::WorkLeft,
        }
    }
}

/// The state of the run when a farmer has left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunSummary {
    /// Whether nothing is left that can run.
    pub is_complete: bool,
    /// Whether tasks are left that cannot run: they wait for a task that failed, or fit no node.
    pub is_stranded: bool,
    /// How many tasks are in `failed`.
    pub failed: u64,
    /// How many other farmers work on it.
    pub others: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const TERM: i32 = 15;

    fn farmer() -> Lifecycle {
        Lifecycle::new(Some(S(100)), S(10))
    }

    #[test]
    fn a_complete_run_closes_leaves_and_is_done() {
        let mut farmer = farmer();
        assert_eq!(farmer.handle(S(1), Event::Complete), [Action::Close(false)]);
        assert_eq!(farmer.handle(S(1), Event::SlotsDone), [Action::Leave]);
        assert_eq!(farmer.handle(S(1), Event::Left), []);
        assert_eq!(farmer.phase(), Phase::Done);
        assert_eq!(farmer.cause(), Cause::Complete);
    }

    #[test]
    fn the_end_of_the_time_and_a_signal_stop_in_good_order() {
        for (event, at) in [
            (Event::Tick, 100),
            (Event::Signal(TERM), 5),
            (Event::WorkdirUnusable, 5),
        ] {
            let mut farmer = farmer();
            assert_eq!(farmer.handle(S(4), Event::Tick), []);
            assert_eq!(
                farmer.handle(S(at), event),
                [Action::Close(true), Action::Terminate]
            );
            assert_eq!(farmer.handle(S(at + 9), Event::Tick), []);
            assert_eq!(farmer.handle(S(at + 10), Event::Tick), [Action::Kill]);
            assert_eq!(farmer.handle(S(at + 15), Event::Tick), [Action::Leave]);
            assert_eq!(farmer.handle(S(at + 75), Event::Tick), [Action::GiveUp]);
        }
    }

    #[test]
    fn before_the_end_of_the_allocation_nothing_starts_and_the_rest_is_stopped() {
        const USR1: i32 = 10;
        let near = |is_known| Event::EndNear {
            signal: USR1,
            is_known,
        };
        let mut farmer = Lifecycle::new(None, S(10));
        assert_eq!(farmer.handle(S(1), near(true)), [Action::Hold]);
        assert_eq!(farmer.phase(), Phase::Running);
        let stop = [Action::Close(true), Action::Terminate];
        assert_eq!(farmer.clone().handle(S(9), Event::WalltimeUp), stop);
        assert_eq!(farmer.clone().handle(S(9), Event::Signal(TERM)), stop);
        assert_eq!(farmer.handle(S(9), Event::Drained), [Action::Close(false)]);
        assert_eq!(farmer.handle(S(9), Event::Drained), []);
        assert_eq!(farmer.cause(), Cause::Signal(USR1));
        // The time is unknown: at once.
        let mut farmer = Lifecycle::new(None, S(10));
        assert_eq!(farmer.handle(S(1), near(false)), stop);
        assert_eq!(farmer.cause(), Cause::Signal(USR1));
        let mut farmer = Lifecycle::new(None, S(10));
        assert_eq!(farmer.handle(S(1), Event::Drained), [Action::Close(false)]);
        assert_eq!(farmer.handle(S(1), Event::SlotsDone), [Action::Leave]);
        assert_eq!(farmer.cause(), Cause::Walltime);
        assert_eq!(farmer.exit(None), RunExit::WorkLeft);
    }

    #[test]
    fn orders_end_a_farmer_as_the_time_and_a_signal_do() {
        let stop = [Action::Close(true), Action::Terminate];
        let mut farmer = Lifecycle::new(None, S(10));
        assert_eq!(farmer.handle(S(1), Event::Drain), [Action::Hold]);
        assert_eq!(farmer.phase(), Phase::Running, "what runs goes on");
        assert_eq!(farmer.clone().handle(S(2), Event::Stop), stop);
        assert!(!farmer.joins_again());
        assert_eq!(farmer.handle(S(9), Event::Drained), [Action::Close(false)]);
        assert_eq!(farmer.cause(), Cause::Drain);
        assert_eq!(farmer.handle(S(9), Event::Drain), []);
        assert_eq!(farmer.exit(None), RunExit::WorkLeft);
        let mut farmer = Lifecycle::new(None, S(10));
        assert_eq!(farmer.handle(S(1), Event::Stop), stop);
        assert_eq!(farmer.handle(S(2), Event::Stop), []);
        assert_eq!(farmer.cause(), Cause::Stop);
    }

    #[test]
    fn a_repeated_sigterm_is_no_impatience_a_second_sigint_is() {
        let mut farmer = farmer();
        assert_eq!(farmer.handle(S(1), Event::Signal(TERM)).len(), 2);
        for _ in 0..2 {
            assert_eq!(farmer.handle(S(1), Event::Signal(TERM)), []);
        }
        assert_eq!(farmer.handle(S(2), Event::Signal(SIGINT)), []);
        assert_eq!(
            farmer.handle(S(2), Event::Signal(SIGINT)),
            [],
            "the same key press"
        );
        assert_eq!(farmer.handle(S(3), Event::Signal(SIGINT)), [Action::Kill]);
        assert_eq!(farmer.exit(None), RunExit::Interrupted);
        assert_eq!(farmer.handle(S(4), Event::Signal(SIGINT)), [Action::GiveUp]);
    }

    #[test]
    fn a_sealed_farmer_stops_its_tasks_and_joins_again_unless_it_was_ordered_to_stop() {
        let mut sealed = farmer();
        let stop = [Action::Close(true), Action::Terminate];
        assert_eq!(sealed.handle(S(1), Event::Fenced), stop);
        assert!(sealed.joins_again());
        assert_eq!(sealed.exit(None), RunExit::Fenced);
        let mut also = sealed.clone();
        assert_eq!(also.handle(S(11), Event::Tick), [Action::Kill]);
        assert_eq!(also.handle(S(11), Event::SlotsDone), [Action::Leave]);
        for event in [
            Event::Signal(TERM),
            Event::WalltimeUp,
            Event::WorkdirUnusable,
        ] {
            let mut stopped = sealed.clone();
            let _ = stopped.handle(S(2), event);
            assert!(!stopped.joins_again(), "{event:?}");
            let mut stopped = farmer();
            let _ = stopped.handle(S(2), event);
            let _ = stopped.handle(S(2), Event::Fenced);
            assert!(!stopped.joins_again(), "{event:?}");
        }
        // It was about to leave: its tasks may wait again.
        let mut leaving = farmer();
        let _ = leaving.handle(S(1), Event::Complete);
        let _ = leaving.handle(S(1), Event::SlotsDone);
        assert_eq!(leaving.handle(S(1), Event::Fenced), []);
        assert_ne!(
            leaving.phase(),
            Phase::Done,
            "it has yet to answer that it has left"
        );
        let mut stuck = leaving.clone();
        assert_eq!(leaving.handle(S(1), Event::Left), []);
        assert!(leaving.joins_again() && leaving.phase() == Phase::Done);
        // Its ledger does not answer, and may still do so later.
        assert_eq!(stuck.handle(S(99), Event::Tick), [Action::GiveUp]);
        assert!(!stuck.joins_again());
    }

    #[test]
    fn the_status_speaks_of_the_run() {
        let run = |is_complete, failed, others| {
            Some(RunSummary {
                is_complete,
                is_stranded: false,
                failed,
                others,
            })
        };
        let mut stopped = farmer();
        let _ = stopped.handle(S(1), Event::Signal(TERM));
        for (farmer, run, status) in [
            (&farmer(), run(true, 0, 0), RunExit::Complete),
            (&farmer(), run(true, 3, 1), RunExit::SomeFailed),
            (&farmer(), run(false, 3, 1), RunExit::Complete),
            (&stopped, run(false, 0, 1), RunExit::Complete),
            (&stopped, run(false, 0, 0), RunExit::WorkLeft),
            (&stopped, run(true, 0, 0), RunExit::Complete),
            (&stopped, None, RunExit::WorkLeft),
        ] {
            assert_eq!(farmer.exit(run), status, "{run:?}");
        }
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            Just(Event::Tick),
            Just(Event::Signal(TERM)),
            Just(Event::Signal(SIGINT)),
            any::<bool>().prop_map(|is_known| Event::EndNear {
                signal: 10,
                is_known
            }),
            Just(Event::WalltimeUp),
            Just(Event::Drained),
            Just(Event::Complete),
            Just(Event::WorkdirUnusable),
            Just(Event::Fenced),
            Just(Event::SlotsDone),
        ];
        proptest::collection::vec((0_u64..30, event), 0..40)
    }

    proptest! {
        #[test]
        fn it_closes_once_leaves_once_and_always_ends(events in events()) {
            let mut farmer = farmer();
            let (mut now, mut closes, mut leaves) = (0, 0, 0);
            let mut count = |actions: Vec<Action>| {
                closes += actions.iter().filter(|a| matches!(a, Action::Close(_))).count();
                leaves += actions.iter().filter(|a| **a == Action::Leave).count();
            };
            for (step, event) in events {
                now += step;
                let before = farmer.cause();
                count(farmer.handle(S(now), event));
                prop_assert!(farmer.cause() >= before);
            }
            // Whatever came before: with a signal and the slots' end it is over.
            for event in [Event::Signal(TERM), Event::SlotsDone, Event::Left] {
                count(farmer.handle(S(now), event));
            }
            prop_assert_eq!(farmer.phase(), Phase::Done);
            prop_assert!(closes <= 1 && leaves <= 1);
        }
    }
}
