//! Workdirs that something else has damaged between two runs: named with the
//! file, or mended; never taken for all done or for all to do.

use std::fs;
use std::process::Command;

use crate::harness::{Farm, each_nth, tasks, until};

/// A workdir half-way: some tasks are done, one has failed, the farmer was
/// killed over the next, and others nobody has claimed. `old` is a copy of its
/// earlier days.
fn halfway() -> Farm {
    let farm = Farm::new();
    fs::create_dir(farm.path("done")).unwrap();
    let line = |id: u64| match id {
        4 => "[ -e stopped ] || { touch stopped; kill -TERM $PPID; sleep 1000; }".into(),
        10 => "exit 3".into(),
        21 => "[ -e done/21 ] && exit; touch done/21; kill -KILL $PPID; sleep 1000".into(),
        _ => format!("touch done/{id}"),
    };
    farm.write("tasks.txt", tasks(32, line));
    farm.farm("--proc 1 --grace 1").run().exits(75);
    let copy = Command::new("cp")
        .args(["-r", "w", "old"])
        .current_dir(farm.path(""))
        .status();
    assert!(copy.unwrap().success());
    // The takeover time of a run is that of its first farmer.
    farm.farm("--proc 1 --takeover 1s").run();
    until("the guard is gone", || farm.survivors().is_empty());
    farm
}

fn damage(farm: &Farm, file: &str, how: &str) {
    let path = farm.path(format!("w/{file}"));
    let bytes = fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    match how {
        "empty" => fs::write(path, "").unwrap(),
        "half" => fs::write(path, &bytes[..half]).unwrap(),
        "zeros" => {
            let zeros = std::iter::repeat_n(0, bytes.len() - half);
            let bytes: Vec<u8> = bytes[..half].iter().copied().chain(zeros).collect();
            fs::write(path, bytes).unwrap();
        }
        "garbage" => fs::write(path, vec![b'x'; bytes.len()]).unwrap(),
        "directory" => {
            fs::remove_file(&path).unwrap();
            farm.make_dir(path);
        }
        "gone" => fs::remove_file(path).unwrap(),
        "old" => drop(fs::copy(farm.path(format!("old/{file}")), path).unwrap()),
        _ => unreachable!("{how}"),
    }
}

const FILES: [&str; 5] = ["finished", "failed", "toprocess", "tasks", "lock"];
const DAMAGES: [&str; 6] = ["empty", "half", "zeros", "garbage", "directory", "gone"];

/// Says what the next run does; it must be one of these: the file is named with
/// status 74, or everything is as it should be.
fn judge(farm: &Farm, file: &str, how: &str) {
    let done = farm.farm("").run();
    let [finished, failed, left] = ["finished", "failed", "toprocess"].map(|file| {
        let bytes = fs::read(farm.path(format!("w/{file}"))).unwrap_or_default();
        memchr::memchr_iter(b'\n', &bytes).count()
    });
    let code = done.status.code();
    let last = done.stderr.lines().last().unwrap_or("");
    println!("{file} {how}: {code:?}, {finished} + {failed} + {left}: {last}");
    if code == Some(74) {
        assert!(done.stderr.contains(file), "{file} {how}: {}", done.stderr);
        repair(farm, &format!("{file} {how}"));
    } else {
        assert_eq!(code, Some(1), "{file} {how}: one task fails");
    }
    let all: Vec<u64> = (0..32).filter(|id| *id != 10).collect();
    farm.assert_exact(32, &all, &[10]);
    for id in all.iter().filter(|id| **id != 4) {
        assert!(
            farm.path(format!("done/{id}")).exists(),
            "{file} {how}: {id}"
        );
    }
}

/// What the journals know is not run again: tasks say when they are.
fn repair(farm: &Farm, what: &str) {
    let known = done_by_journals(farm);
    let args: &[&str] = match farm.pytf(["repair", "w"]).run() {
        done if done.stderr.contains("pytf repair WORKDIR TASKLIST") => &["w", "tasks.txt"],
        done => {
            assert_eq!(done.status.code(), Some(0), "{what}: {}", done.stderr);
            &[]
        }
    };
    if !args.is_empty() {
        farm.pytf(["repair"].iter().chain(args)).run().exits(0);
    }
    for id in &known {
        let _ = fs::remove_file(farm.path(format!("done/{id}")));
    }
    farm.farm("").run().exits(1);
    for id in known {
        let again = farm.path(format!("done/{id}"));
        assert!(!again.exists(), "{what}: task {id} ran again");
        fs::write(again, "").unwrap();
    }
    assert!(farm.path("w/damaged-1").is_dir(), "{what}");
}

/// The tasks that finished, by what is left of the journals.
fn done_by_journals(farm: &Farm) -> Vec<u64> {
    let text = |journal| fs::read(journal).unwrap();
    let texts: Vec<Vec<u8>> = farm.journals().into_iter().map(text).collect();
    texts
        .iter()
        .flat_map(|text| text.split(|&b| b == b'\n'))
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .filter(|record| record["outcome"]["exit"] == 0)
        .filter_map(|record| record["id"].as_u64())
        .collect()
}

