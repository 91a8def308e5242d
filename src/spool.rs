//! The folder of a farmer that does not have the workdir's: what its tasks print is kept there until
//! an attempt ends.
//!
//! Guarantee: it is there as long as its process lives, which holds the lock of a file in it. One that
//! a killed process of this node has left behind is removed by the next process that makes one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pytf::workdir::layout::LOGS;
use pytf::workdir::liveness::own_node::{Here, Node as _};

/// The names of these folders begin with this, and end with the number of a process.
const PREFIX: &str = "run-";
/// Locked by the process; what it has is its node: locks under one kernel reach each other whatever
/// the file system does, and its namespace tells what the number of a process means.
const LOCKED: &str = "locked";

/// A folder of this process, removed when it ends.
pub(crate) struct Spool {
    path: PathBuf,
    _locked: File,
}

impl Spool {
    /// Makes one in the user's cache, and removes those that were left behind.
    pub(crate) fn make(job: &str) -> io::Result<Self> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || std::env::home_dir().unwrap_or_default().join(".cache");
        let cache = cache.filter(|path| path.is_absolute()).unwrap_or_else(home);
        let here = Here::read();
        let node = here.id().map(serde_json::to_string).transpose()?;
        Self::make_in(&cache.join("pytf"), job, &node.unwrap_or_default())
    }

    fn make_in(cache: &Path, job: &str, node: &str) -> io::Result<Self> {
        // It does no harm if one stays.
        let _ = sweep(cache, node);
        let path = cache.join(format!("{PREFIX}{job}-{}", std::process::id()));
        fs::create_dir_all(path.join(LOGS))?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o700))?;
        let mut locked = File::create(path.join(LOCKED))?;
        // Where files cannot be locked, nobody can tell whether it was left behind.
        if locked.try_lock().is_ok() {
            locked.write_all(node.as_bytes())?;
        }
        Ok(Self {
            path,
            _locked: locked,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of processes that are gone.
fn sweep(cache: &Path, node: &str) -> io::Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if was_left_behind(&entry.file_name().to_string_lossy(), &entry.path(), node) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn was_left_behind(name: &str, path: &Path, node: &str) -> bool {
    let Some((_, pid)) = name.strip_prefix(PREFIX).and_then(|id| id.rsplit_once('-')) else {
        return false;
    };
    let locked = path.join(LOCKED);
    let is_of_this_node = || fs::read_to_string(&locked).is_ok_and(|of| of == node);
    // A network file system may have lost the lock of a process that lives.
    let is_gone = || !Path::new("/proc").join(pid).exists();
    let is_free = || File::open(&locked).is_ok_and(|file| file.try_lock().is_ok());
    !node.is_empty() && is_of_this_node() && is_gone() && is_free()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No process has this number: it is more than the system allows (proc(5)).
    const NOBODY: u32 = 1 << 23;

    #[test]
    fn what_a_killed_process_left_behind_is_removed_and_nothing_else() {
        let cache = tempfile::tempdir().unwrap();
        let cache = cache.path();
        let left = |name: String, node: &str| {
            let path = cache.join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(LOCKED), node).unwrap();
            path
        };
        let killed = left(format!("run-a-{NOBODY}"), "here");
        let lives = left(format!("run-b-{}", std::process::id()), "here");
        let elsewhere = left(format!("run-c-{NOBODY}"), "there");
        let unknown = left(format!("run-d-{NOBODY}"), "");
        let held = left(format!("run-e-{NOBODY}"), "here");
        let holder = File::open(held.join(LOCKED)).unwrap();
        holder.lock().unwrap();
        let program = cache.join("pytf-1234");
        fs::write(&program, "").unwrap();

        let mine = Spool::make_in(cache, "job", "here").unwrap();
        assert!(!killed.exists());
        let stays = [&lives, &elsewhere, &unknown, &held, &program];
        assert!(stays.into_iter().all(|path| path.exists()));
        let path = mine.path().to_owned();
        assert!(path.join(LOGS).is_dir());
        drop(mine);
        assert!(!path.exists());
    }
}
