//! The errors of a workdir. Each names the file, the operation, and the way out where there
//! is one.

use std::io;

use crate::model::refusal::hint;
use crate::workdir::fs::NotAFile;
use crate::workdir::mechanism::Mechanism;

/// What could not be done with a file that was torn when it was read without the lock.
const READ_TORN: &str = "interpret";

/// Why the workdir cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused an operation.
    #[error("cannot {doing} {file}: {source}{}", hint(source))]
    Io {
        /// What was tried: "append to", "open".
        doing: &'static str,
        /// The file, relative to the workdir.
        file: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A file holds what no pytf wrote.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// The file, relative to the workdir.
        file: String,
        /// What is wrong with it, and the way out. It is a text for people: any damage is
        /// handled in the same way.
        what: String,
    },
    /// A transaction was given up before it was committed, since others may soon break the
    /// lock: it may be tried again.
    #[error("cannot keep lock: it was held for so long that others may have taken it over")]
    HeldTooLong,
    /// A newer pytf made the workdir.
    #[error(
        "this workdir has format {found}, this pytf knows formats up to {known}: use the newer pytf that made it"
    )]
    Newer {
        /// The workdir's format version.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// Farmers of an older pytf are alive by the state.
    #[error(
        "this workdir has format {found}, and {live} farmers of an older pytf are alive by its \
         state: let them end, or stop them, and run the same command again"
    )]
    Older {
        /// The workdir's format version.
        found: u32,
        /// How many farmers are alive by its state.
        live: u32,
    },
    /// Another process took our tasks over while we were cut off.
    #[error(
        "this process lost contact with the workdir for so long that others took over its tasks"
    )]
    Fenced,
    /// The wait for the lock was canceled.
    #[error("gave up waiting for the lock")]
    Canceled,
    /// The workdir is locked by another mechanism than this process was asked to use.
    #[error(
        "this workdir is locked by {known}, not by {wished}: processes that lock differently do \
         not exclude each other; omit --lock"
    )]
    OtherMechanism {
        /// How it is locked.
        known: Mechanism,
        /// `--lock`.
        wished: Mechanism,
    },
    /// `--lock` names a mechanism that may not exclude other nodes here.
    #[error(
        "--lock {wished} is not safe for {workdir}: it is on {file_system}, {why}; \
         without --lock the safe one is taken"
    )]
    UnsafeMechanism {
        /// `--lock`.
        wished: Mechanism,
        /// The workdir, as the user named it.
        workdir: String,
        /// Its file system, and where that is mounted.
        file_system: String,
        /// Why it is not safe, and what an administrator could change.
        why: &'static str,
    },
    /// The file system has no such locks.
    #[error(
        "the file system of the workdir refuses {mechanism} locks of {file}: {source}; begin in a \
         new workdir with --lock {}, or with --lock link, which needs no locks",
        if *mechanism == Mechanism::Flock { "fcntl" } else { "flock" }
    )]
    LocksRefused {
        /// How it was to be locked.
        mechanism: Mechanism,
        /// The file, relative to the workdir.
        file: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Locks of one node do not reach the others.
    #[error(
        "{mechanism} locks do not exclude other nodes on this file system: farmer {farmer} is \
         alive, and its lock was free for us. Nothing was changed ({tasks} tasks are as they were). \
         Either the file system is mounted so that locks stay on the node (ask for it to be mounted \
         with locks: -o flock on Lustre, without nolock on NFS, tuneUseGlobalFileLocks on BeeGFS), \
         or begin in a new workdir with --lock link"
    )]
    LocksDoNotExclude {
        /// How the workdir is locked.
        mechanism: Mechanism,
        /// The farmer that shows it.
        farmer: String,
        /// The tasks in the workdir.
        tasks: u64,
    },
    /// A repair needs the workdir for itself.
    #[error("{by} works on this workdir: stop it first, or wait until it has ended")]
    InUse {
        /// Who works on it: "farmer x", "another process".
        by: String,
    },
    /// The folder holds other things than a workdir.
    #[error(
        "the folder {folder} is not a workdir and not empty: it holds {contents}. Choose another \
         with --workdir"
    )]
    NotAWorkdir {
        /// The folder, as the user named it.
        folder: String,
        /// What is in it, in short.
        contents: String,
    },
    /// Another user owns the workdir.
    #[error(
        "the workdir {workdir} belongs to user {owner}, not to you (user {us}): a user that may \
         write it can run commands as you; --shared-workdir allows it"
    )]
    OtherOwner {
        /// The workdir, as the user named it.
        workdir: String,
        /// The owner's number.
        owner: u32,
        /// Our number.
        us: u32,
    },
    /// Other users may write the workdir.
    #[error(
        "others may write the workdir {workdir} (mode {mode:04o}) and so run commands as you: \
         chmod go-w it, or allow it with --shared-workdir"
    )]
    WritableByOthers {
        /// The workdir, as the user named it.
        workdir: String,
        /// Its mode.
        mode: u32,
    },
    /// Other users own or may write a file in the workdir.
    #[error(
        "{file} in the workdir {workdir}: {fault}. A user that may write it can run commands as \
         you. Check that its contents are yours, then: chmod -R go-w {workdir}. Or allow it with \
         --shared-workdir"
    )]
    UntrustedFile {
        /// The file, relative to the workdir.
        file: &'static str,
        /// The workdir, as the user named it.
        workdir: String,
        /// What is wrong with its owner or mode.
        fault: String,
    },
    /// Each name that was tried for a new farmer is taken.
    #[error("cannot create a journal: {name} and similar names exist")]
    NamesTaken {
        /// The first of them.
        name: String,
    },
    /// What was asked for cannot be done; the text says why, and the way out. It stays a
    /// text: callers show it and end with the status for wrong usage, whatever it is.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Damage of a file, and where the way out is described.
    pub fn damaged(file: &str, what: impl std::fmt::Display) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            what: format!("{what}; see docs/workdir.md, \"A damaged workdir\""),
        }
    }

    /// Whether it is for the user to ask for something else: nothing is wrong with the workdir.
    pub fn is_wrong_usage(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::OtherMechanism { .. }
                | Self::UnsafeMechanism { .. }
                | Self::InUse { .. }
        )
    }

    /// Makes damage that was seen without the lock what it is: torn at that moment, and not a
    /// verdict.
    #[must_use]
    pub fn no_verdict(self) -> Self {
        let Self::Damaged { file, what } = self else {
            return self;
        };
        let what = format!("at this moment, {what}");
        Self::Io {
            doing: READ_TORN,
            file,
            source: io::Error::new(io::ErrorKind::InvalidData, what),
        }
    }

    /// Whether [`Self::no_verdict`] made it.
    pub fn is_torn(&self) -> bool {
        matches!(self, Self::Io { doing, .. } if *doing == READ_TORN)
    }

    /// Whether the workdir was at the other end of a pipe that has ended.
    pub fn is_lost_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionAborted)
    }

    /// A line for the end of the message: the command that repairs it, where there is one. `workdir` is the workdir as the user names it.
    pub fn way_out(&self, workdir: &str) -> Option<String> {
        match self {
            Self::Damaged { .. } => Some(format!(
                "\nWhen no pytf works on it any more, 'pytf repair {workdir}' restores it \
                 from its journals."
            )),
            Self::Older { .. } => Some(format!(
                "\nIf they were killed, 'pytf repair {workdir}' upgrades the workdir."
            )),
            torn if torn.is_torn() => Some(format!(
                "\nIf it stays so and no pytf works on it, 'pytf repair {workdir}' restores it \
                 from its journals."
            )),
            _ => None,
        }
    }
}

