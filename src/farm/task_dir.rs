//! `--task-dir`: a fresh folder for each attempt, the current folder of its task.
//!
//! The thread of a slot has a current folder of its own (unshare(2) with `CLONE_FS`). It enters
//! the folder of the attempt while it starts the task, and the task inherits that. So nothing
//! runs between us and the task, and other threads stay where they are.
//!
//! Guarantee: a folder is one that we have made for this attempt alone, with mode 0700, so
//! whoever may write to the folder above has not prepared it. It is removed without following
//! links, and only after the end of the attempt is in the journal.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::fchdir;

use super::options::{KeepTaskDir, TaskDirOptions};
use crate::model::outcome::{Destination, Outcome};
use crate::model::task::Task;

/// Where the folders are made, unless that is given: the first of these variables that has a
/// value.
const PLACES: [&str; 2] = ["SLURM_TMPDIR", "TMPDIR"];
/// Where they are made without these variables.
const TMP: &str = "/tmp";

/// Where and how the folders of all tasks are made.
#[derive(Clone)]
pub(super) struct TaskDirPlan {
    /// The folder in which they are made, an absolute path.
    base: PathBuf,
    keep: KeepTaskDir,
    /// The folder in which the farm was started.
    start: Arc<File>,
}

/// Makes and removes the folders of the tasks of one slot.
pub(super) struct TaskDirs {
    plan: TaskDirPlan,
    farmer: String,
    /// The folder of the attempt that has just ended, to be removed.
    ended: Option<PathBuf>,
}

impl TaskDirPlan {
    /// That of a farm that starts in the current folder. Fails also where a thread cannot have
    /// a current folder of its own: some containers forbid it.
    pub(super) fn new(options: &TaskDirOptions) -> io::Result<Self> {
        let thread = std::thread::Builder::new().spawn(own_folder)?;
        let tried = thread.join();
        tried.unwrap_or_else(|_| Err(ErrorKind::Other.into()))?;
        let of_variable = |name: &&str| std::env::var_os(name).filter(|value| !value.is_empty());
        let place = || PLACES.iter().find_map(of_variable);
        let base = options.base.clone().unwrap_or_else(|| {
            let place = place();
            place.map_or_else(|| PathBuf::from(TMP), PathBuf::from)
        });
        let mut open = OpenOptions::new();
        open.read(true)
            .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits());
        Ok(Self {
            base: std::path::absolute(base)?,
            keep: options.keep,
            start: Arc::new(open.open(".")?),
        })
    }

    /// The folders of one slot of this farmer.
    pub(super) fn of(&self, farmer: &str) -> TaskDirs {
        TaskDirs {
            plan: self.clone(),
            farmer: farmer.to_owned(),
            ended: None,
        }
    }
}

impl TaskDirs {
    /// Makes the folder of an attempt.
    pub(super) fn make(&self, task: &Task) -> io::Result<PathBuf> {
        let name = format!("pytf-{}-{}.{}", self.farmer, task.id, task.attempt);
        let base = &self.plan.base;
        let mut path = base.join(&name);
        for nth in 1.. {
            match DirBuilder::new().mode(0o700).create(&path) {
                // The same attempt was given back and claimed once more.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    path = base.join(format!("{name}-{nth}"));
                }
                Err(error) if error.kind() == ErrorKind::NotFound && nth == 1 => {
                    fs::create_dir_all(base)?;
                }
                made => return made.map(|()| path),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// What is in front of the names of all folders, for messages.
    pub(super) fn base(&self) -> &Path {
        &self.plan.base
    }

    /// Calls `start` in this folder.
    pub(super) fn within<T>(&self, folder: &Path, start: impl FnOnce() -> T) -> io::Result<T> {
        own_folder()?;
        std::env::set_current_dir(folder)?;
        let started = start();
        // It would keep its file system busy, and find relative names elsewhere. It is open:
        // this cannot fail.
        let _ = fchdir(&self.plan.start);
        Ok(started)
    }

    /// The attempt is over; returns its folder if that is kept.
    pub(super) fn end(&mut self, folder: PathBuf, outcome: &Outcome) -> Option<String> {
        let has_failed = outcome.destination() == Destination::Failed;
        // Nothing is in it.
        let has_started = !matches!(outcome, Outcome::NotStarted(_));
        let is_kept = match self.plan.keep {
            KeepTaskDir::Never => false,
            KeepTaskDir::Failed => has_failed && has_started,
            KeepTaskDir::Always => true,
        };
        if is_kept {
            return Some(folder.to_string_lossy().into_owned());
        }
        self.ended = Some(folder);
        None
    }

    /// The task was not started: its folder is not needed.
    pub(super) fn unused(&mut self, folder: PathBuf) {
        self.ended = Some(folder);
    }

    /// Removes the folder of the attempt that has ended; the error is for people.
    pub(super) fn clean_up(&mut self) -> Result<(), String> {
        let Some(folder) = self.ended.take() else {
            return Ok(());
        };
        remove(&folder).map_err(|error| {
            let folder = folder.display();
            format!("the folder {folder} of a task that has ended stays: {error}")
        })
    }
}

/// Lets this thread have a current folder of its own.
fn own_folder() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_FS)?)
}

/// Removes a folder with all that is in it, also folders that may not be written to.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(folder)?;
            fs::remove_dir_all(folder)
        }
        done => done,
    }
}

/// Lets us read and write the folder and those in it.
fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A link to a folder is none.
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::TaskId;

    /// It is not for the one who prepares the name, and what is behind a link stays.
    #[test]
    fn a_folder_is_fresh_and_only_it_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let others = place.path().join("others");
        fs::create_dir(&others).unwrap();
        fs::write(others.join("file"), "precious").unwrap();
        let options = TaskDirOptions {
            base: Some(place.path().join("not/yet")),
            keep: KeepTaskDir::Failed,
        };
        let mut dirs = TaskDirPlan::new(&options).unwrap().of("f");
        let task = Task {
            failures: 0,
            id: TaskId(3),
            line: Vec::new(),
            attempt: 2,
        };
        let first = dirs.make(&task).unwrap();
        assert_eq!(first, place.path().join("not/yet/pytf-f-3.2"));
        assert_eq!(
            first.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        let second = dirs.make(&task).unwrap();
        assert_ne!(first, second);
        std::os::unix::fs::symlink(&others, second.join("link")).unwrap();
        fs::create_dir_all(second.join("a/b")).unwrap();
        fs::write(second.join("a/b/file"), "").unwrap();
        for name in ["a/b", "a"] {
            fs::set_permissions(second.join(name), Permissions::from_mode(0o500)).unwrap();
        }
        assert_eq!(dirs.end(second.clone(), &Outcome::Exit(0)), None);
        assert_eq!(dirs.clean_up(), Ok(()));
        assert!(!second.exists());
        assert!(others.join("file").exists());
        let kept = dirs.end(first.clone(), &Outcome::Exit(1));
        assert_eq!(kept.as_deref(), first.to_str());
        assert_eq!(dirs.clean_up(), Ok(()));
        assert!(first.exists());
    }
}
