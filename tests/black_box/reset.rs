//! `pytf reset`: as if the run had never run, and nothing is lost of what there was.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::{Farm, Gate, cut_at_each, has, skip, tasks, until};

/// Tasks 0 and 3 finish, 1 is interrupted and finishes in its second attempt, 2 fails.
fn a_run(farm: &Farm) {
    farm.write(
        "tasks.txt",
        "echo 0 $PYTF_ATTEMPT\n[ -e once ] || { touch once; kill -TERM $PPID; sleep 1000; }\nexit 1\necho 3\n",
    );
    farm.farm("--proc 1 --grace 1").run().exits(75);
    farm.farm("--proc 1").run().exits(1);
}

/// All files below a folder, with their contents.
fn contents(farm: &Farm, folder: &str) -> Vec<(String, Vec<u8>)> {
    fn walk(root: &Path, at: &Path, all: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, all);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                all.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    let root = farm.path(folder);
    let mut all = Vec::new();
    walk(&root, &root, &mut all);
    all.sort();
    all
}

/// The same line runs everything again, from attempt 1; the folder is a workdir of its own.
#[test]
fn everything_runs_again_and_what_there_was_is_kept() {
    let farm = Farm::new();
    a_run(&farm);
    farm.pytf(["report", "w"]).run().exits(0);
    let before = contents(&farm, "w");
    let status = farm.pytf(["status", "w", "--json"]).run().exits(0);
    let done = farm.pytf(["reset", "w", "--yes"]).run().exits(0);
    let text = "reset: 4 tasks wait; run the same command again\n\
                what there was is kept: pytf status w/reset-1\n";
    assert_eq!(String::from_utf8_lossy(&done.stdout), text);
    farm.assert_exact(4, &[], &[]);
    assert_eq!(farm.text("w/requeued"), "");
    assert_eq!(farm.ends().len(), 0, "no journal is left");
    assert!(!farm.path("w/logs/log_0").exists());
    farm.pytf(["repair", "--check", "w"]).run().exits(0);

    // Each file of before is in the folder, as it was.
    let kept = contents(&farm, "w/reset-1");
    for (name, bytes) in &before {
        let found = kept.iter().find(|(kept, _)| kept == name);
        // Who holds the lock is written into it.
        let is_same = found.is_some_and(|(_, kept)| kept == bytes || name == "lock");
        assert!(is_same, "{name} is not what it was");
    }
    let old: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let status = farm.pytf(["status", "w/reset-1", "--json"]).run().exits(0);
    let new: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(old["tasks"], new["tasks"]);
    assert_eq!(old["attempts"], new["attempts"]);
    let log = farm.pytf(["log", "w/reset-1", "0"]).run().exits(0);
    assert_eq!(log.stdout, b"0 1\n");
    farm.pytf(["repair", "--check", "w/reset-1"]).run().exits(0);
    farm.pytf(["timeline", "w/reset-1"]).run().exits(0);

    farm.farm("--proc 1").run().exits(1);
    farm.assert_exact(4, &[0, 1, 3], &[2]);
    assert_eq!(farm.text("w/logs/log_0"), "0 1\n", "it was attempt 1");
    let again = farm.pytf(["reset", "w", "--yes"]).run().exits(0);
    again.says(&["w/reset-2"]);
    farm.assert_exact(4, &[], &[]);
}

/// With `--from` the results of the tasks before stay; a task that waited goes on waiting.
#[test]
fn only_tasks_from_an_id_on_are_reset() {
    let farm = Farm::new();
    a_run(&farm);
    let none = farm.pytf(["reset", "w", "--yes", "--from", "4"]).run();
    none.exits(2)
        .says(&["there is no task 4: the run has the tasks 0-3"]);
    assert!(!farm.path("w/reset-1").exists());
    let done = farm.pytf(["reset", "w", "--yes", "--from", "3"]).run();
    done.exits(0)
        .says(&["reset: 1 task waits, the results of 3 stay"]);
    farm.assert_exact(4, &[0, 1], &[2]);
    assert_eq!(farm.text("w/requeued"), "1 2 interrupted\n");
    farm.pytf(["retry", "w"]).run().exits(0);
    farm.pytf(["reset", "w", "--yes", "--from", "1"])
        .run()
        .exits(0);
    assert_eq!(farm.text("w/requeued"), "", "each begins with attempt 1");
    farm.assert_exact(4, &[0], &[]);
    farm.farm("--proc 1").run().exits(1);
    farm.assert_exact(4, &[0, 1, 3], &[2]);
    assert_eq!(farm.ends().len(), 3);
}

/// A dropped task is not of the list, before and after.
#[test]
fn a_dropped_task_stays_so_and_begins_anew_when_its_line_is_back() {
    let farm = Farm::of("false\ntrue\n");
    farm.farm("").run().exits(1);
    farm.write("tasks.txt", "true\n");
    farm.farm("").run().exits(0);
    farm.pytf(["reset", "w", "--yes"]).run().exits(0);
    farm.assert_dropped(2, &[], &[0]);
    farm.farm("").run().exits(0);
    farm.assert_dropped(2, &[1], &[0]);
    farm.write("tasks.txt", "false\ntrue\n");
    farm.farm("").run().exits(1);
    farm.assert_exact(2, &[1], &[0]);
    assert_eq!(farm.ends().last().unwrap()["attempt"], 1);
}

/// An added task is not of the list after a reset, either.
#[test]
fn an_added_task_is_reset_and_not_taken_for_a_removed_line() {
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    farm.pytf(["add", "w", "true # added"]).run().exits(0);
    farm.farm("").run().exits(0);
    farm.pytf(["reset", "w", "--yes"]).run().exits(0);
    assert_eq!(farm.text("w/orders").lines().count(), 1);
    farm.write("tasks.txt", "true\nfalse\n");
    farm.farm("").run().exits(1);
    farm.assert_exact(3, &[0, 1], &[2]);
}

