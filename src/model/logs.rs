//! Where the output of an attempt goes: the names of log files and the forms
//! that `--logs` offers.
//!
//! The farm writes by these names and the views look by them; an attempt that
//! still runs has no record of its log yet, so the two must agree. All names
//! are relative to the workdir.

use std::fmt;
use std::str::FromStr;

use super::task::TaskId;

/// Up to here logs lie flat in `logs/`, as PyTaskFarmer has them.
const FLAT: u64 = 10_000;

/// How many tasks share a subfolder of `logs/`: directories of more entries
/// become slow on parallel file systems.
const PER_FOLDER: u64 = 1000;

/// The log of an attempt that has a file of its own: `logs/log_17`,
/// `logs/log_17.2` for a second attempt, `logs/12/log_12345` from 10 000 on.
pub fn log_name(id: TaskId, attempt: u32) -> String {
    let folder = if id.0 < FLAT {
        String::new()
    } else {
        format!("{}/", id.0 / PER_FOLDER)
    };
    if attempt <= 1 {
        format!("logs/{folder}log_{id}")
    } else {
        format!("logs/{folder}log_{id}.{attempt}")
    }
}

/// The file of standard error, beside that of standard output: `logs/log_17.err`,
/// `logs/log_17.2.err`.
pub fn stderr_name(log: &str) -> String {
    format!("{log}.err")
}

/// The file that a slot of a farmer appends the output of all its tasks to.
pub fn packed_name(farmer: &str, slot: u32) -> String {
    format!("logs/packed_{farmer}_{slot}")
}

/// What is kept of the tasks' output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogMode {
    /// A file for every attempt.
    #[default]
    Files,
    /// Two files for every attempt: standard output, and standard error.
    Split,
    /// One file for every slot; the journal knows who wrote which part.
    Packed,
    /// A file for every attempt that failed.
    Failed,
    /// Nothing.
    None,
}

impl LogMode {
    /// All of them with their names, in the order of the help text.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Files, "files"),
        (Self::Split, "split"),
        (Self::Packed, "packed"),
        (Self::Failed, "failed"),
        (Self::None, "none"),
    ];
}

impl fmt::Display for LogMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(mode, _)| mode == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// Why a text names no form of logs.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not one of files, split, packed, failed, none")]
pub struct NoLogMode(String);

impl FromStr for LogMode {
    type Err = NoLogMode;

    fn from_str(text: &str) -> Result<Self, NoLogMode> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|&(mode, _)| mode)
            .ok_or_else(|| NoLogMode(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_has_a_name_of_its_own() {
        for (id, attempt, name) in [
            (0, 1, "logs/log_0"),
            (17, 1, "logs/log_17"),
            (17, 2, "logs/log_17.2"),
            (9999, 1, "logs/log_9999"),
            (10_000, 1, "logs/10/log_10000"),
            (12_345, 3, "logs/12/log_12345.3"),
            (1_000_000, 1, "logs/1000/log_1000000"),
        ] {
            assert_eq!(log_name(TaskId(id), attempt), name);
        }
        assert_eq!(stderr_name("logs/log_17.2"), "logs/log_17.2.err");
        assert_eq!(packed_name("n1.7.42.0", 3), "logs/packed_n1.7.42.0_3");
    }

    #[test]
    fn a_mode_reads_back_and_a_wrong_one_is_shown_the_choices() {
        for (mode, name) in LogMode::ALL {
            assert_eq!(mode.to_string(), name);
            assert_eq!(name.parse(), Ok(mode));
        }
        let error = "all".parse::<LogMode>().unwrap_err().to_string();
        for (_, name) in LogMode::ALL {
            assert!(error.contains(name), "{error}");
        }
    }
}
