//! A transaction from its beginning to its commit.

use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{NEW, NewFile};
use crate::workdir::fs::{Dir, File, Open, Workdir};
use crate::workdir::layout::{
    ALWAYS, BLOCKED, DONE, LOCK, LOGS, ORDERS, RELEASED, RESET, is_shared,
};
use crate::workdir::liveness::Waiting;
use crate::workdir::lock::{self, Held, acquire};
use crate::workdir::state::{self, Act, FORMAT, PLAIN, Rename, State};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often a process checks whether a state is committed, ten times per second.
const UNSURE: u32 = 100;

/// A transaction that is not committed; dropped without [`Txn::commit`], nothing has changed.
pub struct Txn<'a> {
    pub(super) dir: &'a Arc<dyn Dir>,
    pub(super) waiting: &'a mut dyn Waiting,
    pub(super) state: State,
    /// New files, and the files that they replace when the transaction is committed.
    /// From then on the transaction reads and writes them instead. Dropped, they
    /// are removed: before the lock is given back, since the next one to hold it
    /// uses the same names.
    pub(super) replacing: Vec<(String, NewFile)>,
    pub(super) held: Held,
    /// Files that were only read. They are closed after the lock is released, so the field
    /// comes after it. No file may stay open for writing: NFS would not show us what others
    /// write to it.
    pub(super) done: Vec<Box<dyn File>>,
    /// How many new files were created.
    pub(super) n_new: std::cell::Cell<u32>,
    /// Whether the log is restarted with this transaction.
    pub(super) is_log_new: bool,
}

impl<'a> Txn<'a> {
    /// Takes the lock and reads the state. A workdir that is not prepared
    /// has the state number 0.
    pub fn begin(workdir: &'a Workdir, who: &str, waiting: &'a mut dyn Waiting) -> Result<Self> {
        let held = acquire(workdir, who, waiting)?;
        let state = state::read_locked(&*held.file)?;
        let state = state.unwrap_or_else(|| State::new(workdir.mechanism));
        if state.format < PLAIN {
            return Err(Error::Older {
                found: state.format,
                live: state.live,
            });
        }
        if state.mechanism != workdir.mechanism {
            return Err(Error::OtherMechanism {
                known: state.mechanism,
                wished: workdir.mechanism,
            });
        }
        let mut txn = Self {
            dir: &workdir.dir,
            held,
            waiting,
            state,
            replacing: Vec::new(),
            done: Vec::new(),
            n_new: std::cell::Cell::new(0),
            is_log_new: false,
        };
        if let Some(what) = txn.state.contradiction() {
            return Err(txn.damaged(LOCK, what));
        }
        // Their process may have died before it renamed them. The current state may name them
        // long after that, so no name is used twice.
        let left_over = std::mem::take(&mut txn.state.renames);
        txn.rename_all(&left_over)?;
        if txn.state.renewed != txn.state.breaks {
            txn.renew()?;
        }
        Ok(txn)
    }

    /// Rewrites all shared files: the old holder of a lock that was broken may still have them
    /// open, and come back.
    fn renew(&mut self) -> Result<()> {
        // The lock file itself, in case the process that replaced it died meanwhile.
        self.dir.sync_names().context("sync", "the workdir")?;
        if self.state.seq > 0 {
            // Also one of which nothing is known yet: the old holder may have made it.
            let known = self.state.shared_files();
            let names = ALWAYS.into_iter().chain([ORDERS, BLOCKED, RELEASED]);
            let names = names.map(str::to_owned).chain(known);
            for name in names.collect::<BTreeSet<_>>() {
                self.copy(&name)?;
            }
        }
        self.state.renewed = self.state.breaks;
        Ok(())
    }

    /// The state as it will be.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state as it will be, to change it.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The time, by the clock of `Waiting`.
    pub fn now(&self) -> Duration {
        self.waiting.now()
    }

    /// The time in microseconds since 1970.
    pub fn micros(&self) -> u64 {
        self.waiting.micros()
    }

    /// Ends what still runs of the tasks of a farmer of our node that is being fenced.
    pub fn end_tasks(&mut self, farmer: &str) {
        self.waiting.end_tasks(farmer);
    }

