//! One attempt to have a farmer on a host: from the start of ssh to its end.
//!
//! Guarantee: the thread of a session alone writes to its ssh, signals it and reaps it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select, tick};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde::Serialize;

use super::control::{ALIVE, ALIVE_EVERY, ANSWER, ORDER};
use super::greeting::{Answer, CANNOT, LONGEST, MARK, NONE, Question, Start};
use super::ssh::Ssh;
use crate::model::escape::{escape, push_line};
use crate::model::hosts::Host;
use crate::workdir::fs::{PipeServer, write_frame};
use crate::workdir::open::{Ownership, Workdir, open_dir};

/// How long a host may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How long a copy may take.
const COPY_WITHIN: Duration = Duration::from_secs(600);
/// How long what ssh has printed is waited for when it has ended: a process that it leaves
/// behind (`ControlPersist`) may keep its standard error open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// So many lines of ssh are kept until the farmer starts.
const KEPT: usize = 20;

/// What a host is to do.
pub(super) struct Errand {
    pub(super) host: Host,
    pub(super) question: Question,
    pub(super) start: Start,
    /// What the file has that is asked for.
    pub(super) secret: String,
    /// The workdir, for a host that does not share it.
    pub(super) workdir: Workdir,
    /// Set when a host does not share it.
    pub(super) has_pipes: Arc<AtomicBool>,
    /// Why hosts must share it, where they must.
    pub(super) must_share: Option<String>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The farmer ran, and ended with this status; none when the connection was lost, or the
    /// farmer was killed: ssh does not tell these apart.
    Farmer(Option<i32>),
    /// The host was not reached. It may be later.
    Unreached(String),
    /// The host cannot be used as it is.
    Unusable(String),
    /// It was told to end before it had begun.
    Stopped,
}

