//! Opening a workdir: whose it may be, and which lock it gets.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::NEW;
pub use crate::workdir::fs::Workdir;
use crate::workdir::fs::{Dir, Open, RealDir, Trust};
use crate::workdir::layout::{
    self, DONE, FAILED, FINISHED, LOCK, LOGS, NODES, REQUEUED, SCRIPTS, TASKS, TOPROCESS,
};
use crate::workdir::mechanism::Mechanism;
use crate::workdir::{exclusion, state};
use nix::unistd::Uid;

/// Which owner and mode of a workdir are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// It belongs to us, and no other user may write it.
    #[default]
    Ours,
    /// Anybody's, and what is in it is trusted as far as the folder is: for commands
    /// that write into it and run nothing.
    AsItIs,
    /// Anybody's, with whatever is in it: `--shared-workdir`.
    Shared,
}

/// What the user says about a workdir.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Make it when it is not there.
    pub create: bool,
    /// Whose it may be.
    pub ownership: Ownership,
    /// `--lock`; none is `auto`.
    pub lock: Option<Mechanism>,
}

impl Workdir {
    /// Opens a workdir, and makes it when wished.
    ///
    /// One that belongs to another user, or that others may write, is refused
    /// unless shared: a user that may write `toprocess` can run commands as us.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Self> {
        let shown = path.display().to_string();
        if options.create && !path.exists() {
            let is_shared = options.ownership == Ownership::Shared;
            let bits = if is_shared { 0o777 } else { 0o755 };
            match std::fs::DirBuilder::new().mode(bits).create(path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                done => {
                    done.context("create", &shown)?;
                    sync_parent(path).context("sync the folder of", &shown)?;
                }
            }
        }
        let dir: Arc<dyn Dir> = open_dir(path, options.ownership)?;
        if options.create {
            check_may_begin(&dir, path)?;
            for sub in [NODES, DONE, LOGS] {
                dir.make_dir(sub).context("create", sub)?;
                check_folder(&path.join(sub), sub)?;
            }
        }
        let mechanism = mechanism_for(&dir, path, options.lock)?;
        Ok(Self {
            dir,
            path: path.to_owned(),
            mechanism,
        })
    }
}

/// A workdir begins only in a folder that is empty, or in which an earlier start or
/// PyTaskFarmer left something: the contents of any other folder belong to the user, and
/// may have the names of our files.
fn check_may_begin(dir: &Arc<dyn Dir>, path: &Path) -> Result<()> {
    // In this order: others may be making it at the same moment.
    let names = dir.list("").context("list", "the workdir")?;
    match state::peek(dir) {
        Ok(Some(_)) => return Ok(()),
        Err(error @ Error::Newer { .. }) => return Err(error),
        // Only the holder of the lock decides whether it is damaged; the names tell the rest.
        Ok(None) | Err(_) => {}
    }
    let is_there = |folder: &str, is_journal: fn(&str) -> bool| match dir.list(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(false)
        }
        names => {
            let names = names.context("list", folder)?;
            Ok::<_, Error>(names.iter().any(|name| is_journal(name)))
        }
    };
    if is_there(NODES, |name| layout::farmer_of(name).is_some())?
        || is_there(DONE, |name| layout::departed_of(name).is_some())?
    {
        // What is missing is reported where it is needed.
        return Ok(());
    }
    if is_there(NODES, |name| {
        DONE.strip_prefix(NODES) == Some(&format!("/{name}"))
    })? {
        // A start had begun, in which a handler of the user may have made files.
        return Ok(());
    }
    let is_pytaskfarmers = [TOPROCESS, FINISHED, FAILED]
        .iter()
        .any(|name| names.iter().any(|there| there == name));
    let mut foreign = Vec::new();
    for name in names {
        let is_empty = || dir.open(&name, Open::Read)?.is_empty();
        let is_ours = match &*name {
            // These come with the state, or empty before it.
            TASKS | REQUEUED => is_empty().context("look at", &name)?,
            LOCK | TOPROCESS | FINISHED | FAILED | NODES | LOGS | SCRIPTS => true,
            _ if is_pytaskfarmers && name == "timeline.json" => true,
            "lost+found" | ".snapshot" => true,
            name => name.starts_with("lock.") || name.ends_with(NEW) || name.starts_with(".nfs"),
        };
        if !is_ours {
            foreign.push(name);
        }
    }
    foreign.sort_unstable();
    let Some(first) = foreign.first() else {
        return Ok(());
    };
    let mut contents = first.escape_debug().to_string();
    if foreign.len() > 1 {
        contents += &format!(" and {} more", foreign.len() - 1);
    }
    let folder = path.display().to_string();
    Err(Error::NotAWorkdir { folder, contents })
}

