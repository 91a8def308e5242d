//! The file system as the workdir code sees it: one small trait.
//!
//! The real one works relative to an open directory and never follows a symbolic link; the
//! model check and the simulator use implementations of their own, so that the real protocol
//! runs on a file system with weak caches, faults and crashes.
//!
//! Names are relative to the workdir. There is no way to shrink a file: on NFS
//! that loses claims even under the lock.

use crate::workdir::mechanism::Mechanism;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// To read; it must exist.
    Read,
    /// To read what the server has, whatever this node remembers of it; it must exist.
    /// On NFS an open [`Open::Read`] is not enough while others of this node have the
    /// file open for writing.
    Fresh,
    /// To read and write; it must exist.
    Write,
    /// To read and write; made when absent.
    Create,
    /// To read and write; it must not exist (one winner among all nodes).
    CreateNew,
    /// The same, of a file that whoever may read it may run.
    CreateProgram,
}

/// What has the name of a file but is not a regular file. pytf neither makes nor reads such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is {0}")]
pub struct NotAFile(pub &'static str);

impl NotAFile {
    /// The error of an open.
    pub(super) fn refuse(self) -> io::Error {
        io::Error::new(ErrorKind::InvalidInput, self)
    }

    /// What an error says about it; `None` when the error is about something else.
    pub fn of(error: &io::Error) -> Option<Self> {
        let known = error.get_ref().and_then(|inner| inner.downcast_ref());
        known.copied()
    }
}

/// Whether an error says that what has the name of a folder is not one.
pub fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP))
}

/// So long, in bytes, is a segment of the log of transactions.
const SEGMENT: u64 = 4 << 20;

/// What a try to lock a file by its name has come to.
pub enum LockTry {
    /// It is locked, and bore the name after that. It was opened twice: the second is to be
    /// closed after the unlock.
    Locked(Box<dyn File>, Box<dyn File>),
    /// Another has locked it.
    Busy(Box<dyn File>),
    /// Another file took the name meanwhile.
    Replaced,
    /// Files cannot be locked here so.
    Unusable(io::Error),
}

/// A directory: the workdir.
pub trait Dir: Send + Sync {
    /// Opens a regular file; anything else is [`NotAFile`].
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn File>>;
    /// Opens a file to read and write, made when absent, and tries to lock it. Never waits.
    fn try_lock(&self, name: &str, by: Mechanism) -> io::Result<LockTry> {
        let file = self.open(name, Open::Create)?;
        match file.try_lock(by) {
            Ok(true) => self.confirm(name, file),
            Ok(false) => Ok(LockTry::Busy(file)),
            // Replaced and gone at the server: the next try opens the new one.
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => Ok(LockTry::Replaced),
            Err(error) => Ok(LockTry::Unusable(error)),
        }
    }
    /// Whether a file that is locked still bears its name: another process may have replaced it
    /// between our open and our lock. Only an open asks the server; what a name means may be
    /// remembered for a minute.
    fn confirm(&self, name: &str, locked: Box<dyn File>) -> io::Result<LockTry> {
        let again = self.open(name, Open::Read)?;
        let is_the_one = again.inode()? == locked.inode()?;
        Ok(if is_the_one {
            LockTry::Locked(locked, again)
        } else {
            LockTry::Replaced
        })
    }
    /// Renames over whatever bears the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; one that is not there is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The number of the file that bears this name; `None` when nothing does.
    fn inode(&self, name: &str) -> io::Result<Option<u64>>;
    /// The names in a subfolder (`""` is the workdir itself), in no order.
    fn list(&self, sub: &str) -> io::Result<Vec<String>>;
    /// Makes a subfolder; one that is there is no error.
    fn make_dir(&self, name: &str) -> io::Result<()>;
    /// Makes renames and creations in the workdir durable.
    fn sync_names(&self) -> io::Result<()>;
    /// The same, in a subfolder.
    fn sync_names_in(&self, _sub: &str) -> io::Result<()> {
        self.sync_names()
    }
    /// Whether all who may want a lock here are on this node, so that its kernel
    /// knows them and can keep them in a queue.
    fn is_local(&self) -> bool {
        false
    }
    /// How long, in bytes, a segment of the log of transactions gets before the next
    /// one begins: the same for all; a test may have its own.
    fn segment(&self) -> u64 {
        SEGMENT
    }
}

/// An open workdir.
#[derive(Clone)]
pub struct Workdir {
    /// Its files.
    pub dir: Arc<dyn Dir>,
    /// Where it is, as the user named it.
    pub path: PathBuf,
    /// How its lock is taken.
    pub mechanism: Mechanism,
}

/// A workdir for tests.
#[cfg(test)]
impl From<&Arc<dyn Dir>> for Workdir {
    fn from(dir: &Arc<dyn Dir>) -> Self {
        Self {
            dir: dir.clone(),
            path: PathBuf::new(),
            mechanism: Mechanism::Flock,
        }
    }
}

/// An open file.
pub trait File: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Its number in the file system.
    fn inode(&self) -> io::Result<u64>;
    /// Reads some bytes at an offset; 0 at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at an offset.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
    /// The same, at the latest before anything that is written to this file later; until then an
    /// error may be the answer to another request.
    fn sync_first(&self) -> io::Result<()> {
        self.sync()
    }
    /// Tries to lock it exclusively until it is closed; `false` when another
    /// has it. Never waits.
    fn try_lock(&self, mechanism: Mechanism) -> io::Result<bool>;
    /// Whether another has it locked: many may ask at once and do not take each other
    /// for a holder. Asking may keep it from being locked for a moment.
    fn is_locked(&self, mechanism: Mechanism) -> io::Result<bool> {
        Ok(!self.try_lock(mechanism)?)
    }
    /// Waits until it is locked, in the kernel's queue: see [`Dir::is_local`].
    fn lock(&self) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    /// Gives the lock back. To close the file does so as well, but where the file
    /// system is in user space, some time later.
    fn unlock(&self, _mechanism: Mechanism) {}
    /// When it was last written, since 1970 by the file system's clock.
    fn modified(&self) -> io::Result<Duration> {
        Ok(Duration::ZERO)
    }
    /// A second handle on the same open file, lock included, to hand to another
    /// process. Only the real file system has one.
    fn share(&self) -> io::Result<OwnedFd>;
}
