//! A long list: flat memory, and the first task at once, also half-way.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::crew::{Crew, setting, wait};
use crate::harness::{Farm, pause, tasks};
use crate::record::{assert_complete, good_ends, journals};

/// The peak of a process's memory, in KiB.
fn peak(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn now() -> u64 {
    u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap()
}

/// Runs four processes until enough is done or all; returns the highest peak.
fn run(farm: &Farm, what: &str, until_done: Option<u64>) -> u64 {
    let began = now();
    let known = journals(farm).len();
    let mut crew = Crew::of(farm, 4, "--grace 1");
    let (mut highest, mut is_over) = (0, false);
    while !is_over {
        pause(Duration::from_millis(50));
        let peaks = crew.members.iter().filter_map(|one| peak(one.pid()));
        highest = peaks.fold(highest, u64::max);
        let ended = |one: &mut crate::harness::Running<'_>| one.child.try_wait().unwrap().is_some();
        is_over = crew.members.iter_mut().all(ended);
        if until_done.is_some_and(|enough| done(farm) >= enough) {
            crew.members
                .iter()
                .for_each(|one| one.signal(Signal::SIGTERM));
            is_over = true;
        }
    }
    for one in crew.members {
        let done = wait(one);
        let code = done.status.code();
        assert!(matches!(code, Some(0 | 75)), "{code:?}: {}", done.stderr);
    }
    let journals = journals(farm);
    assert_eq!(journals.len(), known + 4);
    let times = journals.iter().flat_map(|(_, records)| records);
    let ends = times.filter(|record| record["event"] == "end");
    let first = ends
        .filter_map(|end| end["at"].as_u64())
        .filter(|at| *at > began)
        .min();
    let first = first.map_or(0, |first| (first - began) / 1000);
    let took = (now() - began) / 1000;
    println!("{what}: first task after {first} ms, over after {took} ms, peak {highest} KiB");
    highest
}

/// How many are done: a look at the length of `finished` will do.
fn done(farm: &Farm) -> u64 {
    fs::metadata(farm.path("w/finished")).map_or(0, |file| file.len() / 106)
}

#[test]
fn a_long_list_takes_little_memory_and_starts_at_once() {
    let n = setting("PYTF_TEST_TASKS", 4000);
    let farm = Farm::of(tasks(n, |id| format!("true {id:>95}")));
    farm.make_dir("w/nodes");
    let first = run(&farm, "from the start", Some(n / 2));
    let second = run(&farm, "resumed", None);
    assert!(first.max(second) < 64 << 10, "{first} or {second} KiB");
    assert_complete_fast(&farm, n);
}

fn assert_complete_fast(farm: &Farm, n: u64) {
    if n <= 20_000 {
        assert_complete(farm, n);
    }
    assert!(farm.ids("finished").into_iter().eq(0..n));
    let ends = good_ends(farm);
    assert!(ends.len() as u64 == n && ends.values().all(|&ends| ends == 1));
}
