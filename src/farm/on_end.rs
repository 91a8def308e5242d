//! `--on-end`: a command that the last process to leave a complete run starts.
//!
//! Guarantee: a run that becomes complete starts it at most once. The order of transactions
//! decides which process was the last; one that dies before it has started the command is not
//! made up for. A run in which no task has ended starts none: a job that finds nothing left to do
//! must not repeat what the job before it has started.

use std::collections::HashSet;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded, never, select};
use nix::sys::signal::Signal;

use super::message::Event;
use super::shared::Farm;
use super::summary_scope::{FEW, are_dead};
use super::supervisor::FarmerEnd;
use super::task_env::var;
use crate::exit::RunExit;
use crate::history::run::{Farmer, Run as Record};
use crate::host::process::{ProcessEnd, Running, SlotProcess, Spawn, Status, StopReason};
use crate::host::signals::SUSPENDS;
use crate::model::escape::{clip, escape};
use crate::model::farmer::{Cause, GIVE_UP};
use crate::model::outcome::Outcome;
use crate::model::task::TaskId;
use crate::runner::How;
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
    let say = |what: String| warn(&format!("the command of --on-end {what}: {shown}"));
    let process = Arc::new(SlotProcess::default());
    let done = match start(farm, command, &process, state, exit) {
        Ok(done) => done,
        Err(why) => return say(format!("could not be started ({why})")),
    };
    match wait(farm, &process, &done, ended.stop_at) {
        None => say("does not end, and is left behind".to_owned()),
        Some(end) if end.stop_reason.is_some() => say("was stopped before its end".to_owned()),
        Some(end) => match end.status {
            Status::Exited(0) => {}
            Status::Exited(code) => say(format!("ended with {}", Outcome::Exit(code))),
            Status::Signaled(signal) => say(format!("was {}", Outcome::Signal(signal))),
            Status::Unknown => say("ended, and it is not known how".to_owned()),
        },
    }
}

/// Starts it; its end comes through the channel.
fn start(
    farm: &Farm,
    command: &OsStr,
    process: &Arc<SlotProcess>,
    state: &State,
    exit: RunExit,
) -> std::result::Result<Receiver<ProcessEnd>, String> {
    let How::Exec { program, argv } = farm.node.runner.shell_exec(command.as_bytes()) else {
        return Err("it has a NUL byte".to_owned());
    };
    let env = environment(farm, state, exit);
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let spawn = Spawn {
        program: &program,
        argv: &argv,
        env: &env,
        stdin: farm.files.null.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    };
    let pid = spawn.start().map_err(|errno| errno.desc().to_owned())?;
    process.set(Running {
        pid,
        id: TaskId(0),
        attempt: 0,
        started: Instant::now(),
        stop_reason: None,
        noted: true,
    });
    let (done, end) = bounded(1);
    let waited = process.clone();
    std::thread::Builder::new()
        .name("on-end".into())
        .spawn(move || drop(done.send(waited.wait(pid, |_| {}, || {}))))
        .map_err(|error| error.to_string())?;
    Ok(end)
}

/// Our environment, and what the command may want to know of the run.
fn environment(farm: &Farm, state: &State, exit: RunExit) -> Vec<CString> {
    let ours = std::env::vars_os().filter(|(name, _)| name != OPTION);
    let known: [(&str, OsString); 5] = [
        ("PYTF_RUN_WORKDIR", farm.files.path.as_os_str().to_owned()),
        ("PYTF_RUN_FINISHED", state.finished.lines.to_string().into()),
        ("PYTF_RUN_FAILED", state.failed.lines.to_string().into()),
        ("PYTF_RUN_CANCELLED", state.cancelled.to_string().into()),
        ("PYTF_RUN_STATUS", exit.code().to_string().into()),
    ];
    let known = known.map(|(name, value)| (OsString::from(name), value));
    ours.chain(known)
        .filter_map(|(name, value)| var(name.as_bytes(), value.as_bytes()))
        .collect()
}

/// Waits for its end. A signal to us, or the end of the allocation, asks it to end: TERM, and
/// KILL after the grace period. None when it does not even end by that.
fn wait(
    farm: &Farm,
    process: &SlotProcess,
    done: &Receiver<ProcessEnd>,
    stop_at: Option<Instant>,
) -> Option<ProcessEnd> {
    let stop = |signals: &[Signal]| process.stop(StopReason::Stop, signals);
    let mut until = stop_at;
    let mut next = [
        (&[Signal::SIGTERM, Signal::SIGCONT][..], farm.options.grace),
        (&[Signal::SIGKILL][..], GIVE_UP),
    ]
    .into_iter();
    loop {
        let timer = until.map_or_else(never, crossbeam_channel::at);
        let is_late = select! {
            recv(done) -> end => return end.ok(),
            recv(timer) -> _ => true,
            recv(farm.inbox) -> event => {
                let is_stop = matches!(event, Ok(Event::Signal(signal)) if signal != SUSPENDS);
                // Once it was asked to end, its time is over at the deadline.
                is_stop && next.len() == 2
            }
        };
        if is_late {
            let (signals, time) = next.next()?;
            stop(signals);
            until = Some(Instant::now() + time);
        }
    }
}
