//! Rewriting the files of a workdir.
//!
//! Guarantee: the new `lock` takes its place last, so a repair that was interrupted is run
//! again.

use super::evidence::{Findings, LastAttempt};
use std::io::ErrorKind;
use std::sync::Arc;

use crate::model::outcome::Destination;
use crate::workdir::error::{Context, Result};
use crate::workdir::files::NewFile;
use crate::workdir::fs::{Dir, File, NotAFile, Open, Workdir, is_no_folder};
use crate::workdir::layout::{FAILED, FINISHED, LOCK, ORDERS, REQUEUED, TASKS, TOPROCESS};
use crate::workdir::mechanism::Mechanism;
use crate::workdir::membership;
use crate::workdir::state::{self, Act, Log, Queue, State};
use crate::workdir::transaction::{RequeueReason, has_attributes, note};

/// What a repair made of a workdir.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Tasks in `finished`.
    pub finished: u64,
    /// Tasks in `failed`.
    pub failed: u64,
    /// Tasks in `toprocess`.
    pub left: u64,
    /// Lines in any file that were not to be used.
    pub unusable: u64,
    /// The folder in the workdir that holds the files as they were.
    pub kept: String,
}

impl Findings {
    /// Writes the files that follow from it, and the state last of all.
    pub(super) fn write(&self, workdir: &Workdir, lock: &dyn File) -> Result<Repaired> {
        let dir = &workdir.dir;
        let new = |name: &str| NewFile::create(dir, &format!("{name}.repair.new"));
        let (mut tasks, mut requeued) = (new(TASKS)?, new(REQUEUED)?);
        let [mut finished, mut failed, mut left] = [new(FINISHED)?, new(FAILED)?, new(TOPROCESS)?];
        let (mut dropped, mut cancelled) = (0, 0);
        for (&id, line) in &self.lines {
            tasks.write_task(id, line).context("write", TASKS)?;
            let fate = self.fates.get(&id).copied();
            let is_over =
                |fate: LastAttempt| fate.is(Destination::Finished) || fate.is(Destination::Failed);
            if self.dropped.contains(&id) && !fate.is_some_and(is_over) {
                let next = fate.map_or(1, |fate| fate.attempt + 1);
                let note = note(id, next, RequeueReason::Dropped);
                requeued.write(&note).context("write", REQUEUED)?;
                dropped += 1;
                continue;
            }
            let (file, next) = match fate {
                Some(fate) if fate.is(Destination::Finished) => (&mut finished, fate.attempt),
                Some(fate) if fate.is(Destination::Failed) => {
                    cancelled += u64::from(self.is_cancelled(id, fate));
                    (&mut failed, fate.attempt)
                }
                fate => (&mut left, fate.map_or(1, |fate| fate.attempt + 1)),
            };
            file.write_task(id, line).context("write", "a list")?;
            if next > 1 {
                let note = format!("{id} {next} repair\n");
                requeued.write(note.as_bytes()).context("write", REQUEUED)?;
            }
        }
        let mut state = self.state(lock, workdir.mechanism);
        (state.dropped, state.cancelled) = (dropped, cancelled);
        (state.tasks, state.requeued) = (tasks.committed(), requeued.committed());
        (state.finished, state.failed) = (finished.committed(), failed.committed());
        let has_any = self.lines.values().any(|line| has_attributes(line));
        state.attributes = has_any;
        let generation = state.queue().generation + 1;
        state.set_queue(Queue::unclaimed(left.committed(), left.head(), generation));
        for (name, file) in [
            (TASKS, tasks),
            (REQUEUED, requeued),
            (FINISHED, finished),
            (FAILED, failed),
            (TOPROCESS, left),
        ] {
            put(dir, &file.complete()?, name)?;
        }
        let has_orders = dir.inode(ORDERS).context("look at", ORDERS)?.is_some();
        if let Some(lines) = self.orders()
            && (has_orders || !lines.is_empty())
        {
            let mut orders = new(ORDERS)?;
            orders.write(&lines).context("write", ORDERS)?;
            state.orders = orders.committed();
            put(dir, &orders.complete()?, ORDERS)?;
        }
        for farmer in membership::present(dir)? {
            membership::retire(dir, &farmer, state.seq)?;
        }
        write_state(dir, &mut state)?;
        Ok(Repaired {
            finished: state.finished.lines,
            failed: state.failed.lines,
            left: state.left(),
            unusable: self.unusable,
            kept: String::new(),
        })
    }

    /// A state without members, later than all that is known.
    fn state(&self, lock: &dyn File, fallback: Mechanism) -> State {
        let old = state::read(lock).ok().flatten();
        let old = old.unwrap_or_else(|| State::new(fallback));
        let seq = old.seq.max(self.seq) + 1000;
        State {
            seq,
            log: Log {
                // No segment had this number: a farmer that comes back sees that it is fenced.
                segment: seq,
                ..Log::default()
            },
            next_farmer: old.next_farmer,
            seals: old.seals,
            breaks: old.breaks + 1,
            renewed: old.breaks + 1,
            // The first farmer that joins deals the tasks to their classes again.
            queues: old.queues.into_iter().take(1).collect(),
            dealt: old.dealt,
            folder: old.folder,
            orders: old.orders,
            paused: old.paused,
            stopped: old.stopped,
            ..State::new(old.mechanism)
        }
    }
}

fn write_state(dir: &Arc<dyn Dir>, state: &mut State) -> Result<()> {
    let name = format!("{LOCK}.repair.new");
    dir.remove(&name).context("remove", &name)?;
    let file = dir.open(&name, Open::CreateNew).context("create", &name)?;
    state::write_new(&*file, state, 0, Act::Prepare)?;
    drop(file);
    for stale in dir.list("").context("list", "the workdir")? {
        if stale.starts_with("lock.held.") || stale.starts_with("lock.next.") {
            dir.remove(&stale).context("remove", &stale)?;
        }
    }
    put(dir, &name, LOCK)
}

/// Lets a file take its place.
fn put(dir: &Arc<dyn Dir>, from: &str, to: &str) -> Result<()> {
    move_away_if_no_file(dir, to)?;
    dir.rename(from, to).context("rename", from)?;
    dir.sync_names().context("sync", "the workdir")
}

/// Renames what is not a file but has a file's name, such as a folder.
pub(super) fn move_away_if_no_file(dir: &Arc<dyn Dir>, name: &str) -> Result<()> {
    match dir.open(name, Open::Read) {
        Err(error) if NotAFile::of(&error).is_some() => move_away(dir, name),
        _ => Ok(()),
    }
}

/// Gives what bears this name another one, in the workdir itself.
fn move_away(dir: &Arc<dyn Dir>, name: &str) -> Result<()> {
    let taken = dir.list("").context("list", "the workdir")?;
    let base = name.rsplit('/').next().unwrap_or(name);
    let was = (1..).map(|n| format!("{base}.was-{n}"));
    let was = was.into_iter().find(|was| !taken.contains(was));
    let was = was.unwrap_or_default();
    dir.rename(name, &was).context("move away", name)
}

/// Makes a folder where there is none; anything else of that name is renamed.
pub(super) fn make_folder(dir: &Arc<dyn Dir>, name: &str) -> Result<()> {
    match dir.list(name) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if is_no_folder(&error) => move_away(dir, name)?,
        Err(error) => return Err(error).context("list", name),
    }
    dir.make_dir(name).context("create", name)
}
