//! What a task costs in system calls: the regression guard that no clock moves.
//!
//! One slot runs 100 and then 300 tasks under `strace`; the difference of the
//! two, a task, is compared with the record. Only calls that `pytf` itself makes
//! for each task count: a turn of the ledger comes by the clock, so its calls
//! are no figure. A deliberate change updates the record below in the same commit.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;

/// Calls a task with `--logs files`.
const RECORD: [(&str, f64); 8] = [
    ("clone3", 1.0),
    ("waitid", 1.0),
    ("wait4", 1.0),
    ("kill", 1.0),
    ("rt_sigprocmask", 2.0),
    ("mmap", 1.0),
    ("munmap", 1.0),
    ("openat of a log", 1.0),
];
/// By so much a figure may be off: a thread's stack or a buffer that grows.
const MARGIN: f64 = 0.1;

/// How often each call was made by `pytf` itself for so many tasks; `None` when
/// nothing can be traced here.
fn count(tasks: usize) -> Option<HashMap<String, f64>> {
    let folder = tempfile::tempdir().expect("a folder");
    let [list, trace] = ["tasks.txt", "trace"].map(|name| folder.path().join(name));
    std::fs::write(&list, "/bin/true\n".repeat(tasks)).expect("a task list");
    let traced = Command::new("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .args([&trace, Path::new(env!("CARGO_BIN_EXE_pytf")), &list])
        .args(["--proc", "1", "--logs", "files", "--quiet", "--no-timeline"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output();
    let traced = match traced {
        Ok(traced) if traced.status.success() => traced,
        Ok(traced) if String::from_utf8_lossy(&traced.stderr).contains("PTRACE") => return None,
        Ok(traced) => panic!("{}", String::from_utf8_lossy(&traced.stderr)),
        Err(_) => return None,
    };
    drop(traced);
    let finished = folder.path().join("tasks.txt_workdir/finished");
    let finished = std::fs::read_to_string(finished).expect("finished");
    assert_eq!(finished.lines().count(), tasks);
    let text = String::from_utf8_lossy(&std::fs::read(trace).expect("a trace")).into_owned();
    Some(own_calls(&text))
}

/// Every line is a process id and a call; tasks and the guard have executed
/// something, and so has `pytf`, which is the first.
fn own_calls(text: &str) -> HashMap<String, f64> {
    let lines = || {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(pid, call)| (pid, call.trim_start()))
    };
    let first = lines().next().map_or("", |(pid, _)| pid);
    let others: HashSet<&str> = lines()
        .filter(|(pid, call)| *pid != first && call.starts_with("execve("))
        .map(|(pid, _)| pid)
        .collect();
    let mut counts = HashMap::new();
    for (_, call) in lines().filter(|(pid, _)| !others.contains(pid)) {
        let Some((name, rest)) = call.split_once('(') else {
            continue;
        };
        let is_log = name == "openat" && rest.contains("logs/");
        let name = if is_log { "openat of a log" } else { name };
        *counts.entry(name.to_owned()).or_insert(0.0) += 1.0;
    }
    counts
}

#[test]
fn a_task_costs_as_many_system_calls_as_recorded() {
    let (Some(few), Some(many)) = (count(100), count(300)) else {
        println!("SKIPPED: strace is not there, or may trace nothing here");
        return;
    };
    let of = |counts: &HashMap<String, f64>, name: &str| counts.get(name).copied().unwrap_or(0.0);
    let mut wrong = Vec::new();
    for (name, recorded) in RECORD {
        let now = (of(&many, name) - of(&few, name)) / 200.0;
        if (now - recorded).abs() > MARGIN {
            wrong.push(format!(
                "{name}: {now:.2} a task, recorded are {recorded:.2}"
            ));
        }
    }
    // The C library asks for it six times whenever a spawn is told descriptors
    // anew, which is when the ledger has some open files more than before.
    let limits = (of(&many, "prlimit64") - of(&few, "prlimit64")) / 200.0;
    if limits > 2.0 {
        wrong.push(format!(
            "prlimit64: {limits:.2} a task, at most 2 are recorded"
        ));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
