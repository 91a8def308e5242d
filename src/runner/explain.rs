//! Why a program cannot be executed, for the log of its task.
//!
//! A shell says "not found" even when the interpreter of a script is missing; the sentences
//! here name what must be fixed. Guarantee: the exit status is that of bash, 127 for what does
//! not exist and 126 otherwise.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::shell::is_executable;

/// What this error of execve(2) means for `program`: an exit status and a sentence.
pub fn spawn_error(program: &Path, errno: i32) -> (i32, String) {
    let errno = Errno::from_raw(errno);
    let code = if errno == Errno::ENOENT { 127 } else { 126 };
    let shown = program.display();
    let why = match errno {
        Errno::ENOENT => missing(program),
        Errno::EACCES => forbidden(program),
        Errno::ENOEXEC => no_format(program),
        Errno::ENOTDIR => {
            format!("'{shown}' does not exist: a part of its path is not a directory")
        }
        Errno::E2BIG => "its arguments and environment are longer than the kernel takes".into(),
        Errno::ETXTBSY => format!("'{shown}' is open for writing somewhere"),
        other => format!("'{shown}' cannot be executed: {}", other.desc()),
    };
    (code, why)
}

/// Why this program cannot be executed, as far as that can be known without executing it.
pub fn before_start(program: &Path) -> Option<(i32, String)> {
    let errno = match interpreter(program) {
        _ if !program.exists() => Errno::ENOENT,
        _ if !is_executable(program) => Errno::EACCES,
        Some(interpreter) if !interpreter.path.exists() => Errno::ENOENT,
        _ => return None,
    };
    Some(spawn_error(program, errno as i32))
}

/// Why `name` was not found in `path`: an exit status and a sentence.
pub fn not_in_path(name: &OsStr, path: &[PathBuf]) -> (i32, String) {
    let shown = name.display();
    // Directories do not count: shells pass over them.
    let candidate = path
        .iter()
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    if let Some(file) = candidate {
        return (126, forbidden(&file));
    }
    let here = if Path::new(name).is_file() {
        format!("; a file of that name is here: did you mean ./{shown}?")
    } else {
        String::new()
    };
    (127, format!("'{shown}' was not found in PATH{here}"))
}

/// `ENOENT`: the program, or what it needs to be executed, does not exist.
fn missing(program: &Path) -> String {
    let shown = program.display();
    if let Some(interpreter) = interpreter(program) {
        let line = format!(
            "(its first line is '#!{}')",
            interpreter.line.escape_ascii()
        );
        return if interpreter.line.ends_with(b"\r") {
            format!(
                "'{shown}' is a script with Windows line ends {line}: remove the CRs (dos2unix)"
            )
        } else {
            let name = interpreter.path.display();
            format!("'{shown}' needs the interpreter '{name}', which does not exist {line}")
        };
    }
    if program.exists() {
        return format!(
            "'{shown}' exists, but the loader that it needs does not: \
             it was built for another system"
        );
    }
    match program.read_link() {
        Ok(target) => format!(
            "'{shown}' is a link to '{}', which does not exist",
            target.display()
        ),
        Err(_) => format!("'{shown}' does not exist"),
    }
}

/// `EACCES`: the program or its path may not be accessed.
fn forbidden(program: &Path) -> String {
    let shown = program.display();
    if program.is_dir() {
        return format!("'{shown}' is a directory");
    }
    match program.try_exists() {
        Ok(true) if !program.is_file() => return format!("'{shown}' is not a regular file"),
        Ok(true) if !is_executable(program) => {
            return format!("'{shown}' exists but is not executable (chmod +x '{shown}')");
        }
        Ok(_) => (),
        Err(_) => return format!("a directory on the way to '{shown}' may not be entered"),
    }
    match interpreter(program) {
        Some(interpreter) if !is_executable(&interpreter.path) => format!(
            "'{shown}' needs the interpreter '{}', which is not executable \
             (its first line is '#!{}')",
            interpreter.path.display(),
            interpreter.line.escape_ascii()
        ),
        _ => format!(
            "'{shown}' may not be executed: is its file system mounted with noexec, \
             or is there a security policy?"
        ),
    }
}

