//! `pytf wait`: looks at a run until it is complete, or until nobody works on it.
//!
//! Guarantee: it only reads, takes no lock, and most looks read one file, the less often the
//! longer it waits. What cannot be read is not an answer: it is read again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::words::word;
use crate::history::run::{Run, RunError};
use crate::model::liveness::DEFAULT_TAKEOVER;
use crate::model::polling::wait_every;
use crate::workdir::fs::{Dir, RealDir};
use crate::workdir::state::{State, peek};

/// How often a run that cannot be read is read again before that is reported.
const TRIES: u32 = 10;

/// Why the wait is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Every task has ended.
    Complete,
    /// Tasks are left, and no farmer is alive.
    Abandoned,
    /// Tasks are left when the time is over.
    TimedOut,
    /// The state cannot be read, for this reason.
    Unreadable(String),
}

/// Waits for the run to end, at most `timeout`; `pause` sleeps. Returns the run as it was
/// read last, too.
pub fn wait(
    workdir: &Path,
    timeout: Option<Duration>,
    pause: impl Fn(Duration),
) -> Result<(Waited, Run), RunError> {
    let began = Instant::now();
    let mut run = Run::open(workdir)?;
    let mut unreadable = 0;
    loop {
        match (&run.counts.problem, word(&run)) {
            (Some(problem), _) => {
                unreadable += 1;
                if unreadable == TRIES {
                    return Ok((Waited::Unreadable(problem.clone()), run));
                }
            }
            (None, "complete") => return Ok((Waited::Complete, run)),
            (None, "stopped") => return Ok((Waited::Abandoned, run)),
            (None, _) => unreadable = 0,
        }
        let read = Instant::now();
        let takeover = run.counts.state.as_ref().and_then(State::takeover);
        let every = takeover.unwrap_or(DEFAULT_TAKEOVER) / 4;
        loop {
            let waited = began.elapsed();
            let left = timeout.map(|timeout| timeout.saturating_sub(waited));
            if left == Some(Duration::ZERO) {
                return Ok((Waited::TimedOut, run));
            }
            pause(wait_every(waited).min(left.unwrap_or(Duration::MAX)));
            // The journals, which say who is alive, are read only now and then.
            if unreadable > 0 || read.elapsed() >= every || !goes_on(workdir) {
                break;
            }
        }
        run.refresh()?;
    }
}

/// Whether the state alone says that farmers work on what is left.
fn goes_on(workdir: &Path) -> bool {
    let state = RealDir::open(workdir)
        .ok()
        .and_then(|dir| peek(&(dir as Arc<dyn Dir>)).ok()?);
    state.is_some_and(|state| state.live > 0 && !state.is_complete())
}
