//! Endings: signals, limits, and tasks that do not want to end.

use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::harness::{Farm, Gate, is_alive, pause, state, tasks, until};

/// Every signal that a batch system, a terminal or a limit sends.
const STOPS: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGXCPU,
    Signal::SIGALRM,
];

/// A farm with two slots: tasks 0 and 1 are `line` and then stand at the gate,
/// 2 and 3 are only true.
fn two_at_the_gate(line: &str) -> (Farm, Gate) {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let stand = gate.stand();
    farm.write(
        "tasks.txt",
        format!("{line}{stand}\n{line}{stand}\ntrue\ntrue\n"),
    );
    (farm, gate)
}

#[test]
fn every_stop_signal_puts_what_ran_back_and_the_next_run_completes() {
    for signal in STOPS {
        eprintln!("{signal}");
        let (farm, gate) = two_at_the_gate("");
        let pytf = farm.farm("").start();
        gate.comers(2);
        pytf.signal(signal);
        pytf.wait().exits(75).says(&[signal.as_str()]);
        farm.assert_exact(4, &[], &[]);
        assert!(
            farm.outcomes()
                .values()
                .all(|outcome| outcome == "interrupted"),
            "{:?}",
            farm.outcomes()
        );

        gate.open(2);
        farm.farm("")
            .run()
            .exits(0)
            .says(&["2 were interrupted and will run again", "4 to go"]);
        farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    }
}

#[test]
fn a_task_may_use_the_grace_to_end_well_even_when_term_comes_three_times() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let handler = format!(
        "trap '' TERM; {}; {}; echo clean > clean; exit 0",
        gate.tell("term"),
        gate.pass()
    );
    farm.write(
        "tasks.txt",
        format!(
            // Not `read -t`: its alarm would also end a handler that runs within it.
            "trap '{}' TERM; {}; while :; do sleep 0.1; done\ntrue\n",
            handler.replace("''", "\"\""),
            gate.tell("here"),
        ),
    );
    let pytf = farm.farm("--proc 1 --grace 10m").start();
    assert_eq!(gate.hear(), "here");
    pytf.signal(Signal::SIGTERM);
    assert_eq!(gate.hear(), "term");
    for _ in 0..2 {
        pytf.signal(Signal::SIGCONT);
        pytf.signal(Signal::SIGTERM);
    }
    // A farmer that took the repetition for impatience would kill now.
    pause(Duration::from_millis(300));
    gate.open(1);
    pytf.wait().exits(75);
    assert_eq!(farm.text("clean"), "clean\n");
    assert!(
        !farm.ids("failed").contains(&0),
        "a task that we stopped has not failed"
    );
}

#[test]
fn a_task_that_ignores_term_is_killed_after_the_grace() {
    let (farm, gate) = two_at_the_gate("trap '' TERM INT HUP; ");
    let pytf = farm.farm("--grace 200ms").start();
    gate.comers(2);
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    farm.assert_exact(4, &[], &[]);
    assert!(
        farm.outcomes()
            .values()
            .all(|outcome| outcome == "interrupted")
    );
}

#[test]
fn a_second_ctrl_c_is_impatience() {
    let (farm, gate) = two_at_the_gate("trap '' TERM INT; ");
    let mut pytf = farm.farm("--grace 1h").start();
    gate.comers(2);
    pytf.signal(Signal::SIGINT);
    // How long after the first a second one counts is pytf's affair: whoever
    // is impatient presses the keys again.
    until("pytf has given in", || {
        pause(Duration::from_millis(150));
        pytf.child.try_wait().unwrap().is_some() || {
            let _ = kill(Pid::from_raw(pytf.pid()), Signal::SIGINT);
            false
        }
    });
    pytf.wait().exits(130);
    farm.assert_exact(4, &[], &[]);
    gate.open(2);
    farm.farm("").run().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
}

#[test]
fn children_of_a_task_end_with_it() {
    for line in [
        "sleep 1000 & sleep 1000 & ",
        "(sleep 1000 & sleep 1000 &) ; ",
        "setsid sleep 1000 & ",
        "setsid sh -c '(setsid sleep 1000 &) ; sleep 1000' & ",
        "(trap '' TERM HUP; exec setsid -f sh -c 'trap \"\" TERM; sleep 1000; sleep 1000'); ",
        "exec 3>&1; (exec <&- >&- 2>&-; exec setsid -f sleep 1000); ",
        "(true & exec sleep 1000) & ",
    ] {
        eprintln!("{line}");
        let (farm, gate) = two_at_the_gate(line);
        let pytf = farm.farm("--grace 1s").start();
        gate.comers(2);
        until("the children are there", || {
            farm.survivors()
                .iter()
                .filter(|p| p.contains("sleep"))
                .count()
                >= 2
        });
        pytf.signal(Signal::SIGTERM);
        pytf.wait().exits(75);
        farm.assert_exact(4, &[], &[]);
    }
}

