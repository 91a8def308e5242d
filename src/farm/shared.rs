//! What the threads of one farmer share: slots, ledger and supervisor.
//!
//! Others rely on this: it holds a sender of each channel, so a channel is not disconnected
//! while a thread can still read from it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;

use super::clock::Clock;
use super::logs::LogPermits;
use super::message::{Event, Order, Report};
use super::queue::Queue;
use super::walltime::TaskTimes;
use crate::host::memory::OomKills;
use crate::host::process::{Running, SlotProcess};
use crate::workdir::fs::RealDir;
use crate::workdir::journal::SharedJournal;
use crate::workdir::state::State;

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
    /// The state of the run, as the ledger read it last.
    pub state: Mutex<State>,
    /// How long tasks took.
    pub times: Arc<TaskTimes>,
    /// Evidence of kills for lack of memory.
    pub oom: OomKills,
    /// Limits the number of open files, where few may be open.
    pub permits: Option<Arc<LogPermits>>,
    /// The absolute path of the workdir, for tasks and for messages.
    pub workdir: Arc<PathBuf>,
    /// The workdir.
    pub dir: Arc<RealDir>,
    /// To the supervisor.
    pub events: Sender<Event>,
    /// From the supervisor to the ledger.
    pub orders: Sender<Order>,
    /// From the slots to the ledger.
    pub reports: Sender<Report>,
}

impl Shared {
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

    /// Sends an order to the ledger. When that is gone, it has left.
    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// What runs now.
    pub(super) fn running(&self) -> impl Iterator<Item = Running> {
        self.processes.iter().filter_map(SlotProcess::running)
    }
}
