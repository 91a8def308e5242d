//! Who uses the GPUs of this node, by nvidia-smi.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crossbeam_channel::bounded;
use nix::unistd::{Uid, User};

/// How long nvidia-smi may take: on a defective GPU it may hang.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The users of GPUs, each once for each UUID of a GPU; none where nvidia-smi does not say it.
pub fn users(path: &OsStr) -> Vec<(String, String)> {
    let mut places = std::env::split_paths(path);
    let program = places.find_map(|place| {
        let program = place.join("nvidia-smi");
        program.is_file().then_some(program)
    });
    let Some(program) = program else {
        return Vec::new();
    };
    let (send, answer) = bounded(1);
    let thread = std::thread::Builder::new().name("gpu-users".into());
    let asking = thread.spawn(move || {
        let mut command = Command::new(program);
        command.args(["--query-compute-apps=gpu_uuid,pid", "--format=csv,noheader"]);
        let _ = send.send(command.stdin(Stdio::null()).output());
    });
    let output = asking
        .ok()
        .and_then(|_| answer.recv_timeout(TIME_LIMIT).ok());
    let Some(Ok(output)) = output else {
        return Vec::new();
    };
    let rows = String::from_utf8_lossy(&output.stdout);
    let mut users: Vec<_> = rows.lines().filter_map(user).collect();
    users.sort();
    users.dedup();
    users
}

/// `GPU-…, 1234`
fn user(row: &str) -> Option<(String, String)> {
    let (gpu, pid) = row.split_once(',')?;
    let pid: u32 = pid.trim().parse().ok()?;
    let owner = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let known = User::from_uid(Uid::from_raw(owner)).ok().flatten();
    let name = known.map_or_else(|| owner.to_string(), |user| user.name);
    Some((gpu.trim().to_owned(), name))
}
