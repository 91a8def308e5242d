//! What the tasks themselves wrote down, and what it proves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Farm, tasks};

/// A farm of `n` tasks of up to `most` milliseconds; each writes its start, its middle and its
/// end into a file of its own.
pub(crate) fn farm(n: u64, most: u64, random: &mut crate::crew::Random) -> Farm {
    let farm = Farm::new();
    let times: Vec<u64> = (0..n).map(|_| random.below(most + 1)).collect();
    farm.write(
        "tasks.txt",
        tasks(n, |id| storm_task(id, times[usize::try_from(id).unwrap()])),
    );
    fs::create_dir(farm.path("events")).unwrap();
    farm
}

/// A task as those of [`farm`], for `pytf add`: the id that it gets is its own.
pub(crate) fn added_task(ms: u64) -> String {
    storm_task("$PYTF_TASK_ID", ms)
}

fn storm_task(id: impl std::fmt::Display, ms: u64) -> String {
    let note = |what: &str| format!("echo {what} $$ >> events/{id}");
    format!(
        "echo start $$ $PYTF_FARMER $PYTF_ATTEMPT >> events/{id}; {}; sleep 0.{ms:03}; {}",
        note("beat"),
        note("end")
    )
}

/// What the tasks wrote down.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) starts: u64,
    /// The farmers of attempts that were heard of after a later one had started.
    pub(crate) overlapping: Vec<String>,
}

/// Reads what every one of `n` tasks wrote; each has started and come to its end.
pub(crate) fn told(farm: &Farm, n: u64) -> Told {
    let mut all = Told::default();
    for id in 0..n {
        let text = farm.text(format!("events/{id}"));
        let mut farmers: BTreeMap<&str, &str> = BTreeMap::new();
        let (mut current, mut attempt, mut has_ended) = ("", 0, false);
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            if words[0] == "start" {
                all.starts += 1;
                current = words[1];
                farmers.insert(current, words[2]);
                let this: u32 = words[3].parse().unwrap();
                assert!(
                    this != attempt,
                    "task {id}: an attempt number again\n{text}"
                );
                attempt = this;
            } else if words[1] != current {
                all.overlapping.push(farmers[words[1]].to_owned());
                println!("task {id}: two attempts at a time\n{text}");
            }
            has_ended |= words[0] == "end";
        }
        assert!(
            has_ended,
            "task {id} is over and never came to its end\n{text}"
        );
    }
    all
}

/// Every task is in `finished`, once, and nothing is anywhere else.
pub(crate) fn assert_complete(farm: &Farm, n: u64) {
    farm.assert_exact(n, &(0..n).collect::<Vec<_>>(), &[]);
}

/// How often each task has a good end in the journals.
pub(crate) fn good_ends(farm: &Farm) -> BTreeMap<u64, usize> {
    let mut ends = BTreeMap::new();
    for end in farm.ends() {
        if end["outcome"]["exit"] == 0 {
            *ends.entry(end["id"].as_u64().unwrap()).or_default() += 1;
        }
    }
    ends
}

/// The entries of the log of transactions in `lock`, as far as they were kept.
pub(crate) fn log(farm: &Farm) -> Vec<Value> {
    let bytes = farm.bytes(Path::new("w/lock"));
    let log = bytes.get(36864..).unwrap_or_default();
    let lines = log.split(|&b| b == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// The journals: their farmers and their records.
pub(crate) fn journals(farm: &Farm) -> Vec<(String, Vec<Value>)> {
    farm.farmers()
        .into_iter()
        .map(|farmer| {
            let text = farm.text(farm.journal(&farmer));
            let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
            (farmer, records.collect())
        })
        .collect()
}
