//! `pytf status --task`: all about one task.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use serde_json::{Value, json};

use super::form::COMMAND;
use super::json::SCHEMA;
use crate::history::attempts::{Recorded, attempts};
use crate::history::blocked::{Waits, waits_for};
use crate::history::commands::Commands;
use crate::history::logs::{log_tail, unrecorded_log};
use crate::history::run::Run;
use crate::history::run::attempt::Attempt;
use crate::history::run::counts::{failed_now, finished_ids};
use crate::history::{lines, open_if_any};
use crate::model::attributes::Attributes;
use crate::model::class::Class;
use crate::model::durations;
use crate::model::escape::{clip, escape};
use crate::model::figures::{grouped, micros, show_kib};
use crate::model::ids::IdSet;
use crate::model::outcome::Outcome;
use crate::model::record::{Leased, LogAt, Reserved};
use crate::model::retry::CRASH_LIMIT;
use crate::model::task::TaskId;
use crate::screens::attempt_json;
use crate::screens::log::{place, place_in_queue};
use crate::screens::words::cancellation;
use crate::ui::style::{OutputStyle, Paint};
use crate::workdir::layout::{FAILED, FINISHED, REQUEUED};
use crate::workdir::transaction::RequeueReason;

/// How many lines of the log are shown.
const TAIL: usize = 10;

/// A task.
pub(super) struct Task {
    id: TaskId,
    command: Option<String>,
    /// The text of what is said of it.
    attributes: Vec<u8>,
    place: &'static str,
    why: String,
    /// How many unfinished tasks it waits for.
    waits_for: Option<u64>,
    attempts: BTreeMap<u32, TaskAttempt>,
    /// Who cancelled it, when and why, if that is why it has not finished; for people, too.
    cancelled: Option<(Value, String)>,
    /// Why it was put back, by the number of the attempt that followed.
    requeued: Vec<(u32, String)>,
    tail: Vec<String>,
}

/// An attempt as its last record has it.
struct TaskAttempt {
    /// Its node and its farmer, fit to be printed.
    host: String,
    farmer: String,
    /// The task's own runner, else that of its farmer unless it is the default one.
    runner: Option<String>,
    /// How long it ran so far, where its end is not recorded; then the outcome is that it
    /// is lost if its farmer is over.
    attempt: Attempt,
    log: Option<LogAt>,
    /// The folder of the attempt that was kept.
    dir: Option<String>,
    /// What time it is there.
    now: u64,
    /// The file by which it was found to be done.
    skipped: Option<String>,
    is_running: bool,
    /// Whether it failed and the task finished on another node.
    is_nodes: bool,
}

/// A task by its id; `None` when there is no such task.
pub(super) fn of(run: &Run, id: TaskId) -> io::Result<Option<Task>> {
    let mut commands = Commands::open(&run.workdir)?;
    let command = commands.get(id)?;
    let command = command.map(|command| clip(&escape(command), COMMAND));
    let attributes = commands.attributes(id)?.unwrap_or_default().to_vec();
    // A line that cannot be read is one of a later version, and runs as it is.
    let said = Attributes::parse(&attributes).unwrap_or_default();
    let attempts = task_attempts(run, id, said.runner.as_ref())?;
    let file = place(&run.workdir, id)?;
    if command.is_none() && attempts.is_empty() && file.is_none() {
        return Ok(None);
    }
    let requeued = requeued(run, id)?;
    let is_running = attempts.values().any(|attempt| attempt.is_running);
    let last = requeued.last().map(|(_, why)| &**why);
    let is_dropped = last == Some(RequeueReason::Dropped.word());
    let last_attempt = attempts.keys().next_back().copied().unwrap_or(0);
    let cancelled = run.cancellations.of(id.0);
    let cancelled = cancelled.filter(|one| file != Some(FINISHED) && one.attempt >= last_attempt);
    let next_attempt = requeued.last().map_or(1, |(attempt, _)| *attempt);
    // A later attempt is not cancelled.
    let cancelled = cancelled.filter(|one| one.attempt >= next_attempt);
    let blocked = match file {
        None => why_it_is_blocked(run, id, &said)?,
        Some(_) => None,
    };
    let waits_for = blocked.as_ref().map(|(_, tasks)| *tasks);
    let (place, why) = match (file, blocked) {
        _ if is_running => ("running", String::new()),
        (Some(FAILED), _) if cancelled.is_some() => ("cancelled", String::new()),
        (Some(file @ (FINISHED | FAILED)), _) => (file, String::new()),
        _ if is_dropped => (
            "dropped",
            "its line is no longer in the task list".to_owned(),
        ),
        (_, Some((why, _))) => ("blocked", why),
        _ => {
            let class = Class::of(&said, next_attempt);
            match why_it_waits(run, id, &class)? {
                Some(why) => ("waiting", why),
                None => (
                    "claimed",
                    held(&attempts, next_attempt)
                        .or_else(|| reserved(run, id, &class))
                        .unwrap_or_else(|| claimed(run).to_owned()),
                ),
            }
        }
    };
    let tail = attempts.iter().next_back().and_then(|(number, attempt)| {
        let log = match &attempt.log {
            Some(log) => log.clone(),
            None if attempt.is_running => unrecorded_log(&run.workdir, id, *number),
            None => return None,
        };
        Some(log_tail(&run.workdir, &log, TAIL))
    });
    Ok(Some(Task {
        id,
        command,
        attributes,
        place,
        why,
        waits_for,
        attempts,
        cancelled: cancelled.map(|one| {
            let json = attempt_json::cancellation(one);
            (json, cancellation(one, run.now))
        }),
        requeued,
        tail: tail.unwrap_or_default(),
    }))
}

