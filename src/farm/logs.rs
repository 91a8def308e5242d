//! Where a slot lets its tasks print: the four forms of `--logs`.
//!
//! Output goes straight from the task into the file, nothing is copied. A log
//! that is there is never overwritten: a later attempt gets another name.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::model::logs::{LogMode, log_name, packed_name};
use crate::model::record::LogAt;
use crate::model::task::Task;

/// The logs of one slot.
pub struct SlotLogs {
    workdir: Arc<PathBuf>,
    mode: LogMode,
    /// The name of the slot's own file: packed, or what is kept only of failures.
    own_name: String,
    own: Option<Arc<File>>,
    null: Arc<File>,
}

/// The open log of an attempt.
pub struct OpenLog {
    file: Arc<File>,
    name: String,
    /// Where the attempt's output begins, when the file is not its alone.
    from: Option<u64>,
}

impl OpenLog {
    /// What the task writes to.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Adds a line of ours to what the task printed.
    pub fn say(&self, text: &str) {
        // A full disk has told the user already, or will.
        let _ = writeln!(&*self.file, "pytf: {text}");
    }
}

impl SlotLogs {
    /// The logs of a slot; `null` is /dev/null, open for reading and writing.
    pub fn new(
        workdir: Arc<PathBuf>,
        mode: LogMode,
        farmer: &str,
        slot: u32,
        null: Arc<File>,
    ) -> Self {
        let own_name = match mode {
            LogMode::Failed => format!("logs/unfinished_{farmer}_{slot}"),
            _ => packed_name(farmer, slot),
        };
        Self {
            workdir,
            mode,
            own_name,
            own: None,
            null,
        }
    }

    /// /dev/null.
    pub fn null(&self) -> &Arc<File> {
        &self.null
    }

    /// Opens the log of an attempt.
    pub fn open(&mut self, task: &Task) -> io::Result<OpenLog> {
        match self.mode {
            LogMode::Files => {
                let (file, name) = self.create_for(task)?;
                Ok(OpenLog {
                    file: Arc::new(file),
                    name,
                    from: None,
                })
            }
            LogMode::Packed | LogMode::Failed => {
                let file = match &self.own {
                    Some(file) => file.clone(),
                    None => Arc::new(self.create(&self.own_name)?),
                };
                self.own = Some(file.clone());
                let from = Some(file.metadata()?.len());
                Ok(OpenLog {
                    file,
                    name: self.own_name.clone(),
                    from,
                })
            }
            LogMode::None => Ok(OpenLog {
                file: self.null.clone(),
                name: String::new(),
                from: None,
            }),
        }
    }

    /// Closes the log of an attempt; tells where its output is, when it is kept.
    pub fn close(&mut self, log: OpenLog, task: &Task, is_good: bool) -> Option<LogAt> {
        match self.mode {
            LogMode::Files => Some(LogAt {
                file: log.name,
                part: None,
            }),
            LogMode::Packed => {
                let (from, to) = (
                    log.from.unwrap_or(0),
                    log.file.metadata().map_or(0, |m| m.len()),
                );
                Some(LogAt {
                    file: log.name,
                    part: Some((from, to.saturating_sub(from))),
                })
            }
            LogMode::Failed if is_good => {
                if log.file.metadata().is_ok_and(|m| m.len() > 0) {
                    // Should it fail, the next task's output follows this one's.
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "the slot's own file, one writer"
                    )]
                    let _ = log.file.set_len(0);
                }
                None
            }
            LogMode::Failed => self.keep(log, task),
            LogMode::None => None,
        }
    }

    /// Gives the slot's file the name of the attempt that failed.
    fn keep(&mut self, log: OpenLog, task: &Task) -> Option<LogAt> {
        let Ok((_, name)) = self.create_for(task) else {
            let from = log.from.unwrap_or(0);
            let to = log.file.metadata().map_or(from, |m| m.len());
            return Some(LogAt {
                file: log.name,
                part: Some((from, to - from)),
            });
        };
        let from = self.workdir.join(&log.name);
        std::fs::rename(from, self.workdir.join(&name)).ok()?;
        self.own = None;
        Some(LogAt {
            file: name,
            part: None,
        })
    }

    /// A log of its own for an attempt, under the first name that is free.
    fn create_for(&self, task: &Task) -> io::Result<(File, String)> {
        let mut attempt = task.attempt;
        loop {
            let name = log_name(task.id, attempt);
            match self.create(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_folder(&name)?,
                created => return Ok((created?, name)),
            }
        }
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        let path = self.workdir.join(name);
        let folder = path.parent().unwrap_or(&path);
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o666)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY)
            .open(self.workdir.join(name))
    }
}

impl Drop for SlotLogs {
    fn drop(&mut self) {
        if self.mode == LogMode::Failed && self.own.is_some() {
            let _ = std::fs::remove_file(self.workdir.join(&self.own_name));
        }
    }
}
