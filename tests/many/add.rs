//! Tasks that are added while processes come, go and die.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::crew::{Crew, Random, setting, wait};
use crate::harness::{Done, Farm, Running, tasks, until};
use crate::record::good_ends;

/// A task that notes its word, and that of its farmer, so that each run of it is seen.
fn note(word: &str) -> String {
    format!("echo {word} >> ran")
}

fn ran(farm: &Farm) -> BTreeMap<String, u64> {
    let mut ran = BTreeMap::new();
    for word in farm.text("ran").lines() {
        *ran.entry(word.to_owned()).or_default() += 1;
    }
    ran
}

fn add<'f>(farm: &'f Farm, word: &str) -> Running<'f> {
    farm.pytf(["add", "w", &note(word), &note(&format!("{word}x"))])
        .start()
}

/// The ids that it printed, and its lines: `a-b`.
fn ids(done: &Done<'_>) -> Option<(u64, u64)> {
    let text = String::from_utf8(done.stdout.clone()).unwrap();
    let (first, last) = text.trim().split_once('-')?;
    Some((first.parse().unwrap(), last.parse().unwrap()))
}

/// Several processes add at once, some are killed over it; farmers are killed and others come.
/// What was added is recorded exactly once, and nothing of what was not.
#[test]
fn tasks_that_are_added_during_a_storm_of_kills_are_done_once() {
    let strikes = setting("PYTF_TEST_KILLS", 4);
    let mut random = Random::new();
    let farm = Farm::of(tasks(50, |id| {
        format!("sleep 0.01; {}", note(&format!("l{id}")))
    }));
    let args = "--no-linger --grace 1 --lock flock --takeover 6 --proc 2";
    let mut crew = Crew::of(&farm, 3, args);
    let (mut done, mut nth) = (Vec::new(), 0);
    for _ in 0..strikes {
        let adding: Vec<(String, Running<'_>)> = (0..4)
            .map(|_| {
                nth += 1;
                let word = format!("a{nth}");
                (word.clone(), add(&farm, &word))
            })
            .collect();
        random.moment(Duration::from_millis(30));
        if random.below(2) == 0 {
            adding[0].1.signal(Signal::SIGKILL);
        }
        while crew.members.len() < 3 {
            crew.refill();
        }
        crew.strike(&mut random, Signal::SIGKILL);
        done.extend(adding.into_iter().map(|(word, one)| (word, wait(one))));
    }
    let left = crew.end();
    // It has no list, and runs what is left, whoever left it.
    farm.pytf(["-w", "w", "--proc", "4", "--quiet"])
        .run()
        .exits(0);
    let n = farm.lines("tasks").len() as u64;
    farm.assert_exact(n, &(0..n).collect::<Vec<_>>(), &[]);
    let ends = good_ends(&farm);
    let once = (0..n).all(|id| ends.get(&id) == Some(&1));
    assert!(once, "each is recorded once: {ends:?}");
    let (ran, lines) = (ran(&farm), farm.lines("tasks"));
    for (word, done) in &done {
        let twice = format!("{word}x");
        let has_run = (ran.contains_key(word), ran.contains_key(&twice));
        assert_eq!(has_run.0, has_run.1, "{word} was added in part");
        if let Some((first, last)) = ids(done) {
            assert_eq!((last, has_run.0), (first + 1, true), "{word} is lost");
            let at = usize::try_from(first).unwrap();
            assert_eq!(lines[at].1, note(word).into_bytes());
        } else {
            assert_eq!(done.status.code(), None, "{}", done.stderr);
        }
        let all = lines
            .iter()
            .filter(|(_, line)| *line == note(word).into_bytes());
        assert_eq!(all.count(), usize::from(has_run.0), "{word}");
    }
    let killed = left
        .iter()
        .filter(|done| done.status.code().is_none())
        .count();
    println!("{} adds, {killed} farmers killed, {n} tasks", done.len());
    assert!(killed > 0 && done.len() as u64 == 4 * strikes);
    // The list again: it knows nothing of them.
    let again = farm.farm("--quiet --strict").run().exits(0);
    assert!(!again.stderr.contains("changed"), "{}", again.stderr);
}

/// A task is added in the moment in which the only process finds that nothing is left. Either it
/// stays and runs it, or the answer says that nobody works on the run.
#[test]
fn the_answer_is_true_when_the_last_process_is_about_to_leave() {
    let rounds = setting("PYTF_TEST_KILLS", 4);
    let mut random = Random::new();
    let farm = Farm::of("true\n");
    let args = "--quiet --no-timeline --proc 1";
    farm.farm(args).run().exits(0);
    let (mut stayed, mut gone) = (0, 0);
    for round in 0..rounds {
        farm.pytf(["add", "w", "true"]).run().exits(0);
        let pytf = farm.farm(args).start();
        until("it works", || farm.text("w/lock").contains("\"live\":1"));
        random.moment(Duration::from_millis(60));
        let word = format!("r{round}");
        let added = farm.pytf(["add", "w", &note(&word)]).run().leaves(0);
        let is_worked_on = added.stderr.contains("1 process works on the run");
        assert_ne!(
            is_worked_on,
            added.stderr.contains("no process works on the run")
        );
        pytf.wait().exits(0);
        assert_eq!(
            ran(&farm).contains_key(&word),
            is_worked_on,
            "round {round}: {}",
            added.stderr
        );
        *(if is_worked_on { &mut stayed } else { &mut gone }) += 1;
        // What nobody worked on is there.
        farm.farm(args).run().exits(0);
        assert_eq!(ran(&farm).get(&word), Some(&1));
    }
    println!("{stayed} stayed, {gone} had gone");
}
