//! Workdirs that an older `pytf` made.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use crate::harness::{Farm, until};

/// A workdir as an older `pytf` left it, with the list that it was made from.
fn made_by_format_1(name: &str) -> Farm {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1");
    let farm = Farm::of(fs::read_to_string(from.join(format!("{name}.txt"))).unwrap());
    farm.make_dir("w/nodes");
    for sub in ["", "nodes"] {
        for entry in fs::read_dir(from.join(name).join(sub)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                continue;
            }
            let to = Path::new("w").join(sub).join(entry.file_name());
            farm.write(&to, fs::read(entry.path()).unwrap());
            // Nobody has written to it for long.
            let file = File::options().write(true).open(farm.path(to)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
    }
    farm
}

fn lock(farm: &Farm) -> Vec<u8> {
    fs::read(farm.path("w/lock")).unwrap()
}

fn format(farm: &Farm) -> String {
    let mut begin = [0; 2048];
    File::open(farm.path("w/lock"))
        .unwrap()
        .read_exact_at(&mut begin, 0)
        .unwrap();
    let text = String::from_utf8_lossy(&begin).into_owned();
    text.split_once("\"format\":").unwrap().1[..1].to_owned()
}

#[test]
fn a_workdir_of_format_1_is_read_as_it_is_and_taken_over_by_the_next_start() {
    let farm = made_by_format_1("quiet");
    let before = lock(&farm);
    let seen = farm.pytf(["status", "w", "--json"]).run();
    seen.exits(0)
        .says(&["\"finished\": 2", "\"failed\": 1", "\"waiting\": 5"]);
    assert_eq!(lock(&farm), before, "to look changes nothing");
    let done = farm.farm("").run();
    done.exits(1).says(&["2 finished, 1 failed"]);
    assert_eq!(format(&farm), "2");
    assert_eq!(farm.ids("finished"), [0, 2, 4, 5, 6, 7]);
    assert_eq!(farm.ids("failed"), [1, 3]);
    let status = farm.pytf(["status", "w"]).run().exits(0);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(!text.contains("damage"), "{text}");
    let nodes: Vec<_> = fs::read_dir(farm.path("w/nodes")).unwrap().collect();
    assert_eq!(nodes.len(), 1, "only nodes/done: {nodes:?}");
    assert_eq!(fs::read_dir(farm.path("w/nodes/done")).unwrap().count(), 3);
}

#[test]
fn retry_takes_a_workdir_of_format_1_over_as_well() {
    let farm = made_by_format_1("quiet");
    farm.pytf(["retry", "w"]).run().exits(0);
    assert_eq!(format(&farm), "2");
    farm.farm("").run().exits(1);
    assert_eq!(farm.ids("finished"), [0, 2, 4, 5, 6, 7]);
}

#[test]
fn while_farmers_of_format_1_are_alive_by_the_state_it_is_refused_and_repair_takes_it_over() {
    let farm = made_by_format_1("killed");
    let before = lock(&farm);
    for command in [&["tasks.txt", "-w", "w"][..], &["retry", "w"]] {
        let refused = farm.pytf(command).run();
        refused.exits(74).says(&["format 1", "pytf repair"]);
        assert_eq!(lock(&farm), before, "{command:?}");
    }
    assert_eq!(farm.ids("finished"), [0, 2]);
    farm.pytf(["repair", "w"]).run().exits(0);
    assert_eq!(format(&farm), "2");
    farm.farm("").run().exits(1);
    assert_eq!(farm.ids("finished"), [0, 2, 3, 4]);
    assert_eq!(farm.ids("failed"), [1]);
}

#[test]
fn the_first_farmer_of_a_run_sets_its_takeover_time_and_others_are_told() {
    let farm = Farm::of("touch up; until [ -e go ]; do sleep 0.01; done\necho a\n");
    let first = farm.farm("--proc 1 --takeover 30s").start();
    until("the first task runs", || farm.path("up").exists());
    let second = farm.farm("--proc 1 --takeover 7s").start();
    until("the second has joined", || {
        second
            .stderr()
            .contains("the takeover time of this run is 30s")
    });
    farm.write("go", "");
    second.wait().leaves(0);
    first.wait().exits(0);
    // The next run begins with nobody alive.
    farm.write("tasks.txt", farm.text("tasks.txt") + "echo b\n");
    let next = farm.farm("--takeover 7s").run().exits(0);
    assert!(!next.stderr.contains("takeover time"), "{}", next.stderr);
}
