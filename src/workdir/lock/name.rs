//! The lock by name: a compare-and-swap of the state's number.
//!
//! A process that has read the state with number N takes the lock by creating, exclusively,
//! the name of the transaction that makes N + 1. The name of a committed transaction **stays** for
//! a while, so a process that still sees an older state finds the name taken and reads
//! again. An abandoned transaction removes its name.
//!
//! An NFS client that has any descriptor of a file open for writing does not see what others
//! wrote, not even by a new open (measured: docs/workdir.md, "Locks"). So `lock` is only read
//! before the name is taken, and its holder closes it before it marks the name as given back.
//! Guarantee: while a name can be taken, no process has a file that the lock guards open for
//! writing, except one that others have declared dead; and the file that such a process has
//! open is not `lock` any more.

use super::announce::disarm;
use crate::workdir::error::{Context, Result};
use crate::workdir::files::{read_from, retry_stale};
use crate::workdir::fs::{Dir, File, Open};
use crate::workdir::layout::LOCK;
use crate::workdir::liveness::Waiting;
use crate::workdir::state::{self, State};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// So many names of committed transactions stay. If a process that sees an even older state
/// creates a removed name again, its second read of the state shows that.
const KEPT: u64 = 64;

/// How long a holder by name may take to write who it is: it gives the lock back
/// when it took half as long, and is broken when it takes longer.
pub(super) const NAMELESS: Duration = Duration::from_secs(4);

/// The last line of a name whose holder has given the lock back.
const GIVEN_BACK: &str = "\ngiven back\n";

/// The number of a state, and how often the lock had been broken by then: after
/// a break, an old holder has a name that is not asked for any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    seq: u64,
    pub(super) breaks: u32,
}

impl Version {
    /// Of the current state in an open lock file.
    pub(super) fn of(lock: &dyn File) -> Result<Self> {
        Ok(Self::of_state(state::read(lock)?))
    }

    fn of_state(state: Option<State>) -> Self {
        state.map_or_else(Self::default, |State { seq, breaks, .. }| Self {
            seq,
            breaks,
        })
    }

    fn next(self) -> Self {
        let seq = self.seq.wrapping_add(1);
        Self { seq, ..self }
    }

    fn name(self) -> String {
        format!("{LOCK}.held.{}.{}", self.seq, self.breaks)
    }

    /// A name for a file that may take the place of the lock.
    pub(super) fn successor(self, prefix: &str, tries: u32) -> String {
        format!("{prefix}{}.{}.{tries}", self.seq, self.breaks)
    }
}

/// What has become of a transaction, as far as its holder knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CommitStatus {
    /// It has written no state.
    NotBegun,
    /// It has begun to write a state.
    Unknown,
    /// Its state is committed.
    InForce,
}

/// A name that we hold; dropped, it is given back: removed where the transaction has
/// changed nothing, marked where it was committed. Where that is unknown it stays as it is,
/// and is broken.
pub(super) struct Name {
    dir: Arc<dyn Dir>,
    version: Version,
    mark: Box<dyn File>,
    /// The length of its contents.
    written: u64,
    status: CommitStatus,
    is_quiet: bool,
}

impl Name {
    /// From now on a state that was written under this name may be committed.
    pub(super) fn begins(&mut self) {
        self.status = CommitStatus::Unknown;
    }

    /// The state is committed, or it certainly is not and will not be. `is_quiet`: it has no
    /// member.
    pub(super) fn ends(&mut self, is_true: bool, is_quiet: bool) {
        self.status = if is_true {
            CommitStatus::InForce
        } else {
            CommitStatus::NotBegun
        };
        self.is_quiet = is_quiet;
    }

    /// Removes names of the past: the one that has just become old, or, where a workdir
    /// is left behind, all.
    fn sweep(&self) -> io::Result<()> {
        if !self.is_quiet {
            let Some(seq) = self.version.seq.checked_sub(KEPT) else {
                return Ok(());
            };
            let past = Version {
                seq,
                ..self.version
            };
            return self.dir.remove(&past.name());
        }
        for name in self.dir.list("")? {
            if number_of(&name).is_some_and(|seq| seq < self.version.seq) {
                self.dir.remove(&name)?;
            }
        }
        Ok(())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // If this fails, the others see it and break the lock.
        match self.status {
            CommitStatus::Unknown => {}
            CommitStatus::NotBegun => drop(self.dir.remove(&self.version.name())),
            CommitStatus::InForce => {
                let _ = self.mark.write_at(GIVEN_BACK.as_bytes(), self.written);
                let _ = self.mark.sync();
                let _ = self.sweep();
            }
        }
    }
}

