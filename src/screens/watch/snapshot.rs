//! What the screen shows of a run at one moment: plain values, fit to be printed.
//!
//! Others rely on this: every text in here went through `escape`, and no list of
//! tasks is longer than [`KEPT`].

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::history::commands::Commands;
use crate::history::run::farmer::FailedAttempt;
use crate::history::run::nodes::{self, Node, nodes};
use crate::history::run::{Farmer, FarmerState, Run, Running};
use crate::model::escape::{clip, escape};
use crate::model::figures::{float, micros};
use crate::model::forecast::Forecast;
use crate::model::record::NodeHealth;
use crate::model::task::TaskId;
use crate::screens::words::{range, word};
use crate::ui::rate::show_rate;

/// How many running tasks and how many failures can be scrolled through.
pub(super) const KEPT: usize = 1000;

/// How much of a command is kept.
const COMMAND: usize = 300;

/// A run at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) workdir: String,
    /// `complete`, `running` or `stopped`.
    pub(super) state: &'static str,
    pub(super) total: u64,
    pub(super) finished: u64,
    pub(super) failed: u64,
    pub(super) running: u64,
    pub(super) claimed: u64,
    pub(super) waiting: u64,
    pub(super) is_open: bool,
    pub(super) rate: String,
    pub(super) left: String,
    /// What of the workdir could not be read.
    pub(super) problem: Option<String>,
    /// How long 95 of 100 attempts take at most, and the longest took.
    pub(super) usual: Option<(u64, u64)>,
    pub(super) nodes: Vec<NodeRow>,
    /// The longest first.
    pub(super) running_tasks: Vec<RunningRow>,
    /// The latest first.
    pub(super) failures: Vec<FailedRow>,
    pub(super) curve: Curve,
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct NodeRow {
    pub(super) host: String,
    pub(super) state: FarmerState,
    pub(super) health: NodeHealth,
    /// Slots that run a task, and all slots.
    pub(super) busy: u64,
    pub(super) slots: u64,
    /// Attempts that finished and that failed.
    pub(super) finished: u64,
    pub(super) failed: u64,
    /// How long its longest task has run, in microseconds.
    pub(super) longest: Option<u64>,
}

impl NodeRow {
    /// How it is, in one word.
    pub(super) fn word(&self) -> &'static str {
        nodes::word(self.state, self.health)
    }
}

/// A task that runs.
#[derive(Clone, Debug)]
pub(super) struct RunningRow {
    pub(super) id: u64,
    pub(super) attempt: u32,
    pub(super) ran: u64,
    pub(super) node: String,
    pub(super) command: String,
}

/// A task that failed.
#[derive(Clone, Debug)]
pub(super) struct FailedRow {
    pub(super) id: u64,
    pub(super) attempt: u32,
    /// How long ago.
    pub(super) ago: u64,
    pub(super) outcome: String,
    pub(super) node: String,
    pub(super) command: String,
}

/// How many attempts ended when.
#[derive(Clone, Debug, Default)]
pub(super) struct Curve {
    /// How long a stretch is, in microseconds.
    pub(super) width: u64,
    /// Attempts that ended, and those of them that failed, stretch by stretch.
    pub(super) ended: Vec<(u64, u64)>,
}

impl Snapshot {
    /// Of a run as it was last read.
    pub(super) fn of(run: &Run, names: &mut CommandCache) -> io::Result<Self> {
        let counts = &run.counts;
        let nodes = nodes(run);
        let durations = run.durations();
        let running = run.running();
        let usual = durations.quantile(0.95).map(|most| (most, durations.max));
        names.refresh(run)?;
        let snapshot = Self {
            workdir: escape(run.workdir.as_os_str().as_encoded_bytes()),
            state: word(run),
            total: counts.total,
            finished: counts.finished,
            failed: counts.failed,
            running,
            claimed: counts.claimed.saturating_sub(running),
            waiting: counts.waiting,
            is_open: counts.feeding > 0,
            rate: run.rate().map(show_rate).unwrap_or_default(),
            left: match run.forecast() {
                Forecast::Over => String::new(),
                Forecast::Range(low, high) => range(low, high),
                Forecast::Unknown(_) => "unknown".to_owned(),
            },
            problem: problem(run),
            usual,
            running_tasks: running_tasks(run, names)?,
            failures: failures(run, names)?,
            nodes: nodes.iter().map(NodeRow::of).collect(),
            curve: Curve::of(run),
        };
        names.drop_unused();
        Ok(snapshot)
    }
}

fn problem(run: &Run) -> Option<String> {
    let damaged: u64 = run.farmers.iter().map(|farmer| farmer.damage.lines).sum();
    let lock = run.counts.problem.as_ref();
    lock.map(|problem| escape(problem.as_bytes())).or_else(|| {
        (damaged > 0).then(|| {
            format!("{damaged} lines of the journals are not records: pytf status names them")
        })
    })
}

