//! `--max-fail`: a run in which too much fails ends, and can be resumed.

use crate::harness::{Farm, until};

/// So many tasks that fail as long as there is no file `ok`, and then so many that run until
/// there is a file `end`.
fn list(failing: usize, others: usize) -> String {
    let other = "until test -e end; do sleep 0.05; done\n";
    "test -e ok\n".repeat(failing) + &other.repeat(others)
}

const SAID: &str = "the limit of --max-fail";

#[test]
fn after_so_many_failures_nothing_more_is_started() {
    for limit in ["--max-fail 10", "--max-fail 2.5%"] {
        let farm = Farm::of(list(10, 390));
        let running = farm.farm(limit).start();
        until("the limit is reported", || running.stderr().contains(SAID));
        // The two that run end, and no other is started.
        farm.write("end", "");
        running.wait().exits(1);
        assert_eq!(farm.ids("failed").len(), 10);
        assert_eq!(farm.ids("finished").len(), 2);
        assert_eq!(farm.ids("toprocess").len(), 388);
        // What failed before does not count again.
        farm.farm(limit).run().exits(1);
        assert_eq!(farm.ids("failed").len(), 10);
        assert_eq!(farm.ids("finished").len(), 390);
    }
}

#[test]
fn fewer_failures_end_nothing() {
    let farm = Farm::of(list(9, 91));
    farm.write("end", "");
    farm.farm("--max-fail 10").run().exits(1);
    assert_eq!(farm.ids("finished").len(), 91);
    assert_eq!(farm.ids("toprocess").len(), 0);
}

/// What is put back of the failures of an earlier run takes nothing from those of this one.
#[test]
fn failures_of_this_run_count_when_older_ones_are_put_back() {
    let farm = Farm::of("test -e ok\n".repeat(5));
    farm.farm("").run().exits(1);
    let gate = farm.gate("gate");
    let last = "until test -e end; do sleep 0.05; done\n".repeat(2);
    let new = format!("{}{}; false\n{last}", "false\n".repeat(3), gate.stand());
    farm.write("tasks.txt", "test -e ok\n".repeat(5) + &new);
    let running = farm.farm("-n 6 --max-fail 4").start();
    gate.comer();
    until("three have failed", || farm.ids("failed").len() == 8);
    farm.write("ok", "");
    farm.pytf(["retry", "w", "0-4"]).run().leaves(0);
    until("they have run again", || farm.ids("finished").len() == 5);
    gate.open(1);
    until("the limit is reported", || running.stderr().contains(SAID));
    farm.write("end", "");
    running.wait().exits(1);
    assert_eq!(farm.ids("failed"), [5, 6, 7, 8]);
}

/// With `--halt now` what runs is stopped, and waits again; else it goes on to its end.
#[test]
fn running_tasks_go_on_or_are_stopped() {
    for (halt, finished) in [("soon", 1), ("now", 0)] {
        let farm = Farm::of(
            "touch began; until test -e end; do sleep 0.05; done\n\
             until test -e began; do sleep 0.05; done; false\n",
        );
        let line = format!("--max-fail 1 --halt {halt} --grace 0");
        let running = farm.farm(&line).start();
        until("the limit is reported", || running.stderr().contains(SAID));
        if finished == 1 {
            farm.write("end", "");
        }
        running.wait().exits(1);
        assert_eq!(farm.ids("failed"), [1], "{halt}");
        assert_eq!(farm.ids("finished").len(), finished, "{halt}");
        assert_eq!(farm.ids("toprocess").len(), 1 - finished, "{halt}");
    }
}

/// All processes of a run count together, and each stops starting tasks.
#[test]
fn the_failures_of_all_processes_count() {
    let farm = Farm::of(list(40, 400));
    let line = "--max-fail 40 --no-quarantine --takeover 6";
    let all: Vec<_> = (0..4).map(|_| farm.farm(line).start()).collect();
    until("all report the limit", || {
        all.iter().all(|one| one.stderr().contains(SAID))
    });
    farm.write("end", "");
    for one in all {
        one.wait().leaves(1);
    }
    assert_eq!(farm.ids("failed").len(), 40);
    // What ran at that moment; one that joined later has started nothing.
    let (finished, left) = (farm.ids("finished").len(), farm.ids("toprocess").len());
    assert!(finished <= 8, "{finished} finished");
    assert_eq!(finished + left, 400);
}
