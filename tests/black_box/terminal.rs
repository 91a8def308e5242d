//! At a terminal, and where tasks are stopped: nobody waits for what cannot come, and
//! time in which the farm stands still is not charged.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Farm, has, pause, skip, state, until};

/// Runs a program with a terminal of its own, and ends with its status.
const AT_A_TERMINAL: &str = "import os, pty, sys; \
    sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

#[test]
fn a_task_that_reads_the_terminal_fails_at_once() {
    if !has("python3") {
        return skip("no python3");
    }
    let farm = Farm::of("head -c 1 /dev/tty\nread x < /dev/tty\ntrue\n");
    farm.farm("")
        .under(["python3", "-c", AT_A_TERMINAL])
        .run()
        .exits(1);
    farm.assert_exact(3, &[2], &[0, 1]);
    let log = farm.text("w/logs/log_0");
    assert!(log.contains("/dev/tty"), "{log}");
}

#[test]
fn a_task_that_a_signal_has_stopped_is_told_with_its_process() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let tell = gate.tell("$PYTF_TASK_ID $$");
    farm.write(
        "tasks.txt",
        format!("{tell}; kill -STOP $$; echo on > on\n"),
    );
    let pytf = farm.farm("--proc 1").start();
    let (_, pid) = gate.comer();
    until("it is told", || {
        let told = pytf.stderr();
        told.contains("task 0 is stopped by SIGSTOP") && told.contains(&format!("kill -CONT {pid}"))
    });
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    pytf.wait().exits(0);
    assert_eq!(farm.text("on"), "on\n");
}

#[test]
fn ctrl_z_stops_the_tasks_as_well_and_that_time_is_not_charged() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{0}\n{0}\n", gate.stand()));
    let pytf = farm.farm("--proc 2 --task-timeout 3s --timeout 6s").start();
    let tasks = gate.comers(2);
    pytf.signal(Signal::SIGTSTP);
    let all = || tasks.iter().map(|(_, pid)| *pid).chain([pytf.pid()]);
    until("all stand still", || {
        all().all(|pid| state(pid) == Some('T'))
    });
    // It is time itself that must not count.
    pause(Duration::from_secs(7));
    pytf.signal(Signal::SIGCONT);
    until("all go on", || all().all(|pid| state(pid) != Some('T')));
    gate.open(2);
    pytf.wait().exits(0).says(&["SIGTSTP"]);
    farm.assert_exact(2, &[0, 1], &[]);
}

#[test]
fn what_a_task_leaves_behind_is_told_in_the_run_and_as_advice() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!("sleep 1000 & exit 0\n{}\n", gate.stand()),
    );
    let pytf = farm.farm("--proc 2").start();
    gate.comer();
    until("it is told", || {
        pytf.stderr()
            .contains("task 0 ended and left a process behind")
    });
    gate.open(1);
    pytf.wait().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
    let status = farm.pytf(["status", "w"]).run().exits(0);
    status.says(&["a task ended while processes that it had started still ran"]);
    let notes = farm.records("note");
    assert!(notes.iter().any(|note| note["mark"] == "left-behind"));
}
