//! Simulated time: the events of all farmers in order, and who has the lock.
//!
//! A transaction runs at the moment at which its farmer gets the lock, as one
//! call of the real code, whose operations move a clock of its own; until the
//! time that it shows at the end the lock is taken. Tries that fail are events,
//! with the pauses of the real code between them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use anyhow::Result;
use pytf::model::task::{TaskId, push_line};
use pytf::workdir::commit::Txn;
use pytf::workdir::lock::Mechanism;
use pytf::workdir::open::Workdir;
use pytf::workdir::state::Act;
use serde_json::{Value, json};

use crate::farmer::Farmer;
use crate::files::{Profile, Shared, as_f64, as_u64};
use crate::waiting::SimWaiting;

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
    events: BinaryHeap<Reverse<(u64, u64, u32, What)>>,
    order: u64,
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
    /// Busy time until it was dry, from when it was full.
    pub(crate) steady: u64,
    /// Farmers that have left.
    pub(crate) gone: u32,
    /// When the last of them left.
    pub(crate) last_left: u64,
}

impl Sums {
    /// A task that began at `began` ends now.
    pub(crate) fn end(&mut self, began: u64, now: u64) {
        self.ends += 1;
        self.busy += now - began;
        self.last_end = now;
        let (from, to) = (began.max(self.full), self.dry.unwrap_or(now));
        if self.full > 0 {
            self.steady += to.saturating_sub(from);
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

    pub(crate) fn length(&mut self) -> u64 {
        let Plan { task, spread, .. } = self.plan;
        let factor = 1.0 + spread * (2.0 * self.chance() - 1.0);
        as_u64(task * factor * 1e9)
    }
}

pub(crate) struct World {
    common: Common,
    farmers: Vec<Farmer>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Result<Self> {
        let server = Shared::new(plan.profile);
        let mut common = Common {
            plan,
            server: server.clone(),
            now: 0,
            locked_until: 0,
            alive: 1,
            random: plan.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            sums: Sums::default(),
            events: BinaryHeap::new(),
            order: 0,
        };
        let total = f64::from(plan.nodes) * f64::from(plan.slots) * plan.run / plan.task;
        let total = as_u64(total).max(1);
        let dir = server.dir();
        let mut waiting = SimWaiting::new(&server, 1);
        let mut txn = Txn::begin(&dir, Mechanism::Fcntl, "the user", &mut waiting)?;
        let mut lines = Vec::new();
        (0..total).for_each(|id| push_line(&mut lines, TaskId(id), b"./t"));
        txn.add(&lines, total)?;
        txn.commit(Act::Prepare)?;
        let count = server.lock().count;
        let workdir = Workdir {
            dir,
            path: "sim".into(),
            mechanism: Mechanism::Fcntl,
        };
        let mut farmers = Vec::new();
        for number in 0..plan.nodes {
            let begin = as_u64(common.chance() * plan.launch * 1e9);
            common.at(begin, number, What::Begin);
            farmers.push(Farmer::new(number, &plan, workdir.clone()));
        }
        // Preparing is not what is asked for.
        let mut server = server.lock();
        server.count.requests -= count.requests;
        server.count.written -= count.written;
        server.count.read -= count.read;
        drop(server);
        Ok(Self { common, farmers })
    }

    /// Runs until every farmer has left.
    pub(crate) fn run(mut self) -> Result<Value> {
        while let Some(Reverse((time, _, farmer, what))) = self.common.events.pop() {
            self.common.now = time;
            self.farmers[farmer as usize].happens(&mut self.common, what)?;
        }
        Ok(self.verdict())
    }

    fn verdict(mut self) -> Value {
        let Plan {
            profile,
            nodes,
            slots,
            task,
            run,
            spread,
            ..
        } = self.common.plan;
        let sums = &mut self.common.sums;
        sums.waits.sort_unstable();
        let seconds = |ns: u64| as_f64(ns) / 1e9;
        let quantile = |part: f64| {
            let at = as_u64(as_f64(sums.waits.len() as u64) * part);
            let at = usize::try_from(at).unwrap_or(0);
            seconds(
                sums.waits
                    .get(at.min(sums.waits.len().saturating_sub(1)))
                    .copied()
                    .unwrap_or(0),
            )
        };
        let all = f64::from(nodes) * f64::from(slots);
        let dry = sums.dry.unwrap_or(sums.last_end);
        let steady = dry.saturating_sub(sums.full);
        let server = self.common.server.lock();
        let span = seconds(sums.last_end);
        let work = seconds(sums.busy) / all;
        let per_second = |n: u64| as_f64(n) / span;
        json!({
            "fs": profile.name, "nodes": nodes, "slots": slots, "task": task, "run": run, "spread": spread,
            "tasks": sums.ends, "seconds": span,
            "utilisation": work / span,
            "steady": (steady > 0).then(|| seconds(sums.steady) / all / seconds(steady)),
            "full_after": seconds(sums.full),
            "tail": span - seconds(dry),
            "lock": seconds(sums.locked) / seconds(sums.last_left),
            "turns": sums.turns, "hold_ms": seconds(sums.locked) * 1e3 / as_f64(sums.turns),
            "tries_per_turn": as_f64(sums.tries) / as_f64(sums.turns),
            "wait_p50": quantile(0.5), "wait_p99": quantile(0.99), "wait_max": quantile(1.0),
            "requests_per_s": per_second(server.count.requests),
            "requests_busiest_s": server.busiest_second(),
            "written_per_s": per_second(server.count.written),
            "read_per_s": per_second(server.count.read),
            "requests_per_task": as_f64(server.count.requests) / as_f64(sums.ends),
            "written_per_task": as_f64(server.count.written) / as_f64(sums.ends),
            "left_after": seconds(sums.last_left) - span,
        })
    }
}
