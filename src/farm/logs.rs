//! The output of tasks: the forms of `--logs`.
//!
//! Output goes directly from the task to the file, nothing is copied. A log is never
//! overwritten: a later attempt gets another name.
//!
//! Guarantee: files are opened relative to the descriptor of the workdir, even if the folders
//! above it are moved. When few descriptors are allowed, pytf keeps none open for a running
//! task, so there may be more slots than descriptors.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::model::logs::{LogMode, log_name, packed_name, stderr_name};
use crate::model::record::LogAt;
use crate::model::task::Task;
use crate::workdir::fs::{Dir, File as DirFile, Open, PipeDir, RealDir};

/// Descriptors that are reserved for the other threads: the ledger opens files of the
/// workdir, the supervisor reads /proc, a program of the scheduler runs.
const RESERVE: u64 = 24;

/// A log is sent in pieces of so many bytes.
const PIECE: u64 = 1 << 19;

/// A semaphore for processes that may open few files: it limits how many slots are between
/// opening a log and the start of its task.
pub(super) struct LogPermits {
    free: Mutex<u64>,
    changed: Condvar,
}

/// A permit, until it is dropped.
pub(super) struct Permit<'d>(&'d LogPermits);

impl LogPermits {
    /// The permits when `left` files may still be opened; none when there are enough for the
    /// logs of all slots at once.
    pub(super) fn plan(slots: u32, left: u64, mode: LogMode) -> Option<Arc<Self>> {
        let files = if mode == LogMode::Split { 2 } else { 1 };
        let free = left.saturating_sub(RESERVE) / files;
        (free < u64::from(slots)).then(|| {
            Arc::new(Self {
                free: Mutex::new(free.max(1)),
                changed: Condvar::new(),
            })
        })
    }

    /// Waits for a permit.
    pub(super) fn acquire(&self) -> Permit<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.changed.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.changed.notify_one();
    }
}

/// What all slots share for their logs.
#[derive(Clone)]
pub(super) struct LogConfig {
    /// The workdir.
    pub dir: Arc<RealDir>,
    /// `--logs`.
    pub mode: LogMode,
    /// /dev/null, open for reading and writing.
    pub null: Arc<File>,
    /// Whether a slot's own file may stay open.
    pub keeps_open: bool,
    /// Where logs go at the end of an attempt, where the workdir is at the other end of a pipe.
    pub send_to: Option<Arc<PipeDir>>,
}

/// The logs of one slot.
pub(super) struct SlotLogs {
    config: LogConfig,
    /// The name of the slot's own file, for packed logs and for logs of failed tasks only.
    own_name: String,
    own: Option<Arc<File>>,
    /// Whether the slot's own file exists.
    is_made: bool,
}

/// The open log of an attempt.
pub(super) struct OpenLog {
    file: Arc<File>,
    /// That of standard error, where it is not the same.
    stderr: Option<File>,
    written: Written,
}

/// Where the output of an attempt is.
pub(super) struct Written {
    name: String,
    /// The file of standard error, where it is not the same.
    stderr: Option<String>,
    /// Where the output of the attempt begins, in a file that several attempts share.
    from: Option<u64>,
}

impl OpenLog {
    /// What the task writes its standard output to.
    pub(super) fn stdout(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What the task writes its standard error to.
    pub(super) fn stderr(&self) -> BorrowedFd<'_> {
        self.stderr_file().as_fd()
    }

    /// Adds a line of pytf to the output of the task.
    pub(super) fn say(&self, text: &str) {
        // A full disk is reported elsewhere.
        let _ = writeln!(self.stderr_file(), "pytf: {text}");
    }

    fn stderr_file(&self) -> &File {
        self.stderr.as_ref().unwrap_or(&self.file)
    }

    /// Closes the file: the task has its own descriptor.
    pub(super) fn release(self) -> Written {
        self.written
    }
}

