//! Cancelled tasks: those that wait never run, those that run are stopped, and all can be put
//! back.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Farm, Gate, cut_at_each, has, is_alive, outcome, skip, tasks, until};

/// A heartbeat is a second.
const FAST: &str = "--takeover 6 --proc 2 --grace 1";

/// Tasks that stand at a gate.
fn standing(farm: &Farm, n: u64) -> Gate {
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(n, |_| gate.stand()));
    gate
}

fn json(farm: &Farm, args: &[&str]) -> Value {
    let all = [&["status", "w", "--json"], args].concat();
    let done = farm.pytf(all).run().leaves(0);
    serde_json::from_slice(&done.stdout).unwrap()
}

/// The numbers of failed and of cancelled tasks, as programs see them.
fn counts(farm: &Farm) -> (u64, u64) {
    let tasks = &json(farm, &[])["tasks"];
    let number = |word: &str| tasks[word].as_u64().unwrap();
    (number("failed"), number("cancelled"))
}

#[test]
fn a_waiting_task_never_runs_and_says_who_cancelled_it_and_why() {
    let farm = Farm::new();
    let gate = standing(&farm, 6);
    let pytf = farm.farm(FAST).start();
    gate.comers(2);
    let reason = "it's a \"wrong\" seed\n$(touch evil) \u{1b}[31m";
    let done = farm
        .pytf(["cancel", "w", "3,5", "--reason", reason])
        .run()
        .leaves(0);
    done.says(&[
        "cancelled: 2 tasks (3,5) will not run",
        "'pytf retry w IDS' puts cancelled tasks back",
    ]);
    assert_eq!(farm.ids("failed"), [3, 5]);
    let order: Value = serde_json::from_str(farm.text("w/orders").trim_end()).unwrap();
    assert_eq!(order["reason"], reason);
    assert_eq!(
        (&order["ids"], &order["attempt"]),
        (&"3,5".into(), &1.into())
    );
    assert_eq!(counts(&farm), (0, 2));
    let status = farm.pytf(["status", "w"]).run().leaves(0);
    let shown = "it's a \"wrong\" seed^J$(touch evil) ^[[31m";
    status.says(&[
        "2 cancelled",
        "2 tasks, the first is 3: cancelled by ",
        shown,
    ]);
    let list = farm.pytf(["status", "w", "--failed"]).run().leaves(0);
    list.says(&["cancelled: it's a \"wrong\" seed"]);
    let task = json(&farm, &["--task", "5"]);
    assert_eq!(task["place"], "cancelled");
    assert_eq!(task["cancelled"]["reason"], shown);
    let by = task["cancelled"]["by"].as_str().unwrap();
    assert!(
        by.contains('@') && task["attempts"] == Value::Array(vec![]),
        "{task}"
    );
    farm.pytf(["status", "w", "--task", "5"])
        .run()
        .leaves(0)
        .says(&["task 5  cancelled", "cancelled by "]);
    gate.open(4);
    // It has not finished, so the run is not a success.
    let done = pytf.wait().exits(1);
    let summary = String::from_utf8(done.stdout).unwrap();
    assert!(summary.contains("2 of 6 tasks were cancelled"), "{summary}");
    assert!(summary.contains("pytf retry w --cancelled"), "{summary}");
    farm.assert_exact(6, &[0, 1, 2, 4], &[3, 5]);
    assert!(!farm.path("evil").exists());
    let wait = farm.pytf(["wait", "w"]).run().leaves(1);
    assert_eq!(
        wait.stdout,
        b"complete: 4 finished, 0 failed, 2 cancelled\n"
    );
    let wait = farm.pytf(["wait", "w", "2-3"]).run().leaves(1);
    assert_eq!(wait.stdout, b"ended: 1 finished, 0 failed, 1 cancelled\n");
    farm.pytf(["status", "w"])
        .run()
        .leaves(0)
        .says(&["complete, some tasks were cancelled"]);
    farm.pytf(["report", "w"]).run().leaves(0);
    assert!(farm.text("w/report.html").contains("2 cancelled"));
    // The same command starts nothing.
    farm.farm(FAST).run().leaves(1);
    assert_eq!(farm.ends().len(), 4);
    farm.pytf(["repair", "--check", "w"]).run().leaves(0);
}

