//! Refused resources: descriptors, threads, processes, output. The rule is the same
//! for all: the limit is named, no healthy task is harmed, nothing panics, and no
//! refusal is called a bug.

use std::fs::{self, File};

use crate::bad_days::{marking, nothing_false, orderly};
use crate::harness::{Done, Farm, Pytf, each_nth, has, is_root, side_by_side, skip, tasks, until};

/// Refuses the `when`-th of these calls of a thread, or with `+` all from then on.
fn refuse<'f>(pytf: Pytf<'f>, calls: &str, error: &str, when: &str) -> Pytf<'f> {
    let inject = format!("inject={calls}:error={error}:when={when}");
    pytf.injected(&inject, None)
}

/// It ended in good order, for want of something that it names.
fn names(done: &Done<'_>, limit: &str) {
    orderly(done, &[71]);
    assert!(done.stderr.contains(limit), "{}", done.stderr);
}

#[test]
fn a_thousand_slots_run_with_two_hundred_and_fifty_six_descriptors() {
    for logs in each_nth(2, ["files", "packed"]) {
        let farm = Farm::new();
        // A lock holds them: who comes late to a pipe without a writer waits for ever.
        farm.write(
            "tasks.txt",
            "flock --shared hold true\n".repeat(1000) + "ulimit -n > seen\n",
        );
        let hold = File::create(farm.path("hold")).unwrap();
        hold.lock().unwrap();
        let pytf = farm
            .farm(&format!("--proc 1000 --logs {logs}"))
            .under(["prlimit", "--nofile=256:256"])
            .start();
        let children = format!("/proc/{}/task", pytf.pid());
        until("all thousand run at the same time", || {
            let threads = fs::read_dir(&children).unwrap().flatten();
            let count = |thread: fs::DirEntry| {
                let text = fs::read_to_string(thread.path().join("children"));
                text.unwrap_or_default().split_whitespace().count()
            };
            threads.map(count).sum::<usize>() == 1000
        });
        drop(hold);
        let done = pytf.wait().exits(0);
        assert!(!done.stderr.contains("open files"), "{}", done.stderr);
        farm.assert_exact(1001, &(0..1001).collect::<Vec<_>>(), &[]);
        assert!(farm.ends().iter().all(|end| end["attempt"] == 1));
        assert_eq!(farm.text("seen"), "256\n", "tasks have the user's limit");
    }
}

#[test]
fn no_refused_thread_or_process_is_fatal() {
    if !has("strace") {
        return skip("no strace here");
    }
    // Threads of their own for signals, ledger, slots, and the guard.
    side_by_side(&[1, 2, 3, 4, 5, 6, 7, 8], |when| {
        eprintln!("the {when}th");
        let farm = marking(4);
        let done = refuse(
            farm.farm("--proc 3"),
            "clone,clone3",
            "EAGAIN",
            &when.to_string(),
        )
        .run();
        if !done.status.success() {
            names(&done, "ulimit -u");
        }
        nothing_false(&farm);
        let again = farm.farm("").run().exits(0);
        assert!(!again.stderr.contains("interrupted"), "{}", again.stderr);
        farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    });
    let farm = marking(4);
    names(
        &refuse(farm.farm(""), "clone,clone3", "EAGAIN", "1+").run(),
        "ulimit -u",
    );
    farm.farm("").run().exits(0);
}

#[test]
fn what_only_looks_needs_no_thread_and_few_descriptors() {
    if !has("strace") {
        return skip("no strace here");
    }
    // Several journals: they are read by several threads.
    let farm = Farm::of("true\nexit 3\n");
    for _ in 0..4 {
        farm.farm("--retry-failed").run().exits(1);
    }
    for args in [
        &["status", "w"][..],
        &["export", "w", "--jsonl"],
        &["timeline", "w", "-o", "-"],
        &["report", "w", "-o", "-"],
        &["log", "w", "1"],
    ] {
        // Reports and the like tell for how long: they may differ by a digit.
        let lines = |done: Done<'_>| {
            let text = String::from_utf8_lossy(&done.exits(0).stdout).into_owned();
            text.lines().count()
        };
        let plain = lines(farm.pytf(args).run());
        let refused = refuse(farm.pytf(args), "clone,clone3", "EAGAIN", "1+");
        assert_eq!(lines(refused.run()), plain, "{args:?}");
        let few = farm.pytf(args).under(["prlimit", "--nofile=12:4096"]);
        assert_eq!(lines(few.run()), plain, "{args:?}");
    }
}

#[test]
fn fewer_slots_where_threads_are_few_and_it_is_said() {
    if !is_root() {
        return skip("the limit on processes counts all of a user: it needs one of its own");
    }
    let farm = marking(40);
    for path in ["", "done"] {
        std::os::unix::fs::chown(farm.path(path), Some(4_242_425), Some(65534)).unwrap();
    }
    farm.write("tasks.txt", tasks(40, |id| format!("touch done/{id}")));
    let user = "setpriv --reuid 4242425 --regid 65534 --clear-groups prlimit --nproc=40";
    farm.farm("--proc 100")
        .under(user.split(' '))
        .run()
        .exits(0)
        .says(&["slots instead of 100", "ulimit -u"]);
    farm.assert_exact(40, &(0..40).collect::<Vec<_>>(), &[]);
}

#[test]
fn the_tasks_list_tells_a_sick_file_system_from_a_missing_file_and_a_full_table() {
    if !has("strace") {
        return skip("no strace here");
    }
    let cases = [
        ("EIO", 74, "Input/output error"),
        ("EMFILE", 71, "ulimit -n"),
        ("ENFILE", 71, "file-max"),
        ("ENOMEM", 71, "memory"),
        ("ENOENT", 2, "tasks.txt"),
    ];
    side_by_side(&cases, |&(error, code, word)| {
        let farm = marking(2);
        let inject = format!("inject=open,openat:error={error}");
        let done = farm.farm("").injected(&inject, Some("tasks.txt")).run();
        orderly(&done, &[code]);
        assert!(done.stderr.contains(word), "{error}: {}", done.stderr);
        farm.farm("").run().exits(0);
    });
}

/// A command with its output redirected by the shell.
fn into<'f>(farm: &'f Farm, args: &[&str], redirect: &str) -> Done<'f> {
    let script = format!("exec \"$@\" {redirect}");
    farm.pytf(args).under(["sh", "-c", &script, "sh"]).run()
}

#[test]
fn output_that_cannot_be_written_is_told_by_the_status() {
    let farm = Farm::of("echo hello\nexit 3\n");
    farm.farm("").run().exits(1);
    for args in [
        &["--help"][..],
        &["--version"],
        &["status", "w"],
        &["status", "w", "--json"],
        &["log", "w", "0"],
        &["export", "w", "--jsonl"],
        &["timeline", "w", "-o", "-"],
        &["report", "w", "-o", "-"],
        &["devices"],
        &["repair", "--check", "w"],
        &["retry", "w"],
    ] {
        into(&farm, args, ">/dev/full")
            .exits(74)
            .says(&["No space left"]);
        into(&farm, args, ">&- 2>&-").exits(0);
    }
}