impl SlotLogs {
    /// The logs of a slot.
    pub(super) fn new(config: LogConfig, farmer: &str, slot: u32) -> Self {
        let own_name = match config.mode {
            LogMode::Failed => format!("logs/unfinished_{farmer}_{slot}"),
            _ => packed_name(farmer, slot),
        };
        Self {
            config,
            own_name,
            own: None,
            is_made: false,
        }
    }

    /// /dev/null.
    pub(super) fn null(&self) -> &Arc<File> {
        &self.config.null
    }

    /// Opens the log of an attempt.
    pub(super) fn open(&mut self, task: &Task) -> io::Result<OpenLog> {
        let mut split = None;
        let (file, name, from) = match self.config.mode {
            LogMode::Files => {
                let (file, name) = self.create_for(task)?;
                (Arc::new(file), name, None)
            }
            LogMode::Split => {
                let (file, name, stderr) = self.create_both(task)?;
                split = Some((stderr, stderr_name(&name)));
                (Arc::new(file), name, None)
            }
            LogMode::Packed | LogMode::Failed => {
                let file = self.own()?;
                let from = file.metadata()?.len();
                (file, self.own_name.clone(), Some(from))
            }
            LogMode::None => (self.config.null.clone(), String::new(), None),
        };
        let (stderr, stderr_name) = split.unzip();
        Ok(OpenLog {
            file,
            stderr,
            written: Written {
                name,
                stderr: stderr_name,
                from,
            },
        })
    }

    /// Adds a line of pytf to the output of an attempt that is over.
    pub(super) fn say_to(&self, log: &Written, text: &str) {
        let name = log.stderr.as_deref().unwrap_or(&log.name);
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        if let Ok(file) = openat(&self.config.dir, name, flags, Mode::empty()) {
            // A full disk is reported elsewhere.
            let _ = writeln!(File::from(file), "pytf: {text}");
        }
    }

    /// The attempt is over; returns where its output is, if it is kept.
    pub(super) fn close(&mut self, log: Written, task: &Task, is_good: bool) -> Option<LogAt> {
        let at = self.close_here(log, task, is_good);
        if let Some((at, to)) = at.as_ref().zip(self.config.send_to.as_ref()) {
            for name in [Some(&at.file), at.stderr.as_ref()].into_iter().flatten() {
                // It stays here where the pipe has ended: the attempt has no record, either. The
                // summary shows the end of one that failed.
                if send(&self.config.dir, name, to).is_ok() && is_good {
                    let _ = self.config.dir.remove(name);
                }
            }
        }
        at
    }