/// Without names a retry is about failures: what was cancelled on purpose stays.
#[test]
fn retry_puts_cancelled_tasks_back_when_they_are_meant() {
    let farm = Farm::of("false\ntrue\ntrue\ntrue\n");
    farm.farm("").run().leaves(1);
    farm.pytf(["retry", "w", "0"]).run().leaves(0);
    farm.pytf(["cancel", "w", "0"]).run().leaves(0);
    assert_eq!(counts(&farm), (0, 1));
    let stays = farm.pytf(["retry", "w"]).run().leaves(0);
    assert_eq!(
        String::from_utf8_lossy(&stays.stdout),
        "no failed task to put back\n1 cancelled task stays in failed: name them, or add --cancelled\n"
    );
    farm.farm("--retry-failed").run().leaves(1);
    assert_eq!(farm.ends().len(), 4);
    farm.pytf(["retry", "w", "--cancelled"]).run().leaves(0);
    assert_eq!(counts(&farm), (0, 0));
    // Its next attempt is not cancelled, and fails by itself.
    farm.farm("").run().leaves(1);
    assert_eq!(counts(&farm), (1, 0));
    assert_eq!(json(&farm, &["--task", "0"])["place"], "failed");
    let failed = json(&farm, &["--failed"]);
    assert_eq!(failed["failed"][0]["outcome"], "exit");
    farm.pytf(["retry", "w"]).run().leaves(0);
    farm.pytf(["cancel", "w", "0"]).run().leaves(0);
    farm.pytf(["retry", "w", "0"]).run().leaves(0);
    assert_eq!(counts(&farm), (0, 0));
    assert!(farm.text("w/requeued").contains("0 5 retry\n"));
}

/// A task that ends with 0 after it was asked to end may have done half of its work.
#[test]
fn a_running_task_is_stopped_and_its_slot_takes_the_next() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let stand = gate.stand();
    let lines = [
        format!("trap '' TERM; {stand}; exit 3"),
        format!("trap 'exit 0' TERM; {stand}"),
        stand.clone(),
        stand,
    ];
    farm.write("tasks.txt", lines.join("\n") + "\n");
    let pytf = farm.farm(FAST).start();
    let first = gate.comers(2);
    let done = farm
        .pytf(["cancel", "w", "0-1", "--reason", "too slow"])
        .run()
        .leaves(0);
    done.says(&["cancelled: 2 tasks (0-1); within 1s they are stopped, or not started"]);
    let again = farm.pytf(["cancel", "w", "0"]).run().leaves(0);
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        text == "cancelled already, and about to stop: task 0\n" || text.contains("no task"),
        "{text}"
    );
    // Both slots are free.
    gate.comers(2);
    for (id, pid) in first {
        assert!(!is_alive(pid), "task {id} runs on");
    }
    gate.open(2);
    pytf.wait()
        .exits(1)
        .says(&["pytf cancel: running tasks 0-1 asked to end: too slow"]);
    farm.assert_exact(4, &[2, 3], &[0, 1]);
    let outcomes = farm.outcomes();
    assert_eq!((&*outcomes[&0], &*outcomes[&1]), ("cancelled", "cancelled"));
    assert_eq!(counts(&farm), (0, 2));
    let status = json(&farm, &[]);
    assert_eq!(status["attempts"]["failed"], 0);
    assert_eq!(status["attempts"]["cancelled"], 2);
    assert_eq!(status["nodes"][0]["failed"], 0);
    assert_eq!(status["cancellations"][0]["tasks"], 2);
    assert_eq!(status["cancellations"][0]["reason"], "too slow");
    assert_eq!(status["causes"], Value::Array(vec![]));
    let csv = farm.pytf(["export", "w", "--csv"]).run().leaves(0);
    assert_eq!(
        String::from_utf8_lossy(&csv.stdout)
            .matches(",cancelled,")
            .count(),
        2
    );
    let last = farm
        .pytf(["export", "w", "--tasks", "--jsonl"])
        .run()
        .leaves(0);
    let last = String::from_utf8_lossy(&last.stdout).into_owned();
    assert_eq!(last.matches("\"place\":\"cancelled\"").count(), 2, "{last}");
    let log = farm.pytf(["log", "w", "0"]).run().leaves(0);
    log.says(&["cancelled after "]);
    let timeline = farm.text("w/timeline.json");
    assert_eq!(
        timeline.matches("\"outcome\":\"cancelled\"").count(),
        2,
        "{timeline}"
    );
}

