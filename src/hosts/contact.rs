//! The beginning with a host: it is asked, gets a copy of this program where it has none, and is
//! asked again.

use std::process::Stdio;
use std::time::Duration;

use crossbeam_channel::Receiver;
use serde::de::DeserializeOwned;

use super::greeting::{CANNOT, NONE, Question};
use super::process::{End, Process};
use super::ssh::Ssh;
use crate::model::escape::escape;
use crate::model::hosts::Host;

/// How long a host may take to answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How long a copy may take.
const COPY_WITHIN: Duration = Duration::from_secs(600);

/// What a host says first.
enum Said<A> {
    Answer(Process, A),
    /// It has no pytf of this version; it is such a machine.
    Missing(String),
}

/// Asks a host; returns its answer, and the process there, which waits for what comes next.
pub(super) fn reach<A: DeserializeOwned>(
    ssh: &Ssh,
    host: &Host,
    question: &Question,
    signals: &Receiver<i32>,
) -> Result<(Process, A), End> {
    let machine = match ask(ssh, host, question, signals)? {
        Said::Answer(process, answer) => return Ok((process, answer)),
        Said::Missing(machine) => machine,
    };
    if host.is_here() || host.pytf.is_some() {
        let program = host.pytf.as_deref().unwrap_or("pytf");
        return Err(End::Unusable(format!(
            "{program} there is not pytf {}: install it, or leave pytf out of the file of hosts, \
             and a copy will be used",
            crate::VERSION
        )));
    }
    let ours = format!("Linux {}", std::env::consts::ARCH);
    if machine != ours {
        return Err(End::Unusable(format!(
            "it has no pytf, and this one is for {ours}, not for {machine}: install pytf {} there, \
             and name it (pytf = PATH) if it is not in PATH",
            crate::VERSION
        )));
    }
    copy(ssh, host, signals)?;
    match ask(ssh, host, question, signals)? {
        Said::Answer(process, answer) => Ok((process, answer)),
        Said::Missing(_) => Err(End::Unusable(
            "pytf was copied there, and is not there: is the home folder full?".into(),
        )),
    }
}

/// Asks a host.
fn ask<A: DeserializeOwned>(
    ssh: &Ssh,
    host: &Host,
    question: &Question,
    signals: &Receiver<i32>,
) -> Result<Said<A>, End> {
    let mut process = Process::start(ssh.ask(host), Stdio::piped())
        .map_err(|error| End::Unusable(format!("cannot start ssh: {error}")))?;
    // A host that does not read it has ended: its status says why.
    let _ = process.tell(question);
    let answer = process.answer(signals, ANSWER_WITHIN)?;
    if let Some(machine) = answer.strip_prefix(NONE) {
        return Ok(Said::Missing(machine.trim().to_owned()));
    }
    if let Some(machine) = answer.strip_prefix(CANNOT) {
        let end = process.finish();
        let way_out = if cfg!(target_env = "musl") {
            ""
        } else {
            "start the static build of it here, or "
        };
        return Err(End::Unusable(format!(
            "a copy of this pytf does not run there ({}; {}): {way_out}install pytf {} there, and \
             name it (pytf = PATH) if it is not in PATH",
            machine.trim(),
            end.last_words(),
            crate::VERSION
        )));
    }
    match serde_json::from_str(&answer) {
        Ok(answer) => Ok(Said::Answer(process, answer)),
        Err(error) => {
            let answer = escape(answer.as_bytes());
            Err(End::Unusable(format!("it answers '{answer}': {error}")))
        }
    }
}

/// Copies this program to a host.
fn copy(ssh: &Ssh, host: &Host, signals: &Receiver<i32>) -> Result<(), End> {
    let program = ssh.open_program();
    let started = program.and_then(|file| Process::start(ssh.copy(host), file.into()));
    let mut process =
        started.map_err(|error| End::Unusable(format!("cannot copy pytf there: {error}")))?;
    match process.answer(signals, COPY_WITHIN) {
        Err(End::Stopped) => Err(End::Stopped),
        Err(end) => match process.code() {
            Some(0) => Ok(()),
            None | Some(255) => Err(end),
            _ => Err(End::Unusable(format!(
                "pytf cannot be copied there: {}",
                process.last_words()
            ))),
        },
        Ok(line) => {
            let line = escape(line.as_bytes());
            Err(End::Unusable(format!("it answers '{line}' to a copy")))
        }
    }
}
