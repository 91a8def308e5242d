//! The command line, as PyTaskFarmer's users type it and as help tells it.

use crate::harness::{Farm, side_by_side};

#[test]
fn the_command_lines_of_pytaskfarmer_work_as_they_are() {
    let cases = [
        ("tasks.txt", "tasks.txt_workdir"),
        ("tasks.txt --proc 2", "tasks.txt_workdir"),
        ("tasks.txt -n 2", "tasks.txt_workdir"),
        ("-n 2 tasks.txt", "tasks.txt_workdir"),
        ("-n2 tasks.txt", "tasks.txt_workdir"),
        ("--proc=2 tasks.txt", "tasks.txt_workdir"),
        ("tasks.txt --proc", "tasks.txt_workdir"),
        ("tasks.txt --timeout 3600", "tasks.txt_workdir"),
        ("tasks.txt --workdir other", "other"),
        ("tasks.txt -w other", "other"),
        ("tasks.txt -v True", "tasks.txt_workdir"),
        ("tasks.txt --verbose True -n 2", "tasks.txt_workdir"),
        ("-v True tasks.txt", "tasks.txt_workdir"),
        ("tasks.txt -v", "tasks.txt_workdir"),
        ("-v tasks.txt", "tasks.txt_workdir"),
        ("tasks.txt --runner default", "tasks.txt_workdir"),
        ("tasks.txt -r default", "tasks.txt_workdir"),
        ("tasks.txt --tasklist default", "tasks.txt_workdir"),
        ("tasks.txt -t default", "tasks.txt_workdir"),
        (
            "tasks.txt -n 4 -w other --timeout 60 -v True -r default -t default",
            "other",
        ),
    ];
    side_by_side(&cases, |(args, workdir)| {
        eprintln!("pytf {args}");
        let farm = Farm::of("true\necho done\n");
        farm.pytf(args.split(' ')).run().exits(0);
        let finished = farm.text(format!("{workdir}/finished"));
        assert_eq!(finished.lines().count(), 2, "{args}: {finished}");
    });
}

#[test]
fn an_unknown_runner_or_task_list_handler_is_an_error_that_names_what_exists() {
    for flag in ["-r", "--runner", "-t", "--tasklist"] {
        let farm = Farm::of("true\n");
        farm.farm(&format!("{flag} defalt"))
            .run()
            .exits(2)
            .says(&["'defalt'; did you mean 'default'? Known are default"]);
        assert!(!farm.path("w/finished").exists(), "nothing was started");
    }
}

#[test]
fn durations_are_seconds_or_humantime_or_slurms() {
    side_by_side(&["--timeout", "--task-timeout", "--grace"], |flag| {
        for good in [
            "90",
            "1h30m",
            "10m",
            "90s",
            "01:30:00",
            "1-00:00:00",
            "30:00",
        ] {
            eprintln!("{flag} {good}");
            Farm::of("true\n")
                .farm(&format!("{flag} {good}"))
                .run()
                .exits(0);
        }
        for bad in ["soon", "1:2:3:4", "-", "1h30"] {
            eprintln!("{flag} {bad}");
            let farm = Farm::of("true\n");
            farm.farm(&format!("{flag}={bad}"))
                .run()
                .exits(2)
                .says(&[flag, bad]);
            assert!(!farm.path("w").exists(), "nothing was created");
        }
    });
}

#[test]
fn every_option_can_come_from_the_environment() {
    let farm =
        Farm::of("echo $0; cat /proc/sys/kernel/random/uuid | tr -d '\\n'\nsleep 1000; true\n");
    farm.pytf(["tasks.txt"])
        .env("PYTF_WORKDIR", "w")
        .env("PYTF_PROC", "1")
        .env("PYTF_LOGS", "packed")
        .env("PYTF_SHELL", "/bin/sh")
        .env("PYTF_TASK_TIMEOUT", "1")
        .env("PYTF_GRACE", "1")
        .env("PYTF_TIMEOUT", "1h")
        .run()
        .exits(1);
    farm.assert_exact(2, &[0], &[1]);
    assert_eq!(farm.outcomes()[&1], "time-limit");
    let log = String::from_utf8(farm.pytf(["log", "w", "0"]).run().exits(0).stdout).unwrap();
    assert!(log.starts_with("/bin/sh\n"), "{log}");
}

#[test]
fn a_farm_inside_a_task_is_a_farm_of_its_own() {
    // PYTF_WORKDIR tells the task where it belongs; it must not become the
    // workdir of a pytf that the task starts.
    let farm = Farm::of(format!(
        "{} inner.txt --proc 1 && true\n",
        env!("CARGO_BIN_EXE_pytf")
    ));
    farm.write("inner.txt", "echo inner\n");
    farm.farm("").run().exits(0);
    farm.assert_exact(1, &[0], &[]);
    assert_eq!(farm.text("inner.txt_workdir/finished"), "0 echo inner\n");
}

