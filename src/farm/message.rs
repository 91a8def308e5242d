//! The messages between the threads of a farmer.
//!
//! Events go to the supervisor, requests and reports to the ledger.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::model::interruption::Signals;
use crate::model::outcome::Outcome;
use crate::model::record::{End, LogAt, Record};
use crate::model::task::{Task, TaskId};
use crate::model::walltime::answer::Left;
use crate::workdir::error::Error;
use crate::workdir::orders::Cancel;
use crate::workdir::state::State;

/// To the supervisor.
pub enum Event {
    /// A signal came.
    Signal(i32),
    /// An attempt failed: it is shown at once.
    TaskFailed(FailedAttempt),
    /// There are no tasks for this farmer, now or later.
    Complete,
    /// The stream of tasks cannot be read to its end.
    WrongInput,
    /// The workdir cannot be used any more.
    WorkdirUnusable(Error),
    /// Others took over our tasks.
    Fenced,
    /// The run is paused, or is so no longer.
    Paused(bool),
    /// Running tasks are stopped while the run is paused, or are continued.
    StopTasks(bool),
    /// All tasks have ended, and we stay for more.
    Waiting,
    /// All farmers were ordered to stop.
    Stop,
    /// So many tasks have failed, and no more may.
    TooManyFailed(u64),
    /// We were ordered to finish what runs, and to leave.
    Drain,
    /// These tasks were cancelled; those that run are to be ended.
    Cancel {
        cancel: Cancel,
        /// Which of them ran here when the order came.
        running: Vec<TaskId>,
    },
    /// A task has started that was cancelled at the same moment, or has a time limit of its own.
    LimitRuns,
    /// How long the job lasts, by the scheduler.
    Ends(Left),
    /// A line about the start or the end of a task.
    LogTask(String),
    /// A message for the user.
    Say(String),
    /// A warning: it is shown also with --quiet.
    Warn(String),
    /// A signal that this farmer did not send has stopped a task.
    Stopped(Stopped),
    /// A slot is over.
    SlotDone,
    /// The ledger has left, with the state of the run if it is known.
    Left(Option<Box<State>>),
}

/// A task that a signal has stopped.
pub struct Stopped {
    /// When it was seen.
    pub at: Instant,
    /// Its slot.
    pub slot: u32,
    /// The task.
    pub id: TaskId,
    /// Its process.
    pub pid: Pid,
    /// Which signal.
    pub signal: Signal,
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub struct FailedAttempt {
    /// The task.
    pub id: TaskId,
    /// Its command.
    pub line: Vec<u8>,
    /// Which attempt.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// When the task is tried again: after how long.
    pub again: Option<Duration>,
    /// Where its output is.
    pub log: Option<LogAt>,
}

impl FailedAttempt {
    /// This end of that task.
    pub fn of(task: &Task, end: &End) -> Self {
        Self {
            id: task.id,
            line: task.command().to_vec(),
            attempt: end.attempt,
            outcome: end.outcome.clone(),
            again: end.again.map(Duration::from_micros),
            log: end.log.clone(),
        }
    }
}

/// To the ledger.
pub enum LedgerRequest {
    /// A slot has no task.
    Starved,
    /// Give back tasks that did not run, and leave.
    Leave(String),
    /// A record for the journal.
    Write(Box<Record>),
}

/// From a slot to the ledger.
#[expect(clippy::large_enum_variant, reason = "almost all are ends")]
pub(super) enum Report {
    /// An attempt has ended.
    Ended {
        /// The task.
        task: Task,
        /// How, where and when.
        end: End,
        /// When, for ends that may be due to a signal to the whole farm.
        suspect: Option<Instant>,
    },
    /// A task was taken and never started.
    Unstarted(Task),
}

/// The signals that this process has received.
pub(super) type ReceivedSignals = Arc<Mutex<Signals>>;