fn task_attempts(
    run: &Run,
    id: TaskId,
    runner: Option<&String>,
) -> io::Result<BTreeMap<u32, TaskAttempt>> {
    let faults = run.faults();
    let journals = run.farmers.iter().map(|farmer| &farmer.journal);
    let with_state = |(number, recorded): (u32, Recorded)| {
        let Recorded {
            journal,
            mut attempt,
            log,
            dir,
            skipped,
        } = recorded;
        let mut farmers = run.farmers.iter();
        let farmer = farmers.find(|farmer| farmer.journal.name == journal.name);
        let now = farmer.map_or(0, |farmer| run.now_of(farmer));
        let mut is_running = false;
        if let Some(farmer) = farmer.filter(|_| attempt.outcome.is_none()) {
            attempt.us = run.now_of(farmer).saturating_sub(attempt.at);
            if run.state_of(farmer).is_live() {
                let mut running = farmer.slots.running.values();
                is_running = running.any(|one| one.is_same(&attempt));
            } else {
                attempt.outcome = Some(Outcome::Lost);
            }
        }
        let host = &journal.header.host;
        let attempt = TaskAttempt {
            host: escape(host.as_bytes()),
            farmer: escape(journal.header.farmer.as_bytes()),
            runner: runner.or(journal.header.runner.as_ref()).cloned(),
            is_nodes: attempt.outcome.as_ref().is_some_and(Outcome::is_failure)
                && faults.is_nodes(id.0, host),
            attempt,
            log,
            dir: dir.map(|dir| escape(dir.as_bytes())),
            now,
            skipped: skipped.map(|file| escape(file.as_bytes())),
            is_running,
        };
        (number, attempt)
    };
    Ok(attempts(journals, id)?
        .into_iter()
        .map(with_state)
        .collect())
}

/// Of a claimed task whose last attempt has failed: when its farmer puts it back, so that it is
/// tried again.
fn held(attempts: &BTreeMap<u32, TaskAttempt>, next: u32) -> Option<String> {
    let (number, last) = attempts.iter().next_back()?;
    let again = last.attempt.again.filter(|_| *number >= next)?;
    let left = last
        .attempt
        .end()
        .saturating_add(again)
        .saturating_sub(last.now);
    Some(match left {
        0 => "it failed, and is about to be tried again".to_owned(),
        left => format!(
            "it failed, and is tried again in {}",
            durations::show(micros(left))
        ),
    })
}

/// Of a claimed task for which what it needs is being collected: where, and what is lacking.
fn reserved(run: &Run, id: TaskId, class: &Class) -> Option<String> {
    let (farmer, Reserved { since, .. }) = run.reserved_on(id)?;
    let host = escape(farmer.header().host.as_bytes());
    let time = durations::show(micros(run.now_of(farmer).saturating_sub(since)));
    let lacks = farmer.what_lacks(class);
    let lacks = lacks.map_or_else(String::new, |lacks| format!(": it needs {lacks}"));
    Some(format!("reserved on {host} for {time}{lacks}"))
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
    let (begin, mut found) = (format!("{id} "), Vec::new());
    let Some(file) = open_if_any(&run.workdir.join(REQUEUED))? else {
        return Ok(found);
    };
    lines::each(&file, 0, |line, _| {
        let rest = line.strip_prefix(begin.as_bytes());
        let rest = rest.and_then(|rest| str::from_utf8(rest).ok()?.split_once(' '));
        let parsed = rest.and_then(|(attempt, why)| Some((attempt.parse().ok()?, why)));
        found.extend(parsed.map(|(attempt, why)| (attempt, escape(why.as_bytes()))));
        Ok(())
    })?;
    Ok(found)
}

