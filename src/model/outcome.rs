//! How an attempt of a task ended, and what follows for the task.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ended by itself with this exit status (0-255).
    Exit(i32),
    /// It was killed by this signal, and not by us.
    Signal(i32),
    /// It ran into its time limit and was stopped.
    TimeLimit,
    /// The kernel killed it for lack of memory.
    OutOfMemory,
    /// It could not be started: the shell's status for it (126 or 127).
    NotStarted(i32),
    /// It ended with exit status 0, and without what it was to make (`out`).
    NoResult,
    /// It ended, but it is not known how: wait4(2) failed.
    Unknown,
    /// It was stopped since its task was cancelled.
    Cancelled,
    /// We were stopped while it ran; it goes back to `toprocess`.
    Interrupted,
    /// Its farmer died while it had it; it goes back to `toprocess`.
    Lost,
}

/// Where a task goes when an attempt has ended; the better end is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// Back to `toprocess`.
    ToProcess,
    /// The file `failed`.
    Failed,
    /// The file `finished`.
    Finished,
}

impl Outcome {
    /// The file that an attempt with this outcome sends its task to.
    pub fn destination(&self) -> Destination {
        match self {
            Self::Exit(0) => Destination::Finished,
            Self::Exit(_)
            | Self::Signal(_)
            | Self::TimeLimit
            | Self::OutOfMemory
            | Self::NotStarted(_)
            | Self::NoResult
            | Self::Unknown
            | Self::Cancelled => Destination::Failed,
            Self::Interrupted | Self::Lost => Destination::ToProcess,
        }
    }

    /// Whether the task failed: what was cancelled is in `failed` and did not.
    pub fn is_failure(&self) -> bool {
        self.destination() == Destination::Failed && *self != Self::Cancelled
    }

    /// One word for machines: `exit`, `signal`, `time-limit`, …
    pub fn word(&self) -> &'static str {
        match self {
            Self::Exit(_) => "exit",
            Self::Signal(_) => "signal",
            Self::TimeLimit => "time-limit",
            Self::OutOfMemory => "out-of-memory",
            Self::NotStarted(_) => "not-started",
            Self::NoResult => "no-result",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Lost => "lost",
        }
    }
}

/// In words, for people: "exit status 3", "killed by SIGSEGV", "time limit".
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(0) => f.write_str("finished"),
            Self::Exit(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "killed by {}", signal_name(*signal)),
            Self::TimeLimit => f.write_str("time limit"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::NotStarted(code) => write!(f, "could not start ({code})"),
            Self::NoResult => f.write_str("ended without its result"),
            Self::Unknown => f.write_str("its end is not known"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Lost => f.write_str("lost with its farmer"),
        }
    }
}

/// The name of a Linux signal, `SIGTERM`, or `signal 64` where it has none.
pub fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    usize::try_from(signal - 1)
        .ok()
        .and_then(|index| NAMES.get(index))
        .map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exit_0_finishes_and_only_what_was_taken_away_returns() {
        use Destination::{Failed, Finished, ToProcess};
        for (outcome, to, word) in [
            (Outcome::Exit(0), Finished, "finished"),
            (Outcome::Exit(3), Failed, "exit status 3"),
            (Outcome::Signal(11), Failed, "killed by SIGSEGV"),
            (Outcome::Signal(64), Failed, "killed by signal 64"),
            (Outcome::TimeLimit, Failed, "time limit"),
            (Outcome::OutOfMemory, Failed, "out of memory"),
            (Outcome::NotStarted(127), Failed, "could not start (127)"),
            (Outcome::NoResult, Failed, "ended without its result"),
            (Outcome::Unknown, Failed, "its end is not known"),
            (Outcome::Cancelled, Failed, "cancelled"),
            (Outcome::Interrupted, ToProcess, "interrupted"),
            (Outcome::Lost, ToProcess, "lost with its farmer"),
        ] {
            assert_eq!(outcome.destination(), to);
            assert_eq!(outcome.to_string(), word);
        }
    }
}
