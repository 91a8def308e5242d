//! Commands that steer a run, or wait for it, from anywhere.

use crate::harness::{Farm, tasks};

#[test]
fn wait_ends_with_the_status_of_the_run() {
    let farm = Farm::of("true\nfalse\n");
    farm.pytf(["wait", "w"]).run().exits(74).says(&["w"]);
    farm.farm("").run().exits(1);
    let done = farm.pytf(["wait", "w"]).run().exits(1);
    assert_eq!(done.stdout, b"complete: 1 finished, 1 failed\n");
    farm.pytf(["retry", "w"]).run().exits(0);
    let left = farm.pytf(["wait", "w"]).run().exits(75);
    left.says(&[
        "no process works on the run: 1 finished, 0 failed, 1 to go; run the same command",
    ]);
}

#[test]
fn wait_returns_when_the_last_task_has_ended_and_not_before() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()));
    let pytf = farm.farm("").start();
    gate.comer();
    let early = farm
        .pytf(["wait", "w", "--timeout", "0.3"])
        .run()
        .leaves(75);
    early.says(&["not complete after 300ms: 0 finished, 0 failed, 1 to go"]);
    let wait = farm.pytf(["wait", "w"]).start();
    gate.open(1);
    let done = wait.wait().exits(0);
    assert_eq!(done.stdout, b"complete: 1 finished, 0 failed\n");
    pytf.wait().exits(0);
}

/// A killed farmer is still a member by the state: the wait must not last for ever.
#[test]
fn wait_ends_when_the_farmers_are_dead() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()));
    let pytf = farm.farm("").start();
    gate.comer();
    pytf.signal(nix::sys::signal::Signal::SIGKILL);
    pytf.wait();
    let left = farm.pytf(["wait", "w"]).run().exits(75);
    left.says(&["no process works on the run"]);
}

#[test]
fn run_is_the_farm_by_its_name_whatever_the_list_is_called() {
    let farm = Farm::of(tasks(2, |_| "true".into()));
    farm.write("status", "true\n");
    farm.pytf(["run", "tasks.txt", "--workdir", "w"])
        .run()
        .exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
    farm.pytf(["run", "-n", "1", "status"]).run().exits(0);
    assert_eq!(farm.text("status_workdir/finished"), "0 true\n");
    let none = farm.pytf(["run", "pause"]).run().exits(2);
    none.says(&["pause"]);
    farm.pytf(["run"]).run().exits(2).says(&["TASKLIST"]);
    farm.pytf(["run", "--help"])
        .run()
        .exits(0)
        .says(&["--proc"]);
    farm.pytf(["help", "run"]).run().exits(0).says(&["--proc"]);
}
