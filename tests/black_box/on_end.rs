//! The command of `--on-end`: once when a run is complete, and not before.

use nix::sys::signal::Signal;

use crate::harness::{Farm, tasks, until};

/// What appends a line about the end to a file.
const NOTE: &str = "echo $PYTF_RUN_FINISHED $PYTF_RUN_FAILED $PYTF_RUN_STATUS >> ended";

/// `pytf tasks.txt` with the command, and these options.
fn args(command: &str, more: &str) -> Vec<String> {
    let args = format!("tasks.txt --workdir w --proc 2 {more}");
    let args = args.split_whitespace().map(str::to_owned);
    args.chain(["--on-end".into(), command.into()]).collect()
}

/// A job that finds nothing left to do must not submit the next stage once more; a run that
/// went on after a retry has an end of its own.
#[test]
fn the_command_runs_once_when_tasks_have_ended_and_all_have() {
    let farm = Farm::of("true\n[ -e good ]\n");
    let done = farm.pytf(args(NOTE, "")).run().exits(1);
    assert!(!done.stderr.contains("on-end"), "{}", done.stderr);
    assert_eq!(farm.text("ended"), "1 1 1\n");
    farm.pytf(args(NOTE, "")).run().exits(1);
    assert_eq!(farm.text("ended"), "1 1 1\n", "nothing was left to do");
    farm.write("good", "");
    farm.pytf(["retry", "w"]).run().exits(0);
    farm.pytf(args(NOTE, "")).run().exits(0);
    assert_eq!(farm.text("ended"), "1 1 1\n2 0 0\n");
}

/// Its output is that of the farm; the run's variables are there, the option's is not, or a
/// job that it submits would inherit it. A run that it starts is one of its own.
#[test]
fn the_command_prints_where_the_farm_does_and_may_start_another_run() {
    let farm = Farm::of("true\n");
    farm.write("next.txt", "true\ntrue\n");
    let pytf = env!("CARGO_BIN_EXE_pytf");
    let command = format!(
        "echo out $PYTF_RUN_WORKDIR; echo err >&2; echo \"inherited: ${{PYTF_ON_END-no}}\"; \
         {pytf} next.txt --quiet"
    );
    let farm_args = ["tasks.txt", "--workdir", "w", "--quiet"];
    let done = farm.pytf(farm_args).env("PYTF_ON_END", &command).run();
    let done = done.exits(0);
    let out = format!("out {}\ninherited: no\n", farm.path("w").display());
    assert_eq!(String::from_utf8_lossy(&done.stdout), out);
    assert_eq!(done.stderr, "err\n");
    assert_eq!(farm.text("next.txt_workdir/finished").lines().count(), 2);
}

/// Of several processes the last one to leave runs it.
#[test]
fn one_of_many_processes_runs_the_command() {
    let farm = Farm::of(tasks(40, |_| "true".into()));
    let all = [(); 4].map(|()| farm.pytf(args(NOTE, "--takeover 6")).start());
    for pytf in all {
        pytf.wait().leaves(0);
    }
    assert_eq!(farm.text("ended"), "40 0 0\n");
}

#[test]
fn a_run_that_is_to_be_resumed_has_not_ended() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("true\n{}\n", gate.stand()));
    let pytf = farm.pytf(args(NOTE, "")).start();
    gate.comer();
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    assert!(!farm.path("ended").exists());
    let pytf = farm.pytf(args(NOTE, "")).start();
    gate.open(1);
    pytf.wait().exits(0);
    assert_eq!(farm.text("ended"), "2 0 0\n");
}

/// A process that died without a task is a member until others fence it: the last one that is
/// alive runs the command all the same.
#[test]
fn a_dead_process_does_not_keep_the_command_from_running() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()));
    let one = farm.pytf(args(NOTE, "")).start();
    gate.comer();
    let other = farm.pytf(args(NOTE, "")).start();
    until("the other has joined", || farm.farmers().len() == 2);
    // Its members hear of each other every ten seconds: it is not fenced yet.
    other.signal(Signal::SIGKILL);
    other.wait();
    gate.open(1);
    one.wait().exits(0);
    assert_eq!(farm.text("ended"), "1 0 0\n");
}

/// Whatever becomes of the command, the status is that of the run.
#[test]
fn a_command_that_fails_is_reported_and_changes_no_status() {
    for (command, words) in [
        (
            "exit 3",
            "the command of --on-end ended with exit status 3: exit 3",
        ),
        (
            "kill -9 $$",
            "the command of --on-end was killed by SIGKILL",
        ),
    ] {
        let farm = Farm::of("true\n");
        let done = farm.pytf(args(command, "--quiet")).run().exits(0);
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
}

/// A signal, or the end of the allocation, ends it.
#[test]
fn the_command_is_stopped_by_a_signal_and_at_the_end_of_the_allocation() {
    for at_the_end in [false, true] {
        let farm = Farm::of("true\n");
        let gate = farm.gate("gate");
        let command = format!("trap '' TERM; {}; sleep 1000", gate.tell("1 $$"));
        let more = if at_the_end { "--walltime 20s" } else { "" };
        let pytf = farm
            .pytf(args(&command, &format!("--grace 1 {more}")))
            .start();
        gate.comer();
        if !at_the_end {
            pytf.signal(Signal::SIGTERM);
        }
        let done = pytf.wait().exits(0);
        done.says(&["the command of --on-end was stopped before its end"]);
    }
}
