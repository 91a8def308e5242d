//! What the parts of a farm share: its steps share the [`Farm`]; the slots, the ledger and the
//! supervisor of one farmer share its [`Shared`].
//!
//! Guarantee: [`Shared`] keeps a sender of each channel, so a channel is not disconnected while
//! a thread can still read from it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use nix::unistd::Pid;

use super::clock::Clock;
use super::lease_plan::Leases;
use super::lock_wait::CancelToken;
use super::logs::LogPermits;
use super::message::{Event, LedgerRequest, ReceivedSignals, Report};
use super::node_setup::Node;
use super::options::Options;
use super::queue::Queue;
use super::task_files::TaskFiles;
use super::task_times::TaskTimes;
use crate::host::memory::OomKills;
use crate::host::process::{Running, SlotProcess};
use crate::model::attributes::Attributes;
use crate::model::ids::{AttemptSet, Ids};
use crate::model::record::End;
use crate::model::retry::RetryRule;
use crate::model::task::{Task, TaskId};
use crate::ui::task_log::TaskLog;
use crate::workdir::fs::{Dir, RealDir};
use crate::workdir::journal::SharedJournal;
use crate::workdir::open::Workdir;
use crate::workdir::orders::Cancel;
use crate::workdir::state::State;

/// What one process keeps, however often it joins the run.
pub(super) struct Farm<'a> {
    pub(super) workdir: Workdir,
    pub(super) node: Node,
    pub(super) options: &'a Options,
    pub(super) clock: Clock,
    pub(super) events: Sender<Event>,
    pub(super) inbox: Receiver<Event>,
    pub(super) received: ReceivedSignals,
    pub(super) files: TaskFiles,
    /// Ends waits for the lock while no task runs.
    pub(super) cancel: CancelToken,
    pub(super) times: Arc<TaskTimes>,
    /// The command of `--node-teardown`, as long as it has not been run.
    pub(super) node_teardown: Option<OsString>,
}

/// What the threads of one farmer share.
pub(super) struct Shared {
    /// The farmer's clock.
    pub clock: Clock,
    /// Tasks for the slots; closed when nothing may start any more.
    pub queue: Arc<Queue>,
    /// The running process of each slot.
    pub processes: Vec<SlotProcess>,
    /// The farmer's journal.
    pub journal: SharedJournal,
    /// The attempts that were cancelled while this process worked.
    pub cancelled: CancelledAttempts,
    /// Whether all running tasks were asked to end: one that has just started is, too.
    pub is_ending: AtomicBool,
    /// The state of the run, as the ledger read it last.
    pub state: Mutex<State>,
    /// How long tasks took.
    pub times: Arc<TaskTimes>,
    /// How leases become CPUs and variables, once tasks have needs of their own.
    pub leases: Leases,
    /// Evidence of kills for lack of memory.
    pub oom: OomKills,
    /// Limits the number of open files, where few may be open.
    pub permits: Option<Arc<LogPermits>>,
    /// The absolute path of the workdir, for tasks and for messages.
    pub workdir: Arc<PathBuf>,
    /// The files that the run shares.
    pub records: Arc<dyn Dir>,
    /// The folder of what tasks print: the workdir, unless that is at the other end of a pipe.
    pub dir: Arc<RealDir>,
    /// When a task is tried again that says nothing of that itself.
    pub retry: RetryRule,
    /// Words a line for each start and each end of a task, where that is asked for.
    pub task_log: Option<TaskLog>,
    /// To the supervisor.
    pub events: Sender<Event>,
    /// From the supervisor to the ledger.
    pub requests: Sender<LedgerRequest>,
    /// From the slots to the ledger.
    pub reports: Sender<Report>,
}

/// The attempts that were cancelled, to be asked before each start: mostly there are none.
#[derive(Default)]
pub(super) struct CancelledAttempts {
    has_any: AtomicBool,
    all: Mutex<AttemptSet>,
}

impl CancelledAttempts {
    /// These are cancelled from now on.
    pub(super) fn add(&self, attempt: u32, ids: &Ids) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(attempt, ids);
        self.has_any.store(true, Ordering::Release);
    }

    /// Whether this attempt is one of them.
    pub(super) fn contains(&self, id: TaskId, attempt: u32) -> bool {
        if !self.has_any.load(Ordering::Acquire) {
            return false;
        }
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.contains(id, attempt)
    }
}

impl Shared {
    /// Shows that a task has started, where that is asked for.
    pub(super) fn log_start(&self, task: &Task, started: Instant, slot: u32, pid: Pid) {
        if let Some(log) = &self.task_log {
            let at = self.clock.micros(started);
            let line = log.started(task, at, slot, pid.as_raw());
            self.send(Event::LogTask(line));
        }
    }

    /// Shows how an attempt has ended, where that is asked for.
    pub(super) fn log_end(&self, task: &Task, end: &End) {
        if let Some(log) = &self.task_log {
            self.send(Event::LogTask(log.ended(task, end)));
        }
    }

    /// Decides whether a task is tried again after an attempt that failed, before that is
    /// recorded.
    pub(super) fn decide_again(&self, task: &Task, end: &mut End) {
        // What cannot be read was said by a later pytf: then our options hold.
        let own = Attributes::of_line(&task.line).unwrap_or_default();
        let delay = self.retry.of(&own).again(&end.outcome, task.failures);
        end.again = delay.map(|delay| u64::try_from(delay.as_micros()).unwrap_or(u64::MAX));
    }

    /// Sends an event to the supervisor. When that is gone, the process ends.
    pub(super) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Shows a message to the user.
    pub(super) fn say(&self, text: String) {
        self.send(Event::Say(text));
    }

    /// Shows a warning to the user.
    pub(super) fn warn(&self, text: String) {
        self.send(Event::Warn(text));
    }

    /// Sends a request to the ledger. When that is gone, it has left.
    pub(super) fn request(&self, request: LedgerRequest) {
        let _ = self.requests.send(request);
    }

    /// What runs now.
    pub(super) fn running(&self) -> impl Iterator<Item = Running> {
        self.processes.iter().filter_map(SlotProcess::running)
    }

    /// Those that run now of the attempts that an order cancels.
    pub(super) fn running_of(&self, cancel: &Cancel) -> Vec<TaskId> {
        self.running()
            .filter(|it| it.attempt == cancel.attempt && cancel.ids.contains(it.id))
            .map(|it| it.id)
            .collect()
    }
}