fn running_tasks(run: &Run, names: &mut CommandCache) -> io::Result<Vec<RunningRow>> {
    let row = |one: &Running| {
        Ok(RunningRow {
            id: one.attempt.id,
            attempt: one.attempt.attempt,
            ran: one.ran,
            node: escape(one.farmer.host.as_bytes()),
            command: names.of(one.attempt.id)?,
        })
    };
    run.running_attempts().iter().take(KEPT).map(row).collect()
}

/// The latest failures of tasks that are in `failed`, one for each task.
fn failures(run: &Run, names: &mut CommandCache) -> io::Result<Vec<FailedRow>> {
    let mut last: HashMap<u64, (&Farmer, &FailedAttempt)> = HashMap::new();
    for farmer in &run.farmers {
        let there = |failed: &&FailedAttempt| run.failed.binary_search(&failed.id).is_ok();
        for failed in farmer.failures.iter().rev().filter(there).take(KEPT) {
            let place = last.entry(failed.id).or_insert((farmer, failed));
            if place.1.attempt < failed.attempt {
                *place = (farmer, failed);
            }
        }
    }
    let now = run.span().map_or(0, |(_, last)| last);
    let mut all: Vec<_> = last.into_values().collect();
    all.sort_by_key(|(_, failed)| (Reverse(failed.at), failed.id));
    let row = |(farmer, failed): &(&Farmer, &FailedAttempt)| {
        Ok(FailedRow {
            id: failed.id,
            attempt: failed.attempt,
            ago: now.saturating_sub(failed.at),
            outcome: failed.outcome.to_string(),
            node: escape(farmer.header().host.as_bytes()),
            command: names.of(failed.id)?,
        })
    };
    all.iter().take(KEPT).map(row).collect()
}

impl NodeRow {
    fn of(node: &Node) -> Self {
        Self {
            host: escape(node.host.as_bytes()),
            state: node.state,
            health: node.health,
            busy: node.running.len() as u64,
            slots: node.slots,
            finished: node.ended.0,
            failed: node.ended.1,
            longest: node.running.first().map(|one| one.ran),
        }
    }
}

impl Curve {
    fn of(run: &Run) -> Self {
        let series = run.series();
        Self {
            width: series.width(),
            ended: series
                .iter()
                .map(|(_, stretch)| (stretch.ended, stretch.failed))
                .collect(),
        }
    }

    /// For how long the run went on, in microseconds.
    pub(super) fn span(&self) -> u64 {
        self.width.saturating_mul(self.ended.len() as u64)
    }

    /// Ends per second in each of `columns` parts of the run, and whether any of
    /// them failed. A rate is never taken over less than a second: where there
    /// are more columns than seconds, neighbours show the same.
    pub(super) fn columns(&self, columns: usize) -> Vec<(f64, bool)> {
        let count = self.ended.len();
        let seconds = usize::try_from(self.span() / 1_000_000).unwrap_or(usize::MAX);
        let parts = columns.min(seconds).min(count).max(1);
        let part = |number: usize| {
            let (from, to) = (number * count / parts, (number + 1) * count / parts);
            let part = &self.ended[from..to];
            let ended: u64 = part.iter().map(|(ended, _)| ended).sum();
            let span = micros(self.width * part.len() as u64).as_secs_f64();
            let rate = float(ended) / span.max(1.0);
            (rate, part.iter().any(|(_, failed)| *failed > 0))
        };
        if count == 0 {
            return Vec::new();
        }
        (0..columns)
            .map(|column| part(column * parts / columns))
            .collect()
    }
}

/// Commands of tasks, as they are printed; those of the last snapshot are held.
#[derive(Debug, Default)]
pub(super) struct CommandCache {
    commands: Commands,
    /// How many tasks there were when the list was read.
    seen: Option<u64>,
    held: HashMap<u64, String>,
    used: HashMap<u64, String>,
}

impl CommandCache {
    /// Reads the list again when it has grown.
    fn refresh(&mut self, run: &Run) -> io::Result<()> {
        let state = run.counts.state.as_ref();
        let length = state.map_or(0, |state| state.tasks.len);
        if self.seen != Some(length) {
            self.commands = Commands::open(Path::new(&run.workdir))?;
            self.seen = Some(length);
        }
        Ok(())
    }

    fn of(&mut self, id: u64) -> io::Result<String> {
        let known = self.used.get(&id).cloned();
        let name = if let Some(name) = known.or_else(|| self.held.remove(&id)) {
            name
        } else {
            let command = self.commands.get(TaskId(id))?;
            command.map_or_else(String::new, |command| clip(&escape(command), COMMAND))
        };
        self.used.insert(id, name.clone());
        Ok(name)
    }

    /// Drops those that were not used since the last time.
    fn drop_unused(&mut self) {
        self.held = std::mem::take(&mut self.used);
    }
}
