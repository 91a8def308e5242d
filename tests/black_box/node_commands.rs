//! `--node-setup` and `--node-teardown`: before the first task of a process, and after its last.

use nix::sys::signal::Signal;

use crate::harness::{Farm, tasks, until};

/// `pytf tasks.txt` with these commands, and these options.
fn args(setup: &str, teardown: &str, more: &str) -> Vec<String> {
    let args = format!("tasks.txt --workdir w --proc 2 --grace 1 {more}");
    let args = args.split_whitespace().map(str::to_owned);
    let commands = [("--node-setup", setup), ("--node-teardown", teardown)];
    let commands = commands
        .into_iter()
        .filter(|(_, command)| !command.is_empty());
    let commands = commands.flat_map(|(name, command)| [name.to_owned(), command.to_owned()]);
    args.chain(commands).collect()
}

/// The logs of a kind: their texts.
fn logs(farm: &Farm, word: &str) -> Vec<String> {
    let entries = std::fs::read_dir(farm.path("w/logs")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name.starts_with(&format!("{word}_")));
    names
        .map(|name| farm.text(format!("w/logs/{name}")))
        .collect()
}

/// Once in each process; tasks find what the setup has made, and the teardown comes when all
/// of them have ended.
#[test]
fn each_process_runs_both_once_around_its_tasks() {
    let farm = Farm::of(tasks(40, |_| "[ -e ready ] && [ ! -e over ]".into()));
    let setup = "echo up $PYTF_NODE; echo ${PYTF_NODE_SETUP-no} >&2; touch ready; echo s >> all";
    let teardown = "[ $(wc -l < w/finished) = 40 ] && touch over; echo t >> all";
    let run = farm
        .pytf(args("", teardown, ""))
        .env("PYTF_NODE_SETUP", setup);
    run.run().exits(0);
    assert_eq!(farm.text("all"), "s\nt\n");
    assert!(farm.path("over").exists(), "the results were on record");
    let node = nix::unistd::gethostname().unwrap();
    assert_eq!(
        logs(&farm, "setup"),
        [format!("up {}\nno\n", node.display())]
    );
    assert_eq!(logs(&farm, "teardown"), [""]);
    // Several processes, with names of their own.
    let both = [(); 3].map(|()| farm.pytf(args(setup, teardown, "")).start());
    for pytf in both {
        pytf.wait().leaves(0);
    }
    let all = farm.text("all");
    assert_eq!((all.matches('s').count(), all.matches('t').count()), (4, 4));
    assert_eq!(
        (logs(&farm, "setup").len(), logs(&farm, "teardown").len()),
        (4, 4)
    );
}

/// A node without what tasks need must not fail them: it claims none, and says why.
#[test]
fn a_process_whose_setup_fails_claims_nothing() {
    for (setup, words) in [
        ("echo no disk >&2; exit 3", "ended with exit status 3"),
        ("kill -9 $$", "was killed by SIGKILL"),
        ("echo no disk; sleep 1000", "was stopped before its end"),
    ] {
        let farm = Farm::of("touch ran\n");
        let limit = if setup.contains("sleep") {
            "--node-timeout 500ms"
        } else {
            ""
        };
        let done = farm
            .pytf(args(setup, "touch cleaned", limit))
            .run()
            .exits(69);
        let text = format!("the command of --node-setup {words} on ");
        assert!(done.stderr.contains(&text), "{}", done.stderr);
        if setup.contains("echo") {
            assert!(done.stderr.contains("| no disk"), "{}", done.stderr);
        }
        assert!(!farm.path("ran").exists());
        assert!(farm.path("cleaned").exists());
        assert_eq!(farm.headers().len(), 0, "it was never a farmer");
        // Others work on the run.
        farm.farm("").run().exits(0);
        farm.assert_exact(1, &[0], &[]);
    }
}

/// The setup is not waited for, and the run can be resumed.
#[test]
fn a_signal_during_the_setup_ends_it() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", "touch ran\n");
    let setup = format!("trap '' TERM; {}; sleep 1000", gate.tell("1 $$"));
    let pytf = farm.pytf(args(&setup, "touch cleaned", "")).start();
    gate.comer();
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    assert!(!farm.path("ran").exists());
    assert!(farm.path("cleaned").exists());
    let timed = args("sleep 1000", "", "--timeout 1s");
    farm.pytf(timed).run().exits(75);
}

/// A signal stops the tasks; the teardown is run all the same, but does not hold us up.
#[test]
fn the_teardown_is_run_after_a_signal_within_the_grace_period() {
    for teardown in ["touch cleaned", "trap '' TERM; touch cleaned; sleep 1000"] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        farm.write("tasks.txt", format!("{}\n", gate.stand()));
        let pytf = farm.pytf(args("", teardown, "")).start();
        gate.comer();
        pytf.signal(Signal::SIGTERM);
        // Schedulers repeat it: that is no reason to end the teardown.
        until("it runs", || farm.path("cleaned").exists());
        pytf.signal(Signal::SIGTERM);
        let done = pytf.wait().exits(75);
        let is_reported = done
            .stderr
            .contains("--node-teardown was stopped before its end");
        assert_eq!(is_reported, teardown.contains("sleep"), "{}", done.stderr);
    }
}

/// What it does not achieve changes neither results nor the status.
#[test]
fn a_teardown_that_fails_is_reported() {
    let farm = Farm::of("true\n");
    let done = farm
        .pytf(args("", "echo left over; exit 4", "--quiet"))
        .run()
        .exits(0);
    let words = "the command of --node-teardown ended with exit status 4 on ";
    assert!(done.stderr.contains(words), "{}", done.stderr);
    assert!(done.stderr.contains("| left over"), "{}", done.stderr);
    // Nothing was started: there is nothing to be cleaned up.
    farm.write("bad.txt", "#PYTF no such word\n");
    farm.pytf(["bad.txt", "--node-teardown", "touch cleaned"])
        .run()
        .exits(2);
    assert!(!farm.path("cleaned").exists());
}
