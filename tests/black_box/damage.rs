//! Files that a crash of the machine, or somebody, has damaged: repaired or
//! named, and never believed.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::bad_days::{marking, nothing_false, orderly};
use crate::harness::{Farm, each_nth, side_by_side, tasks, until};

/// What a crash of the machine may leave at the end of a file.
const SCARS: [(&str, &[u8]); 4] = [
    ("a torn line", b"17 tou"),
    ("zeros", b"\0\0\0\0\0\0\0\0\0\0\0\0"),
    ("half a record", b"{\"event\":\"end\",\"id\":1,\"att"),
    ("half a number", b"1"),
];

#[test]
fn a_torn_end_of_a_file_is_repaired_or_named_and_never_believed() {
    let files = [
        "finished",
        "failed",
        "toprocess",
        "tasks",
        "lock",
        "journal",
    ];
    side_by_side(&files, |&file| {
        for (scar, bytes) in each_nth(3, SCARS) {
            eprintln!("{scar} in {file}");
            let farm = marking(30);
            // Task 30 kills its farmer the first time, and is well the second.
            let killer = "[ -e done/30 ] && exit; touch done/30; kill -KILL $PPID; sleep 1000\n";
            let rest = tasks(20, |id| format!("touch done/{}", id + 31));
            farm.write("tasks.txt", farm.text("tasks.txt") + killer + &rest);
            farm.farm("--proc 1").run();
            let path = if file == "journal" {
                farm.path("w/nodes")
                    .join(format!("{}.jsonl", farm.farmers()[0]))
            } else {
                farm.path("w").join(file)
            };
            File::options()
                .append(true)
                .create(true)
                .open(&path)
                .unwrap()
                .write_all(bytes)
                .unwrap();
            let done = farm.farm("").run();
            orderly(&done, &[0, 74]);
            if done.status.code() == Some(74) {
                assert!(
                    done.stderr.contains(file) || file == "journal",
                    "names the file: {}",
                    done.stderr
                );
                continue;
            }
            farm.assert_exact(51, &(0..51).collect::<Vec<_>>(), &[]);
            nothing_false(&farm);
        }
    });
}

#[test]
fn a_state_file_that_is_gone_or_empty_or_garbage_is_named_or_rebuilt() {
    let files = ["finished", "failed", "toprocess", "tasks", "lock"];
    side_by_side(&files, |&file| {
        for (damage, content) in [
            ("gone", None),
            ("empty", Some("")),
            ("garbage", Some("no such line\n\0\u{1}{}\n")),
        ] {
            eprintln!("{file} is {damage}");
            let farm = marking(10);
            farm.write(
                "tasks.txt",
                farm.text("tasks.txt") + "exit 3\n" + "[ -e pass ]\n",
            );
            farm.farm("").run().exits(1);
            match content {
                None => fs::remove_file(farm.path("w").join(file)).unwrap_or_default(),
                Some(content) => farm.write(farm.path("w").join(file), content),
            }
            let before = farm.text("w/finished");
            let done = farm.farm("").run();
            orderly(&done, &[0, 1, 74]);
            if done.status.code() == Some(74) {
                assert!(
                    done.stderr.contains(file),
                    "names the file: {}",
                    done.stderr
                );
            } else {
                // Whatever it rebuilt, it must not take what failed for done.
                assert_eq!(
                    done.status.code(),
                    Some(1),
                    "{damage} {file}: two tasks have not been done"
                );
                let known: Vec<u64> = [
                    farm.ids("finished"),
                    farm.ids("failed"),
                    farm.ids("toprocess"),
                ]
                .concat();
                assert_eq!(known.len(), 12, "each id in exactly one file");
                assert!(farm.text("w/finished").len() >= before.len());
            }
        }
    });
}

/// A run that was stopped: some tasks are finished, two have failed, two were
/// interrupted, others wait.
fn half_done() -> Farm {
    let farm = Farm::new();
    // A failure that is not recorded yet when the signal comes counts as an interruption.
    let stop = "[ -e stopped ] || { \
                until [ -e other ] && [ \"$(grep -c exit w/failed)\" = 2 ]; do sleep 0.01; done; \
                touch stopped; kill -TERM $PPID; sleep 1000; }\n\
                touch other; [ -e stopped ] || sleep 1000\n";
    let first = tasks(6, |id| format!("echo {id} >>ran"));
    let rest = tasks(8, |id| format!("echo {} >>ran", id + 10));
    farm.write("tasks.txt", first + "exit 3\nexit 3\n" + stop + &rest);
    farm.farm("--proc 2 --grace 1").run().exits(75);
    farm
}

