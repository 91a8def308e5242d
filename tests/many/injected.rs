//! System calls that fail once: each kind that touches files, with each error that a
//! file system or a full machine gives, at the first, second, … call of each thread.
//!
//! Whatever fails: no panic, no status that means a bug, never "complete" while
//! something is not; and the next run, on a good day, is exact. `PYTF_TEST_ALL` plays
//! all moments and all errors.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};

use crate::harness::facts::is_long;
use crate::harness::{Done, Farm, has, skip, tasks, until};

/// The tasks; this one fails.
const N: u64 = 10;
const FAILING: u64 = 7;

/// Kinds of calls, and what each is answered with. A delay is no error: it lets other
/// threads and processes overtake.
const HARMS: [(&str, &[&str]); 11] = [
    (
        "openat",
        &[
            "EIO", "EMFILE", "ESTALE", "ENOMEM", "EINTR", "ENOSPC", "EAGAIN",
        ],
    ),
    ("pread64", &["EIO", "ESTALE", "EINTR", "ENOMEM", "EAGAIN"]),
    (
        "pwrite64",
        &["EIO", "ENOSPC", "ESTALE", "EINTR", "ENOMEM", "EAGAIN"],
    ),
    (
        "fsync,fdatasync",
        &["EIO", "ENOSPC", "ESTALE", "EINTR", "ENOMEM"],
    ),
    (
        "rename,renameat,renameat2",
        &["EIO", "ENOSPC", "ESTALE", "ENOMEM"],
    ),
    ("unlink,unlinkat", &["EIO", "ESTALE"]),
    ("mkdir,mkdirat", &["ENOSPC", "EIO"]),
    ("fstat,newfstatat,statx", &["ESTALE", "EIO", "ENOMEM"]),
    ("flock", &["ENOLCK", "EINTR", "EIO", "EAGAIN", "ENOMEM"]),
    ("fcntl", &["ENOLCK", "EAGAIN", "EIO"]),
    ("getdents64", &["EIO", "ESTALE", "ENOMEM"]),
];

/// A farm, new or with a past: a farmer that was killed over a task, so that the harmed
/// one settles its results first.
fn farm(has_past: bool, lock: &str) -> Farm {
    let farm = Farm::new();
    let line = |id| match id {
        FAILING => format!("echo {id} >>ran; exit 3"),
        3 if has_past => {
            "[ -e once ] || { : >once; kill -KILL $PPID; sleep 1000; }; echo 3 >>ran".into()
        }
        _ => format!("echo {id} >>ran"),
    };
    farm.write("tasks.txt", tasks(N, line));
    if has_past {
        farm.farm(&format!("--proc 1 {lock}")).run();
        until("the guard is gone", || farm.survivors().is_empty());
    }
    farm
}

fn harmed<'f>(farm: &'f Farm, (calls, harm, when): (&str, &str, u32), lock: &str) -> Done<'f> {
    let inject = format!("inject={calls}:{harm}:when={when}");
    farm.farm(&format!("--grace 1 {lock}"))
        .injected(&inject, None)
        .run()
}

/// How often each task ran to its end.
fn ran(farm: &Farm) -> BTreeMap<u64, usize> {
    let mut ran = BTreeMap::new();
    for line in farm.text("ran").lines() {
        *ran.entry(line.parse().unwrap()).or_default() += 1;
    }
    ran
}

