//! What the threads of a farmer say to each other.
//!
//! Events go to the supervisor, orders and reports to the ledger. Slots and the
//! supervisor share the [`Place`] of each running process, nothing else.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::host::process::Place;
use crate::model::interruption::Signals;
use crate::model::outcome::Outcome;
use crate::model::record::{End, LogAt, Record};
use crate::model::task::{Task, TaskId};
use crate::model::walltime::answer::Left;
use crate::workdir::error::Error;
use crate::workdir::state::State;

/// To the supervisor.
pub enum Event {
    /// A signal came.
    Signal(i32),
    /// An attempt ended badly: people want to know at once.
    TaskFailed(Failure),
    /// There is nothing for us to do, now or later.
    Complete,
    /// The stream of tasks cannot be read to its end.
    WrongInput,
    /// The workdir cannot be used any more.
    Trouble(Error),
    /// Others took our tasks over.
    Sealed,
    /// The scheduler says how long the job goes on.
    Ends(Left),
    /// Something that people should know.
    Say(String),
    /// Something that went wrong: told also when only such things are.
    Warn(String),
    /// A signal has stopped a task, and nobody here has sent it.
    Stopped(Stopped),
    /// A slot is over.
    SlotDone,
    /// The ledger has left; the run stands so, when it could be told.
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

/// A bad end of an attempt.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The task.
    pub id: TaskId,
    /// Its command.
    pub line: Vec<u8>,
    /// Which attempt.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Where its output is.
    pub log: Option<LogAt>,
}

impl Failure {
    /// This end of that task.
    pub fn of(task: &Task, end: &End) -> Self {
        Self {
            id: task.id,
            line: task.line.clone(),
            attempt: end.attempt,
            outcome: end.outcome.clone(),
            log: end.log.clone(),
        }
    }
}

/// To the ledger.
pub enum Order {
    /// A slot waits for a task.
    Hungry,
    /// Give back what did not run, and leave.
    Leave(String),
    /// A record for the journal.
    Write(Box<Record>),
    /// A note for the journal and the timeline.
    Note(String),
}

/// From a slot to the ledger.
pub(super) enum Report {
    /// An attempt has ended.
    Ended {
        /// The task.
        task: Task,
        /// How, where and when.
        end: End,
        /// When, for those that may have been interrupted by our own end.
        suspect: Option<Instant>,
    },
    /// A task was taken and never started.
    Unstarted(Task),
}

/// The signals that we were sent, as the thread that hears them notes them.
pub(super) type Heard = Arc<Mutex<Signals>>;

/// The places of all slots.
pub(super) type Places = Arc<Vec<Place>>;
