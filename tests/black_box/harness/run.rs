//! A run of `pytf`: put together, running, ended.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::facts::WATCHDOG;
use super::{Farm, clip};

/// A run of `pytf` being put together.
pub(crate) struct Pytf<'f> {
    farm: &'f Farm,
    argv: Vec<OsString>,
    env: Vec<(String, OsString)>,
    stdin: Stdio,
    directory: PathBuf,
}

impl<'f> Pytf<'f> {
    pub(super) fn new<A: AsRef<OsStr>>(farm: &'f Farm, args: impl IntoIterator<Item = A>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        let program = OsString::from(env!("CARGO_BIN_EXE_pytf"));
        Self {
            farm,
            argv: std::iter::once(program).chain(args).collect(),
            env: Vec::new(),
            stdin: Stdio::null(),
            directory: farm.root.path().to_owned(),
        }
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().into()));
        self
    }

    /// Lets another program run in the place of `pytf`: an older one.
    pub(crate) fn by(mut self, program: impl AsRef<OsStr>) -> Self {
        program.as_ref().clone_into(&mut self.argv[0]);
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Puts a program before: `setpriv …`, `prlimit …`, `sh -c … --`.
    pub(crate) fn under<S: AsRef<OsStr>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        let wrapper = wrapper.into_iter().map(|arg| arg.as_ref().to_owned());
        self.argv = wrapper.chain(self.argv).collect();
        self
    }

    /// As the user nobody, whom no capability helps.
    pub(crate) fn by_nobody(self) -> Self {
        let ids = ["--reuid", "65534", "--regid", "65534"];
        self.under([&["setpriv"], &ids[..], &["--clear-groups"]].concat())
    }

    /// Under strace, which injects something, on one file alone if one is named. `-b
    /// execve` lets the tasks and the guard alone.
    pub(crate) fn injected(self, what: &str, on: Option<&str>) -> Self {
        let mut strace: Vec<&str> = "strace -f -b execve -qq -o /dev/null".split(' ').collect();
        strace.extend(on.iter().flat_map(|file| ["-P", file]));
        strace.extend(["-e", what]);
        self.under(strace)
    }

    /// Runs it in another directory: the farm's own, by another mount.
    pub(crate) fn within(mut self, directory: PathBuf) -> Self {
        self.directory = directory;
        self
    }

    pub(crate) fn run(self) -> Done<'f> {
        self.start().wait()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the program under test is no task"
    )]
    pub(crate) fn start(self) -> Running<'f> {
        let run = self.farm.runs.borrow().len();
        self.farm
            .runs
            .borrow_mut()
            .push(format!("{:?}\n", self.argv));
        let output = ["out", "err"].map(|name| self.farm.path(format!(".{name}{run}")));
        let (name, mark) = self.farm.mark.split_once('=').unwrap();
        let child = Command::new(&self.argv[0])
            .args(&self.argv[1..])
            .current_dir(self.directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.farm.root.path())
            .env(name, mark)
            .envs(self.env)
            .stdin(self.stdin)
            .stdout(File::create(&output[0]).unwrap())
            .stderr(File::create(&output[1]).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        Running {
            farm: self.farm,
            child,
            run,
            output,
        }
    }
}

/// A `pytf` that runs.
pub(crate) struct Running<'f> {
    farm: &'f Farm,
    pub(crate) child: Child,
    run: usize,
    output: [PathBuf; 2],
}

impl<'f> Running<'f> {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output[1]).unwrap()).into_owned()
    }

    /// Waits for its end; the watchdog ends what hangs.
    pub(crate) fn wait(mut self) -> Done<'f> {
        let pid = Pid::from_raw(self.pid());
        let (ended, watch) = mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            let late = watch.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout);
            late.then(|| kill(pid, Signal::SIGKILL).ok());
            late
        });
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        drop(ended);
        let [stdout, stderr] = self.output.map(|path| fs::read(path).unwrap());
        let text = format!(
            "{status}\nstdout: {}\nstderr: {}\n",
            clip(&stdout),
            clip(&stderr)
        );
        self.farm.runs.borrow_mut()[self.run] += &text;
        assert!(!watchdog.join().unwrap(), "the watchdog had to end pytf");
        Done {
            farm: self.farm,
            status,
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

/// A `pytf` that has ended.
pub(crate) struct Done<'f> {
    farm: &'f Farm,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done<'_> {
    /// It ended with this exit status, and nothing of it is left.
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "exit status (signal {:?})",
            self.status.signal()
        );
        assert_eq!(self.farm.survivors(), [""; 0], "no descendant survives");
        self
    }

    /// It ended with this exit status; others may work on.
    pub(crate) fn leaves(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "exit status (signal {:?})",
            self.status.signal()
        );
        self
    }

    /// What it printed holds every one of `words`.
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            let stdout = String::from_utf8_lossy(&self.stdout);
            let is_said = self.stderr.contains(word) || stdout.contains(word);
            assert!(is_said, "it does not say {word:?}");
        }
        self
    }
}
