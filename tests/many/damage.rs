//! Workdirs that something else has damaged, between two runs.

use std::fs;

use crate::harness::{Farm, tasks};

/// A workdir half-way: 20 done, one failed, the farmer killed over the next,
/// with results that only its journal holds, and 10 to go.
fn halfway() -> Farm {
    let farm = Farm::new();
    fs::create_dir(farm.path("done")).unwrap();
    let line = |id: u64| match id {
        10 => "exit 3".into(),
        21 => "[ -e done/21 ] && exit; touch done/21; kill -KILL $PPID; sleep 1000".into(),
        _ => format!("touch done/{id}"),
    };
    farm.write("tasks.txt", tasks(32, line));
    // The first run ends in good order: its workdir is an older generation.
    farm.farm("--proc 1 --timeout 0.05s --grace 1").run();
    let copy = std::process::Command::new("cp")
        .args(["-r", "w", "old"])
        .current_dir(farm.path(""))
        .status();
    assert!(copy.unwrap().success());
    farm.farm("--proc 1").run();
    farm
}

fn truncated(farm: &Farm, file: &str, to: usize) {
    let bytes = farm.bytes(format!("w/{file}"));
    farm.write(format!("w/{file}"), &bytes[..to.min(bytes.len())]);
}

/// What the next run says: its status and its last word.
fn next(farm: &Farm, what: &str) -> Option<i32> {
    let done = farm.farm("").run();
    let code = done.status.code();
    let ids = ["finished", "failed", "toprocess"].map(|file| {
        String::from_utf8_lossy(&farm.bytes(format!("w/{file}")))
            .lines()
            .count()
    });
    let first = done.stderr.lines().next().unwrap_or("").to_owned();
    println!("{what}: {code:?} {ids:?} {first}");
    code
}

#[test]
fn show() {
    for (file, to) in [
        ("finished", 0),
        ("finished", 40),
        ("failed", 0),
        ("tasks", 0),
        ("tasks", 40),
        ("toprocess", 0),
        ("toprocess", 20),
        ("lock", 0),
        ("lock", 100),
        ("lock", 1500),
        ("lock", 2560),
        ("lock", 3000),
    ] {
        let farm = halfway();
        truncated(&farm, file, to);
        next(&farm, &format!("{file} cut to {to}"));
    }
    for file in ["finished", "failed", "toprocess", "tasks", "lock"] {
        let farm = halfway();
        let bytes = farm.bytes(format!("w/{file}"));
        let keep = bytes.len() / 2;
        let zeroed: Vec<u8> = bytes[..keep]
            .iter()
            .copied()
            .chain(std::iter::repeat_n(0, bytes.len() - keep))
            .collect();
        farm.write(format!("w/{file}"), zeroed);
        next(&farm, &format!("{file} zeros in its second half"));
        let farm = halfway();
        fs::copy(
            farm.path(format!("old/{file}")),
            farm.path(format!("w/{file}")),
        )
        .unwrap();
        next(&farm, &format!("{file} of the day before"));
        let farm = halfway();
        fs::remove_file(farm.path(format!("w/{file}"))).unwrap();
        fs::create_dir(farm.path(format!("w/{file}"))).unwrap();
        next(&farm, &format!("{file} is a directory"));
        let farm = halfway();
        fs::remove_file(farm.path(format!("w/{file}"))).unwrap();
        next(&farm, &format!("{file} is gone"));
    }
    let farm = halfway();
    let name = farm.farmers().pop().unwrap();
    let journal = format!("w/nodes/{name}.jsonl");
    for (what, cut) in [("journal torn", 5), ("journal more torn", 300)] {
        let farm = halfway();
        let name = farm.farmers().pop().unwrap();
        let journal = format!("w/nodes/{name}.jsonl");
        let bytes = farm.bytes(&journal);
        farm.write(&journal, &bytes[..bytes.len() - cut]);
        next(&farm, what);
    }
    fs::remove_file(farm.path(&journal)).unwrap();
    next(&farm, "journal gone");
}
