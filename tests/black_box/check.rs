//! `pytf check` says what a farm would do, and does none of it.

use std::process::Stdio;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::harness::{Done, Farm};

const LIST: &str = "\
# a list
./sim 1
nosuch a
nosuch b
echo \"a
true
true
for i in 1 2; do echo $i
nosuch a | cat
mkdir made && echo x > made/file
";

#[test]
fn what_would_fail_is_named_by_line_and_nothing_is_run() {
    let farm = Farm::of(LIST);
    let done = farm.pytf(["check", "tasks.txt", "-n", "3"]).run().exits(1);
    for part in [
        "9 tasks; 3 slots, as requested; workdir tasks.txt_workdir",
        "line 7: the same task as in line 6",
        "line 2 (task 0): './sim' does not exist",
        "line 3 and 2 more (task 1): 'nosuch' was not found in PATH",
        "line 5 (task 3): the shell cannot read it: ",
        "line 8 (task 6): the shell cannot read it: ",
        "6 tasks would fail here",
    ] {
        assert!(
            text(&done).contains(part),
            "no '{part}' in: {}",
            text(&done)
        );
    }
    assert_eq!(done.stderr, "");
    for name in ["made", "tasks.txt_workdir"] {
        assert!(!farm.path(name).exists(), "{name}");
    }
    let same = farm
        .pytf(["tasks.txt", "-n", "3", "--dry-run"])
        .run()
        .exits(1);
    assert_eq!(text(&same), text(&done));
}

/// What a command printed.
fn text(done: &Done<'_>) -> String {
    String::from_utf8(done.stdout.clone()).unwrap()
}

/// What the check says and what a farm does are the same.
#[test]
fn the_tasks_that_would_fail_are_those_that_fail() {
    let farm = Farm::of(LIST);
    let done = farm.pytf(["check", "tasks.txt", "--json"]).run().exits(1);
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(found["tasks"], 9);
    farm.farm("").run().exits(1);
    let failed = farm.ids("failed");
    // The last command of a pipe decides about its status.
    assert_eq!(failed, [0, 1, 2, 3, 6]);
    for id in failed {
        let first = id == 2
            || found["faults"]
                .as_array()
                .unwrap()
                .iter()
                .any(|f| f["task"] == id);
        assert!(first, "task {id} is not in {found}");
    }
}

#[test]
fn a_list_without_a_fault_exits_with_0() {
    let farm = Farm::of("true\necho 'a b' | cat\n");
    let done = farm.pytf(["check", "tasks.txt"]).run().exits(0);
    assert!(text(&done).ends_with("no fault found\n"), "{}", text(&done));
    farm.farm("").run().exits(0);
    let done = farm.pytf(["check", "tasks.txt", "-w", "w"]).run().exits(0);
    let part = "the workdir has a run, which would be resumed: 2 finished, 0 failed, 0 to go";
    assert!(text(&done).contains(part), "{}", text(&done));
}

#[test]
fn the_command_line_of_a_task_is_shown() {
    let farm = Farm::of("cat  a b\necho 'a b' > c\nnosuch\n");
    for (id, line) in [
        ("0", "/bin/cat a b\n"),
        ("1", "-c 'echo '\\''a b'\\'' > c'\n"),
        ("2", "exit status 127: 'nosuch' was not found in PATH\n"),
    ] {
        let done = farm
            .pytf(["check", "tasks.txt", "--show", id])
            .run()
            .exits(0);
        assert!(text(&done).ends_with(line), "{}", text(&done));
    }
    let none = farm
        .pytf(["check", "tasks.txt", "--show", "3"])
        .run()
        .exits(2);
    assert!(
        none.stderr.contains("the list has no task 3"),
        "{}",
        none.stderr
    );
}

#[test]
fn lists_from_everywhere_are_checked_and_a_pipe_is_left_alone() {
    let farm = Farm::of("#METAQ NODES 2\ntrue\n");
    let done = farm.pytf(["check", "tasks.txt"]).run().exits(2);
    assert!(
        done.stderr.contains("tasks.txt: line 1, column 1"),
        "{}",
        done.stderr
    );
    farm.pytf(["check", "nosuch"])
        .run()
        .exits(2)
        .says(&["nosuch"]);
    let template = ["check", "-w", "w", "--", "echo {} | cat", ":::", "a", "b"];
    let done = farm.pytf(template).run().exits(0);
    assert!(text(&done).contains("2 tasks"), "{}", text(&done));
    mkfifo(&farm.path("fifo"), Mode::S_IRWXU).unwrap();
    let done = farm.pytf(["check", "fifo", "-w", "w"]).run().exits(2);
    assert!(
        done.stderr.contains("is not a regular file"),
        "{}",
        done.stderr
    );
    let stdin = farm.pytf(["check", "-", "-w", "w"]).stdin(Stdio::null());
    assert!(text(&stdin.run().exits(0)).starts_with("0 tasks"));
}
