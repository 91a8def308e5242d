//! The slots of one farmer and its queue, as `farm::slot` and `farm::queue` are.

use std::collections::VecDeque;

use pytf::model::outcome::Outcome;
use pytf::model::record::{End, Record, Start, Used};
use pytf::model::task::Task;
use pytf::workdir::journal::Journal;

use crate::common::{Common, What};

/// A moment in the records of the simulation.
pub(crate) fn micros(at: u64) -> u64 {
    1_800_000_000_000_000 + at / 1000
}

struct Run {
    task: Task,
    began: u64,
}

pub(crate) struct Slots {
    farmer: u32,
    runs: Vec<Option<Run>>,
    idle: Vec<u32>,
    queue: VecDeque<Task>,
    /// Whose start is not in the journal yet.
    unnoted: Vec<u32>,
    /// Since when a slot has found the queue empty, since the last turn.
    pub(crate) starved_since: Option<u64>,
    idle_reported: usize,
}

impl Slots {
    pub(crate) fn new(farmer: u32, slots: u32) -> Self {
        Self {
            farmer,
            runs: (0..slots).map(|_| None).collect(),
            idle: (0..slots).rev().collect(),
            queue: VecDeque::new(),
            unnoted: Vec::new(),
            starved_since: None,
            idle_reported: 0,
        }
    }

    pub(crate) fn all(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn idle(&self) -> u64 {
        self.idle.len() as u64
    }

    pub(crate) fn queued(&self) -> u64 {
        self.queue.len() as u64
    }

    pub(crate) fn has_unnoted(&self) -> bool {
        !self.unnoted.is_empty()
    }

    /// The task in a slot ends; the record is in the journal.
    pub(crate) fn end(&mut self, common: &mut Common, slot: u32) -> (Task, End) {
        let now = common.now;
        let run = self.runs[slot as usize].take().expect("a task that runs");
        self.unnoted.retain(|other| *other != slot);
        self.idle.push(slot);
        common.sums.end(run.began, now);
        let end = End {
            id: run.task.id,
            attempt: run.task.attempt,
            slot,
            at: micros(run.began),
            us: (now - run.began) / 1000,
            outcome: Outcome::Exit(0),
            again: None,
            used: Some(Used {
                user: 1000,
                sys: 1000,
                peak: 4096,
                read: 0,
                written: 0,
            }),
            log: None,
            dir: None,
            skipped: None,
            lease: None,
        };
        (run.task, end)
    }

    /// A turn has brought tasks.
    pub(crate) fn put(&mut self, tasks: Vec<Task>) {
        self.idle_reported = 0;
        self.queue.extend(tasks);
    }

    /// The last task that waits, to give it back.
    pub(crate) fn retract(&mut self) -> Option<Task> {
        self.queue.pop_back()
    }

    /// Idle slots take what is in the queue; the first and the last that find
    /// nothing say so.
    pub(crate) fn feed(&mut self, common: &mut Common) {
        let now = common.now;
        while let Some(task) = (!self.idle.is_empty())
            .then(|| self.queue.pop_front())
            .flatten()
        {
            let Some(slot) = self.idle.pop() else { break };
            let length = common.length();
            common.sums.starts += 1;
            common.at(now + length, self.farmer, What::End(slot));
            self.runs[slot as usize] = Some(Run { task, began: now });
            self.unnoted.push(slot);
        }
        let (idle, slots) = (self.idle.len(), self.runs.len());
        if idle > 0 && (self.idle_reported == 0 || idle == slots && self.idle_reported < slots) {
            self.idle_reported = idle;
            self.starved_since.get_or_insert(now);
        }
    }

    /// Writes what was started into the journal.
    pub(crate) fn note_starts(&mut self, journal: &mut Journal) {
        for slot in std::mem::take(&mut self.unnoted) {
            if let Some(run) = &self.runs[slot as usize] {
                journal.push(&Record::Start(Start {
                    id: run.task.id,
                    attempt: run.task.attempt,
                    slot,
                    pid: 4_000_000,
                    at: micros(run.began),
                    lease: None,
                }));
            }
        }
    }
}