/// The farmer that has obeyed the order runs the next attempt.
#[test]
fn a_cancelled_task_that_is_retried_runs_on_the_same_farmer() {
    let farm = Farm::new();
    let gate = standing(&farm, 2);
    let pytf = farm.farm("--takeover 6 --proc 1 --grace 1").start();
    assert_eq!(gate.comer().0, 0);
    farm.pytf(["cancel", "w", "0"]).run().leaves(0);
    assert_eq!(gate.comer().0, 1);
    farm.pytf(["retry", "w", "0"]).run().leaves(0);
    assert_eq!(counts(&farm), (0, 0));
    gate.open(1);
    assert_eq!(gate.comer().0, 0);
    gate.open(1);
    pytf.wait().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
    let ends = farm.ends();
    let of_0: Vec<_> = ends.iter().filter(|end| end["id"] == 0).collect();
    let seen: Vec<_> = of_0
        .iter()
        .map(|end| (end["attempt"].clone(), outcome(end)))
        .collect();
    assert_eq!(
        seen,
        [(1.into(), "cancelled".into()), (2.into(), "exit 0".into())]
    );
}

#[test]
fn what_cannot_be_cancelled_is_named_and_the_rest_is_cancelled() {
    let farm = Farm::of("true\nfalse\ntrue\n");
    let early = farm.pytf(["cancel", "w", "0"]).run().leaves(74);
    early.says(&["w is not a workdir"]);
    farm.farm("").run().leaves(1);
    farm.pytf(["retry", "w"]).run().leaves(0);
    let done = farm
        .pytf(["cancel", "w", "0-2,7", "18446744073709551615"])
        .run()
        .leaves(2);
    assert_eq!(
        String::from_utf8_lossy(&done.stdout).lines().next(),
        Some("cancelled: task 1 will not run")
    );
    done.says(&["not cancelled: 0,2 (finished already), 7,18446744073709551615 (no such task)"]);
    let again = farm.pytf(["cancel", "w", "1"]).run().leaves(2);
    assert_eq!(again.stdout, b"no task to cancel\n");
    again.says(&["not cancelled: 1 (in failed already)"]);
    for all in ["--all", "--waiting"] {
        let none = farm.pytf(["cancel", "w", all]).run().leaves(0);
        assert_eq!(none.stdout, b"no task to cancel\n");
    }
    assert_eq!(farm.text("w/orders").lines().count(), 1);
    for wrong in [
        &["cancel", "w"][..],
        &["cancel", "w", "--all", "1"],
        &["cancel", "w", "x"],
    ] {
        farm.pytf(wrong).run().leaves(2);
    }
}

#[test]
fn all_that_wait_or_all_that_wait_or_run() {
    let farm = Farm::new();
    let gate = standing(&farm, 6);
    let pytf = farm.farm(FAST).start();
    let running = gate.comers(2);
    let waiting = farm.pytf(["cancel", "w", "--waiting"]).run().leaves(0);
    waiting.says(&["cancelled: 4 tasks (2-5) will not run"]);
    assert!(running.iter().all(|(_, pid)| is_alive(*pid)));
    let all = farm.pytf(["cancel", "w", "--all"]).run().leaves(0);
    all.says(&["cancelled: 2 tasks (0-1); within 1s they are stopped"]);
    pytf.wait().exits(1);
    farm.assert_exact(6, &[], &[0, 1, 2, 3, 4, 5]);
    assert_eq!(counts(&farm), (0, 6));
    // Another attempt of all, and another cancel while nobody works on them.
    farm.pytf(["retry", "w", "--cancelled"]).run().leaves(0);
    farm.pytf(["cancel", "w", "--all"]).run().leaves(0);
    assert_eq!(counts(&farm), (0, 6));
    farm.farm(FAST).run().leaves(1);
}

