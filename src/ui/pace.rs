//! How fast tasks end, and when the last one may have.
//!
//! Takes the time as an argument and holds a bounded number of points, however
//! long the run is. It says nothing where it knows nothing.

use std::collections::VecDeque;
use std::time::Duration;

/// How fast tasks end, from what was seen lately.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When how many had ended; the first is the begin of this run.
    seen: VecDeque<(Duration, u64)>,
    /// How far apart they are, at least.
    apart: Duration,
}

/// How many points are held: when there are more, every other one goes.
const POINTS: usize = 128;

/// The shortest time over which a rate is worth telling.
const SHORTEST: Duration = Duration::from_mins(1);

/// That many have to end before anything is foretold, or as many as run at a
/// time when that is fewer: the first to end are the short ones.
const ENOUGH: u64 = 20;

impl Pace {
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

    /// Ends a second over the last half of the run, but over a minute at least.
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

    /// How long it may take until all have ended; `None` when nobody can know.
    pub(crate) fn eta(
        &self,
        now: Duration,
        ended: u64,
        running: u64,
        total: Option<u64>,
    ) -> Option<Duration> {
        let rest = total?.saturating_sub(ended);
        let (_, ended_before) = *self.seen.front()?;
        let ended_now = ended.saturating_sub(ended_before);
        if rest > 0 && ended_now < running.clamp(1, ENOUGH) {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = rest as f64 / self.rate(now)?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// Tasks a second in the unit that gives a number people can grasp.
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
    fn nothing_is_foretold_before_there_is_reason_to() {
        let mut pace = Pace::default();
        for (now, done, running, total, eta) in [
            (0, 0, 4, Some(100), None),
            (10, 0, 4, Some(100), None),
            (20, 3, 4, Some(100), None),
            (40, 4, 4, Some(100), Some(960)),
            (50, 10, 4, None, None),
            (60, 12, 4, Some(100), Some(440)),
        ] {
            pace.note(seconds(now), done);
            let found = pace.eta(seconds(now), done, running, total);
            assert_eq!(found, eta.map(seconds), "{now}");
        }
    }

    #[test]
    fn what_an_earlier_run_did_is_no_pace() {
        let mut pace = Pace::default();
        pace.note(seconds(0), 5000);
        assert_eq!(pace.rate(seconds(1)), None);
        pace.note(seconds(10), 5010);
        assert_eq!(pace.rate(seconds(10)), Some(1.0));
    }

    #[test]
    fn the_pace_is_that_of_late_and_its_memory_is_bounded() {
        let mut pace = Pace::default();
        let mut ended = 0;
        for now in 0..100_000 {
            ended += if now < 50_000 { 10 } else { 1 };
            pace.note(seconds(now), ended);
            assert!(pace.seen.len() <= POINTS);
        }
        let rate = pace.rate(seconds(100_000)).unwrap();
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
