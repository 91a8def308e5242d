//! Command lines as people type them, and what they mean.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::groups::{ADVANCED, COMMON, LOGS, RESOURCES, TIME, WORKDIR};
use super::*;
use crate::model::template::Template;

fn read(line: &str) -> Result<Request, clap::Error> {
    let argv = std::iter::once("pytf").chain(line.split_whitespace());
    Cli::read(argv.map(OsString::from), |_| None)
}

fn farm(line: &str) -> (PathBuf, PathBuf, FarmArgs) {
    match read(line) {
        Ok(Request::Farm {
            tasks: Tasks::List(list),
            workdir,
            options,
        }) => (list, workdir, *options),
        other => panic!("'{line}': {other:?}"),
    }
}

fn error(line: &str) -> String {
    let error = read(line).map(|request| panic!("'{line}': {request:?}"));
    let error = error.unwrap_err();
    assert_eq!(error.exit_code(), 2, "'{line}'");
    error.to_string()
}

#[test]
fn clap_finds_no_fault() {
    Cli::command().debug_assert();
    command(&|_| None).debug_assert();
}

#[test]
fn every_option_is_explained_and_has_its_variable() {
    let command = command(&|_| None);
    let unset = Cli::command();
    for (arg, original) in command.get_arguments().zip(unset.get_arguments()) {
        let id = arg.get_id().as_str();
        let short = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let long = arg.get_long_help().map(ToString::to_string);
        assert!((10..=64).contains(&short.len()), "--{id}: '{short}'");
        if matches!(id, "help" | "version") {
            continue;
        }
        let long = long.unwrap_or_default();
        assert!(long.len() > short.len(), "--{id}: no paragraphs");
        if arg.get_action().takes_values() {
            let name = &arg.get_value_names().unwrap()[0];
            assert_eq!(name.to_uppercase(), name.as_str(), "--{id}");
        }
        if arg.is_positional() {
            continue;
        }
        let variable = format!("PYTF_{}", id.to_uppercase());
        assert_eq!(original.get_env(), Some(OsStr::new(&variable)));
        assert!(long.ends_with(&variable), "--{id}: '{long}'");
        if arg
            .get_value_names()
            .is_some_and(|names| names[0] == "TIME")
        {
            assert!(long.contains("Forms: seconds"), "--{id}");
        }
    }
    for sub in command.get_subcommands() {
        assert!(sub.get_about().is_some() || sub.is_hide_set());
        for arg in sub.get_arguments() {
            assert!(
                arg.get_help().is_some(),
                "{} {}",
                sub.get_name(),
                arg.get_id()
            );
        }
    }
}

/// `cargo test -- --ignored print_help --nocapture`
#[test]
#[ignore = "for reading"]
fn print_help() {
    println!("{}\n-----\n", command(&|_| None).render_help());
    println!("{}", command(&|_| None).render_long_help());
}

#[test]
fn short_help_is_a_line_a_flag() {
    let short = command(&|_| None).term_width(80).render_help().to_string();
    for group in [COMMON, TIME, RESOURCES, LOGS, WORKDIR, ADVANCED] {
        let heading = format!("{group}:");
        let from = short.lines().position(|line| line == heading).unwrap();
        let lines = short.lines().skip(from + 1);
        let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        assert!(lines.len() >= 2, "{group}: {short}");
        for line in lines {
            let (_, option) = line
                .split_once(" --")
                .unwrap_or_else(|| panic!("{line}: {short}"));
            assert!(
                option.contains("  "),
                "its help is on another line: {short}"
            );
        }
    }
    assert!(!short.contains("\nOptions:"), "without a group: {short}");
    assert!(short.lines().all(|line| line.len() <= 80), "{short}");
    for sub in command(&|_| None).get_subcommands() {
        let name = sub.get_name();
        // Their help is that of the farm.
        if sub.is_hide_set() || ["run", "check"].contains(&name) {
            continue;
        }
        let pytf = command(&|_| None).term_width(80);
        let help = pytf.try_get_matches_from(["pytf", name, "-h"]);
        let short = help.expect_err("help is asked for").to_string();
        for line in short.lines().filter(|line| line.starts_with("  ")) {
            let text = line.trim_start().split_once("  ");
            let is_whole = !line.starts_with("         ") && text.is_some();
            assert!(is_whole, "more than a line in {name}: {short}");
        }
    }
    assert!(!short.contains("takeover") && !short.contains("__guard"));
    let long = command(&|_| None).render_long_help().to_string();
    assert!(long.contains("75  stopped by a signal"), "{long}");
}

#[test]
fn pytaskfarmers_command_lines_work() {
    let (list, workdir, options) =
        farm("tasks.txt --proc 16 --timeout 3600 --workdir run1 -v True -r default -t default");
    assert_eq!(list, Path::new("tasks.txt"));
    assert_eq!(workdir, Path::new("run1"));
    assert_eq!(options.slots(), Some(16));
    assert_eq!(options.timeout, Some(Duration::from_secs(3600)));
    assert!(options.verbose);
    assert_eq!(farm("-n 4 -w run1 d/tasks.txt").2.slots(), Some(4));
    assert_eq!(farm("tasks.txt --proc").2.slots(), None);
    assert!(farm("tasks.txt --verbose True").2.verbose);
}

