//! A task list in a file: read as a stream, and known again by what stat(2) tells.
//!
//! Others rely on this: whoever sees its tasks sees them in their order, without what
//! the format of lists has around them; of a list with a line that can never run no
//! task counts.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::tasklist::{ListError, Parser, Remarks};
use crate::workdir::error::{Error, Result};
use crate::workdir::state::ListIdentity;

/// A task list in a regular file.
pub struct ListFile {
    pub(super) path: PathBuf,
    pub(super) identity: ListIdentity,
}

impl ListFile {
    /// `None` when it is no regular file, and so must be read as a stream.
    pub fn at(path: &Path) -> std::io::Result<Option<Self>> {
        let stat = std::fs::metadata(path)?;
        if stat.is_dir() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        if !stat.is_file() {
            return Ok(None);
        }
        std::fs::File::open(path)?;
        let identity = ListIdentity {
            len: stat.len(),
            mtime: stat.mtime(),
            mtime_nsec: stat.mtime_nsec(),
            inode: stat.ino(),
        };
        Ok(Some(Self {
            path: path.to_owned(),
            identity,
        }))
    }

    /// Shows every task; returns what people should know about the list.
    pub(in crate::workdir) fn each(
        &self,
        mut task: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Remarks, ListTrouble> {
        let name = || self.path.display().to_string();
        let unreadable = |source| ListTrouble::Unreadable {
            list: name(),
            source,
        };
        let mut file = std::fs::File::open(&self.path).map_err(unreadable)?;
        let mut parser = Parser::new();
        let mut chunk = vec![0; 1 << 18];
        let mut done = Ok(());
        let mut emit = |line: &[u8]| {
            if done.is_ok() {
                done = task(line);
            }
        };
        loop {
            let read = file.read(&mut chunk).map_err(unreadable)?;
            let wrong = |source| ListTrouble::Wrong {
                list: name(),
                source,
            };
            if read == 0 {
                parser.finish(&mut emit).map_err(wrong)?;
                break;
            }
            parser.feed(&chunk[..read], &mut emit).map_err(wrong)?;
        }
        done?;
        Ok(parser.remarks())
    }
}

/// Why a list cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum ListTrouble {
    /// It cannot be read.
    #[error("cannot read the task list {list}: {source}")]
    Unreadable {
        /// Its path.
        list: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A line of it can never run.
    #[error("{list}: {source}")]
    Wrong {
        /// Its path.
        list: String,
        /// Which line, and what is wrong with it.
        source: ListError,
    },
    /// It is not the list that the workdir was made from, and must be.
    #[error("{0}")]
    Refused(String),
    /// The workdir.
    #[error(transparent)]
    Workdir(#[from] Error),
}
