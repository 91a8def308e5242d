//! The life of a task's process: spawn, wait, signal, reap.
//!
//! Every task leads its own process group. Where we have a terminal, it also leads its own
//! session: otherwise a task that reads `/dev/tty` would be stopped forever. Without a terminal
//! it stays in our session, by which PBS accounts for what a job uses. A task is started by
//! `posix_spawn`, whose cost does not depend on pytf's memory size. Its slot waits for its end
//! **without reaping it**, then removes it from the [`SlotProcess`] under its lock, and only
//! then reaps it. Signals are sent under the same lock and only to a process that is still in
//! the `SlotProcess`. So no signal can reach a process id that was reaped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpgid};

use super::signals::ignored_signals;
use crate::model::record::{Leased, Used};
use crate::model::task::TaskId;

/// How to start a process.
pub struct Spawn<'a> {
    /// The file to execute, with a slash in it.
    pub program: &'a CStr,
    /// Its arguments, the zeroth included.
    pub argv: &'a [CString],
    /// Its whole environment.
    pub env: &'a [CString],
    /// What it reads.
    pub stdin: BorrowedFd<'a>,
    /// Where its standard output goes.
    pub stdout: BorrowedFd<'a>,
    /// Where its standard error goes.
    pub stderr: BorrowedFd<'a>,
}

impl Spawn<'_> {
    /// Starts it as the leader of a new process group, with no signal blocked
    /// and SIGPIPE as it was before our runtime ignored it.
    pub fn start(&self) -> Result<Pid, Errno> {
        let descriptors = [self.stdin, self.stdout, self.stderr].map(|fd| fd.as_raw_fd());
        PREPARED.with_borrow_mut(|all| {
            let is_ready = |ready: &Prepared| ready.descriptors == descriptors;
            let at = if let Some(at) = all.iter().position(is_ready) {
                at
            } else {
                all.truncate(MOST_PREPARED - 1);
                all.insert(0, Prepared::new(descriptors)?);
                0
            };
            let Prepared { files, attr, .. } = &all[at];
            nix::spawn::posix_spawn(self.program, files, attr, self.argv, self.env)
        })
    }
}

thread_local! {
    static PREPARED: RefCell<Vec<Prepared>> = const { RefCell::new(Vec::new()) };
}

/// How many are kept: a log gets the lowest descriptor that is free when it is opened.
const MOST_PREPARED: usize = 8;

/// The arguments of `posix_spawn` beside the program: the tasks of a thread mostly have
/// the same descriptor numbers, and the C library asks the kernel for the limit of these
/// numbers six times whenever they are set.
struct Prepared {
    descriptors: [RawFd; 3],
    files: PosixSpawnFileActions,
    attr: PosixSpawnAttr,
}

impl Prepared {
    fn new(descriptors: [RawFd; 3]) -> Result<Self, Errno> {
        let mut files = PosixSpawnFileActions::init()?;
        for (standard, own) in (0..).zip(descriptors) {
            files.add_dup2(own, standard)?;
        }
        let mut attr = PosixSpawnAttr::init()?;
        let group = if has_terminal() {
            // glibc 2.26, musl; nix has no name for it. It makes a group as well.
            PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID.into())
        } else {
            PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
        };
        attr.set_flags(
            group
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
        )?;
        attr.set_pgroup(Pid::from_raw(0))?;
        attr.set_sigmask(&SigSet::empty())?;
        attr.set_sigdefault(DEFAULTS.get_or_init(defaults))?;
        Ok(Self {
            descriptors,
            files,
            attr,
        })
    }
}

/// Whether this process has a controlling terminal (`tty_nr` in proc(5)).
fn has_terminal() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        // After the name: state, ppid, pgrp, session, tty_nr.
        let number = stat_of("self")
            .split_ascii_whitespace()
            .nth(4)
            .map(|number| number != "0");
        number.unwrap_or(false)
    })
}

/// Whether a signal has stopped a process.
pub fn is_stopped(pid: Pid) -> bool {
    stat_of(pid).trim_start().starts_with('T')
}

/// What proc(5) has in `stat` after the name of a process.
fn stat_of(process: impl std::fmt::Display) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .map_or("", |(_, behind)| behind)
        .to_owned()
}

/// Stops this process; returns when it is continued.
pub fn stop_self() {
    // It cannot fail, and cannot be caught.
    let _ = nix::sys::signal::kill(Pid::this(), Signal::SIGSTOP);
}

static DEFAULTS: OnceLock<SigSet> = OnceLock::new();

