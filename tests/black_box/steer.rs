//! Commands that steer a run, or wait for it, from anywhere.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pytf::farm::lock_wait::{LockWaiter, cancellation};
use pytf::workdir::open::{OpenOptions, Ownership, Workdir};
use pytf::workdir::orders::{Order, give};

use crate::harness::{Farm, Gate, Running, cut_at_each, has, is_alive, skip, state, tasks, until};

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
    let done = wait.wait().leaves(0);
    assert_eq!(done.stdout, b"complete: 1 finished, 0 failed\n");
    pytf.wait().exits(0);
}

/// With ids it waits for these, whatever the others do; its status is theirs.
#[test]
fn wait_for_some_tasks_ends_when_these_have_ended() {
    let farm = Farm::new();
    let (gate, last) = (farm.gate("gate"), farm.gate("last"));
    let lines = ["true".into(), "false".into(), gate.stand(), last.stand()];
    farm.write("tasks.txt", lines.join("\n") + "\n");
    let pytf = farm.farm("--proc 2").start();
    gate.comer();
    last.comer();
    let wait = |args: &str| farm.pytf(format!("wait w {args}").split_whitespace());
    let done = wait("0").run().leaves(0);
    assert_eq!(done.stdout, b"ended: 1 finished, 0 failed\n");
    let done = wait("0-1").run().leaves(1);
    assert_eq!(done.stdout, b"ended: 1 finished, 1 failed\n");
    let early = wait("0,2 --timeout 0.3").run().leaves(75);
    early.says(&["not ended after 300ms: 1 finished, 0 failed, 1 to go"]);
    let none = wait("3-5,9").run().leaves(2);
    none.says(&["not in the run: 4-5,9; it has the tasks 0-3"]);
    let wait_for_both = wait("0 2").start();
    gate.open(1);
    let done = wait_for_both.wait().leaves(0);
    assert_eq!(done.stdout, b"ended: 2 finished, 0 failed\n");
    assert_eq!(farm.ids("finished"), [0, 2], "the last one runs");
    pytf.signal(Signal::SIGKILL);
    pytf.wait();
    until("its task is gone", || farm.survivors().is_empty());
    wait("2").run().exits(0);
    let left = wait("2-3").run().exits(75);
    left.says(&["no process works on the run: 1 finished, 0 failed, 1 to go"]);
    farm.write("tasks.txt", format!("true\nfalse\n{}\n", gate.stand()));
    farm.farm("--drop").run().exits(1);
    let dropped = wait("3").run().exits(2);
    dropped.says(&["will not run: 3; their lines are no longer in the task list"]);
}

/// A killed farmer is still a member by the state: the wait must not last for ever.
#[test]
fn wait_ends_when_the_farmers_are_dead() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()));
    let pytf = farm.farm("").start();
    gate.comer();
    pytf.signal(Signal::SIGKILL);
    pytf.wait();
    until("its task is gone", || farm.survivors().is_empty());
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

/// Two slots, with tasks that stand at the gate until they are let through; a heartbeat is a
/// second.
fn standing(farm: &Farm, n: u64) -> Gate {
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(n, |_| gate.stand()));
    gate
}

const FAST: &str = "--takeover 6 --proc 2";

