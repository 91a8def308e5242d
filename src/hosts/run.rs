//! All hosts of a run: a session for each, another one where a connection is lost, signals to
//! all of them, and one exit status.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use super::greeting::{FarmQuestion, Start};
use super::inputs::Inputs;
use super::process::End;
use super::proof::Proof;
use super::send::Files;
use super::session::{self, Errand};
use super::ssh::Ssh;
use crate::exit::{RunExit, TABLE};
use crate::host::signals;
use crate::model::hosts::Host;
use crate::ui::progress::warn;
use crate::workdir::open::Workdir;
use crate::workdir::state::peek;

/// The first pause before a host is tried again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// For so long hosts are tried again while no farmer of ours runs.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);

/// What is to be run, and where.
pub struct Run<'a> {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// `--ssh-option`.
    pub ssh_options: Vec<String>,
    /// The workdir, prepared: it has the tasks.
    pub workdir: &'a Workdir,
    /// The options of the farm as the user gave them, without those that are about hosts.
    pub args: Vec<String>,
    /// The same that came from variables.
    pub variables: Vec<(String, String)>,
    /// `--label`.
    pub labels: Vec<String>,
    /// Set when a host does not share the workdir.
    pub has_pipes: Arc<AtomicBool>,
    /// Why hosts must share the workdir, where they must.
    pub must_share: Option<String>,
    /// `--copy-in`: paths below the current folder.
    pub copy_in: Vec<String>,
    /// Whether only errors are reported.
    pub quiet: bool,
}

/// What happens.
enum Event {
    Signal(i32),
    Running(usize),
    Ended(usize, End),
}

/// What a host does.
enum Doing {
    /// ssh runs; signals go there.
    Session(Sender<i32>),
    /// It is tried again then.
    Pausing(Instant),
    /// Nothing more: the status of its farmer, or why it was not used.
    Over(Result<RunExit, String>),
}

/// A host, as the run goes on.
struct Member {
    doing: Doing,
    /// The pause after the next loss.
    pause: Duration,
    /// Since when its farmer runs.
    running: Option<Instant>,
    /// Whether it ever did.
    has_run: bool,
    /// Why it was not reached, as it was reported.
    reported: Option<String>,
}

/// Runs farmers on all hosts until each has ended; returns the exit status of the run.
pub fn run(run: &Run) -> io::Result<RunExit> {
    let ssh = Ssh::new(run.ssh_options.clone())?;
    let proof = Proof::write(run.workdir)?;
    let inputs = Arc::new(Inputs::of(&run.workdir.path));
    let errands: Vec<Errand> = run
        .hosts
        .iter()
        .enumerate()
        .map(|(rank, host)| run.errand(rank, host, &proof, &inputs))
        .collect::<io::Result<_>>()?;
    let (events, inbox) = unbounded();
    let to_us = events.clone();
    let _signals = signals::listen(move |signal| drop(to_us.send(Event::Signal(signal))))?;
    std::thread::scope(|scope| {
        let start = |nth: usize| -> Doing {
            let (signals, theirs) = unbounded();
            let (events, ssh, errand) = (events.clone(), &ssh, &errands[nth]);
            scope.spawn(move || {
                let running = || drop(events.send(Event::Running(nth)));
                let end = session::run(ssh, errand, &theirs, &running);
                let _ = events.send(Event::Ended(nth, end));
            });
            Doing::Session(signals)
        };
        let mut crew = Crew {
            run,
            start: &start,
            members: Vec::new(),
            stopping: None,
            idle_since: Instant::now(),
        };
        crew.work(&inbox);
        Ok(crew.exit())
    })
}

