//! `--follow`: a farm that stays for tasks that are added, and `pytf close`.

use std::fs::File;

use nix::sys::signal::Signal;

use crate::harness::{Farm, Running, until};

/// A farm that follows; a heartbeat is a second.
fn following<'f>(farm: &'f Farm, args: &str) -> Running<'f> {
    let line = format!("-w w --proc 2 --takeover 6 --follow {args}");
    farm.pytf(line.split_whitespace()).start()
}

fn add(farm: &Farm, command: &str) {
    farm.pytf(["add", "w", command]).run().leaves(0);
}

fn waits(farm: &Farm, pytf: &Running<'_>) {
    until("it says that it waits", || {
        pytf.stderr().contains("waiting for tasks")
    });
    until("nothing is left", || {
        let status = farm.pytf(["status", "w", "--json"]).run().leaves(0);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        status["state"] == "complete" && status["followed"] == true
    });
}

/// No list, no workdir: everything comes by `pytf add`.
#[test]
fn a_farm_without_a_list_runs_what_is_added_until_it_is_closed() {
    let farm = Farm::new();
    let pytf = following(&farm, "");
    waits(&farm, &pytf);
    let status = farm.pytf(["status", "w"]).run().leaves(0);
    status.says(&["waiting for tasks (pytf close ends that)"]);
    for n in 1..=3 {
        add(&farm, &format!("echo {n} >> ran"));
        until("it has run", || farm.text("ran").lines().count() == n);
    }
    waits(&farm, &pytf);
    // All that is known has ended.
    let wait = farm.pytf(["wait", "w"]).run().leaves(0);
    assert_eq!(wait.stdout, b"complete: 3 finished, 0 failed\n");
    let close = farm.pytf(["close", "w"]).run().leaves(0);
    close.says(&["close: no more tasks are expected", "leave within 1s"]);
    let done = pytf.wait().exits(0);
    let said = "waiting for tasks of 'pytf add ";
    assert_eq!(done.stderr.matches(said).count(), 1, "{}", done.stderr);
    farm.assert_exact(3, &[0, 1, 2], &[]);
    let status = farm.pytf(["status", "w"]).run().exits(0);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("w: complete"), "{status}");
    farm.pytf(["close", "w"])
        .run()
        .exits(0)
        .says(&["no process works on the run: nothing to do"]);
}

/// What was added before it has left is done, also when it was closed before.
#[test]
fn a_closed_farm_ends_what_is_there_and_takes_what_comes_meanwhile() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", gate.stand() + "\n");
    let pytf = farm.farm("--takeover 6 --follow").start();
    gate.comer();
    farm.pytf(["close", "w"]).run().leaves(0);
    add(&farm, "echo late >> ran");
    until("it has run", || farm.ids("finished") == [1]);
    gate.open(1);
    pytf.wait().exits(0);
    let late = farm.pytf(["add", "w", "true"]).run().exits(0);
    late.says(&["no process works on the run"]);
    // Another one that follows is not concerned.
    let pytf = farm.farm("--takeover 6 --follow").start();
    until("it has run what waited", || {
        farm.ids("finished") == [0, 1, 2]
    });
    waits(&farm, &pytf);
    farm.pytf(["close", "w"]).run().leaves(0);
    pytf.wait().exits(0);
}

#[test]
fn a_farm_that_follows_for_a_while_leaves_when_nothing_has_come() {
    let farm = Farm::of("echo a >> ran\n");
    let done = farm.farm("--follow=0.5s").run().exits(0);
    done.says(&["or until none has come for 500ms"]);
    // As without it.
    let done = farm.farm("--follow=0").run().exits(0);
    assert!(!done.stderr.contains("waiting"), "{}", done.stderr);
    assert_eq!(farm.text("ran"), "a\n");
    farm.farm("--follow=soon")
        .run()
        .exits(2)
        .says(&["--follow"]);
}

