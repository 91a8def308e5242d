//! `pytf add`: tasks that are of no list.

use std::fs::File;
use std::io::Write;

use nix::sys::signal::Signal;

use crate::harness::{Done, Farm, cut_at_each, has, os, skip, tasks, until};
use crate::resume::ran;

/// A task that notes its own word, so that "what ran" does not depend on ids.
fn note(word: &str) -> String {
    format!("echo {word} >> ran")
}

fn list(words: &str) -> String {
    let lines = words.split_whitespace().map(|word| note(word) + "\n");
    lines.collect()
}

/// `pytf add w ARGS` with this standard input.
fn fed<'f>(farm: &'f Farm, args: &str, input: &str) -> Done<'f> {
    farm.write("input", input);
    let add = farm.pytf(["add", "w"].into_iter().chain(args.split_whitespace()));
    add.stdin(File::open(farm.path("input")).unwrap()).run()
}

fn add<'f>(farm: &'f Farm, words: &str) -> Done<'f> {
    let commands = words.split_whitespace().map(note);
    let args = ["add".to_owned(), "w".to_owned()]
        .into_iter()
        .chain(commands);
    farm.pytf(args).run().leaves(0)
}

/// Farmers may know a runner that is unknown where the task is added.
#[test]
fn a_runner_that_is_unknown_here_is_warned_of() {
    let farm = Farm::of(list("a"));
    farm.farm("").run().exits(0);
    let done = fed(&farm, "-", "true #PYTF runner=srn\n").leaves(0);
    let done = done.says(&["cannot run if its farmers know no more than this", "'srn'"]);
    assert_eq!(done.stdout, b"1\n");
    let known = fed(&farm, "-", "true #PYTF runner=srun\n").leaves(0);
    assert!(!known.stderr.contains("cannot run"), "{}", known.stderr);
}

/// What a program reads: one word, whatever is said beside it.
#[test]
fn the_ids_are_on_standard_output_and_nothing_else() {
    let farm = Farm::of(list("a b"));
    farm.farm("").run().exits(0);
    assert_eq!(add(&farm, "c").stdout, b"2\n");
    assert_eq!(add(&farm, "d e f").stdout, b"3-5\n");
    let one = fed(&farm, "-", "\n# two\necho x\n").exits(0);
    assert_eq!(one.stdout, b"6\n");
    let orders = farm.text("w/orders");
    for ids in [r#""ids":"2""#, r#""ids":"3-5""#, r#""do":"add""#] {
        assert!(orders.contains(ids), "{orders}");
    }
    assert_eq!(farm.ids("toprocess"), [2, 3, 4, 5, 6]);
}

#[test]
fn added_tasks_run_while_the_run_goes_on() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", gate.stand() + "\n");
    let pytf = farm.farm("").start();
    gate.comer();
    let added = add(&farm, "a b");
    added.says(&["added 2 tasks, 1-2; 1 process works on the run"]);
    until("they have run", || farm.ids("finished") == [1, 2]);
    gate.open(1);
    pytf.wait().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
    assert_eq!(ran(&farm), "a b");
}

/// It waits for the end of the run, since it might have to take over the other's task.
#[test]
fn a_process_that_has_nothing_to_do_takes_added_tasks() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", gate.stand() + "\n");
    let busy = farm.farm("--proc 1").start();
    gate.comer();
    let idle = farm.farm("--proc 1").start();
    until("both work", || farm.text("w/lock").contains("\"live\":2"));
    add(&farm, "a").says(&["2 processes work on the run"]);
    until("it has run", || farm.ids("finished") == [1]);
    gate.open(1);
    busy.wait().leaves(0);
    idle.wait().exits(0);
}

