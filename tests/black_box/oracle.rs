//! PyTaskFarmer itself, as pip installs it, as the judge of file formats and as the
//! one whose workdirs we take over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Farm, is_alive, skip, tasks, until};

/// Where PyTaskFarmer is installed; `None` without Python, pip or the network.
pub(crate) fn oracle() -> Option<&'static Path> {
    static ORACLE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let install = || {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("PyTaskFarmer-0.1.0");
        if !dir.join("bin/pytaskfarmer.py").exists() {
            // Not beside its final place while it is half there.
            let half = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).ok()?;
            let pip = Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
                .arg(half.path())
                .arg("PyTaskFarmer==0.1.0")
                .output();
            if !pip.is_ok_and(|pip| pip.status.success()) {
                return None;
            }
            let _ = fs::rename(half.keep(), &dir);
        }
        Some(dir)
    };
    let dir = ORACLE.get_or_init(install).as_deref();
    if dir.is_none() {
        skip("PyTaskFarmer cannot be installed here (python3 -m pip install PyTaskFarmer)");
    }
    dir
}

pub(crate) fn python(farm: &Farm, oracle: &Path) -> Command {
    // What it makes others could write otherwise, where that is usual.
    let mut python = Command::new("sh");
    python.args(["-c", "umask 022; exec python3 \"$@\"", "python3"]);
    // TMP and TMPDIR must be unset, or its lock lies outside of the workdir. It leaves empty
    // folders where Python has temporary ones.
    python
        .env_clear()
        .env("TEMP", farm.path(""))
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("PYTHONPATH", oracle)
        .env("HOME", farm.path(""))
        .current_dir(farm.path(""));
    python.stdout(Stdio::null());
    python
}

/// `pytaskfarmer.py tasks.txt --proc 2 --workdir DIR`.
fn pytaskfarmer(farm: &Farm, oracle: &Path, workdir: &str) -> Command {
    let mut python = python(farm, oracle);
    python.arg(oracle.join("bin/pytaskfarmer.py")).args([
        "tasks.txt",
        "--proc",
        "2",
        "--workdir",
        workdir,
    ]);
    python
}

