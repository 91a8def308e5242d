//! Whether the clocks of the nodes differ, judged by the order of transactions.
//!
//! Transactions exclude each other and each notes the time of its node. One that is
//! earlier by its node's clock than the transaction before it, of another node, proves
//! that their clocks differ. Only the newest segment of the log is read. Nothing is
//! corrected: a view warns, since it shows the times of each node as they are.

use std::collections::HashMap;

use std::path::Path;

use super::counts::Counts;
use super::farmer::Farmer;
use super::transactions;
use crate::model::durations;
use crate::model::escape::escape;
use crate::model::figures::micros;
use crate::workdir::state::{Act, Entry, parse_entries};

/// Smaller differences are not reported, in microseconds.
const SMALL: u64 = 1_000_000;

/// Two nodes whose clocks differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockDifference {
    /// The node whose clock is ahead.
    pub ahead: String,
    /// The node whose clock is behind.
    pub behind: String,
    /// By how many microseconds at least.
    pub us: u64,
}

impl ClockDifference {
    /// By how many microseconds the clock of a node is ahead of the other's at least; less
    /// than 0 when it is behind. `None` for a node that is neither.
    pub fn of(&self, host: &str) -> Option<i64> {
        let us = i64::try_from(self.us).unwrap_or(i64::MAX);
        if host == self.ahead {
            Some(us)
        } else {
            (host == self.behind).then_some(-us)
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        format!(
            "the clock of {} is at least {} ahead of the clock of {}: times of different nodes \
             cannot be compared",
            escape(self.ahead.as_bytes()),
            durations::show(micros(self.us)),
            escape(self.behind.as_bytes())
        )
    }
}

/// The greatest difference that the log proves.
pub(super) fn difference(
    workdir: &Path,
    counts: &Counts,
    farmers: &[Farmer],
) -> Option<ClockDifference> {
    let hosts = farmers.iter().map(Farmer::header);
    let hosts: HashMap<&str, &str> = hosts
        .map(|header| (&*header.farmer, &*header.host))
        .collect();
    let log = &counts.state.as_ref()?.log;
    let bytes = transactions::of_newest(workdir, log, 0).ok()?;
    let (us, ahead, behind) = greatest(&parse_entries(&bytes).ok()?, &hosts)?;
    Some(ClockDifference { ahead, behind, us })
}

/// By how much, which node is ahead, and which is behind; `hosts` has the node of each
/// farmer.
fn greatest(entries: &[Entry], hosts: &HashMap<&str, &str>) -> Option<(u64, String, String)> {
    let mut of_farmer: HashMap<u32, &str> = HashMap::new();
    let (mut last, mut greatest) = (None, None);
    for entry in entries {
        match &entry.act {
            Act::Join { by, farmer, .. } => {
                of_farmer.extend(hosts.get(&**farmer).map(|host| (*by, *host)));
            }
            Act::Checkpoint { members } => of_farmer.extend(
                members
                    .iter()
                    .filter_map(|member| Some((member.by, *hosts.get(&*member.farmer)?))),
            ),
            _ => {}
        }
        let Some(host) = transactions::by(&entry.act).and_then(|by| of_farmer.get(&by)) else {
            continue;
        };
        if let Some((before, at)) = last.replace((*host, entry.at))
            && before != *host
        {
            greatest = greatest.max(Some((at.saturating_sub(entry.at), before, *host)));
        }
    }
    let (us, ahead, behind) = greatest.filter(|(us, ..)| *us >= SMALL)?;
    Some((us, ahead.to_owned(), behind.to_owned()))
}