/// What is wrong after a harmed run and a good one.
fn judge(farm: &Farm, harmed: &Done<'_>, lock: &str) -> Result<i32, String> {
    let say =
        |what: &str, done: &Done<'_>| format!("{what}: {:?}: {}", done.status, done.stderr.trim());
    let code = harmed.status.code().unwrap_or(-1);
    if ![1, 2, 71, 74, 75].contains(&code) || harmed.stderr.contains("panicked") {
        return Err(say("harmed", harmed));
    }
    let finished: Vec<u64> = (0..N).filter(|id| *id != FAILING).collect();
    let is_exact = || {
        farm.ids("finished") == finished
            && farm.ids("failed") == [FAILING]
            && farm.ids("toprocess").is_empty()
    };
    if code == 1 && !is_exact() {
        return Err(say("not all is over", harmed));
    }
    let nodes = fs::read_dir(farm.path("w/nodes")).into_iter().flatten();
    let is_empty = |entry: &DirEntry| entry.metadata().unwrap().len() == 0;
    if let Some(journal) = nodes.flatten().find(is_empty) {
        let journal = journal.path();
        return Err(say(&format!("{} is empty", journal.display()), harmed));
    }
    let good = farm.farm(lock).run();
    if good.status.code() != Some(1) || !is_exact() {
        return Err(say("the next run", &good) + "\n" + &say("after", harmed));
    }
    let mut ends: BTreeMap<u64, usize> = BTreeMap::new();
    for end in farm
        .ends()
        .iter()
        .filter(|end| end["outcome"].get("exit").is_some())
    {
        *ends.entry(end["id"].as_u64().unwrap()).or_default() += 1;
    }
    let twice: Vec<_> = ends.iter().filter(|(_, n)| **n > 1).collect();
    if !twice.is_empty() {
        return Err(say(&format!("recorded twice: {twice:?}"), harmed));
    }
    let never: Vec<u64> = (0..N).filter(|id| !ran(farm).contains_key(id)).collect();
    if !never.is_empty() {
        return Err(say(&format!("never ran: {never:?}"), harmed));
    }
    Ok(code)
}

#[test]
fn no_call_that_fails_once_makes_a_wrong_result() {
    if !has("strace") {
        return skip("there is no strace");
    }
    // All, or each n-th: of fewer without `PYTF_TEST_LONG`.
    let all = std::env::var("PYTF_TEST_ALL").ok();
    let is_all = all.is_some();
    let share = if is_long() { 26 } else { 100 };
    let share: u64 = all.map_or(share, |all| all.parse().unwrap_or(1));
    let only = std::env::var("PYTF_TEST_CASE").unwrap_or_default();
    let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut nth = 0;
    for (calls, errors) in HARMS {
        let mut harms: Vec<String> = errors
            .iter()
            .map(|error| format!("error={error}"))
            .collect();
        harms.push("delay_enter=60000".into());
        for harm in harms {
            for (has_past, lock) in [
                (false, "--lock flock"),
                (true, "--lock flock"),
                (true, "--lock link --takeover 4s"),
            ] {
                // What the loader opens and looks at is none of ours.
                let is_loaders = ["openat", "fstat", "pread64"]
                    .iter()
                    .any(|c| calls.starts_with(c));
                let first = if is_loaders { 5 } else { 1 };
                let mut when = first;
                while when < 40 {
                    nth += 1;
                    let step = if is_all { 1 + when / 6 } else { 1 + when };
                    let what = format!("{calls}: {harm}, call {when}, past {has_past}, {lock}");
                    let is_played = nth % share == 0;
                    if is_played && what.contains(&only) {
                        let farm = farm(has_past, lock);
                        let done = harmed(&farm, (calls, &harm, when), lock);
                        let end = judge(&farm, &done, lock);
                        println!("{what}: {end:?}");
                        *counts.entry(*end.as_ref().unwrap_or(&-1)).or_default() += 1;
                        wrong.extend(end.err().map(|end| format!("{what}: {end}")));
                    }
                    when += step;
                }
            }
        }
    }
    println!("{counts:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A wait that fails tells no exit status, and least of all 0.
#[test]
fn an_end_that_the_kernel_does_not_tell_is_no_success() {
    if !has("strace") {
        return skip("there is no strace");
    }
    let farm = Farm::of(tasks(3, |_| "exit 3".into()));
    farm.farm("")
        .injected("inject=wait4:error=ECHILD:when=1..3", None)
        .run()
        .exits(1);
    farm.assert_exact(3, &[], &[0, 1, 2]);
    assert!(farm.ends().iter().all(|end| end["outcome"] == "unknown"));
}
