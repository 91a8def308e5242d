//! Tasks are cancelled while processes are killed, frozen and fenced.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::crew::{Crew, Random, setting, wait};
use crate::harness::{Farm, is_alive, outcome, until};
use crate::record::{assert_complete, farm, good_ends, journals, told};

const SIZE: usize = 4;

/// The cancelled attempts, by `orders`.
fn cancelled(farm: &Farm) -> BTreeMap<u64, Vec<u64>> {
    let mut all: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for line in farm.text("w/orders").lines() {
        let order: Value = serde_json::from_str(line).unwrap();
        if order["do"] != "cancel" {
            continue;
        }
        for range in order["ids"].as_str().unwrap().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
            for id in first..=last {
                all.entry(id)
                    .or_default()
                    .push(order["attempt"].as_u64().unwrap());
            }
        }
    }
    all
}

/// The number of the last attempt of each task that was put back.
fn attempts(farm: &Farm) -> BTreeMap<u64, u64> {
    let text = farm.text("w/requeued");
    let notes = text.lines().map(|line| {
        let mut words = line.split(' ').map(|word| word.parse().unwrap_or(0));
        (words.next().unwrap(), words.next().unwrap())
    });
    notes.collect()
}

/// All tasks have ended; those in `failed` were cancelled in their last attempt. Returns them.
pub(crate) fn assert_cancelled(farm: &Farm, n: u64) -> Vec<u64> {
    let (cancels, attempts) = (cancelled(farm), attempts(farm));
    let failed = farm.ids("failed");
    for id in &failed {
        let attempt = attempts.get(id).copied().unwrap_or(1);
        let is_cancelled = cancels.get(id).is_some_and(|all| all.contains(&attempt));
        assert!(
            is_cancelled,
            "task {id}, attempt {attempt}, was not cancelled: {:?}",
            farm.ends()
                .iter()
                .filter(|end| end["id"] == *id)
                .collect::<Vec<_>>()
        );
    }
    let status = farm.pytf(["status", "w", "--json"]).run().exits(0);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["tasks"]["cancelled"], failed.len());
    assert_eq!(status["tasks"]["failed"], 0);
    let finished: Vec<u64> = (0..n).filter(|id| !failed.contains(id)).collect();
    farm.assert_exact(n, &finished, &failed);
    farm.pytf(["repair", "--check", "w"]).run().exits(0);
    failed
}

/// Cancels or retries some tasks, and is killed over it now and then.
fn steer(farm: &Farm, n: u64, random: &mut Random) {
    let first = random.below(n);
    let ids = format!("{first}-{}", first + random.below(40));
    let mut command = match random.below(4) {
        0 => farm.pytf(["retry", "w", &ids]),
        1 => farm.pytf(["cancel", "w", &ids, "--reason", "a 'storm'"]),
        _ => farm.pytf(["cancel", "w", &ids]),
    }
    .start();
    random.moment(Duration::from_millis(200));
    if random.below(4) == 0 && command.child.try_wait().unwrap().is_none() {
        command.signal(Signal::SIGKILL);
    }
    let code = wait(command).status.code();
    assert!(matches!(code, None | Some(0 | 2)), "{ids}: {code:?}");
}

/// Whoever dies, a cancelled attempt is settled as such, and a retried one runs.
#[test]
fn cancels_during_a_storm_of_kills_lose_and_double_nothing() {
    let strikes = setting("PYTF_TEST_KILLS", 4);
    let n = strikes * 50;
    let mut random = Random::new();
    let farm = farm(n, 200, &mut random);
    let args = "--no-linger --grace 1 --lock flock --takeover 6 --proc 4";
    let mut crew = Crew::of(&farm, SIZE, args);
    until("the run has begun", || farm.path("w/toprocess").exists());
    let mut killed = 0;
    for _ in 0..strikes {
        steer(&farm, n, &mut random);
        while crew.members.len() < SIZE {
            crew.refill();
        }
        let one = crew.take(random.index(SIZE));
        match random.below(3) {
            0 => {
                one.signal(Signal::SIGKILL);
                killed += 1;
                crew.left.push(wait(one));
            }
            1 => {
                one.signal(Signal::SIGTERM);
                crew.left.push(wait(one));
            }
            _ => crew.members.push(one),
        }
    }
    let left = crew.end();
    // The rest.
    let last = farm.farm("--proc 4 --quiet --no-timeline").run();
    let code = last.status.code();
    assert!(matches!(code, Some(0 | 1)), "{code:?}: {}", last.stderr);
    let failed = assert_cancelled(&farm, n);
    println!(
        "{killed} killed of {}; {} of {n} tasks are cancelled",
        left.len(),
        failed.len()
    );
    // All of them, after all.
    farm.pytf(["retry", "w", "--cancelled"]).run().exits(0);
    farm.farm("--proc 4 --quiet --no-timeline").run().exits(0);
    assert_complete(&farm, n);
    let told = told(&farm, n);
    println!("{told:?}");
    assert_eq!(told.overlapping, [""; 0]);
    let twice: Vec<_> = good_ends(&farm)
        .into_iter()
        .filter(|(_, ends)| *ends > 1)
        .collect();
    assert!(twice.is_empty(), "recorded twice: {twice:?}");
    for done in &left {
        let code = done.status.code();
        assert!(
            matches!(code, None | Some(0 | 1 | 75)),
            "{code:?}: {}",
            done.stderr
        );
    }
}

/// A frozen process is fenced while it runs cancelled tasks: they are settled, and when it wakes
/// it stops them.
#[test]
fn what_a_frozen_process_runs_is_cancelled_by_whoever_fences_it() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let first = format!("[ $PYTF_ATTEMPT -gt 1 ] || {{ {}; }}", gate.stand());
    farm.write("tasks.txt", format!("{first}\n{first}\ntrue\ntrue\n"));
    let args = "--proc 2 --takeover 2s --grace 1 --no-timeline";
    let one = farm.farm(args).start();
    let its = gate.comers(2);
    let name = farm.farmers().remove(0);
    one.signal(Signal::SIGSTOP);
    let (cancelled, requeued) = (its[0].0, its[1].0);
    farm.pytf(["cancel", "w", &cancelled.to_string()])
        .run()
        .leaves(0)
        .says(&["within 1s"]);
    let other = farm.farm(args).start();
    wait(other).leaves(1).says(&["missed its heartbeats"]);
    assert!(farm.is_over(&name));
    let finished: Vec<u64> = [requeued, 2, 3].into_iter().collect();
    farm.assert_exact(4, &finished, &[cancelled]);
    assert_eq!(farm.text("w/requeued"), format!("{requeued} 2 lost\n"));
    one.signal(Signal::SIGCONT);
    wait(one).exits(1);
    assert!(its.iter().all(|(_, pid)| !is_alive(*pid)));
    farm.assert_exact(4, &finished, &[cancelled]);
    for (farmer, records) in journals(&farm) {
        let ends = records.iter().filter(|record| record["event"] == "end");
        let ends: Vec<String> = ends.map(outcome).collect();
        assert!(farmer != name || ends.is_empty(), "{ends:?}");
    }
}
