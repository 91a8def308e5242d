//! A workdir on another host, for a farmer here: the other end of ssh carries out operations on its
//! files.
//!
//! Guarantee: when the connection has ended or is silent, every request fails, and none is sent
//! again. The other end then ends by itself, and the locks that it held are free.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::contact::reach;
use super::control::{ALIVE_EVERY, ANSWER, ORDER, SILENCE_OF_WORKDIR};
use super::greeting::{Question, Served, Wanted};
use super::process::{End, LAST_WORDS, Next, Process, print};
use super::ssh::Ssh;
use crate::model::escape::escape;
use crate::model::hosts::Host;
use crate::workdir::fs::{PipeDir, read_frame};
use crate::workdir::mechanism::Mechanism;

/// A workdir on another host, as long as the connection lasts.
pub struct Far {
    /// Its files.
    pub dir: Arc<PipeDir>,
    /// Its path there.
    pub path: PathBuf,
    /// How it is locked.
    pub mechanism: Mechanism,
    /// The ssh that connects us.
    pub process: Pid,
    /// Ends the connection when it is dropped.
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

/// Why there is no connection.
pub enum NoFar {
    /// The host was not reached. It may be later.
    Unreached(String),
    /// The host cannot be used as it is.
    Unusable(String),
    /// The workdir cannot be used: why, and the exit status that says so.
    Refused(String, u8),
    /// There was a signal.
    Stopped,
}

/// How hosts are reached, with `--ssh-option`.
pub struct Reach(Ssh);

impl Reach {
    /// Reads this program, which the host may need a copy of.
    pub fn new(ssh_options: Vec<String>) -> io::Result<Self> {
        Ssh::new(ssh_options).map(Self)
    }

    /// Connects to a workdir on a host; a signal ends it.
    pub fn workdir(
        &self,
        host: &Host,
        wanted: Wanted,
        signals: &Receiver<i32>,
    ) -> Result<Far, NoFar> {
        let reached = reach(&self.0, host, &Question::Serve(wanted), signals);
        let (process, served) = reached.map_err(|end| match end {
            End::Unreached(why) => NoFar::Unreached(why),
            End::Unusable(why) => NoFar::Unusable(why),
            End::Stopped | End::Farmer(_) => NoFar::Stopped,
        })?;
        match served {
            Served::Refused(why, exit) => {
                process.finish();
                Err(NoFar::Refused(escape(why.as_bytes()), exit))
            }
            Served::Here(path, mechanism) => Far::begin(process, host, path.into(), mechanism)
                .map_err(|error| NoFar::Unreached(error.to_string())),
        }
    }
}

impl Far {
    fn begin(
        process: Process,
        host: &Host,
        path: PathBuf,
        mechanism: Mechanism,
    ) -> io::Result<Self> {
        let input = process.take_input().ok_or(io::ErrorKind::BrokenPipe)?;
        let (answer, answers) = bounded(4);
        let (beat, beats) = bounded(1);
        process.go_on(Next::Bytes(Box::new(move |mut out| {
            // An error is the end, too.
            while let Ok(Some(frame)) = read_frame(&mut out) {
                let _ = beat.try_send(());
                let is_taken = match frame.split_first() {
                    Some((&ORDER, _)) => true,
                    Some((&ANSWER, rest)) => answer.send(rest.to_vec()).is_ok(),
                    _ => false,
                };
                if !is_taken {
                    return;
                }
            }
        })));
        let dir = PipeDir::new(File::from(OwnedFd::from(input)), answers);
        let (end, ended) = bounded(1);
        let (theirs, name) = (dir.clone(), host.name.clone());
        let pid = process.pid();
        let keeper = std::thread::Builder::new().name("connection".into());
        let keeper = keeper.spawn(move || keep(process, &name, &theirs, &beats, &ended))?;
        Ok(Self {
            dir,
            path,
            mechanism,
            process: pid,
            end: Some(end),
            keeper: Some(keeper),
        })
    }

    /// Whether the connection has ended.
    pub fn is_lost(&self) -> bool {
        self.dir.is_broken()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // After what was sent: the other end gives its locks back.
        self.dir.end();
        drop(self.end.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Shows the other end that we are alive, and ends the connection when it does not do the same.
fn keep(
    mut process: Process,
    name: &str,
    dir: &PipeDir,
    beats: &Receiver<()>,
    ended: &Receiver<()>,
) {
    let (printed, exited) = process.outputs();
    let (mut lines, mut beats) = (printed.clone(), beats.clone());
    let ticks = tick(ALIVE_EVERY);
    let mut heard = Instant::now();
    loop {
        select! {
            recv(lines) -> line => match line {
                Ok(line) => print(name, &line),
                Err(_) => lines = never(),
            },
            recv(beats) -> beat => match beat {
                Ok(()) => heard = Instant::now(),
                Err(_) => beats = never(),
            },
            recv(ticks) -> _ => {
                dir.show_life();
                if heard.elapsed() > SILENCE_OF_WORKDIR {
                    process.signal(Signal::SIGKILL);
                }
            }
            recv(exited) -> _ => break,
            recv(ended) -> _ => break,
        }
    }
    process.end();
    dir.end();
    while let Ok(line) = printed.recv_timeout(LAST_WORDS) {
        print(name, &line);
    }
}
