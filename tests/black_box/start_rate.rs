//! `--start-delay` and `--start-rate`: tasks that do not all start at once.

use crate::harness::{Farm, tasks};

/// The slots after the first one have not begun when the run is complete, and nothing waits
/// for them.
#[test]
fn slots_begin_one_after_the_other() {
    let farm = Farm::of(tasks(30, |_| "echo $PYTF_SLOT".into()));
    farm.farm("--proc 3 --start-delay 1h").run().exits(0);
    for id in 0..30 {
        assert_eq!(farm.text(format!("w/logs/log_{id}")), "0\n", "task {id}");
    }
    let farm = Farm::of(tasks(30, |_| "true".into()));
    farm.farm("--proc 3 --start-delay 1ms").run().exits(0);
    farm.assert_exact(30, &(0..30).collect::<Vec<_>>(), &[]);
}

/// What may not start yet is not lost, and is not held when the farm is stopped.
#[test]
fn no_more_tasks_are_started_than_the_rate_allows() {
    let farm = Farm::of(tasks(5, |_| "true".into()));
    farm.farm("--start-rate 1/h --timeout 3s").run().exits(75);
    farm.assert_exact(5, &[0], &[]);
    farm.farm("--start-rate 1000").run().exits(0);
    farm.assert_exact(5, &[0, 1, 2, 3, 4], &[]);
}
