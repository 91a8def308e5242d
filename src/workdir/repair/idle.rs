//! Finds whether any process works on a workdir that is to be repaired.

use std::sync::Arc;
use std::time::Duration;

use crate::model::durations;
use crate::model::identity::Process;
use crate::model::liveness::{LockState, Verdict, unlocked_after};
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::fs::{Dir, File, Open, Workdir};
use crate::workdir::layout::LOCK;
use crate::workdir::liveness::{self, Waiting};
use crate::workdir::mechanism::Mechanism;
use crate::workdir::{membership, state};

/// Returns the farmers that are dead and not fenced. The lock that we get is kept until `lock` is
/// closed.
pub(in crate::workdir) fn check_nobody_works(
    workdir: &Workdir,
    lock: &dyn File,
    waiting: &mut dyn Waiting,
) -> Result<Vec<String>> {
    // It may be the state that is damaged.
    let state = state::read(lock).ok().flatten();
    let mechanism = state.map_or(workdir.mechanism, |state| state.mechanism);
    let workdir = &Workdir {
        mechanism,
        ..workdir.clone()
    };
    let dir = &workdir.dir;
    for way in [Mechanism::Flock, Mechanism::Fcntl] {
        match lock.try_lock(way) {
            Ok(false) => {
                let by = "another process".into();
                return Err(Error::InUse { by });
            }
            // An error proves nothing; all processes take the lock in the same way.
            Err(error) if way == mechanism => return Err(error).context("lock", LOCK),
            Ok(true) | Err(_) => {}
        }
    }
    let now = stamp(dir)?;
    membership::retire_marked(dir)?;
    let (mut open, mut dead) = (membership::present(dir)?, Vec::new());
    let (began, mut rounds) = (waiting.now(), 0_u32);
    while !open.is_empty() {
        let watched = waiting.now().saturating_sub(began);
        for farmer in std::mem::take(&mut open) {
            match look_at(workdir, &farmer, now, watched, waiting)? {
                Judgement::Over => dead.push(farmer),
                Judgement::Dying if rounds < 300 => open.push(farmer),
                Judgement::Unproved => {
                    if rounds == 0 {
                        let most = durations::show(unlocked_after(waiting.takeover()));
                        let text =
                            format!("waiting up to {most} for a heartbeat of farmer {farmer}");
                        waiting.notify(text);
                    }
                    open.push(farmer);
                }
                Judgement::Dying | Judgement::Works => {
                    let by = format!("farmer {farmer}");
                    return Err(Error::InUse { by });
                }
            }
        }
        rounds += 1;
        if !open.is_empty() && !waiting.pause(Duration::from_millis(10)) {
            return Err(Error::Canceled);
        }
    }
    Ok(dead)
}

/// What is known of a farmer whose journal is in `nodes/`.
enum Judgement {
    /// It is dead.
    Over,
    /// It has ended, and its guard ends its tasks.
    Dying,
    /// It has been silent for long. It is dead if that goes on for a while.
    Unproved,
    /// It works, or may.
    Works,
}

/// Observes a farmer; `now` is by the file system's clock, and the farmer has been `watched`
/// for that long.
fn look_at(
    workdir: &Workdir,
    farmer: &str,
    now: Duration,
    watched: Duration,
    waiting: &mut dyn Waiting,
) -> Result<Judgement> {
    let judged = liveness::judge(workdir, farmer, waiting)?;
    let Some((seen, verdict)) = judged else {
        return Ok(Judgement::Over);
    };
    let takeover = waiting.takeover();
    let is_recent = now.saturating_sub(seen.modified) < takeover;
    Ok(match (verdict, seen.process, seen.lock) {
        (Verdict::Dead(_), ..) => Judgement::Over,
        (_, Process::Gone, LockState::Held) => Judgement::Dying,
        (Verdict::Alive, ..) | (_, Process::Runs, _) | (.., LockState::Held) => Judgement::Works,
        (Verdict::Unproved, _, LockState::Free) => Judgement::Unproved,
        // Clocks can lie: an old file alone proves nothing.
        _ if is_recent => Judgement::Works,
        _ if watched > unlocked_after(takeover) => Judgement::Over,
        _ => Judgement::Unproved,
    })
}

/// The time now, as the file system has it.
fn stamp(dir: &Arc<dyn Dir>) -> Result<Duration> {
    let name = "repair.stamp.new";
    let file = dir.open(name, Open::Create).context("create", name)?;
    file.write_at(b"now", 0).context("write", name)?;
    let now = file.modified().context("look at", name)?;
    dir.remove(name).context("remove", name)?;
    Ok(now)
}
