//! `pytf status --task`: all about one task.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use serde_json::{Value, json};

use super::form::numbers;
use super::json::{SCHEMA, seconds};
use crate::history::commands::Commands;
use crate::history::logs::{log_path, log_tail};
use crate::history::open;
use crate::history::run::{FarmerState, Run, each_line};
use crate::model::durations;
use crate::model::escape::{clip, escape};
use crate::model::figures::{grouped, micros, show_kib};
use crate::model::logs::log_name;
use crate::model::outcome::{Destination, Outcome};
use crate::model::record::{End, LogAt, Record, Used};
use crate::model::task::TaskId;
use crate::screens::log::place;
use crate::ui::style::{OutputStyle, Paint};
use crate::workdir::layout::{FAILED, FINISHED, REQUEUED, TOPROCESS};
use crate::workdir::transaction::RequeueReason;

/// How many lines of the log are shown.
const TAIL: usize = 10;

/// A task.
pub(super) struct Task {
    id: TaskId,
    command: Option<String>,
    place: &'static str,
    why: String,
    attempts: BTreeMap<u32, Attempt>,
    /// Why it was put back, by the number of the attempt that followed.
    requeued: Vec<(u32, String)>,
    tail: Vec<String>,
}

struct Attempt {
    host: String,
    farmer: String,
    slot: u32,
    pid: Option<u32>,
    at: u64,
    ran: u64,
    /// None while it runs, or its end is not on record.
    outcome: Option<Outcome>,
    /// Whether it runs.
    is_running: bool,
    /// Whether it failed and the task finished on another node.
    is_nodes: bool,
    used: Option<Used>,
    log: Option<LogAt>,
}

/// A task by its id; `None` when there is no such task.
pub(super) fn of(run: &Run, id: TaskId) -> io::Result<Option<Task>> {
    let mut commands = Commands::open(&run.workdir)?;
    let command = commands
        .get(id)?
        .map(|command| clip(&escape(command), 1000));
    let attempts = attempts(run, id)?;
    let file = place(&run.workdir, id)?;
    if command.is_none() && attempts.is_empty() && file.is_none() {
        return Ok(None);
    }
    let requeued = requeued(run, id)?;
    let is_running = attempts.values().any(|attempt| attempt.is_running);
    let last = requeued.last().map(|(_, why)| &**why);
    let is_dropped = last == Some(RequeueReason::Dropped.word());
    let (place, why) = match file {
        _ if is_running => ("running", String::new()),
        Some(file @ (FINISHED | FAILED)) => (file, String::new()),
        _ if is_dropped => (
            "dropped",
            "its line is no longer in the task list".to_owned(),
        ),
        _ => match file.map(|_| why_it_waits(run, id)).transpose()?.flatten() {
            Some(why) => ("waiting", why),
            None => ("claimed", claimed(run).to_owned()),
        },
    };
    let tail = attempts.iter().next_back().and_then(|(number, attempt)| {
        let (path, part) = match &attempt.log {
            Some(log) => (log_path(&run.workdir, log)?, log.part),
            None if attempt.is_running => (run.workdir.join(log_name(id, *number)), None),
            None => return None,
        };
        Some(log_tail(&path, part, TAIL))
    });
    Ok(Some(Task {
        id,
        command,
        place,
        why,
        attempts,
        requeued,
        tail: tail.unwrap_or_default(),
    }))
}

