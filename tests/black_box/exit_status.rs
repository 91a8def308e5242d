//! The exit status speaks of the run: one test a row of its table.
//!
//! 70 (a bug) cannot be provoked from outside.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::doubles::clock;
use crate::harness::{Farm, pause, skip, until};

#[test]
fn exit_0_when_the_run_is_complete_and_nothing_failed() {
    Farm::of("true\n").farm("").run().exits(0);
}

#[test]
fn exit_1_when_the_run_is_complete_and_some_failed() {
    Farm::of("true\nfalse\n").farm("").run().exits(1);
}

#[test]
fn exit_1_also_when_the_failure_is_of_an_earlier_run() {
    let farm = Farm::of("false\n");
    farm.farm("").run().exits(1);
    farm.write("tasks.txt", "false\ntrue\n");
    farm.farm("").run().exits(1);
}

#[test]
fn exit_2_for_a_usage_error() {
    let wrong: [&[&str]; 9] = [
        &["--no-such-option", "tasks.txt"],
        &[],
        &["tasks.txt", "--proc", "0"],
        &["tasks.txt", "--proc", "-1"],
        &["tasks.txt", "--proc", "many"],
        &["tasks.txt", "--logs", "some"],
        &["tasks.txt", "--lock", "hope"],
        &["retry"],
        &["log", "w"],
    ];
    for args in wrong {
        eprintln!("{args:?}");
        let farm = Farm::of("true\n");
        let done = farm.pytf(args).run().exits(2);
        assert!(!done.stderr.is_empty());
        assert!(!farm.path("tasks.txt_workdir").exists());
    }
}

#[test]
fn exit_2_for_an_input_error() {
    let farm = Farm::new();
    farm.farm("").run().exits(2).says(&["tasks.txt"]);
}

/// The clock comes to the end of what it can tell, which nothing is made for.
#[test]
fn exit_70_at_a_bug() {
    let Some(clock) = clock() else {
        return skip("there is no compiler for the double of the clock");
    };
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: i64 = uptime.split('.').next().unwrap().parse().unwrap();
    let farm = Farm::of("true\n");
    farm.write("jump", (i64::MAX - uptime - 9).to_ne_bytes());
    let pytf = farm.farm("").env("LD_PRELOAD", clock);
    let done = pytf.env("FAKE_JUMP", farm.path("jump")).run().exits(70);
    done.says(&[
        "panicked",
        "this is a bug in pytf",
        "the same command again",
    ]);
    farm.farm("").run().exits(0);
    farm.assert_exact(1, &[0], &[]);
}

#[test]
fn exit_74_when_the_workdir_cannot_be_used_and_it_names_the_file_and_the_error() {
    let farm = Farm::of("true\n");
    farm.write("w", "a file\n");
    farm.farm("")
        .run()
        .exits(74)
        .says(&["w", "Not a directory"]);
    let farm = Farm::of("true\n");
    farm.make_dir("w/finished");
    farm.farm("").run().exits(74).says(&[
        "finished",
        "it is a directory, not a file",
        "pytf repair",
    ]);
    assert_eq!(farm.outcomes().len(), 0, "nothing was started");
}

#[test]
fn exit_75_when_stopped_with_work_left() {
    let farm = Farm::of("sleep 1000\n");
    farm.farm("--timeout 1").run().exits(75).says(&["1 left"]);
}

#[test]
fn exit_130_at_the_second_ctrl_c() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("trap '' INT TERM; {}\n", gate.stand()));
    let mut pytf = farm.farm("--grace 1h").start();
    gate.comer();
    until("pytf has given in", || {
        let _ = kill(Pid::from_raw(pytf.pid()), Signal::SIGINT);
        pause(Duration::from_millis(200));
        pytf.child.try_wait().unwrap().is_some()
    });
    pytf.wait().exits(130);
}

#[test]
fn a_farmer_that_leaves_while_others_work_exits_0() {
    // `srun -K` would kill the others if it told of the failure.
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\nfalse\n", gate.stand()));
    let first = farm.farm("--proc 1").start();
    gate.comer();
    farm.farm("--proc 1 --no-linger").run().leaves(0);
    gate.open(1);
    first.wait().exits(1);
    farm.assert_exact(2, &[0], &[1]);
}

#[test]
fn a_stop_of_a_farm_that_is_complete_anyway_is_no_stop() {
    // The signal comes when the last task has ended: whatever is told must fit
    // what is in the files.
    let farm = Farm::of("true\n");
    for _ in 0..10 {
        let pytf = farm.farm("").start();
        until("the task is finished", || farm.ids("finished") == [0]);
        let _ = kill(Pid::from_raw(pytf.pid()), Signal::SIGTERM);
        let done = pytf.wait();
        assert!(
            matches!(done.status.code(), Some(0) | None),
            "{:?}: {}",
            done.status,
            done.stderr
        );
    }
}

#[test]
fn exit_76_when_cut_off_and_taken_over() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()));
    let cut_off = farm.farm("--proc 1 --takeover 2s").start();
    gate.comer();
    cut_off.signal(Signal::SIGSTOP);
    let other = farm.farm("--proc 1 --takeover 2s").start();
    // It waits until the silence has lasted for long enough, and starts the task again.
    gate.comer();
    // Otherwise it joins again.
    cut_off.signal(Signal::SIGTERM);
    cut_off.signal(Signal::SIGCONT);
    cut_off.wait().leaves(76);
    gate.open(1);
    other.wait().exits(0);
    farm.assert_exact(1, &[0], &[]);
}
