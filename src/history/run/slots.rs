//! What a farmer's slots do, from the starts and ends in its journal.
//!
//! A journal has ends in the order in which they were written, and a failing end may be written
//! later: by then the slot has started another task. So a start and an end are matched by task
//! and attempt, never by the slot alone. Guarantee: an end removes only its own attempt from
//! the running ones.

use std::collections::BTreeMap;

use super::attempt::Attempt;

/// An end that the journal has after a later attempt of the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// The slot.
    pub slot: u32,
    /// When the attempt began, in microseconds by its farmer's clock.
    pub at: u64,
    /// Where its record is in the journal.
    pub offset: u64,
}

/// The slots of a farmer.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    /// What runs, by slot.
    pub running: BTreeMap<u32, Attempt>,
    /// When the last attempt in each slot ended.
    pub freed: BTreeMap<u32, u64>,
    /// Attempts that are over, since their slots have gone on, and whose ends are not in
    /// the journal, or not yet.
    pub unended: Vec<Attempt>,
    /// Ends that the journal has after later attempts of their slots.
    pub late: Vec<Late>,
    order: TimeOrder,
}

/// Which records of a journal come later than in the order of time.
#[derive(Clone, Debug, Default)]
pub struct TimeOrder {
    /// When the latest attempt in each slot began.
    begun: BTreeMap<u32, u64>,
}

impl TimeOrder {
    /// Takes the next start or end; whether a later attempt of its slot has been seen.
    pub fn is_late(&mut self, slot: u32, at: u64) -> bool {
        let begun = self.begun.entry(slot).or_insert(at);
        let is_late = at < *begun;
        *begun = at.max(*begun);
        is_late
    }
}

impl Slots {
    /// An attempt has started, and runs.
    pub fn start(&mut self, attempt: Attempt) {
        self.order.is_late(attempt.slot, attempt.at);
        self.unended
            .extend(self.running.insert(attempt.slot, attempt));
    }

    /// An attempt has ended; `offset` is where its record is.
    pub fn end(&mut self, attempt: &Attempt, offset: u64) {
        let Attempt { slot, at, .. } = *attempt;
        let is_late = self.order.is_late(slot, at);
        if is_late {
            self.late.push(Late { slot, at, offset });
        }
        match self.running.get(&slot) {
            Some(running) if running.is_same(attempt) => drop(self.running.remove(&slot)),
            // The slot has gone on from it.
            Some(_) if !is_late => self.unended.extend(self.running.remove(&slot)),
            _ => self.unended.retain(|other| !other.is_same(attempt)),
        }
        let freed = self.freed.entry(slot).or_insert(0);
        *freed = attempt.end().max(*freed);
    }

    /// Attempts that have a start and no end.
    pub fn open(&self) -> u64 {
        (self.running.len() + self.unended.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Outcome;

    fn attempt(id: u64, at: u64, us: Option<u64>) -> Attempt {
        Attempt {
            id,
            attempt: 1,
            at,
            us: us.unwrap_or(0),
            outcome: us.map(|_| Outcome::Exit(0)),
            ..Attempt::default()
        }
    }

    #[test]
    fn an_end_that_was_held_back_leaves_the_next_task_of_its_slot_alone() {
        let mut slots = Slots::default();
        slots.start(attempt(1, 10, None));
        slots.start(attempt(2, 20, None));
        assert_eq!(slots.unended.len(), 1, "task 1 is over");
        // Task 0 had no start, and ended before both.
        slots.end(&attempt(0, 5, Some(4)), 100);
        slots.end(&attempt(1, 10, Some(8)), 200);
        assert_eq!(slots.unended, []);
        assert_eq!(slots.running[&0].id, 2, "task 2 runs on");
        let late: Vec<_> = slots.late.iter().map(|late| late.offset).collect();
        assert_eq!(late, [100, 200]);
        slots.end(&attempt(2, 20, Some(5)), 300);
        assert_eq!((slots.running.len(), slots.late.len()), (0, 2));
        assert_eq!(slots.freed[&0], 25);
    }
}
