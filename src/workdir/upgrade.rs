//! Taking over a workdir of format 1.
//!
//! Others rely on this: it happens under the lock, and only when nobody is alive by the
//! state. A new `lock` is written beside the old one and takes its place by a rename, so
//! a process that dies over it leaves one or the other, each whole. Programs that know
//! only format 1 refuse what they find then.

use std::sync::Arc;

use super::error::{Context, Error, Result};
use super::farmers;
use super::fs::{Dir, Open};
use super::lock::{Held, Mechanism, Waiting, acquire};
use super::new_file::NEW;
use super::resume::look;
use super::state::{self, Act, FORMAT, LOCK, Log, State};

/// Makes a workdir of format 1 one of the present format; any other is left as it is.
/// An error says so when farmers are alive by its state. Returns the state as it was
/// seen last, without the lock.
pub fn upgrade(
    dir: &Arc<dyn Dir>,
    mechanism: Mechanism,
    who: &str,
    waiting: &mut dyn Waiting,
) -> Result<Option<State>> {
    let mut seen = look(dir)?;
    if old(seen.as_ref())?.is_some() {
        let held = acquire(dir, mechanism, who, waiting)?;
        if let Some(state) = old(state::read(&*held.file)?.as_ref())? {
            replace_lock(dir, (&held, state), waiting)?;
        }
        drop(held);
        seen = look(dir)?;
    }
    farmers::move_marked(dir)?;
    Ok(seen)
}

/// The state, when it is of an older format.
fn old(state: Option<&State>) -> Result<Option<&State>> {
    let Some(state) = state.filter(|state| state.format < FORMAT) else {
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
    (held, old): (&Held, &State),
    waiting: &mut dyn Waiting,
) -> Result<()> {
    let name = format!("{LOCK}.format{FORMAT}{NEW}");
    dir.remove(&name).context("remove", &name)?;
    let file = dir.open(&name, Open::CreateNew).context("create", &name)?;
    let mut state = State {
        format: FORMAT,
        seq: old.seq + 1,
        // The log begins anew.
        log: Log {
            segment: old.log.segment + 1,
            ..Log::default()
        },
        ..old.clone()
    };
    state::write_new(&*file, &mut state, (waiting.micros(), Act::Prepare))?;
    if held.is_stale(waiting) {
        let what = "it was held for so long that others may have taken it over";
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, what);
        return Err(error).context("keep", LOCK);
    }
    dir.rename(&name, LOCK).context("rename", &name)?;
    dir.sync_names().context("sync", "the workdir")
}
