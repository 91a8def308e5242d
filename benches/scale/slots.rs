//! The slots of one farmer and its queue, as `farm::slot` and `farm::queue` are.

use std::collections::VecDeque;
use std::time::Duration;

use pytf::model::allocator::{Allocator, Capacity, Claimer, ResourceLease};
use pytf::model::attributes::Attributes;
use pytf::model::needs::Needs;
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
    lease: Option<ResourceLease>,
}

/// The tasks that are claimed and wait here.
enum Queue {
    Plain(VecDeque<Task>),
    /// Of tasks with needs of their own, each with the moment of its claim.
    Dealt(Box<Allocator<(Task, u64)>>),
}

pub(crate) struct Slots {
    farmer: u32,
    runs: Vec<Option<Run>>,
    idle: Vec<u32>,
    queue: Queue,
    /// How often something became free.
    pub(crate) returned: u64,
    /// Whose start is not in the journal yet.
    unnoted: Vec<u32>,
    /// Since when a slot has found the queue empty, since the last turn.
    pub(crate) starved_since: Option<u64>,
    idle_reported: usize,
}

impl Slots {
    pub(crate) fn new(farmer: u32, slots: u32, mix: bool) -> Self {
        let capacity = Capacity {
            cpus: slots,
            cpu_list: Vec::new(),
            gpus: Vec::new(),
            tasks_per_gpu: 1,
            mem_kib: None,
        };
        let queue = if mix {
            Queue::Dealt(Box::new(Allocator::new(capacity)))
        } else {
            Queue::Plain(VecDeque::new())
        };
        Self {
            farmer,
            runs: (0..slots).map(|_| None).collect(),
            idle: (0..slots).rev().collect(),
            queue,
            returned: 0,
            unnoted: Vec::new(),
            starved_since: None,
            idle_reported: 0,
        }
    }

    pub(crate) fn all(&self) -> usize {
        self.runs.len()
    }

    /// For how many slots tasks are to be claimed.
    pub(crate) fn idle(&self) -> u64 {
        let idle = self.idle.len() as u64;
        let Queue::Dealt(allocator) = &self.queue else {
            return idle;
        };
        let (used, ..) = allocator.in_use();
        if allocator.waiting() == 0 && used == 0 {
            return idle;
        }
        let free = allocator.capacity().cpus.saturating_sub(used);
        idle.min(free.into()) + u64::from(allocator.reserved_for().is_some())
    }

    pub(crate) fn queued(&self) -> u64 {
        match &self.queue {
            Queue::Plain(tasks) => tasks.len() as u64,
            Queue::Dealt(allocator) => allocator.waiting() as u64,
        }
    }

    /// What decides which tasks to claim, where tasks have needs of their own.
    pub(crate) fn claimer(&self, ahead: u64) -> Option<Claimer> {
        match &self.queue {
            Queue::Plain(_) => None,
            Queue::Dealt(allocator) => Some(allocator.claimer(ahead)),
        }
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
        let cpus = run.lease.as_ref().map_or(1, |lease| lease.needs.cpus);
        common.sums.end(run.began, now, cpus.into());
        if let (Queue::Dealt(allocator), Some(lease)) = (&mut self.queue, &run.lease) {
            allocator.give_back(lease, Duration::from_nanos(now));
            self.returned += 1;
            self.idle_reported = 0;
        }
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
    pub(crate) fn put(&mut self, tasks: Vec<Task>, now: u64) {
        self.idle_reported = 0;
        match &mut self.queue {
            Queue::Plain(queue) => queue.extend(tasks),
            Queue::Dealt(allocator) => {
                for task in tasks {
                    let said = Attributes::of_line(&task.line).unwrap_or_default();
                    let needs = Needs::of(&said, 1, &Needs::default());
                    allocator.put((task, now), needs);
                }
            }
        }
    }

    /// The next task that may start.
    fn next(&mut self, common: &mut Common) -> Option<(Task, Option<ResourceLease>)> {
        let allocator = match &mut self.queue {
            Queue::Plain(queue) => return Some((queue.pop_front()?, None)),
            Queue::Dealt(allocator) => allocator,
        };
        let ((task, since), lease) = allocator.take(Duration::from_nanos(common.now))?;
        if lease.needs.cpus == allocator.capacity().cpus {
            common.sums.wide_waits.push(common.now - since);
        }
        Some((task, Some(lease)))
    }

    /// The last task that waits, to give it back.
    pub(crate) fn retract(&mut self) -> Option<Task> {
        match &mut self.queue {
            Queue::Plain(queue) => queue.pop_back(),
            Queue::Dealt(allocator) => {
                let mut keep = allocator.waiting().saturating_sub(1);
                let out = allocator.take_out(|_, _| {
                    let is_kept = keep > 0;
                    keep = keep.saturating_sub(1);
                    !is_kept
                });
                out.into_iter().next().map(|(task, _)| task)
            }
        }
    }

    /// Idle slots take what is in the queue; the first and the last that find
    /// nothing say so.
    pub(crate) fn feed(&mut self, common: &mut Common) {
        let now = common.now;
        while let Some((task, lease)) = (!self.idle.is_empty()).then(|| self.next(common)).flatten()
        {
            let Some(slot) = self.idle.pop() else { break };
            let length = common.length();
            common.sums.starts += 1;
            common.at(now + length, self.farmer, What::End(slot));
            self.runs[slot as usize] = Some(Run {
                task,
                began: now,
                lease,
            });
            self.unnoted.push(slot);
        }
        let (idle, slots) = (self.idle.len(), self.runs.len());
        let is_starved = matches!(self.queue, Queue::Plain(_)) || self.idle() > self.queued();
        if is_starved
            && idle > 0
            && (self.idle_reported == 0 || idle == slots && self.idle_reported < slots)
        {
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