    fn close_here(&mut self, log: Written, task: &Task, is_good: bool) -> Option<LogAt> {
        match self.config.mode {
            LogMode::Files | LogMode::Split => Some(LogAt {
                file: log.name,
                stderr: log.stderr,
                part: None,
            }),
            LogMode::Packed => Some(self.part(log)),
            LogMode::Failed if is_good => {
                if self.own_len() > 0
                    && let Ok(own) = self.own()
                {
                    // Should it fail, the next task's output follows this one's.
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "the slot's own file, one writer"
                    )]
                    let _ = own.set_len(0);
                }
                None
            }
            LogMode::Failed => self.keep(log, task),
            LogMode::None => None,
        }
    }

    /// The slot's own file, made when it is not there.
    fn own(&mut self) -> io::Result<Arc<File>> {
        if let Some(own) = &self.own {
            return Ok(own.clone());
        }
        let excl = if self.is_made {
            OFlag::empty()
        } else {
            OFlag::O_EXCL
        };
        let own = Arc::new(self.create(&self.own_name, excl)?);
        self.is_made = true;
        if self.config.keeps_open {
            self.own = Some(own.clone());
        }
        Ok(own)
    }

    fn own_len(&self) -> u64 {
        let len = match &self.own {
            Some(own) => own.metadata().map(|known| known.len()).ok(),
            None => fstatat(
                &self.config.dir,
                &*self.own_name,
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .ok()
            .and_then(|known| u64::try_from(known.st_size).ok()),
        };
        len.unwrap_or(0)
    }

    /// The attempt's part of the slot's own file.
    fn part(&self, log: Written) -> LogAt {
        let from = log.from.unwrap_or(0);
        LogAt {
            file: log.name,
            stderr: None,
            part: Some((from, self.own_len().saturating_sub(from))),
        }
    }

    /// Gives the slot's file the name of the attempt that failed.
    fn keep(&mut self, log: Written, task: &Task) -> Option<LogAt> {
        let Ok((_, name)) = self.create_for(task) else {
            return Some(self.part(log));
        };
        let dir = &self.config.dir;
        renameat(dir, &*log.name, dir, &*name).ok()?;
        self.own = None;
        self.is_made = false;
        Some(LogAt::whole(name))
    }

    /// A separate log for an attempt, under the first free name.
    fn create_for(&self, task: &Task) -> io::Result<(File, String)> {
        let (file, name, _) = self.create_from(task, task.attempt)?;
        Ok((file, name))
    }

    /// As [`Self::create_for`], for a number of at least this; the number, too.
    fn create_from(&self, task: &Task, mut attempt: u32) -> io::Result<(File, String, u32)> {
        loop {
            let name = log_name(task.id, attempt);
            match self.create(&name, OFlag::O_EXCL) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_folder(&name)?,
                created => return Ok((created?, name, attempt)),
            }
        }
    }

    /// Separate logs for both outputs of an attempt, under the first name of which both are
    /// free: standard output, its name, and standard error.
    fn create_both(&self, task: &Task) -> io::Result<(File, String, File)> {
        let mut from = task.attempt;
        loop {
            let (file, name, attempt) = self.create_from(task, from)?;
            match self.create(&stderr_name(&name), OFlag::O_EXCL) {
                Ok(stderr) => return Ok((file, name, stderr)),
                Err(error) => {
                    // It was made just now, and is empty.
                    let _ = unlinkat(&self.config.dir, &*name, UnlinkatFlags::NoRemoveDir);
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(error);
                    }
                    from = attempt + 1;
                }
            }
        }
    }

    fn make_folder(&self, name: &str) -> io::Result<()> {
        let folder = name.rsplit_once('/').map_or(name, |(folder, _)| folder);
        self.config.dir.make_dir(folder)
    }

    fn create(&self, name: &str, excl: OFlag) -> io::Result<File> {
        create_log(&self.config.dir, name, excl)
    }
}

/// Sends a log to the workdir at the other end of a pipe.
fn send(from: &RealDir, name: &str, to: &PipeDir) -> io::Result<()> {
    let file = from.open(name, Open::Read)?;
    if file.len()? <= PIECE {
        return to.put(name, piece(&*file, 0)?);
    }
    if let Some((folder, _)) = name.rsplit_once('/') {
        to.make_dir(folder)?;
    }
    copy(&*file, &*to.open(name, Open::CreateNew)?)
}

/// Sends a log there under a name of its own: this one, or one with a number where it is taken.
/// Returns the name.
pub(super) fn send_apart(from: &RealDir, name: &str, to: &PipeDir) -> io::Result<String> {
    let file = from.open(name, Open::Read)?;
    let (name, there) = create_apart(name, |name| to.open(name, Open::CreateNew))?;
    copy(&*file, &*there).map(|()| name)
}