/// The contents of a name: which process holds it, or held it.
pub(super) struct HolderNote {
    /// When it was taken and by whom; empty when its holder has not written it yet.
    pub(super) word: String,
    is_given_back: bool,
}

impl HolderNote {
    /// `None` when there is no such name.
    fn read(dir: &Arc<dyn Dir>, version: Version) -> Result<Option<Self>> {
        let name = version.name();
        let text = retry_stale(|| {
            let mark = dir.open(&name, Open::Read).if_found("read", &name)?;
            mark.map(|mark| read_from(&*mark, 0).context("read", &name))
                .transpose()
        })?;
        let Some(text) = text else { return Ok(None) };
        let text = String::from_utf8(text).unwrap_or_default();
        let word = text.strip_suffix(GIVEN_BACK);
        Ok(Some(Self {
            is_given_back: word.is_some(),
            word: word.unwrap_or(&text).to_owned(),
        }))
    }

    /// Who keeps others from changing this state: the one that made it, until it has
    /// done with it, or else the one that is about to change it. `None` when no process does,
    /// or the state is one of the past.
    pub(super) fn of_holder(dir: &Arc<dyn Dir>, version: Version) -> Result<Option<Self>> {
        for version in [version, version.next()] {
            let mark = Self::read(dir, version)?.filter(|mark| !mark.is_given_back);
            if mark.is_some() {
                return Ok(mark);
            }
        }
        Ok(None)
    }
}

/// Tries to take the lock; the lock file, opened to be written, and the name.
pub(super) fn take(
    dir: &Arc<dyn Dir>,
    owner: &str,
    waiting: &dyn Waiting,
) -> Result<Option<(Box<dyn File>, Name)>> {
    let began = waiting.now();
    let version = Version::of_state(state::peek(dir)?);
    let maker = HolderNote::read(dir, version)?;
    if maker.as_ref().is_some_and(|mark| !mark.is_given_back) {
        // The holder that committed this state has not released the lock.
        return Ok(None);
    }
    let next = version.next();
    let mark = match dir.open(&next.name(), Open::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        mark => mark.context("create", &next.name())?,
    };
    let word = format!("{} by {owner}", waiting.micros());
    let mut name = Name {
        dir: dir.clone(),
        version: next,
        mark,
        written: word.len() as u64,
        status: CommitStatus::NotBegun,
        is_quiet: false,
    };
    let written = name.mark.write_at(word.as_bytes(), 0);
    let written = written.and_then(|()| name.mark.sync());
    let file = match written.context("write", &next.name()) {
        Ok(()) => open_if_it_is(dir, version, maker.is_some()),
        Err(error) => Err(error),
    };
    if waiting.now().saturating_sub(began) >= NAMELESS / 2 {
        // Others may be about to break it: they must not do it while the next holder has
        // the name. Where they cannot be kept from it, the name stays for them.
        let closed = file.map(drop);
        disarm(dir, "").inspect_err(|_| name.begins())?;
        return closed.map(|()| None);
    }
    Ok(file?.map(|file| (file, name)))
}

/// The lock file, if the current state is still that of `version`. Having created a name in the
/// folder, this node knows the folder's other names as they are now.
fn open_if_it_is(
    dir: &Arc<dyn Dir>,
    version: Version,
    is_given_back: bool,
) -> Result<Option<Box<dyn File>>> {
    // It is read before it is opened for writing: should we be wrong, we must not keep
    // others of this node from seeing what the right one writes.
    if !is_given_back && HolderNote::read(dir, version)?.is_some_and(|mark| !mark.is_given_back) {
        return Ok(None);
    }
    if Version::of_state(state::peek(dir)?) != version {
        return Ok(None);
    }
    // The server has it so; this node may still remember parts of another time.
    let is_it = |file: &dyn File| Version::of(file).is_ok_and(|seen| seen == version);
    let lock = dir.open(LOCK, Open::Read).if_found("open", LOCK)?;
    if lock.is_some_and(|lock| !is_it(&*lock)) {
        return Ok(None);
    }
    let file = dir.open(LOCK, Open::Create).context("open", LOCK)?;
    Ok(is_it(&*file).then_some(file))
}

/// The number of the transaction that a name belongs to.
fn number_of(name: &str) -> Option<u64> {
    let rest = name.strip_prefix(LOCK)?.strip_prefix(".held.")?;
    rest.split('.').next()?.parse().ok()
}

/// Whether a name belongs to a transaction that is far past, `seq` being the number of the
/// current state.
pub fn is_past(name: &str, seq: u64) -> bool {
    number_of(name).is_some_and(|at| at.saturating_add(KEPT) <= seq)
}
