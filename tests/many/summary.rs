//! What the processes of a job say at their ends: their outputs are one file, and
//! it must hold one summary of the run, whoever of them is killed.

use std::fs::File;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use crate::crew::wait;
use crate::harness::{Done, Farm, Gate, Running, tasks, until};

/// A process of a step of `size`, as srun starts it.
fn start<'f>(farm: &'f Farm, job: &str, (rank, size): (u32, u32), args: &str) -> Running<'f> {
    let (rank, size) = (rank.to_string(), size.to_string());
    let pytf = farm
        .farm(&format!("--proc 1 --no-walltime {args}"))
        .env("SLURM_JOB_ID", job)
        .env("SLURM_STEP_ID", "0")
        .env("SLURM_PROCID", &rank)
        .env("SLURM_NODEID", &rank)
        .env("SLURM_LOCALID", "0")
        .env("SLURM_STEP_NUM_NODES", &size)
        .env("SLURM_STEP_NUM_TASKS", &size)
        .env("SLURM_CPUS_ON_NODE", "1");
    pytf.start()
}

/// A job of `size` processes, each with a task at the gate, and `more` lines behind.
fn job<'f>(farm: &'f Farm, gate: &Gate, size: u32, more: &str) -> Vec<Running<'f>> {
    let list = tasks(u64::from(size), |_| gate.stand()) + more;
    farm.write("tasks.txt", list);
    let all = (0..size).map(|rank| start(farm, "7", (rank, size), ""));
    let all = all.collect();
    gate.comers(size as usize);
    all
}

fn signal(all: &[Running<'_>], signal: Signal) {
    for one in all {
        one.signal(signal);
    }
}

/// The lines that all of them printed on standard output, in the order of `ended`.
fn lines(ended: &[Done<'_>]) -> Vec<String> {
    let text: Vec<u8> = ended.iter().flat_map(|done| done.stdout.clone()).collect();
    let text = String::from_utf8(text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The headlines of summaries among them.
fn headlines(lines: &[String]) -> Vec<&str> {
    let is_headline = |line: &&str| {
        ["ok: ", "failed: ", "-> "]
            .iter()
            .any(|mark| line.starts_with(mark))
    };
    lines
        .iter()
        .map(String::as_str)
        .filter(is_headline)
        .collect()
}

/// The lines of processes that leave the summary to another.
fn parts(lines: &[String]) -> Vec<&str> {
    let lines = lines.iter().map(String::as_str);
    lines.filter(|line| line.starts_with("pytf on ")).collect()
}

#[test]
fn the_last_of_a_job_sums_up_and_names_what_failed_on_any_node() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let stand = gate.stand();
    farm.write(
        "tasks.txt",
        tasks(3, |id| format!("{stand}; echo reason {id}; exit {id}")),
    );
    let all: Vec<_> = (0..3)
        .map(|rank| start(&farm, "7", (rank, 3), ""))
        .collect();
    gate.comers(3);
    gate.open(3);
    let ended: Vec<_> = all.into_iter().map(|one| wait(one).leaves(1)).collect();
    let lines = lines(&ended);
    assert_eq!(headlines(&lines), ["failed: 2 of 3 tasks failed"]);
    assert_eq!(parts(&lines), [""; 0], "the run is complete");
    let text = lines.join("\n");
    for told in [
        "on 3 slots",
        "  task 1  exit status 1",
        "reason 1",
        "reason 2",
    ] {
        assert!(text.contains(told), "no {told:?} in {text}");
    }
    farm.assert_exact(3, &[0], &[1, 2]);
}

#[test]
fn of_a_job_that_is_stopped_one_sums_up_and_the_others_say_a_line() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let all = job(&farm, &gate, 3, "true\n");
    signal(&all, Signal::SIGTERM);
    let ended: Vec<_> = all.into_iter().map(wait).collect();
    let lines = lines(&ended);
    let headline = "-> 4 of 4 tasks are left: stopped by SIGTERM";
    assert_eq!(headlines(&lines), [headline]);
    let parts = parts(&lines);
    assert_eq!(parts.len(), 2, "{parts:?}");
    for part in parts {
        let told = ": stopped by SIGTERM; 1 task ran here, 1 interrupted";
        assert!(part.ends_with(told), "{part}");
    }
    farm.assert_exact(4, &[], &[]);
}

/// Whoever was killed is dead for the others as soon as its journal is free.
fn is_free(farm: &Farm, pid: i32) -> bool {
    let name = farm.farmers().into_iter().find(|name| {
        let process = name.rsplit('.').nth(1);
        process == Some(&pid.to_string())
    });
    let journal = File::open(farm.journal(&name.unwrap())).unwrap();
    Flock::lock(journal, FlockArg::LockExclusiveNonblock).is_ok()
}

#[test]
fn a_killed_first_process_is_not_missed() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let mut all = job(&farm, &gate, 3, "");
    let first = all.remove(0);
    first.signal(Signal::SIGKILL);
    wait(first);
    until("its task was put back", || {
        farm.text("w/requeued").contains(" lost")
    });
    // One of the others takes it over.
    gate.open(2);
    gate.comers(1);
    gate.open(1);
    let ended: Vec<_> = all.into_iter().map(|one| wait(one).leaves(0)).collect();
    let lines = lines(&ended);
    assert_eq!(headlines(&lines), ["ok: all 3 tasks finished"]);
    assert_eq!(parts(&lines), [""; 0]);
    farm.assert_exact(3, &[0, 1, 2], &[]);
}

#[test]
fn a_killed_process_whose_tasks_nobody_has_given_back_is_not_waited_for() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let mut all = job(&farm, &gate, 3, "");
    // The others stand still: they cannot see that it dies.
    let first = all.remove(0);
    signal(&all, Signal::SIGSTOP);
    let pid = first.pid();
    first.signal(Signal::SIGKILL);
    wait(first);
    until("its journal is free", || is_free(&farm, pid));
    signal(&all, Signal::SIGTERM);
    signal(&all, Signal::SIGCONT);
    let ended: Vec<_> = all.into_iter().map(wait).collect();
    let lines = lines(&ended);
    assert_eq!(
        headlines(&lines),
        ["-> 3 of 3 tasks are left: stopped by SIGTERM"]
    );
    assert_eq!(parts(&lines).len(), 1, "{lines:?}");
    let again = "  run the same command again to continue";
    assert!(lines.iter().any(|line| line == again), "{lines:?}");
}

