//! The end of the allocation for one farmer: it pauses the queue when too little time is left,
//! determines when all tasks must stop, and runs a thread that asks the scheduler.
//!
//! Guarantee: the supervisor never waits for a scheduler, and a paused queue is resumed if the
//! job is extended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::clock::since_boot;
use super::message::Event;
use super::shared::Shared;
use crate::host::scheduler::Question;
use crate::model::allocation::Allocation;
use crate::model::durations::show;
use crate::model::farmer;
use crate::model::record::Mark;
use crate::model::walltime::answer::Left;
use crate::model::walltime::{Short, Walltime, ask_again, ask_first};

/// How often it is checked whether there is time for another task.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// A farmer with a paused queue leaves when no task has run for this time. Suspect ends are
/// withheld for a shorter time.
const IDLE_FOR: Duration = Duration::from_secs(2);
/// A smaller change of the end is not reported.
const NEWS: Duration = Duration::from_secs(60);

/// Our ends of the channels to the thread that asks.
struct Asker {
    /// Makes it ask now.
    now: Sender<()>,
    /// Dropped when no answer is needed any more.
    _stop: Sender<()>,
}

/// What the end of the allocation means for this farmer.
pub(super) struct Endgame {
    /// Decides.
    walltime: Walltime,
    shared: Arc<Shared>,
    /// The thread that asks the scheduler, if there is one.
    ask: Option<Asker>,
    check_at: Duration,
    /// Why no task is started any more, if not for lack of time.
    draining: Option<&'static str>,
    idle_since: Option<Duration>,
    reported: Option<Duration>,
    short: Option<Short>,
    was_paused: bool,
    /// For how long this process was frozen, all together.
    frozen: Duration,
    /// Whether the scheduler extends the job by the time of a suspension.
    moves: bool,
}

impl Endgame {
    /// Nothing is known yet.
    pub(super) fn new(walltime: Walltime, shared: Arc<Shared>) -> Self {
        Self {
            walltime,
            shared,
            ask: None,
            check_at: Duration::ZERO,
            draining: None,
            idle_since: None,
            reported: None,
            short: None,
            was_paused: false,
            frozen: Duration::ZERO,
            moves: false,
        }
    }

    /// The allocation ends after this time, from now.
    pub(super) fn ends_after(&mut self, left: Duration) {
        let now = since_boot();
        self.walltime.learn(now, Some(now + left));
        // Before the first task starts.
        let _ = self.check();
    }

    /// Asks the scheduler from now on, in a separate thread.
    pub(super) fn watch(&mut self, question: Question, place: &Allocation) -> std::io::Result<()> {
        let ((now, asked), (stop, stopped)) = (bounded(1), bounded(0));
        self.ask = Some(Asker { now, _stop: stop });
        let poller = Poller {
            question,
            asked,
            stopped,
            events: self.shared.events.clone(),
            first: ask_first(place.rank.unwrap_or(0)),
            processes: place.size.or(place.nodes).unwrap_or(1),
            reports: place.speaks_for_all(),
        };
        std::thread::Builder::new()
            .name("walltime".into())
            .stack_size(256 << 10)
            .spawn(move || poller.run())
            .map(drop)
    }

    /// Whether the end is known.
    pub(super) fn is_known(&self) -> bool {
        self.walltime.ends_at().is_some()
    }

    /// How long running tasks may go on, if that is known.
    pub(super) fn stops_in(&self) -> Option<Duration> {
        let at = self.walltime.stop_at()?;
        Some(at.saturating_sub(since_boot()))
    }

    /// The scheduler has answered; returns what has changed.
    pub(super) fn learn(&mut self, left: Left) -> Option<String> {
        let now = since_boot();
        let ends_at = left.span(self.frozen).map(|left| now + left);
        self.moves = left.moves();
        self.walltime.learn(now, ends_at);
        self.check_at = Duration::ZERO;
        let is_news = match (self.reported, ends_at) {
            (Some(reported), Some(at)) => reported.abs_diff(at) >= NEWS,
            (reported, at) => reported.is_some() != at.is_some(),
        };
        if !is_news {
            return None;
        }
        self.reported = ends_at;
        Some(match ends_at {
            Some(at) => format!("the allocation ends in {}", show(at.saturating_sub(now))),
            None => "the allocation has no end any more".into(),
        })
    }

