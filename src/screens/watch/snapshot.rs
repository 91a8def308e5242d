//! What the screen shows of a run at one moment: plain values that are safe to print.
//!
//! Guarantee: every text in here went through `escape`, and no list of tasks is longer than
//! [`KEPT`].

use std::cmp::Reverse;
use std::io;

use crate::history::commands::Commands;
use crate::history::failures::failures;
use crate::history::run::nodes::{Node, nodes};
use crate::history::run::{Run, Running};
use crate::model::durations;
use crate::model::escape::escape;
use crate::model::figures::{float, grouped, micros};
use crate::model::task::TaskId;
use crate::screens::words::{self, counts, node_paint, state};
use crate::ui::style::Paint;

/// How many running tasks and how many failures can be scrolled through.
pub(super) const KEPT: usize = 1000;

/// How much of a command is kept.
const COMMAND: usize = 300;

/// A task and the number of its attempt.
pub(super) type AttemptKey = (u64, u32);

/// A run at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) workdir: String,
    /// The state of the run for people.
    pub(super) state: (&'static str, Paint),
    /// Tasks that have ended, and all.
    pub(super) done: u64,
    pub(super) total: u64,
    /// How many tasks are where.
    pub(super) counts: Vec<(u64, &'static str, Paint)>,
    /// How fast it goes, and how long it may take: what matters most comes first.
    pub(super) speed: Vec<String>,
    /// What of the workdir could not be read.
    pub(super) problem: Option<String>,
    /// The titles of the panels, and how many rows there are in all.
    pub(super) titles: [(String, u64); 3],
    /// The rows of the panels: nodes, what runs, what has failed.
    pub(super) panels: [Vec<Row>; 3],
    pub(super) curve: Curve,
}

/// A row of a panel.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// The node, or the task: the row has the same name in the next snapshot.
    pub(super) name: String,
    /// The node that it belongs to.
    pub(super) node: String,
    /// What has its own column.
    pub(super) cells: Vec<(String, Paint)>,
    /// What takes the rest of the line.
    pub(super) rest: String,
    /// What filters are compared with: in lower case.
    pub(super) text: String,
    /// The attempt whose log it opens.
    pub(super) attempt: Option<AttemptKey>,
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
    pub(super) fn of(run: &Run, commands: &mut CommandCache) -> io::Result<Self> {
        let (nodes, times) = (nodes(run), run.durations());
        let usual = times.quantile(0.95).map(|most| (most, times.max));
        let commands = commands.of(run)?;
        let (running, failed) = (run.running(), run.counts.failed);
        Ok(Self {
            workdir: escape(run.workdir.as_os_str().as_encoded_bytes()),
            state: state(run),
            done: run.counts.done(),
            total: run.counts.total,
            counts: counts(run),
            speed: speed(run, usual),
            problem: problem(run),
            titles: [
                (node_states(&nodes), nodes.len() as u64),
                ("running, the longest first".to_owned(), running),
                ("failed, the latest first".to_owned(), failed),
            ],
            panels: [
                nodes.iter().map(node_row).collect(),
                running_rows(run, usual, commands)?,
                failed_rows(run, commands)?,
            ],
            curve: Curve::of(run),
        })
    }
}

fn speed(run: &Run, usual: Option<(u64, u64)>) -> Vec<String> {
    let mut parts = words::speed(run);
    if run.counts.feeding > 0 {
        parts.push("more may arrive".to_owned());
    }
    parts.extend(usual.map(|(many, most)| {
        let (many, most) = (time(many), time(most));
        format!("95 % take at most {many}, the longest took {most}")
    }));
    parts
}

fn time(us: u64) -> String {
    durations::show(micros(us))
}

fn problem(run: &Run) -> Option<String> {
    let damaged: u64 = run.farmers.iter().map(|farmer| farmer.damage.lines).sum();
    let problem = run.counts.problem.as_ref();
    problem
        .map(|problem| escape(problem.as_bytes()))
        .or_else(|| {
            (damaged > 0).then(|| {
                format!("{damaged} lines of the journals are not records: pytf status names them")
            })
        })
}

