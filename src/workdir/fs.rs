//! The file system as the workdir code sees it: one small trait.
//!
//! The real one works relative to an open directory and never follows a link;
//! the model check and the simulator put theirs in its place, so that the real
//! protocol runs on a file system with weak caches, faults and crashes.
//!
//! Names are relative to the workdir. There is no way to shrink a file: on NFS
//! that loses claims even under the lock.

use std::fs::{File as StdFile, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fs2::FileExt as _;
use nix::fcntl::{AtFlags, FcntlArg, OFlag};
use nix::sys::stat::Mode;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC,
    fstatfs,
};
use nix::unistd::UnlinkatFlags;

use super::error::Error;
use super::lock::Mechanism;
use super::rights::{Rights, Trust};

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
}

/// What stands in a file's place: no pytf put it there, and none reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is {0}")]
pub struct NoFile(pub &'static str);

impl NoFile {
    /// The answer to whoever opens it.
    fn refuse(self) -> io::Error {
        io::Error::new(ErrorKind::InvalidInput, self)
    }

    /// What an error says about it; `None` when the error is about something else.
    pub fn of(error: &io::Error) -> Option<Self> {
        let known = error.get_ref().and_then(|inner| inner.downcast_ref());
        known.copied()
    }
}

/// Whether an error says that something else than a folder stands in its place.
pub fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP))
}

/// So long, in bytes, is a segment of the log of transactions.
const SEGMENT: u64 = 4 << 20;

/// A directory: the workdir.
pub trait Dir: Send + Sync {
    /// Opens a regular file; what is there and is none is [`NoFile`].
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn File>>;
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
    /// Tries to lock it exclusively until it is closed; `false` when another
    /// has it. Never waits.
    fn try_lock(&self, mechanism: Mechanism) -> io::Result<bool>;
    /// Whether another has it locked: many may ask at once and do not take each other
    /// for a holder. Whoever asks may keep it from being locked for a moment.
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
    /// When it was last written, since 1970 by whoever keeps that time.
    fn modified(&self) -> io::Result<Duration> {
        Ok(Duration::ZERO)
    }
    /// A second handle on the same open file, lock included, to hand to another
    /// process. Only the real file system has one.
    fn share(&self) -> io::Result<OwnedFd>;
}