fn attempts(run: &Run, id: TaskId) -> io::Result<BTreeMap<u32, Attempt>> {
    let faults = run.faults();
    let mut found: BTreeMap<u32, Attempt> = BTreeMap::new();
    for farmer in &run.farmers {
        let header = farmer.header();
        let new = |slot, at, ran| Attempt {
            host: escape(header.host.as_bytes()),
            farmer: escape(header.farmer.as_bytes()),
            slot,
            pid: None,
            at,
            ran,
            outcome: None,
            is_running: false,
            is_nodes: false,
            used: None,
            log: None,
        };
        for record in farmer.journal.records_of(id)? {
            match record? {
                Record::Start(start) => {
                    let is_over = matches!(
                        run.state_of(farmer),
                        FarmerState::Lost | FarmerState::Left | FarmerState::Dead
                    );
                    let ran = run.now_of(farmer).saturating_sub(start.at);
                    let mut attempt = new(start.slot, start.at, ran);
                    attempt.pid = Some(start.pid);
                    attempt.outcome = is_over.then_some(Outcome::Lost);
                    let mut open = farmer.slots.running.values();
                    let is_open = open.any(|one| (one.id, one.attempt) == (id.0, start.attempt));
                    attempt.is_running = is_open && !is_over;
                    found.entry(start.attempt).or_insert(attempt);
                }
                Record::End(end) => {
                    let End { slot, at, us, .. } = end;
                    let has_failed = end.outcome.destination() == Destination::Failed;
                    let attempt = Attempt {
                        is_nodes: has_failed && faults.is_nodes(id.0, &header.host),
                        outcome: Some(end.outcome),
                        used: end.used,
                        log: end.log,
                        ..new(slot, at, us)
                    };
                    found.insert(end.attempt, attempt);
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// What is known of a task that is claimed and that no journal has yet.
fn claimed(run: &Run) -> &'static str {
    if run.living().next().is_some() {
        "a farmer has claimed it: it waits for a slot there, began less than a second ago, or has \
         just ended"
    } else {
        "a farmer that has died had claimed it: run the same command again"
    }
}

/// What `requeued` has about a task.
fn requeued(run: &Run, id: TaskId) -> io::Result<Vec<(u32, String)>> {
    let file = match open(&run.workdir.join(REQUEUED)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let begin = format!("{id} ");
    let mut found = Vec::new();
    each_line(&file, |line, _| {
        let rest = line.strip_prefix(begin.as_bytes());
        let rest = rest.and_then(|rest| str::from_utf8(rest).ok());
        if let Some((attempt, why)) = rest.and_then(|rest| rest.split_once(' ')) {
            found.extend(
                attempt
                    .parse()
                    .ok()
                    .map(|attempt| (attempt, escape(why.as_bytes()))),
            );
        }
    })?;
    Ok(found)
}

/// Whether a task whose line is in `toprocess` is claimed already, and why it
/// waits if it is not.
fn why_it_waits(run: &Run, id: TaskId) -> io::Result<Option<String>> {
    // The file begins with tasks that have been claimed since it was written.
    let state = run.counts.state.as_ref();
    let cursor = state.map_or(0, |state| state.queue().cursor);
    let begin = format!("{id} ");
    let (mut before, mut found) = (0_u64, None);
    each_line(&open(&run.workdir.join(TOPROCESS))?, |line, at| {
        if line.starts_with(begin.as_bytes()) {
            found = Some(at);
        }
        before += u64::from(at >= cursor && found.is_none());
    })?;
    if found.is_none_or(|at| at < cursor) {
        return Ok(None);
    }
    Ok(Some(match (run.slots(), before) {
        (0, _) => "no farmer works on the run: run the same command again".to_owned(),
        (_, 0) => "it is the next one".to_owned(),
        (slots, before) => format!(
            "{} {} before it; slots that take them: {}",
            grouped(before),
            if before == 1 { "task is" } else { "tasks are" },
            grouped(slots)
        ),
    }))
}

impl Attempt {
    fn words(&self) -> String {
        match &self.outcome {
            Some(outcome) => outcome.to_string(),
            None if self.is_running => "running".to_owned(),
            None => "ended, but how is not recorded".to_owned(),
        }
    }

    fn word(&self) -> &'static str {
        match &self.outcome {
            Some(outcome) => outcome.word(),
            None if self.is_running => "running",
            None => "unknown",
        }
    }
}

impl Task {
    /// For people.
    pub(super) fn text(&self, style: &OutputStyle) -> String {
        let mut out = format!(
            "{}  {}\n",
            style.paint(Paint::Strong, &format!("task {}", self.id)),
            self.place
        );
        if let Some(command) = &self.command {
            let _ = writeln!(out, "  {}", style.clip(command, style.width - 2));
        }
        if !self.why.is_empty() {
            let _ = writeln!(out, "  {}", style.clip(&self.why, style.width - 2));
        }
        for (attempt, why) in &self.requeued {
            let line = if why == RequeueReason::Dropped.word() {
                "dropped from the list".to_owned()
            } else {
                format!("put back for attempt {attempt}: {why}")
            };
            let _ = writeln!(out, "  {}", style.clip(&line, style.width - 2));
        }
        for (number, attempt) in &self.attempts {
            let words = attempt.words();
            let head = format!(
                "\n  attempt {number}  {words}  after {}",
                durations::show(micros(attempt.ran))
            );
            let _ = writeln!(
                out,
                "{}",
                style.paint(attempt.paint(), &style.clip(&head, style.width))
            );
            let line = format!(
                "node {}, slot {}{}, farmer {}{}",
                attempt.host,
                attempt.slot,
                match attempt.pid.filter(|_| attempt.is_running) {
                    Some(pid) => format!(", pid {pid}"),
                    None => String::new(),
                },
                attempt.farmer,
                if attempt.is_nodes {
                    ": the node's fault, it finished on another"
                } else {
                    ""
                }
            );
            let _ = writeln!(out, "    {}", style.clip(&line, style.width - 4));
            if let Some(used) = &attempt.used {
                let line = format!(
                    "CPU {} user, {} system; peak memory {}; read {}, written {}",
                    durations::show(micros(used.user)),
                    durations::show(micros(used.sys)),
                    show_kib(used.peak),
                    show_kib(used.read),
                    show_kib(used.written)
                );
                let _ = writeln!(out, "    {}", style.clip(&line, style.width - 4));
            }
            if let Some(log) = &attempt.log {
                let line = escape(log.file.as_bytes());
                let _ = writeln!(out, "    log {}", style.clip(&line, style.width - 8));
            }
        }
        if !self.tail.is_empty() {
            let _ = writeln!(out, "\n  the end of its log");
            for line in &self.tail {
                let _ = writeln!(out, "  | {}", style.clip(line, style.width - 4));
            }
        }
        out
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let attempts = self.attempts.iter().map(|(number, attempt)| {
            let (status, signal) = numbers(attempt.outcome.as_ref());
            json!({
                "attempt": number,
                "node": attempt.host,
                "farmer": attempt.farmer,
                "slot": attempt.slot,
                "pid": attempt.pid,
                "start": seconds(attempt.at),
                "seconds": seconds(attempt.ran),
                "outcome": attempt.word(),
                "status": status,
                "signal": signal,
                "words": attempt.words(),
                "fault": attempt.is_nodes.then_some("node"),
                "user": attempt.used.map(|used| seconds(used.user)),
                "sys": attempt.used.map(|used| seconds(used.sys)),
                "peak_kib": attempt.used.map(|used| used.peak),
                "read_kib": attempt.used.map(|used| used.read),
                "written_kib": attempt.used.map(|used| used.written),
                "log": attempt.log.as_ref().map(|log| escape(log.file.as_bytes())),
                "part": attempt.log.as_ref().and_then(|log| log.part),
            })
        });
        json!({
            "schema": SCHEMA,
            "kind": "task",
            "id": self.id,
            "command": self.command,
            "place": self.place,
            "why": (!self.why.is_empty()).then_some(&self.why),
            "requeued": self.requeued.iter().map(|(attempt, why)| {
                json!({ "attempt": attempt, "why": why })
            }).collect::<Vec<_>>(),
            "attempts": attempts.collect::<Vec<_>>(),
            "tail": self.tail,
        })
    }
}

impl Attempt {
    fn paint(&self) -> Paint {
        match &self.outcome {
            None => Paint::Strong,
            Some(Outcome::Exit(0)) => Paint::Good,
            Some(Outcome::Interrupted | Outcome::Lost) => Paint::Warn,
            Some(_) => Paint::Bad,
        }
    }
}
