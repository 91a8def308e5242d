//! A task: its id, its line, and the `id command` form it has in every file of
//! a workdir.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::attributes::command;

/// The permanent number of a task in a workdir, counted from 0 over the lines
/// of the task list that are tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not a task id.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a task's id is the whole number before its command in finished or failed")]
pub struct NotAnId;

impl FromStr for TaskId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| NotAnId)
    }
}

/// A task as it is claimed: what to run, and for the n-th time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// Its line as it is stored: the command, byte for byte as written in the list, and after it
    /// what is said of the task.
    pub line: Vec<u8>,
    /// 1 for the first time it is started.
    pub attempt: u32,
    /// How often it has failed and was tried again, since a person put it back.
    pub failures: u32,
}

impl Task {
    /// What is executed.
    pub fn command(&self) -> &[u8] {
        command(&self.line)
    }
}

/// Appends the `id command` line of a task, PyTaskFarmer's format, to `out`.
pub fn push_line(out: &mut Vec<u8>, id: TaskId, line: &[u8]) {
    // No String in between: this is written for every task of the list, twice.
    let _ = write!(out, "{id} ");
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// Two independent hashes of the command of a stored line: what is kept of it where tasks are
/// compared. What is said of a task is not a part of its identity.
pub fn fingerprint(line: &[u8]) -> (u64, u64) {
    let command = command(line);
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, command).hash(&mut hasher);
        hasher.finish()
    };
    (hash(1), hash(2))
}

/// Splits an `id command` line (without its line end) into its parts; `None`
/// when it has no such form.
pub fn parse_line(text: &[u8]) -> Option<(TaskId, &[u8])> {
    let mut id: u64 = 0;
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => id = id.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            b' ' if at > 0 => return Some((TaskId(id), &text[at + 1..])),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_the_way_to_the_file_and_back() {
        let mut out = Vec::new();
        push_line(&mut out, TaskId(17), b"echo \xff  two  blanks");
        assert_eq!(out, b"17 echo \xff  two  blanks\n");
        let (id, line) = parse_line(&out[..out.len() - 1]).unwrap();
        assert_eq!((id, line), (TaskId(17), &b"echo \xff  two  blanks"[..]));
    }

    #[test]
    fn what_is_not_a_task_line_is_none() {
        for text in [
            &b""[..],
            b"17",
            b" 17 x",
            b"-1 x",
            b"x 17",
            b"99999999999999999999999 x",
        ] {
            assert_eq!(parse_line(text), None, "{text:?}");
        }
    }
}
