//! The clocks of the nodes, compared by the log of transactions.
//!
//! It is read as it grows. Of a very long log the oldest segment that is kept and the
//! newest are read: its order stays what it is over what is left out.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::{Counts, Farmer, transactions};
use crate::model::clocks::{Ahead, Order};
use crate::model::record::Header;
use crate::workdir::state::Log;

/// What is known of the clocks of a run.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// The segment of the log that was read last, and up to where.
    read: Option<(u64, u64)>,
    order: Order,
    /// What tells the clock of each farmer that has a journal.
    kernels: HashMap<String, String>,
    /// The nodes, and the node of each farmer that has joined.
    nodes: HashMap<String, usize>,
    farmers: HashMap<u32, usize>,
    skews: Vec<Option<Ahead>>,
}

/// What tells the clock of a farmer from those of others: its kernel, where that is known,
/// and the name of its node. Two names under one kernel are measured each on its own.
fn clock_of(header: &Header) -> String {
    let boot = header.node.as_ref().map_or("", |node| &node.boot);
    format!("{boot} {}", header.host)
}

/// What is of interest in a line of the log: `farmer` is the name of one that
/// joins.
#[derive(Deserialize)]
struct Line<'a> {
    at: u64,
    by: u32,
    #[serde(borrow, default)]
    farmer: Option<&'a str>,
}

/// The same of a checkpoint.
#[derive(Deserialize)]
struct Checkpoint<'a> {
    #[serde(borrow)]
    members: Vec<Joined<'a>>,
}

#[derive(Deserialize)]
struct Joined<'a> {
    by: u32,
    farmer: &'a str,
}

impl Clocks {
    /// Reads what is new, and tells each farmer by how much its clock is ahead.
    pub(super) fn refresh(
        &mut self,
        workdir: &Path,
        counts: &Counts,
        farmers: &mut [Farmer],
    ) -> io::Result<()> {
        let clock = |farmer: &Farmer| clock_of(farmer.header());
        let is_alone = farmers
            .windows(2)
            .all(|two| clock(&two[0]) == clock(&two[1]));
        let Some(state) = counts.state.as_ref().filter(|_| !is_alone) else {
            return Ok(());
        };
        let names = farmers.iter().map(Farmer::header);
        let names = names.map(|header| (header.farmer.clone(), clock_of(header)));
        self.kernels.extend(names);
        self.read(workdir, &state.log)?;
        let mut wrong: HashMap<usize, u64> = HashMap::new();
        for farmer in farmers.iter() {
            let offset = farmer.clock_offset().map_or(u64::MAX, i64::unsigned_abs);
            if let Some(node) = self.nodes.get(&clock_of(farmer.header())) {
                let least = wrong.entry(*node).or_insert(offset);
                *least = offset.min(*least);
            }
        }
        let prefer = |node: usize| wrong.get(&node).copied().unwrap_or(u64::MAX);
        self.skews = self.order.skews(self.nodes.len(), prefer);
        for farmer in farmers {
            let node = self.nodes.get(&clock_of(farmer.header()));
            farmer.clock = node.and_then(|node| self.skews[*node]);
        }
        Ok(())
    }

    /// By how much the clock of a farmer is ahead; its number is the log's.
    pub(super) fn ahead_of(&self, farmer: u32) -> Option<Ahead> {
        self.skews.get(*self.farmers.get(&farmer)?).copied()?
    }

    /// Reads what is new in the log.
    fn read(&mut self, workdir: &Path, log: &Log) -> io::Result<()> {
        let from = match self.read {
            Some((segment, from)) if segment == log.segment => from,
            Some((segment, from)) => {
                self.lines(&transactions::of_kept(workdir, segment, from)?);
                0
            }
            None => {
                if let Some(&oldest) = transactions::all_kept(workdir)?.first() {
                    self.lines(&transactions::of_kept(workdir, oldest, 0)?);
                }
                0
            }
        };
        if from < log.len {
            self.lines(&transactions::of_newest(workdir, log, from)?);
        }
        self.read = Some((log.segment, log.len));
        Ok(())
    }

    /// Reads lines of the log.
    fn lines(&mut self, bytes: &[u8]) {
        for line in bytes.split(|&byte| byte == b'\n') {
            if let Ok(Line { at, by, farmer }) = serde_json::from_slice(line) {
                if let Some(farmer) = farmer {
                    self.joined(by, farmer);
                }
                if let Some(node) = self.farmers.get(&by) {
                    self.order.then(*node, at);
                }
            } else if let Ok(Checkpoint { members }) = serde_json::from_slice(line) {
                for Joined { by, farmer } in members {
                    self.joined(by, farmer);
                }
            }
        }
    }

    fn joined(&mut self, by: u32, farmer: &str) {
        let new = self.nodes.len();
        // Without a journal it is a node of its own.
        let clock = self.kernels.get(farmer).map_or(farmer, String::as_str);
        let node = self.nodes.entry(clock.to_owned()).or_insert(new);
        self.farmers.insert(by, *node);
    }
}