/// What a paused run does not start is there after the resume; it survives the processes.
#[test]
fn a_paused_run_starts_nothing_until_it_is_resumed() {
    let farm = Farm::new();
    let gate = standing(&farm, 6);
    let pytf = farm.farm(FAST).start();
    gate.comers(2);
    let paused = farm.pytf(["pause", "w"]).run().leaves(0);
    paused.says(&[
        "paused: nothing more is started by 1 process within 1s; running tasks go on; 'pytf \
         resume w' lifts it",
    ]);
    let again = farm.pytf(["pause", "w"]).run().leaves(0);
    again.says(&["the run is paused already; 'pytf resume w' lifts it"]);
    assert_eq!(farm.text("w/orders").lines().count(), 1);
    gate.open(2);
    until("the running tasks have ended", || {
        farm.ids("finished").len() == 2
    });
    until("the process says so", || {
        let stderr = pytf.stderr();
        stderr.contains("the run is paused: nothing more is started; 'pytf resume ")
    });
    let status = farm.pytf(["status", "w"]).run().leaves(0);
    status.says(&["paused (pytf resume lifts it)", "pytf resume w"]);
    let json = farm.pytf(["status", "w", "--json"]).run().leaves(0);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["paused"], &json["state"]),
        (&true.into(), &"running".into())
    );
    let task = farm.pytf(["status", "w", "--task", "5"]).run().leaves(0);
    task.says(&["the run is paused: pytf resume lifts it"]);
    let wait = farm
        .pytf(["wait", "w", "--timeout", "0.1"])
        .run()
        .leaves(75);
    wait.says(&["4 to go, and the run is paused (pytf resume)"]);
    pytf.signal(Signal::SIGTERM);
    let left = pytf.wait().exits(75);
    let summary = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(summary.contains("lifts the pause"), "{summary}");
    farm.assert_exact(6, &[0, 1], &[]);

    // Another process joins, and starts nothing.
    let pytf = farm.farm(FAST).start();
    until("it says so", || pytf.stderr().contains("the run is paused"));
    assert_eq!(farm.ends().len(), 2);
    let resumed = farm.pytf(["resume", "w"]).run().exits(0);
    resumed.says(&["resumed: tasks are started again by 1 process within 1s"]);
    let again = farm.pytf(["resume", "w"]).run().exits(0);
    again.says(&["the run is not paused"]);
    gate.open(4);
    pytf.wait().exits(0).says(&["the run is resumed"]);
    farm.assert_exact(6, &[0, 1, 2, 3, 4, 5], &[]);
}

/// Whether all of these are stopped by a signal.
fn are_stopped(pids: &[i32]) -> bool {
    pids.iter().all(|&pid| state(pid) == Some('T'))
}

/// A run whose two tasks stand at the gate and are stopped: the process, and theirs.
fn stopped<'f>(farm: &'f Farm, gate: &Gate, args: &str) -> (Running<'f>, Vec<i32>) {
    let pytf = farm.farm(&format!("{FAST} {args}")).start();
    let pids: Vec<i32> = gate.comers(2).into_iter().map(|(_, pid)| pid).collect();
    let paused = farm.pytf(["pause", "w", "--stop"]).run().leaves(0);
    paused.says(&["nothing more is started by 1 process within 1s, and running tasks are stopped"]);
    until("the tasks are stopped", || are_stopped(&pids));
    (pytf, pids)
}

/// What somebody else continues is stopped again, until the resume or a pause without --stop.
#[test]
fn a_pause_with_stop_stops_running_tasks_until_it_is_lifted() {
    let farm = Farm::new();
    let gate = standing(&farm, 4);
    let (pytf, pids) = stopped(&farm, &gate, "");
    let again = farm.pytf(["pause", "w", "--stop"]).run().leaves(0);
    again.says(&["the run is paused already, and running tasks are stopped"]);
    assert_eq!(
        farm.text("w/orders").lines().count(),
        1,
        "nothing was to be done"
    );
    assert!(farm.text("w/orders").contains(r#""stop":true"#));
    let status = farm.pytf(["status", "w"]).run().leaves(0);
    status.says(&["paused, running tasks stopped (pytf resume continues them)"]);
    let json = farm.pytf(["status", "w", "--json"]).run().leaves(0);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["paused"], &json["tasks_stopped"]),
        (&true.into(), &true.into())
    );
    for &pid in &pids {
        kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    }
    until("they are stopped again", || are_stopped(&pids));
    farm.pytf(["pause", "w"])
        .run()
        .leaves(0)
        .says(&["running tasks go on"]);
    gate.open(2);
    until("they go on", || farm.ids("finished").len() == 2);
    assert_eq!(farm.ends().len(), 2, "the pause holds");
    farm.pytf(["resume", "w"]).run().leaves(0);
    let pids: Vec<i32> = gate.comers(2).into_iter().map(|(_, pid)| pid).collect();
    farm.pytf(["pause", "w", "--stop"]).run().leaves(0);
    until("these are stopped, too", || are_stopped(&pids));
    farm.pytf(["resume", "w"]).run().leaves(0);
    gate.open(2);
    let words = ["running tasks are stopped", "running tasks are continued"];
    let done = pytf.wait().exits(0).says(&words);
    assert!(!done.stderr.contains("kill -CONT"), "{}", done.stderr);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
}

