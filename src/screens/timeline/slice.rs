//! The slices of the timeline: one per attempt, except where there are too many: then short
//! ones are merged.

use std::io::{self, Write as _};

use serde_json::json;

use super::links::Links;
use super::merge::{Group, Merger, Row};
use super::plan::Plan;
use super::trace::{COMMAND, NAME, Trace, push_text};
use crate::history::commands::Commands;
use crate::history::farmer_rows::FarmerRows;
use crate::history::run::Farmer;
use crate::history::run::attempt::Attempt;
use crate::history::run::faults::Faults;
use crate::model::escape::{clip, escape};
use crate::model::outcome::Outcome;
use crate::model::task::TaskId;
use crate::screens::attempt_json::numbers;

/// A trace into which attempts are drawn.
pub(super) struct Slices<'a> {
    pub(super) trace: Trace<'a>,
    commands: Commands,
    merger: Merger,
    links: Links,
    faults: Faults<'a>,
}

impl<'a> Slices<'a> {
    /// For the attempts of a run.
    pub(super) fn of(plan: &Plan<'a>, trace: Trace<'a>) -> io::Result<Self> {
        Ok(Self {
            trace,
            commands: Commands::open(&plan.run.workdir)?,
            merger: Merger::new(&plan.run.durations()),
            links: Links::new(plan.run),
            faults: plan.run.faults(),
        })
    }

    /// Draws an attempt, alone or with its neighbours; `is_running` says what it does if
    /// it has no outcome.
    pub(super) fn draw(
        &mut self,
        farmer: &Farmer,
        rows: FarmerRows,
        attempt: &Attempt,
        is_running: bool,
    ) -> io::Result<()> {
        if !self.trace.is_in(attempt.end()) {
            return Ok(());
        }
        let row = (rows.pid, rows.tid(attempt.slot));
        let finished = attempt.outcome == Some(Outcome::Exit(0));
        let is_plain = finished && !self.links.is_wanted(attempt.id);
        let is_merged = is_plain && self.merger.is_short(attempt.us);
        let done = if is_merged {
            self.merger.add(row, attempt.at, attempt.end(), attempt.id)
        } else {
            self.merger.take(row)
        };
        if let Some(group) = done {
            self.group(row, group)?;
        }
        if is_merged {
            return Ok(());
        }
        self.attempt(farmer, row, attempt, is_running)
    }

    /// Writes an attempt.
    fn attempt(
        &mut self,
        farmer: &Farmer,
        row: Row,
        attempt: &Attempt,
        is_running: bool,
    ) -> io::Result<()> {
        let (pid, tid) = row;
        let Attempt { id, slot, .. } = *attempt;
        let (from, dur) = self.trace.place(row, attempt.at, attempt.end());
        self.links.note(id, attempt.attempt, row, from, dur);
        let command = self.commands.text(TaskId(id), COMMAND)?;
        let command = command.unwrap_or_else(|| format!("task {id}"));
        let outcome = attempt.outcome.as_ref();
        let open = if is_running { "running" } else { "unknown" };
        let mut event = Vec::with_capacity(2 * command.len() + 256);
        event.extend_from_slice(b"{\"name\":");
        push_text(&mut event, &clip(&command, NAME))?;
        write!(
            event,
            ",\"cat\":\"task\",\"ph\":\"X\",\"ts\":{from},\"dur\":{dur},\"pid\":{pid},\"tid\":{tid},\
             \"args\":{{\"id\":{id},\"command\":",
        )?;
        push_text(&mut event, &command)?;
        write!(
            event,
            ",\"outcome\":\"{}\"",
            outcome.map_or(open, Outcome::word)
        )?;
        let (status, signal) = numbers(outcome);
        for (name, number) in [("status", status), ("signal", signal)] {
            if let Some(number) = number {
                write!(event, ",\"{name}\":{number}")?;
            }
        }
        if let Some(used) = attempt.used {
            write!(
                event,
                ",\"user_us\":{},\"sys_us\":{},\"peak_kib\":{}",
                used.user, used.sys, used.peak
            )?;
        }
        write!(event, ",\"attempt\":{},\"slot\":{slot}", attempt.attempt)?;
        if attempt.again.is_some() {
            event.extend_from_slice(b",\"again\":true");
        }
        let header = farmer.header();
        let is_failure = outcome.is_some_and(Outcome::is_failure);
        if is_failure && self.faults.is_nodes(id, &header.host) {
            event.extend_from_slice(b",\"fault\":\"node\"");
        }
        if let Some(lease) = &attempt.lease {
            write!(event, ",\"cpus\":{}", lease.cpus)?;
            for (name, number) in [("mem_kib", lease.mem), ("limit_s", lease.time)] {
                if number > 0 {
                    write!(event, ",\"{name}\":{number}")?;
                }
            }
        }
        let gpus = attempt.gpus(header);
        if !gpus.is_empty() {
            event.extend_from_slice(b",\"gpus\":");
            push_text(&mut event, &escape(gpus.join(",").as_bytes()))?;
        }
        event.extend_from_slice(b",\"farmer\":");
        push_text(&mut event, &escape(header.farmer.as_bytes()))?;
        event.extend_from_slice(b"}}");
        self.trace.event(&event)
    }

    /// Writes attempts that are drawn as one.
    fn group(&mut self, row: Row, group: Group) -> io::Result<()> {
        let (from, dur) = self.trace.place(row, group.from, group.to);
        let event = json!({
            "name": format!("{} short tasks", group.count),
            "cat": "tasks",
            "ph": "X",
            "ts": from,
            "dur": dur,
            "pid": row.0,
            "tid": row.1,
            "args": { "count": group.count, "first": group.ids.0, "last": group.ids.1 },
        });
        self.trace.event(event.to_string().as_bytes())
    }

    /// Draws the groups that are still open, and links the attempts of each task. Returns
    /// the trace, and how many attempts were drawn together with their neighbours.
    pub(super) fn finish(mut self) -> io::Result<(Trace<'a>, u64)> {
        while let Some((row, group)) = self.merger.take_any() {
            self.group(row, group)?;
        }
        self.links.draw(&mut self.trace)?;
        Ok((self.trace, self.merger.merged))
    }
}
