//! Tasks that arrive from a stream during the run.
//!
//! The same generator run again, or read by several farmers at once, adds
//! nothing twice: the n-th line with some text is the n-th task with that text. Tasks of
//! `pytf add` do not count: they are of no stream.

use std::collections::HashMap;

use crate::model::task::{TaskId, fingerprint, parse_line, push_line};
use crate::workdir::error::{Context, Result};
use crate::workdir::files::Lines;
use crate::workdir::fs::Open;
use crate::workdir::layout::TASKS;
use crate::workdir::orders;
use crate::workdir::transaction::Txn;

/// What has arrived and what of it is new.
#[derive(Default)]
pub struct Feed {
    arrived: Vec<Vec<u8>>,
    /// What is about to be added: each line, and which occurrence of its text it is.
    new: Vec<(u32, Vec<u8>)>,
    /// For each text: how often the workdir has it, and how often this stream had it.
    counts: HashMap<(u64, u64), (u32, u32)>,
    /// How much of `tasks` and of `orders` was read.
    read: u64,
    read_orders: u64,
    /// Nothing more arrives: whether the stream was read to its end.
    ended_whole: Option<bool>,
}

impl Feed {
    /// Lines have arrived.
    pub fn arrive(&mut self, lines: Vec<Vec<u8>>) {
        self.arrived.extend(lines);
    }

    /// How many lines wait to be added.
    pub fn waiting(&self) -> usize {
        self.arrived.len() + self.new.len()
    }

    /// Nothing more arrives; `is_whole` when the stream was read to its end.
    pub fn end(&mut self, is_whole: bool) {
        self.ended_whole.get_or_insert(is_whole);
    }

    /// Whether more may arrive.
    pub fn is_open(&self) -> bool {
        self.ended_whole.is_none()
    }

    /// Whether the stream was read to its end.
    pub fn is_whole(&self) -> bool {
        self.ended_whole == Some(true)
    }

    /// Whether the next turn has something to add or to end.
    pub fn has_pending(&self) -> bool {
        self.waiting() > 0 || self.is_whole()
    }

    /// Adds the new tasks. Returns how many, and whether the stream has ended.
    pub(super) fn add(&mut self, txn: &mut Txn<'_>) -> Result<(u64, bool)> {
        self.refresh(txn)?;
        for line in std::mem::take(&mut self.arrived) {
            let (_, seen) = self.counts.entry(fingerprint(&line)).or_default();
            *seen += 1;
            self.new.push((*seen, line));
        }
        // Also those of a turn that failed: others may have added them since.
        let counts = &self.counts;
        self.new.retain(|(nth, line)| {
            counts
                .get(&fingerprint(line))
                .is_none_or(|(known, _)| nth > known)
        });
        let mut lines = Vec::new();
        for (id, (_, line)) in (txn.state().tasks.lines..).zip(&self.new) {
            push_line(&mut lines, TaskId(id), line);
        }
        txn.add(&lines)?;
        if self.is_whole() {
            let state = txn.state_mut();
            state.feeding = state.feeding.saturating_sub(1);
        }
        Ok((self.new.len() as u64, self.is_whole()))
    }

    /// What was added is committed.
    pub(super) fn added(&mut self) {
        self.new.clear();
    }

    /// Reads what others, and we, have added since the last time.
    fn refresh(&mut self, txn: &mut Txn<'_>) -> Result<()> {
        let known = txn.state().tasks.len;
        if self.read == known {
            return Ok(());
        }
        let added = orders::added(txn, self.read_orders)?;
        let file = txn.dir().open(TASKS, Open::Create).context("open", TASKS)?;
        let mut lines = Lines::new(&*file, self.read, known);
        while let Some(line) = lines.next().context("read", TASKS)? {
            if let Some((id, text)) = parse_line(line)
                && !added.contains(id)
            {
                self.counts.entry(fingerprint(text)).or_default().0 += 1;
            }
        }
        (self.read, self.read_orders) = (known, txn.state().orders.len);
        Ok(())
    }
}
