//! The accounts of an allocator: how much is in use, and which task may start next. It counts
//! CPUs; which ones a task gets is decided elsewhere.

use std::time::Duration;

use super::capacity::{Capacity, GpuPlace, Withheld};
use crate::model::devices::assign::{Locality, choose};
use crate::model::needs::Needs;

/// What is in use.
#[derive(Clone, Debug)]
struct Usage {
    cpus: u32,
    /// For each GPU, the number of its tasks.
    tasks: Vec<u32>,
    mem_kib: u64,
}

/// A task that runs.
#[derive(Clone, Debug)]
struct Runs {
    number: u64,
    needs: Needs,
    gpus: Vec<usize>,
    /// When it ends, as far as is known.
    ends: Option<Duration>,
    /// Whether it has passed the present reservation: it is assumed never to end.
    has_passed: bool,
}

/// The task for which resources are collected.
#[derive(Clone, Copy, Debug)]
struct Reservation {
    number: u64,
    /// When it starts at the latest, if all tasks end in time. It never moves back, so
    /// that wrong estimates delay it once only.
    by: Option<Duration>,
    /// When it was made.
    since: Duration,
}

/// How things stand when the reservation is fulfilled.
struct Shadow {
    needs: Needs,
    usage: Usage,
    by: Option<Duration>,
}

/// The accounts.
#[derive(Clone, Debug)]
pub(super) struct Book {
    capacity: Capacity,
    localities: Vec<Locality>,
    usage: Usage,
    /// In the order in which they were started.
    runs: Vec<Runs>,
    reservation: Option<Reservation>,
    usable: Vec<bool>,
    lost: Vec<bool>,
    withheld: Withheld,
}

impl Usage {
    fn add(&mut self, needs: &Needs, gpus: &[usize]) {
        self.cpus += needs.cpus;
        self.mem_kib = self.mem_kib.saturating_add(needs.mem_kib);
        for &gpu in gpus {
            self.tasks[gpu] += 1;
        }
    }

    fn subtract(&mut self, runs: &Runs) {
        self.cpus -= runs.needs.cpus;
        self.mem_kib = self.mem_kib.saturating_sub(runs.needs.mem_kib);
        for &gpu in &runs.gpus {
            self.tasks[gpu] -= 1;
        }
    }
}

impl Book {
    pub(super) fn new(capacity: Capacity) -> Self {
        let gpus = capacity.gpus.len();
        Self {
            localities: capacity.gpus.iter().map(|gpu| gpu.locality).collect(),
            usage: Usage {
                cpus: 0,
                tasks: vec![0; gpus],
                mem_kib: 0,
            },
            runs: Vec::new(),
            reservation: None,
            usable: vec![true; gpus],
            lost: vec![false; gpus],
            withheld: Withheld::default(),
            capacity,
        }
    }

    pub(super) fn add_gpus(&mut self, gpus: Vec<GpuPlace>, tasks_per_gpu: u32) {
        self.localities.extend(gpus.iter().map(|gpu| gpu.locality));
        self.capacity.gpus.extend(gpus);
        self.capacity.tasks_per_gpu = tasks_per_gpu;
        let all = self.localities.len();
        self.usage.tasks.resize(all, 0);
        self.usable.resize(all, true);
        self.lost.resize(all, false);
    }

    /// A task runs that was not started here.
    pub(super) fn adopt(&mut self, number: u64, needs: Needs, gpus: Vec<usize>) {
        self.usage.add(&needs, &gpus);
        self.runs.push(Runs {
            number,
            needs,
            gpus,
            ends: None,
            has_passed: false,
        });
    }

    pub(super) fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    pub(super) fn reserved_for(&self) -> Option<u64> {
        self.reservation.map(|reservation| reservation.number)
    }

    pub(super) fn reserved_since(&self) -> Option<Duration> {
        self.reservation.map(|reservation| reservation.since)
    }

    pub(super) fn in_use(&self) -> (u32, u32, u64) {
        let tasks = self.usage.tasks.iter().sum();
        (self.usage.cpus, tasks, self.usage.mem_kib)
    }

    pub(super) fn set_usable(&mut self, gpu: usize, is_usable: bool) {
        self.usable[gpu] = is_usable;
    }

    pub(super) fn gpus(&self) -> u32 {
        let gpus = self.lost.iter().filter(|is_lost| !**is_lost).count();
        u32::try_from(gpus).unwrap_or(u32::MAX)
    }

    pub(super) fn exclude(&mut self, gpu: usize) {
        self.lost[gpu] = true;
    }

    pub(super) fn lose(&mut self, gpu: usize) {
        let others = (0..self.lost.len()).filter(|other| *other != gpu && !self.lost[*other]);
        self.lost[gpu] |= others.count() > 0;
    }

    pub(super) fn withhold(&mut self, withheld: Withheld) {
        self.withheld = withheld;
    }

    pub(super) fn withheld(&self) -> Withheld {
        self.withheld
    }

    /// The CPUs, and the KiB of memory, that are dealt now.
    pub(super) fn dealt(&self) -> (u32, Option<u64>) {
        let Withheld { cpus, mem_kib } = self.withheld;
        let mem = self.capacity.mem_kib;
        (
            self.capacity.cpus.saturating_sub(cpus),
            mem.map(|mem| mem.saturating_sub(mem_kib)),
        )
    }

