//! Running a task list: what a task finds around it, how it becomes a process,
//! and what pytf tells.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Done, Farm, has, skip, tasks, until};
#[test]
fn a_list_runs_to_its_end() {
    let farm = Farm::of(tasks(5, |id| format!("echo task {id}")));
    farm.farm("").run().exits(0);
    farm.assert_exact(5, &[0, 1, 2, 3, 4], &[]);
    assert_eq!(farm.text("w/logs/log_3"), "task 3\n");
    assert!(
        farm.lines("finished")
            .contains(&(4, b"echo task 4".to_vec()))
    );
}

#[test]
fn a_task_knows_who_it_is() {
    let farm = Farm::of("# a comment\ntrue\nenv\nenv; true\n");
    farm.farm("--proc 1").run().exits(0);
    let farmer = farm.farmers();
    assert_eq!(farmer.len(), 1);
    for id in ["1", "2"] {
        let env = farm.text(format!("w/logs/log_{id}"));
        let is =
            |line: String| assert!(env.lines().any(|have| have == line), "no {line} in\n{env}");
        is(format!("PYTF_TASK_ID={id}"));
        is(format!("PROC_NUMBER={id}"));
        is("PYTF_ATTEMPT=1".into());
        is("PYTF_SLOT=0".into());
        is(format!("PYTF_FARMER={}", farmer[0]));
        is(format!("PYTF_WORKDIR={}", farm.path("w").display()));
        is(format!(
            "PYTF_NODE={}",
            nix::unistd::gethostname().unwrap().display()
        ));
        is(format!(
            "HOME={}",
            farm.path("").display().to_string().trim_end_matches('/')
        ));
    }
}

#[test]
fn slots_are_numbered_below_the_number_of_processes() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        tasks(3, |_| {
            format!("{}; {}", gate.tell("$PYTF_SLOT"), gate.pass())
        }),
    );
    let pytf = farm.farm("--proc 3").start();
    let mut slots = [gate.hear(), gate.hear(), gate.hear()];
    slots.sort();
    assert_eq!(slots, ["0", "1", "2"]);
    gate.open(3);
    pytf.wait().exits(0);
}

#[test]
fn as_many_tasks_run_at_a_time_as_there_are_processes_and_never_more() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        tasks(8, |_| {
            format!("echo start >> events; {}; echo end >> events", gate.stand())
        }),
    );
    let pytf = farm.farm("--proc 3").start();
    for _ in 0..3 {
        gate.comer(); // three stand at the gate before any may pass
    }
    for _ in 3..8 {
        gate.open(1);
        gate.comer();
    }
    gate.open(3);
    pytf.wait().exits(0);
    let running = farm
        .text("events")
        .lines()
        .fold((0, 0), |(now, most), event| {
            let now = if event == "start" { now + 1 } else { now - 1 };
            (now, most.max(now))
        });
    assert_eq!(running, (0, 3), "how many run at the end, and at most");
}

#[test]
fn one_slot_takes_the_tasks_in_their_order() {
    let farm = Farm::of(tasks(50, |id| format!("echo {id} >> order")));
    farm.farm("--proc 1").run().exits(0);
    assert_eq!(farm.text("order"), tasks(50, |id| id.to_string()));
}

#[test]
fn a_task_reads_nothing_leads_a_group_and_stands_where_pytf_stood() {
    // The first of each pair runs directly, the second through the shell.
    let farm = Farm::of(
        "readlink /proc/self/fd/0\nreadlink /proc/self/fd/0; true\n\
                         cat /proc/self/stat\ncat /proc/$$/stat; true\n\
                         pwd\npwd; true\n",
    );
    farm.farm("").run().exits(0);
    let log = |id: u32| farm.text(format!("w/logs/log_{id}"));
    for id in [0, 1] {
        assert_eq!(log(id), "/dev/null\n");
    }
    for id in [2, 3] {
        let stat = log(id);
        let fields: Vec<&str> = stat.split(' ').collect();
        assert_eq!(fields[0], fields[4], "its pid is its process group");
    }
    for id in [4, 5] {
        assert_eq!(
            log(id).trim_end(),
            farm.path("").display().to_string().trim_end_matches('/')
        );
    }
}

#[test]
fn a_task_inherits_no_file_of_pytf() {
    // What this test was started with goes through pytf as through any program.
    let mut ls = std::process::Command::new("ls");
    let without = ls
        .arg("/proc/self/fd")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let without = String::from_utf8(without.stdout).unwrap();
    let farm = Farm::of("ls /proc/self/fd\nls /proc/self/fd; true\n");
    farm.farm("").run().exits(0);
    for id in [0, 1] {
        assert_eq!(farm.text(format!("w/logs/log_{id}")), without, "task {id}");
    }
}

