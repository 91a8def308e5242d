//! What people see of a workdir: while it runs, at its end, afterwards.
//!
//! Views only read. None takes the workdir's lock, none changes a file that the
//! farm relies on, so looking at a run can never disturb it; what is
//! written here, `timeline.json` and `report.html`, is nobody's input. What they read may be
//! half-written, by a farmer that is at work or by one that died: a view shows
//! what is whole and says what is not.

pub mod advice;
pub mod commands;
pub mod devices;
pub mod escape;
pub mod export;
pub mod failures;
pub mod journals;
pub mod lanes;
pub mod log;
pub mod look;
pub mod opening;
mod pace;
pub mod progress;
mod replace;
pub mod report;
pub mod run;
pub mod status;
pub mod stopping;
pub mod summary;
pub mod table;
pub mod timeline;
pub mod watch;

#[cfg(test)]
mod synthetic;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Opens a file of the workdir for reading, without following a link and
/// without waiting for the other end of a pipe that somebody put there.
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