impl Run<'_> {
    fn errand(
        &self,
        rank: usize,
        host: &Host,
        proof: &Proof,
        inputs: &Arc<Inputs>,
    ) -> io::Result<Errand> {
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| io::Error::other(format!("{} is not UTF-8", path.display())))
        };
        let copies = [&self.copy_in[..], &host.copy_in].concat();
        Ok(Errand {
            question: FarmQuestion {
                has_copies: !copies.is_empty(),
                folder: host.folder.clone(),
                here: text(&std::env::current_dir()?)?,
                workdir: text(&self.workdir.path)?,
                proof: proof.name.clone(),
            },
            workdir: self.workdir.clone(),
            has_pipes: self.has_pipes.clone(),
            must_share: self.must_share.clone(),
            inputs: inputs.clone(),
            files: Files::new(copies, &self.workdir.path, self.quiet),
            start: Start {
                pipe: None,
                has_copies: false,
                job: proof.name.clone(),
                rank,
                size: self.hosts.len(),
                args: self.args_for(host),
                variables: self.variables.clone(),
            },
            secret: proof.secret.clone(),
            host: host.clone(),
        })
    }

    /// The user's options, and those of the host, which come later and so hold.
    fn args_for(&self, host: &Host) -> Vec<String> {
        let labels = [
            &self.labels[..],
            &host.labels,
            std::slice::from_ref(&host.name),
        ]
        .concat();
        let mut own = vec![format!("--label={}", labels.join(","))];
        own.extend(host.slots.map(|slots| format!("--proc={slots}")));
        own.extend(host.gpus.iter().map(|gpus| format!("--gpus={gpus}")));
        let end = self.args.iter().position(|word| word == "--");
        let (options, rest) = self.args.split_at(end.unwrap_or(self.args.len()));
        [options, &own, rest].concat()
    }
}

/// The hosts of a run.
struct Crew<'a> {
    run: &'a Run<'a>,
    start: &'a dyn Fn(usize) -> Doing,
    members: Vec<Member>,
    /// The signal that ended the run.
    stopping: Option<i32>,
    /// Since when no farmer of ours runs.
    idle_since: Instant,
}