/// One line that a host has printed.
enum Printed {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// Has a farmer on a host. `signals` are for the farmer; `running` is called when it starts.
pub(super) fn run(ssh: &Ssh, errand: &Errand, signals: &Receiver<i32>, running: &dyn Fn()) -> End {
    let first = ask(ssh, errand, signals, running);
    let Err(Missing(machine)) = first else {
        return first.unwrap_or(End::Stopped);
    };
    let host = &errand.host;
    if host.is_here() || host.pytf.is_some() {
        let program = host.pytf.as_deref().unwrap_or("pytf");
        return End::Unusable(format!(
            "{program} there is not pytf {}: install it, or leave pytf out of the file of hosts, \
             and a copy will be used",
            crate::VERSION
        ));
    }
    let ours = format!("Linux {}", std::env::consts::ARCH);
    if machine != ours {
        return End::Unusable(format!(
            "it has no pytf, and this one is for {ours}, not for {machine}: install pytf {} there, \
             and name it (pytf = PATH) if it is not in PATH",
            crate::VERSION
        ));
    }
    match copy(ssh, host, signals) {
        Ok(()) => {}
        Err(end) => return end,
    }
    ask(ssh, errand, signals, running).unwrap_or_else(|Missing(_)| {
        End::Unusable("pytf was copied there, and is not there: is the home folder full?".into())
    })
}

/// The host has no pytf of this version; it is such a machine.
struct Missing(String);

/// Asks a host and has its farmer run.
fn ask(
    ssh: &Ssh,
    errand: &Errand,
    signals: &Receiver<i32>,
    running: &dyn Fn(),
) -> Result<End, Missing> {
    let host = &errand.host;
    let mut process = match Process::start(ssh.ask(host), Stdio::piped()) {
        Ok(process) => process,
        Err(error) => return Ok(End::Unusable(format!("cannot start ssh: {error}"))),
    };
    // A host that does not read it has ended: its status says why.
    let _ = process.tell(&errand.question);
    let answer = match process.answer(signals, ANSWER_WITHIN) {
        Ok(answer) => answer,
        Err(end) => return Ok(end),
    };
    if let Some(machine) = answer.strip_prefix(NONE) {
        return Err(Missing(machine.trim().to_owned()));
    }
    if let Some(machine) = answer.strip_prefix(CANNOT) {
        let end = process.finish();
        return Ok(End::Unusable(format!(
            "a copy of this pytf does not run there ({}; {}): install pytf {} there, and name it \
             (pytf = PATH) if it is not in PATH",
            machine.trim(),
            end.last_words(),
            crate::VERSION
        )));
    }
    let answer: Answer = match serde_json::from_str(&answer) {
        Ok(answer) => answer,
        Err(error) => {
            let answer = escape(answer.as_bytes());
            return Ok(End::Unusable(format!("it answers '{answer}': {error}")));
        }
    };
    if let Some(problem) = answer.problem {
        return Ok(End::Unusable(format!(
            "{problem}: name a folder of it (folder = PATH)"
        )));
    }
    let mut start = errand.start.clone();
    let mut next = Next::Lines;
    if answer.proof.as_ref() != Some(&errand.secret) {
        if let Some(why) = &errand.must_share {
            return Ok(End::Unusable(format!(
                "it does not share the workdir {}, and {why}",
                errand.question.workdir
            )));
        }
        match open_dir(&errand.workdir.path, Ownership::AsItIs) {
            Ok(dir) => next = Next::Serve(PipeServer::new(dir)),
            Err(error) => return Ok(End::Unusable(error.to_string())),
        }
        errand.has_pipes.store(true, Ordering::Relaxed);
        start.pipe = Some(format!(
            "{}:{}",
            errand.workdir.mechanism, errand.question.workdir
        ));
    }
    let is_piped = start.pipe.is_some();
    let told = process.tell(&start);
    // It has nothing to read before it is told.
    let _ = process.next.send(next);
    process.is_piped = is_piped;
    if told.is_ok() {
        running();
        return Ok(process.farm(&host.name, signals));
    }
    Ok(process.finish().unreached())
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

/// What is read from a host after its answer.
enum Next {
    /// What it prints.
    Lines,
    /// Requests about the files of the workdir.
    Serve(PipeServer),
}

/// The standard input of an ssh; none when it was closed.
type Input = Arc<Mutex<Option<ChildStdin>>>;

/// A running ssh.
struct Process {
    child: Child,
    input: Input,
    next: Sender<Next>,
    /// Whether requests are served: then each thing that is written is a frame.
    is_piped: bool,
    lines: Receiver<Printed>,
    exited: Receiver<()>,
    /// What it has printed on standard error before the farmer ran, the last lines.
    errors: Vec<Vec<u8>>,
    /// How it ended.
    status: Option<ExitStatus>,
}

impl Process {
    #[expect(clippy::disallowed_methods, reason = "this is not a task")]
    fn start(mut command: Command, stdin: Stdio) -> io::Result<Self> {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The Ctrl-C of a terminal is for us: we pass it on.
            .process_group(0)
            .spawn()?;
        let (send, lines) = bounded(256);
        let input: Input = Arc::new(Mutex::new(child.stdin.take()));
        let (next, theirs) = bounded(1);
        if let Some(out) = child.stdout.take() {
            let (send, input) = (send.clone(), input.clone());
            std::thread::Builder::new().spawn(move || read_out(out, &send, &theirs, &input))?;
        }
        if let Some(err) = child.stderr.take() {
            std::thread::Builder::new().spawn(move || {
                read_lines(&mut BufReader::new(err), |line| {
                    send.send(Printed::Err(line)).is_ok()
                });
            })?;
        }
        let (ended, exited) = bounded(1);
        let child_pid = pid(&child);
        std::thread::Builder::new().spawn(move || {
            let how = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(child_pid), how) == Err(nix::Error::EINTR) {}
            let _ = ended.send(());
        })?;
        Ok(Self {
            child,
            input,
            next,
            is_piped: false,
            lines,
            exited,
            errors: Vec::new(),
            status: None,
        })
    }

    /// Writes a line of the greeting.
    fn tell(&mut self, what: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(what)? + "\n";
        self.write(line.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        write(&self.input, |input| input.write_all(bytes))
    }

    /// Writes a byte that the farmer obeys.
    fn order(&mut self, byte: u8) {
        // An ssh that does not read any more has ended, or will.
        let _ = write(&self.input, |input| {
            if self.is_piped {
                return write_frame(input, &[ORDER, byte]);
            }
            input.write_all(&[byte])
        });
    }

    /// The next line of the greeting, or how it ended without one.
    fn answer(&mut self, signals: &Receiver<i32>, within: Duration) -> Result<String, End> {
        let mut late = after(within);
        let lines = self.lines.clone();
        let mut exited = self.exited.clone();
        let mut has_exited = false;
        loop {
            select! {
                recv(lines) -> line => match line {
                    Ok(Printed::Out(line)) => {
                        let line = String::from_utf8_lossy(&line);
                        if let Some(answer) = line.strip_prefix(MARK) {
                            return Ok(answer.to_owned());
                        }
                    }
                    Ok(Printed::Err(line)) => self.keep(line),
                    // It has closed both: it ends, or must be ended.
                    Err(_) => return Err(self.end().unreached()),
                },
                recv(exited) -> _ => {
                    // Its last lines may not have been read yet.
                    (has_exited, exited, late) = (true, never(), after(LAST_WORDS));
                }
                recv(signals) -> _ => {
                    self.kill();
                    return Err(End::Stopped);
                }
                recv(late) -> _ => {
                    if has_exited {
                        return Err(self.end().unreached());
                    }
                    self.kill();
                    let within = within.as_secs();
                    return Err(End::Unreached(format!("no answer within {within} s")));
                }
            }
        }
    }

    /// Passes on signals to the farmer, and what it prints to the user, until it has ended.
    fn farm(mut self, name: &str, signals: &Receiver<i32>) -> End {
        for line in std::mem::take(&mut self.errors) {
            print(name, &Printed::Err(line));
        }
        let beat = tick(ALIVE_EVERY);
        let mut lines = self.lines.clone();
        let exited = self.exited.clone();
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
        while let Ok(line) = self.lines.recv_timeout(LAST_WORDS) {
            print(name, &line);
        }
        let end = self.end();
        // 255 is ssh's own; a shell makes a number above 128 of a signal. 130 is also ours.
        let is_told = |status: &i32| *status <= 128 || *status == 130;
        End::Farmer(end.code().filter(is_told))
    }

    /// Waits for its end, as it has ended or has closed everything.
    fn finish(mut self) -> Self {
        self.end();
        self
    }

    fn end(&mut self) -> &mut Self {
        close(&self.input);
        if self.status.is_some() {
            return self;
        }
        // Nobody else reads that it has exited: where somebody did, it is over at once.
        let over = Id::Pid(pid(&self.child));
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        let has_exited = !matches!(waitid(over, look), Ok(WaitStatus::StillAlive));
        if !has_exited && self.exited.recv_timeout(Duration::from_secs(10)).is_err() {
            self.signal(Signal::SIGKILL);
        }
        // A wait that fails says nothing: as if a signal had ended it.
        let unknown = || ExitStatus::from_raw(Signal::SIGKILL as i32);
        self.status = Some(self.child.wait().unwrap_or_else(|_| unknown()));
        while let Ok(line) = self.lines.recv_timeout(LAST_WORDS) {
            match line {
                Printed::Err(line) => self.keep(line),
                Printed::Out(_) => {}
            }
        }
        self
    }

    /// The status with which it ended; none after a signal.
    fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGTERM);
        self.end();
    }

