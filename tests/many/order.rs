//! Storms over a list whose tasks wait for others: the order is checked from what the tasks
//! themselves write down, whatever was killed meanwhile.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::crew::{Crew, Random, setting};
use crate::harness::Farm;
use crate::record::assert_complete;

/// What is said of a task.
#[derive(Default)]
struct Said {
    name: Option<u64>,
    after: Option<u64>,
    any: Option<u64>,
    /// Number of barriers above it, and whether the last one is `barrier ok`.
    stage: (u64, bool),
}

/// A list in which tasks wait for names above them and for barriers, with its lines.
fn list(n: u64, random: &mut Random) -> (Vec<Said>, String) {
    let (mut all, mut text) = (Vec::new(), String::new());
    let (mut names, mut stage) = (Vec::new(), (0, false));
    for id in 0..n {
        if random.below(n / 4) == 0 {
            stage = (stage.0 + 1, random.below(2) == 0);
            text += if stage.1 {
                "#PYTF barrier ok\n"
            } else {
                "#PYTF barrier\n"
            };
        }
        let mut wait = |one_in| {
            let is_so = !names.is_empty() && random.below(one_in) == 0;
            is_so.then(|| names[random.index(names.len())])
        };
        let (after, any) = (wait(3), wait(5));
        let name = (random.below(2) == 0).then_some(id);
        let fails = random.below(15) == 0;
        let said = Said {
            name,
            after,
            any,
            stage,
        };
        text += &format!(
            "echo s $(date +%s%N) >>m/{id}; sleep 0.0{}; ",
            random.below(4)
        );
        if fails {
            text += &format!("if mkdir f/{id}; then echo f $(date +%s%N) >>m/{id}; exit 3; fi; ");
        }
        text += &format!(
            "echo e $(date +%s%N) >>m/{id} #PYTF priority={}",
            random.below(3)
        );
        let words = [("name", name), ("after", after), ("after-any", any)];
        for (key, value) in words {
            text += &value.map_or(String::new(), |value| format!(" {key}=n{value}"));
        }
        text.push('\n');
        names.extend(name);
        all.push(said);
    }
    (all, text)
}

/// When a task first started, first ended, and first finished, by its own clock.
fn times(farm: &Farm, id: usize) -> [Option<u64>; 3] {
    let marks = std::fs::read_to_string(farm.path(format!("m/{id}"))).unwrap_or_default();
    let first = |kinds: &[&str]| {
        let marks = marks.lines().filter_map(|line| line.split_once(' '));
        let times = marks.filter(|(kind, _)| kinds.contains(kind));
        times.filter_map(|(_, at)| at.parse().ok()).min()
    };
    [first(&["s"]), first(&["f", "e"]), first(&["e"])]
}

/// No task started before those that it waits for.
fn assert_in_order(farm: &Farm, all: &[Said]) {
    let times: Vec<_> = (0..all.len()).map(|id| times(farm, id)).collect();
    for (id, said) in all.iter().enumerate() {
        let [Some(start), ..] = times[id] else {
            panic!("task {id} has not run");
        };
        for (other, before) in all.iter().enumerate() {
            let is_named = |wanted: Option<u64>| wanted.is_some() && wanted == before.name;
            let is_of_stage_before = before.stage.0 + 1 == said.stage.0;
            let [_, ended, finished] = times[other];
            if is_named(said.after) || said.stage.1 && is_of_stage_before {
                assert!(finished.is_some_and(|at| at <= start), "{id} after {other}");
            }
            if is_named(said.any) || before.stage.0 < said.stage.0 {
                assert!(ended.is_some_and(|at| at <= start), "{id} behind {other}");
            }
        }
    }
}

#[test]
fn tasks_that_wait_for_others_start_once_these_have_ended_whatever_is_killed() {
    let strikes = (setting("PYTF_TEST_KILLS", 20) / 2).max(2);
    let n = strikes * 25;
    let mut random = Random::new();
    let (all, text) = list(n, &mut random);
    let farm = Farm::of(text);
    for folder in ["m", "f"] {
        std::fs::create_dir(farm.path(folder)).unwrap();
    }
    let mut crew = Crew::of(&farm, 6, "--takeover 20s --grace 1 --logs none");
    let mut struck = 0;
    while struck < strikes && crew.is_at_work() {
        random.moment(Duration::from_millis(300));
        let signal = [Signal::SIGKILL, Signal::SIGKILL, Signal::SIGTERM][random.index(3)];
        struck += u64::from(crew.strike(&mut random, signal));
    }
    crew.end();
    // Failures block others until they are tried again.
    for _ in 0..=all.len() {
        let done = farm.farm("--proc 4 --quiet --logs none").run();
        if done.status.success() {
            break;
        }
        assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
        farm.pytf(["retry", "w"]).run().exits(0);
    }
    println!(
        "{struck} struck, {n} tasks, {} barriers",
        all[all.len() - 1].stage.0
    );
    assert_complete(&farm, n);
    assert_in_order(&farm, &all);
}