    /// Whether others leave enough for such a task.
    pub(super) fn can_hold_now(&self, needs: &Needs) -> bool {
        let (cpus, mem) = self.dealt();
        self.can_ever_hold(needs)
            && needs.cpus <= cpus
            && mem.is_none_or(|mem| needs.mem_kib <= mem)
    }

    pub(super) fn can_ever_hold(&self, needs: &Needs) -> bool {
        needs.cpus <= self.capacity.cpus
            && needs.gpus <= self.gpus()
            && (self.capacity.mem_kib).is_none_or(|mem_kib| needs.mem_kib <= mem_kib)
    }

    /// The GPUs on which such a task could start beside this usage; `None` when it could not.
    /// `is_now`: other processes' use of GPUs counts.
    fn place(&self, usage: &Usage, needs: &Needs, is_now: bool) -> Option<Vec<usize>> {
        let (cpus, mem) = self.dealt();
        let free = cpus.saturating_sub(usage.cpus);
        let mem = mem.unwrap_or(u64::MAX);
        let is_too_much = needs.mem_kib > 0 && needs.mem_kib > mem.saturating_sub(usage.mem_kib);
        if needs.cpus > free || is_too_much {
            return None;
        }
        if needs.gpus == 0 {
            return Some(Vec::new());
        }
        let most = self.capacity.tasks_per_gpu.max(1);
        let used: Vec<Option<u32>> = (usage.tasks.iter().enumerate())
            .map(|(gpu, &tasks)| {
                let may = !self.lost[gpu] && (self.usable[gpu] || !is_now);
                (may && tasks < most).then_some(tasks)
            })
            .collect();
        choose(&self.localities, &used, needs.gpus as usize)
    }

    /// Starts the first task that may start, of those that wait: number, needs and expected
    /// length of the first of each kind, in their order. Returns its number, and its GPUs.
    pub(super) fn start_one(
        &mut self,
        now: Duration,
        waiting: impl Iterator<Item = (u64, Needs, Option<Duration>)>,
    ) -> Option<(u64, Vec<usize>)> {
        let mut shadow: Option<Shadow> = None;
        for (number, needs, length) in waiting {
            if !self.can_hold_now(&needs) {
                continue;
            }
            let ends = length.map(|length| now.saturating_add(length));
            let Some(gpus) = self.place(&self.usage, &needs, true) else {
                if shadow.is_none() {
                    shadow = Some(self.reserve(now, number, needs));
                }
                continue;
            };
            let has_passed = match &shadow {
                None => false,
                Some(shadow) => {
                    let by = shadow.by;
                    let is_over_in_time = ends.is_some_and(|at| by.is_some_and(|by| at <= by));
                    if !is_over_in_time && !self.is_beside(shadow, &needs, &gpus) {
                        continue;
                    }
                    !is_over_in_time
                }
            };
            if shadow.is_none() {
                self.reservation = None;
            }
            self.usage.add(&needs, &gpus);
            self.runs.push(Runs {
                number,
                needs,
                gpus: gpus.clone(),
                ends,
                has_passed,
            });
            return Some((number, gpus));
        }
        if shadow.is_none() {
            self.reservation = None;
        }
        None
    }

    pub(super) fn end(&mut self, number: u64) {
        if let Some(at) = self.runs.iter().position(|runs| runs.number == number) {
            let runs = self.runs.remove(at);
            self.usage.subtract(&runs);
        }
    }

    /// Reserves for this task, or goes on with it.
    fn reserve(&mut self, now: Duration, number: u64, needs: Needs) -> Shadow {
        if self.reserved_for() != Some(number) {
            self.reservation = Some(Reservation {
                number,
                by: None,
                since: now,
            });
            for runs in &mut self.runs {
                runs.has_passed = false;
            }
        }
        let (usage, at) = self.shadow(now, &needs);
        let known = self.reservation.and_then(|reservation| reservation.by);
        let by = known.map_or(at, |by| Some(at.map_or(by, |at| at.min(by))));
        if let Some(reservation) = &mut self.reservation {
            reservation.by = by;
        }
        Shadow { needs, usage, by }
    }

    /// What is in use when a task with these needs can start, and when that is. First those end
    /// of which that is known, then the youngest: it is then that the least is sure to be left
    /// for others.
    fn shadow(&self, now: Duration, needs: &Needs) -> (Usage, Option<Duration>) {
        let mut ending: Vec<&Runs> = self.runs.iter().filter(|runs| !runs.has_passed).collect();
        ending.reverse();
        let ends = |runs: &Runs| runs.ends.filter(|at| *at > now);
        ending.sort_by_key(|runs| ends(runs).unwrap_or(Duration::MAX));
        let (mut usage, mut at) = (self.usage.clone(), None);
        for runs in ending {
            if self.place(&usage, needs, false).is_some() {
                break;
            }
            usage.subtract(runs);
            at = ends(runs);
        }
        (usage, at)
    }

    /// Whether the reservation can be fulfilled as it would be, also with this task.
    fn is_beside(&self, shadow: &Shadow, needs: &Needs, gpus: &[usize]) -> bool {
        let mut usage = shadow.usage.clone();
        usage.add(needs, gpus);
        self.place(&usage, &shadow.needs, false).is_some()
    }
}
