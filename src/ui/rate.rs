//! How fast tasks end.
//!
//! Takes the time as an argument and holds a bounded number of points, however
//! long the run is.

use std::collections::VecDeque;
use std::time::Duration;

/// How many tasks had ended at which times of this run.
#[derive(Debug, Default)]
pub(crate) struct RecentRate {
    /// The times, and how many had ended then; the first is the start of this run.
    seen: VecDeque<(Duration, u64)>,
    /// The least time between two of them.
    apart: Duration,
}

/// How many points are held: when there are more, every other one is dropped.
const POINTS: usize = 128;

/// The shortest time over which a rate is measured.
const SHORTEST: Duration = Duration::from_secs(60);

impl RecentRate {
    /// Notes how many have ended by now, those of earlier runs included.
    pub(crate) fn note(&mut self, now: Duration, ended: u64) {
        if self
            .seen
            .back()
            .is_some_and(|(last, _)| now < *last + self.apart.max(Duration::from_secs(1)))
        {
            return;
        }
        self.seen.push_back((now, ended));
        if self.seen.len() > POINTS {
            let mut keep = false;
            self.seen.retain(|_| {
                keep = !keep;
                keep
            });
            self.apart = self.apart.max(Duration::from_secs(1)) * 2;
        }
    }

    /// Ends per second over the last half of the run, but over a minute at least.
    pub(crate) fn rate(&self, now: Duration) -> Option<f64> {
        let (begin, _) = *self.seen.front()?;
        let span = SHORTEST.max(now.saturating_sub(begin) / 2);
        let is_old = |(at, _): &&(Duration, u64)| now.saturating_sub(*at) >= span;
        let (from, ended_then) = *self.seen.iter().rev().find(is_old).or(self.seen.front())?;
        let (last, ended) = *self.seen.back()?;
        let ended = ended.checked_sub(ended_then).filter(|count| *count > 0)?;
        let seconds = last.saturating_sub(from).as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate is shown with two digits"
        )]
        (seconds > 0.0).then(|| ended as f64 / seconds)
    }

    /// How many have ended since the first note.
    pub(crate) fn ended(&self, ended: u64) -> u64 {
        let before = self.seen.front().map_or(ended, |(_, before)| *before);
        ended.saturating_sub(before)
    }
}

/// Tasks per second in the unit that gives a number people can grasp.
pub(crate) fn show_rate(rate: f64) -> String {
    match rate {
        100.0.. => format!("{rate:.0}/s"),
        1.0.. => format!("{rate:.1}/s"),
        _ if rate * 60.0 >= 1.0 => format!("{:.1}/min", rate * 60.0),
        _ => format!("{:.1}/h", rate * 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_an_earlier_run_did_is_not_counted() {
        let mut rate_of = RecentRate::default();
        rate_of.note(seconds(0), 5000);
        assert_eq!(rate_of.rate(seconds(1)), None);
        rate_of.note(seconds(10), 5010);
        assert_eq!(rate_of.rate(seconds(10)), Some(1.0));
    }

    #[test]
    fn the_rate_is_the_recent_one_and_its_memory_is_bounded() {
        let mut rate_of = RecentRate::default();
        let mut ended = 0;
        for now in 0..100_000 {
            ended += if now < 50_000 { 10 } else { 1 };
            rate_of.note(seconds(now), ended);
            assert!(rate_of.seen.len() <= POINTS);
        }
        let rate = rate_of.rate(seconds(100_000)).unwrap();
        assert!((1.0..1.3).contains(&rate), "{rate}");
    }

    #[test]
    fn rates_have_a_unit_that_fits() {
        for (rate, text) in [
            (1234.5, "1234/s"),
            (8.26, "8.3/s"),
            (0.5, "30.0/min"),
            (0.001, "3.6/h"),
        ] {
            assert_eq!(show_rate(rate), text);
        }
    }
}
