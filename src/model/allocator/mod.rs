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

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use self::book::Book;
pub use self::capacity::{Capacity, GpuPlace};
use super::devices::cores::{self, Cpu};
use super::needs::Needs;

/// What an attempt has until its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceLease {
    /// By which it is returned.
    pub number: u64,
    /// What was asked for.
    pub needs: Needs,
    /// Its CPUs, in ascending order; empty when tasks are not bound.
    pub cpus: Vec<usize>,
    /// Its GPUs, by their places in [`Capacity::gpus`], in ascending order.
    pub gpus: Vec<usize>,
}

/// A task that waits here.
#[derive(Clone, Debug)]
struct Waiting<T> {
    number: u64,
    needs: Needs,
    length: Option<Duration>,
    task: T,
}

/// Deals the resources of one node to tasks of type `T`.
#[derive(Clone, Debug)]
pub struct Allocator<T> {
    book: Book,
    cpu_list: Vec<Cpu>,
    free_cpus: BTreeSet<usize>,
    cpus_of: BTreeMap<u64, Vec<usize>>,
    waiting: VecDeque<Waiting<T>>,
    next: u64,
    now: Duration,
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
            waiting: VecDeque::new(),
            next: 0,
            now: Duration::ZERO,
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

    /// A claimed task waits from now on, behind all others. `usual` is how long tasks of its
    /// kind took, if that is known.
    pub fn put(&mut self, task: T, needs: Needs, usual: Option<Duration>) {
        let number = self.next;
        self.next += 1;
        self.waiting.push_back(Waiting {
            number,
            needs,
            length: needs.time.or(usual),
            task,
        });
    }

    /// The next task that may start at this moment, with its lease. Tasks that this node can
    /// never hold are passed over: see [`Self::take_out`].
    pub fn take(&mut self, now: Duration) -> Option<(T, ResourceLease)> {
        self.now = self.now.max(now);
        let all = self.waiting.iter();
        let all = all.map(|waits| (waits.number, waits.needs, waits.length));
        let (index, gpus) = self.book.start_one(self.now, all)?;
        let Waiting {
            number,
            needs,
            task,
            ..
        } = self.waiting.remove(index)?;
        let near: BTreeSet<usize> = (gpus.iter())
            .flat_map(|&gpu| self.book.capacity().gpus[gpu].near.iter().copied())
            .collect();
        let cpus = if self.cpu_list.is_empty() {
            Vec::new()
        } else {
            let n = needs.cpus as usize;
            cores::choose(&self.cpu_list, &self.free_cpus, n, &near).unwrap_or_default()
        };
        self.free_cpus.retain(|id| !cpus.contains(id));
        self.cpus_of.insert(number, cpus.clone());
        let lease = ResourceLease {
            number,
            needs,
            cpus,
            gpus,
        };
        Some((task, lease))
    }

    /// An attempt has ended: what it had is free. Nothing is returned twice.
    pub fn give_back(&mut self, lease: &ResourceLease) {
        self.book.end(lease.number);
        let cpus = self.cpus_of.remove(&lease.number);
        self.free_cpus.extend(cpus.into_iter().flatten());
    }

    /// Takes certain tasks out that wait: for example those that can never start here.
    pub fn take_out(&mut self, mut is_wanted: impl FnMut(&T, &Needs) -> bool) -> Vec<T> {
        let all = std::mem::take(&mut self.waiting).into_iter();
        let (out, stay) =
            all.partition::<VecDeque<_>, _>(|waits| is_wanted(&waits.task, &waits.needs));
        self.waiting = stay;
        out.into_iter().map(|waits| waits.task).collect()
    }

    /// How many tasks wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What the tasks that wait need, in their order.
    pub fn needs_of_waiting(&self) -> impl Iterator<Item = (&T, &Needs)> {
        self.waiting.iter().map(|waits| (&waits.task, &waits.needs))
    }

    /// The task for which resources are collected, if there is one.
    pub fn reserved_for(&self) -> Option<(&T, &Needs)> {
        let number = self.book.reserved_for()?;
        let waits = self.waiting.iter().find(|waits| waits.number == number)?;
        Some((&waits.task, &waits.needs))
    }

    /// Whether a GPU takes tasks now: other processes may use it.
    pub fn set_usable(&mut self, gpu: usize, is_usable: bool) {
        self.book.set_usable(gpu, is_usable);
    }

    /// A GPU is lost, and takes no task any more, unless it is the last one.
    pub fn lose(&mut self, gpu: usize) {
        self.book.lose(gpu);
    }

    /// How many CPUs, places on GPUs and KiB of memory are in use.
    pub fn in_use(&self) -> (u32, u32, u64) {
        self.book.in_use()
    }

    /// How many tasks of which class to claim now. For each class: what one of its tasks needs,
    /// and how many can be claimed; the classes are in their order. The result is in the same
    /// order, and `slots` tasks in all at most.
    ///
    /// These are the tasks that could start now beside what runs and waits here. Of the first
    /// class of which none can start, one is claimed, which reserves what it needs, unless
    /// another task does already.
    pub fn claimable(&self, classes: &[(Needs, u64)], slots: u64) -> Vec<u64> {
        let mut book = self.book.clone();
        let mut waiting: Vec<(u64, Needs, Option<Duration>)> = (self.waiting.iter())
            .map(|waits| (waits.number, waits.needs, waits.length))
            .collect();
        while let Some((index, _)) = book.start_one(self.now, waiting.iter().copied()) {
            waiting.remove(index);
        }
        let (mut claims, mut left, mut next) = (Vec::new(), slots, self.next);
        for (needs, there) in classes {
            let mut claimed = 0;
            while claimed < *there && left > 0 && self.can_ever_hold(needs) {
                let one = (next, *needs, needs.time);
                next += 1;
                waiting.push(one);
                let started = book.start_one(self.now, waiting.iter().copied());
                let reserves = book.reserved_for() == Some(one.0);
                if started.is_some() || !(reserves && claimed == 0) {
                    waiting.pop();
                }
                if started.is_some() || reserves && claimed == 0 {
                    claimed += 1;
                    left -= 1;
                }
                if started.is_none() {
                    break;
                }
            }
            claims.push(claimed);
        }
        claims
    }
}

#[cfg(test)]
mod tests;
