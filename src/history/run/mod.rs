//! A run in figures, from the files of its workdir.
//!
//! [`Run::refresh`] reads what is new since it was last called, so a live view calls it again
//! and again; each journal is read once. It takes no lock and writes nothing. Guarantee: the
//! number of tasks that are done is that of the state in `lock`, which is exact; everything
//! from journals may be some seconds ahead of it.

pub mod attempt;
mod clocks;
pub mod counts;
pub mod farmer;
pub mod faults;
pub mod gpus;
pub mod liveness;
pub mod nodes;
pub mod room;
pub mod scan;
pub mod slots;
mod transactions;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use self::attempt::Attempt;
pub use self::clocks::ClockDifference;
pub use self::counts::Counts;
pub use self::farmer::Farmer;
use self::faults::Faults;
pub use self::liveness::FarmerState;
use super::cancellations::Cancellations;
use super::given_up::GivenUp;
use super::is_workdir;
use super::journals::journals_again;
use crate::model::figures::Histogram;
use crate::model::forecast::{Forecast, Known, forecast};
use crate::model::liveness::DEFAULT_TAKEOVER;
use crate::model::record::Header;
use crate::model::series::Series;
use crate::workdir::layout::REQUEUED;
use crate::workdir::liveness::own_node::Here;
use crate::workdir::state::State;

/// Why a run cannot be seen.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder holds no run.
    #[error("{} is not a workdir: it has neither tasks nor journals", .0.display())]
    NoWorkdir(PathBuf),
    /// Something could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// An attempt that runs.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// Its start.
    pub attempt: &'a Attempt,
    /// The farmer that runs it.
    pub farmer: &'a Header,
    /// For how long, in microseconds.
    pub ran: u64,
}

impl Running<'_> {
    /// Its process, where the record has it.
    pub fn pid(&self) -> Option<u32> {
        Some(self.attempt.pid).filter(|pid| *pid > 0)
    }
}

/// How many threads read journals: more would only wait for the file server.
const READERS: usize = 8;

/// A run, as far as it was read.
#[derive(Debug)]
pub struct Run {
    /// The workdir, as the user names it.
    pub workdir: PathBuf,
    /// How many tasks are where.
    pub counts: Counts,
    /// The farmers, in the order in which they started.
    pub farmers: Vec<Farmer>,
    /// The tasks in `failed`, in the order of their ids.
    pub failed: Vec<u64>,
    /// What was cancelled.
    pub cancellations: Cancellations,
    /// What was given up.
    pub given_up: GivenUp,
    /// When it was read, by our clock.
    pub now: SystemTime,
    node: Here,
    files: liveness::FileTime,
}

impl Run {
    /// Reads a workdir for the first time.
    pub fn open(workdir: &Path) -> Result<Self, RunError> {
        if !is_workdir(workdir) {
            return Err(RunError::NoWorkdir(workdir.to_owned()));
        }
        let mut run = Self {
            workdir: workdir.to_owned(),
            counts: Counts::default(),
            farmers: Vec::new(),
            failed: Vec::new(),
            cancellations: Cancellations::default(),
            given_up: GivenUp::default(),
            now: SystemTime::now(),
            node: Here::read(),
            files: liveness::FileTime::default(),
        };
        run.refresh()?;
        Ok(run)
    }

    /// Reads the counts of a workdir alone, without the journals.
    pub fn counts_of(workdir: &Path) -> Result<Counts, RunError> {
        if !is_workdir(workdir) {
            return Err(RunError::NoWorkdir(workdir.to_owned()));
        }
        Ok(Counts::read(workdir)?)
    }

