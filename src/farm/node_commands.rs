//! `--node-setup` and `--node-teardown`: a command before the first task of a process, and one
//! after its last.
//!
//! Guarantee: a process whose setup fails has neither joined the run nor claimed a task. Where
//! the setup was started, the teardown is run once, whatever becomes of the process, unless it
//! is killed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use super::command::{self, Command, CommandEnd, Patience};
use super::logs::{create_apart, create_log, send_apart};
use super::shared::Farm;
use super::start_error::StartError;
use super::supervisor::FarmerEnd;
use crate::history::logs::log_tail;
use crate::model::escape::{clip, escape};
use crate::model::farmer::Cause;
use crate::model::record::LogAt;
use crate::ui::progress::warn;
use crate::workdir::error::Error;
use crate::workdir::fs::Dir;
use crate::workdir::layout::LOGS;

/// The variables of the options, which the commands do not inherit: a run that they start is
/// one of its own.
const OPTIONS: [&str; 3] = ["PYTF_NODE_SETUP", "PYTF_NODE_TEARDOWN", "PYTF_ON_END"];
/// How much of a command is shown.
const SHOWN: usize = 100;
/// How many of its last lines.
const TAIL: usize = 3;

/// Runs the command of `--node-setup`, where there is one.
pub(super) fn setup(farm: &Farm) -> Result<(), StartError> {
    let Some(command) = &farm.options.node_setup else {
        return Ok(());
    };
    let (name, log) = open_log(farm, "setup").map_err(|source| {
        let file = format!("the log of --node-setup in {LOGS}/");
        let doing = "open";
        Error::Io {
            doing,
            file,
            source,
        }
    })?;
    // The farm's own limit holds as well.
    let left = |limit: Duration| limit.saturating_sub(farm.clock.now());
    let limits = [farm.options.node_timeout, farm.options.timeout.map(left)];
    let limit = limits.into_iter().flatten().min();
    let patience = Patience {
        until: limit.map(|limit| Instant::now() + limit),
        after_signal: Duration::ZERO,
        grace: Some(farm.options.grace),
    };
    let ended = run(farm, command, &log, &patience);
    let brought = bring(farm, &name);
    match ended {
        CommandEnd::Good => Ok(()),
        CommandEnd::Signaled => Err(Error::Canceled.into()),
        // It was stopped for that.
        CommandEnd::Bad(_)
            if farm
                .options
                .timeout
                .is_some_and(|limit| farm.clock.now() >= limit) =>
        {
            Err(Error::Canceled.into())
        }
        CommandEnd::Bad(what) => {
            let what = told(farm, ["setup", &name, &brought], command, &what);
            Err(StartError::NodeSetup(what))
        }
    }
}

/// Runs the command of `--node-teardown`, once. `ended` is how the farmer ended, if it has
/// begun. What goes wrong is reported, and changes nothing else.
pub(super) fn teardown(farm: &mut Farm, ended: Option<&FarmerEnd>) {
    let Some(command) = farm.node_teardown.take() else {
        return;
    };
    let has_time = ended.is_some_and(|ended| {
        let cause = ended.farmer.cause();
        matches!(cause, Cause::Complete | Cause::Drain | Cause::Failures)
    });
    let grace = farm.options.grace;
    let limit = if has_time {
        farm.options.node_timeout
    } else {
        Some(grace)
    };
    let limit = limit.map(|limit| Instant::now() + limit);
    let stop_at = ended.and_then(|ended| ended.stop_at).filter(|_| has_time);
    let patience = Patience {
        until: [limit, stop_at].into_iter().flatten().min(),
        after_signal: grace,
        grace: None,
    };
    let (name, log) = match open_log(farm, "teardown") {
        Ok((name, log)) => (name, Ok(log)),
        Err(error) => {
            warn(&format!(
                "the log of --node-teardown cannot be opened: {error}"
            ));
            (String::new(), farm.files.null.try_clone())
        }
    };
    let ended = match log {
        Ok(log) => run(farm, &command, &log, &patience),
        Err(error) => CommandEnd::Bad(format!("could not be started ({error})")),
    };
    let brought = bring(farm, &name);
    let what = match ended {
        CommandEnd::Good => return,
        CommandEnd::Signaled => "was stopped before its end".to_owned(),
        CommandEnd::Bad(what) => what,
    };
    warn(&told(farm, ["teardown", &name, &brought], &command, &what));
}

fn run(farm: &Farm, text: &OsStr, log: &File, patience: &Patience) -> CommandEnd {
    let known = [("PYTF_NODE", farm.node.name.clone().into())];
    let env = command::environment(farm, &OPTIONS, known);
    match Command::start(farm, text, &env, [log.as_fd(), log.as_fd()]) {
        Ok(command) => command.wait(&farm.inbox, patience),
        Err(why) => CommandEnd::Bad(format!("could not be started ({why})")),
    }
}

/// A log of ours under a free name, relative to the workdir.
fn open_log(farm: &Farm, word: &str) -> io::Result<(String, File)> {
    let dir = &farm.files.dir;
    dir.make_dir(LOGS)?;
    let (host, job, pid) = (&farm.node.name, farm.node.job(), std::process::id());
    create_apart(&format!("{LOGS}/{word}_{host}.{job}.{pid}"), |name| {
        create_log(dir, name, OFlag::O_EXCL)
    })
}

/// Brings a log to the workdir where that is at the other end of a pipe; its name there, empty
/// where it did not come.
fn bring(farm: &Farm, log: &str) -> String {
    let Some(piped) = farm.options.piped().filter(|_| !log.is_empty()) else {
        return log.to_owned();
    };
    send_apart(&farm.files.dir, log, &piped.dir).unwrap_or_else(|error| {
        warn(&format!("{log} cannot be brought to the workdir: {error}"));
        String::new()
    })
}

/// What became of a command, with the end of what it printed: `log` is that here, `brought` its
/// name in the workdir.
fn told(farm: &Farm, [word, log, brought]: [&str; 3], command: &OsStr, what: &str) -> String {
    let node = escape(farm.node.name.as_bytes());
    let command = clip(&escape(command.as_bytes()), SHOWN);
    let mut text = format!("the command of --node-{word} {what} on {node}");
    if !brought.is_empty() {
        text += &format!(" [{brought}]");
    }
    text += &format!(": {command}");
    for line in log_tail(&farm.files.path, &LogAt::whole(log.to_owned()), TAIL) {
        text += &format!("\n  | {line}");
    }
    text
}
