//! Which of the processes that a launcher started together sums up the run.
//!
//! Each of them could, but they share one output, and a thousand summaries in it are
//! none. So the last of a job to leave does it: it knows how all has ended, and it is
//! there whichever of them were killed. Others rely on this: the order of transactions
//! decides who was last, so no two of a job that leave in good order both sum up.

use crate::model::allocation::Allocation;
use crate::model::farmer::Cause;
use crate::workdir::error::Result;
use crate::workdir::exclusion::host_of;
use crate::workdir::farmers::{self, Roll, is_over_by_name, job_of};
use crate::workdir::open::Workdir;
use crate::workdir::recovery::is_free;
use crate::workdir::state::State;

use super::supervisor::Ended;

/// With more others of its job about no process asks whether it was the last: so many
/// do not die unnoticed, and to ask costs reading the log.
const FEW: usize = 16;

/// What a process tells at its end.
pub(super) enum Voice {
    /// How the run went, and its own part in it: nobody else tells it.
    Own,
    /// How the run went, for all of its job.
    Job(Job),
    /// Its own part only.
    Part,
}

/// The job of the process that was the last of it to leave.
pub(super) struct Job {
    /// The farmers of the run, those of other jobs too.
    pub(super) joined: Vec<String>,
    /// The job, as farmers' names have it.
    pub(super) name: String,
    /// Farmers of it that have died, and whose tasks nobody has given back yet.
    pub(super) dead: u32,
}

/// What the farmer `me` tells, that ended so.
pub(super) fn voice(workdir: &Workdir, place: &Allocation, me: &str, ended: &Ended) -> Voice {
    if !place.has_companions() {
        return Voice::Own;
    }
    let is_cut_off = ended.farmer.cause() == Cause::Sealed;
    // Without an order to go by, the first of them speaks.
    let unordered = if place.speaks_for_all() && !is_cut_off {
        Voice::Own
    } else {
        Voice::Part
    };
    let Some(left) = &ended.state else {
        return unordered;
    };
    match last_of_job(workdir, me, left) {
        Ok(Some(job)) => Voice::Job(job),
        Ok(None) if left.live == 0 => Voice::Own,
        Ok(None) => Voice::Part,
        Err(_) => unordered,
    }
}

/// Our job, when all others of it were over or dead at the moment when we left.
fn last_of_job(workdir: &Workdir, me: &str, left: &State) -> Result<Option<Job>> {
    let dir = &workdir.dir;
    let name = job_of(me);
    let is_other = |farmer: &&String| **farmer != me && job_of(farmer) == name;
    if left.live > 0 && farmers::unsealed(dir)?.iter().filter(is_other).count() > FEW {
        return Ok(None);
    }
    let Some(roll) = Roll::at(dir, left)? else {
        return Ok(None);
    };
    let mut dead = 0;
    for farmer in roll.alive.iter().filter(is_other) {
        if !is_dead(workdir, host_of(me), farmer)? {
            return Ok(None);
        }
        dead += 1;
    }
    Ok(Some(Job {
        joined: roll.joined,
        name: name.to_owned(),
        dead,
    }))
}

/// Whether a farmer that had not left when we did is dead. One that has left since
/// moved its journal before it let it go.
fn is_dead(workdir: &Workdir, node: &str, farmer: &str) -> Result<bool> {
    let dir = &workdir.dir;
    Ok(is_free(dir, workdir.mechanism, farmer, node)? && !is_over_by_name(dir, farmer)?)
}
