//! `timeline.json` opens in Perfetto: valid JSON, whole slices, no overlaps.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Farm, tasks};

/// The events of a timeline, and the facts about it, which are its last event.
pub(crate) fn trace(text: &[u8]) -> Value {
    let mut events: Vec<Value> = serde_json::from_slice(text).expect("an array of events");
    let facts = events.pop().expect("the facts");
    assert_eq!(facts["name"], "pytf_trace");
    serde_json::json!({"traceEvents": events, "otherData": facts["args"]})
}

/// The slices of the timeline, after checking what every reader relies on.
fn slices(farm: &Farm) -> Vec<Value> {
    let json = trace(&farm.bytes("w/timeline.json"));
    let events = json["traceEvents"].as_array().expect("trace events");
    let mut tracks: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for event in events {
        let (pid, tid) = (&event["pid"], &event["tid"]);
        match event["ph"].as_str().unwrap() {
            "X" => {
                assert_eq!(event["cat"], "task");
                assert!(event["name"].is_string() && event["args"].is_object());
                let track = (
                    pid.as_u64().expect("integer pid"),
                    tid.as_u64().expect("integer tid"),
                );
                assert!(track.0 > 0 && track.1 > 0, "0 is special to Perfetto");
                let slice = (
                    event["ts"].as_f64().unwrap(),
                    event["dur"].as_f64().unwrap(),
                );
                assert!(slice.0 >= 0.0 && slice.1 >= 0.0);
                tracks.entry(track).or_default().push(slice);
            }
            "M" => {
                let key = (
                    event["name"].as_str().unwrap().to_owned(),
                    pid.as_u64().unwrap(),
                    tid.as_u64(),
                );
                names.insert(key, event["args"].clone());
            }
            _ => {}
        }
    }
    for ((pid, tid), mut track) in tracks {
        track.sort_by(|a, b| a.0.total_cmp(&b.0));
        for pair in track.windows(2) {
            assert!(
                pair[0].0 + pair[0].1 <= pair[1].0,
                "slices of track {pid}/{tid} overlap: {pair:?}"
            );
        }
        assert!(
            names
                .keys()
                .any(|(name, p, _)| name == "process_name" && *p == pid),
            "process {pid} has a name"
        );
        assert!(
            names
                .keys()
                .any(|(name, p, t)| name == "thread_name" && *p == pid && *t == Some(tid)),
            "track {tid} has a name"
        );
    }
    events
        .iter()
        .filter(|event| event["ph"] == "X")
        .cloned()
        .collect()
}

/// How many slices there are of each (task, attempt).
fn attempts(slices: &[Value]) -> BTreeMap<(u64, u64), usize> {
    let mut count = BTreeMap::new();
    for slice in slices {
        let number = |key: &str| {
            slice["args"][key]
                .as_u64()
                .unwrap_or_else(|| panic!("no {key} in {slice}"))
        };
        *count.entry((number("id"), number("attempt"))).or_default() += 1;
    }
    count
}

#[test]
fn every_attempt_is_one_slice_with_all_that_is_known() {
    let farm = Farm::of("echo a b\nexit 3\nkill -9 $$\nsleep 1000\n");
    farm.farm("--task-timeout 1 --grace 1").run().exits(1);
    let slices = slices(&farm);
    assert_eq!(attempts(&slices), (0..4).map(|id| ((id, 1), 1)).collect());
    for (id, outcome) in [(0, "exit"), (1, "exit"), (2, "signal"), (3, "time-limit")] {
        let slice = slices
            .iter()
            .find(|slice| slice["args"]["id"] == id)
            .unwrap();
        assert!(
            slice["args"]["outcome"].as_str().unwrap().contains(outcome),
            "{slice}"
        );
    }
    let text = slices.iter().map(Value::to_string).collect::<String>();
    for command in ["echo a b", "exit 3", "kill -9 $$", "sleep 1000"] {
        assert!(text.contains(command), "{command}");
    }
    let limited = slices
        .iter()
        .find(|slice| slice["args"]["id"] == 3)
        .unwrap();
    assert!(
        limited["dur"].as_f64().unwrap() >= 1e6,
        "it ran for its whole limit"
    );
}

