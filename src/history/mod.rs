//! A run as its files record it: while it runs, at its end, afterwards.
//!
//! It only reads. Nothing here takes the workdir's lock or changes a file, so looking at a run
//! can never disturb it. The files may be half-written, by a farmer that works or by one that
//! died: what is whole is shown, and what is not is reported. Nothing here knows how anything
//! is shown.

pub(crate) mod attempts;
pub(crate) mod blocked;
pub mod cancellations;
pub mod commands;
pub mod ended;
pub mod failures;
pub mod farmer_rows;
pub mod given_up;
pub mod journals;
pub(crate) mod lines;
pub mod logs;
pub mod run;
pub mod run_times;
pub mod waiting;

#[cfg(test)]
pub(crate) mod synthetic;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::workdir::layout::{LOCK, NODES, TASKS, TOPROCESS};

/// Whether a folder is a workdir: of `pytf`, or of `PyTaskFarmer`.
pub(crate) fn is_workdir(folder: &Path) -> bool {
    let files = [TASKS, NODES, TOPROCESS, LOCK];
    files.iter().any(|name| folder.join(name).exists())
}

/// Opens a file like [`open`]; `None` where there is no such file.
pub(crate) fn open_if_any(path: &Path) -> io::Result<Option<File>> {
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Opens a file of the workdir for reading, without following a link and
/// without waiting for the other end of a pipe.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let name = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), name(&error)))?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other(name(&"is not a plain file")))
    }
}