#[test]
fn tasks_that_nobody_works_on_wait_for_the_same_command() {
    let farm = Farm::of(list("a"));
    farm.farm("").run().exits(0);
    let added = add(&farm, "b");
    added.says(&["added task 1; no process works on the run: run the same command again"]);
    farm.pytf(["wait", "w"]).run().exits(75);
    let again = farm.farm("").run().exits(0);
    assert!(!again.stderr.contains("changed"), "{}", again.stderr);
    assert_eq!(ran(&farm), "a b");
    farm.assert_exact(2, &[0, 1], &[]);
}

#[test]
fn added_tasks_of_a_paused_run_wait() {
    let farm = Farm::of(list("a"));
    farm.farm("").run().exits(0);
    farm.pytf(["pause", "w"]).run().exits(0);
    add(&farm, "b").says(&["the run is paused: 'pytf resume w' lifts it"]);
    assert_eq!(farm.ids("toprocess"), [1]);
}

/// The tasks may be there before anything else is.
#[test]
fn a_run_may_begin_with_added_tasks() {
    let farm = Farm::new();
    let none = farm.pytf(["--workdir", "w"]).run().exits(74);
    none.says(&["w"]);
    let added = add(&farm, "a b");
    added.says(&["to the new workdir w; no process works on the run: start one with 'pytf --w"]);
    add(&farm, "c").says(&["no process works on the run"]);
    farm.pytf(["-w", "w", "--proc", "1"]).run().exits(0);
    assert_eq!(farm.text("ran"), "a\nb\nc\n");
    farm.pytf(["-w", "w"]).run().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
    // A list comes later: it is the first one, whatever it holds.
    farm.write("tasks.txt", list("a x"));
    add(&farm, "d");
    let first = farm.farm("--strict").run().exits(0);
    assert!(!first.stderr.contains("changed"), "{}", first.stderr);
    assert_eq!(ran(&farm), "a a b c d x");
    farm.write("tasks.txt", list("a x y"));
    farm.farm("")
        .run()
        .exits(0)
        .says(&["1 line is new (ids from 6), 0 are gone"]);
}

#[test]
fn without_a_list_there_must_be_a_run() {
    let farm = Farm::new();
    farm.make_dir("w/nodes");
    farm.write("w/lock", "");
    let none = farm.pytf(["--workdir", "w"]).run().exits(2);
    none.says(&[
        "there is no TASKLIST, and no run in the workdir w",
        "pytf add",
    ]);
    let variable = farm.pytf([""; 0]).env("PYTF_WORKDIR", "w").run().exits(2);
    variable.says(&["no TASKLIST is given, and no --workdir in its place"]);
}

/// A list that is read again knows nothing of added tasks, and touches none of them.
#[test]
fn a_list_and_added_tasks_leave_each_other_alone() {
    for (edit, changes, left) in [
        // Unchanged, but written again.
        ("a b c", "", "1 2 3 4 5"),
        // A line that an added task has, too; and one more time.
        (
            "a b c p",
            "1 line is new (ids from 6), 0 are gone",
            "1 2 3 4 5 6",
        ),
        (
            "a b c p q",
            "2 lines are new (ids from 6), 0 are gone",
            "1 2 3 4 5 6 7",
        ),
        // Another order.
        ("c a b", "0 lines are new, 0 are gone", "1 2 3 4 5"),
        // What is gone is gone, and nothing else.
        (
            "a b",
            "1 is gone (1 of them had not run and will not)",
            "1 3 4 5",
        ),
    ] {
        let farm = Farm::of(list("a"));
        farm.farm("").run().exits(0);
        farm.write("tasks.txt", list("a b c"));
        farm.pytf(["pause", "w"]).run().exits(0);
        let stopped = farm.farm("--timeout 0.1s").run();
        assert_eq!(stopped.status.code(), Some(75));
        add(&farm, "p q a");
        farm.write("tasks.txt", list(edit));
        let again = farm.farm("--timeout 0.1s --drop").run();
        assert_eq!(again.status.code(), Some(75), "{edit}");
        let has_changed = again.stderr.contains("task list has changed");
        assert_eq!(has_changed, !changes.is_empty(), "{}", again.stderr);
        again.says(&[changes]);
        let waiting: Vec<String> = farm.ids("toprocess").iter().map(u64::to_string).collect();
        assert_eq!(waiting.join(" "), left, "{edit}");
        let lines = farm.lines("tasks");
        assert!(lines.iter().zip(0..).all(|((id, _), n)| *id == n));
        assert_eq!(
            &lines[3..6],
            [(3, "p"), (4, "q"), (5, "a")].map(|(id, word)| (id, note(word).into_bytes()))
        );
        farm.pytf(["resume", "w"]).run().exits(0);
        farm.farm("--strict").run().exits(0);
        let mut all: Vec<&str> = edit.split(' ').chain(["p", "q", "a"]).collect();
        all.sort_unstable();
        assert_eq!(ran(&farm), all.join(" "), "each runs once");
    }
}

