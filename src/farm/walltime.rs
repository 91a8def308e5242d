//! The end of the allocation, as one farmer knows it: holds the queue when too
//! little time is left, tells when all must stop, and keeps a thread that asks
//! the scheduler.
//!
//! Others rely on this: the supervisor never waits for a scheduler, and what is
//! held can be let go again when the end moves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::clock::since_boot;
use super::message::{Event, Places};
use super::queue::Queue;
use crate::host::process::Place;
use crate::host::scheduler::Question;
use crate::model::allocation::Allocation;
use crate::model::durations::show;
use crate::model::farmer;
use crate::model::record::Mark;
use crate::model::walltime::answer::Left;
use crate::model::walltime::lengths::Lengths;
use crate::model::walltime::{Short, Walltime, ask_again, ask_first};

/// How often it is looked whether there is time for another task.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// So long nothing must run before a held farmer leaves: ends that may be an
/// interruption are held back for less than that.
const IDLE_FOR: Duration = Duration::from_secs(2);
/// An end that moves by less is no news.
const NEWS: Duration = Duration::from_mins(1);

/// How long tasks took, told by the slots.
#[derive(Default)]
pub(super) struct Took(Mutex<(Lengths, Option<Instant>)>);

impl Took {
    /// A task finished. One that was frozen with us for a while tells nothing.
    pub(super) fn push(&self, started: Instant, took: Duration) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.1.is_none_or(|thawed| started >= thawed) {
            inner.0.push(took);
        }
    }

    fn thawed(&self) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.1 = Some(Instant::now());
    }

    fn estimate(&self, places: &Places) -> Option<Duration> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |started: &Instant| inner.1.is_none_or(|thawed| *started >= thawed);
        let running: Vec<Duration> = places
            .iter()
            .filter_map(Place::look)
            .filter(|running| since(&running.started))
            .map(|running| running.started.elapsed())
            .collect();
        inner.0.estimate(&running)
    }
}

/// Our ends of the channels to the thread that asks.
struct Asker {
    /// It shall ask now.
    now: Sender<()>,
    /// Dropped when nobody waits for an answer any more.
    _stop: Sender<()>,
}

/// What the end of the allocation means for this farmer.
pub(super) struct Endgame {
    /// Decides.
    walltime: Walltime,
    /// How long tasks took.
    took: Arc<Took>,
    queue: Arc<Queue>,
    places: Places,
    /// Whoever asks the scheduler shall do so now; none when nobody asks.
    ask: Option<Asker>,
    look_at: Duration,
    is_draining: bool,
    idle_since: Option<Duration>,
    told: Option<Duration>,
    short: Option<Short>,
    was_held: bool,
    /// For how long this process was frozen, all together.
    frozen: Duration,
    /// Whether the end moves while the job is suspended.
    moves: bool,
}

impl Endgame {
    /// Nothing is known yet.
    pub(super) fn new(
        walltime: Walltime,
        took: Arc<Took>,
        queue: Arc<Queue>,
        places: Places,
    ) -> Self {
        Self {
            walltime,
            took,
            queue,
            places,
            ask: None,
            look_at: Duration::ZERO,
            is_draining: false,
            idle_since: None,
            told: None,
            short: None,
            was_held: false,
            frozen: Duration::ZERO,
            moves: false,
        }
    }

    /// The allocation ends after this time, from now.
    pub(super) fn ends_after(&mut self, left: Duration) {
        let now = since_boot();
        self.walltime.learn(now, Some(now + left));
        // Before the first task is there; what follows is told again.
        let _ = self.look();
    }

    /// Asks the scheduler from now on, in a thread of its own.
    pub(super) fn watch(
        &mut self,
        question: Question,
        place: &Allocation,
        events: Sender<Event>,
    ) -> std::io::Result<()> {
        let ((now, asked), (stop, stopped)) = (bounded(1), bounded(0));
        self.ask = Some(Asker { now, _stop: stop });
        let watch = Watch {
            question,
            asked,
            stopped,
            events,
            first: ask_first(place.rank.unwrap_or(0)),
            processes: place.size.or(place.nodes).unwrap_or(1),
            tells: place.speaks_for_all(),
        };
        std::thread::Builder::new()
            .name("walltime".into())
            .stack_size(256 << 10)
            .spawn(move || watch.run())
            .map(drop)
    }

    /// Whether the end is known.
    pub(super) fn is_known(&self) -> bool {
        self.walltime.ends_at().is_some()
    }

    /// How long what runs may go on, when that is known.
    pub(super) fn stops_in(&self) -> Option<Duration> {
        let at = self.walltime.stop_at()?;
        Some(at.saturating_sub(since_boot()))
    }

