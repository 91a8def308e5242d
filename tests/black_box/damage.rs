//! Files that a crash of the machine, or somebody, has damaged: repaired or
//! named, and never believed.

use std::fs::{self, File};
use std::io::Write;

use crate::bad_days::{marking, nothing_false, orderly};
use crate::harness::tasks;

/// What a crash of the machine may leave at the end of a file.
const SCARS: [(&str, &[u8]); 4] = [
    ("a torn line", b"17 tou"),
    ("zeros", b"\0\0\0\0\0\0\0\0\0\0\0\0"),
    ("half a record", b"{\"event\":\"end\",\"id\":1,\"att"),
    ("half a number", b"1"),
];

#[test]
fn a_torn_end_of_a_file_is_repaired_or_named_and_never_believed() {
    for file in [
        "finished",
        "failed",
        "toprocess",
        "tasks",
        "lock",
        "journal",
    ] {
        for (scar, bytes) in SCARS {
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
    }
}

#[test]
fn a_state_file_that_is_gone_or_empty_or_garbage_is_named_or_rebuilt() {
    for file in ["finished", "failed", "toprocess", "tasks", "lock"] {
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
    }
}
