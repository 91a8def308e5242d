//! The tasks in `failed`, each with its last failure, and grouped by cause.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::open;
use super::run::farmer::Failed;
use super::run::{Farmer, Run};
use crate::model::outcome::Outcome;
use crate::model::record::{End, Record};

/// A task that has failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Its last failure; unknown where no journal tells of it.
    pub last: Option<(&'a Farmer, &'a Failed)>,
    /// The task.
    pub id: u64,
}

impl<'a> Failure<'a> {
    /// How it ended, in words.
    pub fn words(&self) -> String {
        self.last.map_or_else(
            || "failed, and no journal tells how".to_owned(),
            |(_, failed)| failed.outcome.to_string(),
        )
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<&'a Outcome> {
        self.last.map(|(_, failed)| &failed.outcome)
    }
}

/// The failed tasks of a run, by their ids.
pub fn failures(run: &Run) -> Vec<Failure<'_>> {
    let mut last: HashMap<u64, (&Farmer, &Failed)> = HashMap::with_capacity(run.failed.len());
    for farmer in &run.farmers {
        for failed in &farmer.failures {
            if !run.failed.contains(&failed.id) {
                continue;
            }
            let place = last.entry(failed.id).or_insert((farmer, failed));
            if place.1.attempt <= failed.attempt {
                *place = (farmer, failed);
            }
        }
    }
    let mut ids: Vec<u64> = run.failed.iter().copied().collect();
    ids.sort_unstable();
    ids.into_iter()
        .map(|id| Failure {
            last: last.get(&id).copied(),
            id,
        })
        .collect()
}

/// Failed tasks that ended in the same way.
#[derive(Clone, Debug)]
pub struct Cause<'a> {
    /// How, in words.
    pub words: String,
    /// How many.
    pub tasks: u64,
    /// How many nodes that was on.
    pub nodes: u64,
    /// The first of them.
    pub first: Failure<'a>,
}

/// Groups failed tasks by their causes, the most frequent first.
pub fn causes<'a>(failures: &[Failure<'a>]) -> Vec<Cause<'a>> {
    let mut groups: HashMap<Option<&Outcome>, Vec<&Failure<'a>>> = HashMap::new();
    for failure in failures {
        groups.entry(failure.outcome()).or_default().push(failure);
    }
    let mut causes: Vec<Cause> = groups
        .into_values()
        .map(|group| {
            let nodes = group.iter().filter_map(|failure| failure.last);
            let nodes: HashSet<&str> = nodes.map(|(farmer, _)| &farmer.header().host[..]).collect();
            Cause {
                words: group[0].words(),
                tasks: group.len() as u64,
                nodes: nodes.len() as u64,
                first: *group[0],
            }
        })
        .collect();
    causes.sort_by_key(|cause| (std::cmp::Reverse(cause.tasks), cause.first.id));
    causes
}

/// Reads whole records of failures, one journal at a time.
#[derive(Debug, Default)]
pub struct Details {
    opened: Option<(std::path::PathBuf, File)>,
}

impl Details {
    /// The record of a failure; nothing where it cannot be read any more.
    pub fn of(&mut self, failure: &Failure) -> Option<End> {
        let (farmer, failed) = failure.last?;
        let file = self.file(&farmer.journal.path)?;
        let mut line = vec![0; 512];
        loop {
            let read = file.read_at(&mut line, failed.offset).ok()?;
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

    fn file(&mut self, path: &Path) -> Option<&File> {
        if self.opened.as_ref().is_none_or(|(known, _)| known != path) {
            self.opened = Some((path.to_owned(), open(path).ok()?));
        }
        self.opened.as_ref().map(|(_, file)| file)
    }
}