/// A pause does not outlast the run that it was for.
#[test]
fn a_paused_run_is_no_longer_paused() {
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    farm.pytf(["pause", "w", "--stop"]).run().exits(0);
    farm.pytf(["reset", "w", "--yes"]).run().exits(0);
    assert_eq!(farm.text("w/orders"), "");
    farm.farm("").run().exits(0);
    farm.assert_exact(1, &[0], &[]);
}

fn standing(farm: &Farm) -> Gate {
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(2, |_| gate.stand()));
    gate
}

/// Refused while a process works; one that was killed is fenced first, by the same rule as
/// everywhere.
#[test]
fn a_run_that_somebody_works_on_is_not_reset() {
    let farm = Farm::new();
    let gate = standing(&farm);
    let pytf = farm.farm("--proc 2").start();
    gate.comers(2);
    let refused = farm.pytf(["reset", "w", "--yes"]).run().leaves(2);
    refused.says(&[&farm.farmers()[0]]);
    assert!(!farm.path("w/reset-1").exists());
    gate.open(1);
    until("one is finished", || farm.ids("finished").len() == 1);
    pytf.signal(Signal::SIGKILL);
    pytf.wait();
    farm.pytf(["reset", "w", "--yes"]).run().exits(0);
    farm.assert_exact(2, &[], &[]);
    let kept = farm.text("w/reset-1/requeued");
    assert!(kept.contains("lost"), "{kept:?}");
    let kept = farm.text("w/reset-1/finished");
    assert_eq!(kept.lines().count(), 1, "{kept:?}");
    let pytf = farm.farm("--proc 2").start();
    gate.open(2);
    pytf.wait().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
}

/// What cannot be trusted is not copied and forgotten: it is repaired first.
#[test]
fn a_damaged_workdir_is_refused_and_can_be_reset_after_the_repair() {
    let farm = Farm::new();
    a_run(&farm);
    let finished = farm.text("w/finished");
    farm.write("w/finished", finished.replace("echo 3", "echo 4"));
    let before = contents(&farm, "w");
    let refused = farm.pytf(["reset", "w", "--yes"]).run().exits(74);
    refused.says(&["finished", "pytf repair w"]);
    let after = contents(&farm, "w");
    for (name, bytes) in before.iter().filter(|(name, _)| name != "lock") {
        assert!(after.contains(&(name.clone(), bytes.clone())), "{name}");
    }
    farm.pytf(["repair", "w"]).run().exits(0);
    farm.pytf(["reset", "w", "--yes"]).run().exits(0);
    farm.assert_exact(4, &[], &[]);
    assert!(farm.path("w/damaged-1/finished").exists());
}

/// Without a terminal it is asked for in words; with one it asks.
#[test]
fn a_reset_is_confirmed() {
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    farm.pytf(["reset", "w"]).run().exits(2).says(&["--yes"]);
    farm.assert_exact(1, &[0], &[]);
    if !has("python3") {
        return skip("no python3 to make a terminal");
    }
    for (answer, code) in [("n", 2), ("", 2), ("y", 0)] {
        let script = format!(
            "import os, pty, sys\n\
             def answer(fd):\n\
             \x20   data = os.read(fd, 1024)\n\
             \x20   if b'[y/N]' in data: os.write(fd, b'{answer}\\n')\n\
             \x20   return data\n\
             sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], answer)))"
        );
        let asked = farm
            .pytf(["reset", "w"])
            .under(["python3", "-c", &script])
            .run();
        asked.exits(code).says(&[]);
        let is_reset = farm.ids("toprocess").len() == 1;
        assert_eq!(is_reset, code == 0, "{answer:?}");
    }
}

/// Killed at any write, sync or rename, it has reset the run or has not: nothing is lost, and
/// the next one, or the next run, finishes it.
#[test]
fn a_reset_that_is_cut_off_is_done_or_not_and_loses_nothing() {
    if !has("strace") {
        return skip("no strace here");
    }
    let farm = Farm::of("echo 0\nfalse\necho 2\n");
    farm.farm("").run().exits(1);
    fs::rename(farm.path("w"), farm.path("before")).unwrap();
    let journal = contents(&farm, "before/nodes/done").remove(0).0;
    let calls = [
        ("pwrite64", 8),
        ("fsync", 4),
        ("renameat,renameat2", 4),
        ("mkdirat", 3),
    ];
    cut_at_each(&calls, |inject, nth| {
        let copied = Command::new("cp")
            .args(["-a", "before", "w"])
            .current_dir(farm.path(""))
            .status();
        assert!(copied.unwrap().success());
        let reset = farm.pytf(["reset", "w", "--yes"]);
        let cut = reset.injected(inject, None).run();
        farm.pytf(["repair", "--check", "w"]).run().exits(0);
        if nth % 2 == 0 {
            farm.pytf(["reset", "w", "--yes"]).run().exits(0);
            farm.assert_exact(3, &[], &[]);
        }
        farm.farm("").run().exits(1);
        farm.assert_exact(3, &[0, 2], &[1]);
        // The journal and the log of the first run are in one place.
        let all = contents(&farm, "w");
        let count = |end: &str| all.iter().filter(|(name, _)| name.ends_with(end)).count();
        assert_eq!(count(&journal), 1, "{inject}: {journal}");
        let was_reset = farm.path("w/reset-1/nodes/done").exists();
        let logs = 1 + usize::from(was_reset);
        assert_eq!(count("logs/log_0"), logs, "{inject}");
        fs::remove_dir_all(farm.path("w")).unwrap();
        cut.status.code()
    });
}
