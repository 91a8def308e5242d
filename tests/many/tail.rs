//! The end of a run: nobody sits on tasks that others could do.

use std::collections::BTreeMap;

use crate::crew::{Crew, Random};
use crate::harness::{Farm, tasks};
use crate::record::{assert_complete, journals, log};

#[test]
fn the_tail_of_a_run_is_short_and_nobody_hoards() {
    let mut random = Random::new();
    let times: Vec<u64> = (0..1000).map(|_| 10 + random.below(190)).collect();
    let line = |id: u64| format!("sleep 0.{:03}", times[usize::try_from(id).unwrap()]);
    let farm = Farm::of(tasks(1000, line));
    for done in Crew::of(&farm, 8, "").end() {
        done.leaves(0);
    }
    assert_complete(&farm, 1000);

    // Slot by slot: when its last task ended.
    let mut last: BTreeMap<(String, u64), u64> = BTreeMap::new();
    let mut longest = 0;
    for (farmer, records) in journals(&farm) {
        for end in records.iter().filter(|record| record["event"] == "end") {
            let [slot, at, us] = ["slot", "at", "us"].map(|name| end[name].as_u64().unwrap());
            longest = longest.max(us);
            let last = last.entry((farmer.clone(), slot)).or_default();
            *last = (*last).max(at + us);
        }
    }
    let (first, over) = (last.values().min().unwrap(), last.values().max().unwrap());
    let tail = over - first;
    let idle: u64 = last.values().map(|end| over - end).sum::<u64>() / last.len() as u64;
    println!("tail {tail} us, idle on average {idle} us, longest task {longest} us");
    assert_eq!(last.len(), 32, "every slot had work");
    assert!(
        tail < longest + 2_000_000,
        "{tail} us with tasks of {longest} us"
    );
    let leaves: Vec<_> = log(&farm)
        .into_iter()
        .filter(|entry| entry["leave"] == true)
        .collect();
    let hoarded: Vec<_> = leaves
        .iter()
        .filter(|entry| !entry["back"].is_null())
        .collect();
    assert!(hoarded.is_empty(), "claimed, and not started: {hoarded:?}");
}
