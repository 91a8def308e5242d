//! The allocator of one node: each attempt of a task gets a lease of CPUs, GPUs and memory, and
//! returns it at its end.
//!
//! It holds the tasks that were claimed and wait, in their order. Guarantees: never more is
//! dealt than the node has, and no CPU to two tasks; and no task starves that this node can
//! hold. For the second, the first task in order that cannot start *reserves* what it needs.
//! Others may pass it if their time limit ends before it can start, or if they fit beside it.
//! "Beside" is counted strictly: those that have passed a reservation are assumed never to end,
//! so it starts, at the latest, when all tasks have ended that ran when it was made.

mod book;
mod capacity;
mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::book::Book;
pub use self::capacity::{Capacity, GpuPlace, Withheld};
use self::line::Line;
use super::devices::cores::{self, Cpu};
use super::needs::Needs;
use super::walltime::needs_more;

/// What an attempt has until its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceLease {
    /// By which it is returned.
    pub number: u64,
    /// What was asked for.
    pub needs: Needs,
    /// When it began.
    pub since: Duration,
    /// Its CPUs, in ascending order; empty when tasks are not bound.
    pub cpus: Vec<usize>,
    /// Its GPUs, by their places in [`Capacity::gpus`], in ascending order.
    pub gpus: Vec<usize>,
}

/// Deals the resources of one node to tasks of type `T`.
#[derive(Clone, Debug)]
pub struct Allocator<T> {
    book: Book,
    cpu_list: Vec<Cpu>,
    free_cpus: BTreeSet<usize>,
    cpus_of: BTreeMap<u64, Vec<usize>>,
    waiting: Line<T>,
    next: u64,
    now: Duration,
    /// The longest run so far of tasks with these needs.
    usual: BTreeMap<Needs, Duration>,
}

impl<T> Allocator<T> {
    /// With nothing in use.
    pub fn new(capacity: Capacity) -> Self {
        let mut cpu_list = capacity.cpu_list.clone();
        cpu_list.sort_unstable_by_key(|cpu| cpu.id);
        cpu_list.dedup_by_key(|cpu| cpu.id);
        if cpu_list.len() < capacity.cpus as usize {
            cpu_list.clear();
        }
        Self {
            free_cpus: cpu_list.iter().map(|cpu| cpu.id).collect(),
            cpu_list,
            book: Book::new(capacity),
            cpus_of: BTreeMap::new(),
            waiting: Line::default(),
            next: 0,
            now: Duration::ZERO,
            usual: BTreeMap::new(),
        }
    }

    /// What is dealt.
    pub fn capacity(&self) -> &Capacity {
        self.book.capacity()
    }

    /// Whether this node can hold such a task when nothing else runs.
    pub fn can_ever_hold(&self, needs: &Needs) -> bool {
        self.book.can_ever_hold(needs)
    }

    /// Others use this much of the node from now on. What runs already goes on. Returns the waiting
    /// tasks for which they do not leave enough: these may start elsewhere.
    pub fn withhold(&mut self, withheld: Withheld) -> Vec<T> {
        self.book.withhold(withheld);
        self.take_unfit()
    }

    /// What others use of the node.
    pub fn withheld(&self) -> Withheld {
        self.book.withheld()
    }

    /// The CPUs, and the KiB of memory, that are dealt now.
    pub fn dealt(&self) -> (u32, Option<u64>) {
        self.book.dealt()
    }

    /// The node has these GPUs, which nobody had looked for before.
    pub fn add_gpus(&mut self, gpus: Vec<GpuPlace>, tasks_per_gpu: u32) {
        self.book.add_gpus(gpus, tasks_per_gpu);
    }

    /// A claimed task waits from now on, behind all others.
    pub fn put(&mut self, task: T, needs: Needs) {
        let number = self.next;
        self.next += 1;
        self.waiting.push(number, needs, task);
    }

