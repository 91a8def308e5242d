//! What one farmer did, gathered from its journal as that grows.
//!
//! It needs a constant amount of memory, and some bytes for each failure: a finished task is
//! kept only as a part of the figures.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::attempt::Attempt;
use super::gpus::Gpus;
use super::scan;
use super::slots::Slots;
use crate::history::farmer_rows::Span;
use crate::history::journals::{Damage, Journal};
use crate::history::lines;
use crate::model::figures::Histogram;
use crate::model::outcome::{Destination, Outcome};
use crate::model::record::{Deals, Header, LATEST, Mark, NodeHealth, Record, Used};
use crate::model::series::Series;

/// How many of the longest and of the largest attempts are kept.
const TOP: usize = 8;

/// How many notes are kept: the latest.
const NOTES: usize = 50;

/// A greater difference is not a difference of clocks: the files are copies.
const WRONG: i64 = 86_400_000_000;

/// An attempt that failed.
#[derive(Clone, Debug)]
pub struct FailedAttempt {
    /// The task.
    pub id: u64,
    /// Which attempt of it.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// When, by its farmer's clock.
    pub at: u64,
    /// For how long it ran, in microseconds.
    pub us: u64,
    /// Where its record is in the journal.
    pub offset: u64,
}

/// One of the longest or largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Top {
    /// How long, or how large.
    pub value: u64,
    /// The task.
    pub id: u64,
    /// Which attempt of it.
    pub attempt: u32,
}

/// A farmer.
#[derive(Debug, Default)]
pub struct Farmer {
    /// Its journal.
    pub journal: Journal,
    /// When its journal was last written, by the file system's clock.
    pub modified: Option<SystemTime>,
    /// When we read what was new in it, by the file system's clock, if that notes
    /// it, and by ours.
    pub served: Option<(SystemTime, SystemTime)>,
    /// The first time in its journal, by its node's clock, as all others in here.
    pub first: u64,
    /// The last time in its journal.
    pub last: u64,
    /// When it left cleanly, and why.
    pub left: Option<(u64, String)>,
    /// The health of its node, as it judges it.
    pub health: NodeHealth,
    /// Whether it starts no more tasks, while running tasks go on.
    pub is_draining: bool,
    /// Tasks that left processes behind when they ended, as far as that was noted.
    pub left_behind: u64,
    /// Moments at which the kernel killed for lack of memory and no task ended by it.
    pub memory_kills: u64,
    /// What it deals to tasks with needs of their own; the task that waits there is the latest.
    pub deals: Option<Deals>,
    /// What it noted: signals and the like.
    pub notes: Vec<(u64, String)>,
    /// What its slots do.
    pub slots: Slots,
    /// Attempts that ended, however they did.
    pub ended: u64,
    /// For how long they ran, all together, in microseconds.
    pub ran: u64,
    /// Attempts that finished.
    pub finished: u64,
    /// Those of them that were done already, and were not started.
    pub skipped: u64,
    /// Attempts that failed.
    pub failures: Vec<FailedAttempt>,
    /// How many of them were cancelled.
    pub cancelled: u64,
    /// How many of them are no failures of the run: their tasks were tried again.
    pub retried: u64,
    /// Attempts that were stopped with it.
    pub interrupted: u64,
    /// Tasks that finished in a later attempt than the first: which may have
    /// failed elsewhere.
    pub late: Vec<u64>,
    /// Tasks of which it ran a later attempt than the first.
    pub again: Vec<u64>,
    /// The slots that it used: the highest of a damaged record may be any number.
    pub used_slots: BTreeSet<u32>,
    /// How long attempts ran, without those that were stopped with their farmer: how long
    /// these would have taken is unknown.
    pub durations: Histogram,
    /// How much memory they had at their peak, in KiB.
    pub peaks: Histogram,
    /// What they used: sums, and of the memory the greatest.
    pub spent: Used,
    /// How many of them recorded what they used.
    pub measured: u64,
    /// What happened when.
    pub series: Series,
    /// Its GPUs, up to the last measurement.
    pub gpus: Gpus,
    /// The longest attempts.
    pub longest: Vec<Top>,
    /// Those with the most memory.
    pub largest: Vec<Top>,
    /// Lines that are not records.
    pub damage: Damage,
    lines: u64,
    /// Up to there its journal was read, in bytes.
    pub offset: u64,
}

