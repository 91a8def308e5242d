//! How often the ledger takes its turn, and how many tasks it claims.
//!
//! A turn costs the lock and a few file operations, whatever it carries. So a
//! farm of short tasks takes rare turns with large batches, and a farm of long
//! tasks takes a turn at each end and looks ahead not at all. Everything is
//! measured; nothing is a flag.

use std::time::Duration;

/// Never more often than this: fifty turns a second keep any node busy.
const SHORTEST_GAP: Duration = Duration::from_millis(20);
/// A turn is followed by so many times its own length without one.
const RESTS: u32 = 20;
/// And by so many times the turns of all others: more turns carry less each, and
/// what they cost is taken from the tasks.
const SHARES: u32 = 8;
/// Never more rarely, so that `finished` tells the truth to within seconds.
const LONGEST_GAP: Duration = Duration::from_secs(10);

/// What one farmer has measured.
#[derive(Clone, Debug)]
pub struct Pace {
    /// What a turn takes from the wish to the end, the wait for the lock included.
    turn: Duration,
    /// How long the lock is held in a turn.
    hold: Duration,
    /// Ends of tasks a second.
    rate: f64,
    /// How long a task runs, in seconds.
    length: f64,
}

/// The tasks that ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// How many.
    pub count: u64,
    /// For how long they ran, all together.
    pub ran: Duration,
}

impl Pace {
    /// Nothing measured yet.
    pub fn new() -> Self {
        Self {
            turn: Duration::from_millis(2),
            hold: Duration::from_millis(2),
            rate: 0.0,
            length: 0.0,
        }
    }

    /// A turn took `turn`, held the lock for `hold`, and carried the ends of the
    /// `span` since the turn before, on `slots` slots. Time in which slots had
    /// nothing to do is not in `span`: a rate that was starved would starve on.
    ///
    /// Tasks that started together end together: many ends in a short span say
    /// little. So the rate is never more than what the slots can do with tasks
    /// of the length that was seen.
    pub fn measured(
        &mut self,
        turn: Duration,
        hold: Duration,
        ends: Ends,
        span: Duration,
        slots: usize,
    ) {
        let mix = |old: Duration, new: Duration| (old * 3 + new) / 4;
        self.turn = mix(self.turn, turn);
        self.hold = mix(self.hold, hold);
        if span.is_zero() {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let count = ends.count as f64;
        if ends.count > 0 {
            let length = ends.ran.as_secs_f64() / count;
            self.length = if self.length == 0.0 {
                length
            } else {
                f64::midpoint(self.length, length)
            };
        }
        let rate = count / span.as_secs_f64();
        let slots = f64::from(u32::try_from(slots).unwrap_or(u32::MAX));
        let possible = slots / self.length.max(1e-6);
        // Up at once, so that no slot starves; down slowly.
        self.rate = rate.max(f64::midpoint(self.rate, rate)).min(possible);
    }

    /// How long to wait after a turn before the next: the `live` farmers
    /// together shall leave the lock free for most of the time, and each shall
    /// leave the file system alone for most of it, since a sync holds up whoever
    /// creates files beside it.
    pub fn gap(&self, live: u32) -> Duration {
        let rests = live.saturating_mul(SHARES).max(RESTS);
        (self.hold * rests).clamp(SHORTEST_GAP, LONGEST_GAP)
    }

    /// How many claimed tasks should wait for a slot so that none waits for the
    /// ledger: the ends expected until the turn after this, and half as many.
    /// Of `left` unclaimed tasks this never takes more than a fair share.
    pub fn lookahead(&self, live: u32, left: u64) -> u64 {
        let horizon = (self.gap(live) + self.turn * 2).as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive and far below 2^63"
        )]
        let expected = (self.rate * horizon * 1.5) as u64;
        expected.min(left / (2 * u64::from(live.max(1))))
    }

    /// How many tasks end within a second, at the rate of late.
    pub fn soon(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive and far below 2^63"
        )]
        let soon = self.rate as u64;
        soon
    }

    /// How many tasks to claim now: for the `idle` slots, and ahead of them,
    /// less those that are `queued` already.
    pub fn claim(&self, idle: u64, queued: u64, live: u32, left: u64) -> u64 {
        let share = left.div_ceil(u64::from(live.max(1)));
        let wanted = idle.min(share) + self.lookahead(live, left);
        wanted.saturating_sub(queued)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate_per_s: u64, turn_ms: u64, hold_ms: u64) -> Pace {
        let mut pace = Pace::new();
        for _ in 0..50 {
            let (turn, hold) = (
                Duration::from_millis(turn_ms),
                Duration::from_millis(hold_ms),
            );
            let ran = Duration::from_micros(100) * u32::try_from(rate_per_s).unwrap();
            let ends = Ends {
                count: rate_per_s,
                ran,
            };
            pace.measured(turn, hold, ends, Duration::from_secs(1), 64);
        }
        pace
    }

    #[test]
    fn long_tasks_are_never_hoarded() {
        let pace = pace(4, 2, 1);
        assert_eq!(pace.lookahead(1, 1000), 0);
        assert_eq!(pace.claim(4, 0, 1, 1000), 4);
        assert_eq!(pace.claim(4, 4, 1, 1000), 0);
    }

    #[test]
    fn tasks_that_end_together_are_no_flood() {
        let mut pace = Pace::new();
        let ran = Duration::from_secs(3) * 16;
        let (turn, span) = (Duration::from_millis(2), Duration::from_millis(20));
        pace.measured(turn, turn, Ends { count: 16, ran }, span, 16);
        assert_eq!(pace.lookahead(1, 1000), 0);
    }

    #[test]
    fn short_tasks_come_in_batches_that_outlast_the_gap() {
        let pace = pace(3000, 2, 1);
        let gap = pace.gap(1).as_secs_f64();
        assert!(f64::from(u32::try_from(pace.lookahead(1, 1_000_000)).unwrap()) > 3000.0 * gap);
        assert!(pace.lookahead(1, 1_000_000) < 300);
    }

    #[test]
    fn many_farmers_leave_the_lock_free_half_of_the_time() {
        let pace = pace(1, 6000, 6);
        let gap = pace.gap(1000);
        assert!(gap >= Duration::from_secs(10));
        // One task a second and a turn of some 20 s: a good dozen ahead.
        assert!(
            (12..60).contains(&pace.lookahead(1000, 10_000_000)),
            "{pace:?}"
        );
    }

    #[test]
    fn the_rest_is_shared_fairly() {
        let pace = pace(3000, 2, 1);
        assert_eq!(pace.lookahead(8, 16), 1);
        assert_eq!(pace.claim(4, 0, 8, 16), 3);
        assert_eq!(pace.claim(4, 0, 8, 1), 1);
        assert_eq!(pace.claim(4, 0, 8, 0), 0);
    }
}
