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
use pytf::workdir::mechanism::Mechanism;
use pytf::workdir::open::Workdir;
use pytf::workdir::state::Act;
use pytf::workdir::transaction::Txn;
use serde_json::{Value, json};

use crate::common::{Common, Plan, Sums, What};
use crate::farmer::Farmer;
use crate::files::{Shared, as_f64, as_u64};
use crate::waiting::SimWaiting;

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
        // With tasks of three kinds, each a third of the work.
        let wide = f64::from(plan.slots);
        let mean = 3.0 / (1.0 + 1.0 / 8.0 + 1.0 / wide);
        let total = if plan.mix { total / mean } else { total };
        let total = as_u64(total).max(1);
        let dir = server.dir();
        let workdir = Workdir {
            dir,
            path: "sim".into(),
            mechanism: Mechanism::Fcntl,
        };
        let mut waiting = SimWaiting::new(&server, 1);
        let mut txn = Txn::begin(&workdir, "the user", &mut waiting)?;
        let mut lines = Vec::new();
        (0..total).for_each(|id| push_line(&mut lines, TaskId(id), &common.line()));
        txn.add(&lines)?;
        txn.commit(Act::Prepare)?;
        let count = server.lock().count;
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
        sums.wide_waits.sort_unstable();
        let wide_at = |part: f64| {
            let at = as_u64(as_f64(sums.wide_waits.len() as u64) * part);
            let last = sums.wide_waits.len().checked_sub(1)?;
            let at = usize::try_from(at).unwrap_or(last).min(last);
            Some(seconds(sums.wide_waits[at]))
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
            "wide_wait_p50": wide_at(0.5), "wide_wait_max": wide_at(1.0),
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
