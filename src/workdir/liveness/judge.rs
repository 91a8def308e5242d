//! Whether a farmer is alive: one more observation of its journal, and the verdict of
//! `model::liveness` on all observations.

use super::waiting::Waiting;
use super::watcher::{JournalView, look_at};
use crate::model::identity::Process;
use crate::model::liveness::{LockState, Observation, Verdict};
use crate::workdir::error::Result;
use crate::workdir::fs::Workdir;

/// Observes a farmer, and judges by all observations of it; `None` when its journal is gone, or
/// this process watches none.
pub fn judge(
    workdir: &Workdir,
    farmer: &str,
    waiting: &mut dyn Waiting,
) -> Result<Option<(JournalView, Verdict)>> {
    let began = waiting.now();
    let Some(watcher) = waiting.watcher() else {
        return Ok(None);
    };
    let Some(seen) = look_at(workdir, farmer, watcher)? else {
        return Ok(None);
    };
    let look = Observation {
        began,
        ended: waiting.now(),
        len: seen.len,
        lock: seen.lock,
        process: seen.process,
    };
    let verdict = waiting.watcher().map(|to| to.observer.judge(farmer, look));
    Ok(verdict.map(|verdict| (seen, verdict)))
}

/// Judges a farmer that has no journal any more, and so can give no sign of life.
pub fn judge_missing(farmer: &str, waiting: &mut dyn Waiting) -> Verdict {
    let now = waiting.now();
    let look = Observation {
        began: now,
        ended: now,
        len: 0,
        lock: LockState::Unknown,
        process: Process::Unknown,
    };
    let watcher = waiting.watcher();
    watcher.map_or(Verdict::Unproved, |to| to.observer.judge(farmer, look))
}
