//! Curves above the slices: how many tasks run, CPUs in use, tasks left, the
//! queue.
//!
//! Running tasks and CPUs are means over stretches of time, of which there are
//! a few hundred: exact over each, and small whatever the run.

use std::collections::BTreeMap;
use std::io;

use serde_json::json;

use super::plan::Plan;
use super::trace::Trace;
use crate::model::figures::float;
use crate::model::series::Series;

/// The process that the curves of the whole run are in.
const RUN: u64 = 1_000_000;

impl Trace<'_> {
    /// Draws all curves.
    pub(super) fn counters(&mut self, plan: &Plan) -> io::Result<()> {
        let mut of_node: BTreeMap<u64, Series> = BTreeMap::new();
        let mut all = Series::default();
        for (farmer, rows) in plan.farmers() {
            let mut series = farmer.series.clone();
            for running in farmer.slots.running.values() {
                series.attempt(running.at, farmer.last, 0);
            }
            all.merge(&series);
            of_node.entry(rows.pid).or_default().merge(&series);
        }
        if plan.attempts == 0 {
            return Ok(());
        }
        self.name_process(RUN, "the whole run", 0)?;
        for (pid, series) in of_node {
            self.curves(plan, pid, &series)?;
        }
        self.curves(plan, RUN, &all)?;
        self.left(plan, &all)?;
        for (at, waiting) in plan.run.queue_history() {
            if plan.is_in(at) {
                self.counter(RUN, "queue", at, float(waiting))?;
            }
        }
        Ok(())
    }

    /// Running tasks and CPUs in use.
    fn curves(&mut self, plan: &Plan, pid: u64, series: &Series) -> io::Result<()> {
        let width = float(series.width());
        let mut before = None;
        // Of a run that is too short for a stretch.
        let mut end = plan.last;
        for (at, stretch) in series.iter() {
            end = at + series.width();
            let found = (stretch.busy, stretch.cpu);
            if !plan.is_in(end) || before == Some(found) {
                continue;
            }
            before = Some(found);
            self.counter(pid, "running tasks", at, float(stretch.busy) / width)?;
            self.counter(pid, "CPUs in use", at, float(stretch.cpu) / width)?;
        }
        self.counter(pid, "running tasks", end, 0.0)?;
        self.counter(pid, "CPUs in use", end, 0.0)
    }

    /// Tasks that have not ended: what is left now, and backwards what ended.
    fn left(&mut self, plan: &Plan, series: &Series) -> io::Result<()> {
        let mut left = plan.run.counts.left();
        let mut points = Vec::new();
        if series.iter().next().is_none() {
            points.push((plan.last, left));
        }
        for (at, stretch) in series.iter().rev() {
            points.push((at + series.width(), left));
            left += stretch.ended;
        }
        for (at, left) in points.into_iter().rev() {
            if plan.is_in(at) {
                self.counter(RUN, "tasks left", at, float(left))?;
            }
        }
        Ok(())
    }

    fn counter(&mut self, pid: u64, name: &str, at: u64, value: f64) -> io::Result<()> {
        // Three decimals are enough.
        let value = (value * 1000.0).round() / 1000.0;
        let event = json!({
            "name": name,
            "ph": "C",
            "ts": self.ts(at),
            "pid": pid,
            "tid": 0,
            "args": { "value": value },
        });
        self.event(event.to_string().as_bytes())
    }
}
