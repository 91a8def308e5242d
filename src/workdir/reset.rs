//! Resets a run: its tasks wait as if they had never run, and what there was of the run is kept
//! in a folder of the workdir.
//!
//! Guarantee: it is one transaction, committed after the files have been copied into the
//! folder. Journals, logs and the like are moved there by its commit record, as new files
//! are: a process that dies meanwhile leaves that to the next transaction. Nothing is deleted.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::ids::Ids;
use crate::model::task::{TaskId, parse_line};
use crate::workdir::cancel::Cancels;
use crate::workdir::copies::{copy_into, last};
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::NewFile;
use crate::workdir::fs::{Dir, Open, Workdir};
use crate::workdir::layout::{
    DONE, FAILED, FINISHED, LOCK, LOGS, NODES, ORDERS, REQUEUED, RESET, RESULTS, SCRIPTS, TASKS,
    TOPROCESS,
};
use crate::workdir::liveness::{self, Waiting};
use crate::workdir::membership;
use crate::workdir::recovery::{self, Fencer, Suspect};
use crate::workdir::repair::check_nobody_works;
use crate::workdir::state::{self, Act, Rename};
use crate::workdir::transaction::{Attempts, RequeueReason, Txn, note, parse_note};

/// What a reset has made of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reset {
    /// The folder in the workdir that has what there was.
    pub kept: String,
    /// How many tasks wait.
    pub left: u64,
    /// How many of an id below the first one are still finished or failed.
    pub ended: u64,
}

/// Where a task is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Waits,
    Ended,
}

/// The files that are written anew.
struct NewFiles {
    left: NewFile,
    finished: NewFile,
    failed: NewFile,
    requeued: NewFile,
    orders: NewFile,
    /// How many of those in `failed` were cancelled.
    cancelled: u64,
}

/// Resets the tasks from the id `from` on. Refused while a farmer is alive, and when the
/// workdir is damaged.
pub fn reset(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn Waiting,
    from: TaskId,
) -> Result<Reset> {
    let dir = &workdir.dir;
    let dead = {
        let lock = dir.open(LOCK, Open::Create).context("open", LOCK)?;
        check_nobody_works(workdir, &*lock, waiting)?
    };
    fence_dead(workdir, who, waiting, &dead)?;
    membership::check_age(dir)?;
    let mut txn = Txn::begin(workdir, who, waiting)?;
    let known = txn.state().tasks.lines;
    if txn.state().live > 0 {
        let by = "a process that has just started".into();
        return Err(Error::InUse { by });
    }
    if from.0 >= known {
        return Err(Error::Refused(match known.checked_sub(1) {
            None => "the run has no tasks: there is nothing to reset".into(),
            Some(last) => format!("there is no task {from}: the run has the tasks 0-{last}"),
        }));
    }
    txn.cut_tails()?;
    txn.check_sums()?;
    txn.gather_all()?;
    let files = NewFiles::write(&mut txn, from)?;
    let kept = keep(dir, txn.state().seq)?;
    let moves = moves(dir, &kept, from)?;
    let reset = files.replace(&mut txn, kept)?;
    txn.restart_log();
    txn.state_mut().renames = moves;
    txn.commit(Act::Reset { from })?;
    Ok(reset)
}

/// Fences these farmers, which are dead, and those without a journal. One that has started since
/// they were judged is left alone: it may have been silent for only a moment.
fn fence_dead(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn Waiting,
    dead: &[String],
) -> Result<()> {
    let dir = &workdir.dir;
    let present = membership::present(dir)?;
    let without = membership::without_journal(dir, &present)?;
    for farmer in dead {
        let Some((seen, _)) = liveness::judge(workdir, farmer, waiting)? else {
            // It has left meanwhile.
            continue;
        };
        let journal = Some(&seen);
        let suspect = Suspect { farmer, journal };
        if recovery::fence(workdir, Fencer::Outsider(who), waiting, suspect)?.is_none() {
            let by = format!("farmer {farmer}");
            return Err(Error::InUse { by });
        }
    }
    for farmer in &without {
        let journal = None;
        let suspect = Suspect { farmer, journal };
        recovery::fence(workdir, Fencer::Outsider(who), waiting, suspect)?;
    }
    Ok(())
}

impl NewFiles {
    /// Writes what the files hold after the reset.
    fn write(txn: &mut Txn<'_>, from: TaskId) -> Result<Self> {
        let places = places(txn)?;
        let mut new = Self {
            left: txn.new_file(TOPROCESS)?,
            finished: txn.new_file(FINISHED)?,
            failed: txn.new_file(FAILED)?,
            requeued: txn.new_file(REQUEUED)?,
            orders: txn.new_file(ORDERS)?,
            cancelled: 0,
        };
        let (mut attempts, mut cancels) = (Attempts::default(), Cancels::default());
        txn.refresh(&mut attempts)?;
        cancels.refresh(txn)?;
        let place = |id: TaskId| {
            let at = usize::try_from(id.0).unwrap_or(usize::MAX);
            places.get(at).copied().unwrap_or(Place::Nowhere)
        };
        let mut result = Ok(());
        let mut write = |file: &mut NewFile, line: &[u8]| {
            if result.is_ok() {
                result = file.write(&[line, b"\n"].concat());
            }
        };
        for (name, file) in [(FINISHED, &mut new.finished), (FAILED, &mut new.failed)] {
            txn.each_line(name, |line| {
                let id = parse_line(line).map(|(id, _)| id);
                if let Some(id) = id.filter(|id| *id < from) {
                    let is_cancelled = name == FAILED && cancels.contains(id, attempts.of(id));
                    new.cancelled += u64::from(is_cancelled);
                    write(file, line);
                }
            })?;
        }
        txn.each_line(REQUEUED, |line| {
            if parse_note(line).is_some_and(|(id, ..)| id < from) {
                write(&mut new.requeued, line);
            }
        })?;
        txn.each_line(TASKS, |line| {
            let Some((id, _)) = parse_line(line) else {
                return;
            };
            match place(id) {
                Place::Ended | Place::Nowhere if id < from => {}
                // Its line is not in the list any more.
                Place::Nowhere => {
                    let note = note(id, 1, RequeueReason::Dropped);
                    write(&mut new.requeued, note.trim_ascii_end());
                }
                Place::Waits | Place::Ended => write(&mut new.left, line),
            }
        })?;
        if !txn.state().orders.is_empty() {
            txn.each_line(ORDERS, |line| {
                if let Some(line) = order_for(line, from) {
                    write(&mut new.orders, &line);
                }
            })?;
        }
        result.context("write", "the new files")?;
        Ok(new)
    }