#[test]
fn who_leaves_early_says_what_ran_there_and_nothing_when_nothing_did() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\nfalse\n", gate.stand()));
    let busy = start(&farm, "7", (0, 3), "");
    gate.comer();
    let early = wait(start(&farm, "7", (1, 3), "--no-linger")).leaves(0);
    let idle = wait(start(&farm, "7", (2, 3), "--no-linger")).leaves(0);
    gate.open(1);
    let busy = wait(busy).leaves(1);
    let early = lines(&[early]);
    let told = ": 1 task ran here, 1 failed; others work on";
    assert!(early.len() == 1 && early[0].ends_with(told), "{early:?}");
    assert_eq!(lines(&[idle]), [""; 0]);
    let summary = lines(&[busy]);
    assert_eq!(headlines(&summary), ["failed: 1 of 2 tasks failed"]);
    // It ran elsewhere, and is named.
    assert!(summary.contains(&"  task 1  exit status 1  false".to_owned()));
}

#[test]
fn two_jobs_on_one_workdir_have_a_summary_each() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(4, |_| gate.stand()));
    let first: Vec<_> = (0..2)
        .map(|rank| start(&farm, "7", (rank, 2), ""))
        .collect();
    let second: Vec<_> = (0..2)
        .map(|rank| start(&farm, "8", (rank, 2), ""))
        .collect();
    gate.comers(4);
    signal(&first, Signal::SIGTERM);
    let first: Vec<_> = first.into_iter().map(|one| wait(one).leaves(0)).collect();
    gate.open(2);
    gate.comers(2);
    gate.open(2);
    let second: Vec<_> = second.into_iter().map(|one| wait(one).leaves(0)).collect();
    let (first, second) = (lines(&first), lines(&second));
    let headline = headlines(&first);
    assert_eq!(headline.len(), 1, "{first:?}");
    assert!(headline[0].ends_with("of 4 tasks are left: stopped by SIGTERM"));
    assert!(first.iter().any(|line| line.contains(" on 2 slots")));
    assert_eq!(headlines(&second), ["ok: all 4 tasks finished"]);
    assert!(second.iter().any(|line| line.contains(" on 2 slots")));
}

#[test]
fn processes_that_nobody_launched_together_tell_each_their_user() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(2, |_| gate.stand()));
    let both = [(); 2].map(|()| farm.farm("--proc 1").start());
    gate.comers(2);
    gate.open(2);
    let ended = both.map(|one| wait(one).leaves(0));
    assert_eq!(
        headlines(&lines(&ended)).len(),
        2,
        "each has a reader of its own"
    );
}
