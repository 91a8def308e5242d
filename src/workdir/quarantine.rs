//! The transactions of a farmer that suspects its node: it records that it claims nothing
//! more, gives tasks that failed on it to others, and reads how these ended.
//!
//! Guarantee: while farmers are alive at least one of them claims tasks, since that is decided
//! under the lock; a task is in `failed` or in `toprocess`, never in both.

use std::collections::HashSet;

use crate::model::ids::{IdSet, Ids};
use crate::model::outcome::Destination;
use crate::model::task::{TaskId, parse_line};
use crate::workdir::cancel::Cancels;
use crate::workdir::error::Result;
use crate::workdir::layout::{FAILED, FINISHED, REQUEUED};
use crate::workdir::retry::take_failed;
use crate::workdir::state::{Act, Log, State};
use crate::workdir::transaction::{Attempts, RequeueReason, Txn, parse_note};

/// Up to where it is known what ended.
#[derive(Clone, Copy, Debug)]
pub struct OutcomeCursor {
    finished: u64,
    failed: u64,
    /// There are failures after which a task is tried again.
    requeued: u64,
    log: Log,
}

impl OutcomeCursor {
    /// All that a state knows.
    pub fn all(state: &State) -> Self {
        Self {
            finished: state.finished.len,
            failed: state.failed.len,
            requeued: state.requeued.len,
            log: state.log,
        }
    }

    /// Whether something has ended since.
    pub fn is_behind(&self, state: &State) -> bool {
        let now = Self::all(state);
        (self.finished, self.failed, self.requeued) != (now.finished, now.failed, now.requeued)
    }

    /// What has ended since, and where it went.
    pub(super) fn new_outcomes(&mut self, txn: &mut Txn<'_>) -> Result<Vec<(TaskId, Destination)>> {
        let is_anew = |act: &Act| {
            use Act::{Edit, Quarantine, Retry};
            matches!(act, Retry { .. } | Quarantine { .. } | Edit { .. })
        };
        let entries = txn.entries_since(&self.log)?;
        let has_rotated = txn.state().log.segment != self.log.segment;
        if has_rotated || entries.iter().any(|entry| is_anew(&entry.act)) {
            // `failed` was rewritten, without what was taken out; or may have been.
            self.failed = 0;
        }
        // They say nothing about the node, nor about the tasks.
        let (mut attempts, mut cancels) = (Attempts::default(), Cancels::default());
        if txn.state().cancelled > 0 {
            txn.refresh(&mut attempts)?;
            cancels.refresh(txn)?;
        }
        let is_cancelled = |id| cancels.contains(id, attempts.of(id));
        let mut news = Vec::new();
        for (from, name, to) in [
            (self.finished, FINISHED, Destination::Finished),
            (self.failed, FAILED, Destination::Failed),
        ] {
            txn.each_line_from(from, name, |line| {
                let ended = parse_line(line).map(|(id, _)| (id, to));
                news.extend(
                    ended.filter(|(id, to)| *to == Destination::Finished || !is_cancelled(*id)),
                );
            })?;
        }
        if txn.state().requeued.len > self.requeued {
            txn.each_line_from(self.requeued, REQUEUED, |line| {
                let note = parse_note(line);
                let again = note.filter(|(.., why)| *why == RequeueReason::Again.word());
                news.extend(again.map(|(id, ..)| (id, Destination::Failed)));
            })?;
        }
        *self = Self::all(txn.state());
        Ok(news)
    }
}

/// Enters a farmer's quarantine, or gives more tasks of one that is in it to the
/// others; `None` when no other farmer would be left that claims.
pub(super) fn enter(
    mut txn: Txn<'_>,
    by: u32,
    is_in_it: bool,
    wanted: &Ids,
) -> Result<Option<(Ids, State)>> {
    if !is_in_it && txn.state().claiming() < 2 {
        return Ok(None);
    }
    let wanted: HashSet<TaskId> = wanted.iter().collect();
    let is_wanted = |id, is_cancelled: bool| !is_cancelled && wanted.contains(&id);
    let mut back = take_failed(&mut txn, is_wanted, RequeueReason::Doubted)?;
    let mut ids: IdSet = back.iter().map(|(task, _)| task.id).collect::<Ids>().into();
    let doubted = ids.ids();
    if !is_in_it {
        // They are tried again in any case, but behind all others.
        let (mut attempts, mut waiting) = (Attempts::default(), Vec::new());
        txn.refresh(&mut attempts)?;
        txn.take_waiting(
            |id| wanted.contains(&id),
            |id, line| waiting.push((attempts.task(id, line), None)),
        )?;
        waiting.sort_by_key(|(task, _)| task.id);
        ids.insert(&waiting.iter().map(|(task, _)| task.id).collect());
        back.extend(waiting);
    }
    if back.is_empty() {
        return Ok(Some((ids.ids(), txn.state().clone())));
    }
    // In front: the farmer waits for their results.
    txn.requeue_in_front(&back)?;
    txn.state_mut().quarantined += u32::from(!is_in_it);
    let state = txn.commit(Act::Quarantine { by, ids: doubted })?;
    Ok(Some((ids.ids(), state)))
}