/// For which tasks a task waits, or the first of them that failed, and how many of them have not
/// ended; `None` when it waits for none.
fn why_it_is_blocked(
    run: &Run,
    id: TaskId,
    said: &Attributes,
) -> io::Result<Option<(String, u64)>> {
    let Some(state) = &run.counts.state else {
        return Ok(None);
    };
    let Some(Waits { after, any }) = waits_for(&run.workdir, state, id)? else {
        return Ok(None);
    };
    let finished = finished_ids(&run.workdir, state)?;
    let failed = failed_now(&run.workdir)?;
    let mut open = IdSet::default();
    open.insert(&after);
    open.insert(&any);
    for ended in [&finished, &failed] {
        open.remove(&ended.iter().copied().map(TaskId).collect());
    }
    let open = open.ids();
    let n = open.count();
    let tasks = if n == 1 { "task" } else { "tasks" };
    let why = if let Some(one) = failed.iter().find(|id| after.contains(TaskId(**id))) {
        format!("waits for task {one}, which failed: pytf retry lets it run again")
    } else if n == 0 {
        "all that it waited for has ended: a farmer is about to release it".to_owned()
    } else if said.after.is_empty() && said.after_any.is_empty() {
        format!(
            "waits for {} unfinished {tasks} of the stage before: {open}",
            grouped(n)
        )
    } else {
        format!("waits for {tasks} {open}")
    };
    Ok(Some((why, n)))
}

/// Why a task waits; `None` when it is in no queue.
fn why_it_waits(run: &Run, id: TaskId, class: &Class) -> io::Result<Option<String>> {
    let Some(before) = place_in_queue(&run.workdir, id)? else {
        return Ok(None);
    };
    if run.is_paused() {
        return Ok(Some("the run is paused: pytf resume lifts it".to_owned()));
    }
    if let Some(why) = run.why_nowhere(class) {
        return Ok(Some(why));
    }
    Ok(Some(match (run.slots(), before) {
        (0, _) => "no farmer works on the run: run the same command again".to_owned(),
        (_, 0) => match run.why_not_now(class) {
            Some(why) => why,
            None => "it is the next one".to_owned(),
        },
        (slots, before) => format!(
            "{} {} before it; slots that take them: {}",
            grouped(before),
            if before == 1 { "task is" } else { "tasks are" },
            grouped(slots)
        ),
    }))
}

/// What an attempt has of its node.
fn words_of(lease: &Leased) -> String {
    let counted = |n: u32, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let mut words = counted(lease.cpus, "CPU");
    if let Some(bound) = &lease.bound {
        words += &format!(" ({bound})");
    }
    if !lease.gpus.is_empty() {
        let gpus = u32::try_from(lease.gpus.len()).unwrap_or(u32::MAX);
        let names = escape(lease.gpus.join(", ").as_bytes());
        words += &format!(", {} ({names})", counted(gpus, "GPU"));
    }
    if lease.mem > 0 {
        words += &format!(", memory limit {}", show_kib(lease.mem));
    }
    if lease.time > 0 {
        let time = std::time::Duration::from_secs(lease.time);
        words += &format!(", time limit {}", durations::show(time));
    }
    words
}

impl TaskAttempt {
    fn words(&self) -> String {
        match &self.attempt.outcome {
            Some(outcome) if self.attempt.again.is_some() => format!("{outcome}, tried again"),
            Some(outcome) if self.skipped.is_some() => {
                let file = self.skipped.as_deref().unwrap_or_default();
                format!("{outcome} without a start: {file} is there")
            }
            Some(outcome) => outcome.to_string(),
            None if self.is_running => "running".to_owned(),
            None => "ended, but how is not recorded".to_owned(),
        }
    }

    fn paint(&self) -> Paint {
        match &self.attempt.outcome {
            None => Paint::Strong,
            Some(Outcome::Exit(0)) => Paint::Good,
            Some(Outcome::Interrupted | Outcome::Lost | Outcome::Cancelled) => Paint::Warn,
            Some(_) => Paint::Bad,
        }
    }

