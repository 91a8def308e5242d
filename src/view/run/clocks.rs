//! The clocks of the nodes, compared by the log of transactions in `lock`.
//!
//! It is read as it grows. Of a very long log the begin and the end are read: its
//! order stays what it is over what is left out.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Deserialize;

use super::{Counts, Farmer};
use crate::model::clocks::{Ahead, Order};
use crate::view::open;
use crate::workdir::exclusion::host_of;
use crate::workdir::state::{LOCK, LOG_AT};

/// So much of a log is read from its begin, and from its end.
const PIECE: u64 = 4 << 20;

/// What is known of the clocks of a run.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    epoch: u64,
    /// Where in `lock` the next line begins.
    offset: u64,
    order: Order,
    /// The nodes, and the node of each farmer that has joined.
    nodes: HashMap<String, usize>,
    farmers: HashMap<u32, usize>,
    skews: Vec<Option<Ahead>>,
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

impl Clocks {
    /// Reads what is new, and tells each farmer by how much its clock is ahead.
    pub(super) fn refresh(
        &mut self,
        workdir: &Path,
        counts: &Counts,
        farmers: &mut [Farmer],
    ) -> io::Result<()> {
        let host = |farmer: &Farmer| farmer.header().host.clone();
        let is_alone = farmers.windows(2).all(|two| host(&two[0]) == host(&two[1]));
        let Some(state) = counts.state.as_ref().filter(|_| !is_alone) else {
            return Ok(());
        };
        let end = LOG_AT + state.log;
        if state.epoch != self.epoch || end < self.offset {
            *self = Self {
                epoch: state.epoch,
                ..Self::default()
            };
        }
        let begin = self.offset.max(LOG_AT);
        if begin < end {
            self.read(workdir, begin, end)?;
        }
        let mut wrong: HashMap<usize, u64> = HashMap::new();
        for farmer in farmers.iter() {
            let offset = farmer.clock_offset().map_or(u64::MAX, i64::unsigned_abs);
            if let Some(node) = self.nodes.get(host_of(&farmer.header().farmer)) {
                let least = wrong.entry(*node).or_insert(offset);
                *least = offset.min(*least);
            }
        }
        let prefer = |node: usize| wrong.get(&node).copied().unwrap_or(u64::MAX);
        self.skews = self.order.skews(self.nodes.len(), prefer);
        for farmer in farmers {
            let node = self.nodes.get(host_of(&farmer.header().farmer));
            farmer.clock = node.and_then(|node| self.skews[*node]);
        }
        Ok(())
    }

    /// By how much the clock of a farmer is ahead; its number is the log's.
    pub(super) fn ahead_of(&self, farmer: u32) -> Option<Ahead> {
        self.skews.get(*self.farmers.get(&farmer)?).copied()?
    }

    fn read(&mut self, workdir: &Path, begin: u64, end: u64) -> io::Result<()> {
        let file = match open(&workdir.join(LOCK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        if end - begin <= 2 * PIECE {
            self.lines(&file, begin, end)?;
        } else {
            self.lines(&file, begin, begin + PIECE)?;
            self.lines(&file, end - PIECE, end)?;
        }
        self.offset = end;
        Ok(())
    }

    /// Reads the lines in a part of the log. What is cut at its ends is no line.
    fn lines(&mut self, file: &File, from: u64, to: u64) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        file.read_exact_at(&mut bytes, from)?;
        for line in bytes.split(|&byte| byte == b'\n') {
            let Ok(Line { at, by, farmer }) = serde_json::from_slice(line) else {
                continue;
            };
            if let Some(farmer) = farmer {
                let new = self.nodes.len();
                let node = self.nodes.entry(host_of(farmer).to_owned()).or_insert(new);
                self.farmers.insert(by, *node);
            }
            if let Some(node) = self.farmers.get(&by) {
                self.order.then(*node, at);
            }
        }
        Ok(())
    }
}
