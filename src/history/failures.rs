//! The tasks in `failed`, each with its last failure, and grouped by cause.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::cancellations::Cancellation;
use super::journals::Journal;
use super::run::farmer::FailedAttempt;
use super::run::{Farmer, Run};
use crate::model::outcome::Outcome;
use crate::model::record::{End, Record};
use crate::model::retry::CRASH_LIMIT;

/// How far from the last failure the search for the next one begins.
const NEAR: usize = 64;

/// A task that has failed.
#[derive(Clone, Copy, Debug)]
pub struct FailedTask<'a> {
    /// Its last failure; unknown where no journal records it.
    pub last: Option<(&'a Farmer, &'a FailedAttempt)>,
    /// Its last attempt, if it is in `failed` since it has lost too many farmers.
    pub given_up: Option<u32>,
    /// Who cancelled it, if that is why it is in `failed`.
    pub cancelled: Option<&'a Cancellation>,
    /// The task.
    pub id: u64,
}

impl<'a> FailedTask<'a> {
    /// How it ended, in words.
    pub fn words(&self) -> String {
        if self.cancelled.is_some() {
            return Outcome::Cancelled.to_string();
        }
        if self.given_up.is_some() {
            return format!("{}, {CRASH_LIMIT} times", Outcome::Lost);
        }
        self.last.map_or_else(
            || "failed, but no journal records how".to_owned(),
            |(_, failed)| failed.outcome.to_string(),
        )
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<&'a Outcome> {
        if self.cancelled.is_some() {
            return Some(&Outcome::Cancelled);
        }
        if self.given_up.is_some() {
            return Some(&Outcome::Lost);
        }
        self.last.map(|(_, failed)| &failed.outcome)
    }
}

/// The failed tasks of a run, by their ids.
pub fn failures(run: &Run) -> Vec<FailedTask<'_>> {
    let failure = |id: &u64| FailedTask {
        last: None,
        given_up: None,
        cancelled: None,
        id: *id,
    };
    let mut all: Vec<FailedTask> = run.failed.iter().map(failure).collect();
    for farmer in &run.farmers {
        let mut near = 0;
        for failed in &farmer.failures {
            let Some(place) = find(&all, failed.id, near) else {
                continue;
            };
            let last = &mut all[place].last;
            if last.is_none_or(|(_, other)| other.attempt <= failed.attempt) {
                *last = Some((farmer, failed));
            }
            near = place;
        }
    }
    mark_given_up(run, &mut all);
    mark_cancelled(run, &mut all);
    all
}

/// A task was given up if no later attempt of it failed.
fn mark_given_up(run: &Run, all: &mut [FailedTask]) {
    for (id, attempt) in run.given_up.iter() {
        if let Some(place) = find(all, id, 0) {
            let last = all[place].last;
            let is_last = last.is_none_or(|(_, last)| last.attempt <= attempt);
            all[place].given_up = is_last.then_some(attempt);
        }
    }
}

/// A task was cancelled if no later attempt of it failed.
fn mark_cancelled<'a>(run: &'a Run, all: &mut [FailedTask<'a>]) {
    for one in &run.cancellations.all {
        for (first, last) in one.ids.ranges() {
            let from = all.partition_point(|task| task.id < first.0);
            let those = all[from..].iter_mut().take_while(|task| task.id <= last.0);
            for task in those {
                let is_last = task
                    .last
                    .is_none_or(|(_, last)| last.attempt <= one.attempt)
                    && task.given_up.is_none_or(|last| last < one.attempt);
                let is_newer = task
                    .cancelled
                    .is_none_or(|other| other.attempt <= one.attempt);
                if is_last && is_newer {
                    task.cancelled = Some(one);
                }
            }
        }
    }
}

/// Tasks in `failed` that were cancelled together.
#[derive(Clone, Copy, Debug)]
pub struct CancelledTasks<'a> {
    /// By whom, when and why.
    pub of: &'a Cancellation,
    /// How many of them are in `failed` now.
    pub tasks: u64,
    /// The first of them.
    pub first: u64,
}

