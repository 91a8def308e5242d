//! Many processes that start at once on a workdir that is not there yet.

use std::time::Instant;

use crate::crew::{Crew, setting, wait};
use crate::harness::{Farm, each_nth, has, skip, tasks};
use crate::record::{assert_complete, good_ends, log};

#[test]
fn of_many_that_start_at_once_one_prepares() {
    for lock in each_nth(3, ["flock", "fcntl", "link"]) {
        let n = setting("PYTF_TEST_TASKS", 300).min(20_000);
        let farm = Farm::of(tasks(n, |_| "true".into()));
        let began = Instant::now();
        let crew = Crew::of(&farm, 32, &format!("--proc 1 --lock {lock}"));
        let started = began.elapsed();
        for done in crew.end() {
            done.leaves(0);
        }
        println!(
            "{lock}: 32 started in {started:?}, over in {:?}",
            began.elapsed()
        );
        assert_complete(&farm, n);
        let ends = good_ends(&farm);
        assert_eq!(ends.len() as u64, n);
        assert!(ends.values().all(|&ends| ends == 1));
        let prepared = log(&farm)
            .iter()
            .filter(|entry| entry["did"] == "prepare")
            .count();
        assert!(prepared <= 1, "prepared {prepared} times");
    }
}

/// Killed at every call with which a workdir is prepared, while others wait.
#[test]
fn one_that_dies_while_preparing_is_taken_over() {
    if !has("strace") {
        return skip("there is no strace");
    }
    for lock in ["flock", "link"] {
        let mut nth = 1;
        loop {
            let farm = Farm::of(tasks(5, |_| "true".into()));
            let args = format!("--proc 1 --lock {lock} --takeover 1s");
            let calls = "pwrite64,renameat,fdatasync,fsync,mkdirat,unlinkat";
            let inject = format!("inject={calls}:signal=KILL:when={nth}");
            let trace = ["strace", "-f", "-o", "/dev/null", "-e", &inject];
            let doomed = farm.farm(&args).under(trace).start();
            let others = Crew::of(&farm, 2, &args);
            let died = wait(doomed).status.code().is_none();
            for done in others.end() {
                // A second is short: who waits for a slow file system may be cut off.
                let code = done.status.code();
                let is_well = matches!(code, Some(0 | 76));
                assert!(is_well, "{lock} {nth}: {code:?}: {}", done.stderr);
            }
            wait(farm.farm(&args).start()).exits(0);
            assert_complete(&farm, 5);
            nth += 1;
            if !died || nth > 14 {
                break;
            }
        }
        println!("{lock}: {} places to die at", nth - 1);
    }
}
