//! Reading a file that others may be writing, or may replace.
//!
//! Guarantee: nothing here takes a lock or writes.

use crate::workdir::error::{Error, Result};
use crate::workdir::fs::File;
use std::io;

/// Reads a whole file, from `offset` on.
pub fn read_from(file: &dyn File, offset: u64) -> io::Result<Vec<u8>> {
    let length = file.len()?.saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let read = read_full(file, &mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// How often a read without the lock is tried that ends with a stale handle.
const LOOKS: u32 = 10;

/// Reads a file without the lock. Another node may replace or remove the file meanwhile. Then
/// NFS reports a stale handle, and `look` is called again, which opens the file again.
pub fn retry_stale<T>(mut look: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..LOOKS {
        match look() {
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ESTALE) => {}
            seen => return seen,
        }
    }
    look()
}

/// Fills `buf` from `offset` on as far as the file goes; returns how many bytes that were.
pub fn read_full(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// The checksum of the first `len` bytes of a file, or of all when there are fewer.
pub fn sum_of(file: &dyn File, len: u64) -> std::io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    each_piece(file, 0, len, |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok(hasher.finalize())
}

/// Shows a part of a file in pieces; returns the offset that was reached, which is less
/// than `end` where the file is shorter.
pub(super) fn each_piece(
    file: &dyn File,
    mut at: u64,
    end: u64,
    mut see: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut piece = vec![0; 1 << 20];
    while at < end {
        let want = usize::try_from(end - at).map_or(piece.len(), |n| n.min(piece.len()));
        let read = read_full(file, &mut piece[..want], at)?;
        if read == 0 {
            break;
        }
        see(&piece[..read])?;
        at += read as u64;
    }
    Ok(at)
}