#[test]
fn a_task_has_every_signal_at_its_default_and_none_blocked() {
    let farm = Farm::of("cat /proc/self/status\n");
    farm.farm("").run().exits(0);
    let status = farm.text("w/logs/log_0");
    for mask in ["SigBlk", "SigIgn"] {
        let line = status.lines().find(|line| line.starts_with(mask)).unwrap();
        let bits = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // 32 and 33 are the C library's own: its posix_spawn ignores them.
        assert_eq!(bits & !(0b11 << 31), 0, "{line}");
    }
}

#[test]
fn output_and_errors_go_to_one_log_in_their_order() {
    let farm = Farm::of("echo one; echo two >&2; echo three\n");
    farm.farm("").run().exits(0);
    assert_eq!(farm.text("w/logs/log_0"), "one\ntwo\nthree\n");
}

#[test]
fn a_simple_command_runs_directly_and_everything_else_as_in_the_shell() {
    // bash adds SHLVL to the environment of what it runs: its absence shows
    // that there was no shell.
    let farm = Farm::of("env\nenv;true\n");
    farm.farm("").run().exits(0);
    assert!(!farm.text("w/logs/log_0").contains("SHLVL="));
    assert!(farm.text("w/logs/log_1").contains("SHLVL="));

    let lines = [
        ("echo a  b\tc", "a b c\n"),
        ("  echo indented", "indented\n"),
        ("echo 'a  b' \"c  d\" e\\ \\ f", "a  b c  d e  f\n"),
        ("X=1 printenv X", "1\n"),
        ("echo $((6*7))", "42\n"),
        ("echo a && echo b || echo c", "a\nb\n"),
        ("if true; then echo yes; fi", "yes\n"),
        ("for i in 1 2 3; do echo $i; done", "1\n2\n3\n"),
        ("echo ~", "HOME\n"),
        ("cd / && pwd", "/\n"),
        ("echo one | tr a-z A-Z", "ONE\n"),
        ("echo {a,b}", "a b\n"),
        ("echo tasks.t*", "tasks.txt\n"),
        ("echo tasks.t?t", "tasks.txt\n"),
        ("echo a # a comment", "a\n"),
        ("echo a#b", "a#b\n"),
        ("echo a=b --c=d", "a=b --c=d\n"),
        ("[[ abc == a* ]] && echo bash", "bash\n"),
        ("type -t cd", "builtin\n"),
        ("! false && echo not", "not\n"),
        ("( echo sub )", "sub\n"),
        ("{ echo group; }", "group\n"),
        ("echo -n x", "x"),
        ("echo -e 'a\\tb'", "a\tb\n"),
        ("printf '%s\\n' %s a", "%s\na\n"),
        ("cat <<< here", "here\n"),
        ("echo !", "!\n"),
        ("echo ^", "^\n"),
        ("echo %1 @ : , . / + - _", "%1 @ : , . / + - _\n"),
        (": nothing", ""),
        ("test -d /", ""),
        ("time true 2>/dev/null", "\nreal"),
    ];
    let farm = Farm::of(lines.map(|(line, _)| line.to_owned() + "\n").concat());
    farm.farm("").run().exits(0);
    for (id, (line, output)) in lines.into_iter().enumerate() {
        let log = farm.text(format!("w/logs/log_{id}"));
        let output = output.replace(
            "HOME",
            farm.path("").display().to_string().trim_end_matches('/'),
        );
        let same = if line.starts_with("time") {
            log.starts_with(&output)
        } else {
            log == output
        };
        assert!(same, "{line}: {log:?} is not {output:?}");
    }
}

#[test]
fn the_shell_is_bash_unless_another_is_named() {
    let line = "echo ${BASH_VERSION:-none}\n";
    let farm = Farm::of(line);
    farm.farm("").run().exits(0);
    assert_ne!(farm.text("w/logs/log_0"), "none\n");
    if !has("dash") {
        return skip("no dash here");
    }
    for shell in ["dash", "/bin/dash"] {
        if shell.starts_with('/') && !std::path::Path::new(shell).exists() {
            continue;
        }
        let farm = Farm::of(line);
        farm.farm(&format!("--shell {shell}")).run().exits(0);
        assert_eq!(farm.text("w/logs/log_0"), "none\n");
    }
}

#[test]
fn a_shell_that_does_not_exist_is_said_before_anything_starts() {
    let farm = Farm::of("echo $HOME\n");
    let done = farm.farm("--shell /no/such/shell").run();
    assert!(matches!(done.status.code(), Some(2)), "{:?}", done.status);
    assert!(done.stderr.contains("/no/such/shell"));
    assert_eq!(farm.ids("failed"), [0; 0]);
}

