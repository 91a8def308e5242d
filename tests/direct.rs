//! The proof of "a simple command needs no shell": generated lines, nasty ones
//! among them, are executed the way the runner decides and by the real shells.
//! Arguments, output and exit status must be the same.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panic, and says what it did"
)]

use std::cell::Cell;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use pytf::runner::shell::{Kind, Shell};
use pytf::runner::{How, Runner, explain};

const CASES: u32 = 1500;
const ENOEXEC: i32 = 8;

/// Prints its arguments apart from each other and exits with a status of its own.
const DUMP: &str = "#!/bin/sh\nprintf '<%s>' \"$0\" \"$@\"\nexit 7\n";

/// A folder in which globs would match, with all programs that lines may name.
struct World {
    dir: tempfile::TempDir,
    env: Vec<(OsString, OsString)>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        std::fs::create_dir_all(bin.join("folder")).unwrap();
        for name in ["a", "b", "ab", "x y"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        place(&bin.join("argv_dump"), "755", DUMP);
        place(&bin.join("no_interpreter"), "755", "echo \"$@\"\nexit 5\n");
        place(&bin.join("not_executable"), "644", DUMP);
        symlink("bin/argv_dump", dir.path().join("argv_dump")).unwrap();
        // PATH has nothing else, so no generated word starts a stranger.
        let env = [
            ("PATH", bin.to_str().unwrap()),
            ("HOME", dir.path().to_str().unwrap()),
            ("BASH_FUNC_exported%%", "() {  echo function \"$@\"\n}"),
        ];
        let env = env
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec();
        Self { dir, env }
    }

    /// Output and exit status; the error of execve(2) when it refuses.
    fn run(&self, program: &Path, argv: &[CString]) -> Result<(Vec<u8>, Option<i32>), i32> {
        let word = |word: &CString| OsStr::from_bytes(word.as_bytes()).to_owned();
        Command::new(program)
            .arg0(word(&argv[0]))
            .args(argv[1..].iter().map(word))
            .env_clear()
            .envs(self.env.iter().cloned())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .map(|output| (output.stdout, output.status.code()))
            .map_err(|error| error.raw_os_error().unwrap())
    }

    fn execute(&self, how: &How) -> Result<(Vec<u8>, Option<i32>), i32> {
        match how {
            How::Exec { program, argv } => {
                let program = Path::new(OsStr::from_bytes(program.as_bytes()));
                match self.run(program, argv) {
                    Err(ENOEXEC) => Err(ENOEXEC),
                    Err(errno) => Ok((vec![], Some(explain::spawn_error(program, errno).0))),
                    Ok(done) => Ok(done),
                }
            }
            How::Cannot { code, .. } => Ok((vec![], Some(*code))),
            How::Script => panic!("no line is that long"),
        }
    }
}

/// Another process writes the file, so that it is never busy when it is run.
fn place(path: &PathBuf, mode: &str, content: &str) {
    let source = path.with_extension("source");
    std::fs::write(&source, content).unwrap();
    let mut install = Command::new("install");
    let installed = install.args(["-m", mode]).arg(source).arg(path).status();
    assert!(installed.unwrap().success());
}

fn lines(dir: &Path) -> impl Strategy<Value = String> {
    let whole = dir.join("argv_dump").to_str().unwrap().to_owned();
    let names = [
        "echo",
        "true",
        "false",
        "exported",
        "nosuch",
        "./nosuch",
        "not_executable",
        "folder",
        "./bin/not_executable",
        "./bin",
        "no_interpreter",
        "printf",
        "test",
        "cd",
        "if",
        "time",
        "A=b",
        "%1",
        "-x",
        "+x",
        "..",
        ".",
        ":",
        "!",
        "~",
        "[",
        "argv_dump=",
        "./a=b",
        "arg*",
        "'argv_dump'",
    ];
    let name = prop_oneof![
        12 => Just("argv_dump".to_owned()),
        4 => Just("./argv_dump".to_owned()),
        2 => Just(whole),
        10 => proptest::sample::select(names.to_vec()).prop_map(str::to_owned),
        1 => "[A-Za-z0-9_.,:+@%=-]{1,3}",
    ];
    let word = prop_oneof![
        15 => "[A-Za-z0-9_./,:+@%=-]{1,8}",
        2 => proptest::sample::select(vec!["if", "then", "-n", "-e", "--help", "in", "a", ".", "=", "%%"])
            .prop_map(str::to_owned),
        2 => "[ab*?\\[\\]{},~!#&|;<>()$`'\"\\\\^é\u{a0}\u{b}=-]{1,3}",
    ];
    let blank = proptest::sample::select(vec![" ", "  ", "\t", " \t"]);
    let words = proptest::collection::vec((blank, word), 0..6);
    let edge = || proptest::sample::select(vec!["", "", "", " ", "\t "]);
    (edge(), name, words, edge()).prop_map(|(begin, name, words, end)| {
        let words: String = words
            .into_iter()
            .map(|(blank, word)| blank.to_owned() + &word)
            .collect();
        format!("{begin}{name}{words}{end}")
    })
}

/// Runs the proof for one shell.
fn compare(shell: &Path) {
    let world = World::new();
    let Ok(shell) = Shell::find(Some(shell.as_os_str()), |_| None) else {
        println!("skipped: there is no {}", shell.display());
        return;
    };
    let runner = Runner::new(shell.clone(), world.env.clone());
    let (direct, by_shell) = (Cell::new(0), Cell::new(0));
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let proof = TestRunner::new(config).run(&lines(world.dir.path()), |line| {
        let how = runner.clone().to_argv(line.as_bytes());
        let shell_way = runner.shell_exec(line.as_bytes());
        if how == shell_way {
            by_shell.set(by_shell.get() + 1);
            return Ok(());
        }
        direct.set(direct.get() + 1);
        // The caller gives what execve(2) does not know to the shell.
        if let Ok(done) = world.execute(&how) {
            let mut expected = world.execute(&shell_way).unwrap();
            // Of what cannot be executed, dash also says 127 where bash says 126.
            if shell.kind == Kind::Dash && done.1 == Some(126) && expected.1 == Some(127) {
                expected.1 = done.1;
            }
            prop_assert_eq!(done, expected, "'{}'", line);
        }
        Ok(())
    });
    proof.unwrap();
    let (direct, by_shell) = (direct.get(), by_shell.get());
    println!("{direct} lines directly, {by_shell} by the shell");
    assert!(direct > CASES / 4 && by_shell > CASES / 4);
}

#[test]
fn what_is_executed_directly_is_what_bash_does() {
    compare(Path::new("/bin/bash"));
}

#[test]
fn what_is_executed_directly_is_what_dash_does() {
    compare(Path::new("/bin/dash"));
}
