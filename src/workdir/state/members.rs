//! The members, the tasks that each has claimed, and up to where its journal is settled,
//! according to the log of transactions.
//!
//! Guarantee: it follows from the entries of one segment alone, in their order.

use super::log::{Act, Entry, Member};
use std::collections::BTreeMap;

/// The farmers that are alive by the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(BTreeMap<u32, Member>);

impl Members {
    /// The members after all these entries.
    pub fn after(entries: &[Entry]) -> Self {
        let mut members = Self::default();
        for entry in entries {
            members.apply(&entry.act);
        }
        members
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members, in the order in which they joined.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.values()
    }

    /// The farmer of this name.
    pub fn named(&self, farmer: &str) -> Option<&Member> {
        self.iter().find(|member| member.farmer == farmer)
    }

    /// The checkpoint that says so.
    pub(super) fn into_act(self) -> Act {
        let members = self.0.into_values().collect();
        Act::Checkpoint { members }
    }

    /// What a transaction changes.
    pub fn apply(&mut self, act: &Act) {
        match act {
            Act::Checkpoint { members } => {
                let members = members.iter().map(|member| (member.by, member.clone()));
                self.0 = members.collect();
            }
            Act::Join {
                by,
                farmer,
                feeds,
                claim,
            } => {
                let mut member = Member {
                    by: *by,
                    farmer: farmer.clone(),
                    feeds: *feeds,
                    ..Member::default()
                };
                member.open.insert(claim);
                self.0.insert(*by, member);
            }
            Act::Turn {
                by, leave: true, ..
            }
            | Act::Seal { of: by, .. } => drop(self.0.remove(by)),
            Act::Turn {
                by,
                settled,
                ended,
                claim,
                back,
                fed_all,
                ..
            } => {
                if let Some(member) = self.0.get_mut(by) {
                    member.settled = *settled;
                    member.open.remove(ended);
                    // What is given back may be claimed again at once.
                    member.open.remove(back);
                    member.open.insert(claim);
                    member.feeds &= !fed_all;
                }
            }
            Act::Quarantine { by, .. } | Act::Release { by } => {
                if let Some(member) = self.0.get_mut(by) {
                    member.quarantined = matches!(act, Act::Quarantine { .. });
                }
            }
            Act::Prepare
            | Act::Edit { .. }
            | Act::Retry { .. }
            | Act::Order { .. }
            | Act::Reset { .. }
            | Act::Cancel { .. }
            | Act::EditQueue { .. } => {}
        }
    }
}

/// Lines of a log, for tests.
#[cfg(test)]
pub(in crate::workdir) mod samples {
    use super::{Act, Entry};
    use crate::model::ids::Ids;

    pub(in crate::workdir) fn entry(act: Act) -> Entry {
        Entry { seq: 1, at: 0, act }
    }

    pub(in crate::workdir) fn join(by: u32, farmer: &str) -> Entry {
        entry(Act::Join {
            by,
            farmer: farmer.into(),
            feeds: false,
            claim: Ids::default(),
        })
    }

    pub(in crate::workdir) fn leave(by: u32) -> Entry {
        entry(Act::Turn {
            by,
            settled: 0,
            ended: Ids::default(),
            claim: Ids::default(),
            back: Ids::default(),
            fed: 0,
            fed_all: false,
            leave: true,
        })
    }
}
