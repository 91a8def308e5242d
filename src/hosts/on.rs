//! `pytf on`: one command on all hosts at the same time. No pytf is needed there.

use std::io;
use std::process::Stdio;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, never, select, tick};

use super::control::ALIVE_EVERY;
use super::look::stops;
use super::process::{End, LAST_WORDS, Next, Printed, Process, print};
use super::ssh::{self, Ssh, random};
use crate::model::hosts::Host;

/// How long a host may take until the command begins.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);

/// How a command ended on a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// With this exit status.
    With(i32),
    /// Its end is not known: the connection was lost.
    Lost,
    /// It has not begun: why, and what to do.
    Not(String),
    /// There was a signal before it had begun.
    Stopped,
}

/// Runs a command on all hosts, and prints what it prints; returns how it ended on each, and whether
/// a signal came to us.
pub fn on(
    hosts: &[Host],
    ssh_options: Vec<String>,
    command: &str,
) -> io::Result<(Vec<Ended>, bool)> {
    let ssh = Ssh::new(ssh_options)?;
    let (here, end) = (std::env::current_dir()?, random()?);
    let (stops, _signals) = stops(hosts.len() + 1)?;
    let ended = std::thread::scope(|scope| {
        let both = hosts.iter().zip(&stops);
        let running = both.map(|(host, stop)| {
            let folder = match &host.folder {
                Some(folder) => format!("={folder}"),
                None => format!("?{}", here.display()),
            };
            let input = ssh::command(&folder, command, &end);
            let ssh = &ssh;
            scope.spawn(move || run(ssh, host, &input, stop))
        });
        let running: Vec<_> = running.collect();
        let ended = running.into_iter().map(ScopedJoinHandle::join);
        ended.map(|end| end.unwrap_or(Ended::Lost)).collect()
    });
    let has_signal = stops.last().is_some_and(|stop| !stop.is_empty());
    Ok((ended, has_signal))
}

/// Runs it on one host.
fn run(ssh: &Ssh, host: &Host, input: &str, signals: &Receiver<i32>) -> Ended {
    let mut process = match Process::start(ssh.run(host), Stdio::piped()) {
        Ok(process) => process,
        Err(error) => return Ended::Not(format!("cannot start ssh: {error}")),
    };
    let _ = process.write(input.as_bytes());
    match process.answer(signals, BEGIN_WITHIN) {
        Ok(_) => {}
        Err(End::Stopped | End::Farmer(_)) => return Ended::Stopped,
        Err(End::Unusable(why)) => return Ended::Not(why),
        Err(End::Unreached(why)) => {
            let way_out = format!("; try: {} true", host.login());
            return Ended::Not(format!("cannot be reached: {why}{way_out}"));
        }
    }
    process.go_on(Next::Lines);
    for line in process.take_errors() {
        print(&host.name, &Printed::Err(line));
    }
    let (printed, exited) = process.outputs();
    let (mut lines, beat) = (printed.clone(), tick(ALIVE_EVERY));
    let mut has_signal = false;
    loop {
        select! {
            recv(lines) -> line => match line {
                Ok(line) => print(&host.name, &line),
                Err(_) => lines = never(),
            },
            // The shell there reads four bytes at a time.
            recv(signals) -> _ => {
                let word: &[u8] = if has_signal { b"KILL" } else { b"TERM" };
                has_signal = true;
                let _ = process.write(word);
            }
            recv(beat) -> _ => drop(process.write(b"....")),
            recv(exited) -> _ => break,
        }
    }
    while let Ok(line) = printed.recv_timeout(LAST_WORDS) {
        print(&host.name, &line);
    }
    // 255 is ssh's own.
    match process.end().code() {
        None | Some(255) => Ended::Lost,
        Some(status) => Ended::With(status),
    }
}
