//! Copies of the files of a workdir in a folder of their own: `damaged-1`, `reset-1`.
//!
//! Guarantee: an existing copy is never overwritten; the copy of `lock` is made last, so a
//! folder without it is not complete.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::workdir::error::{Context, Result};
use crate::workdir::files::NewFile;
use crate::workdir::fs::{Dir, File, NotAFile, Open};
use crate::workdir::layout::{ALWAYS, BLOCKED, LOCK, ORDERS, RELEASED, is_shared, queue};

/// The highest number of a folder with this prefix; 0 when there is none.
pub fn last(dir: &Arc<dyn Dir>, prefix: &str) -> Result<u32> {
    let taken = dir.list("").context("list", "the workdir")?;
    let numbers = taken.iter();
    let numbers = numbers.filter_map(|name| name.strip_prefix(prefix)?.parse().ok());
    Ok(numbers.max().unwrap_or(0))
}

/// Opens a file; `None` when nothing has that name, or what has it is not a file.
pub(super) fn open_if_file(dir: &Arc<dyn Dir>, name: &str) -> Result<Option<Box<dyn File>>> {
    match dir.open(name, Open::Read) {
        Err(error) if NotAFile::of(&error).is_some() => Ok(None),
        opened => opened.if_found("open", name),
    }
}

/// The files to copy, `lock` last. A list of names may be old, so each is also looked for by its
/// name.
fn names(dir: &Arc<dyn Dir>) -> Result<Vec<String>> {
    let listed = dir.list("").context("list", "the workdir")?;
    let listed = listed.into_iter().filter(|name| is_shared(name));
    let known = ALWAYS.into_iter().chain([ORDERS, BLOCKED, RELEASED]);
    let mut names: BTreeSet<String> = listed.chain(known.map(str::to_owned)).collect();
    for name in (1..).map(queue) {
        if open_if_file(dir, &name)?.is_none() {
            break;
        }
        names.insert(name);
    }
    Ok(names.into_iter().chain([LOCK.to_owned()]).collect())
}

/// Copies the files as they are into a folder.
pub fn copy_into(dir: &Arc<dyn Dir>, folder: &str) -> Result<()> {
    dir.make_dir(folder).context("create", folder)?;
    for name in &names(dir)? {
        let Some(old) = open_if_file(dir, name)? else {
            // There is nothing to keep, or it is moved.
            continue;
        };
        let mut copy = NewFile::create(dir, &format!("{folder}/{name}"))?;
        let end = old.len().context("look at", name)?;
        copy.copy(&*old, 0, end).context("copy", name)?;
        copy.complete()?;
    }
    dir.sync_names_in(folder).context("sync", folder)
}
