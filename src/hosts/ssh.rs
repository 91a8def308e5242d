//! The command lines by which a host is reached: the user's own `ssh`, and what it runs there.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use super::greeting::{CANNOT, MARK, NONE};
use super::hash::hash_of;
use super::host_side::ASK;
use crate::VERSION;
use crate::model::hosts::Host;

/// How hosts are reached.
pub(super) struct Ssh {
    /// `--ssh-option`.
    options: Vec<String>,
    /// This program.
    program: PathBuf,
    /// Its SHA-256 in hex.
    hash: String,
}

impl Ssh {
    /// Reads this program, which hosts may need a copy of.
    pub(super) fn new(options: Vec<String>) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let hash = hash_of(&mut File::open(&program)?)?;
        Ok(Self {
            options,
            program,
            hash,
        })
    }

    /// Asks a host: its end of the greeting, in whatever pytf of this version it has.
    pub(super) fn ask(&self, host: &Host) -> Command {
        if host.is_here() {
            let mut command = Command::new(&self.program);
            command.arg(ASK);
            // A pytf that a task starts there is not meant.
            for name in ["PYTF_HOSTS", "PYTF_SSH_OPTION", "PYTF_COPY_IN"] {
                command.env_remove(name);
            }
            return command;
        }
        self.at(host, &self.start_script(host.pytf.as_deref()))
    }

    /// Copies this program to a host, from standard input.
    pub(super) fn copy(&self, host: &Host) -> Command {
        self.at(host, &self.copy_script())
    }

    /// This program, to be copied.
    pub(super) fn open_program(&self) -> io::Result<File> {
        File::open(&self.program)
    }

    /// What runs a script on a host.
    fn at(&self, host: &Host, script: &str) -> Command {
        let mut command = Command::new("ssh");
        // Without a terminal: a signal to it must not depend on which one there was. The first
        // value of an option holds, so the user's own come first.
        command.args(["-T", "-x"]);
        for option in &self.options {
            command.args(["-o", option]);
        }
        for option in [
            "BatchMode=yes",
            "ConnectTimeout=20",
            "ServerAliveInterval=10",
            "ServerAliveCountMax=3",
            // Over a pipe, most of what is sent is the state of the run, which shrinks to a 16th.
            "Compression=yes",
        ] {
            command.args(["-o", option]);
        }
        if let Some(port) = host.port {
            command.arg("-p").arg(port.to_string());
        }
        for (option, value) in [("-l", &host.user), ("-i", &host.key)] {
            if let Some(value) = value {
                command.args([option, value]);
            }
        }
        debug_assert!(!script.contains(['\'', '!', '\n', '\\']), "for every shell");
        command.args(["--", host.address()]);
        // Its own shell ends there, or a signal to the farmer would become a status.
        command.arg(format!("exec sh -c '{script}'"));
        command
    }

    /// The name of a copy of this program.
    fn copied(&self) -> String {
        let folder = "${XDG_CACHE_HOME:-$HOME/.cache}/pytf";
        format!("{folder}/pytf-{}", &self.hash[..32])
    }

    /// Starts the first pytf of this version that there is: that of the user, that at our own
    /// path, a copy, or that in PATH.
    fn start_script(&self, given: Option<&str>) -> String {
        let copied = self.copied();
        let own = self.program.to_str().filter(|path| is_plain(path));
        let (candidates, copied) = match given.map(|path| path.strip_prefix("~/").ok_or(path)) {
            // Without another one, if it is not of this version.
            Some(Ok(path)) => (format!("\"$HOME/{path}\""), String::new()),
            Some(Err(path)) => (format!("\"{path}\""), String::new()),
            None => (format!("{} \"$c\" pytf", own.unwrap_or_default()), copied),
        };
        format!(
            "c=\"{copied}\"; v=\"pytf {VERSION}\"; \
             for p in {candidates}; do \
             [ \"$(\"$p\" --version 2>/dev/null </dev/null)\" = \"$v\" ] && exec \"$p\" {ASK}; \
             done; \
             if [ -x \"$c\" ]; \
             then echo \"{MARK}{CANNOT}$(uname -s -m)\"; \"$c\" --version </dev/null >/dev/null; \
             else echo \"{MARK}{NONE}$(uname -s -m)\"; fi; exit 69"
        )
    }

    /// Writes a copy of this program, checks it, and gives it its name.
    fn copy_script(&self) -> String {
        let (copied, hash) = (self.copied(), &self.hash);
        format!(
            "umask 077; c=\"{copied}\"; t=\"$c.new.$$\"; \
             mkdir -p \"${{c%/*}}\" && cat >\"$t\" && chmod 700 \"$t\" || exit 1; \
             s=$(sha256sum <\"$t\" | cut -c1-64); \
             if [ \"$s\" = \"{hash}\" ]; then mv -f \"$t\" \"$c\"; \
             else rm -f \"$t\"; echo \"sha256sum of the copy is $s, not {hash}\" >&2; exit 1; fi"
        )
    }
}

/// Whether a path means the same to every shell.
fn is_plain(path: &str) -> bool {
    path.chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        let words = command
            .get_args()
            .map(|word| word.to_str().unwrap().to_owned());
        words.collect()
    }

    #[test]
    fn what_ssh_is_given() {
        let ssh = Ssh {
            options: vec!["ConnectTimeout=3".into()],
            program: "/opt/it's/pytf".into(),
            hash: "0".repeat(64),
        };
        let host = Host {
            name: "n1".into(),
            address: Some("10.0.0.1".into()),
            user: Some("me".into()),
            port: Some(2222),
            key: Some("~/my key".into()),
            ..Host::default()
        };
        let words = words(&ssh.ask(&host));
        let (script, before) = words.split_last().unwrap();
        let before = before.join(" ");
        assert!(
            before.starts_with("-T -x -o ConnectTimeout=3 -o BatchMode=yes"),
            "{before}"
        );
        assert!(
            before.ends_with("-p 2222 -l me -i ~/my key -- 10.0.0.1"),
            "{before}"
        );
        // A path with a quote is left out, and the script is one word for every shell.
        assert!(
            script.starts_with("exec sh -c '") && script.ends_with('\''),
            "{script}"
        );
        assert_eq!(script.matches('\'').count(), 2, "{script}");
        assert!(!script.contains("/opt"), "{script}");
        assert_eq!(ssh.copy_script().matches('\'').count(), 0);
    }
}
