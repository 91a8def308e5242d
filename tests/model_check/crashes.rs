//! Where crashes fell: a crash point that no story hits is not checked.
//!
//! A process is killed over an operation. What counts is the transaction that it was in, and how
//! far it had come: at a write that is made only in transactions of that kind, between that write
//! and the commit, in the commit, or at the renames after it. Since chance would seldom hit the seldom
//! ones, a story may aim at one of them.

use std::collections::{BTreeMap, BTreeSet};

use pytf::workdir::layout::{BLOCKED, RELEASED, REQUEUED, TOPROCESS};

/// Where the states are in the file `lock`.
const STATES: std::ops::Range<u64> = 4096..36864;

/// The points of transactions that only append.
const APPENDS: &[Point] = &[
    Point::Before,
    Point::Torn,
    Point::Written,
    Point::Prepared,
    Point::Commit,
];

/// What the stories must have hit.
const MUST: [(Write, &[Point]); 6] = [
    (
        Write::Deal,
        &[
            Point::Before,
            Point::Torn,
            Point::Written,
            Point::Prepared,
            Point::Commit,
            Point::Renames,
        ],
    ),
    (
        Write::Gather,
        &[Point::Prepared, Point::Commit, Point::Renames],
    ),
    (Write::Queue, APPENDS),
    (Write::Release, APPENDS),
    (Write::Again, APPENDS),
    (Write::GiveUp, APPENDS),
];

/// A write by which a transaction is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Write {
    /// A new `blocked`: tasks are dealt.
    Deal,
    /// A new `blocked` with nothing in it: they are gathered.
    Gather,
    /// Tasks are appended to the queue of a class.
    Queue,
    /// Tasks are released.
    Release,
    /// Failed tasks are tried again.
    Again,
    /// Tasks have lost too many farmers.
    GiveUp,
}

impl Write {
    pub(crate) fn of(name: &str, bytes: &[u8]) -> Option<Self> {
        let is_new = name.strip_suffix(".new").is_some();
        let is_in = |file: &str| {
            name.strip_prefix(file)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let notes = String::from_utf8_lossy(bytes);
        let has = |why: &str| notes.lines().any(|note| note.ends_with(why));
        match name {
            _ if is_new && is_in(BLOCKED) && bytes.is_empty() => Some(Self::Gather),
            _ if is_new && is_in(BLOCKED) => Some(Self::Deal),
            _ if !is_new && is_in(TOPROCESS) => Some(Self::Queue),
            RELEASED => Some(Self::Release),
            REQUEUED if has(" lost-limit") => Some(Self::GiveUp),
            REQUEUED if has(" again") => Some(Self::Again),
            _ => None,
        }
    }
}

/// How far a transaction had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// Killed over its write, of which nothing was written.
    Before,
    /// A part was.
    Torn,
    /// All was.
    Written,
    /// After its write, and before the commit.
    Prepared,
    /// While the state was written and synced.
    Commit,
    /// Before a rename that the state has.
    Renames,
}

/// The transaction of a process.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    writes: BTreeSet<Write>,
    is_committing: bool,
    is_committed: bool,
}

/// All that the stories must have hit.
pub(crate) fn must() -> impl Iterator<Item = (Write, Point)> {
    MUST.iter()
        .flat_map(|(write, points)| points.iter().map(|point| (*write, *point)))
}

/// How often a crash fell where.
pub(crate) type Crashes = BTreeMap<(Write, Point), u64>;

impl Progress {
    /// Whether it has come to this point with its next operation.
    pub(crate) fn is_at(&self, (write, point): (Write, Point), operation: &str) -> bool {
        let is_there = match point {
            Point::Before | Point::Torn | Point::Written => false,
            Point::Prepared => !self.is_committing && !self.is_committed,
            Point::Commit => self.is_committing,
            Point::Renames => self.is_committed && operation == "rename",
        };
        is_there && self.writes.contains(&write)
    }

    /// Bytes were written.
    pub(crate) fn written(&mut self, name: &str, bytes: &[u8], offset: u64) {
        if name == "lock" && STATES.contains(&offset) {
            self.is_committing = true;
            return;
        }
        if self.is_committing || self.is_committed {
            // The next transaction.
            *self = Self::default();
        }
        self.writes.extend(Write::of(name, bytes));
    }

    /// A file was synced.
    pub(crate) fn synced(&mut self, name: &str) {
        if name == "lock" && self.is_committing {
            (self.is_committing, self.is_committed) = (false, true);
        }
    }

    /// It is killed over a write, of which only the first bytes were written.
    pub(crate) fn killed_over(
        &self,
        (name, bytes, offset): (&str, &[u8], u64),
        part: usize,
        crashes: &mut Crashes,
    ) {
        let mut count = |write, point| *crashes.entry((write, point)).or_default() += 1;
        if let Some(write) = Write::of(name, bytes) {
            let point = match part {
                0 => Point::Before,
                _ if part < bytes.len() => Point::Torn,
                _ => Point::Written,
            };
            count(write, point);
        }
        if name == "lock" && STATES.contains(&offset) && !self.is_committed {
            self.writes
                .iter()
                .for_each(|write| count(*write, Point::Commit));
        }
    }

    /// It is killed over another operation, or with its node.
    pub(crate) fn killed(&self, operation: &str, crashes: &mut Crashes) {
        let point = match (self.is_committing, self.is_committed) {
            (true, _) => Point::Commit,
            (_, true) if operation == "rename" => Point::Renames,
            (_, true) => return,
            _ => Point::Prepared,
        };
        for write in &self.writes {
            *crashes.entry((*write, point)).or_default() += 1;
        }
    }
}
