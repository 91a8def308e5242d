//! The guard: a small process that kills our tasks if this process dies, so that no task runs
//! on unnoticed while it is run again elsewhere.
//!
//! It reads from a socket to which only we can write. While we live it sleeps; when the socket
//! is closed without a message, we are dead. It then ends every group in the table that we
//! share with it, and every process that has our mark in its environment, until none is left.
//! Meanwhile it keeps our journal open and thus locked: **no farmer can take over our tasks before
//! they are gone.**
//!
//! It is not our child: a scheduler that ends our descendants one by one (Slurm's
//! proctrack/linuxproc) must not end the guard with them, since a slot may start another
//! task between the death of one and ours. So the process that we start only starts the
//! guard, and ends.
//!
//! In the hot path this costs one write of four bytes to memory at the start of
//! a task and one at its end; `posix_spawn` stays.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, daemon};
use rustix::fs::{MemfdFlags, memfd_create};

use super::process::Spawn;

/// The hidden command that makes a process the guard.
pub const COMMAND: &str = "__guard";
/// The variable by which a task's processes are known, whatever group they are in.
pub const MARK: &str = "PYTF_FARMER";

/// The farmer's side of its guard.
pub struct Guard {
    pid: Pid,
    line: UnixStream,
    table: Arc<File>,
}

impl Guard {
    /// Starts the guard of the farmer with this name; `journal` is a handle on
    /// its open, locked journal. Before orphans become ours, or it would be one.
    pub fn start(farmer: &str, journal: &OwnedFd) -> io::Result<Self> {
        let (mut line, theirs) = UnixStream::pair()?;
        let table = memfd_create("pytf-groups", MemfdFlags::CLOEXEC)?;
        let first = spawn(farmer, [theirs.as_fd(), journal.as_fd(), table.as_fd()])?;
        drop(theirs);
        let _ = waitpid(first, None);
        let mut pid = [0; 4];
        line.read_exact(&mut pid)?;
        Ok(Self {
            pid: Pid::from_raw(i32::from_ne_bytes(pid)),
            line,
            table: Arc::new(table.into()),
        })
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A handle on the table of groups, for one slot.
    pub fn row(&self, slot: u32) -> Row {
        let (table, at) = (self.table.clone(), u64::from(slot) * 4);
        Row { table, at }
    }

    /// Ends it, when no task runs any more.
    pub fn stop(mut self) {
        let _ = self.line.write_all(b"q");
        // Until it is gone, and its hold on the journal with it.
        let _ = io::copy(&mut self.line, &mut io::sink());
        // It is our child only where we are the first process of all.
        let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
    }
}

/// Starts ourselves as the guard of this farmer.
fn spawn(farmer: &str, [stdin, stdout, stderr]: [BorrowedFd; 3]) -> io::Result<Pid> {
    let argv = ["pytf", COMMAND, farmer].map(|word| CString::new(word).unwrap_or_default());
    let spawn = Spawn {
        // Whatever happens to the file that we were started from.
        program: c"/proc/self/exe",
        argv: &argv,
        env: &[],
        stdin,
        stdout,
        stderr,
    };
    Ok(spawn.start()?)
}

/// A slot's row in the table of groups.
pub struct Row {
    table: Arc<File>,
    at: u64,
}

impl Row {
    /// The group runs from now on; 0 when none does.
    pub fn set(&self, group: i32) {
        // Memory: it cannot fail but for lack of it, and then the mark stays.
        let _ = self.table.write_all_at(&group.to_ne_bytes(), self.at);
    }
}

/// What a process does that was started with [`COMMAND`] and these words.
pub fn run(words: &[String]) {
    if let [farmer] = words {
        super::signals::install_noop_handlers();
        // The farmer that waits for it finds the socket closed.
        if detach().is_ok() {
            watch(farmer);
        }
    }
}

/// Detaches from its parent, in a session of its own, and reports its process id. A fork
/// costs half as much as another start of the program.
fn detach() -> io::Result<()> {
    let (keep_folder, keep_descriptors) = (false, true);
    daemon(keep_folder, keep_descriptors)?;
    let line = io::stdin().as_fd().try_clone_to_owned()?;
    UnixStream::from(line).write_all(&std::process::id().to_ne_bytes())
}

/// The guard's whole life.
fn watch(farmer: &str) {
    let mut word = [0_u8];
    let farmer_lives = loop {
        match io::stdin().read(&mut word) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break matches!(read, Ok(1)),
        }
    };
    if farmer_lives {
        return;
    }
    end_groups();
    end_all(farmer);
}

/// Ends whatever a dead farmer has left on this node, until nothing is found any
/// more. The guard does it, or the farmer that takes over when the guard died, too.
pub fn end_all(farmer: &str) {
    // A process that forks while it is being looked for is found the next time.
    let mut clean = 0;
    for _round in 0..10_000 {
        clean = if end_marked(farmer) == 0 {
            clean + 1
        } else {
            0
        };
        if clean == 2 {
            return;
        }
    }
}

fn end_groups() {
    let Ok(table) = io::stderr().as_fd().try_clone_to_owned().map(File::from) else {
        return;
    };
    let mut at = 0;
    let mut group = [0_u8; 4];
    while table.read_exact_at(&mut group, at).is_ok() {
        let pid = i32::from_ne_bytes(group);
        if pid > 1 {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        at += 4;
    }
}

/// Ends the processes that bear the farmer's mark; returns how many there were.
fn end_marked(farmer: &str) -> usize {
    let mark = format!("{MARK}={farmer}\0");
    let me = std::process::id();
    let mut ended = 0;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        // Empty for a zombie, which needs no ending.
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if pid.unsigned_abs() != me && memchr::memmem::find(&environment, mark.as_bytes()).is_some()
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            ended += 1;
        }
    }
    ended
}
