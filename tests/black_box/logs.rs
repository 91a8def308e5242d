//! What a task printed, whatever the form it is kept in.

use std::fs;

use crate::harness::{Farm, side_by_side, tasks};

fn log(farm: &Farm, args: &[&str]) -> Vec<u8> {
    farm.pytf(["log", "w"].iter().chain(args))
        .run()
        .exits(0)
        .stdout
}

/// Files of `logs/` whose names start so, however deep.
fn files(farm: &Farm, start: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![farm.path("w/logs")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                dirs.push(entry.path());
            } else if name.starts_with(start) {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn log_shows_what_a_task_printed_in_every_form() {
    for form in ["files", "packed"] {
        let farm = Farm::of(tasks(40, |id| {
            format!("echo {id}; printf '\\xff\\000\\x1b'; echo no end >&2; printf {id}")
        }));
        farm.farm(&format!("--logs {form}")).run().exits(0);
        for id in 0..40 {
            let expected = [
                format!("{id}\n").as_bytes(),
                b"\xff\0\x1bno end\n",
                id.to_string().as_bytes(),
            ]
            .concat();
            assert_eq!(
                log(&farm, &[&id.to_string()]),
                expected,
                "{form}, task {id}"
            );
        }
    }
}

/// Standard error in a file of its own; what failed is told by its last lines. A file that is
/// there already is left as it is, whichever of the two it is.
#[test]
fn split_keeps_both_outputs_apart() {
    let farm = Farm::of("echo out; echo err >&2; exit 3\necho fine\nno-such-program\n");
    farm.make_dir("w/logs");
    farm.write("w/logs/log_1.err", "foreign\n");
    farm.write("w/logs/log_2", "foreign\n");
    let done = farm.farm("--logs split").run().exits(1);
    assert!(
        done.stderr
            .contains("exit status 3 [logs/log_0 logs/log_0.err]"),
        "{}",
        done.stderr
    );
    let summary = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        summary.contains("err\n") && !summary.contains(" out\n"),
        "{summary}"
    );
    let all = [
        ("log_0", "out\n"),
        ("log_0.err", "err\n"),
        ("log_1.2", "fine\n"),
        ("log_1.2.err", ""),
        ("log_1.err", "foreign\n"),
        ("log_2", "foreign\n"),
        ("log_2.2", ""),
    ];
    for (name, text) in all {
        assert_eq!(farm.text(format!("w/logs/{name}")), text, "{name}");
    }
    assert_eq!(files(&farm, "log_").len(), all.len() + 1);
    assert!(
        farm.text("w/logs/log_2.2.err").starts_with("pytf: "),
        "why it could not be started"
    );
    for (args, text) in [
        (&["0"][..], "out\nerr\n"),
        (&["0", "--stdout"], "out\n"),
        (&["0", "--stderr"], "err\n"),
        (&["1"], "fine\n"),
    ] {
        assert_eq!(String::from_utf8_lossy(&log(&farm, args)), text, "{args:?}");
    }
    farm.pytf(["log", "w", "0", "--stdout", "--stderr"])
        .run()
        .exits(2);
    let ends = farm.ends();
    let end = ends.iter().find(|end| end["id"] == 0).unwrap();
    let log = &end["log"];
    assert_eq!(
        (log["file"].as_str(), log["stderr"].as_str()),
        (Some("logs/log_0"), Some("logs/log_0.err"))
    );
    let failed = farm
        .pytf(["status", "w", "--failed", "--json"])
        .run()
        .exits(0);
    let failed: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(failed["failed"][0]["stderr"], "logs/log_0.err");
    let task = farm.pytf(["status", "w", "--task", "0"]).run().exits(0);
    let task = String::from_utf8_lossy(&task.stdout).into_owned();
    assert!(
        task.contains("| err\n") && task.contains("logs/log_0.err"),
        "{task}"
    );
    farm.pytf(["report", "w", "-o", "report.html"])
        .run()
        .exits(0);
    assert!(farm.text("report.html").contains("logs/log_0.err"));
}

/// Each slot opens two files more than with one log for both.
#[test]
fn split_logs_work_where_few_files_may_be_open() {
    let farm = Farm::of(tasks(60, |id| format!("echo {id}; echo {id} >&2")));
    farm.farm("--logs split --proc 20")
        .under(["prlimit", "--nofile=64:64"])
        .run()
        .exits(0);
    assert_eq!(files(&farm, "log_").len(), 120);
}

#[test]
fn packed_logs_are_as_many_files_as_slots() {
    let farm = Farm::of(tasks(60, |id| format!("echo {id}")));
    farm.farm("--logs packed --proc 3").run().exits(0);
    assert_eq!(files(&farm, "log_"), [""; 0]);
    let packed = files(&farm, "packed_");
    assert!((1..=3).contains(&packed.len()), "{packed:?}");
    assert!(
        packed
            .iter()
            .all(|name| name.starts_with(&format!("packed_{}_", farm.farmers()[0])))
    );
}

#[test]
fn a_daemon_cannot_write_into_the_packed_log_of_the_next_task() {
    // It writes once the next task runs, if it is still there.
    let farm = Farm::of(
        "(until [ -e next ]; do sleep 0.01; done; echo stray) & echo first\n\
         touch next; echo second; sleep 0.3\n",
    );
    farm.farm("--logs packed --proc 1").run().exits(0);
    assert_eq!(log(&farm, &["0"]), b"first\n");
    assert_eq!(log(&farm, &["1"]), b"second\n");
}

#[test]
fn failed_keeps_only_the_logs_of_failures_and_none_keeps_none() {
    let list = tasks(20, |id| format!("echo task {id}; exit {}", id % 2));
    let farm = Farm::of(&list);
    farm.farm("--logs failed").run().exits(1);
    assert_eq!(files(&farm, "").len(), 10);
    assert_eq!(log(&farm, &["7"]), b"task 7\n");
    let done = farm.pytf(["log", "w", "8"]).run();
    assert!(
        done.stdout.is_empty() && !done.stderr.is_empty(),
        "says that it was not kept"
    );

    let farm = Farm::of(&list);
    farm.farm("--logs none").run().exits(1);
    assert_eq!(files(&farm, ""), [""; 0]);
}

#[test]
fn log_tells_how_the_task_ended() {
    let farm = Farm::of("true\nexit 3\nkill -SEGV $$\nsleep 1000\nno-such-program\n");
    farm.farm("--task-timeout 1 --grace 1").run().exits(1);
    for (id, words) in [
        ("0", "finished"),
        ("1", "exit status 3"),
        ("2", "SIGSEGV"),
        ("3", "time limit"),
        ("4", "could not start"),
    ] {
        let done = farm.pytf(["log", "w", id]).run().exits(0);
        assert!(done.stderr.contains(words), "task {id}: {:?}", done.stderr);
    }
}

#[test]
fn every_attempt_keeps_its_log() {
    side_by_side(&["files", "split", "packed", "failed"], |form| {
        let farm = Farm::of("echo attempt $PYTF_ATTEMPT; exit 1\n");
        farm.farm(&format!("--logs {form}")).run().exits(1);
        for _ in 2..=3 {
            farm.farm(&format!("--logs {form} --retry-failed"))
                .run()
                .exits(1);
        }
        assert_eq!(
            log(&farm, &["0"]),
            b"attempt 3\n",
            "{form}: the last one unless another is named"
        );
        for attempt in 1..=3 {
            let text = log(&farm, &["0", "--attempt", &attempt.to_string()]);
            assert_eq!(text, format!("attempt {attempt}\n").into_bytes(), "{form}");
        }
        farm.pytf(["log", "w", "0", "--attempt", "4"])
            .run()
            .exits(2)
            .says(&["4"]);
    });
}

#[test]
fn log_refuses_what_is_no_task_of_the_workdir() {
    let farm = Farm::of("echo a\n");
    farm.farm("").run().exits(0);
    farm.pytf(["log", "w", "1"]).run().exits(2).says(&["1"]);
    farm.pytf(["log", "w", "x"]).run().exits(2).says(&["x"]);
    farm.pytf(["log", "nowhere", "0"])
        .run()
        .exits(74)
        .says(&["nowhere"]);
    assert!(!farm.path("nowhere").exists());
}

#[test]
fn log_shows_a_task_that_runs() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("echo so far; {}\n", gate.stand()));
    for form in ["files", "packed"] {
        let pytf = farm.farm(&format!("--logs {form}")).start();
        gate.comer();
        let done = farm.pytf(["log", "w", "0"]).run();
        if form == "files" {
            assert_eq!(done.stdout, b"so far\n");
        }
        gate.open(1);
        pytf.wait().exits(0);
        assert_eq!(log(&farm, &["0"]), b"so far\n");
        fs::remove_dir_all(farm.path("w")).unwrap();
    }
}

#[test]
fn from_10_000_tasks_on_logs_lie_in_folders_of_1000() {
    let farm = Farm::of(tasks(12_003, |id| format!("echo {id}")));
    // PyTaskFarmer's files say that nearly all is done.
    let line = |id: u64| format!("{id} echo {id}\n");
    farm.write(
        "w/finished",
        (0..12_003)
            .filter(|id| ![9999, 10_000, 12_001].contains(id))
            .map(line)
            .collect::<String>(),
    );
    farm.write("w/toprocess", [9999, 10_000, 12_001].map(line).concat());
    farm.farm("").run().exits(0);
    assert_eq!(farm.ids("finished").len(), 12_003);
    assert_eq!(farm.text("w/logs/log_9999"), "9999\n");
    assert_eq!(farm.text("w/logs/10/log_10000"), "10000\n");
    assert_eq!(farm.text("w/logs/12/log_12001"), "12001\n");
    assert_eq!(log(&farm, &["12001"]), b"12001\n");
}
