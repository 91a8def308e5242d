//! `creates=FILE`: a task whose file is there is finished without a start.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Farm, tasks};

/// What is there is not made again; it is told everywhere, and is not taken for work.
#[test]
fn a_task_whose_file_is_there_is_not_started() {
    let farm = Farm::of(tasks(10, |id| {
        format!("echo new > out/{id}; echo {id} #PYTF creates=out/{id}")
    }));
    farm.make_dir("out");
    for id in 0..7 {
        farm.write(format!("out/{id}"), "old\n");
    }
    let done = farm.farm("--log-tasks").run().exits(0);
    let words = "finished without a start: out/3 is there";
    assert!(done.stderr.contains("task 3 finished"), "{}", done.stderr);
    assert!(
        done.stderr.contains("without a start: out/3 is there"),
        "{}",
        done.stderr
    );
    farm.assert_exact(10, &(0..10).collect::<Vec<_>>(), &[]);
    for id in 0..10 {
        let text = if id < 7 { "old\n" } else { "new\n" };
        assert_eq!(farm.text(format!("out/{id}")), text, "task {id}");
        assert_eq!(
            farm.path(format!("w/logs/log_{id}")).exists(),
            id >= 7,
            "task {id}"
        );
    }
    for end in farm.ends() {
        let id = end["id"].as_u64().unwrap();
        let file = format!("out/{id}");
        assert_eq!(end["skipped"].as_str(), (id < 7).then_some(&*file));
        assert_eq!(end["outcome"]["exit"], 0);
    }
    let json = |args: &[&str]| -> Value {
        let said = farm
            .pytf([&["status", "w", "--json"], args].concat())
            .run()
            .exits(0);
        serde_json::from_slice(&said.stdout).unwrap()
    };
    let status = json(&[]);
    assert_eq!(status["attempts"]["skipped"], 7);
    assert_eq!(
        status["durations"]["count"], 3,
        "it took no time, and says nothing of others"
    );
    let task = json(&["--task", "3"]);
    assert_eq!(task["attempts"][0]["skipped"], "out/3");
    assert_eq!(task["attempts"][0]["words"], words);
    let status = farm.pytf(["status", "w"]).run().exits(0);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("7 finished without a start"), "{status}");
    farm.pytf(["log", "w", "3"]).run().exits(2).says(&[words]);
}

/// A file of the folder in which the farm was started, also where tasks have folders of their
/// own; those are empty.
#[test]
fn a_relative_name_is_that_of_the_folder_of_the_start() {
    let farm = Farm::of("touch $PYTF_RUN_DIR/ran #PYTF creates=a\n");
    farm.write("a", "");
    farm.farm("--task-dir=tmp").run().exits(0);
    assert!(!farm.path("ran").exists());
}

/// The attempt that was stopped has left a part of its file.
#[test]
fn a_file_of_an_attempt_that_was_stopped_proves_nothing() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let line = format!(
        "echo part > a; {} && echo whole > a #PYTF creates=a\n",
        gate.stand()
    );
    farm.write("tasks.txt", line);
    let pytf = farm.farm("").start();
    gate.comer();
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    assert_eq!(farm.text("a"), "part\n");
    let pytf = farm.farm("").start();
    gate.comer();
    gate.open(1);
    pytf.wait().exits(0);
    assert_eq!(farm.text("a"), "whole\n");
    // A new run of the same list has nothing to do.
    farm.pytf(["tasks.txt", "--workdir", "other"])
        .run()
        .exits(0);
    assert_eq!(farm.text("other/finished").lines().count(), 1);
}

/// Neither present nor absent: the task is not started, and not finished.
#[test]
fn a_file_of_which_nothing_is_known_fails_the_task() {
    let farm = Farm::of("touch ran #PYTF creates=loop\n");
    std::os::unix::fs::symlink("loop", farm.path("loop")).unwrap();
    let done = farm.farm("").run().exits(1);
    let why = "cannot find out whether loop of task 0 is there";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    assert_eq!(farm.outcomes()[&0], "not-started 126");
    assert!(farm.text("w/logs/log_0").contains(why));
    assert!(!farm.path("ran").exists());
}
