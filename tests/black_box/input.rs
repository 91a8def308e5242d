//! The task list: bytes in, tasks out, and a defined answer to everything else.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{Farm, is_root, os, side_by_side, skip, tasks};

#[test]
fn blank_lines_and_comments_are_no_tasks_and_ids_count_tasks() {
    let farm = Farm::of(
        "# first\n\n   \t \necho a\n  # indented\n\t#tab\necho b # not a comment line\n\n\necho c\n#end\n",
    );
    farm.farm("").run().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
    assert_eq!(farm.text("w/logs/log_1"), "b\n");
    assert!(
        farm.lines("finished")
            .contains(&(1, b"echo b # not a comment line".to_vec()))
    );
}

#[test]
fn a_list_without_tasks_is_complete_and_says_so() {
    for list in ["", "\n", "# only\n\n  # comments\n"] {
        let farm = Farm::of(list);
        farm.farm("").run().exits(0).says(&["no task"]);
        farm.assert_exact(0, &[], &[]);
    }
}

#[test]
fn dos_line_ends_are_no_part_of_the_commands_and_are_told() {
    let farm = Farm::of("echo a\r\necho 'b c'\r\n\r\n# comment\r\necho d");
    farm.farm("").run().exits(0).says(&["CR"]);
    farm.assert_exact(3, &[0, 1, 2], &[]);
    for (id, log) in [(0, "a\n"), (1, "b c\n"), (2, "d\n")] {
        assert_eq!(farm.text(format!("w/logs/log_{id}")), log);
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_command_and_is_told() {
    let farm = Farm::of("\u{feff}echo a\necho b\n");
    let done = farm.farm("").run().exits(0);
    assert!(done.stderr.to_lowercase().contains("byte order mark") || done.stderr.contains("BOM"));
    assert_eq!(farm.text("w/logs/log_0"), "a\n");
    let farm = Farm::of("\u{feff}# a comment\necho b\n");
    farm.farm("").run().exits(0);
    farm.assert_exact(1, &[0], &[]);
}

#[test]
fn the_last_line_needs_no_end() {
    let farm = Farm::of("echo a\necho b");
    farm.farm("").run().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
    assert_eq!(farm.text("w/logs/log_1"), "b\n");
    assert!(farm.text("w/finished").ends_with('\n'));
}

#[test]
fn a_trailing_blank_changes_nothing_and_a_trailing_backslash_joins_the_next_line() {
    let list = "echo a  \t\necho b \\\necho c\n";
    let farm = Farm::of(list);
    farm.farm("").run().exits(0);
    assert_eq!(farm.text("w/logs/log_1"), "b echo c\n", "as a shell has it");
    let farm = Farm::of(list);
    farm.farm("--plain").run().exits(0);
    assert_eq!(farm.text("w/logs/log_0"), "a\n");
    assert_eq!(
        farm.text("w/logs/log_2"),
        "c\n",
        "one task, one line: no continuation"
    );
}

#[test]
fn a_nul_byte_is_named_with_its_line_before_anything_starts() {
    let farm = Farm::of("touch started\n# comment\nec\0ho b\n");
    farm.farm("").run().exits(2).says(&["line 3", "NUL"]);
    assert!(!farm.path("started").exists());
    assert_eq!(farm.ids("finished"), [0; 0]);
}

#[test]
fn bytes_that_are_no_text_reach_the_program_and_the_files_unchanged() {
    let farm = Farm::of(b"touch caf\xe9\ntouch 'na\xefve \xff\xfe'; true\ntouch gr\xc3\xbcn\n");
    farm.farm("").run().exits(0);
    for name in [&b"caf\xe9"[..], b"na\xefve \xff\xfe", b"gr\xc3\xbcn"] {
        assert!(farm.path(os(name)).exists(), "{name:?}");
    }
    let mut lines = farm.lines("finished");
    lines.sort();
    assert_eq!(lines[0], (0, b"touch caf\xe9".to_vec()));
    assert_eq!(lines[1], (1, b"touch 'na\xefve \xff\xfe'; true".to_vec()));
    assert_eq!(lines[2], (2, b"touch gr\xc3\xbcn".to_vec()));
}

#[test]
fn terminal_controls_in_a_line_are_run_but_not_shown() {
    let farm = Farm::of("echo \x1b]0;x\x07\x1b[31m\nexit 3 # \x1b[31m\n");
    let done = farm.farm("-v").run().exits(1);
    let told = [done.stdout, done.stderr.into_bytes()].concat();
    assert!(!told.contains(&0x1b), "{}", String::from_utf8_lossy(&told));
    assert!(farm.bytes("w/logs/log_0").contains(&0x1b));
}

/// `execve` takes no argument of 131072 bytes and more (with its NUL).
#[test]
fn a_line_too_long_for_an_argument_still_runs() {
    let line = |len: usize, id: u32| {
        let (head, tail) = ("printf %s ", format!(" | wc -c > size{id}"));
        format!(
            "{head}{}{tail}\n",
            "x".repeat(len - head.len() - tail.len())
        )
    };
    let lengths = [131_070, 131_071, 131_072, 131_073, 10 << 20, (16 << 20) - 1];
    let farm = Farm::of(
        (0..)
            .zip(lengths)
            .map(|(id, len)| line(len, id))
            .collect::<String>(),
    );
    farm.farm("").run().exits(0);
    farm.assert_exact(6, &[0, 1, 2, 3, 4, 5], &[]);
    for (id, len) in lengths.into_iter().enumerate() {
        let size = farm
            .text(format!("size{id}"))
            .trim()
            .parse::<usize>()
            .unwrap();
        assert_eq!(size, len - "printf %s  | wc -c > size0".len());
    }
}

#[test]
fn a_long_line_of_short_words_runs_and_reads_no_stdin() {
    let farm = Farm::of(format!(
        "echo {}\nreadlink /proc/self/fd/0; : {}\n",
        "word ".repeat(40_000),
        "x ".repeat(100_000)
    ));
    farm.farm("").run().exits(0);
    assert_eq!(farm.bytes("w/logs/log_0").len(), 200_000);
    assert_eq!(
        farm.text("w/logs/log_1"),
        "/dev/null\n",
        "also when the line goes another way"
    );
}

#[test]
fn a_line_beyond_16_mib_is_named_before_anything_starts() {
    let farm = Farm::of(format!("touch started\n: {}\n", "x".repeat(16 << 20)));
    farm.farm("").run().exits(2).says(&["line 2"]);
    assert!(!farm.path("started").exists());
}

#[test]
fn a_list_that_is_not_there_is_named() {
    let farm = Farm::new();
    farm.pytf(["nowhere.txt"])
        .run()
        .exits(2)
        .says(&["nowhere.txt", "No such file"]);
    assert!(
        !farm.path("nowhere.txt_workdir").exists(),
        "no workdir for a list that is not there"
    );
}

#[test]
fn a_directory_is_no_list() {
    let farm = Farm::new();
    fs::create_dir(farm.path("dir")).unwrap();
    farm.pytf(["dir"])
        .run()
        .exits(2)
        .says(&["dir", "directory"]);
    assert!(!farm.path("dir_workdir").exists());
}

#[test]
fn a_list_that_may_not_be_read_is_named() {
    let farm = Farm::of("true\n");
    fs::set_permissions(farm.path("tasks.txt"), PermissionsExt::from_mode(0o0)).unwrap();
    fs::set_permissions(farm.path(""), PermissionsExt::from_mode(0o777)).unwrap();
    let pytf = farm.farm("");
    let pytf = if is_root() { pytf.by_nobody() } else { pytf };
    pytf.run()
        .exits(2)
        .says(&["tasks.txt", "Permission denied"]);
}

#[test]
fn a_fifo_is_read_once_like_a_file() {
    let farm = Farm::new();
    mkfifo(&farm.path("tasks.txt"), Mode::from_bits_truncate(0o600)).unwrap();
    let pytf = farm.farm("").start();
    // Opening for writing waits until pytf reads.
    let mut list = File::options()
        .write(true)
        .open(farm.path("tasks.txt"))
        .unwrap();
    list.write_all(b"echo a\necho b\n").unwrap();
    drop(list);
    pytf.wait().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
}

#[test]
fn dev_stdin_is_a_list_too() {
    let farm = Farm::of("echo a\necho b\n");
    let stdin = File::open(farm.path("tasks.txt")).unwrap();
    farm.pytf(["/dev/stdin", "--workdir", "w"])
        .stdin(stdin)
        .run()
        .exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
}

#[test]
fn tasks_from_stdin_start_before_stdin_ends() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let mut pytf = farm
        .pytf(["-", "--workdir", "w", "--proc", "2"])
        .stdin(Stdio::piped())
        .start();
    let mut stdin = pytf.child.stdin.take().unwrap();
    for id in 0..3 {
        // Half a line is no task yet; each whole one runs while stdin is open.
        stdin.write_all(gate.stand().as_bytes()).unwrap();
        stdin.flush().unwrap();
        stdin.write_all(b"\n").unwrap();
        assert_eq!(gate.comer().0, id);
        gate.open(1);
    }
    stdin.write_all(b"# comment\n\necho last").unwrap();
    drop(stdin);
    pytf.wait().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    assert_eq!(farm.text("w/logs/log_3"), "last\n");
}

#[test]
fn stdin_needs_a_workdir_and_may_be_empty() {
    let farm = Farm::new();
    farm.pytf(["-"]).run().exits(2).says(&["--workdir"]);
    farm.pytf(["-", "--workdir", "w"]).run().exits(0);
    farm.assert_exact(0, &[], &[]);
}

#[test]
fn a_nul_byte_on_stdin_is_named_and_does_not_undo_what_ran() {
    let farm = Farm::of("echo a\nec\0ho b\necho c\n");
    let stdin = File::open(farm.path("tasks.txt")).unwrap();
    farm.pytf(["-", "--workdir", "w"])
        .stdin(stdin)
        .run()
        .exits(2)
        .says(&["line 2", "NUL"]);
    assert!(farm.ids("failed").is_empty());
}

#[test]
fn a_stream_of_many_tasks_runs_each_once() {
    let farm = Farm::of(tasks(1000, |id| format!("echo {id} >> ran")));
    let stdin = File::open(farm.path("tasks.txt")).unwrap();
    farm.pytf(["-", "--workdir", "w", "--proc", "4"])
        .stdin(stdin)
        .run()
        .exits(0);
    assert_eq!(farm.ids("finished"), (0..1000).collect::<Vec<_>>());
    assert_eq!(farm.text("ran").lines().count(), 1000);
}

#[test]
fn a_workdir_may_have_any_name() {
    let names = [
        &b"with blanks and 'quotes'"[..],
        b"new\nline",
        b"no text \xff",
        b"-dash",
    ];
    side_by_side(&names, |name| {
        let farm = Farm::of("echo a; printf %s \"$PYTF_WORKDIR\" >> told\nexit 3\n");
        let workdir = farm.path(os(name));
        farm.pytf([
            os(b"tasks.txt"),
            os(b"--workdir"),
            workdir.clone().into_os_string(),
        ])
        .run()
        .exits(1);
        assert_eq!(
            fs::read(workdir.join("finished"))
                .unwrap()
                .split(|&b| b == b'\n')
                .count(),
            2
        );
        assert!(
            farm.bytes("told")
                .starts_with(workdir.as_os_str().as_encoded_bytes())
        );
    });
}

#[test]
fn a_list_of_unusual_name_names_its_workdir() {
    if os(b"\xff").to_str().is_some() {
        return skip("names are text here");
    }
    let farm = Farm::new();
    farm.write(os(b"li st\xff"), "echo a\n");
    farm.pytf([os(b"li st\xff")]).run().exits(0);
    assert_eq!(
        fs::read(farm.path(os(b"li st\xff_workdir/finished"))).unwrap(),
        b"0 echo a\n"
    );
}

#[test]
fn a_stream_that_says_nothing_can_be_stopped_and_ends_at_the_time_limit() {
    for limit in ["0", "4"] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        let args = format!("- --workdir w --proc 2 --timeout {limit}");
        let mut pytf = farm.pytf(args.split(' ')).stdin(Stdio::piped()).start();
        let mut stdin = pytf.child.stdin.take().unwrap();
        writeln!(stdin, "{}", gate.stand()).unwrap();
        gate.comer();
        gate.open(1);
        if limit == "0" {
            pytf.signal(Signal::SIGTERM);
        }
        // Nobody knows what would still have come: there is work left.
        pytf.wait().exits(75);
        assert_eq!(farm.ids("failed"), [0; 0]);
    }
}