    /// For people, in lines of at most `style.width` characters.
    fn push_to(&self, out: &mut String, style: &OutputStyle) {
        let attempt = &self.attempt;
        let time = durations::show(micros(attempt.us));
        let mut head = format!("  attempt {}  {}", attempt.attempt, self.words());
        if self.skipped.is_none() {
            head += &format!("  after {time}");
        }
        let head = style.clip(&head, style.width);
        let _ = writeln!(out, "\n{}", style.paint(self.paint(), &head));
        let pid = format!(", pid {}", attempt.pid);
        let pid = if self.is_running { &*pid } else { "" };
        let fault = if self.is_nodes {
            ": the node's fault, it finished on another"
        } else {
            ""
        };
        let (host, slot, farmer) = (&self.host, attempt.slot, &self.farmer);
        let runner = self.runner.as_ref().map_or_else(String::new, |runner| {
            format!(", runner {}", escape(runner.as_bytes()))
        });
        let place = format!("node {host}, slot {slot}{pid}, farmer {farmer}{runner}{fault}");
        push(out, style, "    ", &place);
        if let Some(lease) = &attempt.lease {
            push(out, style, "    ", &words_of(lease));
        }
        if let Some(used) = &attempt.used {
            let line = format!(
                "CPU {} user, {} system; peak memory {}; read {}, written {}",
                durations::show(micros(used.user)),
                durations::show(micros(used.sys)),
                show_kib(used.peak),
                show_kib(used.read),
                show_kib(used.written)
            );
            push(out, style, "    ", &line);
        }
        if let Some(log) = &self.log {
            push(out, style, "    log ", &escape(log.file.as_bytes()));
            if let Some(stderr) = &log.stderr {
                push(
                    out,
                    style,
                    "    standard error ",
                    &escape(stderr.as_bytes()),
                );
            }
        }
        if let Some(dir) = &self.dir {
            push(out, style, "    folder ", dir);
        }
    }

    fn json(&self) -> Value {
        let attempt = &self.attempt;
        let mut json = attempt_json::attempt(&self.host, &self.farmer, attempt, self.log.as_ref());
        if attempt.outcome.is_none() {
            let word = if self.is_running {
                "running"
            } else {
                "unknown"
            };
            json["outcome"] = word.into();
        }
        json["words"] = self.words().into();
        json["skipped"] = self.skipped.clone().into();
        json["dir"] = self.dir.clone().into();
        json["runner"] = self.runner.clone().into();
        json["fault"] = self.is_nodes.then_some("node").into();
        json["pid"] = (attempt.pid > 0).then_some(attempt.pid).into();
        json
    }
}

/// One line, cut to the width.
fn push(out: &mut String, style: &OutputStyle, indent: &str, text: &str) {
    let room = style.width.saturating_sub(indent.len());
    let _ = writeln!(out, "{indent}{}", style.clip(text, room));
}

impl Task {
    /// For people.
    pub(super) fn text(&self, style: &OutputStyle) -> String {
        let mut out = format!(
            "{}  {}\n",
            style.paint(Paint::Strong, &format!("task {}", self.id)),
            self.place
        );
        let requeued = self.requeued.iter().map(|(attempt, why)| {
            if why == RequeueReason::Dropped.word() {
                "dropped from the list".to_owned()
            } else if why == RequeueReason::LostLimit.word() {
                format!(
                    "given up after attempt {attempt}: {CRASH_LIMIT} farmers died while they had it"
                )
            } else {
                format!("put back for attempt {attempt}: {why}")
            }
        });
        let why = Some(self.why.clone()).filter(|why| !why.is_empty());
        let cancelled = self.cancelled.as_ref().map(|(_, words)| words.clone());
        let command = self.command.clone().into_iter();
        let attributes = escape(&self.attributes);
        let command = command.chain((!attributes.is_empty()).then_some(attributes));
        let said = Attributes::parse(&self.attributes).unwrap_or_default();
        let stage = match said.stage.number {
            0 => None,
            1 => Some("stage 2: 1 barrier above it".to_owned()),
            above => {
                let stage = u64::from(above) + 1;
                Some(format!("stage {stage}: {above} barriers above it"))
            }
        };
        for line in command
            .chain(stage)
            .chain(why)
            .chain(requeued)
            .chain(cancelled)
        {
            push(&mut out, style, "  ", &line);
        }
        for attempt in self.attempts.values() {
            attempt.push_to(&mut out, style);
        }
        if !self.tail.is_empty() {
            let _ = writeln!(out, "\n  the end of its log");
        }
        for line in &self.tail {
            push(&mut out, style, "  | ", line);
        }
        out
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let attempts = self.attempts.values().map(TaskAttempt::json);
        json!({
            "schema": SCHEMA,
            "kind": "task",
            "id": self.id,
            "command": self.command,
            "attributes": Attributes::parse(&self.attributes).unwrap_or_default().json(),
            "place": self.place,
            "why": (!self.why.is_empty()).then_some(&self.why),
            "waits_for": self.waits_for,
            "cancelled": self.cancelled.as_ref().map(|(json, _)| json),
            "requeued": self.requeued.iter().map(|(attempt, why)| {
                json!({ "attempt": attempt, "why": why })
            }).collect::<Vec<_>>(),
            "attempts": attempts.collect::<Vec<_>>(),
            "tail": self.tail,
        })
    }
}
