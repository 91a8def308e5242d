//! `--on-end`: a command that the last process to leave a complete run starts.
//!
//! Guarantee: a run that becomes complete starts it at most once. The order of transactions
//! decides which process was the last; one that dies before it has started the command is not
//! made up for. A run in which no task has ended starts none: a job that finds nothing left to do
//! must not repeat what the job before it has started.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::command::{self, Command, CommandEnd, Patience};
use super::shared::Farm;
use super::summary_scope::{FEW, are_dead};
use super::supervisor::FarmerEnd;
use crate::exit::RunExit;
use crate::history::run::{Farmer, Run as Record};
use crate::model::escape::{clip, escape};
use crate::model::farmer::Cause;
use crate::ui::progress::warn;
use crate::workdir::error::Result;
use crate::workdir::membership::{Membership, departed, present};
use crate::workdir::state::State;

/// The variable of the option, which the command does not inherit: a run that it starts, or a
/// job that it submits, has an end of its own.
const OPTION: &str = "PYTF_ON_END";

/// How much of the command is shown.
const SHOWN: usize = 100;

/// Whether this process has to start the command: it was the last one to leave, the run is
/// complete, and a task has ended in it.
pub(super) fn is_due(farm: &Farm, me: &str, ended: &FarmerEnd) -> bool {
    let Some(left) = ended
        .state
        .as_ref()
        .filter(|left| left.is_complete() && left.pending() == 0)
    else {
        return false;
    };
    if ended.farmer.cause() == Cause::Fenced {
        return false;
    }
    let is_due = || -> Result<bool> { Ok(is_last(farm, me, left)? && has_ended_any(farm, left)?) };
    is_due().unwrap_or_else(|error| {
        warn(&format!("the command of --on-end is not run: {error}"));
        false
    })
}

/// Whether all others had left when we did, or are dead.
fn is_last(farm: &Farm, me: &str, left: &State) -> Result<bool> {
    if left.live == 0 {
        return Ok(true);
    }
    if left.live as usize > FEW {
        return Ok(false);
    }
    let Some(membership) = Membership::at(&farm.workdir.dir, left)? else {
        // Others went on since.
        return Ok(false);
    };
    let others = membership.alive.iter().filter(|farmer| *farmer != me);
    are_dead(&farm.workdir, &others.collect::<Vec<_>>())
}

/// Whether a task has ended since the first of the farmers joined.
fn has_ended_any(farm: &Farm, left: &State) -> Result<bool> {
    let dir = &farm.workdir.dir;
    let over = departed(dir)?.into_iter();
    let ours = over.filter(|over| over.seq > left.began && over.seq <= left.seq);
    let mut names: HashSet<String> = ours.map(|over| over.farmer).collect();
    if left.live > 0 {
        names.extend(present(dir)?);
    }
    let has_ended = |farmer: &Farmer| farmer.finished > 0 || !farmer.failures.is_empty();
    let record = Record::open(&farm.workdir.path);
    // What cannot be read may have ended a task.
    Ok(record.map_or(true, |record| {
        let mut farmers = record.farmers.iter();
        farmers.any(|farmer| names.contains(&farmer.header().farmer) && has_ended(farmer))
    }))
}

/// Runs the command, and waits for it until a signal or the end of the allocation. What goes
/// wrong is reported, and changes nothing else.
pub(super) fn run(farm: &Farm, command: &OsStr, ended: &FarmerEnd, state: &State, exit: RunExit) {
    let shown = clip(&escape(command.as_bytes()), SHOWN);
    let say = |what: &str| warn(&format!("the command of --on-end {what}: {shown}"));
    let env = environment(farm, state, exit);
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let patience = Patience {
        until: ended.stop_at,
        after_signal: Duration::ZERO,
        grace: Some(farm.options.grace),
    };
    match Command::start(farm, command, &env, [stdout.as_fd(), stderr.as_fd()]) {
        Err(why) => say(&format!("could not be started ({why})")),
        Ok(command) => match command.wait(&farm.inbox, &patience) {
            CommandEnd::Good => {}
            CommandEnd::Bad(what) => say(&what),
            CommandEnd::Signaled => say("was stopped before its end"),
        },
    }
}

/// Our environment, and what the command may want to know of the run.
fn environment(farm: &Farm, state: &State, exit: RunExit) -> Vec<CString> {
    let known = [
        ("PYTF_RUN_FINISHED", state.finished.lines.to_string().into()),
        ("PYTF_RUN_FAILED", state.failed.lines.to_string().into()),
        ("PYTF_RUN_CANCELLED", state.cancelled.to_string().into()),
        ("PYTF_RUN_STATUS", exit.code().to_string().into()),
    ];
    command::environment(farm, &[OPTION], known)
}