/// Reads a whole file, from `offset` on.
pub fn read_from(file: &dyn File, offset: u64) -> io::Result<Vec<u8>> {
    let length = file.len()?.saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let read = read_full(file, &mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// How often a file is opened by its name before NFS is believed that its handle is stale:
/// half a second.
const STALE_OPENS: u32 = 10;
/// How often a look without the lock is made that a stale handle ends.
const LOOKS: u32 = 10;

/// Looks at a file without the lock. Another node may put a new one in its place, or remove
/// it, in the midst of that: NFS calls its handle stale then, and `look` opens it anew.
pub fn looks<T>(mut look: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..LOOKS {
        match look() {
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ESTALE) => {}
            seen => return seen,
        }
    }
    look()
}

/// Fills `buf` from `offset` on as far as the file goes; tells how far.
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

/// A lock of fcntl(2) on all of a file, of this type.
fn whole_file(lock: i32) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(lock).unwrap_or(0),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or(0),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// File systems of one node (statfs(2)).
const LOCAL: [FsType; 4] = [
    EXT4_SUPER_MAGIC,
    XFS_SUPER_MAGIC,
    BTRFS_SUPER_MAGIC,
    TMPFS_MAGIC,
];

/// The real file system, below one directory.
pub struct RealDir {
    fd: OwnedFd,
    path: PathBuf,
    is_local: bool,
    rights: Rights,
    is_nfs: bool,
}

impl RealDir {
    /// Opens a directory to look at what is in it, whoever wrote it.
    pub fn open(path: &Path) -> io::Result<Arc<Self>> {
        Self::open_trusting(path, Trust::Any)
    }

    /// Opens a directory whose files are refused when they may not be trusted.
    pub fn open_trusting(path: &Path, trust: Trust) -> io::Result<Arc<Self>> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let fd = StdFile::from(nix::fcntl::open(path, flags, Mode::empty())?);
        let rights = Rights::of(&fd.metadata()?, trust);
        let fd = OwnedFd::from(fd);
        let kind = fstatfs(&fd).ok().map(|found| found.filesystem_type());
        Ok(Arc::new(Self {
            is_local: kind.is_some_and(|kind| LOCAL.contains(&kind)),
            is_nfs: kind == Some(NFS_SUPER_MAGIC),
            fd,
            path: path.to_owned(),
            rights,
        }))
    }

    /// The rights of what is in it.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// What stat(2) tells of the directory itself: it, and not what its path means now.
    pub fn metadata(&self) -> io::Result<Metadata> {
        StdFile::from(self.fd.try_clone()?).metadata()
    }

    /// What is wrong with the owner or the mode of what bears this name; a link is
    /// not followed. `None` when there is nothing, or nothing wrong.
    pub fn fault(&self, name: &str) -> io::Result<Option<String>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match nix::fcntl::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(self.rights.fault(&StdFile::from(fd).metadata()?)),
            // What stands in the place of its folder is damage, and named as that.
            Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file, or says why it is not one.
    fn open_once(&self, name: &str, how: Open) -> io::Result<Box<dyn File>> {
        let (fd, is_made) = match self.open_or_make(name, how) {
            Err(nix::Error::EISDIR) => return Err(NoFile("a directory").refuse()),
            Err(nix::Error::ELOOP) => return Err(NoFile("a symbolic link").refuse()),
            Err(nix::Error::ENXIO) => return Err(NoFile("a socket or a device").refuse()),
            opened => opened?,
        };
        let file = StdFile::from(fd);
        let stat = file.metadata()?;
        let kind = stat.file_type();
        match () {
            () if kind.is_file() => {}
            () if kind.is_dir() => return Err(NoFile("a directory").refuse()),
            () if kind.is_fifo() => return Err(NoFile("a FIFO").refuse()),
            () => return Err(NoFile("a device").refuse()),
        }
        if is_made {
            self.rights.settle(&file)?;
        } else {
            self.rights.check(&stat)?;
        }
        Ok(Box::new(file))
    }

    /// Opens a file, and makes it when that is asked for; whether it was made.
    fn open_or_make(&self, name: &str, how: Open) -> nix::Result<(OwnedFd, bool)> {
        // O_NONBLOCK: a FIFO put in a file's place must not hang us.
        let always = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let rights = Mode::from_bits_truncate(self.rights.file_mode());
        let open = |flags: OFlag| nix::fcntl::openat(&self.fd, name, flags | always, rights);
        let make = || open(OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL);
        match how {
            Open::Fresh if self.is_nfs => Ok((open(OFlag::O_RDONLY | OFlag::O_DIRECT)?, false)),
            Open::Read | Open::Fresh => Ok((open(OFlag::O_RDONLY)?, false)),
            Open::Write => Ok((open(OFlag::O_RDWR)?, false)),
            Open::CreateNew => Ok((make()?, true)),
            Open::Create => match open(OFlag::O_RDWR) {
                Err(nix::Error::ENOENT) => match make() {
                    // Others have just made it; and a client of a file system may
                    // remember for a while that it was not there.
                    Err(nix::Error::EEXIST) => Ok((open(OFlag::O_RDWR | OFlag::O_CREAT)?, false)),
                    created => Ok((created?, true)),
                },
                opened => Ok((opened?, false)),
            },
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for RealDir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir for RealDir {
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn File>> {
        // NFS may go by a file that bore the name before another node replaced it.
        for nth in 1..STALE_OPENS {
            match self.open_once(name, how) {
                Err(error)
                    if error.raw_os_error() == Some(libc::ESTALE) && how != Open::CreateNew =>
                {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "half a second in all, as an operation of NFS may take"
                    )]
                    std::thread::sleep(Duration::from_millis(10) * nth);
                }
                opened => return opened,
            }
        }
        self.open_once(name, how)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(nix::fcntl::renameat(&self.fd, from, &self.fd, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match nix::unistd::unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Err(nix::Error::ENOENT) => Ok(()),
            done => Ok(done?),
        }
    }

    fn inode(&self, name: &str) -> io::Result<Option<u64>> {
        match nix::sys::stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_ino)),
            Err(nix::Error::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self, sub: &str) -> io::Result<Vec<String>> {
        let name = if sub.is_empty() { "." } else { sub };
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let mut dir = nix::dir::Dir::openat(&self.fd, name, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        let rights = Mode::from_bits_truncate(self.rights.folder_mode());
        match nix::sys::stat::mkdirat(&self.fd, name, rights) {
            Ok(()) => {
                let flags =
                    OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY | OFlag::O_NOFOLLOW;
                let made = nix::fcntl::openat(&self.fd, name, flags, Mode::empty())?;
                self.rights.settle(&StdFile::from(made))
            }
            Err(nix::Error::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(&self.fd)?)
    }

    fn sync_names_in(&self, sub: &str) -> io::Result<()> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY | OFlag::O_NOFOLLOW;
        let folder = nix::fcntl::openat(&self.fd, sub, flags, Mode::empty())?;
        Ok(nix::unistd::fsync(folder)?)
    }

    fn is_local(&self) -> bool {
        self.is_local
    }
}

impl File for StdFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn inode(&self) -> io::Result<u64> {
        Ok(self.metadata()?.ino())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, buf, offset) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn try_lock(&self, mechanism: Mechanism) -> io::Result<bool> {
        match mechanism {
            Mechanism::Flock => match self.try_lock_exclusive() {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == fs2::lock_contended_error().kind() => Ok(false),
                Err(error) => Err(error),
            },
            Mechanism::Fcntl => {
                match nix::fcntl::fcntl(self, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
                    Ok(_) => Ok(true),
                    Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
            // Held by a name, not by the file: see `lock`.
            Mechanism::Link => Ok(true),
        }
    }

    fn is_locked(&self, mechanism: Mechanism) -> io::Result<bool> {
        match mechanism {
            Mechanism::Flock => match fs2::FileExt::try_lock_shared(self) {
                Ok(()) => fs2::FileExt::unlock(self).map(|()| false),
                Err(error) if error.kind() == fs2::lock_contended_error().kind() => Ok(true),
                Err(error) => Err(error),
            },
            Mechanism::Fcntl => {
                let mut found = whole_file(libc::F_WRLCK);
                nix::fcntl::fcntl(self, FcntlArg::F_OFD_GETLK(&mut found))?;
                Ok(i32::from(found.l_type) != libc::F_UNLCK)
            }
            // Held by a name, not by the file: see `lock`.
            Mechanism::Link => Ok(false),
        }
    }

    fn lock(&self) -> io::Result<()> {
        loop {
            match self.lock_exclusive() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn unlock(&self, mechanism: Mechanism) {
        // What is refused here is done by the close.
        match mechanism {
            Mechanism::Flock => drop(fs2::FileExt::unlock(self)),
            Mechanism::Fcntl => drop(nix::fcntl::fcntl(
                self,
                FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)),
            )),
            Mechanism::Link => {}
        }
    }

    fn modified(&self) -> io::Result<Duration> {
        let modified = self.metadata()?.modified()?;
        Ok(modified.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.try_clone()?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_ask_for_a_lock_is_not_to_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RealDir::open(folder.path()).unwrap();
        for mechanism in [Mechanism::Flock, Mechanism::Fcntl] {
            let open = |how| dir.open("journal", how).unwrap();
            let (holder, other) = (open(Open::Create), open(Open::Read));
            // Another that asks at this moment, as flock(2) lets it.
            let asks = StdFile::open(folder.path().join("journal")).unwrap();
            fs2::FileExt::lock_shared(&asks).unwrap();
            assert!(!other.is_locked(mechanism).unwrap(), "{mechanism}");
            drop(asks);
            assert!(holder.try_lock(mechanism).unwrap(), "nobody kept it");
            assert!(other.is_locked(mechanism).unwrap(), "{mechanism}");
            drop(holder);
            assert!(!other.is_locked(mechanism).unwrap(), "{mechanism}");
        }
    }
}
