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

use super::error::{Context, Error, Result};
use super::fs::{Dir, File, Open, read_from};
use super::layout;
use super::lock::Mechanism;
use crate::model::record::{End, Header, Record};

/// The journal of this process.
pub struct Journal {
    name: String,
    farmer: String,
    file: Box<dyn File>,
    /// Everything before it is written.
    written: u64,
    /// What still has to be written.
    pending: Vec<u8>,
    synced: bool,
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
        if !file.try_lock(mechanism).context("lock", &name)? {
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
            file,
            written: 0,
            pending: Vec::new(),
            synced: true,
        };
        journal.push(&Record::Header(header));
        journal.sync()?;
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
            self.synced = false;
        }
        Ok(())
    }

    /// Makes what was added durable: it now survives this node.
    pub fn sync(&mut self) -> Result<()> {
        self.write()?;
        if !self.synced {
            self.file.sync().context("sync", &self.name)?;
            self.synced = true;
        }
        Ok(())
    }

    /// A handle on the same open file, lock included: whoever holds it keeps
    /// the farmer's tasks from being given to others.
    pub fn share(&self) -> Result<OwnedFd> {
        self.file.share().context("share", &self.name)
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

/// Why a journal could not be created after several tries.
pub fn no_name_left(farmer: &str) -> Error {
    Error::Refused(format!(
        "no journal could be made in nodes/: {farmer} and its like are taken"
    ))
}
