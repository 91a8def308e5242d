//! Attempts that are drawn before the journal has their end, or that never had
//! an end: in their slots they come before what the journal has earlier.
//!
//! The figures know them all, so the slices of a slot come in the order of their times
//! and each end is drawn once, at its own time.

use std::collections::{BTreeMap, VecDeque};

use crate::history::failures::Details;
use crate::history::run::Farmer;
use crate::history::run::attempt::Attempt;
use crate::model::outcome::Outcome;

/// Those of one farmer.
pub(super) struct LateEnds<'a> {
    /// By slot, in the order of their beginnings: when each began, and what is known of it.
    waiting: BTreeMap<u32, VecDeque<(u64, Known<'a>)>>,
    details: Details,
}

/// What is known of an attempt.
#[derive(Clone, Copy)]
enum Known<'a> {
    /// Its end is at this offset in the journal.
    Ended(u64),
    /// Nothing but its start.
    Started(&'a Attempt),
}

impl<'a> LateEnds<'a> {
    /// Those of a farmer.
    pub(super) fn of(farmer: &'a Farmer) -> Self {
        let mut waiting: BTreeMap<u32, VecDeque<_>> = BTreeMap::new();
        for late in &farmer.slots.late {
            let of_slot = waiting.entry(late.slot).or_default();
            of_slot.push_back((late.at, Known::Ended(late.offset)));
        }
        for one in &farmer.slots.unended {
            let of_slot = waiting.entry(one.slot).or_default();
            of_slot.push_back((one.at, Known::Started(one)));
        }
        for of_slot in waiting.values_mut() {
            of_slot.make_contiguous().sort_by_key(|(at, _)| *at);
        }
        Self {
            waiting,
            details: Details::default(),
        }
    }

    /// The slots in which there are still some.
    pub(super) fn slots(&self) -> Vec<u32> {
        self.waiting.keys().copied().collect()
    }

    /// The next in a slot that began before `before`; at `to` the slot went on.
    pub(super) fn next(
        &mut self,
        farmer: &Farmer,
        slot: u32,
        before: u64,
        to: u64,
    ) -> Option<Attempt> {
        let of_slot = self.waiting.get_mut(&slot)?;
        loop {
            of_slot.front().filter(|(at, _)| *at < before)?;
            match of_slot.pop_front()?.1 {
                Known::Started(attempt) => {
                    let next = of_slot.front().map_or(to, |(at, _)| to.min(*at));
                    // Where the farmer died, its end will never be written.
                    let is_lost = farmer.is_over() && farmer.left.is_none();
                    return Some(Attempt {
                        us: next.saturating_sub(attempt.at),
                        outcome: is_lost.then_some(Outcome::Lost),
                        ..attempt.clone()
                    });
                }
                // One that can no longer be read is damage, which is reported elsewhere.
                Known::Ended(offset) => {
                    if let Some(end) = self.details.at(&farmer.journal, offset) {
                        return Some(end.into());
                    }
                }
            }
        }
    }
}
