//! The same command again: what is done stays done, also when the list has
//! changed, and also when PyTaskFarmer did it.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::Farm;
/// Each task notes its own word, so that "what ran" does not depend on ids.
fn note(words: &str) -> String {
    let lines = words
        .split_whitespace()
        .map(|word| format!("echo {word} >> ran\n"));
    lines.collect::<Vec<_>>().concat()
}

/// A farm whose tasks `a b c d` are done but for `d`, which was interrupted.
fn mostly_done() -> Farm {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let wait = format!("echo d >> ran; [ -e pass ] || {{ {} ; }}\n", gate.stand());
    farm.write("d", &wait);
    farm.write("tasks.txt", note("a b c") + &wait);
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    farm.assert_exact(4, &[0, 1, 2], &[]);
    farm.write("pass", "");
    farm.write("ran", "");
    farm
}

/// What the second run executed, sorted.
pub(crate) fn ran(farm: &Farm) -> String {
    let text = farm.text("ran");
    let mut words: Vec<&str> = text.lines().collect();
    words.sort_unstable();
    words.join(" ")
}

#[test]
fn the_same_command_again_does_what_is_left_and_tells_what_it_found() {
    let farm = mostly_done();
    farm.farm("").run().exits(0).says(&[
        "3 finished, 0 failed, 1 w",
        "interrupted and will run again, 1 to go",
    ]);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    assert_eq!(ran(&farm), "d");
}

#[test]
fn a_complete_workdir_is_left_alone() {
    let farm = Farm::of(note("a b") + "exit 3\n");
    farm.farm("").run().exits(1);
    let before = (farm.text("w/finished"), farm.text("w/failed"));
    farm.farm("").run().exits(1).says(&["2 finished, 1 failed"]);
    assert_eq!((farm.text("w/finished"), farm.text("w/failed")), before);
    assert_eq!(
        ran(&farm),
        "a b",
        "a failed task runs again only when asked for"
    );
}

#[test]
fn lines_appended_inserted_and_reordered_are_matched_by_their_text() {
    for list in ["a b c D e", "e a b c D", "D c e b a", "c e b D a"] {
        let farm = mostly_done();
        let d = farm.text("d");
        farm.write("tasks.txt", note(list).replace("echo D >> ran\n", &d));
        farm.farm("").run().exits(0);
        assert_eq!(ran(&farm), "d e", "{list}");
        assert_eq!(farm.ids("finished"), [0, 1, 2, 3, 4], "{list}");
        assert_eq!(farm.ids("toprocess"), [0; 0]);
    }
}

#[test]
fn a_deleted_line_that_was_to_do_is_done_no_more_and_the_difference_is_told() {
    let farm = mostly_done();
    farm.write("tasks.txt", note("a c"));
    let done = farm.farm("").run().exits(0);
    assert_eq!(ran(&farm), "");
    assert_eq!(farm.ids("toprocess"), [0; 0]);
    assert!(
        done.stderr.contains("changed")
            || done.stderr.contains("vanished")
            || done.stderr.contains("gone")
    );
}

#[test]
fn an_edited_line_is_a_new_task_and_the_old_one_vanishes() {
    let farm = mostly_done();
    farm.write("tasks.txt", note("a B c D"));
    farm.farm("").run().exits(0);
    assert_eq!(ran(&farm), "B D");
    // What was finished under the old text stays told as such.
    assert!(
        farm.lines("finished")
            .contains(&(1, b"echo b >> ran".to_vec()))
    );
    assert_eq!(farm.lines("finished").len(), 5);
    assert_eq!(farm.ids("toprocess"), [0; 0]);
}

#[test]
fn duplicate_lines_are_as_many_tasks_as_they_are() {
    let farm = Farm::of(note("a a b"));
    farm.farm("").run().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
    farm.write("ran", "");
    farm.write("tasks.txt", note("b a a a b"));
    farm.farm("").run().exits(0);
    assert_eq!(ran(&farm), "a b", "one more of each");
    assert_eq!(farm.ids("finished"), [0, 1, 2, 3, 4]);
}

#[test]
fn a_line_that_comes_back_is_still_done() {
    let farm = Farm::of(note("a b c"));
    farm.farm("").run().exits(0);
    farm.write("tasks.txt", note("a c"));
    farm.farm("").run().exits(0);
    farm.write("tasks.txt", note("b c a"));
    farm.farm("").run().exits(0);
    assert_eq!(ran(&farm), "a b c");
}

#[test]
fn a_changed_list_is_refused_when_strict() {
    for list in ["a b c d", "a b", "a b C", "c b a"] {
        let farm = Farm::of(note("a b c"));
        farm.farm("").run().exits(0);
        farm.write("ran", "");
        farm.write("tasks.txt", note(list));
        farm.farm("--strict").run().exits(2).says(&["tasks.txt"]);
        assert_eq!(ran(&farm), "", "{list}");
        farm.assert_exact(3, &[0, 1, 2], &[]);
    }
    let farm = Farm::of(note("a b c"));
    farm.farm("--strict").run().exits(0);
    farm.farm("--strict").run().exits(0);
}

#[test]
fn comments_and_blank_lines_do_not_make_another_list() {
    let farm = Farm::of(note("a b"));
    farm.farm("").run().exits(0);
    farm.write(
        "tasks.txt",
        "# now with a comment\n\n".to_owned() + &note("a b"),
    );
    farm.farm("--strict").run().exits(0);
    assert_eq!(ran(&farm), "a b");
}

#[test]
fn stdin_continues_a_workdir() {
    let farm = Farm::of(note("a b"));
    let open = || fs::File::open(farm.path("tasks.txt")).unwrap();
    farm.pytf(["-", "--workdir", "w"])
        .stdin(open())
        .run()
        .exits(0);
    farm.write("tasks.txt", note("a b c"));
    farm.pytf(["-", "--workdir", "w"])
        .stdin(open())
        .run()
        .exits(0);
    assert_eq!(ran(&farm), "a b c");
}

#[test]
fn a_workdir_of_pytaskfarmer_is_continued() {
    let farm = Farm::of(
        "#comment\necho a >> ran\n\n  echo b >> ran  \necho c >> ran\necho d >> ran\necho e >> ran\n",
    );
    // 0 finished, 1 failed, 2 to do; 3 was running when its farmer was killed,
    // so that PyTaskFarmer knows it nowhere; 4 is finished.
    farm.write("w/toprocess", "2 echo c >> ran\n");
    farm.write("w/finished", "0 echo a >> ran\n4 echo e >> ran\n");
    farm.write("w/failed", "1 echo b >> ran\n");
    farm.write("w/logs/log_0", "of the first run\n");
    farm.write("w/timeline.json", r#"[{"cat": "task", "name": "echo a >> ran", "pid": 7, "tid": 8, "ts": 1.5e15, "dur": 1000.5, "ph": "X", "args": {}}]"#);
    farm.farm("").run().exits(1);
    assert_eq!(ran(&farm), "c d");
    farm.assert_exact(5, &[0, 2, 3, 4], &[1]);
    assert_eq!(farm.text("w/logs/log_0"), "of the first run\n");

    farm.pytf(["retry", "w"]).run().exits(0);
    farm.farm("").run().exits(0);
    farm.assert_exact(5, &[0, 1, 2, 3, 4], &[]);
    assert_eq!(ran(&farm), "b c d");
}

#[test]
fn a_workdir_of_pytaskfarmer_without_toprocess_has_everything_to_do() {
    let farm = Farm::of(note("a b"));
    fs::create_dir_all(farm.path("w/logs")).unwrap();
    farm.farm("").run().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
}