#[test]
fn the_same_list_gives_the_same_files_as_with_pytaskfarmer() {
    let Some(oracle) = oracle() else { return };
    let farm = Farm::of(
        "# a comment\necho a  b\n\nfalse\n   printenv PROC_NUMBER   \nls /nowhere\necho last",
    );
    pytaskfarmer(&farm, oracle, "theirs").status().unwrap();
    farm.farm("").run().exits(1);
    let sorted = |file: String| {
        let mut lines: Vec<String> = farm.text(file).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for file in ["finished", "failed", "toprocess"] {
        // Theirs strips the lines; ours keeps what is written, but for blanks at the end.
        let ours: Vec<String> = sorted(format!("w/{file}"))
            .iter()
            .map(|line| {
                let (id, line) = line.split_once(' ').unwrap();
                format!("{id} {}", line.trim())
            })
            .collect();
        assert_eq!(ours, sorted(format!("theirs/{file}")), "{file}");
    }
    for id in 0..5 {
        assert_eq!(
            farm.text(format!("w/logs/log_{id}")),
            farm.text(format!("theirs/logs/log_{id}")),
            "log of task {id}"
        );
    }
}

#[test]
fn pytaskfarmer_reads_a_workdir_that_pytf_has_left() {
    let Some(oracle) = oracle() else { return };
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!("true\nfalse\n{}\ntrue\ntrue\n", gate.stand()),
    );
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    // What fails just before the signal counts as interrupted.
    crate::harness::until("the failure is the task's own", || {
        pytf.stderr().contains("task 1: exit status 1")
    });
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    let script = "from taskfarmer.task import ListTaskList\n\
                  t = ListTaskList('tasks.txt', 'w')\n\
                  open('read', 'w').write(repr((sorted(t.read_toprocess()), t.read_finished(), t.pop_task() in (2, 3, 4))))";
    assert!(
        python(&farm, oracle)
            .args(["-c", script])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(farm.text("read"), "([2, 3, 4], [0], True)");
}

/// Starts PyTaskFarmer on 40 tasks of which one stands at a gate, waits until
/// it has done some, lets `stop` happen, and ends it with its workers.
fn ended_in_the_middle(farm: &Farm, oracle: &Path, stop: impl Fn(Pid)) {
    let gate = farm.gate("gate");
    let stand = gate.stand().replace("$PYTF_TASK_ID", "$PROC_NUMBER");
    farm.write("stand", format!("[ -e pass ] || {{ {stand}; }}"));
    farm.write("note", "echo $1 >> ran\n");
    let line = |id| {
        if id == 20 || id == 21 {
            "sh stand".into()
        } else {
            format!("sh note {id}")
        }
    };
    farm.write("tasks.txt", tasks(40, line));
    #[expect(clippy::disallowed_methods, reason = "PyTaskFarmer is no task")]
    let mut theirs = pytaskfarmer(farm, oracle, "w").spawn().unwrap();
    let pid = Pid::from_raw(theirs.id().try_into().unwrap());
    // Both workers: one that waits for work would make its handler hang.
    let tasks = gate.comers(2);
    // All that have ended: a handler that interrupts a record would hang, too.
    until("20 tasks are recorded", || farm.ids("finished").len() == 20);
    // The process itself writes the timeline under the lock: were it interrupted there, its
    // handler would wait for a worker that waits for the lock.
    until("its timeline has them, and its lock is free", || {
        let timeline = serde_json::from_slice::<Vec<Value>>(&farm.bytes("w/timeline.json"));
        let lock = fs::File::open(farm.path("w/lock")).unwrap();
        timeline.is_ok_and(|tasks| tasks.len() == 20) && lock.try_lock().is_ok()
    });
    stop(pid);
    // Its workers and tasks do not end with it, and it may hang at its own
    // handler: we are not to blame for either.
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    theirs.kill().unwrap();
    theirs.wait().unwrap();
    let workers = children
        .split_whitespace()
        .map(|worker| worker.parse().unwrap());
    for orphan in workers.chain(tasks.into_iter().map(|(_, pid)| pid)) {
        let _ = kill(Pid::from_raw(orphan), Signal::SIGKILL);
        until("nothing of theirs is alive", || !is_alive(orphan));
    }
    farm.write("pass", "");
}

/// Runs what is left; every task must have run, and none of the finished twice.
fn continues(farm: &Farm) {
    let finished = farm.ids("finished");
    let before = farm.text("ran");
    farm.farm("").run();
    farm.farm("--retry-failed").run().exits(0);
    farm.assert_exact(40, &(0..40).collect::<Vec<_>>(), &[]);
    let after = farm.text("ran");
    for id in after[before.len()..].lines() {
        assert!(
            !finished.contains(&id.parse().unwrap()),
            "task {id} was finished and ran again"
        );
    }
}

#[test]
fn a_run_of_pytaskfarmer_that_was_interrupted_is_continued() {
    let Some(oracle) = oracle() else { return };
    let farm = Farm::new();
    ended_in_the_middle(&farm, oracle, |theirs| {
        kill(theirs, Signal::SIGUSR1).unwrap();
        until("it has put the task back", || {
            farm.ids("toprocess").contains(&21)
        });
    });
    continues(&farm);
}

#[test]
fn a_run_of_pytaskfarmer_that_was_killed_is_continued_with_the_tasks_it_lost() {
    let Some(oracle) = oracle() else { return };
    let farm = Farm::new();
    ended_in_the_middle(&farm, oracle, |_| ());
    continues(&farm);
}

/// PyTaskFarmer on the workdir `w`, to its end.
fn pytaskfarmer_to_its_end(farm: &Farm, oracle: &Path) {
    #[expect(clippy::disallowed_methods, reason = "PyTaskFarmer is no task")]
    let mut theirs = pytaskfarmer(farm, oracle, "w").spawn().unwrap();
    until("PyTaskFarmer has ended", || {
        theirs.try_wait().unwrap().is_some()
    });
    assert!(theirs.wait().unwrap().success());
}

/// From pytf to PyTaskFarmer and back: no task is lost, and what either finished runs once. It
/// can append to our timeline, where it hung for ever before, with a task and the lock.
#[test]
fn a_run_goes_to_pytaskfarmer_and_back() {
    let Some(oracle) = oracle() else { return };
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("stand", format!("[ -e pass ] || {{ {}; }}", gate.stand()));
    farm.write("note", "echo $1 >> ran\n");
    let line = |id| match id {
        3 => "sh stand".into(),
        id => format!("sh note {id}"),
    };
    farm.write("tasks.txt", tasks(12, line));
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    assert_eq!(farm.ids("finished"), [0, 1, 2]);
    farm.write("pass", "");
    pytaskfarmer_to_its_end(&farm, oracle);
    assert_eq!(farm.ids("finished"), (0..12).collect::<Vec<_>>());
    farm.farm("").run().exits(74).says(&["pytf repair w"]);
    farm.pytf(["repair", "w", "tasks.txt"]).run().exits(0);
    farm.farm("").run().exits(0);
    farm.assert_exact(12, &(0..12).collect::<Vec<_>>(), &[]);
    let mut ran: Vec<u64> = farm
        .text("ran")
        .lines()
        .map(|id| id.parse().unwrap())
        .collect();
    ran.sort_unstable();
    let once: Vec<u64> = (0..12).filter(|id| *id != 3).collect();
    assert_eq!(ran, once, "each ran once");
    for _ in 0..2 {
        // With nothing left to do, and once more: what it did stays in the timeline.
        let trace = crate::timeline::trace(&farm.bytes("w/timeline.json"));
        let slices = trace["traceEvents"].as_array().unwrap().iter();
        let theirs = slices.filter(|event| {
            let farmer = event["args"]["farmer"].as_str().unwrap_or_default();
            farmer.starts_with("PyTaskFarmer")
        });
        assert_eq!(theirs.count(), 9, "what PyTaskFarmer ran");
        pytaskfarmer_to_its_end(&farm, oracle);
        farm.farm("").run().exits(74);
        farm.pytf(["repair", "w", "tasks.txt"]).run().exits(0);
        farm.farm("").run().exits(0);
    }
    farm.assert_exact(12, &(0..12).collect::<Vec<_>>(), &[]);
}
