//! Restores a damaged workdir from the journals, which hold every result, and from what can
//! be read of the other files.
//!
//! It works without the state, which may be what is damaged. Guarantee: nothing is changed
//! while a farmer is alive; what there was is copied into a folder first; the new `lock` takes
//! its place last, so a repair that was interrupted is simply run again.

mod evidence;
mod idle;
mod rebuild;

use evidence::Findings;
pub(super) use idle::check_nobody_works;
pub use rebuild::Repaired;
use rebuild::{make_folder, move_away_if_no_file};
use std::path::Path;

use crate::model::tasklist::Dialect;
use crate::workdir::copies;
use crate::workdir::error::{Context, Result};
use crate::workdir::fs::{Open, Workdir};
use crate::workdir::layout::{DONE, LOCK, LOGS, NODES};
use crate::workdir::liveness::Waiting;
use crate::workdir::resume::ListFailure;
use crate::workdir::state;

/// Rewrites all files. `list` is the task list that the workdir was made from, for lines that
/// no file holds any more; the workdir's mechanism counts when no state has one.
pub fn repair(
    workdir: &Workdir,
    list: Option<(&Path, &Dialect)>,
    waiting: &mut dyn Waiting,
) -> Result<Repaired, ListFailure> {
    let dir = &workdir.dir;
    for folder in [NODES, DONE, LOGS] {
        make_folder(dir, folder)?;
    }
    for folder in [NODES, DONE] {
        for name in dir.list(folder).context("list", folder)? {
            let name = format!("{folder}/{name}");
            if name != DONE {
                move_away_if_no_file(dir, &name)?;
            }
        }
    }
    move_away_if_no_file(dir, LOCK)?;
    let lock = dir.open(LOCK, Open::Create).context("open", LOCK)?;
    check_nobody_works(workdir, &*lock, waiting)?;
    let state = state::read(&*lock).ok().flatten();
    let mut found = Findings::read(dir, &*lock, state.as_ref())?;
    if let Some(state) = state {
        found.weigh(&state);
    }
    if let Some((list, dialect)) = list {
        found.take_lines_of(list, dialect)?;
    }
    found.check_complete(list.is_some())?;
    let kept = format!("damaged-{}", copies::last(dir, "damaged-")? + 1);
    copies::copy_into(dir, &kept)?;
    let mut repaired = found.write(workdir, &*lock)?;
    repaired.kept = kept;
    Ok(repaired)
}
