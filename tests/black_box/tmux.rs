//! A terminal for programs that need one: tmux keeps it, tests type and read.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::harness::{Farm, has, skip, until};

/// How many servers there were: a new one cannot have the socket of one that ends.
static SERVERS: AtomicU32 = AtomicU32::new(0);

/// A terminal with a shell, on a server of its own.
pub(crate) struct Tmux {
    socket: PathBuf,
    /// The process of the shell.
    pub(crate) shell: i32,
}

impl Tmux {
    /// A terminal with this shell in the folder of the farm, unless there is no tmux.
    pub(crate) fn start(farm: &Farm, shell: &str) -> Option<Self> {
        if !has("tmux") {
            skip("there is no tmux");
            return None;
        }
        let mut tmux = Self {
            socket: farm.path(format!("tmux{}", SERVERS.fetch_add(1, Relaxed))),
            shell: 0,
        };
        let folder = farm.path("");
        let folder = folder.to_str().unwrap();
        let shell = format!("exec {shell}");
        let size = ["-x", "100", "-y", "30", "-c", folder, &shell];
        let start = ["-f", "/dev/null", "-u", "new-session", "-d"];
        tmux.run(&[&start[..], &size[..]].concat());
        tmux.shell = tmux.ask("#{pane_pid}").parse().unwrap();
        Some(tmux)
    }

    pub(crate) fn run(&self, args: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        let done = tmux
            .arg("-S")
            .arg(&self.socket)
            .args(args)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "tmux {args:?}: {error}");
        String::from_utf8(done.stdout).unwrap()
    }

    pub(crate) fn ask(&self, what: &str) -> String {
        self.run(&["display-message", "-p", what]).trim().to_owned()
    }

    pub(crate) fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    pub(crate) fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    pub(crate) fn shows(&self, text: &str) {
        until(&format!("'{text}' on the screen"), || {
            self.screen().contains(text)
        });
    }

    pub(crate) fn hides(&self, text: &str) {
        until(&format!("no '{text}' on the screen"), || {
            !self.screen().contains(text)
        });
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let mut tmux = Command::new("tmux");
        let _ = tmux.arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}
