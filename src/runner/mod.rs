//! How a task's line becomes a program to execute. Nothing is started here.
//!
//! The default runner executes a simple command directly, any other line by the shell, as make
//! and ninja do: `direct` decides which, `shell` finds the shell, `explain` says why a program
//! cannot be executed. Another runner puts the line into the arguments of another program
//! (`wrapper`): `ready` has those that are ready to use, `python` those that are classes of
//! users, and `chosen` finds the one of a task. Guarantee: direct execution changes the speed of a task and the text of an error,
//! never its arguments, its output or its exit status.
//!
//! A caller calls `to_argv` and spawns the result. When execve(2) fails with `ENOEXEC`, it
//! spawns `shell_exec` instead, as a shell does. `explain::spawn_error` explains any other
//! error that is the fault of the task.

pub mod chosen;
pub mod direct;
pub mod explain;
pub mod python;
pub mod ready;
pub mod shell;
pub mod wrapper;

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use direct::{Rules, direct_words};
use shell::{Shell, is_executable};
pub use wrapper::LONGEST_ARGUMENT;
use wrapper::{Values, Wrapper, not_an_option};

/// Where a program is looked for that the shell has as a builtin: not in `PATH`,
/// since the shell would not look there either.
const SYSTEM: [&str; 2] = ["/bin", "/usr/bin"];

/// What to do with a task's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// Execute a program: the task's own or the shell.
    Exec {
        /// Its path, always with a slash.
        program: CString,
        /// Its arguments; the first is the program as the user wrote it.
        argv: Vec<CString>,
    },
    /// The line is too long for an argument: write it into a file and execute
    /// `Runner::script_exec` of that file.
    Script,
    /// There is nothing to execute: the task has failed.
    Cannot {
        /// The exit status that a shell would give: 126 or 127.
        code: i32,
        /// Why, for the task's log.
        why: String,
    },
}

/// Turns lines into programs to execute.
#[derive(Clone, Debug)]
pub struct Runner {
    shell: Shell,
    rules: Rules,
    path: Vec<PathBuf>,
    /// Programs that were found in `PATH`.
    found: HashMap<Vec<u8>, CString>,
}

impl Runner {
    /// A runner for tasks that get this environment.
    pub fn new(shell: Shell, env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let env: Vec<(OsString, OsString)> = env.into_iter().collect();
        let path = env.iter().find(|(name, _)| name == "PATH");
        Self {
            rules: Rules::new(shell.kind, &env),
            path: path.map_or_else(Vec::new, |(_, path)| elements(path)),
            found: HashMap::new(),
            shell,
        }
    }

    /// The shell for lines that need one.
    pub fn shell(&self) -> &Shell {
        &self.shell
    }

    /// Decides how `line` is executed.
    pub fn to_argv(&mut self, line: &[u8]) -> How {
        if line.len() > LONGEST_ARGUMENT {
            return How::Script;
        }
        match direct_words(line, &self.rules) {
            Some(words) => self.direct(line, &words),
            None => self.shell_exec(line),
        }
    }

    /// Another program executes the line of these values.
    pub fn wrapped(&mut self, wrapper: &Wrapper, values: &Values<'_>) -> How {
        let arguments = match wrapper.arguments(values, &self.shell.path) {
            Ok(arguments) => arguments,
            Err(why) => return How::Cannot { code: 126, why },
        };
        let Some(name) = arguments.first() else {
            let why = "the line has no word".to_owned();
            return How::Cannot { code: 127, why };
        };
        let program = if name.contains(&b'/') {
            name
        } else {
            match self.look_up(name) {
                Ok(program) => program,
                Err(cannot) => return cannot,
            }
        };
        exec(program, arguments.iter().map(Vec::as_slice))
    }

    /// The shell executes `line`, whatever it is.
    pub fn shell_exec(&self, line: &[u8]) -> How {
        self.shell_argv(&[b"-c", &not_an_option(line)])
    }

    /// The shell executes the lines of the file `script`. A path with a slash,
    /// or the shell may look for it in `PATH`.
    pub fn script_exec(&self, script: &Path) -> How {
        self.shell_argv(&[script.as_os_str().as_bytes()])
    }

    fn shell_argv(&self, arguments: &[&[u8]]) -> How {
        let shell = self.shell.path.as_os_str().as_bytes();
        exec(
            shell,
            std::iter::once(shell).chain(arguments.iter().copied()),
        )
    }

    fn direct(&mut self, line: &[u8], words: &[&[u8]]) -> How {
        let name = words[0];
        let program = if name.contains(&b'/') {
            // execve(2) finds out whether it can be executed.
            name
        } else if direct::is_same(name) {
            match SYSTEM
                .iter()
                .map(Path::new)
                .find_map(|dir| executable(dir, name))
            {
                Some(program) => {
                    return exec(program.as_os_str().as_bytes(), words.iter().copied());
                }
                None => return self.shell_exec(line),
            }
        } else {
            match self.look_up(name) {
                Ok(program) => program,
                Err(cannot) => return cannot,
            }
        };
        exec(program, words.iter().copied())
    }

