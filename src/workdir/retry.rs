//! Putting failed tasks back into `toprocess`.

use std::collections::HashSet;

use crate::model::ids::Ids;
use crate::model::task::{Task, TaskId, parse_line};
use crate::workdir::cancel::Cancels;
use crate::workdir::error::{Context, Result};
use crate::workdir::fs::Workdir;
use crate::workdir::layout::FAILED;
use crate::workdir::liveness::Waiting;
use crate::workdir::state::Act;
use crate::workdir::transaction::{Attempts, RequeueReason, Txn};

/// The result of a retry.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Put back into `toprocess`.
    pub back: Ids,
    /// Asked for, but not in `failed`.
    pub not_failed: Ids,
    /// How many stay in `failed` since they were cancelled.
    pub cancelled: u64,
}

/// Which failed tasks are to be put back.
#[derive(Clone, Debug, Default)]
pub enum Wanted {
    /// All but those that were cancelled.
    #[default]
    Failed,
    /// All.
    All,
    /// These.
    Ids(Ids),
}

/// Moves tasks from `failed` back to `toprocess`.
/// Their next attempt counts one higher.
pub fn retry(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn Waiting,
    wanted: &Wanted,
) -> Result<Retried> {
    let mut txn = Txn::begin(workdir, who, waiting)?;
    let is_wanted = |id, is_cancelled: bool| match wanted {
        Wanted::Failed => !is_cancelled,
        Wanted::All => true,
        // A range may be far longer than the list.
        Wanted::Ids(wanted) => wanted.contains(id),
    };
    let failed = take_failed(&mut txn, is_wanted, RequeueReason::Retry)?;
    let found: HashSet<TaskId> = failed.iter().map(|(task, _)| task.id).collect();
    let asked = match wanted {
        Wanted::Ids(ids) => Some(ids),
        _ => None,
    };
    let others = asked.into_iter().flat_map(Ids::iter);
    let others = others.filter(|id| !found.contains(id));
    let retried = Retried {
        back: failed.iter().map(|(task, _)| task.id).collect(),
        not_failed: others.take(1000).collect(),
        cancelled: match wanted {
            Wanted::Failed => txn.state().cancelled,
            _ => 0,
        },
    };
    if failed.is_empty() {
        return Ok(retried);
    }
    txn.requeue_anew(&failed)?;
    txn.commit(Act::Retry {
        ids: retried.back.clone(),
    })?;
    Ok(retried)
}

/// Takes the wanted tasks out of `failed`; `is_wanted` gets a task and whether it was cancelled.
/// Returns them sorted, to be put back into `toprocess`. If there are none, nothing is written.
pub(super) fn take_failed(
    txn: &mut Txn<'_>,
    is_wanted: impl Fn(TaskId, bool) -> bool,
    why: RequeueReason,
) -> Result<Vec<(Task, Option<RequeueReason>)>> {
    let (mut attempts, mut cancels) = (Attempts::default(), Cancels::default());
    txn.refresh(&mut attempts)?;
    cancels.refresh(txn)?;
    // Of the failures, which are not cancelled ones, the first are those of earlier runs.
    let (mut n_cancelled, mut n_failures, mut n_before) = (0, 0, 0);
    let before = txn.state().failed_before;
    let mut stay = txn.new_file(FAILED)?;
    let (mut taken, mut write) = (Vec::new(), Ok(()));
    txn.each_line(FAILED, |line| {
        let task = parse_line(line);
        let is_cancelled = task.is_some_and(|(id, _)| cancels.contains(id, attempts.of(id)));
        let is_before = !is_cancelled && n_failures < before;
        n_failures += u64::from(!is_cancelled);
        if let Some((id, text)) = task.filter(|(id, _)| is_wanted(*id, is_cancelled)) {
            n_cancelled += u64::from(is_cancelled);
            n_before += u64::from(is_before);
            taken.push((attempts.task(id, text), Some(why)));
        } else if write.is_ok() {
            write = stay.write(&[line, b"\n"].concat());
        }
    })?;
    write.context("write", FAILED)?;
    if taken.is_empty() {
        return Ok(taken);
    }
    taken.sort_by_key(|(task, _)| task.id);
    let known = stay.committed();
    txn.replace(FAILED, stay)?;
    let state = txn.state_mut();
    state.failed = known;
    state.cancelled = state.cancelled.saturating_sub(n_cancelled);
    state.failed_before = before.saturating_sub(n_before);
    Ok(taken)
}
