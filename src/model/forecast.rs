//! When a run may be over: what is left, at the rate at which tasks end now.
//!
//! The progress bar and `pytf status` both show this estimate. Its high end adds the
//! length of a long task, since the last task starts as late as any. It is unknown
//! until enough tasks have ended to judge by.

use std::time::Duration;

use super::figures::float;

/// What is known of a run.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Tasks that have not ended.
    pub left: u64,
    /// Tasks that have ended while the rate was measured.
    pub ended: u64,
    /// How many tasks run at a time.
    pub slots: u64,
    /// Tasks that end per second, lately.
    pub rate: Option<f64>,
    /// How long a long task takes.
    pub long: Duration,
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
    /// It is unknown, and why.
    Unknown(&'static str),
}

/// So many tasks must have ended before there is an estimate, or as many as run at a
/// time where that is fewer: the first to end are the short ones.
const ENOUGH: u64 = 20;

/// Estimates when a run will be over.
pub fn forecast(known: &Known) -> Forecast {
    if known.is_open {
        return Forecast::Unknown("tasks still arrive");
    }
    if known.left == 0 {
        return Forecast::Over;
    }
    if known.slots == 0 {
        return Forecast::Unknown("no farmer works on it");
    }
    if known.ended == 0 {
        return Forecast::Unknown("no task has ended yet");
    }
    let rate = known.rate.filter(|rate| *rate > 0.0);
    let (Some(rate), true) = (rate, known.ended >= known.slots.min(ENOUGH)) else {
        return Forecast::Unknown("too few tasks have ended");
    };
    let low = Duration::try_from_secs_f64(float(known.left) / rate).unwrap_or(Duration::MAX);
    Forecast::Range(low, low.saturating_add(known.long))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known {
        left: 1000,
        ended: 100,
        slots: 40,
        rate: Some(4.0),
        long: Duration::from_secs(10),
        is_open: false,
    };

    #[test]
    fn what_is_left_takes_as_long_as_the_rate_says_and_a_long_task_more() {
        let seconds = Duration::from_secs;
        assert_eq!(
            forecast(&KNOWN),
            Forecast::Range(seconds(250), seconds(260))
        );
        let slow = Known {
            rate: Some(1e-300),
            ..KNOWN
        };
        assert_eq!(
            forecast(&slow),
            Forecast::Range(Duration::MAX, Duration::MAX)
        );
    }

    #[test]
    fn nothing_is_estimated_before_there_is_reason_to() {
        for (ended, slots, is_known) in [
            (1, 1, true),
            (3, 4, false),
            (4, 4, true),
            (19, 400, false),
            (20, 400, true),
        ] {
            let known = Known {
                ended,
                slots,
                ..KNOWN
            };
            let found = forecast(&known);
            assert_eq!(
                matches!(found, Forecast::Range(..)),
                is_known,
                "{ended} {slots}"
            );
        }
    }

    #[test]
    fn what_nobody_can_know_is_unknown() {
        for (known, why) in [
            (Known { ended: 0, ..KNOWN }, "no task has ended yet"),
            (Known { ended: 1, ..KNOWN }, "too few tasks have ended"),
            (
                Known {
                    rate: None,
                    ..KNOWN
                },
                "too few tasks have ended",
            ),
            (Known { slots: 0, ..KNOWN }, "no farmer works on it"),
            (
                Known {
                    is_open: true,
                    ..KNOWN
                },
                "tasks still arrive",
            ),
        ] {
            assert_eq!(forecast(&known), Forecast::Unknown(why), "{known:?}");
        }
        let over = Known {
            left: 0,
            slots: 0,
            ..KNOWN
        };
        assert_eq!(forecast(&over), Forecast::Over);
    }
}
