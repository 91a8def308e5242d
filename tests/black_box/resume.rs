//! Resume, retry, changed lists, and whose workdir it is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use nix::sys::signal::Signal;

use crate::harness::{Farm, is_root, skip, tasks};

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
fn ran(farm: &Farm) -> String {
    let text = farm.text("ran");
    let mut words: Vec<&str> = text.lines().collect();
    words.sort_unstable();
    words.join(" ")
}

#[test]
fn the_same_command_again_does_what_is_left_and_tells_what_it_found() {
    let farm = mostly_done();
    farm.farm("")
        .run()
        .exits(0)
        .says(&["3 finished, 0 failed, 1 was interrupted and will run again, 1 to go"]);
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

/// Tasks that fail until the file `fixed` exists, and note their attempts.
fn failing(n: u64) -> Farm {
    Farm::of(tasks(n, |_| {
        "echo attempt $PYTF_ATTEMPT; echo $PYTF_TASK_ID.$PYTF_ATTEMPT >> ran; [ -e fixed ]".into()
    }))
}

#[test]
fn retry_puts_all_failed_tasks_back_and_counts_the_attempts() {
    let farm = failing(3);
    farm.farm("").run().exits(1);
    farm.assert_exact(3, &[], &[0, 1, 2]);
    farm.pytf(["retry", "w"]).run().exits(0);
    farm.assert_exact(3, &[], &[]);
    farm.write("fixed", "");
    farm.farm("").run().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
    assert_eq!(ran(&farm), "0.1 0.2 1.1 1.2 2.1 2.2");
    // The log of the attempt that failed is still there.
    assert_eq!(farm.text("w/logs/log_1"), "attempt 1\n");
    assert_eq!(farm.text("w/logs/log_1.2"), "attempt 2\n");
}

#[test]
fn retry_takes_ids_and_ranges() {
    let farm = failing(10);
    farm.farm("").run().exits(1);
    farm.pytf(["retry", "w", "1,4-6", "9"])
        .run()
        .exits(0)
        .says(&["5"]);
    farm.assert_exact(10, &[], &[0, 2, 3, 7, 8]);
    farm.pytf(["retry", "w", "0"]).run().exits(0);
    farm.assert_exact(10, &[], &[2, 3, 7, 8]);
    farm.write("fixed", "");
    farm.farm("").run().exits(1);
    farm.assert_exact(10, &[0, 1, 4, 5, 6, 9], &[2, 3, 7, 8]);
}

#[test]
fn retry_refuses_what_is_no_id_and_never_repeats_what_is_finished() {
    let farm = Farm::of("true\nfalse\n");
    farm.farm("").run().exits(1);
    farm.pytf(["retry", "w", "x"]).run().exits(2).says(&["x"]);
    farm.pytf(["retry", "w", "5-3"]).run().exits(2);
    farm.assert_exact(2, &[0], &[1]);
    let done = farm.pytf(["retry", "w", "0"]).run();
    assert!(done.stderr.contains('0'), "says that task 0 has not failed");
    farm.assert_exact(2, &[0], &[1]);
    farm.pytf(["retry", "nowhere"])
        .run()
        .exits(2)
        .says(&["nowhere"]);
    assert!(!farm.path("nowhere").exists());
}

#[test]
fn retry_without_failures_changes_nothing() {
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    farm.pytf(["retry", "w"]).run().exits(0);
    farm.assert_exact(1, &[0], &[]);
}

#[test]
fn retry_works_while_the_farm_runs() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!("{}\necho x >> ran; [ -e fixed ]\n", gate.stand()),
    );
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    gate.open(1);
    pytf.wait().exits(1);
    farm.write("fixed", "");
    farm.write("tasks.txt", farm.text("tasks.txt") + &gate.stand() + "\n");
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    farm.pytf(["retry", "w"]).run();
    gate.open(1);
    pytf.wait().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
}