#[test]
fn a_removed_line_is_refused_and_an_added_task_is_none() {
    let farm = Farm::of(list("a"));
    farm.farm("").run().exits(0);
    farm.write("tasks.txt", list("a b"));
    farm.pytf(["pause", "w"]).run().exits(0);
    assert_eq!(farm.farm("--timeout 0.1s").run().status.code(), Some(75));
    add(&farm, "p q");
    farm.write("tasks.txt", list("a"));
    let refused = farm.farm("").run().exits(2);
    refused.says(&["1 waiting task is not in tasks.txt any more", "task 1"]);
    farm.write("tasks.txt", list("x y"));
    farm.farm("--drop")
        .run()
        .exits(2)
        .says(&["no line of tasks.txt is among the 2 tasks"]);
    farm.write("tasks.txt", list("a b c"));
    farm.farm("--strict")
        .run()
        .exits(2)
        .says(&["1 lines are new, 0 are gone"]);
    assert_eq!(farm.ids("toprocess"), [1, 2, 3]);
}

/// The generator run again adds nothing twice, and an added task is not one of its lines.
#[test]
fn a_stream_and_added_tasks_leave_each_other_alone() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let first = format!("{}\n{}\n", note("a"), gate.stand());
    let start = |farm: &Farm, text: &str| {
        farm.write("input", text);
        File::open(farm.path("input")).unwrap()
    };
    let args = ["-", "-w", "w", "--proc", "2"];
    let pytf = farm.pytf(args).stdin(start(&farm, &first)).start();
    gate.comer();
    add(&farm, "a b");
    gate.open(1);
    pytf.wait().exits(0);
    let more = format!("{first}{}", list("b a"));
    let pytf = farm.pytf(args).stdin(start(&farm, &more)).start();
    pytf.wait().exits(0);
    assert_eq!(ran(&farm), "a a a b b");
    assert_eq!(farm.lines("tasks").len(), 6);
}

/// While a farm reads a stream, and is not at its end.
#[test]
fn tasks_are_added_while_a_stream_is_open() {
    let farm = Farm::new();
    let (read, mut write) = std::io::pipe().unwrap();
    let pytf = farm
        .pytf(["-", "-w", "w", "--proc", "2"])
        .stdin(read)
        .start();
    writeln!(write, "{}", note("a")).unwrap();
    until("the first has run", || farm.ids("finished") == [0]);
    add(&farm, "b a").says(&["1 process works on the run"]);
    until("they have run", || farm.ids("finished") == [0, 1, 2]);
    write!(write, "{}", list("b a")).unwrap();
    drop(write);
    pytf.wait().exits(0);
    assert_eq!(ran(&farm), "a a a b b");
}

