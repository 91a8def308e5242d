//! Who may own and write the contents of a workdir. A user that may write
//! `toprocess`, `tasks` or a script can run commands as its owner.
//!
//! Guarantee: files made in a workdir are not writable by users that may not write the workdir
//! itself, whatever the umask, a default ACL or a set-group-ID folder say, and belong to the
//! workdir's owner even if root makes them. In a folder that other users may write to, they may
//! write to the files, too. A file that other users could have written is refused when it is
//! opened.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown};
use std::path::Path;

use nix::sys::stat::{Mode, fchmod};
use nix::unistd::Uid;

/// The bits by which others than the owner may write.
const OTHERS: u32 = 0o022;
/// By which the group may read and write.
const GROUP: u32 = 0o060;

/// What may be trusted when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anything: for readers, which run nothing and write nothing.
    Any,
    /// What only the owner of the folder, we or root may write; where others may
    /// write the folder, what they may write, too.
    AsFolder,
}

/// The rights in one folder.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    owner: u32,
    group: u32,
    /// Those of [`OTHERS`] that the folder has.
    shared: u32,
    trust: Trust,
}

impl Rights {
    /// Those of a folder.
    pub fn of(folder: &impl MetadataExt, trust: Trust) -> Self {
        Self {
            owner: folder.uid(),
            group: folder.gid(),
            shared: folder.mode() & OTHERS,
            trust,
        }
    }

    /// Those of a folder that is named by its path; of one that cannot be looked at
    /// the strictest.
    pub fn at(folder: &Path) -> Self {
        std::fs::metadata(folder).map_or_else(
            |_| Self {
                owner: Uid::effective().as_raw(),
                group: u32::MAX,
                shared: 0,
                trust: Trust::Any,
            },
            |folder| Self::of(&folder, Trust::Any),
        )
    }

    /// The mode to create a file with; the umask may take more away.
    pub fn file_mode(self) -> u32 {
        0o666 & !(OTHERS & !self.shared)
    }

    /// The mode to create a file with that can be run; the umask may take more away.
    pub fn program_mode(self) -> u32 {
        self.file_mode() | 0o111
    }

    /// The mode to create a folder with; the umask may take more away.
    pub fn folder_mode(self) -> u32 {
        0o777 & !(OTHERS & !self.shared)
    }

    /// Makes a folder at a path; one that is there is no error.
    pub fn make_dir(self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(self.folder_mode()).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.settle(&File::open(path)?),
        }
    }

    /// Whether what is made here is to belong to another, or to be written by a group.
    pub fn must_settle(self) -> bool {
        self.shared != 0 || Uid::effective().is_root() && self.owner != 0
    }

    /// Sets right what was just created. Modes that were asked for may not be what
    /// they are: inherited ACLs and some file systems add to them, and the umask takes
    /// from the group what a shared folder means it to have.
    pub fn settle(self, made: &File) -> io::Result<()> {
        let stat = made.metadata()?;
        if Uid::effective().is_root() && stat.uid() != self.owner {
            fchown(made, Some(self.owner), Some(self.group))?;
        } else if self.shared & GROUP != 0 && stat.gid() != self.group {
            // Only members of the group may do this; files of others keep their own group.
            let _ = fchown(made, None, Some(self.group));
        }
        let is = stat.mode() & 0o777;
        let mut should = is & !(OTHERS & !self.shared);
        if self.shared & GROUP != 0 {
            // What the owner may run, or look into, the group may, too.
            should |= GROUP | (is >> 3 & 0o010);
        }
        if is != should {
            fchmod(
                made.as_fd(),
                Mode::from_bits_truncate(should | stat.mode() & 0o7000),
            )?;
        }
        Ok(())
    }

    /// What is wrong with the owner or the mode of something that is in the folder;
    /// `None` when it may be trusted.
    pub fn fault(self, file: &impl MetadataExt) -> Option<String> {
        if self.trust == Trust::Any || self.shared != 0 {
            return None;
        }
        let (owner, mode) = (file.uid(), file.mode());
        let is_link = mode & libc::S_IFMT == libc::S_IFLNK;
        let us = Uid::effective().as_raw();
        if ![us, self.owner, 0].contains(&owner) {
            return Some(format!("it belongs to user {owner}"));
        }
        // The mode of a link means nothing. Its target is checked where it is opened.
        (!is_link && mode & OTHERS != 0)
            .then(|| format!("others may write it (mode {:04o})", mode & 0o7777))
    }

    /// The same, as the error of an open.
    pub fn check(self, file: &impl MetadataExt) -> io::Result<()> {
        let Some(fault) = self.fault(file) else {
            return Ok(());
        };
        let text = format!("{fault}: a user that may write it can run commands as you");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}