/// A task list of programs that cannot be started, with the status that a
/// shell gives and a word that the log must hold. The second half goes
/// through the shell.
#[test]
fn what_cannot_be_started_fails_as_in_a_shell_and_its_log_tells_why() {
    let cases = [
        ("no-such-program-anywhere", 127, "no-such-program-anywhere"),
        ("./no-such-file", 127, "no-such-file"),
        ("./not-executable", 126, "not-executable"),
        ("/", 126, "/"),
        ("./bad-interpreter", 126, "/no/such/interpreter"),
        ("./file/below-a-file", 126, "file"),
    ];
    for tail in ["", "; exit $?"] {
        let farm = Farm::of(cases.map(|(line, ..)| format!("{line}{tail}\n")).concat());
        farm.write("not-executable", "echo never\n");
        farm.write("file", "");
        farm.write("bad-interpreter", "#!/no/such/interpreter\n");
        std::fs::set_permissions(
            farm.path("bad-interpreter"),
            PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        farm.farm("").run().exits(1);
        farm.assert_exact(6, &[], &[0, 1, 2, 3, 4, 5]);
        for (id, (line, status, word)) in (0..).zip(cases) {
            let (outcome, log) = (
                farm.outcomes()[&id].clone(),
                farm.text(format!("w/logs/log_{id}")),
            );
            // dash gives 127 for a bad interpreter, bash 126.
            let ok = [format!("not-started {status}"), format!("exit {status}")].contains(&outcome)
                || line == "./bad-interpreter" && outcome.ends_with("127");
            assert!(ok, "{line}{tail}: {outcome}");
            // Through the shell the words are the shell's.
            let word = if tail.is_empty() { word } else { line };
            assert!(log.contains(word), "{line}{tail}: its log is {log:?}");
            assert!(
                tail.is_empty() == outcome.starts_with("not-started"),
                "{line}{tail}: {outcome}"
            );
        }
    }
}

#[test]
fn a_script_without_a_first_line_runs_as_in_a_shell() {
    let farm = Farm::of("./script a b\n");
    farm.write("script", "echo $# arguments\n");
    std::fs::set_permissions(farm.path("script"), PermissionsExt::from_mode(0o755)).unwrap();
    farm.farm("").run().exits(0);
    assert_eq!(farm.text("w/logs/log_0"), "2 arguments\n");
}

#[test]
fn every_way_to_end_is_told_apart() {
    let farm = Farm::of(
        "true\nfalse\nexit 3\nexit 125\nexit 126\nexit 127\nexit 255\n\
         kill -SEGV $$\nkill -KILL $$\nkill -ABRT $$\nno-such-program\nsleep 1000\n",
    );
    farm.farm("--task-timeout 3 --grace 1 --proc 4")
        .run()
        .exits(1);
    let failed: Vec<u64> = (1..12).collect();
    farm.assert_exact(12, &[0], &failed);
    let outcomes: Vec<String> = farm.outcomes().into_values().collect();
    assert_eq!(
        outcomes,
        [
            "exit 0",
            "exit 1",
            "exit 3",
            "exit 125",
            "exit 126",
            "exit 127",
            "exit 255",
            "signal 11",
            "signal 9",
            "signal 6",
            "not-started 127",
            "time-limit",
        ]
    );
}

#[test]
fn a_failing_task_is_told_at_once() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\nexit 7\n", gate.stand()));
    let pytf = farm.farm("").start();
    gate.comer();
    until("the failure is on stderr while the other task runs", || {
        let told = pytf.stderr();
        told.contains("exit status 7") && told.contains("log_1")
    });
    gate.open(1);
    pytf.wait().exits(1);
}

#[test]
fn the_summary_counts_shows_the_failures_and_says_what_to_do() {
    let farm = Farm::of("true\necho the reason; exit 3\ntrue\n");
    farm.farm("").run().exits(1).says(&[
        "2 finished",
        "1 failed",
        "the reason",
        "exit status 3",
        "pytf retry w",
    ]);
    // An escape in a log must not reach the terminal of whoever reads the summary.
    let farm = Farm::of("printf '\\033]0;owned\\007x\\n'; exit 3\n");
    let done = farm.farm("").run().exits(1);
    let told = [done.stdout, done.stderr.into_bytes()].concat();
    assert!(!told.contains(&0x1b), "control characters are escaped");
}

#[test]
fn a_quiet_run_says_nothing_and_any_other_little() {
    let farm = Farm::of(tasks(300, |_| "true".into()));
    let done = farm.farm("-q").run().exits(0);
    assert_eq!((done.stdout.len(), done.stderr.as_str()), (0, ""));
    let farm = Farm::of(tasks(300, |_| "true".into()));
    let done = farm.farm("").run().exits(0);
    let told = String::from_utf8(done.stdout).unwrap() + &done.stderr;
    assert!(told.len() < 1024, "not a terminal: {} bytes", told.len());
    assert!(
        !told.contains(['\r', '\x1b']),
        "no bar where no terminal is"
    );
}