/// Stopped tasks must not keep a process from leaving.
#[test]
fn stopped_tasks_end_when_the_run_stops_or_drains() {
    for command in ["stop", "drain", "signal"] {
        let farm = Farm::new();
        let gate = standing(&farm, 2);
        // The grace period would be over long after the watchdog.
        let (pytf, _) = stopped(&farm, &gate, "--grace 1h");
        match command {
            "signal" => pytf.signal(Signal::SIGTERM),
            command => drop(farm.pytf([command, "w"]).run().leaves(0)),
        }
        if command == "drain" {
            gate.open(2);
        }
        let done = pytf.wait();
        let is_drained = command == "drain";
        assert_eq!(done.status.code(), Some(if is_drained { 0 } else { 75 }));
        let finished: &[u64] = if is_drained { &[0, 1] } else { &[] };
        farm.assert_exact(2, finished, &[]);
    }
}

/// Its guard ends tasks also when they are stopped; what joins then starts nothing.
#[test]
fn stopped_tasks_die_with_their_process_and_the_pause_holds() {
    let farm = Farm::new();
    let gate = standing(&farm, 2);
    let (pytf, pids) = stopped(&farm, &gate, "");
    pytf.signal(Signal::SIGKILL);
    pytf.wait();
    until("the tasks are gone", || {
        pids.iter().all(|&pid| !is_alive(pid))
    });
    let pytf = farm.farm(FAST).start();
    until("it says so", || pytf.stderr().contains("the run is paused"));
    assert_eq!(farm.ends().len(), 0);
    farm.pytf(["resume", "w"]).run().exits(0);
    let attempts = gate.comers(2).len();
    assert_eq!(attempts, 2);
    gate.open(2);
    pytf.wait().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
}

/// A task cannot exceed its time limit while it is not allowed to run.
#[test]
fn the_time_limit_of_a_stopped_task_does_not_run() {
    let farm = Farm::new();
    let gate = standing(&farm, 2);
    let (pytf, _) = stopped(&farm, &gate, "--task-timeout 5s");
    let beats = || farm.records("beat").len();
    let before = beats();
    until("the limit would be over", || beats() > before + 5);
    farm.pytf(["resume", "w"]).run().leaves(0);
    until("they go on", || pytf.stderr().contains("are continued"));
    let before = beats();
    until("they are within their limit", || beats() > before);
    gate.open(2);
    pytf.wait().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
}

/// A task that was asked to end before the pause is not stopped, and is killed in time.
#[test]
fn a_pause_does_not_save_a_task_that_is_over_its_time_limit() {
    let farm = Farm::of("trap 'touch asked' TERM; while :; do sleep 0.1; done\n");
    let limits = "--takeover 6 --task-timeout 0.3s --grace 4";
    let pytf = farm.farm(limits).start();
    until("it is asked to end", || farm.path("asked").exists());
    farm.pytf(["pause", "w", "--stop"]).run().leaves(0);
    until("the pause is obeyed", || {
        pytf.stderr().contains("running tasks are stopped")
    });
    until("it was killed", || farm.ids("failed") == [0]);
    assert!(farm.text("w/lock").contains("\"stopped\":true"));
    pytf.wait().exits(1);
}

/// All processes that are there stop, as after SIGTERM; one that starts later runs the rest.
#[test]
fn stop_ends_the_processes_that_are_there_and_no_later_one() {
    let farm = Farm::new();
    let gate = standing(&farm, 6);
    let both = [(); 2].map(|()| farm.farm(&format!("{FAST} --grace 1")).start());
    gate.comers(4);
    let stop = farm.pytf(["stop", "w"]).run().leaves(0);
    stop.says(&["stop: running tasks are stopped by 2 processes within 1s, and wait again"]);
    let codes = both.map(|pytf| {
        let done = pytf.wait();
        assert!(
            done.stderr.contains("pytf stop: nothing more is started"),
            "{}",
            done.stderr
        );
        done.status.code()
    });
    assert!(codes.contains(&Some(75)), "{codes:?}");
    farm.assert_exact(6, &[], &[]);
    let none = farm.pytf(["stop", "w"]).run().exits(0);
    none.says(&["no process works on the run: nothing to do"]);
    let pytf = farm.farm(FAST).start();
    gate.open(6);
    pytf.wait().exits(0);
    farm.assert_exact(6, &[0, 1, 2, 3, 4, 5], &[]);
}

