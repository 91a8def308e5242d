//! Nodes whose clocks differ: real farmers and views under a double of the clock
//! (`fake_clock.c`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::doubles::clock;
use crate::harness::{Farm, Pytf, skip, tasks, until};

/// `pytf` on a node of this name, whose clock is so many seconds ahead.
fn on<'f>(pytf: Pytf<'f>, host: &str, ahead: i64) -> Pytf<'f> {
    pytf.env("LD_PRELOAD", clock().expect("it is built"))
        .env("FAKE_HOST", host)
        .env("FAKE_CLOCK", ahead.to_string())
}

fn status(farm: &Farm, host: &str, ahead: i64) -> Value {
    let done = on(farm.pytf(["status", "w", "--json"]), host, ahead).run();
    serde_json::from_slice(&done.leaves(0).stdout).unwrap()
}

/// How long each attempt ran, as its journal says.
fn lengths(farm: &Farm) -> BTreeMap<u64, u64> {
    let farmers = farm.farmers();
    let journals = farmers.iter().map(|name| farm.text(farm.journal(name)));
    let lines: Vec<String> = journals
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let records = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .filter(|record| record["event"] == "end")
        .map(|end| (end["id"].as_u64().unwrap(), end["us"].as_u64().unwrap()))
        .collect()
}

#[test]
fn a_clock_that_is_ahead_is_found_told_and_corrected() {
    if clock().is_none() {
        skip("there is no compiler for the double of the clock");
        return;
    }
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(4, |_| gate.stand()));
    // Each has taken its turns before the other's last one.
    let one = on(farm.farm("--proc 2"), "n1", 0).start();
    gate.comers(2);
    let two = on(farm.farm("--proc 2"), "n2", 120).start();
    gate.comers(2);
    gate.open(4);
    one.wait().leaves(0);
    two.wait().exits(0);

    let seen = status(&farm, "login", 0);
    let nodes = seen["nodes"].as_array().unwrap();
    assert_eq!(
        (&nodes[0]["node"], &nodes[0]["clock"]),
        (&"n1".into(), &Value::Null)
    );
    let ahead = nodes[1]["clock"]["ahead"].as_f64().unwrap();
    let within = nodes[1]["clock"]["within"].as_f64().unwrap();
    assert!((ahead - 120.0).abs() <= within, "{ahead} {within}");
    let text = on(farm.pytf(["status", "w"]), "login", 0).run().exits(0);
    text.says(&["the clock of n2 is", "ahead of the others'"]);
    let page = farm.pytf(["report", "w", "-o", "-"]).run().exits(0);
    page.says(&["the clock of n2 is", "its times are corrected here"]);

    let trace = farm.pytf(["timeline", "w", "-o", "-"]).run().exits(0);
    let trace: Value = serde_json::from_slice(&trace.stdout).unwrap();
    let skews = trace["otherData"]["clock_ahead_us"].as_object().unwrap();
    assert_eq!(skews.keys().collect::<Vec<_>>(), ["n2"]);
    let slices = trace["traceEvents"].as_array().unwrap();
    let slices: Vec<&Value> = slices.iter().filter(|event| event["ph"] == "X").collect();
    let number = |event: &Value, key: &str| event[key].as_u64().unwrap();
    let drawn: BTreeMap<u64, u64> = slices
        .iter()
        .map(|slice| (number(&slice["args"], "id"), number(slice, "dur")))
        .collect();
    assert_eq!(drawn, lengths(&farm), "no task is longer or shorter by it");
    // All four ran at one time, and so they are drawn, as far as that is known.
    let begin = slices
        .iter()
        .map(|slice| number(slice, "ts"))
        .max()
        .unwrap();
    let ends = slices
        .iter()
        .map(|slice| number(slice, "ts") + number(slice, "dur"));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small"
    )]
    let within = (within * 1e6) as u64;
    let end = ends.min().unwrap();
    assert!(begin <= end + within, "{begin} {end} {within}");
}

#[test]
fn a_view_with_a_wrong_clock_sees_who_lives() {
    if clock().is_none() {
        skip("there is no compiler for the double of the clock");
        return;
    }
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(1, |_| gate.stand()));
    let pytf = on(farm.farm(""), "elsewhere", 0).start();
    gate.comers(1);
    let life = |ahead| status(&farm, "login", ahead)["nodes"][0]["life"].clone();
    assert_eq!(life(-300), "alive", "a clock that is behind");
    // A sign of life that nobody has read yet tells what time it is there.
    until("a clock that is ahead is seen through", || {
        life(300) == "alive"
    });
    gate.open(1);
    pytf.wait().exits(0);
}