#[test]
fn several_processes_share_one_workdir_and_each_task_runs_once_by_every_lock() {
    for lock in ["auto", "flock", "fcntl", "link"] {
        eprintln!("{lock}");
        let farm = Farm::of(tasks(200, |_| "echo $PYTF_TASK_ID >> ran".into()));
        let line = format!("--lock {lock}");
        let farmers: Vec<_> = (0..4).map(|_| farm.farm(&line).start()).collect();
        for farmer in farmers {
            farmer.wait().leaves(0);
        }
        let all: Vec<u64> = (0..200).collect();
        farm.assert_exact(200, &all, &[]);
        let ran = farm.text("ran");
        let mut ran: Vec<u64> = ran.lines().map(|id| id.parse().unwrap()).collect();
        ran.sort_unstable();
        assert_eq!(ran, all, "{lock}");
    }
}

#[test]
fn a_lock_that_others_do_not_use_is_refused() {
    let farm = Farm::of("true\n");
    farm.farm("--lock flock").run().exits(0);
    farm.farm("--lock link")
        .run()
        .exits(2)
        .says(&["flock", "link"]);
    farm.farm("").run().exits(0);
}

/// Runs where the system does not say what is mounted.
fn hidden<'f>(farm: &'f Farm, args: &str) -> Done<'f> {
    let inject = "inject=openat:error=EACCES";
    let pytf = farm.farm(args);
    pytf.injected(inject, Some("/proc/self/mountinfo")).run()
}

/// What the system does not tell of a file system is no promise that its locks hold.
#[test]
fn a_lock_that_is_wished_for_is_refused_where_the_file_system_is_not_known() {
    if !has("strace") {
        return skip("there is no strace");
    }
    let farm = Farm::of("true\n");
    let refused = hidden(&farm, "--lock flock").exits(2);
    refused.says(&["--lock flock is not safe", "unknown kind"]);
    hidden(&farm, "").exits(0);
    farm.farm("--lock link").run().exits(0);
}

#[test]
fn who_comes_late_helps_and_who_leaves_early_gives_back() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(6, |_| gate.stand()));
    let first = farm.farm("--proc 2").start();
    gate.comers(2);
    let second = farm.farm("--proc 2").start();
    gate.comers(2);
    first.signal(nix::sys::signal::Signal::SIGTERM);
    // Others work on: for the run, that is no stop.
    first.wait().leaves(0);
    let third = farm.farm("--proc 2").start();
    gate.comers(2);
    gate.open(6);
    gate.comers(2);
    second.wait().leaves(0);
    third.wait().exits(0);
    farm.assert_exact(6, &[0, 1, 2, 3, 4, 5], &[]);
}

/// One line for each start and each end, in order, also with --quiet; and none without the
/// option.
#[test]
fn each_start_and_each_end_has_a_line_with_log_tasks() {
    let farm =
        Farm::of("true\nexit 3\n/no/such/program\nsleep 1000\nkill -TERM $PPID; exec sleep 1000\n");
    let args = "--proc 1 --log-tasks --quiet --grace 1 --task-timeout 2s";
    let done = farm.farm(args).run().exits(75);
    let lines: Vec<&str> = done.stderr.lines().collect();
    let mut words = lines.iter().map(|line| {
        let rest = line.split_once(" UTC ").map_or(*line, |(_, rest)| rest);
        assert!(line.starts_with("pytf: 20"), "{line}");
        rest
    });
    let mut next = |begin: &str, end: &str| {
        let line = words.next().unwrap_or_default();
        let is_right = line.starts_with(begin) && line.ends_with(end) && line.contains(" on ");
        assert!(is_right, "{line:?} is not {begin:?} … {end:?}");
    };
    next("task 0 started", ": true");
    next("task 0 finished", ": true");
    next("task 1 started", ": exit 3");
    // It may be due to a signal to all: that is known a moment later.
    next("task 2 failed", "/no/such/program");
    next("task 3 started", ": sleep 1000");
    let rest: Vec<&str> = words.collect();
    let has = |begin: &str, part: &str| {
        let mut lines = rest.iter();
        lines.any(|line| line.starts_with(begin) && line.contains(part))
    };
    assert!(
        has("task 1 failed", ": exit status 3 [logs/log_1]: exit 3"),
        "{rest:?}"
    );
    assert!(has("task 3 failed", "time limit"), "{rest:?}");
    assert!(has("task 4 started", ", process "), "{rest:?}");
    assert!(has("task 4 interrupted", ", slot 0, after "), "{rest:?}");
    assert_eq!(lines.len(), 9, "{lines:?}");
    farm.write("w2.txt", "true\n");
    let quiet = farm.pytf(["w2.txt"]).run().exits(0);
    assert!(!quiet.stderr.contains("started"), "{}", quiet.stderr);
}
