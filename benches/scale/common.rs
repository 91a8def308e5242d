//! What all farmers of a simulation share: the plan, the server, the events, the sums.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::files::{Profile, Shared, as_f64, as_u64};

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) profile: Profile,
    pub(crate) nodes: u32,
    pub(crate) slots: u32,
    /// The mean length of a task in seconds.
    pub(crate) task: f64,
    /// Lengths are spread evenly over this part of the mean to both sides.
    pub(crate) spread: f64,
    /// For how many seconds there is work, if no slot is ever idle.
    pub(crate) run: f64,
    /// The farmers start within so many seconds.
    pub(crate) launch: f64,
    pub(crate) seed: u64,
    /// Whether the farmers know how many were launched with them.
    pub(crate) knows: bool,
    /// Tasks of 1, 8 and all CPUs of a node, a third of the work each.
    pub(crate) mix: bool,
    /// The time limit that each of them says, in seconds.
    pub(crate) limit: Option<u32>,
}

impl Plan {
    /// What the launcher has told each farmer.
    pub(crate) fn launched(&self) -> u32 {
        if self.knows { self.nodes } else { 1 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// The farmer begins.
    Begin,
    /// The farmer's ledger looks what is due.
    Wake,
    /// It tries to take the lock.
    Try,
    /// Its transaction is over.
    Done,
    /// A task ends in this slot.
    End(u32),
}

/// What every farmer can reach.
pub(crate) struct Common {
    pub(crate) plan: Plan,
    pub(crate) server: Shared,
    pub(crate) now: u64,
    /// Until when the lock is taken.
    pub(crate) locked_until: u64,
    /// Farmers that have joined.
    pub(crate) alive: u32,
    pub(crate) random: u64,
    pub(crate) sums: Sums,
    pub(crate) events: BinaryHeap<Reverse<(u64, u64, u32, What)>>,
    pub(crate) order: u64,
}

/// What is asked of a run.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) turns: u64,
    pub(crate) locked: u64,
    pub(crate) tries: u64,
    pub(crate) waits: Vec<u64>,
    pub(crate) starts: u64,
    pub(crate) ends: u64,
    pub(crate) busy: u64,
    pub(crate) last_end: u64,
    /// When nothing was left to claim for the first time.
    pub(crate) dry: Option<u64>,
    /// When every farmer had its first tasks.
    pub(crate) full: u64,
    /// How long tasks that need a whole node waited there, from the claim.
    pub(crate) wide_waits: Vec<u64>,
    /// Busy time until it was dry, from when it was full.
    pub(crate) steady: u64,
    /// Farmers that have left.
    pub(crate) gone: u32,
    /// When the last of them left.
    pub(crate) last_left: u64,
}

impl Sums {
    /// A task on so many CPUs that began at `began` ends now.
    pub(crate) fn end(&mut self, began: u64, now: u64, cpus: u64) {
        self.ends += 1;
        self.busy += (now - began) * cpus;
        self.last_end = now;
        let (from, to) = (began.max(self.full), self.dry.unwrap_or(now));
        if self.full > 0 {
            self.steady += to.saturating_sub(from) * cpus;
        }
    }
}

impl Common {
    pub(crate) fn at(&mut self, time: u64, farmer: u32, what: What) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, farmer, what)));
    }

    /// From 0 to 1.
    pub(crate) fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        as_f64(self.random >> 11) / as_f64(1 << 53)
    }

    /// The line of a task.
    pub(crate) fn line(&mut self) -> Vec<u8> {
        let Plan {
            mix, limit, slots, ..
        } = self.plan;
        if !mix {
            return b"./t".to_vec();
        }
        // As many tasks of each kind as make the same work.
        let wide = f64::from(slots);
        let kinds = [(1.0, 1), (1.0 / 8.0, 8), (1.0 / wide, slots)];
        let all: f64 = kinds.iter().map(|(part, _)| part).sum();
        let mut at = self.chance() * all;
        let of_kind = kinds.into_iter().find(|(part, _)| {
            at -= part;
            at < 0.0
        });
        let cpus = of_kind.map_or(1, |(_, cpus)| cpus);
        let limit = limit.map_or_else(String::new, |limit| format!(" time={limit}s"));
        format!("./t #PYTF cpus={cpus}{limit}").into_bytes()
    }

    pub(crate) fn length(&mut self) -> u64 {
        let Plan { task, spread, .. } = self.plan;
        let factor = 1.0 + spread * (2.0 * self.chance() - 1.0);
        as_u64(task * factor * 1e9)
    }
}