/// A process that is drained finishes what runs, gives back the rest, and leaves.
#[test]
fn drain_lets_running_tasks_end_and_leaves() {
    let farm = Farm::new();
    let gate = standing(&farm, 6);
    let pytf = farm.farm(FAST).start();
    gate.comers(2);
    let node = farm.headers()[0]["host"].as_str().unwrap().to_owned();
    let other = farm
        .pytf(["drain", "w", "--node", "elsewhere"])
        .run()
        .leaves(2);
    other.says(&[
        "no process works on node elsewhere: the run has processes on",
        &node,
    ]);
    let drain = farm.pytf(["drain", "w", "--node", &node]).run().leaves(0);
    drain.says(&["drain: within 1s the processes on", "start nothing more"]);
    until("it has obeyed", || {
        pytf.stderr().contains("pytf drain; running tasks go on")
    });
    gate.open(2);
    pytf.wait().exits(75).says(&["pytf drain"]);
    farm.assert_exact(6, &[0, 1], &[]);
    let pytf = farm.farm(FAST).start();
    gate.open(4);
    pytf.wait().exits(0);
    farm.assert_exact(6, &[0, 1, 2, 3, 4, 5], &[]);
}

/// A later pytf may give orders that this one does not know: they are reported and nothing
/// else.
#[test]
fn an_order_that_is_not_known_is_reported_and_not_obeyed() {
    let farm = Farm::new();
    let gate = standing(&farm, 3);
    let pytf = farm.farm(FAST).start();
    gate.comers(2);
    let options = OpenOptions {
        ownership: Ownership::AsItIs,
        ..OpenOptions::default()
    };
    let workdir = Workdir::open(&farm.path("w"), options).unwrap();
    let (_cancel, canceled) = cancellation();
    let mut waiter = LockWaiter::new(canceled, None, Duration::from_secs(6));
    let order = Order::Unknown("dance".into());
    give(&workdir, "a later pytf", &mut waiter, &order).unwrap();
    until("it is reported", || {
        pytf.stderr()
            .contains("an order of a later pytf is not obeyed here: dance")
    });
    gate.open(3);
    let done = pytf.wait().exits(0);
    assert_eq!(done.stderr.matches("later pytf").count(), 1);
}

#[test]
fn orders_need_a_workdir() {
    let farm = Farm::of("true\n");
    for command in ["pause", "resume", "stop", "drain"] {
        farm.pytf([command, "w"])
            .run()
            .exits(74)
            .says(&["w is not a workdir"]);
    }
    farm.farm("").run().exits(0);
    farm.pytf(["pause", "w"])
        .run()
        .exits(0)
        .says(&["no process works on the run"]);
    farm.farm("").run().exits(0);
}

/// Killed at any write or sync, a command has given its order or has not; the workdir is whole,
/// and the command works when it is repeated.
#[test]
fn an_order_that_is_cut_off_is_given_in_whole_or_not_at_all() {
    if !has("strace") {
        return skip("no strace here");
    }
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    cut_at_each(&[("pwrite64", 3), ("fdatasync", 1)], |inject, _| {
        let cut = farm.pytf(["pause", "w"]).injected(inject, None).run();
        farm.pytf(["repair", "--check", "w"]).run().exits(0);
        farm.pytf(["pause", "w"]).run().exits(0);
        farm.pytf(["resume", "w"]).run().exits(0);
        cut.status.code()
    });
    let orders = farm.text("w/orders");
    assert!(orders.lines().all(|line| line.ends_with("\"}")), "{orders}");
    farm.farm("").run().exits(0);
}

/// A process that died before it had read the list leaves a workdir without a state: an order
/// must not be taken for the beginning of the run.
#[test]
fn a_run_that_has_not_begun_takes_no_order() {
    let farm = Farm::of("true\n");
    farm.make_dir("w/nodes");
    farm.write("w/lock", "");
    let early = farm.pytf(["pause", "w"]).run().exits(2);
    early.says(&["the run has not begun"]);
    farm.farm("").run().exits(0);
    farm.assert_exact(1, &[0], &[]);
}
