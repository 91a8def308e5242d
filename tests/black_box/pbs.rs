//! Under PBS, which no package registry has: doubles that behave as OpenPBS 23 was
//! seen to. It signals every process of a job's session, the youngest first, and
//! `pytf` up to 0.1 s after its tasks.

use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::harness::{Farm, Gate, Running, pause};

/// Shell: answers each signal in its own way, tells that it is there, and stays.
fn answering(gate: &Gate, answer: &str) -> String {
    let tell = gate.tell("$PYTF_TASK_ID $$");
    format!("trap '{answer}' TERM USR1; {tell}; sleep 1000 & while :; do wait; done\n")
}

/// What tasks answer to a signal: a death of it, statuses of all kinds.
fn answers(gate: &Gate) -> String {
    let stand = gate.stand();
    let all = ["exit 143", "exit 1", "exit 85"].map(|answer| answering(gate, answer));
    format!("{stand}\n{}", all.concat())
}

/// Signals a job as PBS does: its tasks, and a moment later `pytf`.
fn signal_job(pytf: &Running<'_>, tasks: &[(u64, i32)], signal: Signal) {
    for &(_, pid) in tasks {
        killpg(Pid::from_raw(pid), signal).unwrap();
    }
    pause(Duration::from_millis(100));
    pytf.signal(signal);
}

/// All four were interrupted, whatever they said, and wait again.
fn all_were_interrupted(farm: &Farm) {
    farm.assert_exact(4, &[], &[]);
    for id in 0..4 {
        assert_eq!(farm.outcomes()[&id], "interrupted", "task {id}");
    }
}

#[test]
fn what_a_task_answers_to_qdel_is_no_failure_of_it() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", answers(&gate));
    let pytf = farm.farm("--proc 4").start();
    signal_job(&pytf, &gate.comers(4), Signal::SIGTERM);
    pytf.wait().exits(75);
    all_were_interrupted(&farm);
}

#[test]
fn what_a_task_answers_to_a_signal_of_the_whole_job_is_no_failure_of_it() {
    // With a known end SIGUSR1 only means that nothing more is started: the farm
    // goes on, but its tasks have got the signal as well.
    for known in ["--walltime 1h", ""] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        farm.write("tasks.txt", answers(&gate));
        let pytf = farm.farm(&format!("--proc 4 {known}")).start();
        signal_job(&pytf, &gate.comers(4), Signal::SIGUSR1);
        pytf.wait().exits(75);
        all_were_interrupted(&farm);
    }
}

#[test]
fn a_task_that_dies_of_our_signal_much_later_was_interrupted_and_other_failures_are_its_own() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let late = |then: &str| {
        let (tell, pass) = (gate.tell("$PYTF_TASK_ID $$"), gate.pass());
        format!("trap '{pass}; {then}' USR1; {tell}; sleep 1000 & while :; do wait; done\n")
    };
    let die = late("trap - USR1; kill -USR1 $$");
    farm.write("tasks.txt", format!("{die}{}", late("exit 3")));
    let pytf = farm.farm("--proc 2 --walltime 1h").start();
    signal_job(&pytf, &gate.comers(2), Signal::SIGUSR1);
    // It is time itself that makes the difference.
    pause(Duration::from_secs(4));
    gate.open(2);
    pytf.wait().exits(75);
    farm.assert_exact(2, &[], &[1]);
    assert_eq!(farm.outcomes()[&0], "interrupted");
    assert_eq!(farm.outcomes()[&1], "exit 3");
}
