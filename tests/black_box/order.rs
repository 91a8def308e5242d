//! The order of tasks: priorities, barriers, tasks that wait for others, nodes.

use std::time::{Duration, Instant};

use crate::harness::{Done, Farm, until};

fn said(done: &Done) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// What the tasks appended to `order`, a word per line.
fn order(farm: &Farm) -> Vec<String> {
    farm.text("order").lines().map(str::to_owned).collect()
}

/// Where a word stands there.
fn place(order: &[String], word: &str) -> usize {
    let found = order.iter().position(|there| there == word);
    found.unwrap_or_else(|| panic!("{word} has not run: {order:?}"))
}

#[test]
fn a_higher_priority_comes_first_then_the_order_of_the_list() {
    let farm = Farm::of(
        "echo a >>order\necho b >>order #PYTF priority=-1\necho c >>order #PYTF priority=5\n\
         echo d >>order\necho e >>order #PYTF priority=5\n",
    );
    farm.farm("-n 1").run().exits(0);
    assert_eq!(order(&farm), ["c", "e", "a", "d", "b"]);
    assert_eq!(farm.ids("finished").len(), 5);
    assert!(!farm.path("w/toprocess.1").exists() || farm.text("w/toprocess.1").is_empty());
}

#[test]
fn tasks_wait_for_those_that_they_name() {
    let farm = Farm::of(
        "echo deployed >>order #PYTF name=deploy after=train\n\
         sleep 0.3; echo trained >>order #PYTF name=train\n\
         sleep 0.1; echo trained2 >>order #PYTF name=train\n\
         echo tested >>order #PYTF after=deploy\n\
         false #PYTF name=bad\n\
         echo cleaned >>order #PYTF after-any=bad,train\n\
         echo never >>order #PYTF after=bad\n",
    );
    let done = farm.farm("-n 4").run().exits(1);
    let ran = order(&farm);
    for (before, after) in [
        ("trained", "deployed"),
        ("trained2", "deployed"),
        ("deployed", "tested"),
        ("trained", "cleaned"),
    ] {
        assert!(place(&ran, before) < place(&ran, after), "{ran:?}");
    }
    assert_eq!(ran.len(), 5, "{ran:?}");
    assert!(farm.text("w/blocked").contains("6 4 - echo never"));
    assert!(
        said(&done).contains("1 waits for a task that failed"),
        "{}",
        said(&done)
    );
    let status = farm.pytf(["status", "w"]).run().exits(0);
    assert!(said(&status).contains("1 blocked"), "{}", said(&status));
    assert!(!said(&status).contains("run the same command"));
    let wait = farm.pytf(["wait", "w"]).run().exits(1);
    wait.says(&["what is left waits for tasks that failed (pytf retry)"]);
    // The same command again changes nothing; a retry that succeeds lets it run.
    farm.farm("-n 4").run().exits(1);
    farm.write("tasks.txt", farm.text("tasks.txt").replace("false", "true"));
    let task = farm.pytf(["status", "w", "--task", "6"]).run().exits(0);
    assert!(
        said(&task).contains("waits for task 4, which failed"),
        "{}",
        said(&task)
    );
    farm.farm("-n 4").run().exits(0);
    assert_eq!(order(&farm).last().unwrap(), "never");
}

#[test]
fn barriers_divide_the_list_and_an_ok_barrier_stays_closed_behind_a_failure() {
    let list = "sleep 0.2; echo a >>order\nfalse\n#PYTF barrier\necho b >>order\n\
                test -e good\n#PYTF barrier ok\necho c >>order\necho d >>order\n";
    let farm = Farm::of(list);
    farm.farm("-n 4").run().exits(1);
    assert_eq!(order(&farm), ["a", "b"]);
    farm.write("good", "");
    farm.pytf(["retry", "w", "3"]).run().exits(0);
    farm.farm("-n 4").run().exits(1);
    let mut ran = order(&farm);
    ran.sort_unstable();
    assert_eq!(ran, ["a", "b", "c", "d"]);
    assert_eq!(farm.ids("failed"), [1]);
}

#[test]
fn a_task_runs_on_the_nodes_that_it_names_and_never_blocks_others() {
    let farm = Farm::of("echo fat >>order #PYTF node=fat*\necho any >>order\n");
    let done = farm.farm("-n 1").run().exits(1);
    assert_eq!(order(&farm), ["any"]);
    assert!(said(&done).contains("node=fat*"), "{}", said(&done));
    assert_eq!(farm.ids("toprocess"), [0]);
    farm.farm("-n 1 --label fatnode").run().exits(1);
    farm.farm("-n 1 --label big,fat*").run().exits(0);
    assert_eq!(order(&farm), ["any", "fat"]);
}