    /// The process was frozen for this time: the end may have moved meanwhile. Until the
    /// scheduler answers, the time counts as used, except where suspended jobs are not
    /// charged.
    pub(super) fn thawed(&mut self, length: Duration) {
        self.shared.times.thawed();
        self.frozen += length;
        if self.moves
            && let Some(at) = self.walltime.ends_at()
        {
            self.walltime.learn(since_boot(), Some(at + length));
        }
        self.check_at = Duration::ZERO;
        if let Some(ask) = &self.ask {
            // Full: it is about to ask anyway.
            let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) =
                ask.now.try_send(());
        }
    }

    /// No task is started from now on, for this reason; running tasks may run until the end.
    pub(super) fn drain(&mut self, why: &'static str) {
        self.draining.get_or_insert(why);
        self.check_at = Duration::ZERO;
        self.shared.queue.pause_after(Some(Instant::now()));
    }

    /// The scheduler is not asked any more.
    pub(super) fn close(&mut self) {
        self.ask = None;
    }

    /// Checks the time; returns what follows for the farmer, if anything.
    pub(super) fn check(&mut self) -> Option<farmer::Event> {
        let now = since_boot();
        self.shared.times.stop_at(self.walltime.stop_at());
        if self.walltime.stop_at().is_some_and(|at| now >= at) {
            self.note_short(now);
            self.shared.queue.pause_after(Some(Instant::now()));
            return Some(farmer::Event::WalltimeUp);
        }
        if now < self.check_at {
            return None;
        }
        self.check_at = now + CHECK_EVERY;
        self.note_short(now);
        let held = self.draining.is_some() || self.short.is_some();
        let last = if held { Some(now) } else { self.last_start() };
        // Slots use another clock, which stands still while the machine sleeps.
        let last = last.map(|last| Instant::now() + last.saturating_sub(now));
        self.shared.queue.pause_after(last);
        let counts = self.shared.queue.counts();
        // A slot at a busy GPU has no task either.
        if !held || counts.idle + counts.barred < self.shared.processes.len() as u64 {
            self.idle_since = None;
            return None;
        }
        let since = *self.idle_since.get_or_insert(now);
        (now >= since + IDLE_FOR).then_some(farmer::Event::Drained)
    }

    fn seen(&self) -> Option<Duration> {
        self.is_known()
            .then(|| self.shared.times.estimate(self.shared.running()))?
    }

    fn last_start(&self) -> Option<Duration> {
        self.walltime.last_start(self.seen())
    }

    fn note_short(&mut self, now: Duration) {
        let short = self.walltime.short(now, self.seen());
        // The summary reports the state at the beginning of the hold.
        if short.is_none() || self.short.is_none() {
            self.short = short;
        }
    }

    /// Reports once that tasks are held back from now on, or no longer.
    pub(super) fn news(&mut self) -> Option<(Mark, String)> {
        let is_paused = self.draining.is_some() || self.short.is_some();
        if std::mem::replace(&mut self.was_paused, is_paused) == is_paused {
            return None;
        }
        Some(match (is_paused, self.short) {
            (true, Some(short)) => {
                let text = format!("no task is started any more: {}", describe(short));
                (Mark::Drained, text)
            }
            (true, None) => {
                let why = self.draining.unwrap_or_default();
                (Mark::Drained, format!("no task is started any more: {why}"))
            }
            (false, _) => {
                let text = "tasks are started again: there is time for them";
                (Mark::Resumed, text.into())
            }
        })
    }

    /// Why tasks were not started, when it was for lack of time.
    pub(super) fn why(&self) -> Option<String> {
        self.short.map(describe)
    }
}

/// `4m10s left, tasks like them take 9m00s`
fn describe(short: Short) -> String {
    let left = format!("{} left", show(short.left));
    match short.need {
        Some(need) => format!("{left}, tasks like them take {}", show(need)),
        None => left,
    }
}

/// The thread that asks the scheduler.
struct Poller {
    question: Question,
    asked: Receiver<()>,
    stopped: Receiver<()>,
    events: Sender<Event>,
    first: Duration,
    processes: u32,
    reports: bool,
}

impl Poller {
    /// Asks until it is stopped.
    fn run(self) {
        let (mut pause, mut was_reported) = (self.first, !self.reports);
        while let Ok(()) | Err(RecvTimeoutError::Timeout) = self.asked.recv_timeout(pause) {
            let left = match self.question.ask(&self.stopped) {
                Ok(left) => {
                    let _ = self.events.send(Event::Ends(left));
                    left.span(Duration::ZERO)
                }
                Err(why) => {
                    if !std::mem::replace(&mut was_reported, true) {
                        let text = format!("the end of the job is unknown ({why})");
                        let _ = self
                            .events
                            .send(Event::Say(text + "; set it with --walltime"));
                    }
                    Some(Duration::ZERO)
                }
            };
            pause = ask_again(left, self.processes);
        }
    }
}