#[test]
fn a_damaged_file_is_named_or_mended() {
    for file in FILES {
        for how in each_nth(3, DAMAGES) {
            let farm = halfway();
            damage(&farm, file, how);
            judge(&farm, file, how);
        }
    }
}

#[test]
fn a_file_of_earlier_days_is_named_or_mended() {
    for file in FILES {
        let farm = halfway();
        damage(&farm, file, "old");
        judge(&farm, file, "old");
    }
}

/// Tasks of a farmer that nobody can find come back after the takeover time.
#[test]
fn a_deleted_journal_leaves_no_task_behind() {
    let farm = halfway();
    let journal = format!("nodes/{}.jsonl", farm.farmers().pop().unwrap());
    damage(&farm, &journal, "gone");
    let done = farm.farm("--takeover 1s").run().exits(1);

    assert!(
        done.stderr.contains("has no journal any more"),
        "{}",
        done.stderr
    );
    let all: Vec<u64> = (0..32).filter(|id| *id != 10).collect();
    farm.assert_exact(32, &all, &[10]);
}

/// All tasks are done; then a `lock` of earlier days is put in place, by which
/// most of them are still to do.
#[test]
fn an_old_lock_is_named_even_when_the_run_is_over() {
    let farm = halfway();
    farm.farm("").run().exits(1);
    let [finished, failed] = ["w/finished", "w/failed"].map(|file| farm.text(file));
    damage(&farm, "lock", "old");
    let done = farm.farm("").run().exits(74);
    assert!(
        done.stderr.contains("lock is damaged") && done.stderr.contains("older"),
        "{}",
        done.stderr
    );
    assert_eq!(farm.text("w/finished"), finished);
    assert_eq!(farm.text("w/failed"), failed);
    farm.pytf(["repair", "w"])
        .run()
        .exits(0)
        .says(&["31 finished, 1 failed, 0 to go"]);
    farm.farm("").run().exits(1);
    let all: Vec<u64> = (0..32).filter(|id| *id != 10).collect();
    farm.assert_exact(32, &all, &[10]);
}

/// Nothing is changed under the hands of a farmer.
#[test]
fn a_workdir_in_use_is_not_repaired() {
    let farm = Farm::of("touch started; while [ ! -e go ]; do sleep 0.01; done\n");
    let running = farm.farm("").start();
    until("the task runs", || farm.path("started").exists());
    let before = farm.text("w/toprocess");
    farm.pytf(["repair", "w"])
        .run()
        .leaves(2)
        .says(&["stop it first"]);
    assert_eq!(farm.text("w/toprocess"), before);
    assert!(!farm.path("w/damaged-1").exists());
    farm.write("go", "");
    running.wait().exits(0);
    farm.assert_exact(1, &[0], &[]);
}

/// The whole list as it was at first, in the place of what is left of it.
#[test]
fn an_earlier_and_longer_queue_is_named() {
    let farm = Farm::new();
    let line = |id: u64| match id {
        10 => "[ -e stopped ] || { touch stopped; kill -TERM $PPID; sleep 1000; }".into(),
        _ => format!("echo {id} >>done"),
    };
    farm.write("tasks.txt", tasks(32, line));
    farm.farm("--proc 1 --grace 1").run().exits(75);
    let list = farm.text("tasks.txt");
    let whole: Vec<String> = (0..)
        .zip(list.lines())
        .map(|(id, line)| format!("{id} {line}\n"))
        .collect();
    farm.write("w/toprocess", whole.concat());
    let done = farm.farm("").run().exits(74);
    assert!(
        done.stderr.contains("toprocess is damaged"),
        "{}",
        done.stderr
    );
    assert_eq!(farm.text("done").lines().count(), 10);
}

#[test]
fn a_damaged_journal_is_named_or_mended() {
    for how in ["half", "zeros", "garbage", "empty"] {
        let farm = halfway();
        let journal = format!("nodes/{}.jsonl", farm.farmers().pop().unwrap());
        damage(&farm, &journal, how);
        judge(&farm, &journal, how);
    }
}

/// A farmer is killed; what had failed on it is put back by a retry; then its journal
/// is damaged. What the log says a later transaction took is not lost with it.
#[test]
fn what_was_retried_is_not_queued_again_whatever_became_of_the_journal() {
    for how in ["half", "zeros", "garbage", "empty", "gone"] {
        let farm = Farm::new();
        let line = |id: u64| match id {
            0 => "echo >>ran; exit 3".into(),
            1 => "[ -e killed ] && exit; until [ -s w/failed ]; do sleep 0.01; done; \
                  touch killed; kill -KILL $PPID; sleep 1000"
                .into(),
            _ => "true".to_owned(),
        };
        farm.write("tasks.txt", tasks(8, line));
        farm.farm("--proc 1 --takeover 1s").run();
        until("the guard is gone", || farm.survivors().is_empty());
        farm.pytf(["retry", "w"]).run().exits(0);
        let journal = format!("nodes/{}.jsonl", farm.farmers().pop().unwrap());
        damage(&farm, &journal, how);

        farm.farm("--proc 1 --takeover 1s").run().exits(1);
        farm.assert_exact(8, &[1, 2, 3, 4, 5, 6, 7], &[0]);
        assert_eq!(
            farm.text("ran").lines().count(),
            2,
            "{how}: 0 ran too often"
        );
    }
}
