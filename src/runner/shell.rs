//! The shell for lines that need one: its path and its kind.
//!
//! Guarantee: the path of a shell is absolute. So neither a task that changes the directory nor
//! a relative element of `PATH` decides which shell runs.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, eaccess};

/// The kind of a shell, as far as its behaviour is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GNU bash, under its own name or as sh.
    Bash,
    /// The Debian Almquist shell, under its own name or as sh.
    Dash,
    /// Any other. Nothing is executed directly in its place: zsh reads a start-up file
    /// each time, ksh has its own aliases, and so on.
    Other,
}

/// A shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// Its path, absolute.
    pub path: PathBuf,
    /// Its kind.
    pub kind: Kind,
}

/// Why there is no shell.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoShell {
    /// The requested shell does not exist.
    #[error("the shell '{}' was not found", .0.display())]
    NotFound(PathBuf),
    /// The requested shell cannot be executed.
    #[error("the shell '{}' is not an executable file", .0.display())]
    NotExecutable(PathBuf),
    /// No shell was requested, and there is neither bash nor sh.
    #[error("neither bash nor sh was found, in /bin, /usr/bin or PATH: name one with --shell")]
    None,
}

impl Shell {
    /// Finds the shell: the one that is `wanted`, by path or by name, else bash,
    /// else sh. `variable` gives `PATH`, of which only absolute elements count.
    pub fn find(
        wanted: Option<&OsStr>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, NoShell> {
        let path = variable("PATH").unwrap_or_default();
        let dirs: Vec<PathBuf> = std::env::split_paths(&path)
            .filter(|dir| dir.is_absolute())
            .collect();
        let in_dirs = |name: &OsStr| {
            dirs.iter()
                .map(|dir| dir.join(name))
                .find(|p| is_executable(p))
        };
        let Some(wanted) = wanted else {
            return ["bash", "sh"]
                .iter()
                .find_map(|name| {
                    let usual = ["/bin", "/usr/bin"].map(|dir| Path::new(dir).join(name));
                    let usual = usual.into_iter().find(|path| is_executable(path));
                    usual.or_else(|| in_dirs(OsStr::new(name)))
                })
                .map(Self::at)
                .ok_or(NoShell::None);
        };
        let wanted = Path::new(wanted);
        let found = if wanted.components().count() == 1 && wanted.is_relative() {
            in_dirs(wanted.as_os_str())
        } else {
            std::path::absolute(wanted)
                .ok()
                .filter(|path| path.exists())
        };
        let found = found.ok_or_else(|| NoShell::NotFound(wanted.to_owned()))?;
        if !is_executable(&found) {
            return Err(NoShell::NotExecutable(found));
        }
        Ok(Self::at(found))
    }

    /// The shell at an absolute path; what it is by its real name, so that
    /// `/bin/sh` is known where it is a link to bash or dash.
    fn at(path: PathBuf) -> Self {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let kind = match real.file_name().and_then(OsStr::to_str) {
            Some("bash") => Kind::Bash,
            Some("dash") => Kind::Dash,
            _ => Kind::Other,
        };
        Self { path, kind }
    }
}

/// Whether a path is a file that we may execute. (A directory is "executable"
/// too, by its mode.)
pub fn is_executable(path: &Path) -> bool {
    path.is_file() && eaccess(path, AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn program(path: &Path) {
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_wanted_shell_is_found_by_path_or_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        program(&dir.join("bash"));
        program(&dir.join("fish"));
        symlink("bash", dir.join("sh")).unwrap();
        std::fs::write(dir.join("plain"), "").unwrap();
        let path = |_: &str| Some(std::env::join_paths([Path::new("rel"), dir]).unwrap());
        let find = |wanted: &OsStr| Shell::find(Some(wanted), path);
        for (name, kind) in [
            ("bash", Kind::Bash),
            ("sh", Kind::Bash),
            ("fish", Kind::Other),
        ] {
            let expected = Shell {
                path: dir.join(name),
                kind,
            };
            assert_eq!(find(OsStr::new(name)), Ok(expected.clone()));
            assert_eq!(find(dir.join(name).as_os_str()), Ok(expected));
        }
        let missing = PathBuf::from("csh");
        assert_eq!(find(missing.as_os_str()), Err(NoShell::NotFound(missing)));
        let missing = dir.join("none/sh");
        assert_eq!(find(missing.as_os_str()), Err(NoShell::NotFound(missing)));
        let plain = dir.join("plain");
        assert_eq!(find(plain.as_os_str()), Err(NoShell::NotExecutable(plain)));
        let found = Shell::find(None, |_| None).unwrap();
        assert!(found.path.is_absolute());
    }
}
