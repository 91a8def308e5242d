//! When a run may be over: a range, and "unknown" where nobody can know.
//!
//! Two ways to reckon bound the range: from the durations of the tasks that
//! have ended, and from how many ended lately. At its end it has the tail: the
//! last task starts as late as any and may be a long one.

use std::time::Duration;

use super::figures::{Histogram, float};

/// What is known of a run.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// How long attempts ran, in microseconds.
    pub durations: &'a Histogram,
    /// Tasks that nobody has started.
    pub waiting: u64,
    /// Tasks that run, and for how long they have, all together.
    pub running: (u64, Duration),
    /// Slots of farmers that live.
    pub slots: u64,
    /// The part of their time that tasks ran in them, 0 to 1.
    pub busy: Option<f64>,
    /// Ends a second of late.
    pub rate: Option<f64>,
    /// Whether more tasks may come.
    pub is_open: bool,
}

/// When it may be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forecast {
    /// Nothing is left.
    Over,
    /// Between these two, from now on.
    Range(Duration, Duration),
    /// Nobody can know, and why.
    Unknown(&'static str),
}

/// That many have to end before anything is foretold, or as many as run at a
/// time when that is fewer: the first to end are the short ones.
const ENOUGH: u64 = 20;

/// Foretells the end.
pub fn forecast(known: &Known) -> Forecast {
    let (running, ran) = known.running;
    let rest = known.waiting + running;
    if known.is_open {
        return Forecast::Unknown("tasks still arrive");
    }
    if rest == 0 {
        return Forecast::Over;
    }
    if known.slots == 0 {
        return Forecast::Unknown("no farmer works on it");
    }
    let durations = known.durations;
    let (Some(mean), Some(deviation)) = (durations.mean(), durations.deviation()) else {
        return Forecast::Unknown("no task has ended yet");
    };
    if durations.count < known.slots.clamp(1, ENOUGH) {
        return Forecast::Unknown("too few tasks have ended");
    }
    // Twice the error that a mean of so many has, and that of the sum of the rest.
    let error = 2.0 * deviation * (1.0 / float(durations.count) + 1.0 / float(rest)).sqrt();
    let lanes = float(known.slots.min(rest));
    let busy = known.busy.unwrap_or(1.0).clamp(0.05, 1.0);
    let done = ran.as_secs_f64() * 1e6;
    let time = |mean: f64, busy: f64| {
        let work = (float(rest) * mean - done.min(float(running) * mean)).max(0.0);
        work / (lanes * busy) / 1e6
    };
    let mut bounds = vec![
        time((mean - error).max(mean * 0.2), 1.0),
        time(mean + error, busy),
    ];
    // The rate says nothing once the slots no longer all have work.
    if let Some(rate) = known.rate.filter(|rate| *rate > 0.0)
        && known.waiting > known.slots
    {
        bounds.push(float(rest) / rate);
    }
    let tail = |q| durations.quantile(q).unwrap_or(0);
    let (low, high) = bounds
        .iter()
        .fold((f64::MAX, 0.0_f64), |(low, high), bound| {
            (low.min(*bound), high.max(*bound))
        });
    let high = high + float(tail(0.95)) / 1e6;
    let span = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    Forecast::Range(span(low), span(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(seconds: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for s in seconds {
            histogram.add(s * 1_000_000);
        }
        histogram
    }

    fn known(durations: &Histogram) -> Known<'_> {
        Known {
            durations,
            waiting: 960,
            running: (40, Duration::from_secs(200)),
            slots: 40,
            busy: Some(0.9),
            rate: Some(3.6),
            is_open: false,
        }
    }

    fn range(forecast: Forecast) -> (u64, u64) {
        match forecast {
            Forecast::Range(low, high) => (low.as_secs(), high.as_secs()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_range_holds_what_will_be_and_narrows_with_what_is_known() {
        // 1000 tasks of 10 s on 40 slots take 250 s, less 5 s that have passed.
        let even = durations(&[10; 100]);
        let (low, high) = range(forecast(&known(&even)));
        assert!(low <= 245 && (245..310).contains(&high), "{low} {high}");
        let uneven: Vec<u64> = (0..100).map(|n| if n % 10 == 0 { 91 } else { 1 }).collect();
        let (few, many) = (durations(&uneven[..40]), durations(&uneven));
        let few = range(forecast(&known(&few)));
        let many = range(forecast(&known(&many)));
        assert!(many.1 - many.0 <= few.1 - few.0, "{few:?} {many:?}");
        assert!(many.0 <= 250 && 250 <= many.1, "{many:?}");
    }

    #[test]
    fn what_nobody_can_know_is_unknown() {
        let (none, one, enough) = (durations(&[]), durations(&[1]), durations(&[1; 40]));
        let unknown = |known: &Known| match forecast(known) {
            Forecast::Unknown(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(unknown(&known(&none)), "no task has ended yet");
        assert_eq!(unknown(&known(&one)), "too few tasks have ended");
        let nobody = Known {
            slots: 0,
            ..known(&enough)
        };
        assert_eq!(unknown(&nobody), "no farmer works on it");
        let open = Known {
            is_open: true,
            ..known(&enough)
        };
        assert_eq!(unknown(&open), "tasks still arrive");
        let over = Known {
            waiting: 0,
            running: (0, Duration::ZERO),
            ..known(&enough)
        };
        assert_eq!(forecast(&over), Forecast::Over);
    }
}
