//! `pytf wait`: looks at a run until it is complete, or some of its tasks have ended, or until
//! nobody works on it.
//!
//! Guarantee: it only reads, takes no lock, and most looks read one file, the less often the
//! longer it waits. What cannot be read is not an answer: it is read again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::words::word;
use crate::history::ended::{Ended, Named};
use crate::history::run::{Run, RunError};
use crate::model::ids::Ids;
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
    /// The tasks that were named have ended, or will never run.
    Ended,
    /// Tasks are left, and no farmer is alive.
    Abandoned,
    /// Tasks are left when the time is over.
    TimedOut,
    /// The state cannot be read, for this reason.
    Unreadable(String),
    /// These are not tasks of the run.
    Unknown(Ids),
    /// These were dropped from the list.
    Dropped(Ids),
}

/// A wait that is over.
pub struct Done {
    /// Why.
    pub waited: Waited,
    /// The run as it was read last.
    pub run: Run,
    /// How many of the tasks that were named had ended then, if some were named.
    pub ended: Option<Ended>,
}

/// Waits for the run to end, or for these tasks, at most `timeout`; `pause` sleeps.
pub fn wait(
    workdir: &Path,
    tasks: Option<Ids>,
    timeout: Option<Duration>,
    pause: impl Fn(Duration),
) -> Result<Done, RunError> {
    let mut wait = Wait {
        run: Run::open(workdir)?,
        named: tasks.map(Named::new),
        ended: None,
        unreadable: 0,
    };
    let waited = wait.until_over(timeout, pause)?;
    if let (Some(named), Some(ended)) = (&wait.named, &mut wait.ended) {
        named.count_cancelled(&wait.run, ended);
    }
    Ok(Done {
        waited,
        run: wait.run,
        ended: wait.ended,
    })
}

struct Wait {
    run: Run,
    /// The tasks to wait for; none: all.
    named: Option<Named>,
    ended: Option<Ended>,
    unreadable: u32,
}

impl Wait {
    fn until_over(
        &mut self,
        timeout: Option<Duration>,
        pause: impl Fn(Duration),
    ) -> Result<Waited, RunError> {
        let began = Instant::now();
        if let Some(refused) = self.refusal()? {
            return Ok(refused);
        }
        loop {
            if let Some(waited) = self.outcome() {
                return Ok(waited);
            }
            let read = Instant::now();
            let takeover = self.run.counts.state.as_ref().and_then(State::takeover);
            let every = takeover.unwrap_or(DEFAULT_TAKEOVER) / 4;
            loop {
                let waited = began.elapsed();
                let left = timeout.map(|timeout| timeout.saturating_sub(waited));
                if left == Some(Duration::ZERO) {
                    return Ok(Waited::TimedOut);
                }
                pause(wait_every(waited).min(left.unwrap_or(Duration::MAX)));
                // The journals, which say who is alive, are read only now and then.
                if self.unreadable > 0 || read.elapsed() >= every || !self.goes_on() {
                    break;
                }
            }
            self.run.refresh()?;
        }
    }

    /// Why these tasks cannot be waited for, if they cannot.
    fn refusal(&self) -> Result<Option<Waited>, RunError> {
        let (Some(named), Some(state)) = (&self.named, &self.run.counts.state) else {
            return Ok(None);
        };
        let unknown = named.unknown(state.tasks.lines);
        if !unknown.is_empty() {
            return Ok(Some(Waited::Unknown(unknown)));
        }
        if state.dropped == 0 {
            return Ok(None);
        }
        let dropped = named.dropped(&self.run.workdir)?;
        Ok((!dropped.is_empty()).then_some(Waited::Dropped(dropped)))
    }

    /// Whether the wait is over, by the run as it was read.
    fn outcome(&mut self) -> Option<Waited> {
        let (run, counts) = (&self.run, &self.run.counts);
        let mut problem = counts.problem.clone();
        if let Some(named) = &mut self.named {
            match counts.state.as_ref() {
                Some(state) => match named.count(&run.workdir, state) {
                    Ok(ended) if ended.left == 0 => {
                        self.ended = Some(ended);
                        return Some(Waited::Ended);
                    }
                    Ok(ended) => self.ended = Some(ended),
                    Err(error) => problem = Some(error.to_string()),
                },
                None => problem = problem.or(Some("the workdir has no state".to_owned())),
            }
        }
        match (problem, word(run)) {
            (Some(problem), _) => {
                self.unreadable += 1;
                return (self.unreadable == TRIES).then_some(Waited::Unreadable(problem));
            }
            (None, "complete") if self.named.is_some() => return Some(Waited::Ended),
            (None, "complete") => return Some(Waited::Complete),
            (None, "stopped") => return Some(Waited::Abandoned),
            (None, _) => self.unreadable = 0,
        }
        None
    }

    /// Whether the state alone says that farmers work on what is left.
    fn goes_on(&mut self) -> bool {
        let workdir = &self.run.workdir;
        let state = RealDir::open(workdir)
            .ok()
            .and_then(|dir| peek(&(dir as Arc<dyn Dir>)).ok()?);
        let Some(state) =
            state.filter(|state| state.live > 0 && !(state.is_complete() && state.pending() == 0))
        else {
            return false;
        };
        let Some(named) = &mut self.named else {
            return true;
        };
        let counted = named.count(workdir, &state);
        counted.is_ok_and(|ended| ended.left > 0)
    }
}
