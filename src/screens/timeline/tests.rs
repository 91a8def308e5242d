//! A timeline is judged as its consumers judge it: it is parsed, and every rule that they rely
//! on is checked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::trace::{COMMAND, NAME};
use super::*;
use crate::history::synthetic::{Workdir, end, header, start, workdir};
use crate::model::outcome::Outcome;
use crate::model::record::{Record, Used};

fn write(dir: &Path) -> io::Result<Written> {
    super::write(&Run::open(dir).unwrap())
}

/// The parsed file.
fn timeline(dir: &Workdir) -> Value {
    let written = write(dir.path()).unwrap();
    assert_eq!(written.path, dir.path().join("timeline.json"));
    let text = fs::read_to_string(&written.path).unwrap();
    let mut events: Vec<Value> = serde_json::from_str(&text).unwrap();
    // One event per line, between the first and the last.
    assert_eq!(text.lines().count(), events.len() + 2);
    let facts = events.pop().unwrap();
    assert_eq!(facts["name"], "pytf_trace");
    let trace = json!({"traceEvents": events, "otherData": facts["args"]});
    let events = trace["traceEvents"].as_array().unwrap();
    assert_eq!(trace["otherData"]["slices"], written.slices);
    check_rows(events);
    let names = fs::read_dir(dir.path()).unwrap();
    let hidden = |name: &std::ffi::OsString| name.to_string_lossy().starts_with('.');
    assert!(!names.map(|e| e.unwrap().file_name()).any(|n| hidden(&n)));
    trace
}

/// In every row slices have a length, come one after the other, and the row
/// and its node have a name.
fn check_rows(events: &[Value]) {
    let mut rows: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
    let mut named = Vec::new();
    for event in events {
        let number = |key: &str| event[key].as_u64().unwrap();
        match event["ph"].as_str().unwrap() {
            "X" => rows
                .entry((number("pid"), number("tid")))
                .or_default()
                .push((number("ts"), number("ts") + number("dur"))),
            "M" => named.push((
                event["name"].as_str().unwrap(),
                number("pid"),
                number("tid"),
            )),
            "i" => assert!(event["ts"].is_u64()),
            "C" => assert!(event["args"]["value"].is_number()),
            "s" | "f" => assert!(event["id"].is_u64()),
            other => panic!("{other}"),
        }
    }
    for ((pid, tid), mut slices) in rows {
        assert!(pid >= 1 && tid >= 1);
        assert!(named.contains(&("process_name", pid, 0)), "{pid}");
        assert!(named.contains(&("thread_name", pid, tid)), "{pid} {tid}");
        slices.sort_unstable();
        assert!(slices.iter().all(|(from, to)| from < to));
        assert!(
            slices.windows(2).all(|pair| pair[0].1 <= pair[1].0),
            "{slices:?}"
        );
    }
}

/// `node/row task.attempt outcome from-to` of every slice.
fn slices(trace: &Value) -> Vec<String> {
    let events = trace["traceEvents"].as_array().unwrap();
    let name = |what: &str, pid: &Value, tid: &Value| {
        let mut found = events
            .iter()
            .filter(|event| event["name"] == what && event["pid"] == *pid && event["tid"] == *tid);
        let event = found.next().unwrap();
        assert!(found.next().is_none(), "named twice");
        event["args"]["name"].as_str().unwrap().to_owned()
    };
    let mut lines: Vec<String> = events
        .iter()
        .filter(|event| event["ph"] == "X")
        .map(|event| {
            let args = &event["args"];
            let from = event["ts"].as_u64().unwrap();
            format!(
                "{}/{} {}.{} {} {from}-{}",
                name("process_name", &event["pid"], &Value::from(0)),
                name("thread_name", &event["pid"], &event["tid"]),
                args["id"],
                args["attempt"],
                args["outcome"].as_str().unwrap(),
                from + event["dur"].as_u64().unwrap(),
            )
        })
        .collect();
    lines.sort();
    lines
}

/// A time as a farmer records it.
const T: u64 = 1_800_000_000_000_000;

