//! Which tasks have ended: read from `finished` and `failed`, for some as they grow.
//!
//! Guarantee: what is not committed has not ended. A line of `finished` is read once, however
//! often the same tasks are looked for.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::failures::failures;
use super::run::Run;
use super::run::counts::{Counts, current, failed_ids};
use super::{lines, open_if_any};
use crate::model::ids::{IdSet, Ids};
use crate::model::task::{TaskId, parse_line};
use crate::workdir::layout::{FINISHED, REQUEUED};
use crate::workdir::state::State;
use crate::workdir::transaction::RequeueReason;

/// The tasks that have ended, each with whether it has finished; only these, if some are named.
pub fn ended(workdir: &Path, only: Option<&IdSet>) -> io::Result<BTreeMap<TaskId, bool>> {
    let counts = Counts::read(workdir)?;
    if let Some(problem) = counts.problem {
        return Err(io::Error::other(problem));
    }
    let state = counts.state.as_ref();
    let is_wanted = |id: &TaskId| only.is_none_or(|only| only.contains(*id));
    let failed = failed_ids(workdir, state)?.into_iter().map(TaskId);
    let mut ended: BTreeMap<_, _> = failed.filter(is_wanted).map(|id| (id, false)).collect();
    let end = state.map_or(u64::MAX, |state| state.finished.len);
    if let Some(file) = open_if_any(&current(workdir, state, FINISHED))? {
        lines::each(&file, 0, |line, at| {
            let id = parse_line(line).map(|(id, _)| id);
            ended.extend(
                id.filter(|id| at < end && is_wanted(id))
                    .map(|id| (id, true)),
            );
            Ok(())
        })?;
    }
    Ok(ended)
}

/// Some tasks, by their ids.
#[derive(Debug)]
pub struct Named {
    all: Ids,
    /// Those that are not in `finished`.
    open: IdSet,
    /// Up to where `finished` was read.
    read: u64,
}

/// How many of them have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// In `finished`.
    pub finished: u64,
    /// In `failed`, without those that are known to be cancelled.
    pub failed: u64,
    /// In `failed` since they were cancelled, where that was asked for.
    pub cancelled: u64,
    /// In neither file.
    pub left: u64,
}

impl Named {
    /// These tasks.
    pub fn new(all: Ids) -> Self {
        let open = IdSet::from(all.clone());
        let read = 0;
        Self { all, open, read }
    }

    /// Those that are not among the first `known`, which are all that there are.
    pub fn unknown(&self, known: u64) -> Ids {
        self.open.clone().split_off(TaskId(known)).ids()
    }

    /// Those that were dropped: their lines are no longer in the task list.
    pub fn dropped(&self, workdir: &Path) -> io::Result<Ids> {
        let mut last: BTreeMap<TaskId, bool> = BTreeMap::new();
        if let Some(file) = open_if_any(&workdir.join(REQUEUED))? {
            lines::each(&file, 0, |line, _| {
                if let Some((id, rest)) = parse_line(line)
                    && self.open.contains(id)
                {
                    let word = RequeueReason::Dropped.word().as_bytes();
                    last.insert(id, rest.rsplit(|byte| *byte == b' ').next() == Some(word));
                }
                Ok(())
            })?;
        }
        let dropped = last.into_iter().filter(|(_, is_dropped)| *is_dropped);
        Ok(dropped.map(|(id, _)| id).collect())
    }

    /// Counts the cancelled ones among those that failed, by the run as it was read.
    pub fn count_cancelled(&self, run: &Run, ended: &mut Ended) {
        if run.counts.cancelled == 0 {
            return;
        }
        let failures = failures(run).into_iter();
        let cancelled = failures
            .filter(|failed| failed.cancelled.is_some() && self.open.contains(TaskId(failed.id)))
            .count() as u64;
        ended.cancelled = cancelled.min(ended.failed);
        ended.failed -= ended.cancelled;
    }

    /// How many have ended, by this state.
    pub fn count(&mut self, workdir: &Path, state: &State) -> io::Result<Ended> {
        if state.finished.len < self.read {
            *self = Self::new(std::mem::take(&mut self.all));
        }
        if state.finished.len > self.read {
            let (end, open) = (state.finished.len, &mut self.open);
            if let Some(file) = open_if_any(&current(workdir, Some(state), FINISHED))? {
                let read = lines::each(&file, self.read, |line, at| {
                    if at < end
                        && let Some((id, _)) = parse_line(line)
                    {
                        open.take(id);
                    }
                    Ok(())
                })?;
                self.read = read.min(end);
            }
        }
        let open = self.open.ids();
        let mut not_failed = self.open.clone();
        let failed = failed_ids(workdir, Some(state))?.into_iter();
        let failed = failed.filter(|id| not_failed.take(TaskId(*id))).count() as u64;
        Ok(Ended {
            finished: self.all.count() - open.count(),
            failed,
            cancelled: 0,
            left: open.count() - failed,
        })
    }
}