#[test]
fn directives_of_other_tools_are_refused_or_followed() {
    // Of these tools no list is understood.
    let refused = [
        ("./b #HYPERSHELL: cores:4", 5, "HyperShell"),
        ("#METAQ GPUS 2", 1, "METAQ"),
        ("#HQ --cpus=2", 1, "HyperQueue"),
        ("./b %TASKFARM_TASKNUM%", 5, "TaskFarm"),
        ("./b #HYPERSHELL cores:4", 5, "directive"),
        ("#!/usr/bin/parallel --shebang echo", 1, "GNU parallel"),
    ];
    side_by_side(&refused, |(line, column, word)| {
        let farm = Farm::of(format!("touch started\n{line}\n"));
        let place = format!("tasks.txt: line 2, column {column}: ");
        farm.farm("")
            .run()
            .exits(2)
            .says(&[&place, word, "--plain"]);
        assert!(!farm.path("started").exists(), "{line}");
        assert!(!farm.path("w").exists(), "a refused list leaves no workdir");
    });
    let followed = [
        ("#DISBATCH BARRIER CHECK", "disBatch", "disbatch"),
        ("#SWARM -t 1", "swarm", "swarm"),
        ("[# 1 #] true", "GREASY", "greasy"),
        ("[@ /tmp @] true", "GREASY", "greasy"),
        ("1,true", "pylauncher", "pylauncher"),
        ("cd /tmp #!", "runtask", "runtask"),
        ("true #+group", "runtask", "runtask"),
        ("true $LAUNCHER_TSK_ID", "launcher", "launcher"),
        ("true PYL_ID", "pylauncher", "pylauncher"),
    ];
    side_by_side(&followed, |(line, word, name)| {
        let first = match *line {
            "1,true" => "1,touch started",
            _ => "touch started",
        };
        let farm = Farm::of(format!("{first}\n{line}\n"));
        let option = format!("read as with --tasklist {name}");
        farm.farm("-n 1")
            .run()
            .exits(0)
            .says(&["a list of", word, "by line", &option]);
        assert!(farm.path("started").exists(), "{line}");
        // On a stream it is not known in time: what came before may run, nothing behind it does.
        std::fs::remove_file(farm.path("started")).unwrap();
        farm.write("tasks.txt", format!("{line}\n{first}\n"));
        let stdin = || File::open(farm.path("tasks.txt")).unwrap();
        let option = format!("--tasklist {name}");
        farm.pytf(["-", "--workdir", "v"])
            .stdin(stdin())
            .run()
            .exits(2)
            .says(&[word, &option]);
        assert!(!farm.path("started").exists(), "{line}");
        if *name != "greasy" && *line != "cd /tmp #!" {
            farm.pytf(["-", "--workdir", "u", "--tasklist", name, "-n", "1"])
                .stdin(stdin())
                .run()
                .exits(0);
            assert!(farm.path("started").exists(), "{line}");
        }
    });
}