    /// The directory.
    pub fn dir(&self) -> &'a Arc<dyn Dir> {
        self.dir
    }

    /// Removes what dead processes left half-written: allowed when no farmer is
    /// alive.
    pub fn sweep(&self) -> Result<()> {
        let names = self.dir.list("").context("list", "the workdir")?;
        // Checked after the listing, so it has no files of farmers that joined after we lost
        // the lock.
        self.may_write()?;
        let known = self.state.shared_files();
        for name in names {
            let is_ours = self.replacing.iter().any(|(_, new)| new.name() == name);
            let is_kept = self.is_log_new && state::segment_of(&name).is_some();
            let is_past = is_kept || lock::is_past(&name, self.state.seq);
            // A queue of a class that there is no more, and the like.
            let is_unused = is_shared(&name) && !known.contains(&name) && name != ORDERS;
            if name.ends_with(NEW) && !is_ours || is_past || is_unused {
                self.dir.remove(&name).context("remove", &name)?;
            }
        }
        Ok(())
    }

    /// Commits the transaction.
    pub fn commit(mut self, act: Act) -> Result<State> {
        for (to, new) in std::mem::take(&mut self.replacing) {
            let rename = Rename {
                from: new.complete()?,
                to,
            };
            self.state.renames.push(rename);
        }
        let checkpoint = self.checkpoint()?;
        if self.state.seq == 0 || !self.state.renames.is_empty() {
            // The files that the state names must keep their names through a power cut.
            self.dir.sync_names().context("sync", "the workdir")?;
        }
        self.may_write()?;
        self.state.seq += 1;
        self.state.format = if self.state.attributes { FORMAT } else { PLAIN };
        self.held.begins();
        let written = {
            let at = self.waiting.micros();
            state::write(&*self.held.file, &mut self.state, at, act, checkpoint)
        };
        if written.is_err() || self.may_write().is_err() {
            self.is_in_force(written).inspect_err(|error| {
                if is_refused(error) {
                    self.held.ends(false, false);
                }
            })?;
        }
        self.held.ends(true, self.state.live == 0);
        let renames = std::mem::take(&mut self.state.renames);
        if !renames.is_empty() {
            // An open file that is replaced would stay, under a name of NFS's own.
            self.done.clear();
        }
        // The transaction is committed. If a rename fails here, the next transaction makes it
        // before anything else.
        let _ = self.rename_all(&renames);
        Ok(self.state.clone())
    }

    /// Finds whether the state that was written is committed, although the write failed or took
    /// so long that the lock may have been broken: what others will read decides. Where that
    /// cannot be known this farmer counts as fenced; others find what it did in its journal and
    /// in the log.
    fn is_in_force(&mut self, written: Result<()>) -> Result<()> {
        for _ in 0..UNSURE {
            // What this node remembers holds what the server has refused.
            let seen = self.dir.open(LOCK, Open::Fresh).context("open", LOCK);
            match seen.and_then(|file| state::read(&*file)) {
                Ok(Some(state)) if state == self.state => {
                    // Seen is not durable, and what follows rests on it.
                    let held = &*self.held.file;
                    if written.is_ok() || state::write_again(held, &state).is_ok() {
                        return Ok(());
                    }
                }
                Ok(Some(state)) if state.seq >= self.state.seq => return Err(Error::Fenced),
                Ok(_) => {
                    return written
                        .and_then(|()| self.may_write())
                        .and(Err(Error::Fenced));
                }
                Err(_) => {}
            }
            if !self.waiting.pause(Duration::from_millis(100)) {
                break;
            }
        }
        Err(Error::Fenced)
    }

    fn rename_all(&self, renames: &[Rename]) -> Result<()> {
        if renames.is_empty() {
            return Ok(());
        }
        for Rename { from, to } in renames {
            if to.starts_with(RESET) {
                self.move_away(from, to)?;
                continue;
            }
            // It may be renamed already: by a process that died since, or, under locks
            // by name, by the process whose committed state we have just seen.
            self.dir.rename(from, to).if_found("rename", from)?;
        }
        self.dir.sync_names().context("sync", "the workdir")
    }

    /// Moves what there was before a reset, unless that is done: what bears the old name then
    /// is new. A farmer that is about to join expects its folders.
    fn move_away(&self, from: &str, to: &str) -> Result<()> {
        if self.dir.inode(to).context("look at", to)?.is_none() {
            self.dir.rename(from, to).if_found("rename", from)?;
            for name in [from, to] {
                let folder = name.rsplit_once('/').map_or(".", |(folder, _)| folder);
                self.dir.sync_names_in(folder).context("sync", folder)?;
            }
        }
        if [DONE, LOGS].contains(&from) {
            self.dir.make_dir(from).context("create", from)?;
        }
        Ok(())
    }
}

/// Whether a write was refused for good: nothing of it will arrive later.
fn is_refused(error: &Error) -> bool {
    let Error::Io { source, .. } = error else {
        return false;
    };
    matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        // Others may be about to break the lock: they must see that it is released.
        let _ = self.may_write();
    }
}
