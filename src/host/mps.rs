//! NVIDIA's Multi-Process Service: a daemon of the node that lets processes run
//! on a GPU at the same time and not in turns.
//!
//! Guarantee: the daemon belongs to this farmer alone, in a folder of its own, and has the
//! variable that marks our tasks. So the guard ends it when we are killed.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crossbeam_channel::bounded;

use super::guard;

/// The program that starts the daemon and talks to it.
const CONTROL: &str = "nvidia-cuda-mps-control";
/// The folder of its sockets, by which tasks find it.
const PIPES: &str = "CUDA_MPS_PIPE_DIRECTORY";
/// The folder of its logs.
const LOGS: &str = "CUDA_MPS_LOG_DIRECTORY";
/// How long the daemon may take to start, and to stop.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The daemon while it runs.
pub struct Mps {
    program: PathBuf,
    vars: Vec<(OsString, OsString)>,
    folder: PathBuf,
}

impl Mps {
    /// Starts the daemon for these GPUs, or for all when their UUIDs are not known. It must
    /// be started before this process adopts orphans: the daemon makes itself one. The
    /// error is for people.
    pub fn start(farmer: &str, gpus: &[String], path: &OsStr) -> Result<Self, String> {
        if std::env::var_os(PIPES).is_some() {
            return Err(format!(
                "--mps: {PIPES} is set, so MPS runs already: remove --mps"
            ));
        }
        let program = std::env::split_paths(path)
            .map(|place| place.join(CONTROL))
            .find(|path| path.is_file())
            .ok_or_else(|| {
                format!("--mps needs the program {CONTROL}, which is not in PATH on this node")
            })?;
        // Sockets have short names, so it is not in the workdir.
        let folder = std::env::temp_dir().join(format!("pytf-mps.{}", std::process::id()));
        make(&folder)
            .map_err(|error| format!("--mps: cannot make {}: {error}", folder.display()))?;
        let mut vars = vec![
            (PIPES.into(), folder.clone().into()),
            (LOGS.into(), folder.clone().into()),
            (guard::MARK.into(), farmer.into()),
        ];
        if !gpus.is_empty() {
            vars.push(("CUDA_VISIBLE_DEVICES".into(), gpus.join(",").into()));
        }
        let mps = Self {
            program,
            vars,
            folder,
        };
        mps.control(&["-d"], b"")
            .map_err(|why| format!("--mps: {CONTROL} -d {why}"))?;
        Ok(mps)
    }

    /// The variables of its clients.
    pub fn client_vars(&self) -> [(OsString, OsString); 2] {
        [PIPES, LOGS].map(|name| (name.into(), self.folder.clone().into()))
    }

    /// Stops the daemon.
    pub fn stop(self) -> Result<(), String> {
        let stopped = self
            .control(&[], b"quit\n")
            .map_err(|why| format!("{CONTROL} could not be stopped: it {why}"));
        // When it failed, its log may say why.
        if stopped.is_ok() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
        stopped
    }

    /// Runs the control program, and waits for it up to the time limit.
    fn control(&self, args: &[&str], input: &[u8]) -> Result<(), String> {
        let cannot_run = |error: io::Error| format!("cannot be run: {error}");
        let (reader, mut writer) = io::pipe().map_err(cannot_run)?;
        writer.write_all(input).map_err(cannot_run)?;
        drop(writer);
        let mut command = Command::new(&self.program);
        command
            .args(args)
            // With it, MPS renumbers the GPUs, and the indices of tasks mean other ones.
            .env_remove("CUDA_VISIBLE_DEVICES")
            .envs(self.vars.iter().map(|(name, value)| (name, value)))
            .stdin(reader)
            // The daemon keeps what it gets: ours would stay open.
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let (done, end) = bounded(1);
        std::thread::Builder::new()
            .name("mps".into())
            .spawn(move || drop(done.send(command.status())))
            .map_err(cannot_run)?;
        match end.recv_timeout(TIME_LIMIT) {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("ended with {status}")),
            Ok(Err(error)) => Err(cannot_run(error)),
            Err(_) => Err(format!("has not ended for {}s", TIME_LIMIT.as_secs())),
        }
    }
}

fn make(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}
