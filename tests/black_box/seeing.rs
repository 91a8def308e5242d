//! What a person sees while a farm runs.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Done, Farm, has, skip, until};

/// Two tasks that wait and one that fails, on a terminal of 80 columns; what
/// it showed.
fn on_a_terminal(env: &[(&str, &str)], shown: &str) -> Option<String> {
    if !has("script") {
        skip("there is no script(1) to make a terminal");
        return None;
    }
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let stand = gate.stand();
    farm.write("tasks.txt", format!("{stand}\n{stand}\nexit 3\n"));
    let script = r#"exec script -qec "stty cols 80 rows 24; exec $*" /dev/null"#;
    let mut pytf = farm
        .farm("--proc 3")
        .under(["sh", "-c", script, "sh"])
        .env("TERM", "xterm")
        .env("NO_COLOR", "1");
    for (name, value) in env {
        pytf = pytf.env(name, value);
    }
    let pytf = pytf.start();
    until("it is to be seen", || farm.text(".out0").contains(shown));
    gate.open(2);
    let done: Done = pytf.wait();
    done.exits(1);
    Some(farm.text(".out0"))
}

#[test]
fn a_bar_tells_the_truth_from_the_first_stroke_and_goes_away() {
    let Some(seen) = on_a_terminal(&[], "2 running") else {
        return;
    };
    let (opening, seen) = seen.split_once("\r\n").unwrap();
    assert!(opening.starts_with("pytf: 3 tasks; 3 slots"), "{opening:?}");
    assert!(seen.starts_with("0/3 "), "{seen:?}");
    assert!(!seen.contains('?'), "{seen:?}");
    let failure = "\r\x1b[2Kpytf: task 2: exit status 3 [logs/log_2]: exit 3\r\n";
    assert!(seen.contains(failure), "{seen:?}");
    // Nothing of the bar is left where the summary stands.
    let (_, summary) = seen.rsplit_once("\r\x1b[2K").unwrap();
    assert!(
        summary.starts_with("failed: 1 of 3 tasks failed\r\n"),
        "{seen:?}"
    );
}

/// A line about a task takes the place of the bar, and is one line.
#[test]
fn lines_about_tasks_stand_above_the_bar() {
    let env = [("PYTF_LOG_TASKS", "1")];
    let Some(seen) = on_a_terminal(&env, "2 running") else {
        return;
    };
    for words in [
        "task 2 failed on",
        "task 0 finished on",
        "task 1 finished on",
    ] {
        let mut lines = seen.split("\r\n");
        let line = lines.find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("no {words:?} in {seen:?}"));
        let shown = line.rsplit_once("\x1b[2K").map_or(line, |(_, shown)| shown);
        assert!(
            shown.starts_with("pytf: 20") && shown.chars().count() <= 80,
            "{line:?}"
        );
    }
}

#[test]
fn there_is_no_bar_in_a_step_whatever_the_terminal_looks_like() {
    let env = [("SLURM_JOB_ID", "1"), ("SLURM_STEP_ID", "0")];
    let Some(seen) = on_a_terminal(&env, "exit status 3") else {
        return;
    };
    assert!(!seen.contains("\x1b[2K"), "{seen:?}");
    let failure = "pytf: task 2: exit status 3 [logs/log_2]: exit 3\r\n";
    assert!(seen.contains(failure), "{seen:?}");
}

#[test]
fn a_line_at_the_start_says_what_is_to_do_with_what_and_where() {
    let farm = Farm::of("true\ntrue\ntrue\n");
    let done = farm.farm("--proc 2 --timeout 2h").run().exits(0);
    let opening = "pytf: 3 tasks; 2 slots, as requested; workdir w; stops after 2h00m\n";
    assert_eq!(done.stderr, opening);
    let told = String::from_utf8(done.stdout).unwrap();
    assert!(told.starts_with("ok: all 3 tasks finished\n"), "{told}");
    let output = "  pytf log w ID  what a task printed: w/logs/log_ID\n";
    assert!(told.ends_with(output), "{told}");
    farm.pytf(["tasks.txt", "-w", "w", "--cpus-per-task", "1"])
        .run()
        .exits(0)
        .says(&["3 finished, 0 failed", "of 1 CPUs; workdir w"]);
    // Where nothing is kept, nobody is sent to look for it.
    let farm = Farm::of("true\n");
    let done = farm.farm("--logs none").run().exits(0);
    let told = String::from_utf8(done.stdout).unwrap();
    assert!(!told.contains("pytf log"), "{told}");
}

#[test]
fn each_signal_is_answered_with_what_happens_next() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!("trap '' TERM; {}; {}\n", gate.stand(), gate.pass()),
    );
    let pytf = farm.farm("--grace 1h").start();
    gate.comer();
    pytf.signal(Signal::SIGINT);
    let says = |word: &str| until(word, || pytf.stderr().contains(word));
    // How long it has yet depends on when this is said.
    says("pytf: SIGINT: nothing more is started; 1 running task has ");
    says(" to end, then it is killed");
    says("Ctrl-C again kills at once");
    pytf.signal(Signal::SIGTERM);
    says("pytf: SIGTERM: stopping already; 1 running task has ");
    // A second Ctrl-C within a moment is the same key press.
    let mut tries = 0;
    until("the second Ctrl-C is one", || {
        tries += 1;
        if tries % 50 == 0 && crate::harness::is_alive(pytf.pid()) {
            pytf.signal(Signal::SIGINT);
        }
        pytf.stderr()
            .contains("pytf: SIGINT: 1 running task is killed at once, and will run again")
    });
    pytf.wait().leaves(130);
    // Who wants no words gets none.
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", gate.stand() + "\n");
    let pytf = farm.farm("--quiet").start();
    gate.comer();
    pytf.signal(Signal::SIGTERM);
    let done = pytf.wait().exits(75);
    assert_eq!((done.stdout.len(), &*done.stderr), (0, ""));
}

