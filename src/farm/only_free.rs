//! Leaves to the programs of others what they use of this node (`--only-free`).
//!
//! A thread of its own measures every second, also while no task waits. Tasks that others leave no
//! room for are given back, so that they can start on another node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lock_wait::CancelToken;
use super::message::Report;
use super::shared::Shared;
use crate::host::cpus::allowed;
use crate::host::usage;
use crate::model::allocator::Capacity;
use crate::model::figures::counted;
use crate::model::others::Others;

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(1);
/// How often at most it is said that others use more, or less.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// How many CPUs this process may run on.
pub(super) fn cpus() -> u32 {
    u32::try_from(allowed().len()).unwrap_or(u32::MAX)
}

/// What others use, before this process claims its first tasks: it takes a second.
pub(super) fn first_look(cancel: &CancelToken) -> Others {
    let (cpus, mut others) = (allowed(), Others::default());
    others.extend(usage::read(&cpus));
    cancel.pause(EVERY);
    others.extend(usage::read(&cpus));
    others
}

/// Measures, and withholds from the tasks of this farmer what others use, until the queue is
/// closed.
pub(super) fn watch(shared: &Arc<Shared>, others: Others) {
    let watch = Watch {
        shared: shared.clone(),
        others,
        online: cpus(),
        said: None,
    };
    let thread = std::thread::Builder::new().name("only-free".to_owned());
    if let Err(error) = thread.spawn(move || watch.run()) {
        shared.warn(format!(
            "--only-free: what others use is not looked at any more: no thread can be started: {error}"
        ));
    }
}

struct Watch {
    shared: Arc<Shared>,
    others: Others,
    online: u32,
    /// How many CPUs were said to be left, and when that was.
    said: Option<(Instant, u32)>,
}

impl Watch {
    fn run(mut self) {
        let cpus = allowed();
        if self.others.cpus().is_none() {
            let text = "--only-free: what others use of this node cannot be measured: tasks do \
                        not wait for it";
            return self.shared.warn(text.to_owned());
        }
        loop {
            self.withhold();
            if self.shared.queue.is_closed_within(EVERY) {
                return;
            }
            self.others.extend(usage::read(&cpus));
        }
    }

    /// Withholds what others use now. What cannot start here beside that is given back.
    fn withhold(&mut self) {
        let (others, online) = (&self.others, self.online);
        let (mut has_cpus, mut left) = (0, 0);
        let unfit = self.shared.queue.withhold(|has: &Capacity| {
            let withheld = others.withheld(has, online);
            has_cpus = has.cpus;
            left = has_cpus.saturating_sub(withheld.cpus);
            withheld
        });
        for task in unfit {
            // The ledger is gone only when the queue is closed.
            let _ = self.shared.reports.send(Report::Unstarted(task));
        }
        self.say(has_cpus, left);
    }

    /// Says how many of our CPUs others leave, when that is not what was said last.
    fn say(&mut self, has: u32, left: u32) {
        let is_early = self.said.is_some_and(|(at, _)| at.elapsed() < SAY_EVERY);
        let said = self.said.map_or(has, |(_, left)| left);
        if left == said || is_early {
            return;
        }
        self.said = Some((Instant::now(), left));
        let text = if self.others.is_memory_short() {
            "hardly any memory is available, so no task is started".to_owned()
        } else {
            let used = self.others.cpus().unwrap_or_default();
            let left = counted(left.into(), "CPU is", "CPUs are");
            format!(
                "others use {used:.1} of {} CPUs, {left} left for tasks",
                self.online
            )
        };
        self.shared.say(format!("--only-free: {text}"));
    }
}
