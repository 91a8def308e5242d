//! Finds damage: files of a workdir that differ from what its state says.
//!
//! Guarantee: nothing is changed, and no lock is taken. If the workdir changes during the
//! check, it is checked again, so reported damage was seen under one state.

use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{CHANGED, sum_of};
use crate::workdir::fs::{Dir, Open};
use crate::workdir::layout::LOCK;
use crate::workdir::membership;
use crate::workdir::state::{self, Log, PLAIN, State};
use std::sync::Arc;

/// How often a workdir that changes meanwhile is checked.
const LOOKS: u32 = 10;

/// The result: the damaged files, and the state when it can be read.
#[derive(Debug, Default)]
pub struct Checked {
    /// One error for each file that is damaged.
    pub damage: Vec<Error>,
    /// The state; none when the workdir has not been prepared, or it cannot be read.
    pub state: Option<State>,
}

/// Reads all shared files, and compares them with the state.
pub fn check(dir: &Arc<dyn Dir>) -> Result<Checked> {
    let mut checked = Checked::default();
    for _ in 0..LOOKS {
        checked = check_once(dir)?;
        let seq = |state: &Option<State>| state.as_ref().map(|state| state.seq);
        if checked.damage.is_empty() || seq(&read(dir).ok().flatten()) == seq(&checked.state) {
            break;
        }
    }
    Ok(checked)
}

/// The state, as it is seen without the lock. What is torn is looked at again: see [`check`].
fn read(dir: &Arc<dyn Dir>) -> Result<Option<State>> {
    let file = dir.open(LOCK, Open::Fresh).if_found("open", LOCK)?;
    file.map_or(Ok(None), |file| state::read_locked(&*file))
}

fn check_once(dir: &Arc<dyn Dir>) -> Result<Checked> {
    let mut checked = Checked::default();
    checked.state = checked.take(read(dir))?.flatten();
    if let Some(state) = checked.state.clone() {
        let contradiction = state.contradiction();
        checked.take(contradiction.map_or(Ok(()), |what| damaged(LOCK, what)))?;
        checked.take(membership::check_age(dir))?;
        checked.take(check_log(dir, &state))?;
        for name in state.shared_files() {
            checked.take(check_file(dir, &state, &name))?;
        }
    }
    Ok(checked)
}

impl Checked {
    /// Keeps what is damage; any other error ends the check.
    fn take<T>(&mut self, found: Result<T>) -> Result<Option<T>> {
        match found {
            Err(error @ Error::Damaged { .. }) => {
                self.damage.push(error);
                Ok(None)
            }
            other => other.map(Some),
        }
    }
}

/// The log has its checksum; format 1 had none.
fn check_log(dir: &Arc<dyn Dir>, state: &State) -> Result<()> {
    if state.format < PLAIN {
        return Ok(());
    }
    let file = dir.open(LOCK, Open::Fresh).context("open", LOCK)?;
    state::bytes_since(&*file, &state.log, &Log::default()).map(drop)
}

fn check_file(dir: &Arc<dyn Dir>, state: &State, name: &str) -> Result<()> {
    let known = state.committed(name);
    let renames = state.renames.iter().filter(|rename| rename.to == name);
    let names = renames.map(|rename| &*rename.from).chain([name]);
    for there in names {
        let Some(file) = dir.open(there, Open::Fresh).if_found("open", name)? else {
            continue;
        };
        let len = file.len().context("look at", name)?;
        if len < known.len {
            let what = format!("it has {len} bytes where {} were recorded", known.len);
            return damaged(name, what);
        }
        // Format 1 had no checksums.
        if state.format >= PLAIN && sum_of(&*file, known.len).context("read", name)? != known.sum {
            return damaged(name, CHANGED);
        }
        return Ok(());
    }
    match known.len {
        0 => Ok(()),
        len => damaged(name, format!("it is missing; {len} bytes were recorded")),
    }
}

fn damaged(name: &str, what: impl std::fmt::Display) -> Result<()> {
    Err(Error::damaged(name, what))
}