/// The signals with their default action in a task: all but those that our parent ignores.
/// Rust ignores SIGPIPE; a shell that starts us in the background ignores SIGINT and
/// SIGQUIT.
///
/// Three would be enough, since an exec resets signals that have a handler. But for each
/// signal that is not listed here the C library makes two calls in the child before its
/// exec: one reads the action, one sets it. For a listed one it makes one.
fn defaults() -> SigSet {
    let ignored = ignored_signals();
    // There are no names for single real-time signals.
    let mut defaults = match ignored >> Signal::SIGSYS as i32 {
        0 => SigSet::all(),
        _ => SigSet::empty(),
    };
    for signal in Signal::iterator() {
        let is_ours = [Signal::SIGPIPE, Signal::SIGINT, Signal::SIGQUIT].contains(&signal);
        let is_fixed = [Signal::SIGKILL, Signal::SIGSTOP].contains(&signal);
        let is_ignored = ignored & (1 << (signal as i32 - 1)) != 0;
        if is_ours || !is_fixed && !is_ignored {
            defaults.add(signal);
        } else {
            defaults.remove(signal);
        }
    }
    defaults
}

/// Whether a spawn that failed with this error may succeed later: the node is busy, and the
/// task is not at fault.
pub fn is_passing(error: Errno) -> bool {
    matches!(
        error,
        Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ETXTBSY
    )
}

/// Why a task was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Its time limit.
    TimeLimit,
    /// It was cancelled.
    Cancel,
    /// It had so many KiB of memory, which is over its limit.
    Memory(u64),
    /// The farm stops.
    Stop,
}

/// A process in a [`SlotProcess`].
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// The process and its group.
    pub pid: Pid,
    /// The task that it runs.
    pub id: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// When it started.
    pub started: Instant,
    /// Why it was first asked to end, if it was.
    pub stop_reason: Option<StopReason>,
    /// Whether the journal has its start.
    pub noted: bool,
    /// Its own time limit, where it has one; without one the limit of all tasks holds.
    pub limit: Option<Duration>,
    /// The limit of its memory in KiB; 0 is none.
    pub mem_kib: u64,
}

/// Where a slot's process is while it can be signalled.
#[derive(Default)]
pub struct SlotProcess {
    running: Mutex<Option<Running>>,
    /// What it has of the node, where that is not what its slot has.
    leased: Mutex<Option<Box<Leased>>>,
    /// The groups of the last tasks that ended by themselves.
    past: Mutex<VecDeque<(Pid, TaskId)>>,
}

/// How many groups are remembered, to name the task of a process that was left behind.
const PAST: usize = 256;

impl SlotProcess {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task whose group this was, not long ago.
    pub fn task_of_group(&self, group: Pid) -> Option<TaskId> {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let found = past.iter().rev().find(|(pid, _)| *pid == group);
        found.map(|(_, id)| *id)
    }

    /// The process is there from now on.
    pub fn set(&self, running: Running) {
        *self.lock() = Some(running);
    }

    /// The next process has this of the node; `None`: what its slot has.
    pub fn lease(&self, leased: Option<Box<Leased>>) {
        *self.leased.lock().unwrap_or_else(PoisonError::into_inner) = leased;
    }