    /// Lets them take the place of the old ones with the transaction.
    fn replace(self, txn: &mut Txn<'_>, kept: String) -> Result<Reset> {
        let Self {
            left,
            finished,
            failed,
            requeued,
            orders,
            cancelled,
        } = self;
        let state = txn.state_mut();
        let had_orders = !state.orders.is_empty();
        (state.finished, state.failed) = (finished.committed(), failed.committed());
        (state.requeued, state.orders) = (requeued.committed(), orders.committed());
        state.cancelled = cancelled;
        (state.paused, state.stopped, state.interrupted) = (false, false, 0);
        txn.replace_queue(left)?;
        let state = txn.state();
        if let Some(what) = state.contradiction() {
            return Err(txn.damaged(LOCK, what));
        }
        let reset = Reset {
            kept,
            left: state.left(),
            ended: state.finished.lines + state.failed.lines,
        };
        txn.replace(FINISHED, finished)?;
        txn.replace(FAILED, failed)?;
        txn.replace(REQUEUED, requeued)?;
        if had_orders {
            txn.replace(ORDERS, orders)?;
        }
        Ok(reset)
    }
}

/// Where each task is, by its id.
fn places(txn: &mut Txn<'_>) -> Result<Vec<Place>> {
    let known = usize::try_from(txn.state().tasks.lines).unwrap_or(usize::MAX);
    let mut places = vec![Place::Nowhere; known];
    let cursor = txn.state().queue().cursor;
    for (name, begin, place) in [
        (FINISHED, 0, Place::Ended),
        (FAILED, 0, Place::Ended),
        (TOPROCESS, cursor, Place::Waits),
    ] {
        txn.each_line_from(begin, name, |line| {
            let id = parse_line(line).and_then(|(id, _)| usize::try_from(id.0).ok());
            if let Some(known) = id.and_then(|id| places.get_mut(id)) {
                *known = place;
            }
        })?;
    }
    Ok(places)
}

/// What of an order still says something about the run: which tasks are not of the list, and
/// which of those that stay as they are were cancelled.
fn order_for(line: &[u8], from: TaskId) -> Option<Vec<u8>> {
    let mut order: Map<String, Value> = serde_json::from_slice(line).ok()?;
    match order.get("do")?.as_str()? {
        "add" => Some(line.to_vec()),
        "cancel" => {
            let ids: Ids = order.get("ids")?.as_str()?.parse().ok()?;
            let before: Ids = ids.iter().filter(|id| *id < from).collect();
            if before.is_empty() {
                return None;
            }
            order.insert("ids".into(), before.to_string().into());
            serde_json::to_vec(&order).ok()
        }
        _ => None,
    }
}

/// Copies the files into a new folder, or into that of a reset that was interrupted before its
/// commit.
fn keep(dir: &Arc<dyn Dir>, seq: u64) -> Result<String> {
    let last = last(dir, RESET)?;
    let unused = format!("{RESET}{last}");
    let is_unused = last > 0 && {
        let lock = dir.open(&format!("{unused}/{LOCK}"), Open::Read);
        let lock = lock.if_found("open", &unused)?;
        match lock.and_then(|lock| state::read(&*lock).ok()?) {
            // Without journals it is the beginning of a copy.
            None => dir.list(&format!("{unused}/{DONE}")).is_err(),
            Some(state) => state.seq == seq,
        }
    };
    let folder = if is_unused {
        unused
    } else {
        format!("{RESET}{}", last + 1)
    };
    copy_into(dir, &folder)?;
    Ok(folder)
}

/// What is moved into the folder when the transaction is committed.
fn moves(dir: &Arc<dyn Dir>, kept: &str, from: TaskId) -> Result<Vec<Rename>> {
    let nodes = format!("{kept}/{NODES}");
    dir.make_dir(&nodes).context("create", &nodes)?;
    dir.sync_names_in(kept).context("sync", kept)?;
    let names = dir.list("").context("list", "the workdir")?;
    let is_of_run = |name: &String| {
        [LOGS, SCRIPTS, "report.html"].contains(&&**name)
            || name.starts_with("timeline.")
            // Tasks that stay finished keep their results, beside which others have a new name.
            || (name == RESULTS && from.0 == 0)
            || state::segment_of(name).is_some()
    };
    let names = names.into_iter().filter(is_of_run);
    let moved = [DONE.to_owned()].into_iter().chain(names).map(|from| {
        let to = format!("{kept}/{from}");
        Rename { from, to }
    });
    Ok(moved.collect())
}