impl Crew<'_> {
    fn work(&mut self, inbox: &Receiver<Event>) {
        for nth in 0..self.run.hosts.len() {
            self.members.push(Member {
                doing: (self.start)(nth),
                pause: FIRST_PAUSE,
                running: None,
                has_run: false,
                reported: None,
            });
        }
        loop {
            let next = self.members.iter().filter_map(|member| match member.doing {
                Doing::Pausing(until) => Some(until),
                _ => None,
            });
            let next = next.min();
            if next.is_none() && !self.has_sessions() {
                return;
            }
            let event = match next {
                Some(until) => inbox.recv_deadline(until),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match event {
                Ok(Event::Signal(signal)) => self.signal(signal),
                Ok(Event::Running(nth)) => self.running(nth),
                Ok(Event::Ended(nth, end)) => self.ended(nth, end),
                Err(_) => self.again(),
            }
            self.give_up_pausing();
        }
    }

    fn has_sessions(&self) -> bool {
        let mut all = self.members.iter();
        all.any(|member| matches!(member.doing, Doing::Session(_)))
    }

    fn name(&self, nth: usize) -> &str {
        &self.run.hosts[nth].name
    }

    /// A signal for all farmers. One that suspends us suspends nobody else: farmers that hear
    /// nothing for a minute stop.
    fn signal(&mut self, signal: i32) {
        if signal == signals::SUSPENDS {
            let _ = kill(getpid(), Signal::SIGSTOP);
            return;
        }
        self.stopping = Some(signal);
        for member in &mut self.members {
            match &member.doing {
                // When its session has ended, there is an event.
                Doing::Session(signals) => drop(signals.send(signal)),
                Doing::Pausing(_) => member.doing = Doing::Over(Ok(RunExit::WorkLeft)),
                Doing::Over(_) => {}
            }
        }
    }

    fn running(&mut self, nth: usize) {
        if self.members[nth].reported.take().is_some() {
            warn(&format!("{}: reached", self.name(nth)));
        }
        let member = &mut self.members[nth];
        member.running = Some(Instant::now());
        member.has_run = true;
    }

    fn ended(&mut self, nth: usize, end: End) {
        let ran = self.members[nth].running.take();
        if ran.is_some() && !self.members.iter().any(|member| member.running.is_some()) {
            self.idle_since = Instant::now();
        }
        if ran.is_some_and(|since| since.elapsed() > LONGEST_PAUSE) {
            self.members[nth].pause = FIRST_PAUSE;
        }
        match end {
            End::Farmer(Some(code)) => {
                let exit = exit_of(code);
                if ![RunExit::Complete, RunExit::SomeFailed, RunExit::WorkLeft].contains(&exit) {
                    let (name, what) = (self.name(nth), exit.sentence());
                    warn(&format!("{name}: ended with {code} ({exit}): {what}"));
                }
                self.members[nth].doing = Doing::Over(Ok(exit));
            }
            End::Stopped => self.members[nth].doing = Doing::Over(Ok(RunExit::WorkLeft)),
            End::Unusable(why) => {
                warn(&format!("{}: not used: {why}", self.name(nth)));
                self.members[nth].doing = Doing::Over(Err(why));
            }
            End::Farmer(None) | End::Unreached(_) if self.stopping.is_some() => {
                self.members[nth].doing = Doing::Over(Ok(RunExit::WorkLeft));
            }
            End::Farmer(None) => {
                let why = "the connection was lost, or the farmer was killed";
                self.pause(nth, why.into());
            }
            End::Unreached(why) => {
                let way_out = format!("; try: {} true", self.run.hosts[nth].login());
                self.pause(nth, format!("cannot be reached: {why}{way_out}"));
            }
        }
    }

    /// The host is tried again after a pause.
    fn pause(&mut self, nth: usize, why: String) {
        let pause = self.members[nth].pause;
        if self.members[nth].reported.as_ref() != Some(&why) {
            warn(&format!("{}: {why}", self.name(nth)));
        }
        let member = &mut self.members[nth];
        member.reported = Some(why);
        member.doing = Doing::Pausing(Instant::now() + pause.mul_f64(1.0 + fastrand::f64() / 4.0));
        member.pause = (pause * 2).min(LONGEST_PAUSE);
    }

    /// Starts sessions whose pause is over.
    fn again(&mut self) {
        let now = Instant::now();
        for (nth, member) in self.members.iter_mut().enumerate() {
            if matches!(member.doing, Doing::Pausing(until) if until <= now) {
                member.doing = (self.start)(nth);
            }
        }
    }

    /// Hosts that cannot be reached are not waited for when the run is complete, when none was
    /// ever reached, or when no farmer of ours has run for some time.
    fn give_up_pausing(&mut self) {
        let is_idle = self.members.iter().all(|member| member.running.is_none());
        let is_over = !self.has_sessions()
            && (self.is_complete() == Some(true)
                || !self.members.iter().any(|member| member.has_run));
        let is_late = is_idle && self.idle_since.elapsed() > GIVE_UP_AFTER;
        for member in self.members.iter_mut().filter(|_| is_over || is_late) {
            if matches!(member.doing, Doing::Pausing(_)) {
                let why = member.reported.clone().unwrap_or_default();
                let end = if member.has_run {
                    Ok(RunExit::WorkLeft)
                } else {
                    Err(why)
                };
                member.doing = Doing::Over(end);
            }
        }
    }

    /// Whether nothing is left to do; none when it is not known.
    fn is_complete(&self) -> Option<bool> {
        let state = peek(&self.run.workdir.dir).ok().flatten()?;
        Some(state.is_complete())
    }

    /// The exit status: that of the run, where its state is known, else that of the farmers.
    fn exit(&self) -> RunExit {
        let mut ends: BTreeMap<u8, RunExit> = BTreeMap::new();
        let mut unused = Vec::new();
        for (nth, member) in self.members.iter().enumerate() {
            match &member.doing {
                Doing::Over(Ok(exit)) => drop(ends.insert(exit.code(), *exit)),
                _ => unused.push(self.name(nth)),
            }
        }
        if !unused.is_empty() && !self.run.quiet {
            let all = self.members.len();
            let which = match unused.len() {
                some if some < all => format!("of {all} hosts these were not used"),
                _ => "no host was used".to_owned(),
            };
            warn(&format!("{which}: {}", unused.join(", ")));
        }
        let state = peek(&self.run.workdir.dir).ok().flatten();
        let worst = ends.into_values().next_back();
        match (state, worst) {
            (Some(state), _) if state.is_complete() => match state.failed.lines {
                0 => RunExit::Complete,
                _ => RunExit::SomeFailed,
            },
            (_, None) => RunExit::NodeUnusable,
            (Some(state), Some(RunExit::Complete)) if state.live == 0 => RunExit::WorkLeft,
            (_, Some(worst)) => worst,
        }
    }
}

/// The status with this number: what is none of ours, such as a signal's, leaves work.
fn exit_of(code: i32) -> RunExit {
    let known = TABLE.iter().map(|(exit, ..)| *exit);
    let mut known = known.filter(|exit| i32::from(exit.code()) == code);
    known.next().unwrap_or(RunExit::WorkLeft)
}