#[test]
fn a_daemon_without_any_mark_ends_with_an_orderly_run() {
    // No group, no session, no environment: only being our descendant is left.
    let daemon =
        "env -i setsid -f /bin/sh -c 'echo $$ > daemon.new; mv daemon.new daemon; exec sleep 1000'";
    for (tail, code) in [("true", 0), ("exit 3", 1), ("sleep 1000", 75)] {
        eprintln!("{tail}");
        let farm = Farm::of(format!(
            "{daemon}; until [ -e daemon ]; do :; done; {tail}\n"
        ));
        let pytf = farm.farm("--grace 1s").start();
        until("the daemon is there", || !farm.text("daemon").is_empty());
        if code == 75 {
            pytf.signal(Signal::SIGTERM);
        }
        pytf.wait().exits(code);
        let daemon = farm.text("daemon").trim().parse().unwrap();
        assert!(!is_alive(daemon), "{daemon} is alive");
    }
}

#[test]
fn what_a_task_leaves_behind_ends_with_the_run_and_does_not_hold_it_up() {
    let farm = Farm::of(
        "sleep 1000 & exit 0\nsetsid -f sleep 1000\nsetsid -f sh -c 'setsid -f sleep 1000; sleep 1000'; exit 3\n\
         (trap '' TERM HUP INT; sleep 1000) & true\n",
    );
    farm.farm("--grace 1s").run().exits(1);
    farm.assert_exact(4, &[0, 1, 3], &[2]);
}

#[test]
fn a_background_child_does_not_live_into_the_next_task_of_the_slot() {
    // It is killed before; on a busy machine that takes a moment to come true.
    let lives = "grep -q '^State:.[^ZX]' /proc/$(cat child)/status";
    let farm = Farm::of(format!(
        "sleep 1000 & echo $! > child\nwhile {lives}; do sleep 0.01; done\n"
    ));
    farm.farm("--proc 1").run().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
}

#[test]
fn a_task_that_stopped_itself_can_be_ended() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!(
            "{}; kill -STOP $$; true\ntrue\n",
            gate.tell("$PYTF_TASK_ID $$")
        ),
    );
    // Only CONT after TERM can do it: the grace never ends.
    let pytf = farm.farm("--proc 1 --grace 1h").start();
    let (_, pid) = gate.comer();
    until("the task is stopped", || state(pid) == Some('T'));
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    farm.assert_exact(2, &[], &[]);
}

#[test]
fn a_task_that_closed_its_stdio_and_one_that_floods_its_log_are_ended() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!(
            "exec <&- >&- 2>&-; {}\n{}; exec yes\n",
            gate.stand(),
            gate.tell("$PYTF_TASK_ID $$")
        ),
    );
    let pytf = farm.farm("").start();
    gate.comers(2);
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    farm.assert_exact(2, &[], &[]);
}

#[test]
fn a_task_full_of_zombies_is_ended() {
    // The shell becomes `sleep`, which never waits for the children it has.
    let (farm, gate) = two_at_the_gate("for i in 1 2 3 4 5 6 7 8; do true & done; ");
    farm.write(
        "tasks.txt",
        format!(
            "for i in 1 2 3 4; do true & done; {}; exec sleep 1000\ntrue\n",
            gate.tell("$PYTF_TASK_ID $$")
        ),
    );
    let pytf = farm.farm("--proc 1").start();
    let (_, pid) = gate.comer();
    until("the task has become sleep", || {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
    });
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
}

