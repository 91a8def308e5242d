//! Reading a journal: the scanner of the views beside serde.

use pytf::history::run::scan;
use pytf::model::outcome::Outcome;
use pytf::model::record::{Record, Start, Used};
use pytf::model::task::TaskId;
use serde::Deserialize;

/// A journal with the starts and ends of so many tasks.
pub(crate) fn journal(tasks: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for id in 0..tasks {
        let start = Start {
            id: TaskId(id),
            attempt: 1,
            slot: 7,
            pid: 12345,
            at: 1_800_000_000_000_000,
            lease: None,
        };
        Record::Start(start).push_to(&mut out);
        Record::End(super::work::end(TaskId(id))).push_to(&mut out);
    }
    out
}

/// Reads it with the scanner; the sum of the times of the ends.
pub(crate) fn scan(journal: &[u8]) -> u64 {
    let lines = journal.split(|byte| *byte == b'\n');
    let attempts = lines.filter_map(scan::parse);
    attempts.fold(0, |sum, one| sum.wrapping_add(one.end()))
}

/// What the scanner reads of a line.
#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is what is measured")]
struct Line<'a> {
    event: &'a str,
    id: u64,
    attempt: u32,
    slot: u32,
    at: u64,
    pid: Option<u32>,
    us: Option<u64>,
    outcome: Option<Outcome>,
    used: Option<Used>,
}

/// Reads it with serde into a struct that borrows; the sum of the times of the ends.
pub(crate) fn deserialize(journal: &[u8]) -> u64 {
    let lines = journal.split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    lines.fold(0, |sum, one| sum.wrapping_add(one.at + one.us.unwrap_or(0)))
}
