//! The lines of files, read in pieces.
//!
//! Guarantee: how much is read does not depend on the length of the file, only on the requested
//! part and on the longest line; a last line without a line feed is ignored.

use std::collections::HashMap;
use std::sync::Arc;

use crc32fast::Hasher;

use super::checksum::CHANGED;
use super::extent::{Committed, Head};
use super::read::read_full;
use crate::model::ids::Ids;
use crate::model::task::{TaskId, parse_line};
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::fs::{Dir, File, Open};
use crate::workdir::layout::TASKS;

/// The lines of a part of a file, read in pieces.
pub struct Lines<'a> {
    file: &'a dyn File,
    buffer: Vec<u8>,
    /// Where the next line begins in the buffer, and the buffer in the file.
    next: usize,
    base: u64,
    end: u64,
    /// How much is read at once, at least.
    piece: usize,
    /// The checksum of what was read so far.
    sum: Hasher,
}

impl<'a> Lines<'a> {
    /// The lines between two offsets.
    pub fn new(file: &'a dyn File, from: u64, to: u64) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            next: 0,
            base: from,
            end: to,
            piece: 64 << 10,
            sum: Hasher::new(),
        }
    }

    /// The same, where what is before them has this checksum.
    #[must_use]
    pub fn after(self, sum: u32) -> Self {
        let sum = Hasher::new_with_initial_len(sum, self.base);
        Self { sum, ..self }
    }

    /// The checksum of all up to their end, when the last of them was returned.
    pub fn sum(self) -> u32 {
        self.sum.finalize()
    }

    /// The same, read in pieces of one part of so many.
    #[must_use]
    pub fn in_parts(self, parts: usize) -> Self {
        let piece = (self.piece / parts.max(1)).max(4 << 10);
        Self { piece, ..self }
    }

    /// Where the next line begins.
    pub fn at(&self) -> u64 {
        self.base + self.next as u64
    }

    /// What comes next: as many bytes as a [`Head`] is of, fewer at the end.
    pub fn head(&mut self) -> std::io::Result<&[u8]> {
        while self.buffer.len() - self.next < Head::MOST && self.fill()? {}
        let rest = &self.buffer[self.next..];
        Ok(&rest[..rest.len().min(Head::MOST)])
    }

    /// The next line without its end; `None` at the end, or when the last line
    /// has no end.
    #[expect(clippy::should_implement_trait, reason = "it lends from its buffer")]
    pub fn next(&mut self) -> std::io::Result<Option<&[u8]>> {
        let mut searched = 0;
        loop {
            let rest = &self.buffer[self.next..];
            if let Some(found) = memchr::memchr(b'\n', &rest[searched..]) {
                let (from, to) = (self.next, self.next + searched + found);
                self.next = to + 1;
                return Ok(Some(&self.buffer[from..to]));
            }
            searched = rest.len();
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads on: a piece, and more the longer the line.
    fn fill(&mut self) -> std::io::Result<bool> {
        self.buffer.drain(..self.next);
        self.base += self.next as u64;
        self.next = 0;
        let have = self.buffer.len();
        let at = self.base + have as u64;
        let want = self.piece.max(have) as u64;
        let want = usize::try_from(want.min(self.end.saturating_sub(at))).unwrap_or(0);
        self.buffer.resize(have + want, 0);
        let read = read_full(self.file, &mut self.buffer[have..], at)?;
        self.buffer.truncate(have + read);
        self.sum.update(&self.buffer[have..]);
        Ok(read > 0)
    }
}

/// Looks up the lines of some tasks in `tasks`, in one pass over it.
pub fn lines_of(
    dir: &Arc<dyn Dir>,
    known: Committed,
    ids: &Ids,
) -> Result<HashMap<TaskId, Vec<u8>>> {
    let mut wanted: std::collections::HashSet<TaskId> = ids.iter().collect();
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let file = dir.open(TASKS, Open::Read).if_found("open", TASKS)?;
    let file = file.ok_or_else(|| Error::damaged(TASKS, "it is missing"))?;
    let mut lines = Lines::new(&*file, 0, known.len);
    while let Some(line) = lines.next().context("read", TASKS)? {
        if let Some((id, line)) = parse_line(line).filter(|_| !wanted.is_empty())
            && wanted.remove(&id)
        {
            found.insert(id, line.to_vec());
        }
    }
    if lines.sum() != known.sum {
        return Err(Error::damaged(TASKS, CHANGED));
    }
    if wanted.is_empty() {
        return Ok(found);
    }
    let missing = wanted.iter().min().map_or(0, |id| id.0);
    let what = format!("it does not hold task {missing}, which was claimed");
    Err(Error::damaged(TASKS, what))
}
