//! Waiting for the lock: a try and a pause, or a moment in the kernel's queue, again and
//! again, so that the wait can be canceled.

use super::announce::announce;
use super::breaking::LongWait;
use super::kernel_queue::{Queued, QueuedLock};
use super::name;
use std::time::Duration;

use super::held::Held;
use crate::model::pace;
use crate::workdir::error::{self, Context, Error, Result};
use crate::workdir::fs::{LockTry, Open, Workdir};
use crate::workdir::layout::LOCK;
use crate::workdir::liveness::Waiting;
use crate::workdir::mechanism::Mechanism;
use crate::workdir::state;

/// A waiter checks the holder after `FIRST_LOOK` tries, which take some seconds, and then at
/// each `LOOK_TRIES`-th try; tries are up to 1.5 s apart by then.
const FIRST_LOOK: u32 = 36;
const LOOK_TRIES: u32 = 3;
/// A waiter counts the farmers once in this number of tries.
const COUNT_TRIES: u32 = 8;

/// Waits for the lock. `owner` is written into it for diagnostics: the name of the farmer,
/// or what the process does.
pub fn acquire(workdir: &Workdir, owner: &str, waiting: &mut dyn Waiting) -> Result<Held> {
    let mut wait = LongWait::new(waiting.now());
    let (mut tries, mut effort, mut contenders) = (0_u32, Duration::ZERO, waiting.contenders());
    let mut queued = None;
    loop {
        // Read before the try, since this process may be frozen right after it.
        let since = waiting.now();
        let held = match workdir.mechanism {
            Mechanism::Flock | Mechanism::Fcntl => try_file(workdir, since, &mut queued)?,
            Mechanism::Link => name::take(&workdir.dir, owner, waiting)?.map(|(file, name)| Held {
                file,
                again: None,
                mechanism: workdir.mechanism,
                since,
                name: Some(name),
            }),
        };
        if let Some(held) = held {
            // A process that died after it had written a state may not have
            // synced it; the state before it must stay until it is.
            held.file.sync_first().context("sync", LOCK)?;
            state::write_holder(&*held.file, owner, waiting.micros())?;
            if tries >= FIRST_LOOK {
                announce(&workdir.dir, &*held.file, owner, waiting)?;
            }
            return Ok(held);
        }
        tries += 1;
        let took = waiting.now().saturating_sub(since);
        effort = if tries == 1 {
            took
        } else {
            (effort * 3 + took) / 4
        };
        let waited = waiting.now().saturating_sub(wait.since);
        if waited >= pace::LONG_WAIT && tries.is_multiple_of(COUNT_TRIES) {
            // If it is torn at this moment, a later try reads it.
            let state = workdir.dir.open(LOCK, Open::Read).ok();
            let state = state.and_then(|file| state::read(&*file).ok().flatten());
            contenders = contenders.max(state.map_or(1, |state| state.live));
        }
        let pause = match queued {
            Some(_) => Duration::ZERO,
            None => pace::lock_pause(tries, waited, effort, contenders),
        };
        let spread = 0.5 + waiting.jitter();
        if !waiting.pause(pause.mul_f64(spread)) {
            return Err(Error::Canceled);
        }
        if tries >= FIRST_LOOK && tries.is_multiple_of(LOOK_TRIES) {
            wait.check_holder(workdir, waiting)?;
        } else if workdir.mechanism == Mechanism::Link && (tries > 28 || tries.is_multiple_of(8)) {
            wait.check_local_holder(workdir, owner, waiting)?;
        }
    }
}

fn try_file(
    workdir: &Workdir,
    since: Duration,
    queued: &mut Option<QueuedLock>,
) -> Result<Option<Held>> {
    let dir = &workdir.dir;
    let tried = match queued.take().map(|place| place.wait(dir)) {
        None => dir.try_lock(LOCK, workdir.mechanism),
        Some(Queued::Acquired(file)) => dir.confirm(LOCK, file),
        Some(Queued::Pending(place)) => {
            *queued = Some(place);
            return Ok(None);
        }
        Some(Queued::Stale) => return Ok(None),
    };
    match tried.context("open", LOCK)? {
        LockTry::Locked(file, again) => Ok(Some(Held {
            file,
            again: Some(again),
            mechanism: workdir.mechanism,
            since,
            name: None,
        })),
        LockTry::Busy(file) => {
            *queued = QueuedLock::join(dir, file, workdir.mechanism);
            Ok(None)
        }
        LockTry::Replaced => Ok(None),
        LockTry::Unusable(error) => Err(error::unusable(workdir.mechanism, LOCK, error)),
    }
}
