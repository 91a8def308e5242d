//! The standard input of a farmer that was started from another host: a byte for each signal
//! that it is to get, and [`ALIVE`] every few seconds.
//!
//! Without a terminal, sshd ends a session without a signal to its programs: they see the end of
//! their standard input, or nothing at all where a link is cut. Both mean the same here.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use crate::ui::progress::warn;
use crate::workdir::fs::{PipeDir, read_frame};

/// A sign of life; larger than the number of any signal that is sent.
pub(super) const ALIVE: u8 = b'.';
/// How often it is sent.
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// Before such bytes in a frame.
pub(super) const ORDER: u8 = 1;
/// Before an answer in a frame.
pub(super) const ANSWER: u8 = 0;
/// After this silence the connection is taken to be lost; and where the workdir is at its other
/// end: there others take over tasks soon.
const SILENCE: Duration = Duration::from_secs(60);
pub(super) const SILENCE_OF_WORKDIR: Duration = Duration::from_secs(20);

/// From now on standard input controls this process, and nothing else reads it.
pub fn obey() -> io::Result<()> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let null = File::open("/dev/null")?;
    nix::unistd::dup2_stdin(null)?;
    let (send, orders) = bounded(16);
    let named = |name: &str| std::thread::Builder::new().name(name.into());
    named("control").spawn(move || {
        let mut bytes = [0; 64];
        let mut input = input;
        // An error is the end, too.
        while let Ok(read @ 1..) = input.read(&mut bytes) {
            for byte in &bytes[..read] {
                if send.send(*byte).is_err() {
                    return;
                }
            }
        }
    })?;
    named("control-watch").spawn(move || watch(&orders, SILENCE, &end))?;
    Ok(())
}

/// The same where the workdir is at the other end of standard input and output: frames with
/// [`ORDER`] have such bytes, those with [`ANSWER`] are for the workdir that is returned. What is
/// printed goes to standard error.
pub fn obey_and_ask() -> io::Result<Arc<PipeDir>> {
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    nix::unistd::dup2_stdout(io::stderr())?;
    let (send, orders) = bounded(16);
    let (answer, answers) = bounded(4);
    let named = |name: &str| std::thread::Builder::new().name(name.into());
    named("control").spawn(move || {
        // An error is the end, too.
        while let Ok(Some(frame)) = read_frame(&mut input) {
            let is_taken = match frame.split_first() {
                Some((&ORDER, rest)) => rest.iter().all(|byte| send.send(*byte).is_ok()),
                Some((&ANSWER, rest)) => answer.send(rest.to_vec()).is_ok(),
                _ => false,
            };
            if !is_taken {
                return;
            }
        }
    })?;
    named("control-watch").spawn(move || watch(&orders, SILENCE_OF_WORKDIR, &end))?;
    Ok(PipeDir::new(output, answers))
}

/// Passes signals on until the channel ends or is silent.
fn watch(orders: &Receiver<u8>, silence: Duration, act: &dyn Fn(Signal)) {
    let why = loop {
        match orders.recv_timeout(silence) {
            Ok(ALIVE) => {}
            Ok(byte) => {
                if let Ok(signal) = Signal::try_from(i32::from(byte)) {
                    act(signal);
                }
            }
            Err(RecvTimeoutError::Timeout) => break "is silent",
            Err(RecvTimeoutError::Disconnected) => break "has ended",
        }
    };
    // Mostly nobody reads it; where standard error is a file, it says why.
    warn(&format!(
        "the connection to the pytf that started this one {why}: stopping"
    ));
    act(Signal::SIGTERM);
}

/// The farmer handles its signals itself; before it does, nothing has begun.
fn end(signal: Signal) {
    let _ = kill(getpid(), signal);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn signals_pass_and_the_end_and_silence_stop() {
        let seen = RefCell::new(Vec::new());
        let act = |signal| seen.borrow_mut().push(signal);
        let (send, orders) = bounded(8);
        for byte in [ALIVE, 2, 0, 200, ALIVE] {
            send.send(byte).unwrap();
        }
        drop(send);
        watch(&orders, Duration::from_secs(600), &act);
        assert_eq!(*seen.borrow(), [Signal::SIGINT, Signal::SIGTERM]);
        let (_keep, orders) = bounded(1);
        watch(&orders, Duration::from_millis(1), &act);
        assert_eq!(seen.borrow().len(), 3, "silence is the end");
    }
}