/// Creates a file under this name, or under one with a number where it is taken.
pub(super) fn create_apart<F>(
    first: &str,
    create: impl Fn(&str) -> io::Result<F>,
) -> io::Result<(String, F)> {
    let mut name = first.to_owned();
    for nth in 2.. {
        match create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                name = format!("{first}.{nth}");
            }
            made => return made.map(|file| (name, file)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A piece of a file.
fn piece(file: &dyn DirFile, offset: u64) -> io::Result<Vec<u8>> {
    let left = file.len()?.saturating_sub(offset).min(PIECE);
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(0)];
    let read = file.read_at(&mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Copies what a file has now.
fn copy(file: &dyn DirFile, there: &dyn DirFile) -> io::Result<()> {
    let (len, mut offset) = (file.len()?, 0);
    while offset < len {
        let bytes = piece(file, offset)?;
        if bytes.is_empty() {
            break;
        }
        there.write_at(&bytes, offset)?;
        offset += bytes.len() as u64;
    }
    there.sync()
}

/// Opens a log in the workdir, to append to it.
pub(super) fn create_log(dir: &RealDir, name: &str, excl: OFlag) -> io::Result<File> {
    let how = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_CLOEXEC
        | OFlag::O_NOFOLLOW
        | OFlag::O_NOCTTY;
    let rights = dir.rights();
    let mode = Mode::from_bits_truncate(rights.file_mode());
    let file = File::from(openat(dir, name, how | excl, mode)?);
    // Once for each task: only where the mode above is not enough.
    if rights.must_settle() {
        rights.settle(&file)?;
    }
    Ok(file)
}

impl Drop for SlotLogs {
    fn drop(&mut self) {
        if self.config.mode == LogMode::Failed && self.is_made {
            let _ = unlinkat(
                &self.config.dir,
                &*self.own_name,
                UnlinkatFlags::NoRemoveDir,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::TaskId;

    #[test]
    fn permits_are_for_processes_with_too_few_files() {
        assert!(LogPermits::plan(100, 1000, LogMode::Files).is_none());
        let few = LogPermits::plan(100, RESERVE + 150, LogMode::Split).unwrap();
        assert_eq!(*few.free.lock().unwrap(), 75, "two files for each");
        let permits = LogPermits::plan(1000, RESERVE + 2, LogMode::Files).unwrap();
        let (first, second) = (permits.acquire(), permits.acquire());
        assert_eq!(*permits.free.lock().unwrap(), 0);
        drop((first, second));
        // Even with none left one may go through: it tries, and waits.
        drop(LogPermits::plan(1000, 0, LogMode::Files).unwrap().acquire());
    }

    #[test]
    fn a_slots_own_file_may_stay_open_or_not() {
        for (mode, keeps_open) in [
            (LogMode::Packed, true),
            (LogMode::Packed, false),
            (LogMode::Failed, true),
            (LogMode::Failed, false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("logs")).unwrap();
            let config = LogConfig {
                dir: RealDir::open(folder.path()).unwrap(),
                mode,
                null: Arc::new(File::open("/dev/null").unwrap()),
                keeps_open,
                send_to: None,
            };
            let mut logs = SlotLogs::new(config, "f", 0);
            let mut run = |id: u64, text: &str, is_good: bool| {
                let task = Task {
                    failures: 0,
                    id: TaskId(id),
                    line: Vec::new(),
                    attempt: 1,
                };
                let log = logs.open(&task).unwrap();
                log.say(text);
                let at = logs.close(log.release(), &task, is_good)?;
                let bytes = std::fs::read_to_string(folder.path().join(&at.file)).unwrap();
                let (from, len) = at.part.unwrap_or((0, bytes.len() as u64));
                let from = usize::try_from(from).unwrap();
                Some(bytes[from..from + usize::try_from(len).unwrap()].to_owned())
            };
            let is_packed = mode == LogMode::Packed;
            let good = run(0, "good", true);
            assert_eq!(good.as_deref(), is_packed.then_some("pytf: good\n"));
            assert_eq!(run(1, "bad", false).as_deref(), Some("pytf: bad\n"));
            assert_eq!(run(2, "worse", false).as_deref(), Some("pytf: worse\n"));
            drop(run(3, "good again", true));
            drop(logs);
            let left = std::fs::read_dir(folder.path().join("logs"))
                .unwrap()
                .count();
            assert_eq!(left, if is_packed { 1 } else { 2 }, "{mode:?} {keeps_open}");
        }
    }
}
