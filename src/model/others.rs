//! How much of a node the programs of others use, and what is withheld from tasks for it
//! (`--only-free`).
//!
//! Guarantee: what cannot be measured is not withheld.

use std::collections::VecDeque;
use std::time::Duration;

use super::allocator::{Capacity, Withheld};
use super::figures::float;

/// The use of CPUs is that of this time, on average: programs pause for moments.
const WINDOW: Duration = Duration::from_secs(5);
/// Tasks and others together may use so many CPUs more than there are, as a part of them; at
/// least half a CPU. What others do now and then costs no task its place.
const OVERLOAD: f64 = 0.1;
const LEAST_OVERLOAD: f64 = 0.5;
/// Nothing is started while less than this part of the memory is available.
const LEAST_MEMORY: f64 = 0.05;

/// What is measured of a node at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// When, since any fixed moment.
    pub at: Duration,
    /// The time that the CPUs have been busy since the boot, those that we may run on.
    pub busy: Duration,
    /// How much of it was for us and our tasks.
    pub own: Duration,
    /// The memory of the node in KiB.
    pub memory_kib: u64,
    /// What new processes could use of it without swapping.
    pub available_kib: u64,
    /// What our tasks have in memory.
    pub own_kib: u64,
}

/// What others use of a node, as it is read again and again.
#[derive(Clone, Debug, Default)]
pub struct Others {
    readings: VecDeque<Reading>,
}

impl Extend<Reading> for Others {
    fn extend<T: IntoIterator<Item = Reading>>(&mut self, readings: T) {
        readings.into_iter().for_each(|reading| self.add(reading));
    }
}

impl Others {
    /// Takes a reading that was made after all before.
    pub fn add(&mut self, reading: Reading) {
        self.readings.push_back(reading);
        let is_old = |before: &Reading| reading.at.saturating_sub(before.at) > WINDOW;
        while self.readings.len() > 2 && is_old(&self.readings[0]) {
            self.readings.pop_front();
        }
    }

    /// How many CPUs others use; `None` before the second reading.
    pub fn cpus(&self) -> Option<f64> {
        let (first, last) = (self.readings.front()?, self.readings.back()?);
        let span = last.at.saturating_sub(first.at);
        let busy = last.busy.saturating_sub(first.busy);
        let own = last.own.saturating_sub(first.own);
        (!span.is_zero()).then(|| busy.saturating_sub(own).as_secs_f64() / span.as_secs_f64())
    }

    /// Whether too little memory is available to start anything.
    pub fn is_memory_short(&self) -> bool {
        let is_short =
            |last: &Reading| float(last.available_kib) < LEAST_MEMORY * float(last.memory_kib);
        self.readings.back().is_some_and(is_short)
    }

    /// What is withheld from tasks on a node that has this, and lets us run on so many CPUs.
    pub fn withheld(&self, has: &Capacity, online: u32) -> Withheld {
        if self.is_memory_short() {
            return Withheld {
                cpus: has.cpus,
                mem_kib: 0,
            };
        }
        let there = f64::from(online);
        let cpus = self.cpus().map_or(0, |others| {
            let overload = (there * OVERLOAD).max(LEAST_OVERLOAD);
            // Who asks for more slots than CPUs wants them.
            has.cpus
                .min(online)
                .saturating_sub(whole(there - others + overload))
        });
        let mem_kib = self
            .readings
            .back()
            .zip(has.mem_kib)
            .map_or(0, |(last, has)| {
                has.saturating_sub(last.available_kib.saturating_add(last.own_kib))
            });
        Withheld { cpus, mem_kib }
    }
}

/// The whole part of a number of CPUs.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion of floating-point numbers saturates"
)]
fn whole(cpus: f64) -> u32 {
    cpus.max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 20;

    /// Others use so many CPUs, and we so many, for as many seconds.
    fn seen(others: f64, own: f64, seconds: u32) -> Others {
        let mut all = Others::default();
        for second in 0..=seconds {
            let span = Duration::from_secs(second.into());
            all.add(Reading {
                at: span,
                busy: span.mul_f64(others + own),
                own: span.mul_f64(own),
                memory_kib: 100 * GIB,
                available_kib: 60 * GIB,
                own_kib: 10 * GIB,
            });
        }
        all
    }

    fn has(cpus: u32) -> Capacity {
        Capacity {
            cpus,
            mem_kib: Some(100 * GIB),
            ..Capacity::default()
        }
    }

    #[test]
    fn what_others_use_is_withheld_but_for_a_small_overload() {
        for (others, online, cpus) in [
            (0.0, 4, 0),
            (0.5, 4, 0),
            (0.6, 4, 1),
            (1.0, 4, 1),
            (4.0, 4, 4),
            (5.0, 4, 4),
            (6.4, 64, 0),
            (10.0, 64, 4),
            (64.0, 64, 58),
        ] {
            let withheld = seen(others, 2.0, 4).withheld(&has(online), online);
            assert_eq!(withheld.cpus, cpus, "{others} of {online}");
            assert_eq!(withheld.mem_kib, 30 * GIB, "others have it");
        }
    }

    #[test]
    fn a_share_of_the_node_is_reduced_only_where_too_little_is_free_for_it() {
        let busy = seen(30.0, 0.0, 2);
        assert_eq!(busy.withheld(&has(4), 64).cpus, 0);
        assert_eq!(seen(62.0, 0.0, 2).withheld(&has(16), 64).cpus, 8);
        assert_eq!(
            seen(2.0, 0.0, 2).withheld(&has(8), 4).cpus,
            2,
            "of those of the node; more slots were asked for"
        );
    }

    #[test]
    fn nothing_is_withheld_that_is_not_known_and_all_when_memory_is_short() {
        assert_eq!(Others::default().withheld(&has(4), 4), Withheld::default());
        assert_eq!(seen(4.0, 0.0, 0).withheld(&has(4), 4).cpus, 0);
        let mut short = seen(0.0, 0.0, 3);
        let last = *short.readings.back().unwrap();
        short.add(Reading {
            at: last.at + Duration::from_secs(1),
            available_kib: 4 * GIB,
            ..last
        });
        assert!(short.is_memory_short());
        assert_eq!(short.withheld(&has(4), 4).cpus, 4);
    }

    proptest! {
        /// What was seen long ago does not count, and never more is withheld than there is.
        #[test]
        fn only_the_last_seconds_count(before in 0.0..64.0, now in 0.0..64.0, cpus in 1..64_u32) {
            let mut others = seen(before, 3.0, 20);
            let last = *others.readings.back().unwrap();
            for second in 1..=6 {
                let span = Duration::from_secs(second);
                let busy = last.busy + span.mul_f64(now);
                others.add(Reading { at: last.at + span, busy, ..last });
            }
            prop_assert!((others.cpus().unwrap() - now).abs() < 0.01);
            prop_assert!(others.withheld(&has(cpus), 64).cpus <= cpus);
        }
    }
}
