//! `--max-fail`: a run in which too much fails ends, and can be resumed.

use crate::harness::{Farm, until};

/// A list of tasks that fail as long as there is no file `ok`.
fn failing(tasks: usize) -> String {
    "test -e ok\n".repeat(tasks)
}

#[test]
fn after_so_many_failures_nothing_more_is_started() {
    for limit in ["--max-fail 10", "--max-fail 2.5%"] {
        let farm = Farm::of(failing(400));
        let done = farm.farm(limit).run().exits(1);
        let (failed, left) = (farm.ids("failed").len(), farm.ids("toprocess").len());
        assert_eq!(failed + left, 400);
        assert!(failed >= 10 && left > 0, "{failed} failed, {left} left");
        assert!(
            done.stderr.contains("the limit of --max-fail"),
            "{}",
            done.stderr
        );
        // What failed before does not count again.
        farm.write("ok", "");
        farm.farm(limit).run().exits(1);
        assert_eq!(farm.ids("failed").len(), failed);
        assert_eq!(farm.ids("finished").len(), left);
    }
}

#[test]
fn fewer_failures_end_nothing() {
    let list = failing(9) + &"true\n".repeat(91);
    let farm = Farm::of(list);
    farm.farm("--max-fail 10").run().exits(1);
    assert_eq!(farm.ids("finished").len(), 91);
    assert_eq!(farm.ids("toprocess").len(), 0);
}

/// With `--halt now` what runs is stopped, and waits again; else it goes on to its end.
#[test]
fn running_tasks_go_on_or_are_stopped() {
    for (halt, finished) in [("soon", 1), ("now", 0)] {
        let farm = Farm::of(
            "touch began; while ! test -e end; do sleep 0.05; done\n\
             until test -e began; do sleep 0.05; done; false\n",
        );
        let line = format!("--max-fail 1 --halt {halt} --grace 0");
        let running = farm.farm(&line).start();
        until("the limit is reported", || {
            running.stderr().contains("the limit of --max-fail")
        });
        if finished == 1 {
            farm.write("end", "");
        }
        running.wait().exits(1);
        assert_eq!(farm.ids("failed"), [1], "{halt}");
        assert_eq!(farm.ids("finished").len(), finished, "{halt}");
        assert_eq!(farm.ids("toprocess").len(), 1 - finished, "{halt}");
    }
}

/// All processes of a run count together.
#[test]
fn the_failures_of_all_processes_count() {
    let farm = Farm::of(failing(4000));
    let others: Vec<_> = (0..3).map(|_| farm.farm("--max-fail 40").start()).collect();
    farm.farm("--max-fail 40").run().exits(1);
    for other in others {
        other.wait().exits(1);
    }
    let (failed, left) = (farm.ids("failed").len(), farm.ids("toprocess").len());
    assert_eq!(failed + left, 4000);
    assert!(failed >= 40 && left > 0, "{failed} failed, {left} left");
}