    /// Reads what is new.
    pub fn refresh(&mut self) -> Result<(), RunError> {
        let mut known: HashMap<String, Farmer> = self
            .farmers
            .drain(..)
            .map(|farmer| (farmer.journal.name.clone(), farmer))
            .collect();
        let again = |name: &str| Some(known.get(name)?.journal.clone());
        for journal in journals_again(&self.workdir, again)? {
            let farmer = match known.remove(&journal.name) {
                Some(mut farmer) => {
                    farmer.journal = journal;
                    farmer
                }
                None => Farmer::new(journal),
            };
            self.farmers.push(farmer);
        }
        read_all(&mut self.farmers)?;
        let before = self.counts.failed_version();
        self.counts = Counts::read(&self.workdir)?;
        if before.is_none() || before != self.counts.failed_version() {
            self.failed = counts::failed_ids(&self.workdir, self.counts.state.as_ref())?;
        }
        if let Some(state) = &self.counts.state {
            let read = self.cancellations.refresh(&self.workdir, state);
            let requeued = counts::current(&self.workdir, Some(state), REQUEUED);
            if let Err(error) = read.and_then(|()| self.given_up.refresh(&requeued, state)) {
                // A farmer may be rewriting the file: a live view reads it again.
                self.counts.problem.get_or_insert_with(|| error.to_string());
            }
        }
        self.now = SystemTime::now();
        self.files.learn(&self.farmers);
        Ok(())
    }

    /// Whether it is paused: no task is started until it is resumed.
    pub fn is_paused(&self) -> bool {
        self.counts.state.as_ref().is_some_and(|state| state.paused)
    }

    /// Whether its running tasks are stopped until it is resumed.
    pub fn is_stopped(&self) -> bool {
        self.counts
            .state
            .as_ref()
            .is_some_and(|state| state.stopped)
    }

    /// The state of a farmer.
    pub fn state_of(&self, farmer: &Farmer) -> FarmerState {
        let state = self.counts.state.as_ref();
        let takeover = state.and_then(State::takeover);
        let takeover = takeover.unwrap_or(DEFAULT_TAKEOVER);
        FarmerState::of(farmer, &self.node, self.files.at(self.now), takeover)
    }

    /// What time it is now by a farmer's clock, by its journal; for one that
    /// is over, the last time in its journal.
    pub fn now_of(&self, farmer: &Farmer) -> u64 {
        if !self.state_of(farmer).is_live() {
            return farmer.last;
        }
        let silence = liveness::silence(farmer, self.files.at(self.now));
        farmer
            .last
            .saturating_add(u64::try_from(silence.as_micros()).unwrap_or(0))
    }

    /// The farmers that may run tasks now.
    pub fn living(&self) -> impl Iterator<Item = &Farmer> {
        self.farmers
            .iter()
            .filter(|farmer| self.state_of(farmer).is_live())
    }

    /// Whether any of them stays for tasks that are added.
    pub fn is_followed(&self) -> bool {
        self.living().any(|farmer| farmer.header().follows)
    }

