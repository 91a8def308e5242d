//! What happened over time, in a limited number of intervals of equal length.

/// What happened in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// For how long tasks ran in it, all slots together, microseconds.
    pub busy: u64,
    /// CPU time that they used, microseconds.
    pub cpu: u64,
    /// How long slots existed, all together.
    pub slots: u64,
    /// Attempts that ended in it.
    pub ended: u64,
    /// Those of them that failed.
    pub failed: u64,
}

/// What can be added up.
pub trait Sum: Copy + Default {
    /// Adds another.
    fn add(&mut self, other: &Self);
}

impl Sum for Stretch {
    fn add(&mut self, other: &Self) {
        self.busy += other.busy;
        self.cpu += other.cpu;
        self.slots += other.slots;
        self.ended += other.ended;
        self.failed += other.failed;
    }
}

/// How a device was used in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// For how long tasks ran on it, all its slots together, microseconds.
    pub tasks: u64,
    /// For how long its load was known, and the sum of that: percent times
    /// microseconds.
    pub load: (u64, u64),
    /// The same of its memory that was in use.
    pub memory: (u64, u64),
}

impl Sum for Use {
    fn add(&mut self, other: &Self) {
        let pair = |mine: &mut (u64, u64), theirs: (u64, u64)| {
            *mine = (mine.0 + theirs.0, mine.1 + theirs.1);
        };
        self.tasks += other.tasks;
        pair(&mut self.load, other.load);
        pair(&mut self.memory, other.memory);
    }
}

/// What happened over time, in stretches of equal length.
///
/// There are never more than a few hundred: when time runs on, neighbours
/// join. Stretches begin at multiples of their length, so those of several
/// nodes add up exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series<S = Stretch> {
    width: u64,
    first: u64,
    stretches: Vec<S>,
}

/// The shortest stretch, in microseconds.
const SHORTEST: u64 = 1000;

/// The most stretches.
const MOST: u64 = 256;

impl<S> Default for Series<S> {
    fn default() -> Self {
        Self {
            width: SHORTEST,
            first: 0,
            stretches: Vec::new(),
        }
    }
}

impl Series {
    /// An attempt ran from one time to another.
    pub fn attempt(&mut self, from: u64, to: u64, cpu: u64) {
        self.spread(from, to, cpu, |stretch, part, cpu| {
            stretch.busy += part;
            stretch.cpu += cpu;
        });
    }

    /// This number of slots existed from one time to another.
    pub fn slots(&mut self, from: u64, to: u64, slots: u64) {
        self.spread(from, to, 0, |stretch, part, _| {
            stretch.slots += part.saturating_mul(slots);
        });
    }

    /// An attempt ended.
    pub fn end(&mut self, at: u64, failed: bool) {
        self.reach(at, at);
        let number = self.number(at);
        let stretch = &mut self.stretches[number];
        stretch.ended += 1;
        stretch.failed += u64::from(failed);
    }
}

impl Series<Use> {
    /// A task ran on it from one time to another.
    pub fn task(&mut self, from: u64, to: u64) {
        self.spread(from, to, 0, |stretch, part, _| stretch.tasks += part);
    }

    /// The load and the memory in use from one time to another, in percent, where they are
    /// known.
    pub fn measured(&mut self, from: u64, to: u64, load: Option<u8>, memory: Option<u8>) {
        self.spread(from, to, 0, |stretch, part, _| {
            let places = [(&mut stretch.load, load), (&mut stretch.memory, memory)];
            for (place, percent) in places {
                if let Some(percent) = percent {
                    place.0 += part;
                    place.1 += part.saturating_mul(u64::from(percent));
                }
            }
        });
    }
}

impl<S: Sum> Series<S> {
    /// How long a stretch is, in microseconds.
    pub fn width(&self) -> u64 {
        self.width
    }

