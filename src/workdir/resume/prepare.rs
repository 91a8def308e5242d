//! Preparing a workdir: under the lock, by one process, however many try at once.

use super::changed::{EditPolicy, ListChanges, matched};
use super::import::import;
use crate::workdir::state::{Act, Queue, peek};
use std::sync::Arc;

use super::list::{ListFailure, ListFile};
use crate::model::task::{TaskId, push_line};
use crate::model::tasklist::Remarks;
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::fs::{Dir, Open, Workdir};
use crate::workdir::layout::{self, FAILED, FINISHED, LOCK, REQUEUED, TASKS, TOPROCESS};
use crate::workdir::liveness::Waiting;
use crate::workdir::transaction::{Txn, has_attributes};
use crate::workdir::{journal, membership};

/// What preparing found.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Whether the workdir was new.
    pub is_new: bool,
    /// Tasks that PyTaskFarmer had left, when it made the workdir.
    pub imported: bool,
    /// What people should know about the list; only when it was read.
    pub remarks: Option<Remarks>,
    /// How a changed list differs.
    pub changed: Option<ListChanges>,
}

/// What a workdir is prepared for.
#[derive(Clone, Copy)]
pub struct ListSource<'a> {
    /// The list.
    pub list: &'a ListFile,
    /// The folder in which this process was started: a new workdir records it.
    pub folder: Option<&'a str>,
    /// The runner of this process, unless it is the default one: so does a new workdir.
    pub runner: Option<&'a str>,
    /// Which changes of the list are accepted.
    pub edits: EditPolicy,
}

/// Makes the workdir ready for a list; several processes may try at once, one does it.
pub fn prepare(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn Waiting,
    source: ListSource<'_>,
) -> Result<Prepared, ListFailure> {
    source
        .list
        .reading(|| prepare_once(workdir, who, waiting, source))
}

fn prepare_once(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn Waiting,
    source: ListSource<'_>,
) -> Result<Prepared, ListFailure> {
    let ListSource {
        list,
        folder,
        runner,
        edits,
    } = source;
    // Read without the lock: most processes find everything done. What cannot be understood is
    // judged under the lock.
    let seen = peek(&workdir.dir).ok().flatten();
    if seen.is_some_and(|state| state.list.as_ref() == Some(&list.identity)) {
        return Ok(Prepared::default());
    }
    list.load()?;
    let mut txn = Txn::begin(workdir, who, waiting)?;
    if txn.state().list.as_ref() == Some(&list.identity) {
        return Ok(Prepared::default());
    }
    let mut prepared = Prepared {
        is_new: txn.state().seq == 0,
        ..Prepared::default()
    };
    if prepared.is_new {
        check_never_used(&workdir.dir).map_err(|error| txn.verdict(error))?;
        let imported = import(&mut txn, list);
        prepared.imported = imported.map_err(|error| txn.verdict(error))?;
    }
    txn.state_mut().list = Some(list.identity.clone());
    if prepared.is_new {
        txn.state_mut().folder = folder.map(str::to_owned);
    }
    // Tasks may have been added before the first process was started.
    if txn.state().began == 0 {
        txn.state_mut().runner = runner.map(str::to_owned);
    }
    let mut act = Act::Prepare;
    if prepared.is_new && !prepared.imported {
        prepared.remarks = Some(fresh(&mut txn, list)?);
    } else {
        let matched = matched(&mut txn, list, edits);
        let matched = matched.map_err(|error| txn.verdict(error))?;
        (prepared.remarks, prepared.changed) = (Some(matched.remarks), matched.changed);
        act = matched.act;
    }
    txn.commit(act)?;
    Ok(prepared)
}

/// A workdir without a state has had no results, or it has lost its state.
fn check_never_used(dir: &Arc<dyn Dir>) -> Result<()> {
    let living = membership::present(dir)?;
    let living = living.iter().map(|farmer| layout::journal(farmer));
    let over = membership::departed(dir)?
        .into_iter()
        .map(|over| over.journal);
    for name in living.chain(over) {
        let journal = dir.open(&name, Open::Read).context("open", &name)?;
        if !journal::ends(&*journal).context("read", &name)?.is_empty() {
            let what = format!(
                "it is missing or empty, as PyTaskFarmer leaves it, but {name} holds results"
            );
            return Err(Error::damaged(LOCK, what));
        }
    }
    Ok(())
}

/// Makes the workdir ready for tasks that are of no list: they come from a stream, or are
/// added. `folder` and `runner` as for a list.
pub fn prepare_stream(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn Waiting,
    folder: Option<&str>,
    runner: Option<&str>,
) -> Result<Prepared> {
    let mut txn = Txn::begin(workdir, who, waiting)?;
    if txn.state().seq > 0 {
        if txn.state().began == 0 && runner.is_some() {
            txn.state_mut().runner = runner.map(str::to_owned);
            txn.commit(Act::Prepare)?;
        }
        return Ok(Prepared::default());
    }
    check_never_used(&workdir.dir).map_err(|error| txn.verdict(error))?;
    for name in [TASKS, TOPROCESS, FINISHED, FAILED, REQUEUED] {
        let file = txn.current(name)?;
        if file.len().context("look at", name)? > 0 {
            let what = "the workdir was made by PyTaskFarmer: give its task list as a file";
            return Err(txn.verdict(Error::Refused(what.into())));
        }
    }
    txn.state_mut().folder = folder.map(str::to_owned);
    txn.state_mut().runner = runner.map(str::to_owned);
    txn.commit(Act::Prepare)?;
    Ok(Prepared {
        is_new: true,
        ..Prepared::default()
    })
}

/// Writes `tasks` and `toprocess` for the first time.
fn fresh(txn: &mut Txn<'_>, list: &ListFile) -> Result<Remarks, ListFailure> {
    let mut tasks = txn.new_file(TASKS)?;
    let mut queue = txn.new_file(TOPROCESS)?;
    let (mut next, mut has_any, mut text) = (0, false, Vec::new());
    let remarks = list.each(|line| {
        text.clear();
        push_line(&mut text, TaskId(next), line);
        tasks.write(&text).context("write", TASKS)?;
        queue.write(&text).context("write", TOPROCESS)?;
        has_any = has_any || has_attributes(line);
        next += 1;
        Ok(())
    })?;
    for name in [FINISHED, FAILED, REQUEUED] {
        txn.current(name)?;
    }
    let known = tasks.committed();
    txn.state_mut().tasks = known;
    txn.state_mut().attributes = has_any;
    txn.state_mut()
        .set_queue(Queue::unclaimed(queue.committed(), queue.head(), 1));
    txn.replace(TASKS, tasks)?;
    txn.replace(TOPROCESS, queue)?;
    Ok(remarks)
}