/// `ENOEXEC`: a file that is not a program. (The shell runs a script without `#!`.)
fn no_format(program: &Path) -> String {
    let shown = program.display();
    if head(program).starts_with(b"\x7fELF") {
        format!("'{shown}' is a program for another kind of machine, or damaged")
    } else {
        format!("'{shown}' is neither a program nor a script with '#!' in its first line")
    }
}

/// The interpreter of a script, from its first line.
struct Interpreter {
    /// Its path.
    path: PathBuf,
    /// The line after `#!`.
    line: Vec<u8>,
}

/// As the kernel reads it: after `#!`, blanks, then the path up to a blank.
fn interpreter(program: &Path) -> Option<Interpreter> {
    let head = head(program);
    let line = head.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let path = line
        .split(|b| matches!(b, b' ' | b'\t'))
        .find(|word| !word.is_empty())?;
    Some(Interpreter {
        path: OsStr::from_bytes(path).into(),
        line: line.to_owned(),
    })
}

/// The first 256 bytes, which is as far as the kernel looks; empty when they
/// cannot be read. Only of regular files: opening a FIFO would block.
fn head(program: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if program.is_file()
        && let Ok(file) = File::open(program)
    {
        // After an error, what was read before is used.
        let _ = file.take(256).read_to_end(&mut head);
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    /// Another process writes the file: one that we had open for writing could
    /// be busy still, through the child of another test's thread.
    fn place(path: &Path, mode: u32, content: &[u8]) {
        let source = path.with_extension("source");
        fs::write(&source, content).unwrap();
        let copied = Command::new("cp").arg(&source).arg(path).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn dir_of_faults() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, mode, content) in [
            ("plain", 0o644, &b"echo\n"[..]),
            ("typo", 0o755, b"#! /usr/bin/pyhton -u\nprint()\n"),
            ("windows", 0o755, b"#!/bin/sh\r\necho\r\n"),
            ("elf", 0o755, b"\x7fELF\x02\x01\x01 and so on"),
            ("sheer", 0o755, b"\0\0\0\0"),
        ] {
            place(&at(name), mode, content);
        }
        let script = format!("#!{}\n", at("plain").display());
        place(&at("nested"), 0o755, script.as_bytes());
        fs::create_dir(at("folder")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        dir
    }

    #[test]
    fn the_sentence_names_what_is_to_be_mended() {
        let dir = dir_of_faults();
        for (name, code, said) in [
            ("none", 127, "does not exist"),
            ("dangling", 127, "a link to 'nowhere', which does not exist"),
            (
                "typo",
                127,
                "'/usr/bin/pyhton', which does not exist (its first line is '#! /usr",
            ),
            ("windows", 127, "Windows line ends"),
            ("plain", 126, "exists but is not executable (chmod +x '"),
            ("folder", 126, "is a directory"),
            ("nested", 126, "plain', which is not executable"),
            ("plain/x", 126, "not a directory"),
            ("elf", 126, "another kind of machine"),
            ("sheer", 126, "neither a program nor a script"),
        ] {
            let program = dir.path().join(name);
            // What the kernel really says.
            let errno = Command::new(&program).output().unwrap_err();
            let (found, why) = spawn_error(&program, errno.raw_os_error().unwrap());
            assert!(why.contains(said), "{name}: {why}");
            assert_eq!(found, code, "{name}");
            let bash = Command::new("bash")
                .arg("-c")
                .arg(&program)
                .output()
                .unwrap();
            assert_eq!(bash.status.code(), Some(code), "{name}: bash");
        }
        let (code, why) = spawn_error(Path::new("/bin/ls"), 7);
        assert_eq!(code, 126);
        assert!(why.contains("longer than the kernel takes"));
        assert!(spawn_error(Path::new("x"), 5).1.contains("I/O error"));
    }

    #[test]
    fn what_is_not_in_path_is_searched_for() {
        let dir = dir_of_faults();
        let path = [PathBuf::from("/nonexistent"), dir.path().to_owned()];
        let said = |name: &str| not_in_path(OsStr::new(name), &path);
        assert_eq!(said("none"), (127, "'none' was not found in PATH".into()));
        assert_eq!(said("folder").0, 127);
        assert_eq!(said("plain").0, 126);
        assert!(said("plain").1.contains("chmod +x"));
        // Tests run in the folder of Cargo.toml.
        let (code, why) = said("Cargo.toml");
        assert_eq!(code, 127);
        assert!(why.ends_with("did you mean ./Cargo.toml?"), "{why}");
    }
}
