//! Opening a workdir: whose it may be, and which lock it gets.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::Uid;

use super::error::{Context, Error, Result};
use super::exclusion;
use super::fs::{Dir, Open, RealDir};
use super::layout::{DONE, LOGS, NODES};
use super::lock::Mechanism;
use super::state::{self, LOCK};

/// An open workdir.
#[derive(Clone)]
pub struct Workdir {
    /// Its files.
    pub dir: Arc<dyn Dir>,
    /// Where it is, as the user named it.
    pub path: PathBuf,
    /// How its lock is taken.
    pub mechanism: Mechanism,
}

/// What the user says about a workdir.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Make it when it is not there.
    pub create: bool,
    /// Others may write it: `--shared-workdir`.
    pub shared: bool,
    /// `--lock`; none is `auto`.
    pub lock: Option<Mechanism>,
}

impl Workdir {
    /// Opens a workdir, and makes it when wished.
    ///
    /// One that belongs to somebody else, or that others may write, is refused
    /// unless shared: whoever writes `toprocess` runs commands as us.
    pub fn open(path: &Path, wishes: Wishes) -> Result<Self> {
        let shown = path.display().to_string();
        if wishes.create && !path.exists() {
            let bits = if wishes.shared { 0o777 } else { 0o755 };
            match std::fs::DirBuilder::new().mode(bits).create(path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                done => done.context("create", &shown)?,
            }
        }
        let dir = RealDir::open(path).context("open", &shown)?;
        check_owner(path, wishes.shared)?;
        let dir: Arc<dyn Dir> = dir;
        if wishes.create {
            for sub in [NODES, DONE, LOGS] {
                dir.make_dir(sub).context("create", sub)?;
                check_folder(&path.join(sub), sub)?;
            }
        }
        let mechanism = mechanism_for(&dir, path, wishes.lock)?;
        Ok(Self {
            dir,
            path: path.to_owned(),
            mechanism,
        })
    }
}

/// A link in a folder's place would lead our writes elsewhere.
fn check_folder(path: &Path, name: &str) -> Result<()> {
    let stat = std::fs::symlink_metadata(path).context("look at", name)?;
    if stat.is_dir() {
        return Ok(());
    }
    let what = "it is no folder, or a link to one: move it away".into();
    Err(Error::Damaged {
        file: name.to_owned(),
        what,
    })
}

fn check_owner(path: &Path, shared: bool) -> Result<()> {
    let shown = path.display().to_string();
    let stat = std::fs::metadata(path).context("look at", &shown)?;
    let (us, owner) = (Uid::effective().as_raw(), stat.uid());
    if shared {
        return Ok(());
    }
    if owner != us {
        return Err(Error::Unsafe(format!(
            "the workdir {shown} belongs to user {owner}, not to you (user {us}): whoever may write \
             it runs commands as you; --shared-workdir allows it"
        )));
    }
    if stat.mode() & 0o022 != 0 {
        return Err(Error::Unsafe(format!(
            "others may write the workdir {shown} (mode {:04o}) and so run commands as you: \
             chmod go-w it, or allow it with --shared-workdir",
            stat.mode() & 0o7777
        )));
    }
    Ok(())
}

/// The lock that the workdir has, or gets.
fn mechanism_for(dir: &Arc<dyn Dir>, path: &Path, wished: Option<Mechanism>) -> Result<Mechanism> {
    if let Ok(file) = dir.open(LOCK, Open::Read)
        && let Some(state) = state::read(&*file)?
    {
        if let Some(wished) = wished
            && wished != state.mechanism
        {
            return Err(Error::Refused(format!(
                "the workdir {} is locked by {}, not by {wished}: processes that lock differently \
                 do not exclude each other; leave --lock away",
                path.display(),
                state.mechanism
            )));
        }
        return Ok(state.mechanism);
    }
    exclusion::choose(path, wished)
}
