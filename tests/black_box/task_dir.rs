//! `--task-dir`: a fresh folder for each attempt.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::harness::{Farm, tasks};

/// What is in the folder in which the farm makes those of its tasks.
fn left(farm: &Farm) -> Vec<PathBuf> {
    let entries = fs::read_dir(farm.path("tmp")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Each is alone in its folder, and finds the inputs of the run. Whether a line is executed
/// directly or by the shell makes no difference, and other tasks are somewhere else meanwhile.
#[test]
fn each_attempt_runs_in_a_folder_of_its_own_that_is_removed() {
    let farm = Farm::of(
        tasks(40, |id| {
            format!(
                "ls -A; [ \"$PWD\" = \"$PYTF_TASK_DIR\" ] && cat $PYTF_RUN_DIR/input > {id} && \
                 ls && mkdir -p a/b && chmod 500 a"
            )
        }) + "pwd\n",
    );
    farm.write("input", "in\n");
    let args = "--proc 4 --task-dir=tmp";
    farm.farm(args).run().exits(0);
    for id in 0..40 {
        assert_eq!(farm.text(format!("w/logs/log_{id}")), format!("{id}\n"));
    }
    let direct = farm.text("w/logs/log_40");
    let name = format!("/tmp/pytf-{}-40.1\n", farm.farmers()[0]);
    assert!(direct.ends_with(&name), "{direct} {name}");
    assert_eq!(left(&farm), Vec::<PathBuf>::new());
    // The farm itself has stayed where it was.
    assert!(farm.path("w/finished").exists());
}

/// By default they are where temporary files are.
#[test]
fn the_folders_are_below_that_of_temporary_files() {
    for (name, args, variable) in [
        ("TMPDIR", "--task-dir", None),
        ("SLURM_TMPDIR", "", Some("auto")),
    ] {
        let farm = Farm::of("echo $PYTF_TASK_DIR > $PYTF_RUN_DIR/seen\n");
        let place = farm.path("place");
        let run = farm
            .farm(args)
            .env("TMPDIR", "/nonexistent")
            .env(name, &place);
        let run = match variable {
            Some(value) => run.env("PYTF_TASK_DIR", value),
            None => run,
        };
        run.run().exits(0);
        let seen = PathBuf::from(farm.text("seen").trim_end());
        assert_eq!(seen.parent(), Some(&*place), "{name}");
        assert!(!seen.exists());
    }
}

/// What failed may be looked at; where, is told. What was interrupted runs again.
#[test]
fn folders_are_kept_as_asked() {
    for (keep, kept) in [("never", 0), ("failed", 1), ("always", 2)] {
        let farm = Farm::of("touch good\ntouch bad; exit 3\n");
        let args = format!("--task-dir=tmp --keep-task-dir {keep}");
        farm.farm(&args).run().exits(1);
        let left = left(&farm);
        assert_eq!(left.len(), kept, "{keep}: {left:?}");
        let dirs: Vec<PathBuf> = farm
            .ends()
            .iter()
            .filter_map(|end| end["dir"].as_str())
            .map(PathBuf::from)
            .collect();
        assert_eq!(dirs.len(), kept, "{keep}");
        if keep == "failed" {
            assert!(dirs[0].join("bad").exists());
            let shown = dirs[0].to_str().unwrap();
            farm.pytf(["log", "w", "1"]).run().exits(0).says(&[shown]);
            let task = farm.pytf(["status", "w", "--task", "1"]).run().exits(0);
            assert!(String::from_utf8_lossy(&task.stdout).contains("-1.1"));
        }
    }
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()));
    let pytf = farm.farm("--task-dir=tmp --keep-task-dir failed").start();
    gate.comer();
    assert_eq!(left(&farm).len(), 1);
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    assert_eq!(left(&farm), Vec::<PathBuf>::new());
    farm.farm("--keep-task-dir failed")
        .run()
        .exits(2)
        .says(&["--task-dir"]);
}

/// Without its folder a task does not run: in another one it would do harm.
#[test]
fn a_task_whose_folder_cannot_be_made_is_not_started() {
    let farm = Farm::of("touch here\n");
    farm.write("tmp", "a file");
    let done = farm.farm("--task-dir=tmp").run().exits(1);
    assert!(
        done.stderr.contains("cannot make the folder of task 0"),
        "{}",
        done.stderr
    );
    assert_eq!(farm.outcomes()[&0], "not-started 126");
    assert!(
        farm.text("w/logs/log_0")
            .starts_with("pytf: cannot make the folder of task 0")
    );
    assert!(!farm.path("here").exists());
}

/// A system that gives threads no current folder of their own would let tasks run in the folder
/// of others.
#[test]
fn a_system_without_current_folders_of_threads_is_refused() {
    let farm = Farm::of("touch here\n");
    let run = farm
        .farm("--task-dir=tmp")
        .injected("inject=unshare:error=EPERM", None);
    let done = run.run().exits(71);
    assert!(
        done.stderr.contains("current folder of their own"),
        "{}",
        done.stderr
    );
    assert!(!farm.path("here").exists());
}

/// The folder of the outer task is none of the inner ones', nor is its option theirs.
#[test]
fn a_farm_inside_a_task_makes_folders_only_if_it_is_asked_to() {
    let pytf = env!("CARGO_BIN_EXE_pytf");
    let farm = Farm::of(format!(
        "cp $PYTF_RUN_DIR/inner.txt . && {pytf} inner.txt -q && cat inner.txt_workdir/logs/*\n"
    ));
    farm.write(
        "inner.txt",
        "echo ${PYTF_TASK_DIR-none}; [ \"$PWD\" = \"$PYTF_RUN_DIR\" ]\n",
    );
    let run = farm.farm("").env("PYTF_TASK_DIR", farm.path("tmp"));
    run.env("PYTF_KEEP_TASK_DIR", "failed").run().exits(0);
    assert_eq!(farm.text("w/logs/log_0"), "none\n");
}
