//! Nodes whose clocks differ: real farmers and views under a double of the clock
//! (`fake_clock.c`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use nix::sys::signal::Signal;
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

#[test]
fn nodes_whose_clocks_differ_are_named() {
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
    let ahead = |node: usize| seen["nodes"][node]["clock"]["ahead"].as_f64().unwrap();
    assert!((60.0..=120.0).contains(&ahead(1)), "{}", ahead(1));
    assert!((ahead(0) + ahead(1)).abs() < 1e-9, "{}", ahead(0));
    let text = on(farm.pytf(["status", "w"]), "login", 0).run().exits(0);
    text.says(&["the clock of n2 is at least", "ahead of the clock of n1"]);
    let page = farm.pytf(["report", "w", "-o", "-"]).run().exits(0);
    page.says(&["the clock of n2 is at least"]);

    let trace = farm.pytf(["timeline", "w", "-o", "-"]).run().exits(0);
    let trace = crate::timeline::trace(&trace.stdout);
    let ahead_us = trace["otherData"]["clock_ahead_us"].as_object().unwrap();
    assert_eq!(ahead_us.keys().collect::<Vec<_>>(), ["n1", "n2"]);
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

const SHORT: u64 = 300;
const ALL: u64 = 400;

/// While a node is suspended its monotonic clock stands still, and the others take its
/// tasks over. When it wakes it must know that the time has passed, and start nothing more.
#[test]
fn the_time_of_a_suspend_counts() {
    let Some(clock) = clock() else {
        skip("there is no compiler for the double of the clock");
        return;
    };
    let farm = Farm::new();
    let gate = farm.gate("gate");
    // So many short ones that it claims ahead; then one that stands, and those behind it.
    let line = |id: u64| match id {
        0..SHORT => "true".to_owned(),
        SHORT => format!("[ $PYTF_ATTEMPT -gt 1 ] || {{ {}; }}", gate.stand()),
        _ => "echo $PYTF_FARMER >>ran".to_owned(),
    };
    farm.write("tasks.txt", tasks(ALL, line));
    let args = "--proc 1 --takeover 4s --no-timeline --logs none";
    let suspended = farm.path("suspended");
    farm.write(&suspended, 0_i64.to_ne_bytes());
    let one = farm.farm(args).env("LD_PRELOAD", clock);
    let one = one.env("FAKE_SUSPEND", &suspended).start();
    gate.comer();
    let name = farm.farmers().remove(0);
    let other = farm.farm(args).start();
    until("the other has joined", || farm.farmers().len() == 2);
    let since = Instant::now();
    one.signal(Signal::SIGSTOP);
    other.wait().leaves(0).says(&["missed its heartbeats"]);
    let lost = farm.text("w/requeued").lines().count();
    assert!(lost > 1, "it had claimed nothing ahead");
    let millis = i64::try_from(since.elapsed().as_millis()).unwrap();
    let file = File::options().write(true).open(suspended).unwrap();
    file.write_all_at(&millis.to_ne_bytes(), 0).unwrap();
    one.signal(Signal::SIGCONT);
    one.wait().leaves(0).says(&["lost contact", "joins again"]);
    let ran = farm.text("ran");
    assert!(!ran.lines().any(|farmer| farmer == name), "{ran}");
    assert_eq!(ran.lines().count() as u64, ALL - SHORT - 1, "{ran}");
    farm.assert_exact(ALL, &(0..ALL).collect::<Vec<_>>(), &[]);
}