#[test]
fn retry_failed_does_it_at_the_start_of_a_run() {
    let farm = failing(4);
    farm.farm("").run().exits(1);
    farm.write("fixed", "");
    farm.farm("--retry-failed").run().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    assert_eq!(ran(&farm), "0.1 0.2 1.1 1.2 2.1 2.2 3.1 3.2");
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

#[test]
fn modes_honour_the_umask() {
    for (umask, others) in [("077", 0o077), ("022", 0o022), ("027", 0o027)] {
        let farm = Farm::of("echo a\nfalse\n");
        farm.farm("")
            .under(["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .run()
            .exits(1);
        for file in [
            "w",
            "w/finished",
            "w/failed",
            "w/toprocess",
            "w/logs",
            "w/nodes",
            "w/lock",
            "w/logs/log_0",
            "w/timeline.json",
        ] {
            let mode = fs::metadata(farm.path(file)).unwrap().permissions().mode();
            assert_eq!(mode & others, 0, "umask {umask}: {file} has {mode:o}");
            assert_eq!(
                mode & 0o111 != 0,
                farm.path(file).is_dir(),
                "{file} has {mode:o}"
            );
        }
        // Nor stricter than asked for: a group that may read should see the logs.
        if umask != "077" {
            let mode = fs::metadata(farm.path("w/logs/log_0"))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o666 & !others, "umask {umask}");
        }
    }
}

#[test]
fn a_workdir_that_others_may_write_is_refused_unless_it_is_meant() {
    for mode in [0o777, 0o775, 0o1777, 0o702] {
        let farm = Farm::of("touch started\n");
        fs::create_dir(farm.path("w")).unwrap();
        fs::set_permissions(farm.path("w"), PermissionsExt::from_mode(mode)).unwrap();
        farm.farm("").run().exits(74).says(&["--shared-workdir"]);
        assert!(!farm.path("started").exists());
        assert_eq!(
            fs::read_dir(farm.path("w")).unwrap().count(),
            0,
            "nothing was written"
        );
        farm.farm("--shared-workdir").run().exits(0);
    }
}

#[test]
fn a_workdir_of_someone_else_is_refused_unless_it_is_meant() {
    if !is_root() {
        return skip("only root can give a directory away");
    }
    let farm = Farm::of("touch started\n");
    fs::create_dir(farm.path("w")).unwrap();
    chown(farm.path("w"), Some(65534), Some(65534)).unwrap();
    farm.farm("").run().exits(74).says(&["--shared-workdir"]);
    assert!(!farm.path("started").exists());
    farm.farm("--shared-workdir").run().exits(0);
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_followed() {
    for name in [
        "lock",
        "toprocess",
        "finished",
        "failed",
        "tasks",
        "nodes",
        "timeline.json",
        "requeued",
        "logs",
    ] {
        eprintln!("{name}");
        let farm = Farm::of("echo a\nfalse\n");
        let is_dir = ["nodes", "logs"].contains(&name);
        fs::create_dir_all(farm.path("w")).unwrap();
        if is_dir {
            fs::create_dir(farm.path("victim")).unwrap();
        } else {
            farm.write("victim", "precious\n");
        }
        symlink(farm.path("victim"), farm.path("w").join(name)).unwrap();
        let done = farm.farm("").run();
        if is_dir {
            assert_eq!(
                fs::read_dir(farm.path("victim")).unwrap().count(),
                0,
                "{name} was followed"
            );
        } else {
            assert_eq!(farm.text("victim"), "precious\n", "{name} was followed");
        }
        // What is replaced by renaming over it may heal; the others refuse.
        assert!(
            matches!(done.status.code(), Some(74 | 0 | 1)),
            "{name}: {:?}",
            done.status
        );
        if done.status.code() == Some(74) {
            assert!(done.stderr.contains(name), "names {name}");
        }
    }
}

#[test]
fn a_log_that_is_a_link_is_not_followed() {
    let farm = Farm::of("echo overwritten\n");
    farm.write("victim", "precious\n");
    fs::create_dir_all(farm.path("w/logs")).unwrap();
    symlink(farm.path("victim"), farm.path("w/logs/log_0")).unwrap();
    farm.farm("").run();
    assert_eq!(farm.text("victim"), "precious\n");
}

#[test]
fn the_workdir_itself_may_be_reached_through_a_link() {
    // Scratch spaces are links in home directories more often than not.
    let farm = Farm::of("echo a\n");
    fs::create_dir(farm.path("scratch")).unwrap();
    symlink(farm.path("scratch"), farm.path("w")).unwrap();
    farm.farm("").run().exits(0);
    assert_eq!(farm.text("scratch/finished"), "0 echo a\n");
}

#[test]
fn a_file_in_the_place_of_the_workdir_is_named() {
    let farm = Farm::of("true\n");
    farm.write("w", "");
    farm.farm("").run().exits(74).says(&["w", "directory"]);
}

#[test]
fn the_parents_of_a_workdir_must_exist() {
    let farm = Farm::of("true\n");
    let done = farm.pytf(["tasks.txt", "--workdir", "no/such/place"]).run();
    assert!(
        matches!(done.status.code(), Some(74 | 0)),
        "{:?}",
        done.status
    );
    if done.status.code() == Some(0) {
        assert!(farm.path("no/such/place/finished").exists());
    } else {
        assert!(done.stderr.contains("no/such"));
    }
}

#[test]
fn an_existing_directory_of_other_things_keeps_them() {
    let farm = Farm::of("true\n");
    farm.write("w/data.txt", "mine\n");
    farm.farm("").run().exits(0);
    assert_eq!(farm.text("w/data.txt"), "mine\n");
    assert_eq!(fs::metadata(farm.path("w/data.txt")).unwrap().nlink(), 1);
}