#[test]
fn what_others_call_so_is_understood_or_explained() {
    for line in ["-j 5 t", "-j5 t", "--jobs 5 t", "--jobs=5 t"] {
        assert_eq!(farm(line).2.slots(), Some(5), "{line}");
    }
    for (line, said) in [
        ("--time 9 t", "--task-timeout each task"),
        ("--time=9 t", "--timeout ends the whole farm"),
        ("--resume t", "the same command again"),
        // Not one of several options that begin so.
        ("--work w t", "did you mean --workdir?"),
        ("--task 5 t", "--task-timeout, --task-estimate"),
        ("--gpu 5 t", "--gpus-per-task, --gpus"),
        ("status w --fail", "did you mean --failed?"),
    ] {
        let message = error(line);
        assert!(message.contains(said), "'{line}': {message}");
    }
}

#[test]
fn a_variable_that_is_none_of_ours_is_named() {
    let names = [
        "PYTF_PORC",
        "PYTF_PROC",
        "PATH",
        "PYTF_TASK_ID",
        "PYTF_QQQQQQQQ",
    ];
    let unknown = unknown_variables(names.into_iter().map(OsString::from));
    assert_eq!(
        unknown,
        [
            ("PYTF_PORC".to_owned(), Some("PYTF_PROC".to_owned())),
            ("PYTF_QQQQQQQQ".to_owned(), None),
        ]
    );
}

#[test]
fn verbose_takes_a_value_only_when_it_says_yes_or_no() {
    for (line, verbose) in [
        ("t", false),
        ("-v t", true),
        ("t -v", true),
        ("t -v True", true),
        ("t -v False", false),
        ("-v 1 t", true),
        ("t -vTrue", true),
        ("t --verbose", true),
        ("t --verbose no", false),
        ("t --verbose=yes", true),
        ("t --verbose=False", false),
        ("-vq t", true),
        ("-v t --quiet", true),
    ] {
        let (list, _, options) = farm(line);
        assert_eq!(options.verbose, verbose, "'{line}'");
        assert_eq!(list, Path::new("t"), "'{line}'");
    }
    // After -- a word is neither an option nor a list.
    assert!(error("-- -v").contains("a task list comes before --"));
}

#[test]
fn what_is_not_said_has_its_default() {
    let (_, workdir, options) = farm("d/tasks.txt");
    assert_eq!(workdir, Path::new("d/tasks.txt_workdir"));
    assert_eq!((options.slots(), options.timeout), (None, None));
    assert_eq!((options.task_timeout, options.shell), (None, None));
    assert_eq!(options.grace, Duration::from_secs(10));
    assert_eq!(options.takeover, Duration::from_secs(2 * 60));
    assert_eq!((options.logs, options.lock), (Logs::Files, Lock::Auto));
    assert!(!(options.verbose || options.quiet || options.strict || options.retry_failed));
    assert!(!(options.shared_workdir || options.no_linger || options.no_timeline));
    assert_eq!(farm("t --timeout 0 --task-timeout 0s").2.timeout, None);
    assert_eq!(farm("t --grace 0").2.grace, Duration::ZERO);
}

#[test]
fn options_are_read() {
    let options = farm(
        "t -q --task-timeout 10m --grace 20s --logs packed --shell /bin/dash --lock link \
         --retry-failed --strict --shared-workdir --no-linger --no-quarantine --no-timeline \
         --takeover 1:30",
    )
    .2;
    assert_eq!(options.task_timeout, Some(Duration::from_secs(10 * 60)));
    assert_eq!(options.grace, Duration::from_secs(20));
    assert_eq!(options.takeover, Duration::from_secs(90));
    assert_eq!((options.logs, options.lock), (Logs::Packed, Lock::Link));
    assert_eq!(options.shell, Some("/bin/dash".into()));
    assert!(options.quiet && options.strict && options.retry_failed);
    assert!(options.shared_workdir && options.no_linger && options.no_timeline);
    assert!(options.no_quarantine);
}

#[test]
fn standard_input_needs_a_workdir() {
    assert_eq!(farm("- --workdir w").0, Path::new("-"));
    for list in ["-", "/dev/stdin", "/dev/fd/5", "/proc/self/fd/0"] {
        assert!(error(list).contains("--workdir"), "{list}");
        assert_eq!(farm(&format!("{list} -w w")).1, Path::new("w"));
    }
}

