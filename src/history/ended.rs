//! Which tasks have ended: read from `finished` and `failed`, for some as they grow.
//!
//! Guarantee: what is not committed has not ended. A line of `finished` is read once, however
//! often the same tasks are looked for, and `failed` only when it has changed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::failures::failures;
use super::run::Run;
use super::run::counts::{Counts, FailedVersion, current, failed_ids};
use super::{lines, open_if_any};
use crate::model::ids::{IdSet, Ids};
use crate::model::task::{TaskId, parse_line};
use crate::workdir::layout::{FINISHED, REQUEUED};
use crate::workdir::state::State;
use crate::workdir::transaction::{RequeueReason, parse_note};

/// The tasks that have ended, each with whether it has finished; only these, if some are named.
/// By the counts that were read; an error when they have a problem.
pub fn ended(
    workdir: &Path,
    counts: &Counts,
    only: Option<&IdSet>,
) -> io::Result<BTreeMap<TaskId, bool>> {
    if let Some(problem) = &counts.problem {
        return Err(io::Error::other(problem.clone()));
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
    /// How many are in `failed`, and of which version that is true.
    failed: Option<(FailedVersion, u64)>,
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
        let (read, failed) = (0, None);
        Self {
            all,
            open,
            read,
            failed,
        }
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
                if let Some((id, _, why)) = parse_note(line)
                    && self.open.contains(id)
                {
                    last.insert(id, why == RequeueReason::Dropped.word());
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
        let version = FailedVersion::of(state);
        let failed = match self.failed {
            Some((known, failed)) if known == version => failed,
            _ => {
                let mut not_failed = self.open.clone();
                let failed = failed_ids(workdir, Some(state))?.into_iter();
                failed.filter(|id| not_failed.take(TaskId(*id))).count() as u64
            }
        };
        self.failed = Some((version, failed));
        let open = self.open.ids();
        Ok(Ended {
            finished: self.all.count() - open.count(),
            failed,
            cancelled: 0,
            left: open.count() - failed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::layout::FAILED;
    use crate::workdir::mechanism::Mechanism;

    #[test]
    fn the_failed_are_read_again_only_when_they_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let workdir = folder.path();
        let mut named = Named::new("0-1".parse().unwrap());
        let mut state = State::new(Mechanism::Flock);
        let mut failed = |state: &State| named.count(workdir, state).unwrap().failed;
        std::fs::write(workdir.join(FAILED), "1 false\n7 false\n").unwrap();
        state.failed = state.failed.with(b"1 false\n7 false\n");
        assert_eq!(failed(&state), 1);
        std::fs::remove_file(workdir.join(FAILED)).unwrap();
        assert_eq!(failed(&state), 1, "it was not read again");
        state.requeued.lines += 1;
        assert_eq!(failed(&state), 0, "as after a retry");
    }

    #[test]
    fn the_last_note_of_a_task_says_whether_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let notes = "0 1 dropped\n1 1 dropped\n1 1 restored\n2 2 retry\n3 1 dropped\n";
        std::fs::write(folder.path().join(REQUEUED), notes).unwrap();
        let named = Named::new("0-2".parse().unwrap());
        assert_eq!(named.dropped(folder.path()).unwrap().to_string(), "0");
    }
}