    /// What the process has of the node, if that is not what its slot has.
    pub fn leased(&self) -> Option<Box<Leased>> {
        let leased = self.leased.lock();
        leased.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is there now.
    pub fn running(&self) -> Option<Running> {
        *self.lock()
    }

    /// What runs now, if it was started at or before this time and its start is not in the
    /// journal. From now on it counts as recorded.
    pub fn note(&self, before: Instant) -> Option<Running> {
        let mut current = self.lock();
        let is_new = |running: &&mut Running| !running.noted && running.started <= before;
        let running = current.as_mut().filter(is_new)?;
        running.noted = true;
        Some(*running)
    }

    /// Sends signals to the group of the process, and records why at the first time. A
    /// process that has already ended by itself gets no signal: its own end counts.
    pub fn stop(&self, why: StopReason, signals: &[Signal]) {
        self.stop_if(|_| true, why, signals);
    }

    /// As [`Self::stop`], if the process is still this one.
    pub fn stop_task(&self, task: &Running, why: StopReason, signals: &[Signal]) {
        let is_it = |running: &Running| (running.pid, running.started) == (task.pid, task.started);
        self.stop_if(is_it, why, signals);
    }

    fn stop_if(&self, is_it: impl Fn(&Running) -> bool, why: StopReason, signals: &[Signal]) {
        let mut current = self.lock();
        let Some(running) = current.as_mut().filter(|running| is_it(running)) else {
            return;
        };
        if running.stop_reason.is_none() {
            let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
            if !matches!(
                waitid(Id::Pid(running.pid), peek),
                Ok(WaitStatus::StillAlive)
            ) {
                return;
            }
            running.stop_reason = Some(why);
        }
        for &signal in signals {
            // ESRCH cannot be: the leader is not reaped yet.
            let _ = killpg(running.pid, signal);
        }
    }

    /// Sends a signal to the group of the process, which does not ask it to end.
    pub fn signal(&self, signal: Signal) {
        if let Some(running) = &*self.lock() {
            let _ = killpg(running.pid, signal);
        }
    }

    /// Waits for the end of the process, and calls `stopped` when a signal stops it. Then
    /// kills the rest of its group, calls `gone` while its process id still belongs to it,
    /// and reaps it. Members of the group whose parent died have become our children:
    /// [`reap_orphans`] reaps them.
    pub fn wait(
        &self,
        pid: Pid,
        mut stopped: impl FnMut(Signal),
        gone: impl FnOnce(),
    ) -> ProcessEnd {
        let ends = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
        let waited = loop {
            match waitid(Id::Pid(pid), ends) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Stopped(_, signal)) => {
                    // Or it would be reported again at once.
                    let _ = waitid(Id::Pid(pid), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG);
                    stopped(signal);
                }
                waited => break waited,
            }
        };
        let was = self.lock().take();
        let stop_reason = was.and_then(|running| running.stop_reason);
        if let Some(running) = was.filter(|running| running.stop_reason.is_none()) {
            let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
            if past.len() == PAST {
                past.pop_front();
            }
            past.push_back((pid, running.id));
        }
        let _ = killpg(pid, Signal::SIGKILL);
        gone();
        let (status, used) = reap(pid);
        // When the wait has failed, the process may have ended by our own kill.
        let status = status.filter(|_| waited.is_ok()).unwrap_or(Status::Unknown);
        ProcessEnd {
            status,
            stop_reason,
            used,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this exit status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// Unknown to the kernel.
    Unknown,
}

/// The end of a process.
pub struct ProcessEnd {
    /// How.
    pub status: Status,
    /// Why it was asked to, if it was.
    pub stop_reason: Option<StopReason>,
    /// What it used.
    pub used: Used,
}

/// wait4(2), the only call that returns the peak memory of one child. This is never below
/// our own memory at the time of the spawn: Linux counts the pages that the child shared
/// with us before its exec. When the call fails there is no status: an error is not exit
/// status 0.
#[expect(unsafe_code, reason = "nix has no wait4(2)")]
fn reap(pid: Pid) -> (Option<Status>, Used) {
    let mut status: libc::c_int = 0;
    // SAFETY: an all-zero rusage is a valid value of a struct of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let is_known = loop {
        // SAFETY: both pointers are to live values that nothing else uses.
        let done = unsafe { libc::wait4(pid.as_raw(), &raw mut status, 0, &raw mut usage) };
        if done >= 0 || Errno::last() != Errno::EINTR {
            break done >= 0;
        }
    };
    let micros = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000
            + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    let used = Used {
        user: micros(usage.ru_utime),
        sys: micros(usage.ru_stime),
        peak: u64::try_from(usage.ru_maxrss).unwrap_or(0),
        // Linux counts these in blocks of 512 bytes.
        read: u64::try_from(usage.ru_inblock).unwrap_or(0) / 2,
        written: u64::try_from(usage.ru_oublock).unwrap_or(0) / 2,
    };
    let status = if libc::WIFSIGNALED(status) {
        Status::Signaled(libc::WTERMSIG(status))
    } else {
        Status::Exited(libc::WEXITSTATUS(status))
    };
    (is_known.then_some(status), used)
}

/// Makes orphans of our tasks our children, so that we can end and reap them
/// (prctl(2), Linux 3.4). Without it they become children of another process.
pub fn adopt_orphans() {
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// The children of this process by the thread that has them; adopted orphans
/// are the main thread's.
fn children(of_thread: &str) -> Vec<Pid> {
    let path = format!("/proc/self/task/{of_thread}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

/// Reaps the orphans that have ended. `keep` are children that are not orphans. Returns the groups of orphans that were killed: processes that a task left behind
/// in its group are killed at the end of the task.
pub fn reap_orphans(keep: &[Pid]) -> Vec<Pid> {
    let me = std::process::id().to_string();
    let mut killed = Vec::new();
    for pid in children(&me).into_iter().filter(|pid| !keep.contains(pid)) {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        if let Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)) = waitid(Id::Pid(pid), peek)
            && let Ok(group) = getpgid(Some(pid))
        {
            killed.push(group);
        }
        let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
    }
    killed
}

/// Ends every child but those to `keep`, and their children as they become ours. Only when no slot
/// waits for a process any more.
///
/// A chain of processes that fork again and again is caught: after each death the child is
/// ours.
pub fn end_orphans(keep: &[Pid]) {
    for _round in 0..10_000 {
        let threads = std::fs::read_dir("/proc/self/task")
            .into_iter()
            .flatten()
            .flatten();
        let ours: Vec<Pid> = threads
            .flat_map(|thread| children(&thread.file_name().to_string_lossy()))
            .filter(|pid| !keep.contains(pid))
            .collect();
        if ours.is_empty() {
            break;
        }
        for pid in ours {
            if nix::sys::signal::kill(pid, Signal::SIGKILL).is_ok() {
                let _ = waitpid(pid, None);
            }
        }
    }
}