/// What every function here returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Gives an `io::Result` the name of its file.
pub trait Context<T> {
    /// "cannot `doing` `file`: …"; anything but a file in its place is damage.
    fn context(self, doing: &'static str, file: &str) -> Result<T>;

    /// The same; `None` when there is no such file.
    fn if_found(self, doing: &'static str, file: &str) -> Result<Option<T>>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, doing: &'static str, file: &str) -> Result<T> {
        self.map_err(|source| {
            let file = file.to_owned();
            match NotAFile::of(&source) {
                Some(other) => Error::damaged(&file, format_args!("it {other}, not a file")),
                None => Error::Io {
                    doing,
                    file,
                    source,
                },
            }
        })
    }

    fn if_found(self, doing: &'static str, file: &str) -> Result<Option<T>> {
        match self {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            done => done.context(doing, file).map(Some),
        }
    }
}

/// The error of a lock of `file` that was refused.
pub fn unusable(mechanism: Mechanism, file: &str, source: io::Error) -> Error {
    use libc::{EBADF, EINVAL, ENOLCK, ENOSYS, EOPNOTSUPP};
    let file = file.to_owned();
    // The file system has no locks at all, or no more of them, or none that this descriptor
    // could have: a server without a lock daemon says so as well.
    let code = source.raw_os_error().unwrap_or(0);
    if [EBADF, EINVAL, ENOLCK, ENOSYS, EOPNOTSUPP].contains(&code) {
        return Error::LocksRefused {
            mechanism,
            file,
            source,
        };
    }
    Error::Io {
        doing: "lock",
        file,
        source,
    }
}
