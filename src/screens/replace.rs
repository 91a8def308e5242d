//! A file that is whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::workdir::fs::Rights;

/// Lets `write` fill a new file, which then takes the place of `path`; nothing
/// is left of it where that fails.
pub(super) fn replace<T>(path: &Path, write: impl FnOnce(File) -> io::Result<T>) -> io::Result<T> {
    let (temporary, file) = temporary(path)?;
    let written = write(file).and_then(|written| fs::rename(&temporary, path).map(|()| written));
    if written.is_err() {
        // The first error is reported.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A new file beside it, with a name that no other process uses.
fn temporary(target: &Path) -> io::Result<(PathBuf, File)> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let mut number = 0;
    loop {
        let name = format!(".{name}.{}.{number}", std::process::id());
        let path = target.with_file_name(name);
        // Fails where anything has that name already, and follows no link.
        let rights = Rights::at(path.parent().unwrap_or(Path::new(".")));
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(rights.file_mode());
        match options.open(&path) {
            Ok(file) => {
                rights.settle(&file)?;
                return Ok((path, file));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => {
                number += 1;
            }
            Err(error) => {
                let text = format!("{}: {error}", target.display());
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
}
