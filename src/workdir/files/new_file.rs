//! New files, written beside the files that they will replace.
//!
//! Guarantee: such a file is ignored until the current state names it among its renames. One
//! that is dropped before it is complete is removed; one that a dead process left is recognised
//! by its name.

use std::sync::Arc;

use super::extent::{Committed, Head};
use super::read::each_piece;
use crate::model::task::{TaskId, push_line};
use crate::workdir::error::{Context, Result};
use crate::workdir::fs::{Dir, File, Open};

/// The ending of files that are being written; one that a dead process left is ignored.
pub const NEW: &str = ".new";

/// A file that is being written and has no part in anything yet.
pub struct NewFile {
    dir: Arc<dyn Dir>,
    name: String,
    file: Box<dyn File>,
    buffer: Vec<u8>,
    written: Committed,
    /// How it begins, once that is written.
    head: Option<Head>,
    is_complete: bool,
}

impl NewFile {
    const BUFFER: usize = 1 << 20;

    /// Creates it, in place of what an earlier process left under this name.
    pub fn create(dir: &Arc<dyn Dir>, name: &str) -> Result<Self> {
        dir.remove(name).context("remove", name)?;
        let file = dir.open(name, Open::CreateNew).context("create", name)?;
        let (dir, name) = (dir.clone(), name.to_owned());
        Ok(Self {
            dir,
            name,
            file,
            buffer: Vec::new(),
            written: Committed::default(),
            head: None,
            is_complete: false,
        })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Self::BUFFER {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Appends a line, of which this is the text.
    pub(in crate::workdir) fn write_line(&mut self, text: &[u8]) -> std::io::Result<()> {
        self.buffer.extend_from_slice(text);
        self.write(b"\n")
    }

    /// Appends an `id command` line.
    pub fn write_task(&mut self, id: TaskId, line: &[u8]) -> std::io::Result<()> {
        push_line(&mut self.buffer, id, line);
        self.write(b"")
    }

    /// Appends a part of another file.
    pub(in crate::workdir) fn copy(
        &mut self,
        from: &dyn File,
        at: u64,
        end: u64,
    ) -> std::io::Result<()> {
        let reached = each_piece(from, at, end, |piece| self.write(piece))?;
        if reached < end {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Hands what was written so far to the file.
    pub(in crate::workdir) fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_at(&self.buffer, self.written.len)?;
        if !self.buffer.is_empty() {
            self.head = Some(self.head());
        }
        self.written = self.committed();
        self.buffer.clear();
        Ok(())
    }

    /// Makes what was written so far durable.
    pub(in crate::workdir) fn sync(&mut self) -> std::io::Result<()> {
        self.flush()?;
        self.file.sync()
    }

    /// The name that it has meanwhile.
    pub(in crate::workdir) fn name(&self) -> &str {
        &self.name
    }

    /// What has been written so far.
    pub fn committed(&self) -> Committed {
        self.written.with(&self.buffer)
    }

    /// How it begins.
    pub(in crate::workdir) fn head(&self) -> Head {
        self.head.unwrap_or_else(|| Head::of(&self.buffer))
    }

    /// Makes it durable; its name.
    pub fn complete(mut self) -> Result<String> {
        self.flush().context("write", &self.name)?;
        self.file.sync().context("sync", &self.name)?;
        self.is_complete = true;
        Ok(self.name.clone())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_complete {
            // What stays is overwritten by the next file of this name.
            let _ = self.dir.remove(&self.name);
        }
    }
}
