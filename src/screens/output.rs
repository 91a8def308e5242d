//! Where a view writes: a file that is either complete or absent, or standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::workdir::fs::Rights;

/// How much is written at a time.
const BUFFER: usize = 1 << 18;

/// Lets `write` fill a new file, which then takes the place of `path`; nothing is left of
/// the new file where that fails. `-` is standard output.
pub(super) fn replace<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    if path == Path::new("-") {
        return fill(io::stdout().lock(), write);
    }
    let (temporary, file) = temporary(path)?;
    let written = fill(file, write).and_then(|written| {
        fs::rename(&temporary, path)?;
        Ok(written)
    });
    if written.is_err() {
        // The first error is reported.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn fill<T, E: From<io::Error>>(
    out: impl Write,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let written = write(&mut out)?;
    out.flush()?;
    Ok(written)
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
