//! A farmer's own journal: what it started and how it ended, and by its lock
//! and its growth the sign that it lives.
//!
//! One writer, so it may stay open. A result is recorded once it is synced
//! here; everything else in the workdir can be made again from it. A write that
//! failed half-way is written again over itself, so that no torn line stays in
//! the middle.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Context, Result};
use super::fs::{Dir, File, Open, read_from};
use super::layout;
use super::lock::Mechanism;
use crate::model::record::{End, Header, Record};

/// The journal of this process.
pub struct Journal {
    name: String,
    farmer: String,
    file: Arc<dyn File>,
    /// Everything before it is written.
    written: u64,
    /// What still has to be written.
    pending: Vec<u8>,
    /// Everything before it is durable.
    synced: u64,
}

impl Journal {
    /// Creates and locks the journal and writes its header.
    ///
    /// Should somebody take it for a dead farmer's in the moment between, it
    /// is given up: the caller tries again with another name.
    pub fn create(
        dir: &Arc<dyn Dir>,
        mechanism: Mechanism,
        header: Header,
    ) -> Result<Option<Self>> {
        let farmer = header.farmer.clone();
        let name = layout::journal(&farmer);
        let file = match dir.open(&name, Open::CreateNew) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error).context("create", &name),
        };
        let is_ours = match mechanism {
            // It tells our own node only, and where there is none, nobody.
            Mechanism::Link => file.try_lock(Mechanism::Flock).unwrap_or(true),
            _ => file.try_lock(mechanism).context("lock", &name)?,
        };
        if !is_ours {
            return Ok(None);
        }
        if dir
            .inode(&layout::sealed(&farmer))
            .context("look at", &name)?
            .is_some()
        {
            return Ok(None);
        }
        let mut journal = Self {
            name,
            farmer,
            file: file.into(),
            written: 0,
            pending: Vec::new(),
            synced: 0,
        };
        journal.push(&Record::Header(header));
        let sync = journal.begin_sync()?;
        sync.finish()?;
        Ok(Some(journal))
    }

    /// The farmer's name.
    pub fn farmer(&self) -> &str {
        &self.farmer
    }

    /// Adds a record; it is written by the next [`Journal::write`].
    pub fn push(&mut self, record: &Record) {
        record.push_to(&mut self.pending);
    }

    /// Where the next record will begin.
    pub fn end(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Hands what was added to the kernel: it now survives this process.
    pub fn write(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            self.file
                .write_at(&self.pending, self.written)
                .context("write", &self.name)?;
            self.written += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(())
    }

    /// Writes what was added; what it returns makes that durable, so that it
    /// survives this node, without the journal being held meanwhile.
    pub fn begin_sync(&mut self) -> Result<Sync> {
        self.write()?;
        let is_needed = self.synced < self.written;
        Ok(Sync {
            name: self.name.clone(),
            file: is_needed.then(|| self.file.clone()),
        })
    }

    /// Everything before `upto` is durable.
    pub fn synced(&mut self, upto: u64) {
        self.synced = self.synced.max(upto);
    }

    /// When it was last written, by the file system's time.
    pub fn modified(&self) -> Result<Duration> {
        self.file.modified().context("look at", &self.name)
    }

    /// Removes it again: its farmer never joined.
    pub fn discard(self, dir: &Arc<dyn Dir>) -> Result<()> {
        dir.remove(&self.name).context("remove", &self.name)
    }

    /// A handle on the same open file, lock included: whoever holds it keeps
    /// the farmer's tasks from being given to others.
    pub fn share(&self) -> Result<OwnedFd> {
        self.file.share().context("share", &self.name)
    }
}

/// A sync that has begun.
pub struct Sync {
    name: String,
    file: Option<Arc<dyn File>>,
}

impl Sync {
    /// Waits until it is done.
    pub fn finish(self) -> Result<()> {
        self.file
            .map_or(Ok(()), |file| file.sync())
            .context("sync", &self.name)
    }
}

/// What a journal says about ends, with the offset behind each record.
pub fn ends(file: &dyn File) -> io::Result<Vec<(u64, End)>> {
    let bytes = read_from(file, 0)?;
    let mut ends = Vec::new();
    let mut at = 0;
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        at += line.len() as u64;
        // The last line of a dead farmer may be torn: it never happened.
        let Some(line) = line.strip_suffix(b"\n") else {
            break;
        };
        if let Some(Record::End(end)) = Record::parse(line) {
            ends.push((at, end));
        }
    }
    Ok(ends)
}
