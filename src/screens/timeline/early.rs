//! Attempts that are drawn before the journal has their end, or that never had
//! an end: in their slots they come before what the journal has earlier.
//!
//! The figures know them all, so the slices of a slot come in the order of their times
//! and each end is drawn once, at its own time.

use std::collections::{BTreeMap, VecDeque};

use super::slice::{Ending, Slice};
use crate::history::failures::Details;
use crate::history::run::Farmer;
use crate::history::run::attempt::Attempt;
use crate::model::record::End;

/// Those of one farmer.
pub(super) struct Early<'a> {
    /// By slot, in the order of their begins.
    waiting: BTreeMap<u32, VecDeque<One<'a>>>,
    details: Details,
}

/// When it began, and what is known of it.
type One<'a> = (u64, Known<'a>);

/// What is known of it.
#[derive(Clone, Copy)]
enum Known<'a> {
    /// Its end is at this offset in the journal.
    Ended(u64),
    /// Nothing but its start.
    Started(&'a Attempt),
}

/// One that is to be drawn now.
pub(super) enum Drawn<'a> {
    /// It has an end.
    Ended(Box<End>),
    /// It has none, and was over at this time.
    Started(&'a Attempt, u64),
}

impl<'a> Early<'a> {
    /// Those of a farmer.
    pub(super) fn of(farmer: &'a Farmer) -> Self {
        let slots = &farmer.slots;
        let late = slots.late.iter();
        let late = late.map(|late| (late.slot, (late.at, Known::Ended(late.offset))));
        let started = slots.unended.iter();
        let started = started.map(|one| (one.slot, (one.at, Known::Started(one))));
        let mut waiting: BTreeMap<u32, VecDeque<One>> = BTreeMap::new();
        for (slot, one) in late.chain(started) {
            waiting.entry(slot).or_default().push_back(one);
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
    ) -> Option<Drawn<'a>> {
        let of_slot = self.waiting.get_mut(&slot)?;
        loop {
            of_slot.front().filter(|(at, _)| *at < before)?;
            let (_, known) = of_slot.pop_front()?;
            match known {
                Known::Started(attempt) => {
                    let next = of_slot.front().map(|(at, _)| *at);
                    return Some(Drawn::Started(attempt, next.map_or(to, |at| at.min(to))));
                }
                // One that can no longer be read is damage, which is reported elsewhere.
                Known::Ended(offset) => {
                    if let Some(end) = self.details.at(&farmer.journal, offset) {
                        return Some(Drawn::Ended(Box::new(end)));
                    }
                }
            }
        }
    }
}

impl Drawn<'_> {
    /// As a slice of its farmer.
    pub(super) fn as_slice<'s>(&'s self, farmer: &Farmer) -> Slice<'s> {
        match self {
            Self::Ended(end) => Slice::ended(end),
            Self::Started(attempt, to) => {
                // Where the farmer died, its end will never be written.
                let is_lost = farmer.is_over() && farmer.left.is_none();
                let ending = if is_lost {
                    Ending::Lost
                } else {
                    Ending::Unknown
                };
                Slice::open(attempt, *to, ending)
            }
        }
    }
}