/// How many nodes are in which state.
fn node_states(nodes: &[Node]) -> String {
    let words = [
        "alive", "draining", "unsure", "sick", "silent", "dead", "lost", "left",
    ];
    let count = |word: &str| nodes.iter().filter(|node| node.word() == word).count();
    let parts = words.map(|word| (count(word), word));
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if parts.is_empty() {
        return "nodes".to_owned();
    }
    format!("nodes: {}", parts.join(", "))
}

fn node_row(node: &Node) -> Row {
    let name = escape(node.host.as_bytes());
    let (finished, failed, _) = node.ended;
    let busy = format!("{}/{}", node.running.len(), node.slots);
    let paint = if failed > 0 { Paint::Bad } else { Paint::Faint };
    let longest = node.running.first();
    let longest = longest.map(|one| format!("longest {}", time(one.ran)));
    let reserved = node.reserved();
    let reserved = reserved.map(|one| format!("collects for task {}", one.id));
    let rest: Vec<String> = longest.into_iter().chain(reserved).collect();
    Row {
        text: format!("{name} {}", node.word()).to_lowercase(),
        cells: vec![
            (name.clone(), Paint::Strong),
            (node.word().to_owned(), node_paint(node.word())),
            (format!("{busy:>9}"), Paint::Faint),
            (format!("{:>6} failed", grouped(failed)), paint),
            (format!("{:>6} finished", grouped(finished)), Paint::Faint),
        ],
        rest: rest.join(", "),
        name,
        ..Row::default()
    }
}

fn running_rows(
    run: &Run,
    usual: Option<(u64, u64)>,
    commands: &mut Commands,
) -> io::Result<Vec<Row>> {
    let row = |one: &Running| {
        let id = one.attempt.id;
        let node = escape(one.farmer.host.as_bytes());
        let command = commands.text(TaskId(id), COMMAND)?.unwrap_or_default();
        let paint = match usual {
            Some((_, most)) if one.ran > most => Paint::Longest,
            Some((many, _)) if one.ran > many => Paint::Warn,
            _ => Paint::Good,
        };
        Ok(Row {
            name: format!("{id}.{}", one.attempt.attempt),
            text: format!("{id} {node} {command}").to_lowercase(),
            cells: vec![
                (format!("{id:>8}"), Paint::Strong),
                (format!("{:>7}", time(one.ran)), paint),
                (node.clone(), Paint::Faint),
            ],
            rest: command,
            node,
            attempt: Some((id, one.attempt.attempt)),
        })
    };
    run.running_attempts().iter().take(KEPT).map(row).collect()
}

/// The tasks that are in `failed` now, each with its last failure.
fn failed_rows(run: &Run, commands: &mut Commands) -> io::Result<Vec<Row>> {
    let now = run.span().map_or(0, |(_, last)| last);
    let failures = failures(run).into_iter();
    let mut all: Vec<_> = failures
        .filter(|failure| failure.cancelled.is_none())
        .filter_map(|failure| failure.last)
        .collect();
    all.sort_by_key(|(_, failed)| (Reverse(failed.at), failed.id));
    let rows = all.into_iter().take(KEPT).map(|(farmer, failed)| {
        let id = failed.id;
        let node = escape(farmer.header().host.as_bytes());
        let outcome = failed.outcome.to_string();
        let command = commands.text(TaskId(id), COMMAND)?.unwrap_or_default();
        Ok(Row {
            name: id.to_string(),
            text: format!("{id} {node} {outcome} {command}").to_lowercase(),
            cells: vec![
                (format!("{id:>8}"), Paint::Strong),
                (outcome, Paint::Bad),
                (
                    format!("{:>7} ago", time(now.saturating_sub(failed.at))),
                    Paint::Faint,
                ),
                (node.clone(), Paint::Faint),
            ],
            rest: command,
            node,
            attempt: Some((id, failed.attempt)),
        })
    });
    rows.collect()
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

/// The commands of the tasks, read again when the list has grown.
#[derive(Debug, Default)]
pub(super) struct CommandCache {
    commands: Commands,
    /// How long the list was when it was read.
    length: Option<u64>,
}

impl CommandCache {
    fn of(&mut self, run: &Run) -> io::Result<&mut Commands> {
        let state = run.counts.state.as_ref();
        let length = Some(state.map_or(0, |state| state.tasks.len));
        if self.length != length {
            self.commands = Commands::open(&run.workdir)?;
            self.length = length;
        }
        Ok(&mut self.commands)
    }
}
