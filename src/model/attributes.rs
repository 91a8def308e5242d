//! What is said of one task beside its command: its needs, its place in the order, when it is
//! tried again.
//!
//! A task that has any is stored with them at the end of its line, in every file of a workdir:
//! `./train a #PYTF gpus=2 time=8h`. So whatever moves a line moves them, too. Guarantee:
//! [`joined`] and [`split`] are inverse for every command; a command of which nothing is said is
//! stored as it is, byte for byte.

use std::time::Duration;

use memchr::memmem::rfind;

/// The word before the attributes in a stored line, with the blank before it.
const WORD: &[u8] = b" #PYTF";

/// What is said of a task. Nothing is what the farmer's options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Number of CPUs (`cpus`).
    pub cpus: Option<u32>,
    /// Number of GPUs (`gpus`).
    pub gpus: Option<u32>,
    /// Memory in KiB (`mem`), for each attempt; the last value holds for all later ones.
    pub mem: Vec<u64>,
    /// The time limit of an attempt (`time`).
    pub time: Option<Duration>,
    /// On which nodes it may run (`node`): a pattern with `*` and `?` for the name of the node,
    /// or one of its labels.
    pub node: Option<String>,
    /// Larger comes first (`priority`).
    pub priority: i32,
    /// How often it is tried again (`retries`).
    pub retries: Option<u32>,
    /// After which outcomes (`retry-on`); empty is what the farmer's options say.
    pub retry_on: Vec<RetryCause>,
    /// The name by which other tasks refer to it; several tasks may share it (`name`).
    pub name: Option<String>,
    /// All tasks of these names have to finish before it starts (`after`).
    pub after: Vec<String>,
    /// All tasks of these names have to end before it starts (`after-any`).
    pub after_any: Vec<String>,
    /// Where this file exists the task is finished without a start (`creates`).
    pub creates: Option<String>,
    /// Number of barriers above it; no number is 0 (`stage`, `stage-ok`).
    pub stage: Stage,
}

/// The place of a task between barriers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// Number of barriers above it.
    pub number: u32,
    /// Whether the last of them is a `barrier ok`: all tasks between it and the barrier before
    /// have to finish, not only to end.
    pub ok: bool,
}

/// An outcome after which a task is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCause {
    /// Any exit status but 0, 126 and 127 (`exit`).
    Exit,
    /// This exit status (`exit:75`).
    Status(i32),
    /// A signal that we did not send (`signal`).
    Signal,
    /// Its time limit (`timeout`).
    Timeout,
    /// Too little memory (`oom`).
    Memory,
    /// Its farmer died (`lost`).
    Lost,
}

/// The command and the text of the attributes in a stored line.
pub fn split(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(at) = rfind(line, WORD) else {
        return (line, None);
    };
    let (command, rest) = (&line[..at], &line[at + WORD.len()..]);
    match rest.first() {
        None => (command, Some(rest)),
        Some(b' ') => (command, Some(&rest[1..])),
        Some(_) => (line, None),
    }
}

/// The command of a stored line.
pub fn command(line: &[u8]) -> &[u8] {
    split(line).0
}

/// The line in which a command is stored with the text of its attributes, which may be empty.
pub fn joined(command: &[u8], attributes: &[u8]) -> Vec<u8> {
    let mut line = command.to_vec();
    if !attributes.is_empty() || split(command).1.is_some() {
        line.extend_from_slice(WORD);
        if !attributes.is_empty() {
            line.push(b' ');
            line.extend_from_slice(attributes);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_stored_line_is_split_as_it_was_joined(
            command in "[a #PYTF]{0,24}",
            attributes in "([a-z]{1,4}=[a-z]{1,4}( [a-z]{1,4}=[0-9]{1,4})?)?",
        ) {
            let line = joined(command.as_bytes(), attributes.as_bytes());
            let (left, right) = split(&line);
            assert_eq!(left, command.as_bytes());
            assert_eq!(right.unwrap_or_default(), attributes.as_bytes());
        }
    }

    #[test]
    fn what_only_looks_like_attributes_belongs_to_the_command() {
        for line in ["echo #PYTFX", "echo x#PYTF cpus=1", "#PYTF cpus=1", "echo"] {
            assert_eq!(joined(line.as_bytes(), b""), line.as_bytes());
        }
        assert_eq!(joined(b"echo #PYTF x", b""), b"echo #PYTF x #PYTF");
    }
}
