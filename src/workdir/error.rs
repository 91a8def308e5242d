//! What can go wrong with a workdir. Every error names the file, what was being
//! done, and where there is one, the way out.

use std::io;

use crate::model::refusal::hint;
use crate::workdir::fs::NotAFile;
use crate::workdir::mechanism::Mechanism;

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
        /// What is wrong with it, and the way out.
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
    /// A wish that would not be safe.
    #[error("{0}")]
    Refused(String),
    /// A workdir that is not safe, or cannot be.
    #[error("{0}")]
    Unsafe(String),
}

impl Error {
    /// Damage of a file, and where the way out is described.
    pub fn damaged(file: &str, what: impl std::fmt::Display) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            what: format!("{what}; see docs/workdir.md, \"A damaged workdir\""),
        }
    }

    /// A line to be put behind the message that says what mends it, where a command
    /// does. `workdir` is the workdir as the user names it.
    pub fn way_out(&self, workdir: &str) -> Option<String> {
        match self {
            Self::Damaged { .. } => Some(format!(
                "\nWhen no pytf works on it any more, 'pytf repair {workdir}' restores it \
                 from its journals."
            )),
            Self::Older { .. } => Some(format!(
                "\nIf they were killed, 'pytf repair {workdir}' upgrades the workdir."
            )),
            _ => None,
        }
    }
}

/// What every function here returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Gives an `io::Result` the name of its file.
pub trait Context<T> {
    /// "cannot `doing` `file`: …"; what stands in the place of a file is damage.
    fn context(self, doing: &'static str, file: &str) -> Result<T>;
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
}

/// Whether this is the answer of a file system that has no locks at all.
fn has_none(error: &io::Error) -> bool {
    let answers = [libc::ENOSYS, libc::EOPNOTSUPP, libc::EINVAL];
    error
        .raw_os_error()
        .is_some_and(|code| answers.contains(&code))
}

/// What a lock of `file` that was refused means, and the way out.
pub fn unusable(mechanism: Mechanism, file: &str, source: io::Error) -> Error {
    let other = match mechanism {
        Mechanism::Flock => "fcntl",
        Mechanism::Fcntl | Mechanism::Link => "flock",
    };
    // No more locks, or none that this descriptor could have: a server without a lock
    // daemon says so as well.
    let is_refused = matches!(source.raw_os_error(), Some(libc::ENOLCK | libc::EBADF));
    if !is_refused && !has_none(&source) {
        return Error::Io {
            doing: "lock",
            file: file.into(),
            source,
        };
    }
    Error::Unsafe(format!(
        "the file system of the workdir refuses {mechanism} locks of {file}: {source}; begin in a new \
         workdir with --lock {other}, or with --lock link, which needs no locks"
    ))
}