#[test]
fn a_task_that_dies_with_the_signal_for_us_was_interrupted() {
    // PBS signals the tasks too, and they die before we are told.
    let (farm, gate) = two_at_the_gate("");
    let pytf = farm.farm("").start();
    let comers = gate.comers(2);
    for &(_, pid) in &comers {
        killpg(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    }
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    assert_eq!(farm.ids("failed"), [0; 0]);
    for (id, _) in comers {
        assert_eq!(farm.outcomes()[&id], "interrupted");
    }
}

#[test]
fn a_task_that_dies_with_the_signal_for_us_was_interrupted_however_long_others_take() {
    // proctrack/linuxproc of Slurm signals the tasks too; some ignore it, and
    // need all of the grace.
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let stubborn = format!("trap '' TERM; {}", gate.stand());
    farm.write("tasks.txt", format!("{}\n{stubborn}\n", gate.stand()));
    let pytf = farm.farm("--proc 2 --grace 3s").start();
    for (_, pid) in gate.comers(2) {
        killpg(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    }
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    assert_eq!(farm.ids("failed"), [0; 0]);
    for id in [0, 1] {
        assert_eq!(farm.outcomes()[&id], "interrupted");
    }
}

#[test]
fn a_task_that_dies_of_a_signal_while_nobody_stops_us_has_failed() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\ntrue\n", gate.stand()));
    let pytf = farm.farm("--proc 1").start();
    let (_, pid) = gate.comer();
    killpg(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    pytf.wait().exits(1);
    farm.assert_exact(2, &[1], &[0]);
    assert_eq!(farm.outcomes()[&0], "signal 15");
}

#[test]
fn a_task_over_its_time_limit_fails_as_such_whatever_it_says() {
    let farm = Farm::of(
        "sleep 1000\ntrap 'exit 0' TERM; sleep 1000 & wait\ntrap '' TERM; sleep 1000; sleep 1000\n\
         setsid sleep 1000 & sleep 1000\nkill -STOP $$\nyes\ntrue\n",
    );
    farm.farm("--task-timeout 1 --grace 200ms --proc 6")
        .run()
        .exits(1);
    farm.assert_exact(7, &[6], &[0, 1, 2, 3, 4, 5]);
    for id in 0..6 {
        assert_eq!(farm.outcomes()[&id], "time-limit", "task {id}");
    }
}

#[test]
fn the_farms_time_limit_stops_it_with_work_left() {
    let farm = Farm::of("true\nsleep 1000\nsleep 1000\nsleep 1000\n");
    farm.farm("--timeout 2 --grace 200ms").run().exits(75);
    farm.assert_exact(4, &[0], &[]);
    assert_eq!(farm.outcomes()[&1], "interrupted");
}

#[test]
fn a_signal_at_any_early_moment_leaves_a_workdir_that_resumes() {
    let farm = Farm::of(tasks(20, |_| "echo $PYTF_TASK_ID >> ran".into()));
    for moment in 0..15 {
        let pytf = farm.farm("").start();
        pause(Duration::from_micros(moment * 700));
        pytf.signal(STOPS[usize::try_from(moment).unwrap() % 7]);
        let done = pytf.wait();
        // Before its handlers are in place the signal is as deadly as to any program.
        let code = done.status.code();
        assert!(
            code.is_none() || code == Some(75) || code == Some(0),
            "{:?}",
            done.status
        );
        assert_eq!(farm.survivors(), [""; 0]);
    }
    farm.farm("").run().exits(0);
    farm.assert_exact(20, &(0..20).collect::<Vec<_>>(), &[]);
}

#[test]
fn when_pytf_is_killed_its_tasks_are_too_wherever_they_fled() {
    for line in [
        "",
        "sleep 1000 & ",
        "trap '' TERM; ",
        "setsid sleep 1000 & ",
        "setsid -f sh -c 'setsid -f sleep 1000; sleep 1000'; ",
    ] {
        eprintln!("{line}");
        let (farm, gate) = two_at_the_gate(line);
        let pytf = farm.farm("").start();
        gate.comers(2);
        let old = farm.survivors();
        assert!(old.len() >= 2);
        pytf.signal(Signal::SIGKILL);
        assert_eq!(pytf.wait().status.code(), None);

        // The next run starts nothing before the last one's tasks are dead.
        let pytf = farm.farm("").start();
        gate.comers(2);
        let now = farm.survivors();
        assert!(
            !now.iter().any(|process| old.contains(process)),
            "{now:?} still has one of {old:?}"
        );
        gate.open(2);
        pytf.wait().exits(0);
        farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    }
}

#[test]
fn a_killed_farmer_leaves_no_task_behind_even_when_nobody_comes_after() {
    for line in [
        "",
        "trap '' TERM HUP; sleep 1000 & ",
        "setsid -f sleep 1000; ",
    ] {
        eprintln!("{line}");
        let (farm, gate) = two_at_the_gate(line);
        let pytf = farm.farm("").start();
        gate.comers(2);
        pytf.signal(Signal::SIGKILL);
        pytf.wait();
        until("the tasks of the killed farmer are dead", || {
            farm.survivors().is_empty()
        });
    }
}

#[test]
fn a_task_that_ends_at_its_limit_is_either_finished_or_over_it_and_never_both() {
    let farm = Farm::of(tasks(120, |_| "sleep 0.2".into()));
    let done = farm
        .farm("--proc 8 --task-timeout 200ms --grace 200ms")
        .run();
    assert!(matches!(done.status.code(), Some(0 | 1)));
    assert_eq!(farm.ends().len(), 120);
    for (id, outcome) in farm.outcomes() {
        let file = match outcome.as_str() {
            "exit 0" => "finished",
            "time-limit" => "failed",
            other => panic!("task {id}: {other}"),
        };
        assert!(farm.ids(file).contains(&id), "task {id}: {outcome}");
    }
    let files = farm.ids("finished").len() + farm.ids("failed").len();
    assert_eq!((files, farm.ids("toprocess").len()), (120, 0));
}

#[test]
fn signals_that_pytf_was_started_without_do_not_make_it_hang() {
    // As from a parent that ignores SIGCHLD, under nohup, and with signals blocked.
    let block = "import os, signal, sys\n\
                 signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n\
                 os.execv(sys.argv[1], sys.argv[1:])";
    let wrappers: [&[&str]; 3] = [
        &["env", "--ignore-signal=CHLD"],
        &["env", "--ignore-signal=HUP"],
        &["python3", "-c", block],
    ];
    for wrapper in wrappers {
        eprintln!("{wrapper:?}");
        let (farm, gate) = two_at_the_gate("");
        farm.write("tasks.txt", format!("exit 3\n{}", farm.text("tasks.txt")));
        let pytf = farm.farm("--grace 2s").under(wrapper).start();
        gate.comers(2);
        // What fails just before the signal counts as interrupted.
        until("the failure is the task's own", || {
            pytf.stderr().contains("exit status 3")
        });
        pytf.signal(Signal::SIGTERM);
        pytf.wait().exits(75);
        farm.assert_exact(5, &[], &[0]);
        gate.open(2);
        farm.farm("").under(wrapper).run().exits(1);
        farm.assert_exact(5, &[1, 2, 3, 4], &[0]);
    }
}

#[test]
fn tasks_have_no_signal_blocked_whatever_pytf_was_started_with() {
    let block = "import os, signal, sys\n\
                 signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})\n\
                 os.execv(sys.argv[1], sys.argv[1:])";
    let farm = Farm::of("grep SigBlk /proc/self/status\n");
    farm.farm("").under(["python3", "-c", block]).run().exits(0);
    assert_eq!(farm.text("w/logs/log_0"), "SigBlk:\t0000000000000000\n");
}

#[test]
fn tasks_ignore_what_pytf_was_told_to_ignore_but_what_a_background_shell_ignores() {
    // Bits of HUP and WINCH; with them that of 37, which has no name.
    for (more, mask) in [("WINCH", 0x800_0001), ("WINCH,37", 0x10_0800_0001)] {
        let farm = Farm::of("grep SigIgn /proc/self/status\n");
        let wrapper = ["env", &format!("--ignore-signal=HUP,INT,QUIT,PIPE,{more}")];
        farm.farm("").under(wrapper).run().exits(0);
        let log = farm.text("w/logs/log_0");
        let ignored = log.trim().strip_prefix("SigIgn:\t").expect(&log);
        let ignored = u64::from_str_radix(ignored, 16).expect(&log);
        // 32 and 33 are the C library's own, and its posix_spawn ignores them.
        assert_eq!(ignored & !(3 << 31), mask, "{log}");
    }
}

/// The guard of a farmer. It is nobody's child, but says whose it is.
fn guard_of(pytf: i32) -> Pid {
    let mark = format!(".{pytf}.");
    let guard = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .find_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let is_it = line.contains("__guard") && line.contains(&mark);
            is_it.then(|| entry.file_name().to_str()?.parse().ok())?
        });
    Pid::from_raw(guard.expect("a guard"))
}