    /// A task runs already, on these GPUs and, if it is bound, on these CPUs.
    pub fn adopt(&mut self, needs: Needs, cpus: &[usize], gpus: Vec<usize>) -> ResourceLease {
        let number = self.next;
        self.next += 1;
        let bound: Vec<usize> = (cpus.iter().copied())
            .filter(|id| self.free_cpus.contains(id))
            .collect();
        let n = needs.cpus as usize;
        let cpus = if bound.len() == n {
            bound
        } else {
            // It may run anywhere: as many CPUs as it needs count as its own.
            self.choose_cpus(n, &BTreeSet::new())
        };
        self.free_cpus.retain(|id| !cpus.contains(id));
        self.cpus_of.insert(number, cpus.clone());
        self.book.adopt(number, needs, gpus.clone());
        ResourceLease {
            number,
            needs,
            since: self.now,
            cpus,
            gpus,
        }
    }

    fn choose_cpus(&self, n: usize, near: &BTreeSet<usize>) -> Vec<usize> {
        if self.cpu_list.is_empty() {
            return Vec::new();
        }
        cores::choose(&self.cpu_list, &self.free_cpus, n, near).unwrap_or_default()
    }

    /// The longest run so far of a task with these needs.
    pub fn usual(&self, needs: &Needs) -> Option<Duration> {
        self.usual.get(needs).copied()
    }

    /// The next task that may start at this moment, with its lease. Tasks that this node cannot
    /// hold are passed over: see [`Self::take_out`].
    pub fn take(&mut self, now: Duration) -> Option<(T, ResourceLease)> {
        self.now = self.now.max(now);
        let waiting = with_lengths(&self.waiting, &self.usual);
        let (number, gpus) = self.book.start_one(self.now, waiting)?;
        let (needs, task) = self.waiting.take_first(number)?;
        let near: BTreeSet<usize> = (gpus.iter())
            .flat_map(|&gpu| self.book.capacity().gpus[gpu].near.iter().copied())
            .collect();
        let cpus = self.choose_cpus(needs.cpus as usize, &near);
        self.free_cpus.retain(|id| !cpus.contains(id));
        self.cpus_of.insert(number, cpus.clone());
        let lease = ResourceLease {
            number,
            needs,
            since: self.now,
            cpus,
            gpus,
        };
        Some((task, lease))
    }

    /// An attempt has ended: what it had is free. Nothing is returned twice.
    pub fn give_back(&mut self, lease: &ResourceLease, now: Duration) {
        self.now = self.now.max(now);
        let ran = self.now.saturating_sub(lease.since);
        let usual = self.usual.entry(lease.needs).or_default();
        *usual = ran.max(*usual);
        self.book.end(lease.number);
        let cpus = self.cpus_of.remove(&lease.number);
        self.free_cpus.extend(cpus.into_iter().flatten());
    }

    /// Takes certain tasks out that wait.
    pub fn take_out(&mut self, is_wanted: impl FnMut(&T, &Needs) -> bool) -> Vec<T> {
        self.waiting.split_off(is_wanted)
    }

    /// Takes the waiting tasks out that may need more time than is left, of those of which a
    /// limit is said.
    pub fn take_late(&mut self, left: Duration, says_limit: impl Fn(&T) -> bool) -> Vec<T> {
        let (waiting, usual) = (&mut self.waiting, &self.usual);
        waiting.split_off(|task, needs| {
            let is_late = |limit| needs_more(limit, usual.get(needs).copied(), left);
            needs.time.is_some_and(is_late) && says_limit(task)
        })
    }

    /// Takes the waiting tasks out that this node can never hold, or for which others do not leave
    /// enough now.
    pub fn take_unfit(&mut self) -> Vec<T> {
        let (waiting, book) = (&mut self.waiting, &self.book);
        waiting.split_off(|_, needs| !book.can_hold_now(needs))
    }

    /// How many tasks wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The task for which resources are collected, if there is one.
    pub fn reserved_for(&self) -> Option<(&T, &Needs)> {
        self.waiting.first(self.book.reserved_for()?)
    }

    /// Since when that is done, by the time of [`Self::take`].
    pub fn reserved_since(&self) -> Option<Duration> {
        self.book.reserved_since()
    }