/// A workdir with a retry, a farmer that was killed, one that left, and two at
/// a time on one node.
fn several_runs() -> Workdir {
    let dir = workdir(&["sleep 1", "false", "sleep 99", "sleep 98"]);
    // The first run: two slots, one retry, killed while tasks 2 and 3 ran.
    dir.journal(
        "n1.0.1.1",
        &[
            header("n1", T, 2),
            start(0, 1, 0, T + 10),
            end(1, 1, 1, T + 10, 5, Outcome::Exit(1)),
            end(1, 2, 1, T + 15, 5, Outcome::Signal(9)),
            start(2, 1, 1, T + 20),
            end(0, 1, 0, T + 10, 30, Outcome::Exit(0)),
            start(3, 1, 0, T + 41),
            Record::Beat { at: T + 90 },
        ],
    );
    dir.seal("n1.0.1.1");
    // The second one, on the same node later; and one beside it that runs.
    let leave = Record::Leave {
        at: T + 200,
        why: "no task is left".into(),
        longest_wait_us: 0,
    };
    dir.journal(
        "n1.0.1.2",
        &[
            header("n1", T + 100, 1),
            end(2, 2, 0, T + 100, 50, Outcome::Interrupted),
            leave,
        ],
    );
    dir.journal(
        "n1.0.1.3",
        &[
            header("n1", T + 120, 1),
            start(3, 2, 0, T + 130),
            Record::Beat { at: T + 300 },
        ],
    );
    dir
}

