//! The floor under every farmer: threads that only spawn and wait.
//!
//! `bare_loop MODE RUNS THREADS [DIR]` runs `/bin/true` RUNS times and prints
//! one line of JSON: seconds, runs a second, and the CPU time a run in
//! microseconds, of this process itself and of its children. MODE says what
//! becomes of the output: `null` (/dev/null), `file` (a file each, in DIR), `append` (one
//! file a thread, in DIR); or `shell` (/dev/null, and `bash -c 'true && true'`
//! instead of the program). `benches/ratio.py` compares `pytf` with it.

#![expect(clippy::print_stdout, reason = "its one result")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::waitpid;

/// What becomes of the output.
#[derive(Clone)]
enum Output {
    /// It is thrown away.
    Null,
    /// A file for each run.
    File(PathBuf),
    /// One file for each thread.
    Append(PathBuf),
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, runs, threads, rest @ ..] = &args[..] else {
        bail!("usage: bare_loop null|file|append|shell RUNS THREADS [DIR]");
    };
    let (runs, threads): (u64, usize) = (runs.parse()?, threads.parse()?);
    let dir = || {
        rest.first()
            .map(PathBuf::from)
            .context("this mode needs a DIR")
    };
    let (output, command) = match mode.as_str() {
        "null" => (Output::Null, &["/bin/true"][..]),
        "file" => (Output::File(dir()?), &["/bin/true"][..]),
        "append" => (Output::Append(dir()?), &["/bin/true"][..]),
        "shell" => (Output::Null, &["/bin/bash", "-c", "true && true"][..]),
        _ => bail!("no mode '{mode}'"),
    };
    let command = command
        .iter()
        .map(|arg| CString::new(*arg))
        .collect::<Result<Vec<_>, _>>()?;

    let next = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let run = |thread| spawn_and_wait(thread, &next, runs, &output, &command);
        let threads: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a thread that does not panic"))
    })?;
    let seconds = start.elapsed().as_secs_f64();

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = runs as f64 / seconds;
    let cpu = cpu_a_run(UsageWho::RUSAGE_SELF, runs)?;
    let children = cpu_a_run(UsageWho::RUSAGE_CHILDREN, runs)?;
    println!(
        "{{\"mode\":\"{mode}\",\"runs\":{runs},\"seconds\":{seconds:.3},\"rate\":{rate:.1},\
         \"cpu_us\":{cpu:.1},\"children_us\":{children:.1}}}"
    );
    Ok(())
}

/// User and system time a run, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn cpu_a_run(whose: UsageWho, runs: u64) -> Result<f64> {
    let used = getrusage(whose)?;
    let micros = used.user_time().num_microseconds() + used.system_time().num_microseconds();
    Ok(micros as f64 / runs as f64)
}

/// One thread: takes the next number until there is none.
fn spawn_and_wait(
    thread: usize,
    next: &AtomicU64,
    runs: u64,
    output: &Output,
    command: &[CString],
) -> Result<()> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let mut packed = None;
    if let Output::Append(dir) = output {
        packed = Some(open(&dir.join(format!("thread_{thread}")))?);
    }
    // What a task inherits: posix_spawn takes it ready made.
    let env: Vec<CString> = std::env::vars()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    let attributes = PosixSpawnAttr::init()?;
    loop {
        let run = next.fetch_add(1, Ordering::Relaxed);
        if run >= runs {
            return Ok(());
        }
        let own;
        let log = match output {
            Output::File(dir) => {
                own = open(&dir.join(format!("log_{run}")))?;
                &own
            }
            Output::Null | Output::Append(_) => packed.as_ref().unwrap_or(&null),
        };
        let mut actions = PosixSpawnFileActions::init()?;
        actions.add_dup2(null.as_raw_fd(), 0)?;
        actions.add_dup2(log.as_raw_fd(), 1)?;
        actions.add_dup2(log.as_raw_fd(), 2)?;
        let pid = posix_spawn(command[0].as_c_str(), &actions, &attributes, command, &env)?;
        waitpid(pid, None)?;
    }
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.with_context(|| path.display().to_string())
}
