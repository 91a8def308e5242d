//! A running ssh, of which the first line that it answers is taken, and then what it prints.
//!
//! Guarantee: one thread alone signals it and reaps it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde::Serialize;

use super::greeting::{LONGEST, MARK};
use crate::model::escape::{escape, push_line};

/// How long what ssh has printed is waited for when it has ended: a process that it leaves
/// behind (`ControlPersist`) may keep its standard error open.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(500);
/// So many lines of ssh are kept until it answers.
const KEPT: usize = 20;

/// How it ended.
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
pub(super) enum Printed {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// How its output is read after its answer.
pub(super) enum Next {
    /// As lines that it prints.
    Lines,
    /// As such lines, until another answer.
    Answer,
    /// As bytes, by this, until it returns.
    Bytes(TakeBytes),
}

/// Reads the output of a host.
pub(super) type TakeBytes = Box<dyn FnOnce(&mut dyn Read) + Send>;

/// The standard input of an ssh; none when it was closed.
pub(super) type Input = Arc<Mutex<Option<ChildStdin>>>;

/// A running ssh.
pub(super) struct Process {
    child: Child,
    input: Input,
    next: Sender<Next>,
    lines: Receiver<Printed>,
    exited: Receiver<()>,
    /// What it has printed on standard error before its answer, the last lines.
    errors: Vec<Vec<u8>>,
    /// How it ended.
    status: Option<ExitStatus>,
}

impl Process {
    #[expect(clippy::disallowed_methods, reason = "this is not a task")]
    /// Starts it. After its answer it waits for [`Process::go_on`].
    pub(super) fn start(mut command: Command, stdin: Stdio) -> io::Result<Self> {
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
            lines,
            exited,
            errors: Vec::new(),
            status: None,
        })
    }

    /// Writes a line of the greeting.
    pub(super) fn tell(&mut self, what: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(what)? + "\n";
        self.write(line.as_bytes())
    }

    /// Writes bytes to it.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.input, |input| input.write_all(bytes))
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Pid {
        pid(&self.child)
    }

    /// Its standard input.
    pub(super) fn input(&self) -> Input {
        self.input.clone()
    }

    /// Its standard input, which it leaves to somebody else.
    pub(super) fn take_input(&self) -> Option<ChildStdin> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        input.take()
    }

    /// What it prints, and a message when it has ended.
    pub(super) fn outputs(&self) -> (Receiver<Printed>, Receiver<()>) {
        (self.lines.clone(), self.exited.clone())
    }

    /// What it has printed on standard error so far.
    pub(super) fn take_errors(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.errors)
    }

    /// After its answer: how its output is read from now on.
    pub(super) fn go_on(&self, next: Next) {
        let _ = self.next.send(next);
    }

    /// The next line of the greeting, or how it ended without one.
    pub(super) fn answer(
        &mut self,
        signals: &Receiver<i32>,
        within: Duration,
    ) -> Result<String, End> {
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

    /// Waits for its end, as it has ended or has closed everything.
    pub(super) fn finish(mut self) -> Self {
        self.end();
        self
    }

    pub(super) fn end(&mut self) -> &mut Self {
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
    pub(super) fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    pub(super) fn kill(&mut self) {
        self.signal(Signal::SIGTERM);
        self.end();
    }

    pub(super) fn signal(&self, signal: Signal) {
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
    pub(super) fn last_words(&self) -> String {
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
    pub(super) fn unreached(&self) -> End {
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
pub(super) fn write(
    input: &Input,
    act: impl FnOnce(&mut ChildStdin) -> io::Result<()>,
) -> io::Result<()> {
    match &mut *input.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(stdin) => act(stdin),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

pub(super) fn close(input: &Input) {
    drop(input.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Reads what a host prints; after its answer, in the way that it is told.
fn read_out(out: impl Read, to: &Sender<Printed>, next: &Receiver<Next>, input: &Input) {
    let mut out = BufReader::new(out);
    let mut is_greeting = true;
    let mut take = None;
    read_lines(&mut out, |line| {
        let is_answer = is_greeting && line.starts_with(MARK.as_bytes());
        if to.send(Printed::Out(line)).is_err() {
            return false;
        }
        if is_answer {
            match next.recv() {
                Ok(Next::Answer) => return true,
                Ok(Next::Bytes(all)) => take = Some(all),
                Ok(Next::Lines) | Err(_) => {}
            }
            is_greeting = false;
        }
        take.is_none()
    });
    let Some(take) = take else { return };
    take(&mut out);
    // Who has nobody to talk to must end.
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
pub(super) fn print(name: &str, line: &Printed) {
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
