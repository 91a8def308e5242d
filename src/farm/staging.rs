//! The files that tasks need and make: `in`, `out` and `--copy-out`.
//!
//! Before an attempt its inputs are where it looks for them, and after one with exit status 0
//! what it has made is in the workdir (`results`). Guarantee: a file has its name only when it
//! is whole.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::model::attributes::{Attributes, split};
use crate::model::task::Task;
use crate::workdir::fs::{Input, PipeDir};

/// How much is sent at a time: the lock of the run is waited for meanwhile.
const LEAST_PIECE: usize = 16 << 10;
pub(super) const MOST_PIECE: usize = 1 << 20;
/// How long a piece may take.
const PIECE_TIME: Duration = Duration::from_millis(100);

/// What a task needs and makes: paths below the folder in which it runs.
pub(super) struct Wanted {
    /// `in`.
    pub(super) inputs: Vec<String>,
    /// `out` and `--copy-out`.
    pub(super) outputs: Vec<String>,
}

/// What a farm knows for these files.
pub(super) struct Staging {
    /// The folder in which the farm was started.
    pub(super) base: PathBuf,
    /// Where inputs come from, where those who have started us do not share the folder.
    pub(super) pipe: Option<Arc<PipeDir>>,
    /// One is fetched at a time: the next task may need the same.
    pub(super) fetching: Mutex<()>,
    /// `--copy-out`.
    pub(super) copy_out: Vec<String>,
}

impl Staging {
    /// What this task needs and makes; none for most.
    pub(super) fn wanted(&self, task: &Task) -> Option<Wanted> {
        let said = split(&task.line).1;
        if said.is_none() && self.copy_out.is_empty() {
            return None;
        }
        // What cannot be read was said by a later pytf: then our options hold.
        let said = Attributes::parse(said.unwrap_or_default()).unwrap_or_default();
        let outputs = [said.outputs, self.copy_out.clone()].concat();
        let inputs = said.inputs;
        (!inputs.is_empty() || !outputs.is_empty()).then_some(Wanted { inputs, outputs })
    }

    /// Has the inputs in the folder in which the farm was started, or says why not.
    pub(super) fn prepare(&self, wanted: &Wanted) -> Result<(), String> {
        for name in &wanted.inputs {
            let path = self.base.join(name);
            let done = match &self.pipe {
                Some(pipe) => self.fetch(pipe, name, &path),
                None => fs::metadata(&path).and_then(|stat| {
                    let is_file = stat.is_file();
                    is_file
                        .then_some(())
                        .ok_or_else(|| io::Error::other("it is not a file"))
                }),
            };
            done.map_err(|error| format!("its input {name}: {error}"))?;
        }
        Ok(())
    }

    /// Has them in the folder of the task, by links.
    pub(super) fn link(&self, wanted: &Wanted, folder: &Path) -> Result<(), String> {
        for name in &wanted.inputs {
            let link = folder.join(name);
            let made = link.parent().map_or(Ok(()), fs::create_dir_all);
            let made = made.and_then(|()| symlink(self.base.join(name), &link));
            made.map_err(|error| format!("its input {name}: {error}"))?;
        }
        Ok(())
    }

    /// Copies a file from the host where the workdir is, unless it is here already.
    fn fetch(&self, pipe: &PipeDir, name: &str, path: &Path) -> io::Result<()> {
        let _one = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        let there = pipe.open_input(name)?;
        if fs::metadata(path).is_ok_and(|here| is_same(&here, &there)) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = path.with_file_name(format!(".pytf-copy-{}-in", std::process::id()));
        let _ = fs::remove_file(&new);
        let done = write_new(&new, &there).and_then(|()| fs::rename(&new, path));
        done.inspect_err(|_| drop(fs::remove_file(&new)))
    }
}

fn is_same(here: &Metadata, there: &Input) -> bool {
    let time = here.modified().ok();
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    here.is_file() && here.len() == there.len && since == Some(there.modified)
}

fn write_new(path: &Path, there: &Input) -> io::Result<()> {
    let mut how = OpenOptions::new();
    let mut new: File = how.write(true).create_new(true).mode(0o600).open(path)?;
    let (mut offset, mut pace) = (0, Pace::default());
    let mut bytes = vec![0; MOST_PIECE];
    while offset < there.len {
        let piece = pace.piece(there.len - offset);
        let since = Instant::now();
        let read = there.file.read_at(&mut bytes[..piece], offset)?;
        pace.took(since.elapsed());
        if read == 0 {
            return Err(io::Error::other("it became shorter while it was copied"));
        }
        new.write_all(&bytes[..read])?;
        offset += read as u64;
    }
    if there.file.len()? != there.len {
        return Err(io::Error::other("it was changed while it was copied"));
    }
    new.set_permissions(Permissions::from_mode(there.mode & 0o777))?;
    let modified = UNIX_EPOCH.checked_add(there.modified);
    let modified = modified.ok_or(ErrorKind::InvalidData)?;
    new.set_times(FileTimes::new().set_modified(modified))?;
    new.sync_all()
}

/// How large the pieces are that a file is sent in, by how long they take.
pub(super) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        Self(4 * LEAST_PIECE)
    }
}

impl Pace {
    /// The size of the next piece, where so much is left.
    pub(super) fn piece(&self, left: u64) -> usize {
        usize::try_from(left).unwrap_or(self.0).min(self.0)
    }

    /// The last one took so long.
    pub(super) fn took(&mut self, time: Duration) {
        if time < PIECE_TIME / 2 {
            self.0 = (self.0 * 2).min(MOST_PIECE);
        } else if time > PIECE_TIME {
            self.0 = (self.0 / 2).max(LEAST_PIECE);
        }
    }
}