/// A task that is stopped must be able to end.
#[test]
fn tasks_of_a_paused_run_can_be_cancelled_also_those_that_are_stopped() {
    let farm = Farm::new();
    let gate = standing(&farm, 4);
    let pytf = farm.farm(FAST).start();
    let running = gate.comers(2);
    farm.pytf(["pause", "w", "--stop"]).run().leaves(0);
    until("they are stopped", || {
        let state = |pid| crate::harness::state(pid) == Some('T');
        running.iter().all(|(_, pid)| state(*pid))
    });
    farm.pytf(["cancel", "w", "0,3"]).run().leaves(0);
    let (_, pid) = running.iter().find(|(id, _)| *id == 0).unwrap();
    until("it is gone", || !is_alive(*pid));
    until("that is recorded", || farm.ids("failed") == [0, 3]);
    assert_eq!(farm.ends().len(), 1);
    farm.pytf(["resume", "w"]).run().leaves(0);
    gate.comer();
    gate.open(2);
    pytf.wait().exits(1);
    farm.assert_exact(4, &[1, 2], &[0, 3]);
}

/// What was cancelled stays so when its farmer leaves before it has read the order.
#[test]
fn a_task_that_is_interrupted_after_its_cancel_does_not_wait_again() {
    let farm = Farm::new();
    let gate = standing(&farm, 3);
    // Its heartbeats are ten seconds apart.
    let pytf = farm.farm("--proc 2 --grace 1").start();
    gate.comers(2);
    pytf.signal(Signal::SIGSTOP);
    farm.pytf(["cancel", "w", "1"]).run().leaves(0);
    pytf.signal(Signal::SIGTERM);
    pytf.signal(Signal::SIGCONT);
    pytf.wait().exits(75);
    farm.assert_exact(3, &[], &[1]);
    assert_eq!(counts(&farm), (0, 1));
    assert_eq!(farm.text("w/requeued"), "0 2 interrupted\n");
    let pytf = farm.farm("").start();
    gate.open(2);
    pytf.wait().exits(1);
    farm.assert_exact(3, &[0, 2], &[1]);
}

/// A killed farmer's tasks run again, but not those that were cancelled.
#[test]
fn a_cancelled_task_of_a_killed_farmer_is_not_requeued() {
    let farm = Farm::new();
    let gate = standing(&farm, 4);
    let pytf = farm.farm(FAST).start();
    gate.comers(2);
    pytf.signal(Signal::SIGSTOP);
    farm.pytf(["cancel", "w", "0"]).run().leaves(0);
    pytf.signal(Signal::SIGKILL);
    pytf.wait();
    // Or they would be let through below.
    until("its tasks are gone", || farm.survivors().is_empty());
    farm.pytf(["status", "w", "--task", "0"])
        .run()
        .leaves(0)
        .says(&["cancelled by "]);
    let pytf = farm.farm(FAST).start();
    gate.open(3);
    pytf.wait().exits(1);
    farm.assert_exact(4, &[1, 2, 3], &[0]);
    assert_eq!(farm.text("w/requeued"), "1 2 lost\n");
    assert_eq!(counts(&farm), (0, 1));
}

/// The journals do not know of tasks that never ran; the orders do.
#[test]
fn repair_keeps_what_was_cancelled() {
    let farm = Farm::new();
    let gate = standing(&farm, 6);
    let pytf = farm.farm(FAST).start();
    gate.comers(2);
    pytf.signal(Signal::SIGSTOP);
    farm.pytf(["cancel", "w", "0,4-5"]).run().leaves(0);
    farm.pytf(["retry", "w", "5"]).run().leaves(0);
    pytf.signal(Signal::SIGKILL);
    pytf.wait();
    std::fs::remove_file(farm.path("w/failed")).unwrap();
    let done = farm.pytf(["repair", "w"]).run().leaves(0);
    done.says(&["0 finished, 2 failed, 4 to go"]);
    assert_eq!(farm.ids("failed"), [0, 4]);
    assert_eq!(counts(&farm), (0, 2));
    let pytf = farm.farm(FAST).start();
    gate.open(4);
    pytf.wait().exits(1);
    farm.assert_exact(6, &[1, 2, 3, 5], &[0, 4]);
    // As the state counts them.
    farm.pytf(["retry", "w", "--cancelled"]).run().leaves(0);
    assert_eq!(counts(&farm), (0, 0));
}