/// Groups cancelled tasks by the command that cancelled them, the newest first.
pub fn cancelled<'a>(failures: &[FailedTask<'a>]) -> Vec<CancelledTasks<'a>> {
    // The attempts of one command may differ.
    let key = |one: &'a Cancellation| (Reverse(one.at), &*one.by, one.reason.as_deref());
    let mut groups: BTreeMap<_, CancelledTasks> = BTreeMap::new();
    for task in failures {
        let Some(of) = task.cancelled else { continue };
        let first = task.id;
        let group = groups.entry(key(of)).or_insert(CancelledTasks {
            of,
            tasks: 0,
            first,
        });
        group.tasks += 1;
    }
    groups.into_values().collect()
}

/// Where a task is. Tasks end about in the order of their ids, so one that has
/// failed is mostly near the one that failed before it.
fn find(all: &[FailedTask], id: u64, near: usize) -> Option<usize> {
    let (from, to) = (near.saturating_sub(NEAR), (near + NEAR).min(all.len()));
    let window = &all[from..to];
    let is_near = window.first().is_some_and(|first| first.id <= id)
        && window.last().is_some_and(|last| id <= last.id);
    let (from, part) = if is_near { (from, window) } else { (0, all) };
    let found = part.binary_search_by_key(&id, |failure| failure.id);
    found.ok().map(|place| from + place)
}

/// Failed tasks that ended in the same way.
#[derive(Clone, Debug)]
pub struct FailureCause<'a> {
    /// How, in words.
    pub words: String,
    /// How many.
    pub tasks: u64,
    /// How many nodes that was on.
    pub nodes: u64,
    /// The first of them.
    pub first: FailedTask<'a>,
}

/// Groups failed tasks by their causes, the most frequent first; without cancelled ones.
pub fn causes<'a>(failures: &[FailedTask<'a>]) -> Vec<FailureCause<'a>> {
    let mut groups: HashMap<Option<&Outcome>, (FailureCause, HashSet<&str>)> = HashMap::new();
    for failure in failures
        .iter()
        .filter(|failure| failure.cancelled.is_none())
    {
        let new = || {
            let cause = FailureCause {
                words: failure.words(),
                tasks: 0,
                nodes: 0,
                first: *failure,
            };
            (cause, HashSet::new())
        };
        let (cause, nodes) = groups.entry(failure.outcome()).or_insert_with(new);
        cause.tasks += 1;
        nodes.extend(failure.last.map(|(farmer, _)| &farmer.header().host[..]));
        cause.nodes = nodes.len() as u64;
    }
    let mut causes: Vec<FailureCause> = groups.into_values().map(|(cause, _)| cause).collect();
    causes.sort_by_key(|cause| (Reverse(cause.tasks), cause.first.id));
    causes
}

/// Reads whole records of failures, one journal at a time.
#[derive(Debug, Default)]
pub struct Details {
    opened: Option<(String, File)>,
}

impl Details {
    /// The record of a failure; `None` where it can no longer be read.
    pub fn of(&mut self, failure: &FailedTask) -> Option<End> {
        let (farmer, failed) = failure.last?;
        self.at(&farmer.journal, failed.offset)
    }

    /// The end that a journal has at an offset.
    pub fn at(&mut self, journal: &Journal, offset: u64) -> Option<End> {
        let file = self.file(journal)?;
        let mut line = vec![0; 512];
        loop {
            let read = file.read_at(&mut line, offset).ok()?;
            if let Some(end) = memchr::memchr(b'\n', &line[..read]) {
                return match Record::parse(&line[..end])? {
                    Record::End(end) => Some(end),
                    _ => None,
                };
            }
            if read < line.len() || read > 1 << 20 {
                return None;
            }
            line.resize(read * 4, 0);
        }
    }

    fn file(&mut self, journal: &Journal) -> Option<&File> {
        let is_known = |(known, _): &(String, File)| *known == journal.name;
        if !self.opened.as_ref().is_some_and(is_known) {
            self.opened = Some((journal.name.clone(), journal.file().ok()?));
        }
        self.opened.as_ref().map(|(_, file)| file)
    }
}