/// Ways to change the inside of a file, of which its length and often the number of its
/// lines tell nothing.
type Change = fn(&[u8]) -> Vec<u8>;
const CHANGES: [(&str, Change); 3] = [
    ("a bit is flipped in a command", |bytes| {
        let mut new = bytes.to_vec();
        let at = new
            .iter()
            .rposition(|&b| b == b'o' || b == b'e')
            .unwrap_or(2);
        new[at] ^= 4;
        new
    }),
    ("a line is zeroed", |bytes| {
        let end = bytes.iter().position(|&b| b == b'\n').unwrap();
        let mut new = bytes.to_vec();
        new[..end].fill(0);
        new
    }),
    ("a line is there twice", |bytes| {
        let end = bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
        [&bytes[..end], bytes].concat()
    }),
];

#[test]
fn a_change_inside_a_file_is_named_before_any_task_starts() {
    let files = ["tasks", "toprocess", "finished", "failed", "requeued"];
    side_by_side(&files, |&file| {
        for (what, change) in each_nth(2, CHANGES) {
            eprintln!("{file}: {what}");
            let farm = half_done();
            farm.pytf(["repair", "--check", "w"])
                .run()
                .exits(0)
                .says(&["no damage found"]);
            let ran = farm.text("ran");
            let path = farm.path("w").join(file);
            farm.write(&path, change(&farm.bytes(&path)));
            let before = farm.bytes(&path);
            let named = format!("{file} is damaged");
            let checked = farm.pytf(["repair", "--check", "w"]).run();
            checked.exits(74).says(&[&named, "pytf repair w"]);
            farm.farm("")
                .run()
                .exits(74)
                .says(&[&named, "pytf repair w"]);
            assert_eq!(farm.text("ran"), ran, "nothing was started");
            assert_eq!(farm.bytes(&path), before, "nothing was changed");
            if file == "tasks" {
                // Which of two lines is right the list must say.
                farm.pytf(["repair", "w", "tasks.txt"]).run().exits(0);
            } else {
                farm.pytf(["repair", "w"]).run().exits(0);
            }
            farm.pytf(["repair", "--check", "w"]).run().exits(0);
            farm.farm("").run().exits(1);
            let all: Vec<u64> = (0..18).filter(|id| ![6, 7].contains(id)).collect();
            farm.assert_exact(18, &all, &[6, 7]);
            let mut ran: Vec<u64> = farm
                .text("ran")
                .lines()
                .map(|id| id.parse().unwrap())
                .collect();
            ran.sort_unstable();
            ran.dedup();
            let all: Vec<u64> = (0..18).filter(|id| !(6..10).contains(id)).collect();
            assert_eq!(ran, all, "each by its own command");
        }
    });
}

/// The farmer that is alive has checked the file before: it finds at the last task that
/// what it claimed is not what was written.
#[test]
fn a_change_in_a_waiting_line_while_a_farmer_lives_is_told_at_the_latest_with_the_last_task() {
    let farm = Farm::new();
    let wait = "touch up; until [ -e go ]; do sleep 0.01; done\n";
    let rest = tasks(40, |id| format!("echo {id} {}", "x".repeat(100)));
    farm.write("tasks.txt", wait.to_owned() + &rest);
    let run = farm.farm("--proc 1").start();
    until("the first task runs", || farm.path("up").exists());
    let path = farm.path("w/toprocess");
    let text = farm.text(&path);
    let at = text.find("30 echo 29 ").unwrap() + 20;
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_at(b"y", at as u64)
        .unwrap();
    farm.write("go", "");
    run.wait()
        .exits(74)
        .says(&["toprocess is damaged", "pytf repair w"]);
    farm.pytf(["repair", "w"]).run().exits(0);
    farm.farm("").run().exits(0);
    farm.assert_exact(41, &(0..41).collect::<Vec<_>>(), &[]);
}

#[test]
fn a_repair_makes_no_file_of_orders_where_none_was_given() {
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    fs::remove_file(farm.path("w/lock")).unwrap();
    farm.pytf(["repair", "w"]).run().leaves(0);
    assert!(!farm.path("w/orders").exists());
    farm.farm("").run().exits(0);
    farm.assert_exact(1, &[0], &[]);
}
