//! A run as its files record it: while it runs, at its end, afterwards.
//!
//! Only reads. Nothing here takes the workdir's lock or changes a file, so looking at a
//! run can never disturb it. The files may be half-written, by a farmer that is at work
//! or by one that died: what is whole is shown, and the rest is named. Nothing here
//! knows how anything is shown.

pub mod commands;
pub mod failures;
pub mod farmer_rows;
pub mod journals;
pub mod logs;
pub mod run;

#[cfg(test)]
pub(crate) mod synthetic;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

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