#[test]
fn a_command_and_its_values_stand_in_place_of_a_list() {
    let words: [&[u8]; 4] = [b"./md", b"{}", b":::", b"300"];
    for line in [
        "-w w -- ./md {} ::: 300",
        "--proc 2 -w w -- ./md {} ::: 300",
        "run -w w -- ./md {} ::: 300",
    ] {
        let read = read(line);
        let Ok(Request::Farm { tasks, .. }) = &read else {
            panic!("'{line}': {read:?}");
        };
        assert_eq!(*tasks, Tasks::Template(Template::of(&words).unwrap()));
    }
    for (line, part) in [
        ("-- ./md {} ::: 300", "need --workdir"),
        ("-w w ./md {} ::: 300", "come after --"),
        ("./md :::: file", "come after --"),
        ("-w w -- ./md 300", "no values follow the command"),
        ("-w w -- ./md ::: ", "no values follow ':::'"),
        ("tasks.txt -w w -- ./md ::: a", "TASKLIST"),
        ("--dry-run -w w", "nothing to check"),
        ("check -w w", "nothing to check"),
    ] {
        let error = error(line);
        assert!(error.contains(part), "'{line}': {error}");
    }
}

#[test]
fn wrong_lines_say_why() {
    for (line, said) in [
        ("", "<TASKLIST>"),
        ("--proc 0 t", "from 1 to 65536"),
        ("--proc -3 t", "-3"),
        ("--proc many t", "from 1 to 65536"),
        ("--timeout soon t", "HH:MM:SS"),
        ("--runner-key image t", "KEY=VALUE"),
        ("--logs some t", "packed"),
        ("--start-rate 0 t", "10/s"),
        ("--start-rate 5/d t", "10/s"),
        ("--start-rate nan t", "10/s"),
        ("--bogus t", "--bogus"),
        ("a b", "unexpected 'b'"),
        ("a b c", "one TASKLIST"),
        ("lgo w 3", "status, watch, log, retry"),
        ("log w", "<ID>"),
        ("log w x", "whole number before its command"),
        ("log w 3 --attempt 0", "0"),
        ("retry w 9-3", "9-3"),
    ] {
        let message = error(line);
        assert!(message.contains(said), "'{line}': {message}");
    }
}

#[test]
fn the_other_commands_are_read() {
    match read("log run1 17 --attempt 2").unwrap() {
        Request::Command(Command::Log(log)) => {
            assert_eq!((log.id, log.attempt), (TaskId(17), Some(2)));
            assert_eq!(log.workdir, Path::new("run1"));
        }
        other => panic!("{other:?}"),
    }
    match read("retry run1 3-9,12 20").unwrap() {
        Request::Command(Command::Retry(retry)) => {
            assert_eq!(retry.ids.iter().map(Ids::count).sum::<u64>(), 9);
        }
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(read("retry run1"), Ok(Request::Command(Command::Retry(retry))) if retry.ids.is_empty())
    );
    match read("__guard 3 --x").unwrap() {
        Request::Guard(words) => assert_eq!(words, ["3", "--x"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_version_names_the_build() {
    let version = read("--version").unwrap_err();
    assert_eq!(version.exit_code(), 0);
    assert_eq!(version.to_string(), format!("pytf {VERSION}\n"));
    assert!(VERSION.starts_with(env!("CARGO_PKG_VERSION")));
}

/// Clap reads the real environment, so this test runs itself in another one.
#[test]
fn variables_are_options() {
    const PROBE: &str = "PYTF_TEST_PROBE";
    let Ok(probe) = std::env::var(PROBE) else {
        let base = [
            ("PYTF_PROC", "3"),
            ("PYTF_WORKDIR", "w"),
            ("PYTF_TIMEOUT", ""),
        ];
        let flags = [
            ("PYTF_STRICT", "1"),
            ("PYTF_QUIET", "no"),
            ("PYTF_VERBOSE", "True"),
        ];
        for probe in ["outside", "inside"] {
            let inside = (probe == "inside").then_some(("PYTF_TASK_ID", "5"));
            let test = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "cli::tests::variables_are_options"])
                .env_remove("PYTF_TASK_ID")
                .envs(base.into_iter().chain(flags).chain(inside))
                .env(PROBE, probe)
                .output()
                .unwrap();
            assert!(test.status.success(), "{probe}: {test:?}");
        }
        return;
    };
    let read = |line: &str| {
        let argv = std::iter::once("pytf").chain(line.split_whitespace());
        Cli::read(argv.map(OsString::from), |name| std::env::var_os(name)).unwrap()
    };
    let Request::Farm {
        workdir, options, ..
    } = read("t")
    else {
        panic!("not a farm")
    };
    let expected = if probe == "inside" { "t_workdir" } else { "w" };
    assert_eq!(workdir, Path::new(expected));
    assert_eq!((options.slots(), options.timeout), (Some(3), None));
    assert!(options.strict && options.verbose && !options.quiet);
    let Request::Farm {
        workdir, options, ..
    } = read("t -w x -n 4 --timeout 5")
    else {
        panic!("not a farm")
    };
    assert_eq!(
        (workdir.as_path(), options.slots()),
        (Path::new("x"), Some(4))
    );
    assert!(matches!(read("log w 3"), Request::Command(Command::Log(_))));
    assert!(matches!(
        read("retry w"),
        Request::Command(Command::Retry(_))
    ));
}
