//! `pytf hosts`: all hosts are asked at the same time what they are and what of them is free.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use super::contact::reach;
use super::greeting::{LookAnswer, LookQuestion, Question};
use super::process::{End, Next, Process};
use super::ssh::{Ssh, random};
use crate::host::signals;
use crate::model::escape::escape;
use crate::model::host_facts::{Asked, Clock, HostFacts};
use crate::model::hosts::Host;

/// How often the clock is asked for: the quickest answer counts.
const CLOCK_QUESTIONS: u32 = 3;

/// What hosts are and what of them is free; none when a signal came before all had answered.
pub fn look(hosts: &[Host], ssh_options: Vec<String>) -> io::Result<Option<Vec<Asked>>> {
    let ssh = Ssh::new(ssh_options)?;
    let here = std::env::current_dir()?;
    let proof = Proof::write(&here)?;
    let (stops, _signals) = stops(hosts.len())?;
    let asked = std::thread::scope(|scope| {
        let ask = |(host, stop)| {
            let (ssh, here, proof) = (&ssh, &here, &proof);
            scope.spawn(move || ask(ssh, host, here, proof, stop))
        };
        let asking: Vec<_> = hosts.iter().zip(&stops).map(ask).collect();
        let answers = asking
            .into_iter()
            .map(|thread| thread.join().ok().flatten());
        answers.collect()
    });
    Ok(asked)
}

/// A channel for each host, which gets each signal that comes to us.
pub(super) fn stops(
    hosts: usize,
) -> io::Result<(Vec<Receiver<i32>>, signal_hook::iterator::Handle)> {
    let (sends, stops): (Vec<Sender<i32>>, Vec<_>) = (0..hosts).map(|_| unbounded()).unzip();
    let handle = signals::listen(move |signal| {
        if signal == signals::SUSPENDS {
            let _ = kill(getpid(), Signal::SIGSTOP);
            return;
        }
        for send in &sends {
            let _ = send.send(signal);
        }
    })?;
    Ok((stops, handle))
}

/// Asks a host; none after a signal.
fn ask(
    ssh: &Ssh,
    host: &Host,
    here: &Path,
    proof: &Proof,
    signals: &Receiver<i32>,
) -> Option<Asked> {
    let question = Question::Look(LookQuestion {
        folder: host.folder.clone(),
        here: here.to_string_lossy().into_owned(),
        proof: proof.name.clone(),
    });
    let mut asked = Asked {
        host: host.name.clone(),
        problem: None,
        facts: None,
        shares_folder: None,
        clock: None,
    };
    match reach(ssh, host, &question, signals) {
        Err(End::Stopped | End::Farmer(_)) => return None,
        Err(End::Unusable(why)) => asked.problem = Some(format!("not used: {why}")),
        Err(End::Unreached(why)) => {
            let way_out = format!("; try: {} true", host.login());
            asked.problem = Some(format!("cannot be reached: {why}{way_out}"));
        }
        Ok((process, answer)) => {
            let LookAnswer {
                facts,
                proof: theirs,
                problem,
            } = answer;
            asked.clock = clock(process, signals);
            asked.problem = problem;
            asked.facts = Some(plain(facts));
            asked.shares_folder = proof
                .secret
                .as_ref()
                .map(|ours| theirs.as_ref() == Some(ours));
        }
    }
    Some(asked)
}

/// The text of a host cannot do anything to our terminal.
fn plain(facts: HostFacts) -> HostFacts {
    let remarks = facts.remarks.iter().map(|text| escape(text.as_bytes()));
    HostFacts {
        remarks: remarks.collect(),
        ..facts
    }
}

/// Compares the clock of a host with ours.
fn clock(mut process: Process, signals: &Receiver<i32>) -> Option<Clock> {
    process.go_on(Next::Lines);
    let mut best: Option<Clock> = None;
    for _ in 0..CLOCK_QUESTIONS {
        let (asked, at) = (Instant::now(), SystemTime::now());
        process.tell(&()).ok()?;
        let answer = process
            .answer(signals, super::contact::ANSWER_WITHIN)
            .ok()?;
        let round_trip = asked.elapsed().as_secs_f64();
        let theirs: f64 = serde_json::from_str(&answer).ok()?;
        let ours = at.duration_since(UNIX_EPOCH).ok()?.as_secs_f64() + round_trip / 2.0;
        if best.is_none_or(|best| round_trip < best.round_trip) {
            best = Some(Clock {
                ahead: theirs - ours,
                round_trip,
            });
        }
    }
    process.finish();
    best
}

/// A file in the current folder with a secret, where one can be made.
struct Proof {
    path: PathBuf,
    name: String,
    secret: Option<String>,
}

impl Proof {
    fn write(folder: &Path) -> io::Result<Self> {
        let secret = random()?;
        let name = format!(".pytf-hosts-{}", &secret[..8]);
        let path = folder.join(&name);
        let made = File::create_new(&path).and_then(|mut file| file.write_all(secret.as_bytes()));
        let secret = made.is_ok().then_some(secret);
        Ok(Self { path, name, secret })
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
