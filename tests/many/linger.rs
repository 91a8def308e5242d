//! Processes without work: they stay for as long as another of their job has
//! tasks that may need somebody, and cost next to nothing.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::crew::wait;
use crate::harness::{Farm, Gate, Running, pause, until};
use crate::record::assert_complete;

/// One task whose first attempt stands at the gate, in the hands of one
/// process; and a process of the same job or another that finds nothing to do.
fn idle<'f>(farm: &'f Farm, gate: &Gate, job: &str, args: &str) -> (Running<'f>, Running<'f>) {
    let line = format!("[ $PYTF_ATTEMPT -gt 1 ] || {{ {}; }}\n", gate.stand());
    farm.write("tasks.txt", line);
    let takeover = if args.contains("takeover") { args } else { "" };
    let busy = farm.farm(&format!("--proc 1 {takeover}"));
    let busy = busy.env("SLURM_JOB_ID", "1").start();
    gate.comer();
    let idle = farm.farm(&format!("--proc 1 {args}"));
    let idle = idle.env("SLURM_JOB_ID", job).start();
    (busy, idle)
}

#[test]
fn an_idle_process_takes_over_what_a_killed_one_leaves() {
    for lock in ["flock", "fcntl", "link"] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        let args = format!("--lock {lock} --takeover 2s");
        let line = format!("[ $PYTF_ATTEMPT -gt 1 ] || {{ {}; }}\n", gate.stand());
        farm.write("tasks.txt", line);
        let busy = farm.farm(&args).start();
        gate.comer();
        let idle = farm.farm(&args).start();
        until("the other has joined", || {
            farm.text("w/lock").contains("\"live\":2")
        });
        busy.signal(Signal::SIGKILL);
        wait(busy);
        wait(idle).exits(0).says(&["back in toprocess"]);
        assert_complete(&farm, 1);
    }
}

#[test]
fn an_idle_process_leaves_with_the_last_task() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let (busy, idle) = idle(&farm, &gate, "1", "");
    until("the other has joined", || farm.farmers().len() == 2);
    gate.open(1);
    wait(busy).leaves(0);
    wait(idle).exits(0);
    assert_complete(&farm, 1);
}

#[test]
fn an_idle_process_leaves_at_once_when_it_is_told_to() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let (busy, idle) = idle(&farm, &gate, "1", "--no-linger");
    wait(idle).leaves(0);
    gate.open(1);
    wait(busy).exits(0);
    assert_complete(&farm, 1);
}

/// It is not needed, once it has seen that the other lives.
#[test]
fn an_idle_process_leaves_another_job_alone() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let (busy, idle) = idle(&farm, &gate, "2", "--takeover 2s");
    wait(idle).leaves(0);
    gate.open(1);
    wait(busy).exits(0);
    assert_complete(&farm, 1);
}

/// The next job may come before the guard of a killed process has let its
/// journal go, and under locks by name nothing tells of a death but silence.
#[test]
fn the_tasks_of_a_dead_job_are_done_by_the_next() {
    for lock in ["flock", "link"] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        let line = format!("[ $PYTF_ATTEMPT -gt 1 ] || {{ {}; }}\n", gate.stand());
        farm.write("tasks.txt", line);
        let args = format!("--lock {lock} --takeover 2s");
        let busy = farm.farm(&args).env("SLURM_JOB_ID", "1").start();
        gate.comer();
        busy.signal(Signal::SIGKILL);
        wait(busy);
        let next = farm.farm(&args).env("SLURM_JOB_ID", "2").start();
        wait(next).exits(0);
        assert_complete(&farm, 1);
    }
}

#[test]
fn waiting_costs_next_to_nothing() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let (busy, idle) = idle(&farm, &gate, "1", "");
    until("the other has joined", || farm.farmers().len() == 2);
    pause(Duration::from_secs(1));
    let before = switches(idle.pid());
    let over = Duration::from_secs(4);
    pause(over);
    let per_second = (switches(idle.pid()) - before) / over.as_secs();
    println!("{per_second} wakes a second");
    assert!(per_second < 20);
    gate.open(1);
    wait(busy).leaves(0);
    wait(idle).exits(0);
}

/// How often the threads of a process have waited.
fn switches(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let status = threads.map(|thread| fs::read_to_string(thread.path().join("status")).unwrap());
    let count = |status: String| -> u64 {
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    };
    status.map(count).sum()
}