    /// Whether a GPU takes tasks now: other processes may use it.
    pub fn set_usable(&mut self, gpu: usize, is_usable: bool) {
        self.book.set_usable(gpu, is_usable);
    }

    /// How many GPUs take tasks.
    pub fn gpus(&self) -> u32 {
        self.book.gpus()
    }

    /// A GPU is not ours.
    pub fn exclude(&mut self, gpu: usize) {
        self.book.exclude(gpu);
    }

    /// A GPU is lost, and takes no task any more, unless it is the last one.
    pub fn lose(&mut self, gpu: usize) {
        self.book.lose(gpu);
    }

    /// How many CPUs, places on GPUs and KiB of memory are in use.
    pub fn in_use(&self) -> (u32, u32, u64) {
        self.book.in_use()
    }

    /// What decides which tasks to claim now. `ahead` tasks may be claimed that cannot start yet.
    pub fn claimer(&self, ahead: u64) -> Claimer {
        let mut book = self.book.clone();
        let mut waiting = self.waiting.numbers();
        while let Some((number, _)) = book.start_one(self.now, with_lengths(&waiting, &self.usual))
        {
            waiting.take_first(number);
        }
        Claimer {
            ahead: ahead.saturating_sub(waiting.len() as u64),
            book,
            waiting,
            usual: self.usual.clone(),
            now: self.now,
            next: self.next,
            started: Vec::new(),
        }
    }

    /// How many tasks of which class to claim now. For each class: what one of its tasks needs,
    /// and how many can be claimed; the classes are in their order. The result is in the same
    /// order, and `slots` tasks in all at most.
    pub fn claimable(&self, classes: &[(Needs, u64)], slots: u64) -> Vec<u64> {
        let (mut decides, mut left) = (self.claimer(0), slots);
        let of_class = |(needs, there): &(Needs, u64)| {
            let mut count = 0;
            while count < *there && left > 0 && decides.one_more(needs) {
                count += 1;
                left -= 1;
            }
            count
        };
        classes.iter().map(of_class).collect()
    }
}

/// Decides which tasks to claim, one after the other in their order: those that could start now
/// beside what runs and waits here. If none of its kind can start, one is claimed, which
/// reserves what it needs, unless another task does already.
#[derive(Clone, Debug)]
pub struct Claimer {
    book: Book,
    waiting: Line<()>,
    usual: BTreeMap<Needs, Duration>,
    now: Duration,
    next: u64,
    ahead: u64,
    /// The needs of those that could start.
    started: Vec<Needs>,
}

impl Claimer {
    /// Whether one more task with these needs is to be claimed. If so, it is counted.
    pub fn one_more(&mut self, needs: &Needs) -> bool {
        if !self.book.can_hold_now(needs) {
            return false;
        }
        let number = self.next;
        self.next += 1;
        self.waiting.push(number, *needs, ());
        let waiting = with_lengths(&self.waiting, &self.usual);
        if self.book.start_one(self.now, waiting).is_some() {
            self.waiting.take_last(needs);
            if self.started.last() != Some(needs) {
                self.started.push(*needs);
            }
            return true;
        }
        let reserves = self.book.reserved_for() == Some(number) && !self.started.contains(needs);
        let is_ahead = !reserves && self.ahead > 0;
        if is_ahead {
            self.ahead -= 1;
        }
        if !reserves && !is_ahead {
            self.waiting.take_last(needs);
        }
        reserves || is_ahead
    }
}

/// The number of the first task of each kind, its needs, and how long it runs: its limit, or else
/// what others took.
fn with_lengths<T>(
    waiting: &Line<T>,
    usual: &BTreeMap<Needs, Duration>,
) -> impl Iterator<Item = (u64, Needs, Option<Duration>)> {
    waiting.firsts().map(|(number, needs)| {
        let length = needs.time.or_else(|| usual.get(&needs).copied());
        (number, needs, length)
    })
}

#[cfg(test)]
mod tests;