impl Farmer {
    /// Nothing read yet.
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            first: u64::MAX,
            journal,
            ..Self::default()
        }
    }

    /// One farmer alone, from its journal; `None` when that has no line yet.
    pub fn read(workdir: &Path, farmer: &str) -> io::Result<Option<Self>> {
        let Some(journal) = Journal::of(workdir, farmer)? else {
            return Ok(None);
        };
        let mut farmer = Self::new(journal);
        farmer.refresh()?;
        Ok(Some(farmer))
    }

    /// Its header: its name, node and slots.
    pub fn header(&self) -> &Header {
        &self.journal.header
    }

    /// Whether it has left, or others have taken over from it.
    pub fn is_over(&self) -> bool {
        self.left.is_some() || self.journal.is_sealed
    }

    /// By how much its clock was behind the file server's, in microseconds: its
    /// last record and the time of that write are of about the same moment.
    pub fn clock_offset(&self) -> Option<i64> {
        let written = self.modified?.duration_since(UNIX_EPOCH).ok()?;
        let written = i64::try_from(written.as_micros()).ok()?;
        let offset = written - i64::try_from(self.last).ok()?;
        (offset.abs() < WRONG).then_some(offset)
    }

    /// The rows that it needs in a chart; whether it may still run there.
    pub(crate) fn span(&self, goes_on: bool) -> Span<'_> {
        let highest = self
            .used_slots
            .last()
            .map_or(0, |slot| slot.saturating_add(1));
        Span {
            host: &self.header().host,
            first: self.first,
            last: if goes_on { u64::MAX } else { self.last },
            slots: u64::from(self.header().slots.max(highest)),
        }
    }

    /// Attempts that failed.
    pub fn failed(&self) -> u64 {
        (self.failures.len() as u64).saturating_sub(self.cancelled)
    }

    /// The time of its slots, all together, in microseconds, up to `now` by its clock.
    pub fn slot_time(&self, now: u64) -> u64 {
        let there = now.saturating_sub(self.first);
        there.saturating_mul(u64::from(self.journal.header.slots))
    }

    /// For how long tasks ran in its slots, all together, according to the records.
    pub fn busy(&self, now: u64) -> u64 {
        let running = self.slots.running.values();
        let open: u64 = running.map(|one| now.saturating_sub(one.at)).sum();
        self.ran.saturating_add(open)
    }

    /// Reads what is new in the journal.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        let file = self.journal.file()?;
        let begin = self.offset;
        self.modified = file.metadata()?.modified().ok();
        self.offset = lines::each(&file, begin, |line, at| {
            self.line(line, at);
            Ok(())
        })?;
        if self.offset > begin {
            // Where the file system notes the time of a read, that is its clock.
            let accessed = file.metadata()?.accessed().ok();
            if accessed > self.journal.accessed {
                self.served = accessed.map(|accessed| (accessed, SystemTime::now()));
                self.journal.accessed = accessed;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], offset: u64) {
        self.lines += 1;
        match scan::parse(line) {
            Some(attempt) => self.attempt(attempt, offset),
            None => match Record::parse(line) {
                Some(record) => self.other(record, offset),
                None => self.damage.add(self.lines),
            },
        }
    }

    fn saw(&mut self, from: u64, to: u64) {
        self.first = self.first.min(from);
        self.last = self.last.max(to);
    }

    fn attempt(&mut self, attempt: Attempt, offset: u64) {
        let used = attempt.used.unwrap_or_default();
        let numbers = [attempt.end(), used.user, used.sys, used.peak];
        if numbers.iter().any(|&number| number >= LATEST) {
            // The slot has gone on all the same.
            if attempt.at < LATEST && attempt.outcome.is_some() {
                self.slots.end(&attempt, offset);
            }
            self.damage.add(self.lines);
            return;
        }
        self.saw(attempt.at, attempt.end());
        if let Some(deals) = &mut self.deals {
            // It has what it waited for.
            deals.reserved = deals.reserved.filter(|one| one.id.0 != attempt.id);
        }
        self.used_slots.insert(attempt.slot);
        if attempt.attempt > 1 && self.again.last() != Some(&attempt.id) {
            self.again.push(attempt.id);
        }
        let Some(outcome) = attempt.outcome.clone() else {
            self.gpus.began(&self.journal.header, &attempt);
            self.slots.start(attempt);
            return;
        };
        self.slots.end(&attempt, offset);
        let is_cancelled = outcome == Outcome::Cancelled;
        self.cancelled += u64::from(is_cancelled);
        self.ended += 1;
        self.ran = self.ran.saturating_add(attempt.us);
        let is_over = attempt.again.is_none() && outcome.destination() != Destination::ToProcess;
        self.retried += u64::from(attempt.again.is_some());
        self.skipped += u64::from(attempt.is_skipped);
        let has_run = !attempt.is_skipped && !is_cancelled;
        if outcome.destination() != Destination::ToProcess && has_run {
            self.durations.add(attempt.us);
            keep(&mut self.longest, attempt.us, &attempt);
        }
        let cpu = used.user.saturating_add(used.sys);
        self.series.attempt(attempt.at, attempt.end(), cpu);
        if is_over {
            // An interrupted task, or one that is tried again, is still to do.
            self.series.end(attempt.end(), outcome.is_failure());
        }
        if attempt.used.is_some() {
            self.spend(used);
            keep(&mut self.largest, used.peak, &attempt);
        }
        self.gpus.ended(&self.journal.header, &attempt);
        match outcome.destination() {
            Destination::Finished => {
                self.finished += 1;
                if attempt.attempt > 1 {
                    self.late.push(attempt.id);
                }
            }
            Destination::Failed => self.failures.push(FailedAttempt {
                id: attempt.id,
                attempt: attempt.attempt,
                at: attempt.end(),
                outcome,
                us: attempt.us,
                offset,
            }),
            Destination::ToProcess => self.interrupted += 1,
        }
    }

    fn spend(&mut self, used: Used) {
        self.measured += 1;
        self.peaks.add(used.peak);
        let all = &mut self.spent;
        all.user = all.user.saturating_add(used.user);
        all.sys = all.sys.saturating_add(used.sys);
        all.peak = all.peak.max(used.peak);
        all.read = all.read.saturating_add(used.read);
        all.written = all.written.saturating_add(used.written);
    }

    fn other(&mut self, record: Record, offset: u64) {
        match record {
            Record::Header(header) => {
                self.saw(header.at, header.at);
                self.gpus.add_slots(&header);
            }
            Record::Beat { at } => self.saw(at, at),
            Record::Gpus { at, gpus } => {
                self.saw(at, at);
                self.gpus.measured(at, &gpus);
            }
            Record::Deals { at, deals } => {
                self.saw(at, at);
                self.deals = Some(deals);
            }
            Record::Health { at, health, text } => {
                self.health = health;
                self.note(at, text);
            }
            Record::Note { at, text, mark } => {
                self.is_draining = match mark {
                    Some(Mark::Drained) => true,
                    Some(Mark::Resumed) => false,
                    Some(Mark::LeftBehind | Mark::MemoryKill) | None => self.is_draining,
                };
                self.left_behind += u64::from(mark == Some(Mark::LeftBehind));
                self.memory_kills += u64::from(mark == Some(Mark::MemoryKill));
                self.note(at, text);
            }
            Record::Leave { at, why, .. } => {
                self.saw(at, at);
                self.left = Some((at, why));
            }
            // The scanner is stricter about blanks than it has to be.
            Record::Start(start) => self.attempt(start.into(), offset),
            Record::End(end) => self.attempt(end.into(), offset),
        }
    }

    fn note(&mut self, at: u64, text: String) {
        self.saw(at, at);
        if self.notes.len() == NOTES {
            self.notes.remove(0);
        }
        self.notes.push((at, text));
    }
}

/// Keeps an attempt if it is one of the greatest.
fn keep(top: &mut Vec<Top>, value: u64, attempt: &Attempt) {
    if top.len() == TOP && top.last().is_some_and(|least| least.value >= value) {
        return;
    }
    let at = top.partition_point(|other| other.value >= value);
    top.insert(
        at,
        Top {
            value,
            id: attempt.id,
            attempt: attempt.attempt,
        },
    );
    top.truncate(TOP);
}