#[test]
fn what_cannot_be_a_task_is_refused_and_nothing_is_added() {
    let farm = Farm::of(list("a"));
    farm.farm("").run().exits(0);
    farm.write("more.txt", "echo 1\n\n#DISBATCH BARRIER\n");
    farm.write("good.txt", "echo 1\necho 2\n");
    let wrong: [(&[&str], &[&str]); 11] = [
        (&["--from", "more.txt"], &["more.txt: line 3", "no barrier"]),
        (
            &["echo 1", "#DISBATCH BARRIER"],
            &["command 2: line 1", "DISBATCH"],
        ),
        (&["echo 1", "  "], &["command 2 is empty or a comment"]),
        (&["# one"], &["command 1 is empty or a comment"]),
        (&["echo 1\necho 2"], &["command 1 has several lines"]),
        (
            &["good.txt"],
            &["good.txt is a file: to add the tasks in it, use --from good.txt"],
        ),
        (&["./good.txt"], &["use --from ./good.txt"]),
        (&["-", "echo 1"], &["- is standard input"]),
        (&["--from", "good.txt", "echo 1"], &["--from"]),
        (
            &["--from", "w/finished"],
            &["is a file of a workdir, not a task list"],
        ),
        (&[], &["COMMAND"]),
    ];
    for (args, words) in wrong {
        let args = ["add", "w"].iter().chain(args);
        farm.pytf(args).run().exits(2).says(words);
    }
    farm.pytf(["add", "w", "--from", "none"])
        .run()
        .exits(2)
        .says(&["cannot read the task list none"]);
    let nul = farm
        .pytf([os(b"add"), os(b"w"), os(b"--from"), os(b"/dev/zero")])
        .run();
    nul.exits(2).says(&["NUL"]);
    fed(&farm, "-", "# nothing\n")
        .exits(2)
        .says(&["there is no task to add"]);
    assert_eq!(farm.lines("tasks").len(), 1);
    assert!(!farm.path("w/orders").exists());
    // What looks like it and is meant.
    farm.write("run.sh", "#!/bin/sh\necho z >> ran\n");
    let chmod = ["chmod", "+x", "run.sh", "--"];
    farm.pytf(["true"]).under(chmod).run();
    let added = farm
        .pytf(["add", "w", "./run.sh", "env good.txt"])
        .run()
        .exits(0);
    assert_eq!(added.stdout, b"1-2\n");
    let plain = farm
        .pytf(["add", "w", "--plain", "--from", "more.txt"])
        .run()
        .exits(0);
    assert_eq!(plain.stdout, b"3\n");
}

/// Each command is a task by itself: one that ends in a backslash does not go on in the next.
#[test]
fn commands_do_not_run_into_each_other() {
    let farm = Farm::of(list("a"));
    farm.farm("").run().exits(0);
    farm.pytf(["add", "w", "echo 1\\", "echo 2"]).run().exits(0);
    let lines = farm.lines("tasks").split_off(1);
    assert_eq!(lines, [(1, b"echo 1\\".to_vec()), (2, b"echo 2".to_vec())]);
    let bytes = os(b"echo \xff\xfe");
    farm.pytf([os(b"add"), os(b"w"), bytes]).run().exits(0);
    assert_eq!(farm.lines("tasks")[3].1, b"echo \xff\xfe");
}

#[test]
fn a_workdir_of_pytaskfarmer_and_a_folder_of_others_take_no_tasks() {
    let farm = Farm::of(list("a"));
    farm.write("w/toprocess", "0 echo a\n");
    let refused = farm.pytf(["add", "w", "true"]).run().exits(2);
    refused.says(&["the workdir was made by PyTaskFarmer: give its task list"]);
    farm.write("other/notes", "mine");
    farm.pytf(["add", "other", "true"])
        .run()
        .exits(74)
        .says(&["notes"]);
    let list = farm.pytf(["add", "tasks.txt", "true"]).run().exits(74);
    list.says(&["tasks.txt"]);
}