    /// Looks `name` up in `PATH` as execvp(3) does: the first executable file.
    /// What was found is kept for as long as it is there.
    fn look_up<'a>(&'a mut self, name: &'a [u8]) -> Result<&'a [u8], How> {
        let there = self
            .found
            .get(name)
            .is_some_and(|program| is_executable(Path::new(OsStr::from_bytes(program.as_bytes()))));
        if !there {
            let program = self.path.iter().find_map(|dir| executable(dir, name));
            let Some(program) = program else {
                self.found.remove(name);
                let (code, why) = explain::not_in_path(OsStr::from_bytes(name), &self.path);
                return Err(How::Cannot { code, why });
            };
            let program = CString::new(program.into_os_string().into_vec())
                .expect("PATH and the words of a line hold no NUL byte");
            self.found.insert(name.to_owned(), program);
        }
        Ok(self.found[name].as_bytes())
    }
}

/// The elements of `PATH`; an empty one is the current directory.
fn elements(path: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| {
            if dir.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                dir
            }
        })
        .collect()
}

fn executable(dir: &Path, name: &[u8]) -> Option<PathBuf> {
    let program = dir.join(OsStr::from_bytes(name));
    is_executable(&program).then_some(program)
}

fn exec<'a>(program: &[u8], argv: impl Iterator<Item = &'a [u8]>) -> How {
    let argv: Result<Vec<CString>, _> = argv.map(CString::new).collect();
    match (CString::new(program), argv) {
        (Ok(program), Ok(argv)) => How::Exec { program, argv },
        _ => How::Cannot {
            code: 126,
            why: "the command holds a NUL byte".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shell::Kind;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn runner(path: &OsStr) -> Runner {
        let shell = Shell {
            path: "/bin/bash".into(),
            kind: Kind::Bash,
        };
        Runner::new(shell, [("PATH".into(), path.to_owned())])
    }

    fn program(path: &Path, mode: u32) {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// What would be executed, as text: `program: argv`.
    fn shown(how: &How) -> String {
        match how {
            How::Exec { program, argv } => {
                let argv: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
                format!("{}: {}", program.to_string_lossy(), argv.join("|"))
            }
            How::Script => "script".into(),
            How::Cannot { code, why } => format!("{code}: {why}"),
        }
    }

    #[test]
    fn a_line_becomes_a_program() {
        let mut runner = runner(OsStr::new("/nonexistent:/bin:/usr/bin"));
        for (line, expected) in [
            ("cat  a b", "/bin/cat: cat|a|b"),
            ("./cat a", "./cat: ./cat|a"),
            ("echo a", "/bin/echo: echo|a"),
            ("cat *", "/bin/bash: /bin/bash|-c|cat *"),
            ("-x", "/bin/bash: /bin/bash|-c| -x"),
            ("+x", "/bin/bash: /bin/bash|-c| +x"),
            ("nosuch a", "127: 'nosuch' was not found in PATH"),
        ] {
            assert_eq!(shown(&runner.to_argv(line.as_bytes())), expected);
        }
        assert_eq!(
            shown(&runner.shell_exec(b"cat a")),
            "/bin/bash: /bin/bash|-c|cat a"
        );
        assert_eq!(
            shown(&runner.script_exec(Path::new("/w/script"))),
            "/bin/bash: /bin/bash|/w/script"
        );
        assert_eq!(
            shown(&runner.to_argv(b"cat \0")),
            "126: the command holds a NUL byte"
        );
    }

    #[test]
    fn a_long_line_goes_into_a_file() {
        let mut runner = runner(OsStr::new("/bin"));
        for (length, script) in [(LONGEST_ARGUMENT, false), (LONGEST_ARGUMENT + 1, true)] {
            let line = vec![b'-'; length];
            let how = runner.to_argv(&line);
            assert_eq!(how == How::Script, script);
            if let How::Exec { program, argv } = how {
                let (program, argv) = (program.to_str().unwrap(), &argv[1..]);
                let argv = argv.iter().map(|word| OsStr::from_bytes(word.as_bytes()));
                let run = std::process::Command::new(program).args(argv).output();
                // The kernel takes it; there is no such command.
                assert_eq!(run.unwrap().status.code(), Some(127));
            }
        }
    }

    #[test]
    fn a_program_is_looked_up_as_execvp_does() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b", "c"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::create_dir(at("a/run")).unwrap();
        program(&at("b/run"), 0o644);
        program(&at("c/run"), 0o755);
        program(&at("b/cat"), 0o755);
        let path = std::env::join_paths([at("a"), at("b"), at("c")]).unwrap();
        let mut runner = runner(&path);
        let expect = |runner: &mut Runner, line: &str, program: &str| {
            let shown = shown(&runner.to_argv(line.as_bytes()));
            assert_eq!(shown, format!("{}: {line}", at(program).display()));
        };
        expect(&mut runner, "run", "c/run");
        expect(&mut runner, "cat", "b/cat");
        // What was found is kept for as long as it is there.
        program(&at("a/cat"), 0o755);
        expect(&mut runner, "cat", "b/cat");
        fs::remove_file(at("b/cat")).unwrap();
        expect(&mut runner, "cat", "a/cat");
        fs::remove_file(at("c/run")).unwrap();
        let how = runner.to_argv(b"run");
        assert!(matches!(&how, How::Cannot { code: 126, .. }), "{how:?}");
        // What the shell has as a builtin is not looked for in PATH.
        program(&at("a/echo"), 0o755);
        assert_eq!(shown(&runner.to_argv(b"echo")), "/bin/echo: echo");
    }

    #[test]
    fn an_empty_element_is_the_current_directory() {
        assert_eq!(
            elements(OsStr::new(":/bin::d:")),
            [".", "/bin", ".", "d", "."].map(PathBuf::from)
        );
    }
}