/// Tasks that others run are a reason to stay.
#[test]
fn it_does_not_leave_while_others_run_tasks() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", gate.stand() + "\n");
    let busy = farm.farm("--proc 1 --takeover 6").start();
    gate.comer();
    let idle = farm.farm("--proc 1 --no-linger --follow=0.2s").start();
    until("both work", || farm.text("w/lock").contains("\"live\":2"));
    let wait = farm.pytf(["wait", "w", "--timeout", "1"]).run().leaves(75);
    drop(wait);
    assert_eq!(farm.headers().len(), 2);
    assert!(
        !farm.is_over(&farm.farmers()[1]),
        "it is there after five times that time"
    );
    gate.open(1);
    // The other does not follow.
    busy.wait().leaves(0);
    idle.wait().exits(0);
    farm.assert_exact(1, &[0], &[]);
}

#[test]
fn some_follow_and_some_do_not() {
    let farm = Farm::of("true\ntrue\n");
    let follows = farm.farm("--takeover 6 --follow").start();
    waits(&farm, &follows);
    // It leaves at once, though another stays.
    farm.farm("").run().leaves(0);
    add(&farm, "false");
    until("it has run", || farm.ids("failed") == [2]);
    waits(&farm, &follows);
    farm.pytf(["status", "w"])
        .run()
        .leaves(0)
        .says(&["waiting for tasks, some failed"]);
    farm.pytf(["wait", "w"]).run().leaves(1);
    farm.pytf(["retry", "w"]).run().leaves(0);
    until("it has run again", || farm.ends().len() == 4);
    waits(&farm, &follows);
    farm.pytf(["close", "w"]).run().leaves(0);
    follows.wait().exits(1);
}

/// A signal, a time limit or the end of the allocation ends it as ever; nothing is left.
#[test]
fn it_ends_by_a_signal_or_by_the_time() {
    let farm = Farm::of("true\n");
    let pytf = farm.farm("--follow").start();
    waits(&farm, &pytf);
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(0);
    farm.farm("--follow --timeout 0.5s").run().exits(0);
    farm.farm("--follow --walltime 2s").run().exits(0);
    farm.farm("--follow")
        .env("PYTF_FOLLOW", "1h")
        .env("PYTF_TIMEOUT", "0.5")
        .run()
        .exits(0);
    let pytf = farm.farm("--follow --takeover 6").start();
    waits(&farm, &pytf);
    farm.pytf(["drain", "w"]).run().leaves(0);
    pytf.wait().exits(0);
}

/// A variable is enough where it says that the farm stays.
#[test]
fn it_may_be_asked_for_by_variables() {
    let farm = Farm::new();
    let pytf = farm.pytf([""; 0]);
    let pytf = pytf
        .env("PYTF_WORKDIR", "w")
        .env("PYTF_FOLLOW", "always")
        .start();
    waits(&farm, &pytf);
    farm.pytf(["close", "w"]).run().leaves(0);
    pytf.wait().exits(0);
}

/// A stream and added tasks: the farm goes on when the stream has ended.
#[test]
fn it_stays_when_its_stream_has_ended() {
    let farm = Farm::new();
    farm.write("input", "echo a >> ran\n");
    let args = "- -w w --proc 1 --takeover 6 --follow".split(' ');
    let pytf = farm
        .pytf(args)
        .stdin(File::open(farm.path("input")).unwrap())
        .start();
    waits(&farm, &pytf);
    add(&farm, "echo b >> ran");
    until("it has run", || farm.text("ran") == "a\nb\n");
    farm.pytf(["close", "w"]).run().leaves(0);
    pytf.wait().exits(0);
}

/// Who wakes up after a freeze obeys, under another name.
#[test]
fn a_frozen_process_obeys_when_it_wakes() {
    let farm = Farm::of("true\n");
    let one = farm.farm("--takeover 2s --follow").start();
    waits(&farm, &one);
    let name = farm.farmers().remove(0);
    one.signal(Signal::SIGSTOP);
    let other = farm.farm("--takeover 2s --follow").start();
    until("the frozen one is taken for dead", || farm.is_over(&name));
    farm.pytf(["close", "w"]).run().leaves(0);
    other.wait().leaves(0);
    one.signal(Signal::SIGCONT);
    one.wait().exits(0).says(&["joins again"]);
}
