//! `--max-fail`: after how many failed tasks a run starts nothing more.
//!
//! Guarantee: only tasks that failed in this run count, not those of an earlier one that are still
//! in `failed`.

use std::str::FromStr;

use super::figures::float;

/// A number of failed tasks, or a share of all tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FailureLimit {
    /// So many tasks.
    Tasks(u64),
    /// A part of all known tasks, between 0 and 1.
    Share(f64),
}

/// Why a text is not such a limit.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a number of tasks from 1, or a percentage of all tasks: 20, 5%")]
pub struct NotALimit;

impl FromStr for FailureLimit {
    type Err = NotALimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(percent) = text.trim().strip_suffix('%') else {
            let tasks = text.trim().parse().ok().filter(|tasks| *tasks > 0);
            return tasks.map(Self::Tasks).ok_or(NotALimit);
        };
        let percent = percent.trim_end().parse::<f64>().ok();
        let percent = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0);
        percent
            .map(|percent| Self::Share(percent / 100.0))
            .ok_or(NotALimit)
    }
}

impl FailureLimit {
    /// Whether so many failed tasks, of all that are known, are too many.
    pub fn is_reached(&self, failed: u64, all: u64) -> bool {
        match self {
            Self::Tasks(limit) => failed >= *limit,
            Self::Share(share) => failed > 0 && float(failed) >= share * float(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_a_percentage() {
        for (text, failed, all, is_reached) in [
            ("1", 1, 1000, true),
            ("20", 19, 1000, false),
            ("20", 20, 1000, true),
            ("5%", 49, 1000, false),
            ("5%", 50, 1000, true),
            ("0.5 %", 5, 1000, true),
            ("100%", 9, 10, false),
            ("5%", 0, 0, false),
        ] {
            let limit: FailureLimit = text.parse().unwrap();
            assert_eq!(limit.is_reached(failed, all), is_reached, "{text}");
        }
        for text in ["", "0", "-1", "0%", "101%", "NaN%", "5 tasks", "0.5"] {
            assert_eq!(text.parse::<FailureLimit>(), Err(NotALimit), "{text}");
        }
    }
}
