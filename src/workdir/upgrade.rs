//! Converting a workdir of format 1.
//!
//! Guarantee: it happens under the lock, and only when the state has no member. A new `lock` is
//! written beside the old one and takes its place by a rename, so a process that dies meanwhile
//! leaves one or the other, each whole. Programs that know only format 1 refuse what they find
//! then.

use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{NEW, sum_of};
use crate::workdir::fs::{Dir, Open, Workdir};
use crate::workdir::layout::{FAILED, FINISHED, LOCK, REQUEUED, TASKS, TOPROCESS};
use crate::workdir::liveness::Waiting;
use crate::workdir::lock::{Held, acquire};
use crate::workdir::membership;
use crate::workdir::state::{self, Act, Log, PLAIN, Queue, Rename, State, peek};
use std::sync::Arc;

/// Makes a workdir of format 1 one of the present format; any other is left as it is.
/// It is an error if farmers are alive by its state. Returns the state as it was read last.
pub fn upgrade(workdir: &Workdir, who: &str, waiting: &mut dyn Waiting) -> Result<Option<State>> {
    let mut seen = match peek(&workdir.dir) {
        // If it stays torn, it is the holder of the lock that calls it damaged.
        Err(error) if error.is_torn() => {
            state::read_locked(&*acquire(workdir, who, waiting)?.file)?
        }
        seen => seen?,
    };
    if old(seen.as_ref())?.is_some() {
        let held = acquire(workdir, who, waiting)?;
        if let Some(state) = old(state::read_locked(&*held.file)?.as_ref())? {
            replace_lock(&workdir.dir, &held, state, waiting)?;
        }
        drop(held);
        seen = peek(&workdir.dir)?;
    }
    membership::retire_marked(&workdir.dir)?;
    Ok(seen)
}

/// The state, when it is of an older format.
fn old(state: Option<&State>) -> Result<Option<&State>> {
    let Some(state) = state.filter(|state| state.format < PLAIN) else {
        return Ok(None);
    };
    if state.live > 0 {
        return Err(Error::Older {
            found: state.format,
            live: state.live,
        });
    }
    Ok(Some(state))
}

fn replace_lock(
    dir: &Arc<dyn Dir>,
    held: &Held,
    old: &State,
    waiting: &mut dyn Waiting,
) -> Result<()> {
    for Rename { from, to } in &old.renames {
        dir.rename(from, to).if_found("rename", from)?;
    }
    let name = format!("{LOCK}.format{PLAIN}{NEW}");
    dir.remove(&name).context("remove", &name)?;
    let file = dir.open(&name, Open::CreateNew).context("create", &name)?;
    let mut state = State {
        format: PLAIN,
        seq: old.seq + 1,
        // The log is restarted.
        log: Log {
            segment: old.log.segment + 1,
            ..Log::default()
        },
        renames: Vec::new(),
        ..old.clone()
    };
    for (file, known) in [
        (FINISHED, &mut state.finished),
        (FAILED, &mut state.failed),
        (REQUEUED, &mut state.requeued),
        (TASKS, &mut state.tasks),
    ] {
        known.sum = first_sum(dir, file, known.len)?;
    }
    let queue = state.queue();
    state.set_queue(Queue {
        sum: first_sum(dir, TOPROCESS, queue.len)?,
        taken: first_sum(dir, TOPROCESS, queue.cursor)?,
        ..queue
    });
    state::write_new(&*file, &mut state, waiting.micros(), Act::Prepare)?;
    if held.is_stale(waiting) {
        return Err(Error::HeldTooLong);
    }
    dir.rename(&name, LOCK).context("rename", &name)?;
    dir.sync_names().context("sync", "the workdir")
}

/// The checksum of what is known of a file: format 1 had none. A file that is shorter
/// is found damaged by the next transaction.
fn first_sum(dir: &Arc<dyn Dir>, name: &str, len: u64) -> Result<u32> {
    let file = dir.open(name, Open::Read).if_found("open", name)?;
    file.map_or(Ok(0), |file| sum_of(&*file, len).context("read", name))
}
