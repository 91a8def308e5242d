//! Which of the processes that a launcher started together sums up the run.
//!
//! The processes of a job share one output, where one summary is enough. So the last process of
//! a job to leave sums up: it knows how all have ended, and there is a last one even when some
//! were killed. Guarantee: the order of transactions decides which one was last, so only one of
//! the processes that leave cleanly sums up.

use std::time::Duration;

use crate::model::allocation::Allocation;
use crate::model::farmer::Cause;
use crate::model::liveness::seems_dead;
use crate::workdir::error::Result;
use crate::workdir::liveness::own_node::Here;
use crate::workdir::liveness::{self, Watcher};
use crate::workdir::membership::{self, Membership, has_departed_by_name};
use crate::workdir::open::Workdir;
use crate::workdir::state::State;

use super::shared::Farm;
use super::supervisor::FarmerEnd;

/// With more other processes of its job than this, a process does not check whether it was
/// the last one: so many do not die unnoticed, and the check reads the transaction log.
pub(super) const FEW: usize = 16;

/// What a process reports at its end.
pub(super) enum SummaryScope {
    /// The run, and its own part in it.
    Farmer,
    /// The run, for all processes of its job.
    Job(Job),
    /// Its own part only: another process sums up.
    None,
}

/// The job of the process that was the last of it to leave.
pub(super) struct Job {
    /// The farmers of the run, those of other jobs too.
    pub(super) joined: Vec<String>,
    /// The job, as headers have it.
    pub(super) name: Option<String>,
    /// Farmers of it that have died, and whose tasks are not taken over yet.
    pub(super) dead: u32,
}

/// What the farmer `me`, which ended in this way, reports.
pub(super) fn scope(farm: &Farm, me: &str, ended: &FarmerEnd) -> SummaryScope {
    let place = &farm.node.allocation;
    if !place.has_companions() {
        return SummaryScope::Farmer;
    }
    let is_fenced = ended.farmer.cause() == Cause::Fenced;
    let left = ended.state.as_ref();
    let last = left.map(|left| (left.live, last_of_job(&farm.workdir, place, me, left)));
    match last {
        Some((_, Ok(Some(job)))) => SummaryScope::Job(job),
        Some((0, Ok(None))) => SummaryScope::Farmer,
        Some((_, Ok(None))) => SummaryScope::None,
        // Without an order, the first process reports.
        _ if place.speaks_for_all() && !is_fenced => SummaryScope::Farmer,
        _ => SummaryScope::None,
    }
}

/// Our job, when all others of it were over or dead at the moment when we left.
fn last_of_job(
    workdir: &Workdir,
    place: &Allocation,
    me: &str,
    left: &State,
) -> Result<Option<Job>> {
    let dir = &workdir.dir;
    // It observes each farmer once, so silence proves nothing.
    let mut watcher = Watcher::new(Box::new(Here::read()), Duration::MAX);
    let mut is_other = |farmer: &str| -> Result<bool> {
        let id = (farmer != me).then(|| watcher.id_of_any(dir, farmer));
        Ok(id
            .transpose()?
            .flatten()
            .is_some_and(|id| id.job == place.job))
    };
    if left.live > 0 {
        let mut others = 0;
        for farmer in membership::present(dir)? {
            others += usize::from(is_other(&farmer)?);
            if others > FEW {
                return Ok(None);
            }
        }
    }
    let Some(membership) = Membership::at(dir, left)? else {
        return Ok(None);
    };
    let mut alive = Vec::new();
    for farmer in &membership.alive {
        if is_other(farmer)? {
            alive.push(farmer);
        }
    }
    if !are_dead(workdir, &alive)? {
        return Ok(None);
    }
    Ok(Some(Job {
        dead: u32::try_from(alive.len()).unwrap_or(u32::MAX),
        joined: membership.joined,
        name: place.job.clone(),
    }))
}

/// Whether all of these, which had not left when we did, seem to be dead.
pub(super) fn are_dead(workdir: &Workdir, farmers: &[&String]) -> Result<bool> {
    // It observes each farmer once, so silence proves nothing.
    let mut watcher = Watcher::new(Box::new(Here::read()), Duration::MAX);
    for farmer in farmers {
        if !is_dead(workdir, farmer, &mut watcher)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a farmer that had not left when we did seems to be dead. One that has left
/// since moved its journal before it let it go.
fn is_dead(workdir: &Workdir, farmer: &str, watcher: &mut Watcher) -> Result<bool> {
    let dir = &workdir.dir;
    let seen = liveness::look_at(workdir, farmer, watcher)?;
    let is_dead = seen.is_none_or(|seen| seems_dead(seen.process, seen.lock));
    Ok(is_dead && !has_departed_by_name(dir, farmer)?)
}
