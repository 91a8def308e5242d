//! The real file system, below one open directory: no symbolic link is followed, and no file is
//! opened whose owner or mode [`Rights`] does not allow.

use std::fs::{File as StdFile, Metadata, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::dir::{Dir, File, NotAFile, Open};
use super::rights::{Rights, Trust};
use crate::workdir::mechanism::Mechanism;
use nix::fcntl::{AtFlags, FcntlArg, OFlag};
use nix::sys::stat::Mode;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs,
};
use nix::unistd::UnlinkatFlags;

/// How often a file is opened by its name before NFS is believed that its handle is stale:
/// half a second.
const STALE_OPENS: u32 = 10;

/// How a folder is opened.
const FOLDER: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Does it again until no signal interrupts it.
pub(in crate::workdir) fn uninterrupted<T>(
    mut act: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match act() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Whether a lock was taken; `false` when another has it.
fn is_taken(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
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

/// XFS (statfs(2)): nix has it with glibc only, not with musl.
const XFS_SUPER_MAGIC: FsType = FsType(0x5846_5342);

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
    /// Opens a directory to read its contents, regardless of the owner.
    pub fn open(path: &Path) -> io::Result<Arc<Self>> {
        Self::open_trusting(path, Trust::Any)
    }

    /// Opens a directory whose files are refused when they may not be trusted.
    pub fn open_trusting(path: &Path, trust: Trust) -> io::Result<Arc<Self>> {
        let flags = FOLDER.difference(OFlag::O_NOFOLLOW);
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

    /// The metadata of the open directory; its path may lead to another one by now.
    pub fn metadata(&self) -> io::Result<Metadata> {
        StdFile::from(self.fd.try_clone()?).metadata()
    }

    /// What is wrong with the owner or the mode of what bears this name; a link is
    /// not followed. `None` when there is nothing, or nothing wrong.
    pub fn fault(&self, name: &str) -> io::Result<Option<String>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match nix::fcntl::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(self.rights.fault(&StdFile::from(fd).metadata()?)),
            // Anything but a folder in the place of its folder is reported as damage.
            Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file, or says why it is not one.
    fn open_once(&self, name: &str, how: Open) -> io::Result<Box<dyn File>> {
        let (fd, is_made) = match self.open_or_make(name, how) {
            Err(nix::Error::EISDIR) => return Err(NotAFile("a directory").refuse()),
            Err(nix::Error::ELOOP) => return Err(NotAFile("a symbolic link").refuse()),
            Err(nix::Error::ENXIO) => return Err(NotAFile("a socket or a device").refuse()),
            opened => opened?,
        };
        let file = StdFile::from(fd);
        let stat = file.metadata()?;
        let kind = stat.file_type();
        match () {
            () if kind.is_file() => {}
            () if kind.is_dir() => return Err(NotAFile("a directory").refuse()),
            () if kind.is_fifo() => return Err(NotAFile("a FIFO").refuse()),
            () => return Err(NotAFile("a device").refuse()),
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
        let rights = match how {
            Open::CreateProgram => self.rights.program_mode(),
            _ => self.rights.file_mode(),
        };
        let rights = Mode::from_bits_truncate(rights);
        let open = |flags: OFlag| nix::fcntl::openat(&self.fd, name, flags | always, rights);
        let make = || open(OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL);
        match how {
            Open::Fresh if self.is_nfs => Ok((open(OFlag::O_RDONLY | OFlag::O_DIRECT)?, false)),
            Open::Read | Open::Fresh => Ok((open(OFlag::O_RDONLY)?, false)),
            Open::Write => Ok((open(OFlag::O_RDWR)?, false)),
            Open::CreateNew | Open::CreateProgram => Ok((make()?, true)),
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

    fn open_folder(&self, name: &str) -> nix::Result<OwnedFd> {
        nix::fcntl::openat(&self.fd, name, FOLDER, Mode::empty())
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
                    if error.raw_os_error() == Some(libc::ESTALE)
                        && !matches!(how, Open::CreateNew | Open::CreateProgram) =>
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
        let mut dir = nix::dir::Dir::openat(&self.fd, name, FOLDER, Mode::empty())?;
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
            Ok(()) => self.rights.settle(&StdFile::from(self.open_folder(name)?)),
            Err(nix::Error::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(&self.fd)?)
    }

    fn sync_names_in(&self, sub: &str) -> io::Result<()> {
        Ok(nix::unistd::fsync(self.open_folder(sub)?)?)
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
        uninterrupted(|| FileExt::read_at(self, buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn try_lock(&self, mechanism: Mechanism) -> io::Result<bool> {
        match mechanism {
            Mechanism::Flock => is_taken(Self::try_lock(self)),
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
            Mechanism::Flock if is_taken(self.try_lock_shared())? => {
                Self::unlock(self).map(|()| false)
            }
            Mechanism::Flock => Ok(true),
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
        uninterrupted(|| Self::lock(self))
    }

    fn unlock(&self, mechanism: Mechanism) {
        // What is refused here is done by the close.
        match mechanism {
            Mechanism::Flock => drop(Self::unlock(self)),
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
            asks.lock_shared().unwrap();
            assert!(!other.is_locked(mechanism).unwrap(), "{mechanism}");
            drop(asks);
            assert!(holder.try_lock(mechanism).unwrap(), "nobody kept it");
            assert!(other.is_locked(mechanism).unwrap(), "{mechanism}");
            drop(holder);
            assert!(!other.is_locked(mechanism).unwrap(), "{mechanism}");
        }
    }
}