#[test]
fn whatever_ends_in_whatever_way_is_one_slice_at_its_time_in_its_slot() {
    // Deaths by signals are held back for a moment, while their slots go on.
    let farm = Farm::of(tasks(300, |id| match id % 6 {
        0 => "kill -TERM $$".into(),
        1 => "exit 3".into(),
        2 => "kill -KILL $$".into(),
        3 if id % 100 == 3 => "sleep 1000".into(),
        4 => "sleep 0.01".into(),
        _ => "true".into(),
    }));
    farm.farm("--proc 4 --task-timeout 1 --grace 1")
        .run()
        .exits(1);
    let json = trace(&farm.bytes("w/timeline.json"));
    let origin = json["otherData"]["start_unix"].as_f64().unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "microseconds of this century"
    )]
    let origin = (origin * 1e6).round() as u64;
    let mut drawn: Vec<_> = slices(&farm)
        .iter()
        .map(|slice| {
            let number = |value: &Value| value.as_u64().unwrap();
            let args = &slice["args"];
            (
                (number(&args["id"]), number(&args["attempt"])),
                number(&args["slot"]),
                number(&slice["ts"]) + origin,
                number(&slice["dur"]),
                args["outcome"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let mut recorded: Vec<_> = farm
        .ends()
        .iter()
        .map(|end| {
            let number = |key: &str| end[key].as_u64().unwrap();
            let outcome = match &end["outcome"] {
                Value::String(word) => word.clone(),
                object => object.as_object().unwrap().keys().next().unwrap().clone(),
            };
            (
                (number("id"), number("attempt")),
                number("slot"),
                number("at"),
                number("us").max(1),
                outcome,
            )
        })
        .collect();
    drawn.sort();
    recorded.sort();
    assert_eq!(recorded.len(), 300);
    assert_eq!(drawn, recorded);
}

#[test]
fn exit_statuses_are_numbers_of_their_own() {
    let farm = Farm::of("true\nexit 3\n");
    farm.farm("").run().exits(1);
    let slices = slices(&farm);
    for (id, status) in [(0, 0), (1, 3)] {
        let slice = slices
            .iter()
            .find(|slice| slice["args"]["id"] == id)
            .unwrap();
        let args = slice["args"].as_object().unwrap();
        assert!(
            args.iter()
                .any(|(key, value)| key.contains("status") && value == status),
            "{slice}"
        );
    }
}

#[test]
fn many_short_tasks_do_not_overlap() {
    let farm = Farm::of(tasks(500, |_| "true".into()));
    farm.farm("--proc 4").run().exits(0);
    assert_eq!(slices(&farm).len(), 500);
}

#[test]
fn what_was_interrupted_is_there_and_the_next_run_is_added() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("true\n{}\nfalse\n", gate.stand()));
    let pytf = farm.farm("").start();
    gate.comer();
    crate::harness::until("the others are done", || {
        farm.ends().len() == 2 || farm.ids("failed") == [2]
    });
    pytf.signal(Signal::SIGUSR1);
    pytf.wait().exits(75);
    let first = slices(&farm);
    assert_eq!(
        attempts(&first),
        BTreeMap::from([((0, 1), 1), ((1, 1), 1), ((2, 1), 1)])
    );
    let interrupted = first.iter().find(|slice| slice["args"]["id"] == 1).unwrap();
    assert_eq!(interrupted["args"]["outcome"], "interrupted");

    gate.open(1);
    farm.farm("--retry-failed").run().exits(1);
    let both = slices(&farm);
    assert_eq!(both.len(), 5, "two runs: {:?}", attempts(&both));
    assert_eq!(attempts(&both).keys().filter(|(id, _)| *id == 2).count(), 2);
}

#[test]
fn a_killed_farmers_slices_are_merged_by_the_next() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("true\n{}\n", gate.stand()));
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    crate::harness::until("task 0 is on record", || {
        farm.bytes("w/nodes").is_empty() && farm.ends().len() == 1
    });
    pytf.signal(Signal::SIGKILL);
    pytf.wait();
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    gate.open(1);
    pytf.wait().exits(0);
    let slices = slices(&farm);
    let ids: Vec<u64> = slices
        .iter()
        .map(|slice| slice["args"]["id"].as_u64().unwrap())
        .collect();
    assert!(ids.contains(&0) && ids.contains(&1), "{ids:?}");
}

