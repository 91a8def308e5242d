//! Facts about processes and this machine, and the one way to wait for a fact
//! that nobody can tell us of.

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{StatVfsMountFlags, statvfs};

/// Nothing here takes a minute, even on a busy machine; what takes two, hangs.
pub(super) const WATCHDOG: Duration = Duration::from_secs(2 * 60);

/// The living processes that have this `NAME=value` in their environment.
pub(crate) fn marked(mark: &str) -> Vec<i32> {
    living(|pid| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|&b| b == 0).any(|var| var == mark.as_bytes())
    })
}

/// The living guards of these farmers; a guard has no environment.
pub(crate) fn guards(farmers: &[String]) -> Vec<i32> {
    living(|pid| {
        let line = program(pid).1;
        line.contains("__guard") && farmers.iter().any(|farmer| line.contains(farmer))
    })
}

fn living(is_meant: impl Fn(i32) -> bool) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| is_meant(pid) && is_alive(pid)).collect()
}

/// What a process runs: its program and its command line.
pub(super) fn program(pid: i32) -> (Option<std::path::PathBuf>, String) {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    (fs::read_link(format!("/proc/{pid}/exe")).ok(), line)
}

/// The letter of a process's state; a zombie is dead.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

pub(crate) fn is_alive(pid: i32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// Waits until something is a fact that nobody can tell us of. To look may cost a process: the longer
/// it takes, the rarer are the looks.
pub(crate) fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let start = Instant::now();
    while !fact() {
        let waited = start.elapsed();
        assert!(waited < WATCHDOG, "never came true: {what}");
        pause((waited / 8).clamp(Duration::from_millis(2), Duration::from_millis(100)));
    }
}

/// How many cases of a test run at a time.
const AT_A_TIME: usize = 6;

/// Runs cases of a test that have nothing to do with each other side by side: most of
/// the time they wait.
pub(crate) fn side_by_side<C: Sync>(cases: &[C], run: impl Fn(&C) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            run(case);
        }
    };
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(cases.len()) {
            let thread = std::thread::Builder::new().name(name.clone());
            thread.spawn_scoped(scope, work).unwrap();
        }
    });
}

/// Whether long tests play all of their cases.
pub(crate) fn is_long() -> bool {
    let is_set = |name| std::env::var_os(name).is_some();
    is_set("PYTF_TEST_LONG") || is_set("PYTF_TEST_ALL")
}

/// A folder for a test: in memory, where a sync costs nothing; on the disk of the temporary folder where
/// long tests play all of their cases, where `TMPDIR` names one, and where no program may run in memory.
pub(super) fn folder() -> tempfile::TempDir {
    let memory = "/dev/shm";
    let is_wanted = !is_long() && std::env::var_os("TMPDIR").is_none();
    let is_there = statvfs(memory).is_ok_and(|found| {
        !found.f_flag.contains(StatVfsMountFlags::NOEXEC)
            && found.f_bavail * found.f_frsize >= 1 << 30
    });
    let mut folder = tempfile::Builder::new();
    folder.prefix("pytf-");
    let made = if is_wanted && is_there {
        folder.tempdir_in(memory)
    } else {
        folder.tempdir()
    };
    made.unwrap()
}

/// Each n-th case of a long test, from one that differs from run to run; all of them where it is long.
pub(crate) fn each_nth<T>(n: usize, all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let n = if is_long() { 1 } else { n };
    all.into_iter()
        .skip(std::process::id() as usize % n)
        .step_by(n)
}

/// Kills a command at the first, the second, ... of these calls, or some of them, until it is not
/// killed any more: then there were more than `least` of them. `cut` gets what `Pytf::injected` takes,
/// and the number of the call; it returns the command's exit status.
pub(crate) fn cut_at_each(calls: &[(&str, u64)], mut cut: impl FnMut(&str, u64) -> Option<i32>) {
    for (call, least) in calls {
        for nth in each_nth(3, 1..) {
            let inject = format!("inject={call}:signal=KILL:when={nth}");
            if cut(&inject, nth) == Some(0) {
                assert!(nth > *least, "{nth} x {call}");
                break;
            }
        }
    }
}

/// Lets time pass where time itself is what a test is about (a suspended
/// farmer, a random moment); never to wait for something.
#[expect(clippy::disallowed_methods, reason = "see above")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Says why a test was not run, past the capture of the test runner.
pub(crate) fn skip(why: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED {}: {why}",
        std::thread::current().name().unwrap_or("?")
    );
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub(crate) fn has(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(program).is_file())
}
