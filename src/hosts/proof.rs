//! The file by which hosts show that they share the workdir: its content is a secret that only those
//! know who can read it.
//!
//! Guarantee: it is there as long as the process that asks hosts for it lives, which holds its lock.
//! One whose lock is free was left behind by a process that was killed, and the next one to start
//! removes it. Where files cannot be locked (`--lock link`), nobody can tell, and it stays.

use std::io::{self, ErrorKind};

use super::ssh::random;
use crate::workdir::fs::{File, LockTry};
use crate::workdir::layout::LOGS;
use crate::workdir::mechanism::Mechanism;
use crate::workdir::open::Workdir;

/// The names of these files begin with this.
const PREFIX: &str = "hosts_";
/// How often another file is made when others take it for one that was left behind: they may look
/// before it is locked.
const TRIES: u32 = 100;

/// Such a file.
pub(super) struct Proof<'a> {
    workdir: &'a Workdir,
    /// Its name among the logs.
    pub(super) name: String,
    /// What it has.
    pub(super) secret: String,
    /// It is locked until these are closed.
    _locked: [Box<dyn File>; 2],
}

impl<'a> Proof<'a> {
    /// Makes one, and removes those that were left behind.
    pub(super) fn write(workdir: &'a Workdir) -> io::Result<Self> {
        // It does no harm if one stays.
        let _ = sweep(workdir);
        for _ in 0..TRIES {
            let random = random()?;
            let (id, secret) = random.split_at(8);
            let name = format!("{PREFIX}{id}");
            match try_lock(workdir, &name)? {
                LockTry::Locked(file, again) => {
                    file.write_at(secret.as_bytes(), 0)?;
                    file.sync()?;
                    return Ok(Self {
                        workdir,
                        name,
                        secret: secret.to_owned(),
                        _locked: [file, again],
                    });
                }
                LockTry::Unusable(error) => return Err(error),
                LockTry::Busy(_) | LockTry::Replaced => {}
            }
        }
        Err(io::Error::other(format!(
            "a file {LOGS}/{PREFIX}ID does not stay there"
        )))
    }
}

impl Drop for Proof<'_> {
    fn drop(&mut self) {
        let _ = self.workdir.dir.remove(&path(&self.name));
    }
}

/// Removes the files of processes that are gone.
fn sweep(workdir: &Workdir) -> io::Result<()> {
    if workdir.mechanism == Mechanism::Link {
        return Ok(());
    }
    for name in workdir.dir.list(LOGS)? {
        if name.starts_with(PREFIX)
            && let LockTry::Locked(..) = try_lock(workdir, &name)?
        {
            workdir.dir.remove(&path(&name))?;
        }
    }
    Ok(())
}

/// Locks such a file, which is made where there is none.
fn try_lock(workdir: &Workdir, name: &str) -> io::Result<LockTry> {
    match workdir.dir.try_lock(&path(name), workdir.mechanism) {
        // Removed between the open and the lock.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(LockTry::Replaced),
        tried => tried,
    }
}

fn path(name: &str) -> String {
    format!("{LOGS}/{name}")
}
