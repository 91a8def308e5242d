//! How a `pytf` process ends: its exit statuses, in one table.
//!
//! The status describes the run, not the process: a farmer that leaves while others still work
//! ends with `Complete`, because with another status `srun -K` would kill the others.
//! Guarantee: a number never changes its meaning, since batch scripts test these numbers. 64-78
//! follow sysexits.h, 130 is the shell's 128 + SIGINT.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RunExit {
    /// Nothing is left to do, and nothing failed.
    Complete = 0,
    /// Nothing is left to do, and some tasks failed.
    SomeFailed = 1,
    /// The command line or the task list is wrong; nothing was started.
    Usage = 2,
    /// The command of `--node-setup` failed.
    NodeUnusable = 69,
    /// A bug in pytf.
    Bug = 70,
    /// The system refused what every process needs.
    System = 71,
    /// The workdir cannot be used.
    WorkdirUnusable = 74,
    /// Stopped by a signal or a time limit before the run was complete.
    WorkLeft = 75,
    /// Heartbeats were missing for so long that other farmers took over our tasks.
    Fenced = 76,
    /// A second Ctrl-C: left at once.
    Interrupted = 130,
}

/// Every status with its name and its meaning, in order.
pub const TABLE: [(RunExit, &str, &str); 10] = [
    (
        RunExit::Complete,
        "complete",
        "every task is finished, or other processes continue the run",
    ),
    (
        RunExit::SomeFailed,
        "some-failed",
        "some tasks failed or were cancelled (pytf retry WORKDIR), or are left and cannot run now: they wait for a failed task, no node fits them, or --max-fail ended the run",
    ),
    (
        RunExit::Usage,
        "usage",
        "the command line or the task list is wrong; nothing was started",
    ),
    (
        RunExit::NodeUnusable,
        "node-unusable",
        "--node-setup failed, and no task was claimed here; or no host could be used (--hosts, a workdir by ssh): correct it, and run the same command again",
    ),
    (
        RunExit::Bug,
        "bug",
        "a bug in pytf; the workdir can be resumed",
    ),
    (
        RunExit::System,
        "system",
        "the system refused threads, processes, open files or memory; the message names the limit",
    ),
    (
        RunExit::WorkdirUnusable,
        "workdir-unusable",
        "the workdir cannot be used; the message names the file and why",
    ),
    (
        RunExit::WorkLeft,
        "work-left",
        "stopped by a signal or a time limit before the run was complete: run the same command again",
    ),
    (
        RunExit::Fenced,
        "fenced",
        "its heartbeats were missing for so long that others took over its tasks",
    ),
    (
        RunExit::Interrupted,
        "interrupted",
        "interrupted twice, so it left at once: run the same command again",
    ),
];

impl RunExit {
    /// The number that the parent process sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Its name in messages and records.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Its meaning, as the rest of a sentence.
    pub fn sentence(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        TABLE
            .iter()
            .find(|(exit, ..)| *exit == self)
            .expect("every status is in the table (tested)")
    }
}

/// From now on, a panic in any thread ends the process as [`RunExit::Bug`]. A release build would
/// end with the status of SIGABRT.
pub fn end_as_bug_on_panic() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        previous(info);
        let _ = io::stderr().write_all(
            b"pytf: this is a bug in pytf; please report the lines above. Nothing that was recorded \
              is lost: the same command again goes on\n",
        );
        #[expect(
            clippy::exit,
            reason = "as abort would, with the status that is promised"
        )]
        std::process::exit(RunExit::Bug.code().into());
    }));
}

impl fmt::Display for RunExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<RunExit> for ExitCode {
    fn from(exit: RunExit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_a_promise() {
        let numbers: Vec<(u8, &str)> = TABLE
            .iter()
            .map(|(exit, ..)| (exit.code(), exit.name()))
            .collect();
        assert_eq!(
            numbers,
            [
                (0, "complete"),
                (1, "some-failed"),
                (2, "usage"),
                (69, "node-unusable"),
                (70, "bug"),
                (71, "system"),
                (74, "workdir-unusable"),
                (75, "work-left"),
                (76, "fenced"),
                (130, "interrupted"),
            ]
        );
    }

    #[test]
    fn every_status_has_a_row_and_a_sentence() {
        use RunExit::*;
        for exit in [
            Complete,
            SomeFailed,
            Usage,
            NodeUnusable,
            Bug,
            System,
            WorkdirUnusable,
            WorkLeft,
            Fenced,
            Interrupted,
        ] {
            // A new variant must be added here, and then to the table.
            match exit {
                Complete | SomeFailed | Usage | NodeUnusable | Bug | System | WorkdirUnusable
                | WorkLeft | Fenced | Interrupted => (),
            }
            assert!(exit.sentence().len() > 20);
            assert_eq!(exit.to_string(), exit.name());
            assert_eq!(
                format!("{:?}", ExitCode::from(exit)),
                format!("{:?}", ExitCode::from(exit.code()))
            );
        }
    }
}