#[test]
fn a_task_behind_a_barrier_says_in_which_stage_it_is_and_for_how_many_it_waits() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let list = format!(
        "true\n{0}\nfalse\n{0}\n#PYTF barrier\ntrue\n#PYTF barrier\ntrue\n",
        gate.stand()
    );
    farm.write("tasks.txt", list);
    let running = farm.farm("-n 4").start();
    gate.comers(2);
    // As views see it: lines of the files count once the transaction that wrote them is committed.
    until("the others of its stage have ended", || {
        let status = farm.pytf(["status", "w", "--json"]).run();
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        (&status["tasks"]["finished"], &status["tasks"]["failed"]) == (&1.into(), &1.into())
    });
    for (task, stage, why, n) in [
        (
            "4",
            "stage 2: 1 barrier above it",
            "waits for 2 unfinished tasks of the stage before: 1,3",
            2,
        ),
        (
            "5",
            "stage 3: 2 barriers above it",
            "waits for 1 unfinished task of the stage before: 4",
            1,
        ),
    ] {
        let status = farm.pytf(["status", "w", "--task", task]).run();
        status.says(&[stage, why]);
        let status = farm.pytf(["status", "w", "--task", task, "--json"]).run();
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(
            (&status["why"], &status["waits_for"]),
            (&why.into(), &n.into())
        );
    }
    gate.open(2);
    running.wait().exits(1);
}

/// An added task may wait for one behind a barrier, which does not wait for the added one.
#[test]
fn an_added_task_may_wait_for_one_behind_a_barrier() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let list = format!(
        "echo a >>order\n#PYTF barrier\n{}\necho t >>order #PYTF name=t\n",
        gate.stand()
    );
    farm.write("tasks.txt", list);
    let running = farm.farm("-n 1").start();
    gate.comer();
    let add = |command: &str, words: &[&str]| {
        let words = [&["add", "w", command][..], words].concat();
        farm.pytf(words).run().leaves(0);
    };
    add("echo x >>order", &["--after", "t", "--name", "x"]);
    add("echo y >>order", &["--after", "x"]);
    gate.open(1);
    running.wait().exits(0);
    assert_eq!(order(&farm), ["a", "t", "x", "y"]);
}

/// What is said of waiting tasks may change while others are claimed.
#[test]
fn directives_may_change_while_a_task_runs() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let list = |priority: u32| {
        format!(
            "{}\necho a >>order #PYTF name=a\necho b >>order #PYTF after=a\n\
             echo c >>order #PYTF priority={priority}\n",
            gate.stand()
        )
    };
    farm.write("tasks.txt", list(0));
    let first = farm.farm("-n 1").start();
    gate.comer();
    farm.write("tasks.txt", list(2));
    let second = farm.farm("-n 1").start();
    until("the others have run", || farm.ids("finished").len() == 3);
    gate.open(1);
    first.wait().leaves(0);
    let said = second.wait().exits(0).stderr;
    assert!(said.contains("is said of 1 task"), "{said}");
    assert_eq!(order(&farm), ["c", "a", "b"]);
    assert_eq!(farm.ids("finished").len(), 4);
}

/// Run times that are not there are an error before anything is made; those of the run itself
/// count after a reset.
#[test]
fn the_longest_come_first_by_the_records_of_the_run_itself() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("true\n{}\n", gate.stand()));
    let wrong = farm.farm("--order longest-first=nowhere").run().exits(2);
    wrong.says(&["nowhere is not a workdir: name that of an earlier run"]);
    farm.farm("--order longest").run().exits(2);
    let check = || {
        let line = "check tasks.txt --workdir w --order longest-first";
        farm.pytf(line.split(' ')).run().leaves(0)
    };
    check().says(&["--order longest-first: no run time is known, so the order stays"]);
    assert!(!farm.path("w").exists(), "nothing was made");
    let first = farm.farm("--proc 1 --order longest-first").start();
    gate.comers(1);
    let began = Instant::now();
    until("the first task is recorded", || farm.ends().len() == 1);
    let took = Duration::from_micros(farm.ends()[0]["us"].as_u64().unwrap());
    until("this one takes longer", || began.elapsed() > took);
    gate.open(1);
    first.wait().exits(0).says(&["no run time is known"]);
    farm.pytf(["reset", "w", "--yes"]).run().exits(0);
    let again = farm.farm("--proc 1 --order longest-first").start();
    assert_eq!(gate.comer().0, 1);
    assert_eq!(farm.ids("finished"), [0; 0], "it comes first");
    gate.open(1);
    let again = again.wait().exits(0);
    again.says(&["the run times of 2 commands are known"]);
    assert_eq!(farm.ids("finished"), [0, 1]);
    check().says(&["comes first, by the run times of 2 commands in w"]);
}
