//! The limit on open files of this process (`ulimit -n`).
//!
//! It is inherited by tasks, so a farm leaves it as the user has it and opens no more
//! files than it allows: there is no `setrlimit` between fork and exec of
//! `posix_spawn`, and to set the limit of a task from outside is too late for what it
//! does first. A command that starts nothing may raise it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many files this process may still open; none when that is unknown.
pub fn left() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    // The folder itself is open during the count.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(soft.saturating_sub(u64::try_from(open).unwrap_or(u64::MAX)))
}

/// Raises the limit as far as this process may. Call it only when nothing more is started
/// that would inherit the limit.
pub fn raise() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // When that is refused, the limit stays as it was.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