    /// Whose fault failures were.
    pub fn faults(&self) -> Faults<'_> {
        Faults::of(&self.farmers)
    }

    /// How long attempts ran that were not stopped with their farmers.
    pub fn durations(&self) -> Histogram {
        self.merged(|farmer| &farmer.durations)
    }

    /// How much memory attempts had at their peak, in KiB.
    pub fn peaks(&self) -> Histogram {
        self.merged(|farmer| &farmer.peaks)
    }

    fn merged(&self, of: fn(&Farmer) -> &Histogram) -> Histogram {
        let mut all = Histogram::default();
        self.farmers.iter().for_each(|farmer| all.merge(of(farmer)));
        all
    }

    /// What happened when, what runs now included.
    pub fn series(&self) -> Series {
        let mut all = Series::default();
        for farmer in &self.farmers {
            all.merge(&self.series_of(farmer));
        }
        all
    }

    /// What happened when on a farmer, what runs now included.
    pub fn series_of(&self, farmer: &Farmer) -> Series {
        let mut series = farmer.series.clone();
        let now = self.now_of(farmer);
        for running in farmer.slots.running.values() {
            series.attempt(running.at, now, 0);
        }
        if farmer.first != u64::MAX {
            series.slots(farmer.first, now, u64::from(farmer.header().slots));
        }
        series
    }

    /// From the first to the last time that any journal has.
    pub fn span(&self) -> Option<(u64, u64)> {
        let seen = self
            .farmers
            .iter()
            .filter(|farmer| farmer.first != u64::MAX);
        let first = seen.clone().map(|farmer| farmer.first).min()?;
        let last = seen.map(|farmer| self.now_of(farmer)).max()?;
        Some((first, last))
    }

    /// How many tasks waited after each transaction, as far back as the log is
    /// kept.
    pub fn queue_history(&self) -> Vec<(u64, u64)> {
        counts::queue_history(&self.workdir, &self.counts).unwrap_or_default()
    }

    /// The two nodes whose clocks differ most, where that is proved.
    pub fn clock_difference(&self) -> Option<ClockDifference> {
        clocks::difference(&self.workdir, &self.counts, &self.farmers)
    }

    /// The part of the slots' time that tasks ran in them, of some farmers. A silent
    /// farmer counts until it is over.
    pub fn busy<'a>(&self, farmers: impl IntoIterator<Item = &'a Farmer>) -> Option<f64> {
        let (mut busy, mut there) = (0_u64, 0_u64);
        for farmer in farmers {
            let now = self.now_of(farmer);
            busy = busy.saturating_add(farmer.busy(now));
            there = there.saturating_add(farmer.slot_time(now));
        }
        crate::model::figures::share(busy, there)
    }

    /// What runs now according to the journals, the longest first: what has run for less
    /// than half a second may not be there yet.
    pub fn running_attempts(&self) -> Vec<Running<'_>> {
        self.running_on(self.living())
    }

    /// What runs on some farmers, the longest first.
    pub fn running_on<'a>(
        &self,
        farmers: impl IntoIterator<Item = &'a Farmer>,
    ) -> Vec<Running<'a>> {
        let mut all = Vec::new();
        for farmer in farmers {
            let now = self.now_of(farmer);
            all.extend(farmer.slots.running.values().map(|attempt| Running {
                attempt,
                farmer: farmer.header(),
                ran: now.saturating_sub(attempt.at),
            }));
        }
        all.sort_by_key(|one| (Reverse(one.ran), one.attempt.id));
        all
    }

    /// Attempts that run now.
    pub fn running(&self) -> u64 {
        self.living()
            .map(|farmer| farmer.slots.running.len() as u64)
            .sum()
    }

    /// Slots of the farmers that live.
    pub fn slots(&self) -> u64 {
        let slots = self.living().map(|farmer| farmer.header().slots);
        slots.map(u64::from).sum()
    }

    /// Tasks that end per second, over the last part of what the living farmers have seen:
    /// a tenth of it, a minute at least, and as much as there is below that.
    pub fn rate(&self) -> Option<f64> {
        let (mut rate, mut any) = (0.0, false);
        for farmer in self.living() {
            let now = self.now_of(farmer);
            let there = now.saturating_sub(farmer.first);
            let want = (there / 10).max(60_000_000);
            let begin = now.saturating_sub(want).max(farmer.first);
            let width = farmer.series.width();
            let ended: u64 = farmer
                .series
                .iter()
                .filter(|(at, _)| at + width > begin)
                .map(|(_, stretch)| stretch.ended)
                .sum();
            // Stretches are counted whole, so is the time.
            let seconds = Duration::from_micros(now - begin / width * width).as_secs_f64();
            if seconds > 0.0 && ended > 0 {
                rate += crate::model::figures::float(ended) / seconds;
                any = true;
            }
        }
        any.then_some(rate)
    }

    /// When it may be over.
    pub fn forecast(&self) -> Forecast {
        let long = self.durations().quantile(0.95).unwrap_or(0);
        forecast(&Known {
            left: self.counts.left(),
            ended: self.living().map(|farmer| farmer.ended).sum(),
            slots: self.slots(),
            rate: self.rate(),
            long: Duration::from_micros(long),
            is_open: self.counts.feeding > 0,
        })
    }
}

/// Reads what is new in all journals, several at a time.
fn read_all(farmers: &mut [Farmer]) -> io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(READERS).min(farmers.len());
    if threads < 2 {
        return farmers.iter_mut().try_for_each(Farmer::refresh);
    }
    let places: Vec<Mutex<&mut Farmer>> = farmers.iter_mut().map(Mutex::new).collect();
    let next = AtomicUsize::new(0);
    let read = || -> io::Result<()> {
        while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
            place
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .refresh()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        // Where no thread is to be had, this one reads all.
        let hire = |_| std::thread::Builder::new().spawn_scoped(scope, read).ok();
        let readers: Vec<_> = (1..threads).map_while(hire).collect();
        let ours = read();
        readers.into_iter().try_for_each(|reader| {
            let panicked = |_| Err(io::Error::other("a reader panicked"));
            reader.join().unwrap_or_else(panicked)
        })?;
        ours
    })
}

#[cfg(test)]
mod tests;