/// Opens the folder of a workdir, if what is in it may be trusted.
pub fn open_dir(path: &Path, ownership: Ownership) -> Result<Arc<RealDir>> {
    let trust = match ownership {
        Ownership::Shared => Trust::Any,
        Ownership::Ours | Ownership::AsItIs => Trust::AsFolder,
    };
    let shown = path.display().to_string();
    let dir = RealDir::open_trusting(path, trust).context("open", &shown)?;
    if ownership == Ownership::Ours {
        check_owner(&dir, path)?;
    }
    check_files(&dir, path)?;
    Ok(dir)
}

/// Makes the name of a new folder durable, where we may read the folder that it is in:
/// one of mode 0333 lets us make the workdir, but not open what it is in.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match std::fs::File::open(parent.unwrap_or(Path::new("."))) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        parent => parent?.sync_all(),
    }
}

/// A link in a folder's place would lead our writes elsewhere.
fn check_folder(path: &Path, name: &str) -> Result<()> {
    let stat = std::fs::symlink_metadata(path).context("look at", name)?;
    if stat.is_dir() {
        return Ok(());
    }
    let what = "it is not a folder, or is a link to one: move it away".into();
    Err(Error::Damaged {
        file: name.to_owned(),
        what,
    })
}

/// The files must not be writable by users that may not write the workdir itself. Each
/// file is checked again when it is opened, journals and logs then for the first time.
fn check_files(dir: &RealDir, path: &Path) -> Result<()> {
    let names = [
        LOCK, TASKS, TOPROCESS, FINISHED, FAILED, REQUEUED, NODES, DONE, LOGS, SCRIPTS,
    ];
    for name in names {
        if let Some(fault) = dir.fault(name).context("look at", name)? {
            return Err(Error::UntrustedFile {
                file: name,
                workdir: path.display().to_string(),
                fault,
            });
        }
    }
    Ok(())
}

/// Checks the folder that is open; its path may lead to another folder by now.
fn check_owner(dir: &RealDir, path: &Path) -> Result<()> {
    let workdir = path.display().to_string();
    let stat = dir.metadata().context("look at", &workdir)?;
    let (us, owner) = (Uid::effective().as_raw(), stat.uid());
    if owner != us {
        return Err(Error::OtherOwner { workdir, owner, us });
    }
    let mode = stat.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(Error::WritableByOthers { workdir, mode });
    }
    Ok(())
}

/// The lock that the workdir has, or gets.
fn mechanism_for(dir: &Arc<dyn Dir>, path: &Path, wished: Option<Mechanism>) -> Result<Mechanism> {
    let known = match state::peek(dir) {
        Ok(state) => state.map(|state| state.mechanism),
        Err(error @ Error::Newer { .. }) => return Err(error),
        // Only the holder of the lock decides whether it is damaged.
        Err(_) => dir
            .open(LOCK, Open::Fresh)
            .ok()
            .and_then(|file| state::mechanism_in(&*file)),
    };
    match (known, wished) {
        (Some(known), Some(wished)) if wished != known => {
            Err(Error::OtherMechanism { known, wished })
        }
        (Some(known), _) => Ok(known),
        (None, _) => exclusion::choose(path, wished),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another node may be writing it, and on NFS a client may remember parts of several times.
    #[test]
    fn a_start_leaves_it_to_the_lock_whether_a_state_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK), "what is this").unwrap();
        let options = OpenOptions {
            create: true,
            ..OpenOptions::default()
        };
        let opened = Workdir::open(folder.path(), options);
        assert!(opened.is_ok(), "{}", opened.err().unwrap());
    }
}