/// The list that lost the line of a cancelled task drops it.
#[test]
fn a_cancelled_task_whose_line_is_deleted_is_dropped() {
    let farm = Farm::of("echo a\necho b\n");
    farm.write("hold", "");
    farm.farm("").run().leaves(0);
    farm.write("tasks.txt", "echo a\necho b\nfalse\n");
    farm.farm("").run().leaves(1);
    farm.pytf(["retry", "w"]).run().leaves(0);
    farm.pytf(["cancel", "w", "2"]).run().leaves(0);
    farm.write("tasks.txt", "echo a\necho b\n");
    farm.farm("").run().leaves(0);
    assert_eq!(counts(&farm), (0, 0));
    farm.assert_dropped(3, &[0, 1], &[2]);
}

/// Killed at any write, sync or rename, a cancel has happened or has not; the workdir is whole,
/// and the command works when it is repeated.
#[test]
fn a_cancel_that_is_cut_off_happens_in_whole_or_not_at_all() {
    if !has("strace") {
        return skip("no strace here");
    }
    let farm = Farm::of("true\nfalse\ntrue\n");
    farm.farm("").run().leaves(1);
    let mut wholes = 0;
    let calls = [("pwrite64", 5), ("fdatasync", 4), ("/rename", 1)];
    cut_at_each(&calls, |inject, _| {
        farm.pytf(["retry", "w", "1"]).run().leaves(0);
        let cut = farm.pytf(["cancel", "w", "1"]).injected(inject, None).run();
        farm.pytf(["repair", "--check", "w"]).run().leaves(0);
        let is_given = counts(&farm) == (0, 1);
        wholes += u64::from(is_given);
        let again = farm.pytf(["cancel", "w", "1"]).run();
        assert_eq!(again.status.code(), Some(if is_given { 2 } else { 0 }));
        assert_eq!(counts(&farm), (0, 1), "{inject}");
        cut.status.code()
    });
    assert!(wholes >= 3, "{wholes}");
    farm.farm("").run().leaves(1);
    farm.assert_exact(3, &[0, 2], &[1]);
}

/// The line of one of them is lost, and stands in the list.
#[test]
fn a_repair_keeps_what_was_cancelled_behind_a_lost_line() {
    let farm = Farm::new();
    let gate = standing(&farm, 8);
    let pytf = farm.farm(FAST).start();
    gate.comers(2);
    farm.pytf(["cancel", "w", "3-6"]).run().leaves(0);
    gate.open(4);
    pytf.wait().exits(1);
    farm.assert_exact(8, &[0, 1, 2, 7], &[3, 4, 5, 6]);
    let known = farm.text("w/tasks");
    let known = known.lines().filter(|line| !line.starts_with("4 "));
    let known: Vec<String> = known.map(|line| format!("{line}\n")).collect();
    farm.write("w/tasks", known.concat());
    farm.write("w/failed", "");
    farm.pytf(["repair", "w", "tasks.txt"]).run().exits(0);
    farm.assert_exact(8, &[0, 1, 2, 7], &[3, 4, 5, 6]);
}

/// What is cancelled on purpose is no failure: it does not end a run that tolerates few of them.
#[test]
fn cancelled_tasks_do_not_count_for_the_limit_of_failures() {
    let farm = Farm::new();
    let gate = standing(&farm, 4);
    let pytf = farm.farm(&format!("{FAST} --max-fail 1")).start();
    gate.comers(2);
    farm.pytf(["cancel", "w", "0,3"]).run().leaves(0);
    assert_eq!(gate.comer().0, 2);
    gate.open(2);
    pytf.wait().exits(1);
    farm.assert_exact(4, &[1, 2], &[0, 3]);
}

/// What is reset has never been cancelled; what stays as it is stays cancelled.
#[test]
fn a_reset_lifts_the_cancels_of_what_it_resets() {
    let farm = Farm::of("true\nfalse\ntrue\nfalse\ntrue\n");
    farm.farm("").run().leaves(1);
    farm.pytf(["retry", "w"]).run().leaves(0);
    farm.pytf(["cancel", "w", "--all"]).run().leaves(0);
    assert_eq!(counts(&farm), (0, 2));
    farm.pytf(["reset", "w", "--from", "2", "--yes"])
        .run()
        .leaves(0);
    assert_eq!(counts(&farm), (0, 1));
    farm.farm("").run().leaves(1);
    assert_eq!(counts(&farm), (1, 1));
    farm.assert_exact(5, &[0, 2, 4], &[1, 3]);
}