#[test]
fn commands_that_are_no_text_still_give_valid_json() {
    let farm = Farm::of(b"echo \xff \x1b \"quoted\" \\back\techo\n");
    farm.farm("").run().exits(0);
    assert_eq!(slices(&farm).len(), 1);
}

#[test]
fn no_timeline_writes_none() {
    let farm = Farm::of("true\n");
    farm.farm("--no-timeline").run().exits(0);
    assert!(!farm.path("w/timeline.json").exists());
}

#[test]
fn a_timeline_of_pytaskfarmer_is_kept() {
    let farm = Farm::of("echo a\necho b\n");
    farm.write("w/finished", "0 echo a\n");
    farm.write("w/toprocess", "1 echo b\n");
    farm.write("w/timeline.json", r#"[{"cat":"task","name":"echo a","pid":7,"tid":8,"ts":1.5e15,"dur":1000.5,"ph":"X","args":{}}]"#);
    farm.farm("").run().exits(0);
    let text = farm.text("w/timeline.json");
    let _: Value = serde_json::from_str(&text).unwrap();
    assert!(text.contains("echo a") && text.contains("echo b"), "{text}");
}

#[test]
fn it_can_be_made_of_a_run_that_was_killed_and_of_its_last_part() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!("true\nexit 3\n{}\ntrue\n", gate.stand()),
    );
    let running = farm.farm("--proc 1").start();
    gate.comer();
    crate::harness::until(
        "the journal has the start, and the end of what failed",
        || {
            let journal = farm.text(farm.journal(&farm.farmers()[0]));
            let has = |event: &str, id: u32| journal.contains(&format!("\"{event}\",\"id\":{id},"));
            has("start", 2) && has("end", 1)
        },
    );
    // While it runs, and the file is somewhere else.
    farm.pytf(["timeline", "w", "-o", "w/timeline.json"])
        .run()
        .leaves(0)
        .says(&["3 slices"]);
    let outcomes = |farm: &Farm| -> Vec<String> {
        let found = slices(farm);
        found
            .iter()
            .map(|slice| slice["args"]["outcome"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(outcomes(&farm), ["exit", "exit", "running"]);
    running.signal(Signal::SIGKILL);
    running.wait();
    farm.pytf(["timeline", "w"])
        .run()
        .leaves(0)
        .says(&["3 slices"]);
    assert_eq!(attempts(&slices(&farm)).len(), 3);
    // The two that ended did so before the last record.
    farm.pytf(["timeline", "w", "--since", "1us"])
        .run()
        .leaves(0)
        .says(&["1 slice in"]);
    assert_eq!(slices(&farm)[0]["args"]["id"], 2);
    let gzip = farm
        .pytf(["timeline", "w", "--gzip", "-o", "-"])
        .run()
        .leaves(0)
        .stdout;
    farm.write("t.json.gz", gzip);
    let plain = std::process::Command::new("gzip")
        .arg("-dc")
        .arg(farm.path("t.json.gz"))
        .output()
        .unwrap();
    let trace = trace(&plain.stdout);
    assert_eq!(trace["otherData"]["slices"], 3);
    assert!(
        trace["otherData"]["clock_offset_us"]
            .as_object()
            .is_some_and(|clocks| clocks.len() == 1)
    );
}
