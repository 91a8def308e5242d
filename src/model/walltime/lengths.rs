//! How long tasks take, by those that finished here.

use std::time::Duration;

/// How many of the last tasks count.
const KEPT: usize = 1000;

/// The lengths of the last tasks.
#[derive(Clone, Debug, Default)]
pub struct Lengths {
    took: Vec<Duration>,
    /// Which is overwritten next, once there are enough.
    oldest: usize,
}

impl Lengths {
    /// A task finished after this time.
    pub fn push(&mut self, took: Duration) {
        if self.took.len() < KEPT {
            self.took.push(took);
        } else {
            self.took[self.oldest] = took;
            self.oldest = (self.oldest + 1) % KEPT;
        }
    }

    /// What nine of ten tasks do not exceed. Tasks that have been `running` for
    /// longer than that count as well, with the time that they have taken so far:
    /// they show that tasks have become longer before the first of them ends.
    pub fn estimate(&self, running: &[Duration]) -> Option<Duration> {
        let finished = nine_of_ten(self.took.clone());
        let longer = running
            .iter()
            .filter(|ran| finished.is_none_or(|most| **ran > most));
        let all = self.took.iter().chain(longer).copied();
        nine_of_ten(all.collect())
    }
}

fn nine_of_ten(mut lengths: Vec<Duration>) -> Option<Duration> {
    let last = lengths.len().checked_sub(1)?;
    let (_, nth, _) = lengths.select_nth_unstable(last * 9 / 10);
    Some(*nth)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn of(took: impl IntoIterator<Item = u64>) -> Lengths {
        let mut lengths = Lengths::default();
        took.into_iter().for_each(|took| lengths.push(S(took)));
        lengths
    }

    #[test]
    fn nine_of_ten_take_no_longer() {
        assert_eq!(of([]).estimate(&[]), None);
        assert_eq!(of([7]).estimate(&[]), Some(S(7)));
        assert_eq!(of(1..=11).estimate(&[]), Some(S(10)));
        // One extreme value among many is not a measure.
        assert_eq!(
            of([9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 900]).estimate(&[]),
            Some(S(9))
        );
    }

    #[test]
    fn what_runs_counts_when_it_is_longer_than_what_has_ended() {
        assert_eq!(of([]).estimate(&[S(3600)]), Some(S(3600)));
        assert_eq!(of([60; 4]).estimate(&[S(1), S(2)]), Some(S(60)));
        assert_eq!(of([60; 4]).estimate(&[S(600); 8]), Some(S(600)));
    }

    #[test]
    fn the_last_thousand_count() {
        let lengths = of((0..1000).map(|_| 60).chain((0..1000).map(|_| 5)));
        assert_eq!(lengths.estimate(&[]), Some(S(5)));
    }
}
