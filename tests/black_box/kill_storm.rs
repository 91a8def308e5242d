//! Many tasks of all kinds, and a farmer that is killed again and again.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Farm, each_nth, is_long, pause, tasks};

/// A number from the environment, for longer or repeated storms.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn tasks_of_all_kinds_each_end_in_the_right_file() {
    let n = if is_long() { 2000 } else { 500 };
    // Every 250th runs into its limit, which is long enough for all others on
    // the slowest machine.
    let kind = |id: u64| match id {
        _ if id % 250 == 249 => ("sleep 1000", "time-limit"),
        _ if id % 10 == 3 => ("exit 3", "exit 3"),
        _ if id % 10 == 5 => ("kill -KILL $$", "signal 9"),
        _ if id % 10 == 6 => ("false", "exit 1"),
        _ if id % 10 == 7 => ("kill -SEGV $$", "signal 11"),
        _ if id % 10 == 8 => ("no-such-program-anywhere", "not-started 127"),
        _ if id % 10 == 9 => ("echo $PYTF_TASK_ID; true", "exit 0"),
        _ => ("true", "exit 0"),
    };
    let farm = Farm::of(tasks(n, |id| kind(id).0.to_owned()));
    farm.farm("--proc 8 --task-timeout 8 --grace 1")
        .run()
        .exits(1);
    let (finished, failed): (Vec<u64>, Vec<u64>) = (0..n).partition(|&id| kind(id).1 == "exit 0");
    farm.assert_exact(n, &finished, &failed);
    assert_eq!(
        farm.ends().len() as u64,
        n,
        "one end of each in the journal"
    );
    for (id, outcome) in farm.outcomes() {
        assert_eq!(outcome, kind(id).1, "task {id}");
    }
    for (id, line) in farm
        .lines("finished")
        .into_iter()
        .chain(farm.lines("failed"))
    {
        assert_eq!(line, kind(id).0.as_bytes(), "task {id}");
    }
}

/// A task of the storm: it notes its start, its heartbeats and its end with
/// the process that it is. Some hide their heart in a session of its own.
fn storm_task(id: u64) -> String {
    let note = |what: &str| format!("echo {what} $$ >> events/{id}");
    match id % 10 {
        3 => format!(
            "{}; sleep 0.03; {}; sleep 0.03; {}",
            note("start"),
            note("beat"),
            note("end")
        ),
        7 => {
            let heart = format!(
                "for i in 1 2 3 4 5 6 7 8; do echo beat $1 >> events/{id}; sleep 0.01; done"
            );
            format!(
                "{}; setsid sh -c '{heart}' - $$ & {}; wait; {}",
                note("start"),
                note("beat"),
                note("end")
            )
        }
        _ => format!("{}; {}", note("start"), note("end")),
    }
}

/// Once a second attempt has started, nothing of the first is heard any more.
fn no_overlap(farm: &Farm, id: u64) -> usize {
    let text = farm.text(format!("events/{id}"));
    let mut gone: HashSet<&str> = HashSet::new();
    let mut current = None;
    for line in text.lines() {
        let (what, pid) = line.split_once(' ').expect("whole lines");
        if what == "start" {
            gone.extend(current.replace(pid));
            assert!(
                !gone.contains(pid),
                "task {id}: a process started it twice\n{text}"
            );
        }
        assert_eq!(
            current,
            Some(pid),
            "task {id}: two attempts at a time\n{text}"
        );
    }
    text.lines()
        .filter(|line| line.starts_with("start"))
        .count()
}