    fn signal(&self, signal: Signal) {
        // It is not reaped yet: the group is still its own.
        if self.status.is_none() {
            let _ = killpg(pid(&self.child), signal);
        }
    }

    fn keep(&mut self, line: Vec<u8>) {
        if self.errors.len() == KEPT {
            self.errors.remove(0);
        }
        self.errors.push(line);
    }

    /// What it has printed last on standard error.
    fn last_words(&self) -> String {
        let last = self.errors.iter().rev().map(|line| {
            let line = line.trim_ascii();
            escape(line.strip_suffix(b".").unwrap_or(line))
        });
        let mut last = last.filter(|line| !line.is_empty());
        last.next().unwrap_or_else(|| match self.code() {
            Some(status) => format!("exit status {status}"),
            None => "ended by a signal".to_owned(),
        })
    }

    /// It ended before the farmer ran.
    fn unreached(&self) -> End {
        let words = self.last_words();
        match self.code() {
            None | Some(255) => End::Unreached(words),
            Some(_) => End::Unusable(format!("ssh can start nothing there: {words}")),
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// Writes to an ssh.
fn write(input: &Input, act: impl FnOnce(&mut ChildStdin) -> io::Result<()>) -> io::Result<()> {
    match &mut *input.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(stdin) => act(stdin),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

fn close(input: &Input) {
    drop(input.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Reads what a host prints; after its answer, what it was told to send.
fn read_out(out: impl Read, to: &Sender<Printed>, next: &Receiver<Next>, input: &Input) {
    let mut out = BufReader::new(out);
    let mut is_greeting = true;
    let mut serve = None;
    read_lines(&mut out, |line| {
        let is_answer = is_greeting && line.starts_with(MARK.as_bytes());
        if to.send(Printed::Out(line)).is_err() {
            return false;
        }
        if is_answer {
            is_greeting = false;
            match next.recv() {
                Ok(Next::Serve(server)) => serve = Some(server),
                Ok(Next::Lines) | Err(_) => {}
            }
        }
        serve.is_none()
    });
    let Some(server) = serve else { return };
    let end = server.serve(&mut out, |answer| {
        let frame = [&[ANSWER][..], answer].concat();
        write(input, |input| write_frame(input, &frame))
    });
    if let Err(error) = end {
        let text = format!("pytf: its requests are not served any more: {error}");
        let _ = to.send(Printed::Err(text.into_bytes()));
    }
    // A farmer without its workdir must end.
    close(input);
}

/// Hands on the lines of a stream until it ends, or they are not taken any more.
fn read_lines(stream: &mut impl BufRead, mut take: impl FnMut(Vec<u8>) -> bool) {
    loop {
        let mut line = Vec::new();
        let mut bounded = stream.take(LONGEST as u64);
        if !matches!(bounded.read_until(b'\n', &mut line), Ok(1..)) {
            return;
        }
        while line.last().is_some_and(|end| b"\r\n".contains(end)) {
            line.pop();
        }
        if !take(line) {
            return;
        }
    }
}

/// Prints a line of a host, in one write, on the stream on which it printed it.
fn print(name: &str, line: &Printed) {
    // Nothing can be done when it fails.
    let _ = match line {
        Printed::Out(line) => {
            let mut stdout = io::stdout().lock();
            stdout
                .write_all(prefixed(name, line).as_bytes())
                .and_then(|()| stdout.flush())
        }
        Printed::Err(line) => io::stderr().write_all(prefixed(name, line).as_bytes()),
    };
}

/// A line of a host, which cannot do anything to our terminal.
fn prefixed(name: &str, line: &[u8]) -> String {
    let mut text = format!("{name}: ");
    push_line(&mut text, line);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_cannot_write_to_our_terminal() {
        assert_eq!(
            prefixed("n1", b"\x1b]0;x\x07\rroot# "),
            "n1: ^[]0;x^G^Mroot# \n"
        );
    }
}
