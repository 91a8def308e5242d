//! The command lines by which a host is reached: the user's own `ssh`, and what it runs there.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::Command;

use super::greeting::{CANNOT, MARK, NONE};
use super::hash::{hash_of, hex};
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

    /// Runs what it reads from standard input: [`command`].
    pub(super) fn run(&self, host: &Host) -> Command {
        // It may have any character in it, and this none that a shell there may take for more.
        let script = "IFS= read -r s; eval \"$s\"";
        if host.is_here() {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            return command;
        }
        self.at(host, script)
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
             if [ -e \"$c\" ]; \
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

/// What runs a command of the user in a session of its own, with his shell, in a folder: that
/// must be there if `=` is before it, else `?` is. Then words of four bytes come, signals and signs of
/// life. Without one for a minute, or at the end, the command is ended. `end` is a line that is not in
/// it.
pub(super) fn command(folder: &str, command: &str, end: &str) -> String {
    let script = format!(
        "IFS= read -r f; n=$(echo; echo x); n=${{n%x}}; c=; \
         while IFS= read -r l; do [ \"$l\" = \"{end}\" ] && break; c=\"$c$l$n\"; done; \
         w=${{f#?}}; case \"$w\" in \"~/\"*) w=\"$HOME/${{w#??}}\";; esac; \
         case \"$f\" in =*) cd \"$w\" || exit 1;; *) [ -d \"$w\" ] && cd \"$w\";; esac; \
         t=\"timeout 60\"; command -v timeout >/dev/null || t=; \
         exec 3<&0; echo \"{MARK}\"; \
         setsid \"${{SHELL:-sh}}\" -c \"$c\" </dev/null 3<&- & p=$!; \
         ( while s=$($t dd bs=4 count=1 2>/dev/null); [ -n \"$s\" ]; do \
         case $s in TERM|KILL) kill -s $s -- -$p;; esac; done; \
         kill -s TERM -- -$p; sleep 3; kill -s KILL -- -$p \
         ) <&3 >/dev/null 2>&1 3<&- & w=$!; \
         exec 3<&-; wait $p 2>/dev/null; r=$?; kill $w 2>/dev/null; exit $r"
    );
    format!("{script}\n{folder}\n{command}\n{end}\n")
}

/// Whether a path means the same to every shell.
fn is_plain(path: &str) -> bool {
    path.chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c))
}

/// 32 random bytes in hex.
pub(super) fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
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