#[test]
fn where_the_guard_was_killed_too_the_next_run_ends_what_still_runs() {
    let (farm, gate) = two_at_the_gate("");
    let pytf = farm.farm("").start();
    let first = [gate.comer().1, gate.comer().1];
    kill(guard_of(pytf.pid()), Signal::SIGKILL).unwrap();
    pytf.signal(Signal::SIGKILL);
    pytf.wait();
    assert!(first.iter().all(|pid| is_alive(*pid)), "nobody ended them");
    let pytf = farm.farm("").start();
    let again = [gate.comer().1, gate.comer().1];
    assert!(
        first
            .iter()
            .all(|pid| !is_alive(*pid) && !again.contains(pid))
    );
    gate.open(2);
    pytf.wait().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
}

#[test]
fn the_guard_is_no_descendant_of_ours() {
    // Whoever ends all our descendants, as proctrack/linuxproc of Slurm does,
    // leaves it alive to end what was started meanwhile.
    let (farm, gate) = two_at_the_gate("");
    let pytf = farm.farm("").start();
    gate.comers(2);
    let status = std::fs::read_to_string(format!("/proc/{}/status", guard_of(pytf.pid()))).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    assert_ne!(parent, Some(pytf.pid().to_string().as_str()));
    gate.open(2);
    pytf.wait().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
}

#[test]
fn losing_the_guard_does_not_end_the_run() {
    let (farm, gate) = two_at_the_gate("");
    let pytf = farm.farm("").start();
    gate.comers(2);
    kill(guard_of(pytf.pid()), Signal::SIGKILL).unwrap();
    gate.open(2);
    pytf.wait().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
}
