//! Tasks that are tried again by themselves: `--retries` and what goes with it.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Farm, tasks, until};
use crate::resume::ran;

/// A task that notes its attempt, and then does this.
fn noted(then: &str) -> String {
    format!("echo $PYTF_TASK_ID.$PYTF_ATTEMPT >> ran; {then}\n")
}

fn task(farm: &Farm, id: &str) -> Value {
    let done = farm.pytf(["status", "w", "--json", "--task", id]).run();
    serde_json::from_slice(&done.leaves(0).stdout).unwrap()
}

/// Whether a task is kept back for an hour.
fn is_kept_back(farm: &Farm) -> bool {
    let hour = 3_600_000_000_u64;
    farm.ends().iter().any(|end| end["again"] == hour)
}

/// What failed and is tried again is no failure of the run: `--max-fail` does not count it.
#[test]
fn a_task_that_fails_is_tried_again_until_it_finishes() {
    let farm = Farm::of(noted("[ $PYTF_ATTEMPT = 3 ]") + "true\n");
    farm.farm("--retries 2 --retry-delay 0 --max-fail 1")
        .run()
        .exits(0)
        .says(&["task 0: exit status 1, tried again in 0s", "attempt 2"]);
    farm.assert_exact(2, &[0, 1], &[]);
    assert_eq!(ran(&farm), "0.1 0.2 0.3");
    assert_eq!(farm.text("w/requeued"), "0 2 again\n0 3 again\n");
    let again = |end: &&Value| end["again"] == 0;
    assert_eq!(farm.ends().iter().filter(again).count(), 2);
    let export = farm.pytf(["export", "w", "--jsonl"]).run().leaves(0);
    let export = String::from_utf8(export.stdout).unwrap();
    assert_eq!(export.matches("\"again\":0.0").count(), 2, "{export}");
    assert_eq!(
        farm.text("w/timeline.json")
            .matches("\"again\":true")
            .count(),
        2
    );
}

#[test]
fn when_it_may_not_be_tried_again_it_has_failed_and_a_retry_counts_anew() {
    let farm = Farm::of(noted("false"));
    farm.farm("--retries 2 --retry-delay 0").run().exits(1);
    farm.assert_exact(1, &[], &[0]);
    assert_eq!(ran(&farm), "0.1 0.2 0.3");
    farm.pytf(["retry", "w"]).run().leaves(0);
    farm.farm("--retries 1 --retry-delay 0").run().exits(1);
    farm.assert_exact(1, &[], &[0]);
    assert_eq!(ran(&farm), "0.1 0.2 0.3 0.4 0.5");
    let notes = "0 2 again\n0 3 again\n0 4 retry\n0 5 again\n";
    assert_eq!(farm.text("w/requeued"), notes);
}

#[test]
fn only_what_can_be_better_next_time_is_tried_again() {
    let list = ["exit 1", "kill -SEGV $$", "exit 75", "exit 127", "exit 126"];
    let list = list.map(noted).concat() + "no-such-program\n";
    for (options, expected) in [
        ("", "0.1 0.2 1.1 1.2 2.1 2.2 3.1 4.1"),
        ("--retry-on signal,exit:75", "0.1 1.1 1.2 2.1 2.2 3.1 4.1"),
        ("--retry-on exit", "0.1 0.2 1.1 2.1 2.2 3.1 4.1"),
        ("--retry-on exit:127,lost", "0.1 1.1 2.1 3.1 3.2 4.1"),
    ] {
        let farm = Farm::of(&list);
        let line = format!("--retries 1 --retry-delay 0 {options}");
        farm.farm(&line).run().exits(1);
        farm.assert_exact(6, &[], &[0, 1, 2, 3, 4, 5]);
        assert_eq!(ran(&farm), expected, "{options}");
        let not_started = farm.ends().iter().filter(|end| end["id"] == 5).count();
        assert_eq!(
            not_started,
            1 + usize::from(options.contains("127")),
            "{options}"
        );
    }
    let farm = Farm::of("true\n");
    farm.farm("--retry-on exits").run().exits(2).says(&["exit"]);
    farm.farm("--retries x")
        .run()
        .exits(2)
        .says(&["number of retries"]);
}

#[test]
fn what_a_task_says_itself_is_more_than_the_options() {
    let farm = Farm::of(format!(
        "{0} #PYTF retries=2\n{0} #PYTF retries=0\n{0} #PYTF retry-on=signal\n{0}\n",
        noted("false").trim_end()
    ));
    farm.farm("--retries 1 --retry-delay 0").run().exits(1);
    assert_eq!(ran(&farm), "0.1 0.2 0.3 1.1 2.1 3.1 3.2");
    // What is put back has it, too.
    farm.pytf(["retry", "w", "0"]).run().leaves(0);
    farm.farm("--retry-delay 0").run().exits(1);
    assert_eq!(ran(&farm), "0.1 0.2 0.3 0.4 0.5 0.6 1.1 2.1 3.1 3.2");
}

/// The task is kept back by its farmer and takes no slot; who stops the farmer puts it back.
#[test]
fn a_task_is_kept_back_for_a_while_and_takes_no_slot() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        noted("[ $PYTF_ATTEMPT = 2 ]") + &gate.stand() + "\n",
    );
    let line = "--proc 1 --retries 1 --retry-delay 1h --grace 0";
    let running = farm.farm(line).start();
    gate.comer();
    until("it is kept back", || is_kept_back(&farm));
    let shown = task(&farm, "0");
    assert_eq!(shown["place"], "claimed", "{shown}");
    let why = shown["why"].as_str().unwrap();
    assert!(
        why.starts_with("it failed, and is tried again in "),
        "{why}"
    );
    running.signal(Signal::SIGTERM);
    running.wait().exits(75);
    assert_eq!(farm.ids("toprocess"), [0, 1]);
    let mut notes: Vec<String> = farm.text("w/requeued").lines().map(str::to_owned).collect();
    notes.sort();
    assert_eq!(notes, ["0 2 again", "1 2 interrupted"]);
    gate.open(1);
    farm.farm("").run().exits(0);
    assert_eq!(ran(&farm), "0.1 0.2");
}