#[test]
fn a_list_with_directives_runs_as_it_is_when_that_is_asked_for() {
    let farm = Farm::of("#DISBATCH BARRIER\necho a #PYTF mem=4G\n");
    farm.farm("--plain").run().exits(0);
    farm.assert_exact(1, &[0], &[]);
    assert_eq!(farm.text("w/logs/log_0"), "a\n");
}

#[test]
fn plain_lists_raise_no_alarm() {
    let farm = Farm::of(
        "#!/usr/bin/env bash\n#SBATCH --ntasks=4\n# see #12, ##PYTF a, # PYTF b\n\
         python3 -c 'print(1) #! not a tag'\necho a#b # c #d\necho \"$HOME #PYTF\"\n\
         for i in 1 2; do echo $i; done\nawk 'BEGIN { print $1, NF }' /dev/null\n\
         cd /tmp && pwd\necho $((1 + 2)) ${A:-b} $$\n",
    );
    let done = farm.farm("").run().exits(0);
    farm.assert_exact(7, &[0, 1, 2, 3, 4, 5, 6], &[]);
    assert!(!done.stderr.contains("line "), "{}", done.stderr);
}

#[test]
fn what_does_not_reach_other_tasks_is_told_before_they_start() {
    let farm = Farm::of("cd /tmp\nexport A=1\necho $A $SEED\n");
    let done = farm.farm("").env("A", "2").run().exits(0);
    assert!(
        done.stderr
            .contains("line 1 and 1 more: only sets up its own shell")
    );
    assert!(done.stderr.contains("line 3: $SEED is set neither"));
    assert!(!done.stderr.contains("$A is"), "{}", done.stderr);
}

#[test]
fn a_list_with_the_line_ends_of_old_macs_is_refused() {
    let farm = Farm::of("echo a\recho b\r");
    farm.farm("").run().exits(2).says(&["CR alone", "tr "]);
}
