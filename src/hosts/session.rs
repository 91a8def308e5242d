//! One attempt to have a farmer on a host: from the start of ssh to its end.
//!
//! Guarantee: the thread of a session alone writes to its ssh, signals it and reaps it.
//!
//! What serves the workdir to a host is a thread of ours, not a process: its locks belong to the
//! files that it has open, and go with them when the pipe ends, as those of a process would.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, never, select, tick};

use super::contact::reach;
use super::control::{ALIVE, ALIVE_EVERY, ANSWER, ORDER};
use super::copies::{Frames, Reply};
use super::greeting::{Answer, FarmQuestion, Question, Start};
use super::inputs::Inputs;
use super::process::{End, LAST_WORDS, Next, Printed, Process, print, write};
use super::send::{Files, send};
use super::ssh::Ssh;
use crate::model::hosts::Host;
use crate::workdir::fs::{PipeServer, write_frame};
use crate::workdir::open::{Ownership, Workdir, open_dir};

/// What a host is to do.
pub(super) struct Errand {
    pub(super) host: Host,
    pub(super) question: FarmQuestion,
    pub(super) start: Start,
    /// What the file has that is asked for.
    pub(super) secret: String,
    /// The workdir, for a host that does not share it.
    pub(super) workdir: Workdir,
    /// Set when a host does not share it.
    pub(super) has_pipes: Arc<AtomicBool>,
    /// Why hosts must share it, where they must.
    pub(super) must_share: Option<String>,
    /// What tasks read there of our folder, where they do not share it.
    pub(super) inputs: Arc<Inputs>,
    /// What is copied to a host that does not share it.
    pub(super) files: Files,
}

/// Has a farmer on a host. `signals` are for the farmer; `running` is called when it starts.
pub(super) fn run(ssh: &Ssh, errand: &Errand, signals: &Receiver<i32>, running: &dyn Fn()) -> End {
    farm(ssh, errand, signals, running).unwrap_or_else(|end| end)
}

fn farm(
    ssh: &Ssh,
    errand: &Errand,
    signals: &Receiver<i32>,
    running: &dyn Fn(),
) -> Result<End, End> {
    let host = &errand.host;
    let question = Question::Farm(errand.question.clone());
    let (mut process, answer): (Process, Answer) = reach(ssh, host, &question, signals)?;
    if let Some(problem) = answer.problem {
        let way_out = "name a folder of it (folder = PATH)";
        return Err(End::Unusable(format!("{problem}: {way_out}")));
    }
    let is_shared = answer.proof.as_ref() == Some(&errand.secret);
    let (next, pipe) = if is_shared {
        (Next::Lines, None)
    } else {
        let (next, pipe) = serve(errand, &process)?;
        (next, Some(pipe))
    };
    let has_copies = !is_shared && errand.question.has_copies;
    let told = process.tell(&Start {
        pipe,
        has_copies,
        ..errand.start.clone()
    });
    if has_copies {
        match send(&errand.files, |frames| {
            ask_for(&mut process, signals, frames)
        })? {
            Ok(sent) => sent.report(&host.name),
            Err(why) => {
                process.kill();
                let why = format!("files cannot be copied there: {why}");
                return Err(End::Unusable(why));
            }
        }
    }
    // It has nothing to read before it is told.
    process.go_on(next);
    if told.is_ok() {
        running();
        let is_piped = !is_shared;
        return Ok(Farmer { process, is_piped }.run(&host.name, signals));
    }
    Err(process.finish().unreached())
}

/// The workdir for a host that does not share it; how it is locked, and its path.
fn serve(errand: &Errand, process: &Process) -> Result<(Next, String), End> {
    let workdir = &errand.question.workdir;
    if let Some(why) = &errand.must_share {
        return Err(End::Unusable(format!(
            "it does not share the workdir {workdir}, and {why}"
        )));
    }
    let dir = open_dir(&errand.workdir.path, Ownership::AsItIs);
    let dir = dir.map_err(|error| End::Unusable(error.to_string()))?;
    errand.has_pipes.store(true, Ordering::Relaxed);
    let (server, input) = (PipeServer::new(dir, errand.inputs.get()), process.input());
    let name = errand.host.name.clone();
    let next = Next::Bytes(Box::new(move |mut out| {
        let end = server.serve(&mut out, |answer| {
            let frame = [&[ANSWER][..], answer].concat();
            write(&input, |input| write_frame(input, &frame))
        });
        if let Err(error) = end {
            let text = format!("pytf: its requests are not served any more: {error}");
            print(&name, &Printed::Err(text.into_bytes()));
        }
    }));
    let pipe = format!("{}:{workdir}", errand.workdir.mechanism);
    Ok((next, pipe))
}

/// Writes frames, and waits for what the host says to them.
fn ask_for(
    process: &mut Process,
    signals: &Receiver<i32>,
    frames: Frames<'_>,
) -> Result<Reply, End> {
    // What is read after an answer waits for this.
    process.go_on(Next::Answer);
    let input = process.input();
    std::thread::scope(|scope| {
        // A host that does not read must not keep us from ending it.
        scope.spawn(|| {
            let mut frame = |bytes: &[u8]| write(&input, |input| write_frame(input, bytes));
            // A host that does not take it says why, or has ended.
            let _ = frames(&mut frame);
        });
        let answer = process.answer(signals, Duration::MAX)?;
        match serde_json::from_str(&answer) {
            Ok(Reply::Problem(why)) => {
                process.kill();
                Ok(Reply::Problem(why))
            }
            Ok(reply) => Ok(reply),
            Err(error) => {
                process.kill();
                Err(End::Unusable(format!("its answer is wrong: {error}")))
            }
        }
    })
}

/// A farmer that runs.
struct Farmer {
    process: Process,
    /// Whether requests are served: then each thing that is written is a frame.
    is_piped: bool,
}

impl Farmer {
    /// Writes a byte that the farmer obeys.
    fn order(&self, byte: u8) {
        // An ssh that does not read any more has ended, or will.
        let _ = write(&self.process.input(), |input| {
            if self.is_piped {
                return write_frame(input, &[ORDER, byte]);
            }
            input.write_all(&[byte])
        });
    }

    /// Passes on signals to the farmer, and what it prints to the user, until it has ended.
    fn run(mut self, name: &str, signals: &Receiver<i32>) -> End {
        for line in self.process.take_errors() {
            print(name, &Printed::Err(line));
        }
        let beat = tick(ALIVE_EVERY);
        let (printed, exited) = self.process.outputs();
        let mut lines = printed.clone();
        loop {
            select! {
                recv(lines) -> line => match line {
                    Ok(line) => print(name, &line),
                    Err(_) => lines = never(),
                },
                recv(signals) -> signal => {
                    let byte = signal.ok().and_then(|signal| u8::try_from(signal).ok());
                    self.order(byte.unwrap_or(15));
                }
                recv(beat) -> _ => self.order(ALIVE),
                recv(exited) -> _ => break,
            }
        }
        while let Ok(line) = printed.recv_timeout(LAST_WORDS) {
            print(name, &line);
        }
        let end = self.process.end();
        // 255 is ssh's own; a shell makes a number above 128 of a signal. 130 is also ours.
        let is_told = |status: &i32| *status <= 128 || *status == 130;
        End::Farmer(end.code().filter(is_told))
    }
}
