//! The chart of slots over time, with few enough bars for a page.
//!
//! Attempts that are too short to be seen are merged with their neighbours into one bar (a
//! *piece*), which knows how many of them failed. The number of pieces is limited, whatever the
//! number of tasks.

use std::io;

use serde_json::{Value, json};

use crate::history::farmer_rows::{Span, farmer_rows};
use crate::history::lines;
use crate::history::run::attempt::Attempt;
use crate::history::run::scan;
use crate::history::run::{Farmer, Run};
use crate::model::escape::escape;
use crate::model::figures::float;
use crate::model::outcome::{Destination, Outcome};

/// The most rows that are drawn: with more, a row would be thinner than a line.
const ROWS: usize = 400;

/// About how many pieces there are at most.
const PIECES: u64 = 60_000;

/// The most points in the charts of duration and memory.
const POINTS: u64 = 2500;

/// Consecutive attempts in one row, drawn as one bar.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: u64,
    to: u64,
    count: u64,
    failed: u64,
    interrupted: u64,
    /// The first of them.
    id: u64,
    is_short: bool,
}

/// The chart of slots over time.
pub(super) struct Gantt {
    origin: u64,
    /// Shorter attempts are merged with their neighbours; in microseconds.
    grain: u64,
    rows: Vec<(String, u32)>,
    left_out: usize,
    pieces: Vec<(usize, Piece)>,
    marks: Vec<(u64, String, String)>,
    points: Vec<Value>,
    step: u64,
    seen: u64,
}

impl Gantt {
    /// Reads all journals once more.
    pub(super) fn of(run: &Run) -> io::Result<Self> {
        let (origin, last) = run.span().unwrap_or((0, 0));
        let mut farmers: Vec<&Farmer> =
            run.farmers.iter().filter(|f| f.first != u64::MAX).collect();
        farmers.sort_by_key(|farmer| (farmer.first, &farmer.journal.name));
        let spans: Vec<Span> = farmers
            .iter()
            .map(|farmer| farmer.span(run.state_of(farmer).is_live()))
            .collect();
        let rows = farmer_rows(&spans);
        // Node by node, slot by slot.
        let mut keys: Vec<(u64, u64, &str, u32)> = farmers
            .iter()
            .zip(&rows)
            .flat_map(|(farmer, rows)| {
                let host = &farmer.header().host[..];
                farmer
                    .used_slots
                    .iter()
                    .map(move |slot| (rows.pid, rows.tid(*slot), host, *slot))
            })
            .collect();
        keys.sort_unstable();
        keys.dedup_by_key(|(pid, tid, ..)| (*pid, *tid));
        let left_out = keys.len().saturating_sub(ROWS);
        keys.truncate(ROWS);
        let mut gantt = Self {
            origin,
            grain: (last - origin).saturating_mul(2 * keys.len() as u64) / PIECES,
            rows: keys
                .iter()
                .map(|(_, tid, host, _)| {
                    let slot = u32::try_from(tid - 1).unwrap_or(u32::MAX);
                    (escape(host.as_bytes()), slot)
                })
                .collect(),
            left_out,
            pieces: Vec::new(),
            marks: Vec::new(),
            points: Vec::new(),
            step: run.durations().count / POINTS + 1,
            seen: 0,
        };
        for (farmer, rows) in farmers.iter().zip(&rows) {
            let row = |slot| {
                keys.binary_search_by_key(&(rows.pid, rows.tid(slot)), |(pid, tid, ..)| {
                    (*pid, *tid)
                })
                .ok()
            };
            gantt.farmer(run, farmer, &row)?;
        }
        Ok(gantt)
    }

