//! A rendezvous of a task and its test over two FIFOs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::facts::WATCHDOG;

/// Where tasks stand until the test lets them through: a fact in both directions.
pub(crate) struct Gate {
    path: PathBuf,
    ready: File,
    go: File,
}

impl Gate {
    pub(super) fn new(path: &Path) -> Self {
        let open = |end: &str| {
            let fifo = path.with_extension(end);
            mkfifo(&fifo, Mode::from_bits_truncate(0o666)).unwrap();
            // Both ends open, so that no side ever blocks in open(2) or sees EOF.
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(fifo)
                .unwrap()
        };
        Self {
            path: path.into(),
            ready: open("ready"),
            go: open("go"),
        }
    }

    /// Shell: tells "here is task ID, process PID", then waits at the gate.
    pub(crate) fn stand(&self) -> String {
        format!("{}; {}", self.tell("$PYTF_TASK_ID $$"), self.pass())
    }

    /// Shell: tells a word.
    pub(crate) fn tell(&self, word: &str) -> String {
        format!(
            "echo {word} > {}",
            self.path.with_extension("ready").display()
        )
    }

    /// Shell: waits at the gate.
    pub(crate) fn pass(&self) -> String {
        format!("read x < {}", self.path.with_extension("go").display())
    }

    /// The next line that a task told.
    pub(crate) fn hear(&self) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let timeout = PollTimeout::try_from(WATCHDOG).unwrap();
            let heard = poll(
                &mut [PollFd::new(self.ready.as_fd(), PollFlags::POLLIN)],
                timeout,
            )
            .unwrap();
            assert_eq!(heard, 1, "nobody came to the gate");
            let mut byte = [0];
            (&self.ready).read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim().to_owned()
    }

    /// The id and the process id of the next task that stands at the gate.
    pub(crate) fn comer(&self) -> (u64, i32) {
        let line = self.hear();
        let (id, pid) = line.split_once(' ').expect(&line);
        (id.parse().unwrap(), pid.parse().unwrap())
    }

    /// The next `n` tasks that stand at the gate, all at once.
    pub(crate) fn comers(&self, n: usize) -> Vec<(u64, i32)> {
        (0..n).map(|_| self.comer()).collect()
    }

    /// Lets `n` tasks through.
    pub(crate) fn open(&self, n: usize) {
        (&self.go).write_all(&vec![b'\n'; n]).unwrap();
    }
}
