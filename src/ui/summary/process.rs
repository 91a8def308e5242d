//! The line of one of many processes at its end, when another one prints the summary.

use std::fmt::Write as _;

use crate::history::run::Farmer;
use crate::model::escape::escape;
use crate::model::figures::grouped;

/// The part of one process in a run.
#[derive(Clone, Debug, Default)]
pub struct ProcessSummary {
    /// Its node.
    pub node: String,
    /// Why it was stopped, when it was: "the time limit", "SIGTERM".
    pub stopped: Option<String>,
    /// How many attempts ended here.
    pub ended: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Those that failed, and whose tasks were tried again.
    pub retried: u64,
    /// Those that were stopped with it.
    pub interrupted: u64,
}

impl ProcessSummary {
    /// The part of a farmer, as far as its journal is known.
    pub fn of(node: &str, stopped: Option<String>, farmer: Option<&Farmer>) -> Self {
        Self {
            node: node.to_owned(),
            stopped,
            ended: farmer.map_or(0, |farmer| farmer.ended),
            failed: farmer.map_or(0, |farmer| farmer.failed().saturating_sub(farmer.retried)),
            retried: farmer.map_or(0, |farmer| farmer.retried),
            interrupted: farmer.map_or(0, |farmer| farmer.interrupted),
        }
    }

    /// One line; empty if this process ran no task and was not stopped.
    pub fn text(&self) -> String {
        if self.ended == 0 && self.stopped.is_none() {
            return String::new();
        }
        let mut out = format!("pytf on {}: ", escape(self.node.as_bytes()));
        if let Some(stopped) = &self.stopped {
            let _ = write!(out, "stopped by {}; ", escape(stopped.as_bytes()));
        }
        out += &match self.ended {
            0 => "no task ran here".to_owned(),
            1 => "1 task ran here".to_owned(),
            n => format!("{} tasks ran here", grouped(n)),
        };
        for (number, word) in [
            (self.failed, "failed"),
            (self.retried, "tried again"),
            (self.interrupted, "interrupted"),
        ] {
            if number > 0 {
                let _ = write!(out, ", {} {word}", grouped(number));
            }
        }
        if self.stopped.is_none() {
            out += "; others work on";
        }
        out + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_summary_is_one_line_or_empty() {
        let part = |stopped: Option<&str>, ended, failed, interrupted| ProcessSummary {
            retried: failed / 3 * 2,
            node: "node17".into(),
            stopped: stopped.map(str::to_owned),
            ended,
            failed,
            interrupted,
        };
        for (part, line) in [
            (part(None, 0, 0, 0), ""),
            (
                part(None, 1412, 3, 0),
                "pytf on node17: 1,412 tasks ran here, 3 failed, 2 tried again; others work on\n",
            ),
            (
                part(Some("SIGTERM"), 1, 0, 1),
                "pytf on node17: stopped by SIGTERM; 1 task ran here, 1 interrupted\n",
            ),
            (
                part(Some("the time limit"), 0, 0, 0),
                "pytf on node17: stopped by the time limit; no task ran here\n",
            ),
        ] {
            assert_eq!(part.text(), line);
        }
    }
}