/// Which tasks were added is in `orders`. A repair keeps what can be read of it.
#[test]
fn added_tasks_stay_so_through_a_repair() {
    for harm in ["lock", "orders", "all"] {
        let farm = Farm::of(list("a b"));
        farm.farm("").run().exits(0);
        add(&farm, "p");
        farm.pytf(["pause", "w"]).run().exits(0);
        add(&farm, "q r");
        if harm != "lock" {
            let orders = farm.text("w/orders").replace("\"pause\"", "\"p@use\"");
            farm.write("w/orders", orders.replace("{\"at\"", "{ \"at\""));
        }
        if harm != "orders" {
            farm.write("w/lock", vec![b'x'; 100]);
        }
        farm.pytf(["repair", "w"]).run().exits(0);
        farm.pytf(["repair", "--check", "w"]).run().exits(0);
        farm.pytf(["resume", "w"]).run().exits(0);
        farm.write("tasks.txt", list("a b p"));
        let again = farm.farm("").run().exits(0);
        again.says(&["1 line is new (ids from 5), 0 are gone"]);
        assert_eq!(ran(&farm), "a b p p q r", "{harm}");
        farm.assert_exact(6, &[0, 1, 2, 3, 4, 5], &[]);
    }
}

/// The k-th line of the list is the k-th task that was not added.
#[test]
fn a_repair_takes_no_line_of_the_list_for_an_added_task() {
    let farm = Farm::of(list("a b"));
    farm.farm("").run().exits(0);
    add(&farm, "p");
    farm.write("tasks.txt", list("a b c"));
    farm.farm("").run().exits(0);
    let without = |name: &str| {
        let text = farm.text(name);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("3 "))
            .collect();
        let lines = lines.join("\n") + "\n";
        farm.write(name, lines);
    };
    without("w/tasks");
    without("w/finished");
    farm.pytf(["repair", "w"])
        .run()
        .exits(2)
        .says(&["no file holds the line of task 3"]);
    farm.pytf(["repair", "w", "tasks.txt"]).run().exits(0);
    assert_eq!(farm.lines("tasks")[3].1, note("c").into_bytes());
}

/// Killed at any write or sync, the command has added all its tasks or none; the workdir is whole,
/// and the command works when it is repeated. Also where there was no workdir.
#[test]
fn tasks_are_added_in_whole_or_not_at_all() {
    if !has("strace") {
        return skip("no strace here");
    }
    for is_new in [false, true] {
        let calls = [("pwrite64", 6), ("fdatasync", 4), ("rename", 0)];
        cut_at_each(&calls, |inject, _| {
            let farm = Farm::of(list("a"));
            if !is_new {
                farm.farm("--quiet --no-timeline").run().exits(0);
            }
            let cut = farm
                .pytf(["add", "w", "true", "true"])
                .injected(inject, None)
                .run();
            let added = add(&farm, "b");
            let before = u64::from(!is_new);
            let first: u64 = String::from_utf8(added.stdout)
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            assert!([before, before + 2].contains(&first), "{inject}: {first}");
            farm.pytf(["repair", "--check", "w"]).run().exits(0);
            farm.farm("--quiet --no-timeline").run().exits(0);
            let n = first + 1 + u64::from(is_new);
            farm.assert_exact(n, &(0..n).collect::<Vec<_>>(), &[]);
            assert_eq!(ran(&farm), "a b");
            cut.status.code()
        });
    }
}

/// The folder in which relative paths begin is that of the run.
#[test]
fn adding_from_another_folder_is_reported() {
    let farm = Farm::of(list("a"));
    farm.farm("").run().exits(0);
    farm.make_dir("sub");
    let added = farm
        .pytf(["add", "../w", "true"])
        .within(farm.path("sub"))
        .run()
        .exits(0);
    added.says(&["this run was first started in", "not here in"]);
    assert_eq!(added_ids(&farm), [1]);
}

fn added_ids(farm: &Farm) -> Vec<u64> {
    farm.ids("toprocess")
}

/// A process that was stopped while tasks wait ends with 75, also when they were added.
#[test]
fn tasks_that_were_added_to_processes_that_stop_are_left() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(1, |_| gate.stand()));
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    add(&farm, "b");
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    farm.assert_exact(2, &[], &[]);
}