    /// The scheduler has answered; what is news in it.
    pub(super) fn learn(&mut self, left: Left) -> Option<String> {
        let now = since_boot();
        let ends_at = left.span(self.frozen).map(|left| now + left);
        self.moves = left.moves();
        self.walltime.learn(now, ends_at);
        self.look_at = Duration::ZERO;
        let is_news = match (self.told, ends_at) {
            (Some(told), Some(at)) => told.abs_diff(at) >= NEWS,
            (told, at) => told.is_some() != at.is_some(),
        };
        if !is_news {
            return None;
        }
        self.told = ends_at;
        Some(match ends_at {
            Some(at) => format!("the allocation ends in {}", show(at.saturating_sub(now))),
            None => "the allocation has no end any more".into(),
        })
    }

    /// We were frozen for so long: the end may have moved meanwhile. Until the
    /// scheduler answers, the time counts as gone, but where suspended jobs are not
    /// charged.
    pub(super) fn thawed(&mut self, length: Duration) {
        self.took.thawed();
        self.frozen += length;
        if self.moves
            && let Some(at) = self.walltime.ends_at()
        {
            self.walltime.learn(since_boot(), Some(at + length));
        }
        self.look_at = Duration::ZERO;
        if let Some(ask) = &self.ask {
            // Full: it is about to ask anyway.
            let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) =
                ask.now.try_send(());
        }
    }

    /// Nothing is started from now on; what runs may run until the end.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        self.look_at = Duration::ZERO;
        self.queue.hold_after(Some(Instant::now()));
    }

    /// Nobody asks the scheduler any more.
    pub(super) fn close(&mut self) {
        self.ask = None;
    }

    /// Looks at the time; what follows for the farmer, if anything.
    pub(super) fn look(&mut self) -> Option<farmer::Event> {
        let now = since_boot();
        if self.walltime.stop_at().is_some_and(|at| now >= at) {
            self.note_short(now);
            self.queue.hold_after(Some(Instant::now()));
            return Some(farmer::Event::WalltimeUp);
        }
        if now < self.look_at {
            return None;
        }
        self.look_at = now + LOOK_EVERY;
        self.note_short(now);
        let held = self.is_draining || self.short.is_some();
        let last = if held { Some(now) } else { self.last_start() };
        // Slots look at another clock, which may stand still now and then.
        let last = last.map(|last| Instant::now() + last.saturating_sub(now));
        self.queue.hold_after(last);
        let counts = self.queue.counts();
        // A slot at a busy GPU has no task either.
        if !held || counts.idle + counts.barred < self.places.len() as u64 {
            self.idle_since = None;
            return None;
        }
        let since = *self.idle_since.get_or_insert(now);
        (now >= since + IDLE_FOR).then_some(farmer::Event::Drained)
    }

    fn seen(&self) -> Option<Duration> {
        self.is_known().then(|| self.took.estimate(&self.places))?
    }

    fn last_start(&self) -> Option<Duration> {
        self.walltime.last_start(self.seen())
    }

    fn note_short(&mut self, now: Duration) {
        let short = self.walltime.short(now, self.seen());
        // What is told at the end is how it was when it began.
        if short.is_none() || self.short.is_none() {
            self.short = short;
        }
    }

    /// That tasks are held back from now on, or no longer, said once.
    pub(super) fn news(&mut self) -> Option<(Mark, String)> {
        let is_held = self.is_draining || self.short.is_some();
        if std::mem::replace(&mut self.was_held, is_held) == is_held {
            return None;
        }
        Some(match (is_held, self.short) {
            (true, Some(short)) => {
                let text = format!("no task is started any more: {}", told(short));
                (Mark::Drained, text)
            }
            (true, None) => {
                let text = "no task is started any more: the end of the allocation is near";
                (Mark::Drained, text.into())
            }
            (false, _) => {
                let text = "tasks are started again: there is time for them";
                (Mark::Resumed, text.into())
            }
        })
    }

    /// Why tasks were not started, when it was for lack of time.
    pub(super) fn why(&self) -> Option<String> {
        self.short.map(told)
    }
}

/// `4m10s left, tasks like them take 9m00s`
fn told(short: Short) -> String {
    let left = format!("{} left", show(short.left));
    match short.need {
        Some(need) => format!("{left}, tasks like them take {}", show(need)),
        None => left,
    }
}

/// The thread that asks.
struct Watch {
    question: Question,
    asked: Receiver<()>,
    stopped: Receiver<()>,
    events: Sender<Event>,
    first: Duration,
    processes: u32,
    tells: bool,
}

impl Watch {
    /// Asks until nobody wants to know.
    fn run(self) {
        let (mut pause, mut was_told) = (self.first, !self.tells);
        while let Ok(()) | Err(RecvTimeoutError::Timeout) = self.asked.recv_timeout(pause) {
            let left = match self.question.ask(&self.stopped) {
                Ok(left) => {
                    let _ = self.events.send(Event::Ends(left));
                    left.span(Duration::ZERO)
                }
                Err(why) => {
                    if !std::mem::replace(&mut was_told, true) {
                        let text = format!("when the job ends is not known ({why})");
                        let _ = self.events.send(Event::Say(text + "; --walltime gives it"));
                    }
                    Some(Duration::ZERO)
                }
            };
            pause = ask_again(left, self.processes);
        }
    }
}