    fn farmer(
        &mut self,
        run: &Run,
        farmer: &Farmer,
        row: &dyn Fn(u32) -> Option<usize>,
    ) -> io::Result<()> {
        let mut open: Vec<Option<Piece>> = vec![None; self.rows.len()];
        let file = farmer.journal.file()?;
        lines::each(&file, 0, |line, _| {
            let Some(attempt) = scan::parse(line).filter(|one| one.outcome.is_some()) else {
                return Ok(());
            };
            self.point(&attempt);
            if let Some(row) = row(attempt.slot) {
                self.draw(row, &mut open[row], &attempt, attempt.end());
            }
            Ok(())
        })?;
        let now = run.now_of(farmer);
        let slots = &farmer.slots;
        for attempt in slots.running.values().chain(&slots.unended) {
            if let Some(row) = row(attempt.slot) {
                let is_over = slots.unended.iter().any(|one| one.is_same(attempt));
                // Its end is not known: the slot has started another task since.
                let to = if is_over { attempt.at } else { now };
                self.draw(row, &mut open[row], attempt, to);
            }
        }
        for (row, piece) in open.into_iter().enumerate() {
            self.pieces.extend(piece.map(|piece| (row, piece)));
        }
        let host = escape(farmer.header().host.as_bytes());
        let mut mark = |at: u64, text: String| {
            self.marks.push((at, host.clone(), text));
        };
        mark(farmer.first, "joined".to_owned());
        for (at, text) in &farmer.notes {
            mark(*at, escape(text.as_bytes()));
        }
        match &farmer.left {
            Some((at, why)) => mark(*at, format!("left: {}", escape(why.as_bytes()))),
            None if !run.state_of(farmer).is_live() => mark(farmer.last, "lost".to_owned()),
            None => {}
        }
        Ok(())
    }

    fn draw(&mut self, row: usize, open: &mut Option<Piece>, attempt: &Attempt, to: u64) {
        let destination = attempt.outcome.as_ref().map(Outcome::destination);
        let new = Piece {
            from: attempt.at,
            to,
            count: 1,
            failed: u64::from(attempt.outcome.as_ref().is_some_and(Outcome::is_failure)),
            interrupted: u64::from(matches!(destination, None | Some(Destination::ToProcess))),
            id: attempt.id,
            is_short: to.saturating_sub(attempt.at) < self.grain,
        };
        if let Some(piece) = open
            && piece.is_short
            && new.is_short
            && new.to.max(piece.to) - new.from.min(piece.from) <= self.grain
        {
            // An end that was withheld may come after attempts that began later.
            piece.from = piece.from.min(new.from);
            piece.to = piece.to.max(new.to);
            piece.count += 1;
            piece.failed += new.failed;
            piece.interrupted += new.interrupted;
            return;
        }
        let done = open.replace(new);
        self.pieces.extend(done.map(|piece| (row, piece)));
    }

    /// Adds a point for every `step`-th attempt.
    fn point(&mut self, attempt: &Attempt) {
        self.seen += 1;
        let Some(used) = attempt.used.filter(|_| self.seen.is_multiple_of(self.step)) else {
            return;
        };
        let destination = attempt.outcome.as_ref().map(Outcome::destination);
        if destination == Some(Destination::ToProcess)
            || attempt.outcome == Some(Outcome::Cancelled)
        {
            // It was stopped: its full duration and memory are not known.
            return;
        }
        let failed = destination == Some(Destination::Failed);
        let cpu = used.user.saturating_add(used.sys);
        self.points.push(json!([
            attempt.id,
            attempt.us,
            used.peak,
            cpu,
            u8::from(failed)
        ]));
    }

    /// The data for the page's script: times in microseconds since the first start.
    pub(super) fn json(&self) -> Value {
        let since = |at: u64| at.saturating_sub(self.origin);
        let pieces = self.pieces.iter().map(|(row, piece)| {
            let length = piece.to.saturating_sub(piece.from);
            json!([
                row,
                since(piece.from),
                length,
                piece.count,
                piece.failed,
                piece.interrupted,
                piece.id
            ])
        });
        let marks = self
            .marks
            .iter()
            .map(|(at, host, text)| json!([since(*at), host, text]));
        json!({
            "rows": self.rows,
            "left_out": self.left_out,
            "grain": float(self.grain),
            "pieces": pieces.collect::<Vec<_>>(),
            "marks": marks.take(500).collect::<Vec<_>>(),
            "points": self.points,
            "step": self.step,
        })
    }
}