    /// All stretches with the time at which each begins.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &S)> + '_ {
        let stretches = self.stretches.iter().enumerate();
        stretches.map(|(nth, stretch)| ((self.first + nth as u64) * self.width, stretch))
    }

    /// Adds all that another has.
    pub fn merge(&mut self, other: &Self) {
        let Some(count) = (other.stretches.len() as u64).checked_sub(1) else {
            return;
        };
        while self.width < other.width {
            self.join();
        }
        let begin = other.first * other.width;
        self.reach(begin, begin + count * other.width);
        for (at, stretch) in other.iter() {
            let number = self.number(at);
            self.stretches[number].add(stretch);
        }
    }

    fn number(&self, at: u64) -> usize {
        usize::try_from(at / self.width - self.first).unwrap_or(0)
    }

    /// Adds to every stretch its part of a span of time.
    fn spread(&mut self, from: u64, to: u64, whole: u64, add: impl Fn(&mut S, u64, u64)) {
        if to <= from {
            return;
        }
        self.reach(from, to - 1);
        let mut at = from;
        while at < to {
            let end = ((at / self.width + 1) * self.width).min(to);
            let part = end - at;
            let of_whole = u128::from(whole) * u128::from(part) / u128::from(to - from);
            let number = self.number(at);
            add(
                &mut self.stretches[number],
                part,
                u64::try_from(of_whole).unwrap_or(0),
            );
            at = end;
        }
    }

    /// Makes stretches for these times and all between.
    fn reach(&mut self, from: u64, to: u64) {
        if self.stretches.is_empty() {
            self.first = from / self.width;
        }
        loop {
            let last = self.first + (self.stretches.len() as u64).saturating_sub(1);
            let (low, high) = (self.first.min(from / self.width), last.max(to / self.width));
            if high - low < MOST {
                let before = usize::try_from(self.first - low).unwrap_or(0);
                if before > 0 {
                    let new = std::iter::repeat_n(S::default(), before);
                    self.stretches.splice(0..0, new);
                    self.first = low;
                }
                let length = usize::try_from(high - low + 1).unwrap_or(0);
                self.stretches.resize(length, S::default());
                return;
            }
            self.join();
        }
    }

    /// Joins neighbours.
    fn join(&mut self) {
        let first = self.first / 2;
        let mut joined: Vec<S> = Vec::with_capacity(self.stretches.len() / 2 + 1);
        for (number, stretch) in (self.first..).zip(&self.stretches) {
            let place = usize::try_from(number / 2 - first).unwrap_or(0);
            if joined.len() <= place {
                joined.push(S::default());
            }
            joined[place].add(stretch);
        }
        (self.first, self.stretches) = (first, joined);
        self.width *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_the_times(
            spans in prop::collection::vec((1_u64 << 40..1 << 52, 0_u64..1 << 42), 1..40),
        ) {
            let (mut whole, mut parts) = (Series::default(), [Series::default(), Series::default()]);
            for (nth, (from, length)) in spans.iter().enumerate() {
                for series in [&mut whole, &mut parts[nth % 2]] {
                    series.attempt(*from, from + length, *length);
                    series.end(from + length, nth % 3 == 0);
                }
            }
            let [mut sum, other] = parts;
            sum.merge(&other);
            for series in [&whole, &sum] {
                let all = series.iter().fold(Stretch::default(), |mut all, (_, one)| {
                    all.add(one);
                    all
                });
                prop_assert_eq!(all.busy, spans.iter().map(|(_, length)| length).sum::<u64>());
                prop_assert_eq!(all.ended, spans.len() as u64);
                prop_assert!(series.iter().count() <= 256);
            }
        }
    }

    #[test]
    fn a_span_is_cut_where_stretches_meet() {
        let mut series = Series::default();
        series.attempt(1500, 3500, 200);
        series.slots(1000, 4000, 2);
        let found: Vec<_> = series
            .iter()
            .map(|(at, one)| (at, one.busy, one.cpu, one.slots))
            .collect();
        assert_eq!(
            found,
            [
                (1000, 500, 50, 2000),
                (2000, 1000, 100, 2000),
                (3000, 500, 50, 2000)
            ]
        );
    }

    #[test]
    fn what_is_known_of_a_device_is_weighed_by_time() {
        let mut series = Series::<Use>::default();
        series.task(1000, 3000);
        series.measured(1000, 2500, Some(80), None);
        series.measured(2500, 3000, Some(20), Some(50));
        let all = series.iter().fold(Use::default(), |mut all, (_, one)| {
            all.add(one);
            all
        });
        assert_eq!(all.tasks, 2000);
        assert_eq!(all.load, (2000, 1500 * 80 + 500 * 20));
        assert_eq!(all.memory, (500, 500 * 50));
    }
}