#[test]
fn tasks_that_end_as_soon_as_they_are_asked_to_are_counted() {
    if !has("strace") {
        return skip("no strace here");
    }
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let line = format!("{}; {}\n", gate.tell("$PYTF_TASK_ID $PPID"), gate.pass());
    farm.write("tasks.txt", line);
    // It comes back from its kill when the task is long gone.
    let late = "inject=kill,pidfd_send_signal:delay_exit=300000";
    let pytf = farm.farm("--proc 1").injected(late, None).start();
    let (_, farmer) = gate.comer();
    until("the farmer knows that it runs", || {
        !farm.records("start").is_empty()
    });
    kill(Pid::from_raw(farmer), Signal::SIGTERM).unwrap();
    pytf.wait()
        .exits(75)
        .says(&["SIGTERM: nothing more is started; 1 running task has "]);
}

#[test]
fn a_quiet_run_tells_what_failed() {
    let farm = Farm::of("true\nexit 7\n");
    let done = farm.farm("--quiet").run().exits(1);
    assert_eq!(
        done.stderr,
        "pytf: task 1: exit status 7 [logs/log_1]: exit 7\n"
    );
    assert!(done.stdout.is_empty());
}

#[test]
fn failures_of_one_cause_are_told_once() {
    let farm = Farm::of("exit 3\n".repeat(7) + "exit 4\n");
    let done = farm.farm("").run().exits(1);
    let told = String::from_utf8(done.stdout).unwrap();
    assert_eq!(told.matches("exit status 3").count(), 1, "{told}");
    assert!(told.contains("task 0 and 6 more  exit status 3"), "{told}");
    assert!(told.contains("task 7  exit status 4"), "{told}");
}

#[test]
fn nobody_is_sent_to_a_log_that_is_not_kept() {
    for (logs, is_kept) in [("none", false), ("failed", true), ("packed", true)] {
        let farm = Farm::of("true\necho why; exit 3\n");
        let done = farm.farm(&format!("--logs {logs}")).run().exits(1);
        let told = String::from_utf8(done.stdout).unwrap();
        assert!(told.contains("pytf retry w"), "{told}");
        assert_eq!(
            told.contains("pytf log w 1"),
            is_kept,
            "--logs {logs}: {told}"
        );
        if is_kept {
            farm.pytf(["log", "w", "1"]).run().exits(0).says(&["why\n"]);
        }
    }
}

#[test]
fn to_go_on_is_called_the_same_everywhere() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("exit 3\n{}\n", gate.stand()));
    let pytf = farm.farm("").start();
    gate.comer();
    until("the other has failed", || farm.ids("failed") == [0]);
    pytf.signal(Signal::SIGTERM);
    let summary = pytf.wait().exits(75);
    let said = |args: &[&str]| farm.pytf(args).run().exits(0);
    for done in [summary, said(&["status", "w"]), said(&["retry", "w"])] {
        let text = String::from_utf8(done.stdout).unwrap() + &done.stderr;
        assert!(text.contains("run the same command again"), "{text}");
        assert!(!text.contains("same line"), "{text}");
    }
    let help = String::from_utf8(said(&["--help"]).stdout).unwrap();
    assert!(
        help.contains("same command again") && !help.contains("same line"),
        "{help}"
    );
}

#[test]
fn what_the_system_refuses_is_told_in_words_without_its_number() {
    let farm = Farm::of("true\nfalse\n");
    farm.farm("").run().exits(1);
    // A lock that cannot be read is told by whatever only looks, as well.
    let copy = "umask 077 && cp -r w broken && rm broken/lock && mkdir broken/lock";
    let mut sh = std::process::Command::new("sh");
    let done = sh.args(["-c", copy]).current_dir(farm.path("")).status();
    assert!(done.unwrap().success());
    let gone = "No such file or directory";
    for (line, status, words) in [
        ("nolist", 2, gone),
        ("tasks.txt -w /proc/no/w", 74, gone),
        ("repair w nolist", 2, gone),
        ("report w -o no/page.html", 74, gone),
        ("timeline w -o no/trace.json", 74, gone),
        ("export w --csv -o no/all.csv", 74, gone),
        ("status broken", 0, "directory"),
        ("status broken --json", 0, "directory"),
        ("tasks.txt -w broken", 74, "directory"),
        ("retry broken", 74, "directory"),
        ("repair --check broken", 74, "directory"),
    ] {
        let done = farm.pytf(line.split(' ')).run().exits(status);
        let done = done.says(&[words]);
        let told = String::from_utf8(done.stdout).unwrap() + &done.stderr;
        assert!(!told.contains("os error"), "pytf {line}: {told}");
    }
}