#[test]
fn short_help_is_one_line_a_flag_and_long_help_explains() {
    let farm = Farm::new();
    let help = |flag: &str| String::from_utf8(farm.pytf([flag]).run().exits(0).stdout).unwrap();
    let (short, long) = (help("-h"), help("--help"));
    for flag in [
        "--proc",
        "--timeout",
        "--task-timeout",
        "--workdir",
        "--grace",
        "--logs",
        "--runner",
        "--tasklist",
        "--shell",
    ] {
        assert!(
            short.contains(flag) && long.contains(flag),
            "{flag} is missing"
        );
        let line = short.lines().position(|line| line.contains(flag)).unwrap();
        assert!(
            short
                .lines()
                .nth(line + 1)
                .is_none_or(|next| !next.starts_with("           ")),
            "{flag} takes more than a line"
        );
    }
    assert!(long.lines().count() > short.lines().count());
    assert!(short.contains("retry") && short.contains("log"), "{short}");
}

#[test]
fn the_version_names_the_build() {
    let farm = Farm::new();
    let version = String::from_utf8(farm.pytf(["--version"]).run().exits(0).stdout).unwrap();
    assert!(
        version.starts_with(concat!("pytf ", env!("CARGO_PKG_VERSION"))),
        "{version}"
    );
    assert_eq!(version.lines().count(), 1, "{version}");
}

#[test]
fn a_wrong_variable_is_named_as_what_it_is() {
    let farm = Farm::of("true\n");
    let done = farm
        .pytf(["tasks.txt"])
        .env("PYTF_PROC", "many")
        .run()
        .exits(2);
    assert!(
        done.stderr.contains("the variable PYTF_PROC"),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains("--proc"), "{}", done.stderr);
    let done = farm
        .pytf(["tasks.txt", "--proc", "many"])
        .env("PYTF_PROC", "2")
        .run()
        .exits(2);
    assert!(done.stderr.contains("--proc"), "{}", done.stderr);
    let done = farm
        .pytf(["tasks.txt", "--quiet"])
        .env("PYTF_PORC", "2")
        .run()
        .exits(0);
    let told =
        "pytf: PYTF_PORC is not a variable of pytf and is ignored; did you mean PYTF_PROC?\n";
    assert_eq!(done.stderr, told);
}

#[test]
fn help_and_version_are_words_too() {
    let farm = Farm::new();
    let out = |args: &[&str]| farm.pytf(args).run().exits(0).stdout;
    assert_eq!(out(&["help"]), out(&["--help"]));
    assert_eq!(out(&["help", "status"]), out(&["status", "--help"]));
    assert_eq!(out(&["version"]), out(&["--version"]));
}

#[test]
fn a_slip_in_a_command_names_the_command() {
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    for (args, command) in [
        (&["statsu"][..], "pytf status"),
        (&["statsu", "w"], "pytf status"),
        (&["stauts", "w", "--json"], "pytf status"),
        (&["wacth", "w"], "pytf watch"),
        (&["retyr", "w"], "pytf retry"),
        (&["repport", "w"], "pytf report"),
        (&["hlep"], "pytf help"),
        (&["wiat", "w"], "pytf wait"),
    ] {
        farm.pytf(args).run().exits(2).says(&[command]);
    }
    for word in ["plan", "attach", "init"] {
        farm.pytf([word, "w"])
            .run()
            .exits(2)
            .says(&[word, &format!("./{word}")]);
    }
    // Lists that are there are lists, whatever their names are like.
    farm.write("statu", "true\n");
    farm.write("run", "true\n");
    farm.pytf(["statu"]).run().exits(0);
    farm.pytf(["./run"]).run().exits(0);
}

#[test]
fn a_list_in_the_place_of_its_workdir_means_it() {
    let farm = Farm::of("echo a\nfalse\n");
    farm.pytf(["tasks.txt"]).run().exits(1);
    for args in [
        "status tasks.txt",
        "log tasks.txt 0",
        "export tasks.txt --csv",
        "report tasks.txt",
        "timeline tasks.txt",
        "retry tasks.txt",
        "repair tasks.txt",
    ] {
        farm.pytf(args.split(' ')).run().exits(0);
    }
    // Without one it is still named for what it is.
    farm.write("other.txt", "");
    farm.pytf(["status", "other.txt"])
        .run()
        .leaves(74)
        .says(&["other.txt"]);
}

#[test]
fn an_option_of_another_tool_is_not_offered_as_a_value() {
    let farm = Farm::new();
    let done = farm.pytf(["tasks.txt", "--delay", "3"]).run().leaves(2);
    let done = done.says(&["unexpected argument '--delay'"]);
    assert!(!done.stderr.contains("as a value"), "{}", done.stderr);
}