/// The record of the end says what its farmer decided: that it died meanwhile changes nothing.
#[test]
fn a_farmer_that_dies_while_it_keeps_a_task_back_has_not_lost_it() {
    let farm = Farm::of(noted("[ $PYTF_ATTEMPT = 2 ]"));
    let running = farm.farm("--retries 1 --retry-delay 1h").start();
    until("it is kept back", || is_kept_back(&farm));
    running.signal(Signal::SIGKILL);
    running.wait();
    // Nor do the options of who takes over.
    farm.farm("--retries 0").run().exits(0);
    assert_eq!(farm.text("w/requeued"), "0 2 again\n");
    assert_eq!(ran(&farm), "0.1 0.2");
}

#[test]
fn attempts_that_were_interrupted_do_not_count() {
    let farm = Farm::of(noted("[ -e go ] || sleep 1000; [ $PYTF_ATTEMPT = 4 ]"));
    for attempt in 1..=2 {
        let running = farm.farm("--retries 1 --grace 0").start();
        until("it runs", || ran(&farm).ends_with(&format!("0.{attempt}")));
        running.signal(Signal::SIGTERM);
        running.wait().exits(75);
    }
    farm.write("go", "");
    farm.farm("--retries 1 --retry-delay 0").run().exits(0);
    let notes = "0 2 interrupted\n0 3 interrupted\n0 4 again\n";
    assert_eq!(farm.text("w/requeued"), notes);
}

#[test]
fn a_cancelled_task_is_not_tried_again() {
    let farm = Farm::of(noted("false"));
    let running = farm
        .farm("--retries 5 --retry-delay 1h --takeover 6")
        .start();
    until("it is kept back", || is_kept_back(&farm));
    farm.pytf(["cancel", "w", "0"]).run().leaves(0);
    running.wait().exits(1);
    farm.assert_exact(1, &[], &[0]);
    assert_eq!(task(&farm, "0")["place"], "cancelled");
    assert_eq!(ran(&farm), "0.1");
}

/// A task may be the reason that its farmers die. It is given up, and a person may put it back.
#[test]
fn a_task_that_kills_each_farmer_is_given_up() {
    let farm = Farm::of(noted("[ -e harmless ] || kill -KILL $PPID; sleep 0.1") + "true\n");
    for death in 1..=5 {
        let died = farm.farm("--proc 1").run();
        assert_eq!(died.status.code(), None, "{death}");
    }
    let last = farm.farm("--proc 1").run().leaves(1);
    let summary = String::from_utf8(last.stdout).unwrap();
    assert!(
        summary.contains("task 0  lost with its farmer"),
        "{summary}"
    );
    farm.assert_exact(2, &[1], &[0]);
    assert_eq!(ran(&farm), "0.1 0.2 0.3 0.4 0.5");
    let notes = farm.text("w/requeued");
    let notes: Vec<&str> = notes
        .lines()
        .filter(|line| line.starts_with("0 "))
        .collect();
    let before = ["0 2 lost", "0 3 lost", "0 4 lost", "0 5 lost"];
    assert_eq!(notes, [&before[..], &["0 5 lost-limit"]].concat());
    let shown = task(&farm, "0");
    assert_eq!(shown["place"], "failed", "{shown}");
    let failed = farm
        .pytf(["status", "w", "--failed", "--json"])
        .run()
        .leaves(0);
    let failed: Value = serde_json::from_slice(&failed.stdout).unwrap();
    let failed = &failed["failed"][0];
    assert_eq!(failed["outcome"], "lost", "{failed}");
    assert_eq!(failed["attempts"], 5, "{failed}");
    assert_eq!(failed["words"], "lost with its farmer, 5 times", "{failed}");
    let rows = farm.pytf(["export", "w", "--tasks", "--jsonl", "0"]).run();
    let row: Value = serde_json::from_slice(&rows.leaves(0).stdout).unwrap();
    assert_eq!(
        (&row["outcome"], &row["attempt"]),
        (&"lost".into(), &5.into()),
        "{row}"
    );
    // What is repaired from the journals and from `requeued` is the same.
    farm.write("w/finished", "");
    farm.pytf(["repair", "w"]).run().leaves(0);
    farm.assert_exact(2, &[1], &[0]);
    farm.write("harmless", "");
    farm.farm("--retry-failed").run().exits(0);
    assert!(ran(&farm).ends_with("0.6"));
}

/// The farmer on whose node a task failed leaves it to another one that is idle.
#[test]
fn another_node_tries_it_while_one_is_there() {
    let farm = Farm::of(tasks(1, |_| {
        "until [ -e go ]; do sleep 0.05; done; [ -z \"$SICK\" ]".to_owned()
    }));
    let line = "--proc 1 --retries 1 --retry-delay 0 --takeover 6";
    let sick = farm.farm(line).env("SICK", "1").start();
    until("it runs", || farm.records("start").len() == 1);
    let well = farm.farm(line).start();
    until("the other one is there", || farm.headers().len() == 2);
    farm.write("go", "");
    sick.wait().leaves(0);
    well.wait().leaves(0);
    farm.assert_exact(1, &[0], &[]);
    assert_eq!(farm.text("w/requeued"), "0 2 again\n");
}