/// xorshift64: any seed but 0 repeats a storm.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[test]
fn a_run_killed_again_and_again_loses_nothing_and_repeats_nothing_beside_itself() {
    let kills = setting("PYTF_TEST_KILLS", 4);
    let n = setting("PYTF_TEST_TASKS", 250 * kills);
    let seed = setting("PYTF_TEST_SEED", u64::from(std::process::id()) * 7919 + 1);
    println!("PYTF_TEST_SEED={seed}");
    let mut random = Random(seed);

    let farm = Farm::of(tasks(n, storm_task));
    std::fs::create_dir(farm.path("events")).unwrap();
    for kill in 0..kills {
        let pytf = farm.farm("--proc 4 --no-timeline").start();
        pause(Duration::from_micros(random.below(400_000)));
        pytf.signal(Signal::SIGKILL);
        let done = pytf.wait();
        let died = done.status.code().is_none();
        assert!(
            died || done.status.success(),
            "run {kill}: {:?}",
            done.status
        );
    }
    farm.farm("--proc 4").run().exits(0);

    farm.assert_exact(n, &(0..n).collect::<Vec<_>>(), &[]);
    let mut starts = 0;
    for id in 0..n {
        let times = no_overlap(&farm, id);
        assert!(times > 0, "task {id} is finished and never ran");
        starts += times;
    }
    let again = starts - usize::try_from(n).unwrap();
    println!("{kills} kills, {again} attempts repeated");
    // What a kill can undo is what ran, and what had ended since the last
    // record: with four slots far below a hundred.
    assert!(
        again as u64 <= kills * 100,
        "{again} attempts repeated after {kills} kills"
    );

    let mut ends: BTreeMap<u64, usize> = BTreeMap::new();
    for end in farm.ends() {
        if end["outcome"]["exit"] == 0 {
            *ends.entry(end["id"].as_u64().unwrap()).or_default() += 1;
        }
    }
    assert_eq!(ends.len() as u64, n, "a good end of each task is on record");
    let twice: Vec<_> = ends.iter().filter(|(_, count)| **count > 1).collect();
    assert!(
        twice.is_empty(),
        "a result on record is never made again: {twice:?}"
    );
}

#[test]
fn a_run_stopped_again_and_again_completes() {
    let farm = Farm::of(tasks(400, storm_task));
    std::fs::create_dir(farm.path("events")).unwrap();
    let mut random = Random(setting("PYTF_TEST_SEED", 4711));
    for _ in 0..6 {
        let pytf = farm.farm("--proc 4 --grace 1").start();
        pause(Duration::from_micros(100_000 + random.below(150_000)));
        for signal in [Signal::SIGTERM, Signal::SIGCONT, Signal::SIGTERM] {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pytf.pid()), signal);
        }
        let done = pytf.wait();
        assert!(
            matches!(done.status.code(), Some(75 | 0)),
            "{:?}",
            done.status
        );
        assert_eq!(farm.survivors(), [""; 0]);
        let known =
            farm.ids("toprocess").len() + farm.ids("finished").len() + farm.ids("failed").len();
        assert_eq!(
            known, 400,
            "each id in exactly one file after each orderly end"
        );
    }
    farm.farm("--proc 4").run().exits(0);
    farm.assert_exact(400, &(0..400).collect::<Vec<_>>(), &[]);
    for id in 0..400 {
        no_overlap(&farm, id);
    }
}

#[test]
fn farmers_killed_beside_others_lose_nothing_by_any_lock() {
    for lock in each_nth(3, ["flock", "fcntl", "link"]) {
        eprintln!("{lock}");
        let farm = Farm::of(tasks(300, storm_task));
        std::fs::create_dir(farm.path("events")).unwrap();
        let mut random = Random(setting("PYTF_TEST_SEED", 815));
        // The lock of who dies with a name in his hand is broken after a silence.
        let line = format!("--lock {lock} --takeover 2s --no-timeline");
        let survivor = farm.farm(&line).start();
        for _ in 0..5 {
            let victim = farm.farm(&line).start();
            pause(Duration::from_micros(30_000 + random.below(150_000)));
            victim.signal(Signal::SIGKILL);
            victim.wait();
        }
        survivor.wait().leaves(0);
        farm.assert_exact(300, &(0..300).collect::<Vec<_>>(), &[]);
        for id in 0..300 {
            assert!(no_overlap(&farm, id) > 0);
        }
    }
}
