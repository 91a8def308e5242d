//! The signals that a farmer is sent, as a stream of events.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use nix::sys::signal::SigSet;
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU,
    SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::{Handle, Signals};

/// The signals by which schedulers and users stop a farmer.
pub const STOPS: [i32; 8] = [
    SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU, SIGALRM,
];

/// The signal by which a terminal (Ctrl-Z), or a scheduler that suspends a job, suspends a
/// farmer.
pub const SUSPENDS: i32 = SIGTSTP;

/// Calls `on_signal` in a separate thread for every signal of [`STOPS`] and for
/// [`SUSPENDS`]; close the handle to end it.
pub fn listen(on_signal: impl FnMut(i32) + Send + 'static) -> io::Result<Handle> {
    // Signals that our parent blocked would never come, to us or to the tasks.
    SigSet::empty().thread_set_mask()?;
    let ignored = ignored_signals();
    let is_ignored = |signal: i32| ignored & (1 << (signal - 1)) != 0;
    // When our parent ignored SIGCHLD, the kernel reaps our children and every wait
    // fails. Any handler prevents that. It is installed only where it is needed, since it
    // runs at every end of a child.
    if is_ignored(SIGCHLD) {
        install_noop_handler(SIGCHLD)?;
    }
    // A write beyond the limit on the size of files must fail, not kill us.
    install_noop_handler(SIGXFSZ)?;
    // Signals that nohup or `&` of a shell made us ignore stay ignored.
    let stays =
        |signal: &i32| [SIGHUP, SIGINT, SIGQUIT, SUSPENDS].contains(signal) && is_ignored(*signal);
    let all = STOPS.iter().chain([&SUSPENDS]);
    let signals = Signals::new(all.filter(|signal| !stays(signal)))?;
    forward(signals, on_signal)
}

/// As [`listen`], for an interactive program: it gets these signals whether or not its
/// parent ignored them.
pub fn listen_to(
    signals: &[i32],
    on_signal: impl FnMut(i32) + Send + 'static,
) -> io::Result<Handle> {
    SigSet::empty().thread_set_mask()?;
    forward(Signals::new(signals)?, on_signal)
}

fn forward(
    mut signals: Signals,
    mut on_signal: impl FnMut(i32) + Send + 'static,
) -> io::Result<Handle> {
    let handle = signals.handle();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                on_signal(signal);
            }
        })?;
    Ok(handle)
}

/// The signals that our parent ignored, as a mask (proc(5)); read once, before we change
/// anything.
pub(super) fn ignored_signals() -> u64 {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        ignored
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0)
    })
}

/// A handler that does nothing; unlike an ignored signal, tasks do not inherit it.
fn install_noop_handler(signal: i32) -> io::Result<()> {
    signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).map(drop)
}

/// Makes these signals harmless: for the guard, which ends only when its farmer has ended.
pub fn install_noop_handlers() {
    let more = [SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU];
    for signal in STOPS.into_iter().chain(more) {
        // When it fails, the guard still works, and this signal ends it.
        let _ = install_noop_handler(signal);
    }
}
