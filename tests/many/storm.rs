//! Storms: processes are ended at random moments and others come in their
//! place, while tasks of some milliseconds write down what happens to them.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::crew::{Crew, Random, setting};
use crate::harness::Done;
use crate::record::{assert_complete, farm, good_ends, told};

const SIZE: usize = 8;
const SLOTS: u64 = 4;

/// How many strikes, of a share of what was asked for.
fn strikes(share: u64) -> u64 {
    (setting("PYTF_TEST_KILLS", 4) / share).max(2)
}

/// Until so many have been struck, or nothing is left to do.
fn blow(crew: &mut Crew<'_>, random: &mut Random, strikes: u64, signal: Signal) -> u64 {
    let mut struck = 0;
    while struck < strikes && crew.is_at_work() {
        random.moment(Duration::from_millis(150));
        struck += u64::from(crew.strike(random, signal));
    }
    struck
}

/// A whole storm; returns who left, for more to be asked.
fn storm(args: &str, share: u64, signal: Signal, codes: &[i32]) {
    let strikes = strikes(share);
    let n = strikes * 50;
    let mut random = Random::new();
    let farm = farm(n, 20, &mut random);
    let mut crew = Crew::of(&farm, SIZE, args);
    let struck = blow(&mut crew, &mut random, strikes, signal);
    let left = crew.end();
    // Whoever was struck last may have taken the last task back.
    farm.farm("--proc 4 --quiet").run().exits(0);

    assert_complete(&farm, n);
    let told = told(&farm, n);
    let again = told.starts - n;
    println!("{struck} x {signal:?} {args}: {n} tasks, {again} started again, {told:?}");
    assert_eq!(
        told.overlapping, [""; 0],
        "executions at a time of one task"
    );
    assert!(again <= struck * SLOTS, "{again} re-runs after {struck}");
    let ends = good_ends(&farm);
    assert_eq!(ends.len() as u64, n, "a good end of each task is on record");
    let twice: Vec<_> = ends.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "recorded twice: {twice:?}");
    all_ended_well(&left, codes);
}

/// Killed, or with one of these statuses.
fn all_ended_well(left: &[Done<'_>], codes: &[i32]) {
    for done in left {
        let code = done.status.code();
        assert!(
            code.is_none_or(|code| codes.contains(&code)),
            "{:?}: {}",
            done.status,
            done.stderr
        );
    }
}

#[test]
fn a_storm_of_kills_loses_and_doubles_nothing() {
    storm("--lock flock", 1, Signal::SIGKILL, &[0]);
}

#[test]
fn a_storm_of_kills_under_locks_of_open_files() {
    storm("--lock fcntl", 2, Signal::SIGKILL, &[0]);
}

/// The death of whoever holds a name is known by its silence alone, and a
/// process that had to wait for the machine is silent too: it may be cut off.
#[test]
fn a_storm_of_kills_under_locks_by_name() {
    storm("--lock link --takeover 2s", 5, Signal::SIGKILL, &[0, 76]);
}

#[test]
fn a_storm_of_orderly_stops() {
    storm("--grace 1", 2, Signal::SIGTERM, &[0, 75]);
}

#[test]
fn a_storm_of_orderly_stops_under_locks_by_name() {
    storm(
        "--grace 1 --lock link --takeover 20s",
        4,
        Signal::SIGTERM,
        &[0, 75],
    );
}

/// Processes come and go all the time: told to stop, killed, or without work.
#[test]
fn processes_come_and_go_all_the_time() {
    let strikes = strikes(1);
    let n = strikes * 50;
    let mut random = Random::new();
    let farm = farm(n, 20, &mut random);
    let mut crew = Crew::of(&farm, 2, "--no-linger --grace 1");
    let mut kills = 0;
    for _ in 0..strikes {
        random.moment(Duration::from_millis(100));
        if crew.members.len() < SIZE && random.below(2) == 0 {
            crew.refill();
        } else if crew.is_at_work() {
            let signal = [Signal::SIGTERM, Signal::SIGKILL][random.index(2)];
            let mut one = crew.members.swap_remove(random.index(crew.members.len()));
            if one.child.try_wait().unwrap().is_none() {
                one.signal(signal);
                kills += 1;
            }
            crew.left.push(crate::crew::wait(one));
        }
    }
    let left = crew.end();
    farm.farm("--proc 4 --quiet").run().exits(0);
    assert_complete(&farm, n);
    let told = told(&farm, n);
    println!("{kills} ended of {}: {n} tasks, {told:?}", left.len());
    assert_eq!(told.overlapping, [""; 0]);
    assert!(told.starts - n <= kills * SLOTS);
    all_ended_well(&left, &[0, 75]);
}

/// Each task fails up to two times. What a farmer has recorded of that is counted once, whoever
/// puts the task back, and nothing else is.
#[test]
fn a_storm_of_kills_over_tasks_that_are_tried_again() {
    let strikes = strikes(2);
    let n = strikes * 20;
    let mut random = Random::new();
    let farm = farm(n, 20, &mut random);
    let mut list = String::new();
    for (id, line) in farm.text("tasks.txt").lines().enumerate() {
        let most = id % 3;
        let failed = format!("$(grep -c fail events/{id})");
        list += &format!(
            "{line}; [ {failed} -ge {most} ] || {{ echo fail $$ >> events/{id}; exit 1; }}\n"
        );
    }
    farm.write("tasks.txt", list);
    let args = "--lock flock --retries 2 --retry-delay 0.1 --max-fail 1";
    let mut crew = Crew::of(&farm, SIZE, args);
    for _ in 0..strikes {
        random.moment(Duration::from_millis(700));
        if !crew.is_at_work() || !crew.strike(&mut random, Signal::SIGKILL) {
            break;
        }
    }
    let left = crew.end();
    farm.farm("--proc 4 --quiet --retries 2").run().exits(0);

    assert_complete(&farm, n);
    let told = told(&farm, n);
    assert_eq!(told.overlapping, [""; 0]);
    let decided = farm.ends().into_iter().filter(|end| end["again"].is_u64());
    let mut decided: Vec<(u64, u64)> = decided
        .map(|end| {
            (
                end["id"].as_u64().unwrap(),
                end["attempt"].as_u64().unwrap() + 1,
            )
        })
        .collect();
    decided.sort_unstable();
    let notes = farm.text("w/requeued");
    let again = notes.lines().filter_map(|line| line.strip_suffix(" again"));
    let mut again: Vec<(u64, u64)> = again
        .map(|line| line.split_once(' ').unwrap())
        .map(|(id, next)| (id.parse().unwrap(), next.parse().unwrap()))
        .collect();
    again.sort_unstable();
    println!("{n} tasks, {} failures, {told:?}", again.len());
    assert!(!again.is_empty());
    assert_eq!(again, decided);
    all_ended_well(&left, &[0]);
}
