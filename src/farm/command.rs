//! A command of the user that the farm runs beside its tasks, by the shell of the tasks:
//! `--on-end`, `--node-setup`, `--node-teardown`.
//!
//! Guarantee: a caller waits no longer than its [`Patience`] allows, and what is left of the
//! command's process group when it has ended is killed.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never, select};
use nix::sys::signal::Signal;

use super::message::Event;
use super::shared::Farm;
use super::task_env::var;
use crate::host::process::{ProcessEnd, Running, SlotProcess, Spawn, Status, StopReason};
use crate::host::signals::SUSPENDS;
use crate::model::farmer::GIVE_UP;
use crate::model::outcome::Outcome;
use crate::model::task::TaskId;
use crate::runner::How;

/// A command that runs.
pub(super) struct Command {
    process: Arc<SlotProcess>,
    end: Receiver<ProcessEnd>,
}

/// For how long a command may run.
pub(super) struct Patience {
    /// Until then; none: without a limit.
    pub(super) until: Option<Instant>,
    /// For how long after a signal to us.
    pub(super) after_signal: Duration,
    /// How long it has after SIGTERM, before SIGKILL; none: it gets SIGKILL at once.
    pub(super) grace: Option<Duration>,
}

/// How a command ended.
pub(super) enum CommandEnd {
    /// With exit status 0.
    Good,
    /// In another way, in words: `ended with exit status 3`.
    Bad(String),
    /// It was stopped: a signal came to us.
    Signaled,
}

/// The environment of a command: ours without these variables, which are options of ours, and
/// what the command may want to know.
pub(super) fn environment<const N: usize>(
    farm: &Farm,
    options: &[&str],
    known: [(&str, OsString); N],
) -> Vec<CString> {
    let ours = std::env::vars_os().filter(|(name, _)| !options.iter().any(|own| name == own));
    let workdir = farm.files.path.as_os_str().to_owned();
    let known = [("PYTF_RUN_WORKDIR", workdir)].into_iter().chain(known);
    let known = known.map(|(name, value)| (OsString::from(name), value));
    ours.chain(known)
        .filter_map(|(name, value)| var(name.as_bytes(), value.as_bytes()))
        .collect()
}

impl Command {
    /// Starts it, without input. The error is for people.
    pub(super) fn start(
        farm: &Farm,
        command: &OsStr,
        env: &[CString],
        [stdout, stderr]: [BorrowedFd; 2],
    ) -> Result<Self, String> {
        let How::Exec { program, argv } = farm.node.runner.shell_exec(command.as_bytes()) else {
            return Err("it has a NUL byte".to_owned());
        };
        let spawn = Spawn {
            program: &program,
            argv: &argv,
            env,
            stdin: farm.files.null.as_fd(),
            stdout,
            stderr,
        };
        let pid = spawn.start().map_err(|errno| errno.desc().to_owned())?;
        let process = Arc::new(SlotProcess::default());
        process.set(Running {
            pid,
            id: TaskId(0),
            attempt: 0,
            started: Instant::now(),
            stop_reason: None,
            noted: true,
            limit: None,
            mem_kib: 0,
        });
        let (done, end) = bounded(1);
        let waited = process.clone();
        std::thread::Builder::new()
            .name("command".into())
            .spawn(move || drop(done.send(waited.wait(pid, |_| {}, || {}))))
            .map_err(|error| {
                process.signal(Signal::SIGKILL);
                error.to_string()
            })?;
        Ok(Self { process, end })
    }

    /// Waits for its end, and ends it when the patience is over.
    pub(super) fn wait(self, events: &Receiver<Event>, patience: &Patience) -> CommandEnd {
        let term = [Signal::SIGTERM, Signal::SIGCONT];
        let term = patience.grace.map(|grace| (&term[..], grace));
        let kill = (&[Signal::SIGKILL][..], GIVE_UP);
        let mut steps = term.into_iter().chain([kill]);
        let mut until = patience.until;
        let (mut is_signaled, mut is_asked) = (false, false);
        let ended = loop {
            let timer = until.map_or_else(never, crossbeam_channel::at);
            select! {
                recv(self.end) -> end => break end.ok(),
                recv(events) -> event => {
                    let is_stop = matches!(event, Ok(Event::Signal(signal)) if signal != SUSPENDS);
                    // Once it was asked to end, its time is over at the deadline.
                    if is_stop && !is_asked && !is_signaled {
                        is_signaled = true;
                        let at = Instant::now() + patience.after_signal;
                        until = Some(until.map_or(at, |until| until.min(at)));
                    }
                }
                recv(timer) -> _ => {
                    let Some((signals, time)) = steps.next() else { break None };
                    is_asked = true;
                    self.process.stop(StopReason::Stop, signals);
                    until = Some(Instant::now() + time);
                }
            }
        };
        let Some(ended) = ended else {
            return CommandEnd::Bad("does not end, and is left behind".to_owned());
        };
        match ended.status {
            _ if ended.stop_reason.is_some() && is_signaled => CommandEnd::Signaled,
            _ if ended.stop_reason.is_some() => {
                CommandEnd::Bad("was stopped before its end".into())
            }
            Status::Exited(0) => CommandEnd::Good,
            Status::Exited(code) => CommandEnd::Bad(format!("ended with {}", Outcome::Exit(code))),
            Status::Signaled(signal) => CommandEnd::Bad(format!("was {}", Outcome::Signal(signal))),
            Status::Unknown => CommandEnd::Bad("ended, and it is not known how".to_owned()),
        }
    }
}
