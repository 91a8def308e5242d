//! The slices of the timeline: an attempt each, but for short ones that are drawn
//! together where there are too many.

use std::io::{self, Write as _};

use serde_json::json;

use super::links::Links;
use super::plan::Plan;
use super::thin::{Group, Row, Thin};
use super::trace::{COMMAND, NAME, Trace, push_text};
use crate::history::commands::Commands;
use crate::history::farmer_rows::FarmerRows;
use crate::history::run::Farmer;
use crate::history::run::attempt::Attempt;
use crate::history::run::faults::Faults;
use crate::model::escape::{clip, escape};
use crate::model::outcome::{Destination, Outcome};
use crate::model::record::{End, Used};
use crate::model::task::TaskId;

/// One attempt, as it is drawn.
pub(super) struct Slice<'a> {
    /// The task.
    pub(super) id: TaskId,
    /// Which attempt of it.
    pub(super) attempt: u32,
    /// Where it ran.
    pub(super) slot: u32,
    /// When it began.
    pub(super) from: u64,
    /// When it ended, or the last that is known of it.
    pub(super) to: u64,
    /// How it ended.
    pub(super) ending: Ending<'a>,
}

impl<'a> Slice<'a> {
    /// An attempt of which only the start is known.
    pub(super) fn open(start: &Attempt, to: u64, ending: Ending<'a>) -> Self {
        Self {
            id: TaskId(start.id),
            attempt: start.attempt,
            slot: start.slot,
            from: start.at,
            to,
            ending,
        }
    }

    /// An attempt that has ended.
    pub(super) fn ended(end: &'a End) -> Self {
        let from = end.at;
        Self {
            id: end.id,
            attempt: end.attempt,
            slot: end.slot,
            from,
            to: from.saturating_add(end.us),
            ending: Ending::Recorded(&end.outcome, end.used),
        }
    }
}

/// How an attempt ended, according to the journal.
pub(super) enum Ending<'a> {
    /// As its record says.
    Recorded(&'a Outcome, Option<Used>),
    /// It was running when its farmer was lost.
    Lost,
    /// It runs.
    Running,
    /// The slot went on to another task, and the record of the end is damaged, or not
    /// yet written.
    Unknown,
}

impl Ending<'_> {
    /// Whether the task has failed in this attempt.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Recorded(outcome, _)
            if outcome.destination() == Destination::Failed)
    }

    /// One word for machines.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Recorded(outcome, _) => outcome.word(),
            Self::Lost => Outcome::Lost.word(),
            Self::Running => "running",
            Self::Unknown => "unknown",
        }
    }

    /// What the outcome has besides its word.
    pub(super) fn detail(&self) -> Option<(&'static str, i32)> {
        match self {
            Self::Recorded(Outcome::Exit(code) | Outcome::NotStarted(code), _) => {
                Some(("status", *code))
            }
            Self::Recorded(Outcome::Signal(signal), _) => Some(("signal", *signal)),
            _ => None,
        }
    }
}

/// A trace into which attempts are drawn.
pub(super) struct Slices<'a> {
    pub(super) trace: Trace<'a>,
    commands: Commands,
    thin: Thin,
    links: Links,
    faults: Faults<'a>,
}

impl<'a> Slices<'a> {
    /// For the attempts of a run.
    pub(super) fn of(plan: &Plan<'a>, trace: Trace<'a>) -> io::Result<Self> {
        Ok(Self {
            trace,
            commands: Commands::open(&plan.run.workdir)?,
            thin: Thin::new(&plan.run.durations()),
            links: Links::new(plan.run),
            faults: plan.run.faults(),
        })
    }

    /// Draws an attempt, by itself or with its neighbours.
    pub(super) fn draw(
        &mut self,
        farmer: &Farmer,
        rows: FarmerRows,
        slice: &Slice,
    ) -> io::Result<()> {
        if !self.trace.is_in(slice.to) {
            return Ok(());
        }
        let row = (rows.pid, rows.tid(slice.slot));
        let finished = matches!(slice.ending, Ending::Recorded(Outcome::Exit(0), _));
        let is_plain = finished && !self.links.is_wanted(slice.id.0);
        let done = if is_plain && self.thin.is_short(slice.to - slice.from) {
            let done = self.thin.add(row, slice.from, slice.to, slice.id.0);
            return done.map_or(Ok(()), |group| self.group(row, group));
        } else {
            self.thin.take(row)
        };
        if let Some(group) = done {
            self.group(row, group)?;
        }
        self.attempt(farmer, rows, slice)
    }

    /// Writes an attempt.
    fn attempt(&mut self, farmer: &Farmer, rows: FarmerRows, slice: &Slice) -> io::Result<()> {
        let tid = rows.tid(slice.slot);
        let (from, dur) = self.trace.place((rows.pid, tid), slice.from, slice.to);
        self.links
            .note(slice.id.0, slice.attempt, (rows.pid, tid), from, dur);
        let command = match self.commands.get(slice.id)? {
            Some(command) => clip(&escape(command), COMMAND),
            None => format!("task {}", slice.id),
        };
        let mut event = Vec::with_capacity(2 * command.len() + 256);
        event.extend_from_slice(b"{\"name\":");
        push_text(&mut event, &clip(&command, NAME))?;
        write!(
            event,
            ",\"cat\":\"task\",\"ph\":\"X\",\"ts\":{from},\"dur\":{dur},\"pid\":{},\"tid\":{tid},\
             \"args\":{{\"id\":{},\"command\":",
            rows.pid, slice.id,
        )?;
        push_text(&mut event, &command)?;
        write!(event, ",\"outcome\":\"{}\"", slice.ending.word())?;
        if let Some((what, number)) = slice.ending.detail() {
            write!(event, ",\"{what}\":{number}")?;
        }
        if let Ending::Recorded(_, Some(used)) = slice.ending {
            write!(
                event,
                ",\"user_us\":{},\"sys_us\":{},\"peak_kib\":{}",
                used.user, used.sys, used.peak
            )?;
        }
        write!(
            event,
            ",\"attempt\":{},\"slot\":{}",
            slice.attempt, slice.slot
        )?;
        if slice.ending.is_failure() && self.faults.is_nodes(slice.id.0, &farmer.header().host) {
            event.extend_from_slice(b",\"fault\":\"node\"");
        }
        let gpus = farmer.header().gpus(slice.slot);
        if !gpus.is_empty() {
            event.extend_from_slice(b",\"gpus\":");
            push_text(&mut event, &escape(gpus.join(",").as_bytes()))?;
        }
        let name = escape(farmer.header().farmer.as_bytes());
        event.extend_from_slice(b",\"farmer\":");
        push_text(&mut event, &name)?;
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

    /// Draws what was held back, and links the attempts of each task; the trace, and how
    /// many attempts were drawn together with their neighbours.
    pub(super) fn finish(mut self) -> io::Result<(Trace<'a>, u64)> {
        while let Some((row, group)) = self.thin.take_any() {
            self.group(row, group)?;
        }
        self.links.draw(&mut self.trace)?;
        Ok((self.trace, self.thin.merged))
    }
}