#[test]
fn one_slice_for_every_attempt_of_every_run() {
    let dir = several_runs();
    let trace = timeline(&dir);
    assert_eq!(
        slices(&trace),
        [
            "n1/slot 0 0.1 exit 10-40",
            "n1/slot 0 2.2 interrupted 100-150",
            "n1/slot 0 3.1 lost 41-90",
            "n1/slot 1 1.1 exit 10-15",
            "n1/slot 1 1.2 signal 15-20",
            "n1/slot 1 2.1 lost 20-90",
            "n1/slot 1 3.2 running 130-300",
        ]
    );
    assert_eq!(trace["otherData"]["start_unix"], 1_800_000_000.0);
    let marks: Vec<_> = trace["traceEvents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["ph"] == "i")
        .map(|event| event["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        marks,
        [
            "farmer joined",
            "farmer lost",
            "farmer joined",
            "farmer left: no task is left",
            "farmer joined"
        ]
    );
    let again = fs::read(dir.path().join("timeline.json")).unwrap();
    timeline(&dir);
    assert_eq!(fs::read(dir.path().join("timeline.json")).unwrap(), again);
}

#[test]
fn a_slice_shows_all_about_its_attempt() {
    let long = "x".repeat(2000);
    let dir = workdir(&["printf '\\033[31m\u{1b}\"'", &long]);
    let Record::End(mut ended) = end(0, 1, 0, T, 5, Outcome::Exit(3)) else {
        unreachable!();
    };
    ended.used = Some(Used {
        user: 1,
        sys: 2,
        peak: 3,
        ..Used::default()
    });
    dir.journal(
        "n1.0.1.1",
        &[
            header("n1", T, 1),
            Record::End(ended),
            end(1, 1, 0, T + 5, 5, Outcome::Signal(11)),
            end(2, 1, 0, T + 10, 5, Outcome::TimeLimit),
        ],
    );
    let trace = timeline(&dir);
    let found: Vec<&Value> = trace["traceEvents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["ph"] == "X")
        .collect();
    assert_eq!(
        *found[0],
        json!({
            "name": "printf '\\033[31m^[\"'", "cat": "task", "ph": "X",
            "ts": 0, "dur": 5, "pid": 1, "tid": 1,
            "args": {
                "id": 0, "command": "printf '\\033[31m^[\"'", "outcome": "exit", "status": 3,
                "user_us": 1, "sys_us": 2, "peak_kib": 3,
                "attempt": 1, "slot": 0, "farmer": "n1.0.1.1800000000000000",
            },
        })
    );
    assert_eq!(found[1]["args"]["signal"], 11);
    assert_eq!(found[1]["name"].as_str().unwrap().chars().count(), NAME);
    assert_eq!(
        found[1]["args"]["command"]
            .as_str()
            .unwrap()
            .chars()
            .count(),
        COMMAND
    );
    assert_eq!(found[2]["name"], "task 2");
}

#[test]
fn what_would_overlap_is_moved() {
    let dir = workdir(&[]);
    dir.journal(
        "n1.0.1.1",
        &[
            header("n1", T, 2),
            end(0, 1, 0, T, 10, Outcome::Exit(0)),
            // Begins before the last one ended.
            end(1, 1, 0, T + 8, 10, Outcome::Exit(0)),
            // Lasts no time at all.
            end(2, 1, 0, T + 18, 0, Outcome::Exit(0)),
            end(3, 1, 0, T + 18, 5, Outcome::Exit(0)),
            // Before the farmer began.
            end(4, 1, 1, T - 5, 1, Outcome::Exit(0)),
            // Its end is damaged.
            start(5, 1, 1, T + 1),
            start(6, 1, 1, T + 7),
            end(7, 1, 1, T + 9, 1 << 52, Outcome::Exit(0)),
        ],
    );
    assert_eq!(
        slices(&timeline(&dir)),
        [
            "n1/slot 0 0.1 exit 5-15",
            "n1/slot 0 1.1 exit 15-23",
            "n1/slot 0 2.1 exit 23-24",
            "n1/slot 0 3.1 exit 24-28",
            "n1/slot 1 4.1 exit 0-1",
            "n1/slot 1 5.1 unknown 6-12",
            "n1/slot 1 6.1 unknown 12-14",
            &format!("n1/slot 1 7.1 exit 14-{}", 14 + (1_u64 << 52)),
        ]
    );
}

/// A failing end is held back for a moment, in case its farmer is about to be stopped:
/// the journal has it behind what its slot did next.
#[test]
fn an_end_that_was_held_back_is_drawn_once_at_its_own_time() {
    let dir = workdir(&[]);
    dir.journal(
        "n1.0.1.1",
        &[
            header("n1", T, 2),
            // Its start is on record, and so is that of the next in its slot.
            start(0, 1, 0, T),
            start(1, 1, 0, T + 12),
            // Without a start, between two that finished.
            end(2, 1, 1, T, 4, Outcome::Exit(0)),
            end(4, 1, 1, T + 9, 4, Outcome::Exit(0)),
            end(0, 1, 0, T, 10, Outcome::Signal(15)),
            end(3, 1, 1, T + 5, 3, Outcome::Signal(9)),
            end(1, 1, 0, T + 12, 8, Outcome::Exit(0)),
            // Held back when its farmer died.
            start(5, 1, 0, T + 20),
            end(6, 1, 0, T + 25, 5, Outcome::Exit(0)),
            start(7, 1, 0, T + 31),
            Record::Beat { at: T + 40 },
        ],
    );
    dir.seal("n1.0.1.1");
    assert_eq!(
        slices(&timeline(&dir)),
        [
            "n1/slot 0 0.1 signal 0-10",
            "n1/slot 0 1.1 exit 12-20",
            "n1/slot 0 5.1 lost 20-25",
            "n1/slot 0 6.1 exit 25-30",
            "n1/slot 0 7.1 lost 31-40",
            "n1/slot 1 2.1 exit 0-4",
            "n1/slot 1 3.1 signal 5-8",
            "n1/slot 1 4.1 exit 9-13",
        ]
    );
}

proptest! {
    /// Whatever ends are held back, and for how long: a slice for each attempt, at its
    /// time, in its slot.
    #[test]
    fn each_attempt_is_one_slice_at_its_time(
        slots in prop::collection::vec(
            prop::collection::vec((1_u64..50, 0_u64..20, any::<bool>(), 0_u64..100), 1..30),
            1..4,
        ),
    ) {
        let (mut written, mut expected, mut id) = (Vec::new(), Vec::new(), 0);
        for (slot, attempts) in (0_u32..).zip(&slots) {
            let mut at = T;
            for (us, pause, is_noted, held) in attempts {
                if *is_noted {
                    written.push((at + 1, start(id, 1, slot, at)));
                }
                let outcome = Outcome::Exit(i32::from(*held > 50));
                let held = held.saturating_sub(50);
                written.push((at + us + held, end(id, 1, slot, at, *us, outcome)));
                expected.push(format!("n1/slot {slot} {id}.1 exit {}-{}", at - T, at + us - T));
                at += us + pause;
                id += 1;
            }
        }
        written.sort_by_key(|(at, _)| *at);
        let records = written.into_iter().map(|(_, record)| record);
        let dir = workdir(&[]);
        let all: Vec<Record> = std::iter::once(header("n1", T, 4)).chain(records).collect();
        dir.journal("n1.0.1.1", &all);
        expected.sort();
        prop_assert_eq!(slices(&timeline(&dir)), expected);
    }
}

/// A farmer that was killed as soon as its first task had started.
#[test]
fn a_run_that_is_too_short_for_a_curve_has_its_points() {
    let dir = workdir(&["a", "b"]);
    dir.journal("n1.0.1.1", &[header("n1", T, 1), start(0, 1, 0, T)]);
    let trace = timeline(&dir);
    let events = trace["traceEvents"].as_array().unwrap();
    for name in ["running tasks", "CPUs in use", "tasks left"] {
        let of_run = |event: &&Value| event["ph"] == "C" && event["name"] == name;
        let times: Vec<_> = events.iter().filter(of_run).map(|e| &e["ts"]).collect();
        assert!(!times.is_empty(), "no curve {name}");
        assert!(times.iter().all(|at| **at == 0), "{name}: {times:?}");
    }
}

#[test]
fn a_workdir_without_journals_has_an_empty_timeline() {
    let dir = workdir(&["true"]);
    assert_eq!(timeline(&dir)["traceEvents"], json!([]));
}

#[test]
fn damage_loses_only_its_records() {
    let dir = workdir(&["true"]);
    let mut bytes = Vec::new();
    header("n1", T, 1).push_to(&mut bytes);
    bytes.extend_from_slice(b"garbage\n");
    end(0, 1, 0, T, 5, Outcome::Exit(0)).push_to(&mut bytes);
    bytes.extend_from_slice(b"{\"event\":\"end\",\"id\"");
    let path = dir.file("nodes/n1.0.1.1.jsonl", &bytes);
    let written = write(dir.path()).unwrap();
    let damage = Damage {
        lines: 1,
        first: Some(2),
    };
    assert_eq!((written.slices, written.damage), (1, vec![(path, damage)]));
}

#[test]
fn a_link_in_its_place_is_replaced_and_an_obstacle_is_reported() {
    let dir = workdir(&["true"]);
    let target = dir.file("precious", b"precious");
    let path = dir.path().join("timeline.json");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    timeline(&dir);
    assert_eq!(fs::read(target).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(write(dir.path()).is_err());
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        5,
        "a temporary file is left"
    );
}

#[test]
#[ignore = "fetches Perfetto and needs a Chromium"]
fn the_real_perfetto_agrees() {
    let dir = several_runs();
    let commands: Vec<u8> = (0..2000)
        .flat_map(|id| format!("{id} \u{1b}[31m\"雪\\ {id}\n").into_bytes())
        .collect();
    dir.file("tasks", &commands);
    // A node with many short tasks, some of no length, some that overlap.
    let mut records = vec![header("n10", T + 7, 4)];
    for n in 0..2000 {
        let outcome = [
            Outcome::Exit(0),
            Outcome::TimeLimit,
            Outcome::NotStarted(127),
        ];
        let outcome = outcome[usize::try_from(n % 3).unwrap()].clone();
        let slot = u32::try_from(n % 4).unwrap();
        records.push(end(n, 1, slot, T + 10 + n * 2, n % 11, outcome));
    }
    dir.journal("n10.0.1.1", &records);
    let written = write(dir.path()).unwrap();
    assert_eq!(written.slices, 2007);
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/perfetto/check.sh");
    let mut judge = std::process::Command::new(check);
    judge.arg(written.path).arg("2007");
    assert!(judge.status().unwrap().success());
}

/// What `PyTaskFarmer` writes of a task.
fn old(pid: u64, tid: u64, ts: f64, dur: f64, name: &str) -> Value {
    json!({"cat": "task", "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "ph": "X", "args": {}})
}

#[test]
fn what_pytaskfarmer_drew_stays_each_time() {
    let dir = workdir(&["a", "b"]);
    let events = json!([
        old(4_000_007, 4_000_009, 1_000.75, 100.5, "late"),
        old(4_000_007, 4_000_008, 500.25, 100.5, "first"),
        // Overlaps the one before, and so is cut.
        old(4_000_007, 4_000_008, 600.0, 100.0, "second\u{1b}"),
        old(12, 4_000_008, 550.0, 0.0, "other farmer"),
    ]);
    dir.file("timeline.json", events.to_string().as_bytes());
    dir.journal(
        "n1.0.1.1",
        &[
            header("n1", 2_000, 1),
            end(1, 1, 0, 2_010, 5, Outcome::Exit(0)),
        ],
    );
    for _ in 0..2 {
        let trace = timeline(&dir);
        assert_eq!(trace["otherData"]["slices"], 5);
        assert_eq!(trace["otherData"]["start_unix"], 0.0005);
        let mut found: Vec<String> = trace["traceEvents"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["ph"] == "X")
            .map(|event| {
                let part = |key: &str| event[key].to_string();
                [
                    part("pid"),
                    part("tid"),
                    part("ts"),
                    part("dur"),
                    part("name"),
                ]
                .join(" ")
            })
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "1 1 1510 5 \"b\"",
                "2 1 0 100 \"first\"",
                "2 1 100 100 \"second^[\"",
                "2 2 500 101 \"late\"",
                "3 1 50 1 \"other farmer\"",
            ]
        );
        let text = trace.to_string();
        assert!(text.contains("PyTaskFarmer (pid 4000007)"), "{text}");
        assert!(text.contains("worker (pid 4000009)"), "{text}");
        let kept = fs::read(dir.path().join(pytaskfarmer::KEPT)).unwrap();
        assert_eq!(kept, events.to_string().as_bytes());
    }
}

#[test]
fn a_damaged_old_timeline_gives_what_is_whole_and_says_so() {
    let whole = old(1, 2, 10.0, 5.0, "a").to_string();
    for (text, slices, is_said) in [
        (format!("[{whole}]"), 1, false),
        ("[]".to_owned(), 0, false),
        (format!("[{whole}, {{\"cat\":\"ta"), 1, true),
        (
            format!(r#"[{whole}, 7, {{"ph":"M"}}, {{"ph":"X","ts":-1}}]"#),
            1,
            true,
        ),
        (format!("[{}]", whole.replace("10.0", "1e300")), 0, true),
    ] {
        let dir = workdir(&["a"]);
        dir.file("timeline.json", text.as_bytes());
        let written = write(dir.path()).unwrap();
        assert_eq!(written.slices, slices, "{text}");
        assert_eq!(written.left_out.is_some(), is_said, "{text}");
        assert!(dir.path().join(pytaskfarmer::KEPT).exists());
        timeline(&dir);
    }
}

#[test]
fn no_old_timeline_is_written_over() {
    let dir = workdir(&["a"]);
    dir.file("timeline.json", b"[]");
    let kept = dir.file(pytaskfarmer::KEPT, b"[ ]");
    let error = write(dir.path()).unwrap_err();
    assert!(error.to_string().contains("move one"), "{error}");
    assert_eq!(fs::read(&kept).unwrap(), b"[ ]");
    assert_eq!(fs::read(dir.path().join("timeline.json")).unwrap(), b"[]");
    fs::remove_file(&kept).unwrap();
    // Interrupted before ours took its place.
    fs::hard_link(dir.path().join("timeline.json"), &kept).unwrap();
    timeline(&dir);
    assert_eq!(fs::read(&kept).unwrap(), b"[]");
}

/// It reads the whole array, appends a task, and writes all of it on one line.
#[test]
fn what_pytaskfarmer_appends_to_our_timeline_is_kept_once() {
    let dir = workdir(&["a"]);
    timeline(&dir);
    let kept = dir.path().join(pytaskfarmer::KEPT);
    for (nth, command) in [(1, "b"), (2, "c")] {
        let path = dir.path().join("timeline.json");
        let mut events: Vec<Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        events.push(old(7, 8, 2e15, 5.0, command));
        let text = serde_json::to_string(&events).unwrap();
        // The second time as if the first had been interrupted.
        for _ in 0..2 {
            fs::write(&path, &text).unwrap();
            timeline(&dir);
        }
        let kept: Vec<Value> = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
        assert_eq!(kept.len(), nth);
        assert_eq!(kept.last().unwrap()["name"], command);
    }
}

#[test]
fn an_old_timeline_that_is_too_large_is_left_out() {
    let dir = workdir(&["a"]);
    let kept = dir.file(pytaskfarmer::KEPT, b"[");
    let file = File::options().write(true).open(&kept).unwrap();
    file.write_all_at(b"]", 256 << 20).unwrap();
    let written = write(dir.path()).unwrap();
    assert!(written.left_out.unwrap().contains("256 MiB"));
}
