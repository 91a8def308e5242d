//! How often the ledger takes its turn, and how many tasks it claims.
//!
//! A turn costs the lock and a few file operations, whatever it carries. So a farm of short
//! tasks takes rare turns with large batches, and a farm of long tasks takes a turn at each end
//! and does not prefetch. Everything is measured; nothing is a flag.

use std::time::Duration;

use super::figures::float;

/// The shortest time between two turns: fifty turns per second keep any node busy.
const SHORTEST_GAP: Duration = Duration::from_millis(20);
/// A turn is followed by this many times its own length without one.
const RESTS: u32 = 20;
/// And by this many times the turns of all others: more turns carry less each, and
/// their cost is taken from the tasks.
const SHARES: u32 = 8;
/// The longest time between two turns, so that `finished` is up to date to within seconds.
/// It is longer only in farms in which a turn of each farmer takes longer.
const LONGEST_GAP: Duration = Duration::from_secs(10);
/// A round, a turn of each farmer, that is shorter needs no queue.
const SHORT_ROUND: Duration = Duration::from_millis(500);
/// If a turn takes more than this part of a task, slots would be idle during it.
const WORTH: u32 = 200;

/// What one farmer has measured.
#[derive(Clone, Debug)]
pub struct Pace {
    /// What a turn takes from the wish to the end, the wait for the lock included.
    turn: Duration,
    /// How long the lock is held in a turn.
    hold: Duration,
    /// Ends of tasks per second.
    rate: f64,
    /// How long a task runs, in seconds.
    length: f64,
    slots: u64,
    /// Farmers that were launched with us and may still be on their way.
    launched: u32,
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
    /// Nothing measured yet. `launched` is how many farmers started together, as the launcher
    /// says; a few do not matter.
    ///
    /// They count until our first turn after the join: the first farmer would otherwise take
    /// its next turn before the others have joined.
    pub fn new(launched: u32) -> Self {
        Self {
            turn: Duration::from_millis(2),
            hold: Duration::from_millis(2),
            rate: 0.0,
            length: 0.0,
            slots: 0,
            launched: if launched > FEW { launched } else { 0 },
        }
    }

    /// The join held the lock for `hold`, and `live` farmers are alive now. In a large farm
    /// this is the best estimate until the first turn; in a small one that comes soon.
    pub fn joined(&mut self, hold: Duration, live: u32) {
        if self.farm(live) > FEW {
            (self.turn, self.hold) = (hold, hold);
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
        let is_first = self.slots == 0;
        let mix = |old: Duration, new: Duration| if is_first { new } else { (old * 3 + new) / 4 };
        self.launched = 0;
        self.turn = mix(self.turn, turn);
        self.hold = mix(self.hold, hold);
        self.slots = slots as u64;
        if span.is_zero() {
            return;
        }
        let count = float(ends.count);
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

    /// How long to wait after a turn before the next: all `live` farmers together must leave
    /// the lock free for most of the time, and each must leave the file system alone for most
    /// of the time, since a sync delays everyone who creates files there.
    pub fn gap(&self, live: u32) -> Duration {
        let live = self.farm(live);
        let rests = live.saturating_mul(SHARES).max(RESTS);
        let longest = LONGEST_GAP.max(self.round(live) * 2);
        (self.hold * rests).clamp(SHORTEST_GAP, longest)
    }

    /// How many farmers there are, or will be in a moment.
    fn farm(&self, live: u32) -> u32 {
        live.max(self.launched).max(1)
    }

    /// How long the lock is held in a turn of each of the farmers.
    fn round(&self, live: u32) -> Duration {
        self.hold * self.farm(live)
    }

    /// How long to wait after a turn although a slot is idle. In a large farm this gives a
    /// turn to farmers that had none yet: a farmer that has just had the lock would otherwise
    /// get it again before all that wait with long pauses. In a small farm a single long
    /// hold, on a busy node, must not keep a slot idle.
    pub fn starved_gap(&self, live: u32) -> Duration {
        if self.farm(live) <= FEW {
            return Duration::ZERO;
        }
        let rounds = (self.round(live) * 6 / 5).saturating_sub(SHORT_ROUND);
        rounds.min(self.gap(live))
    }

    /// How many claimed tasks should wait for a slot so that none waits for the
    /// ledger: the ends expected until the turn after this, and half as many.
    /// Of `left` unclaimed tasks this never takes more than a fair share.
    pub fn lookahead(&self, live: u32, left: u64) -> u64 {
        let horizon = (self.gap(live) + self.turn * 2).as_secs_f64();
        whole(self.rate * horizon * 1.5)
            .max(self.reserve())
            .min(left / (2 * u64::from(self.farm(live))))
    }

    /// Tasks of one length end together, in all slots at once. That does not matter where a
    /// turn takes no time; else one claimed task is kept for each slot.
    fn reserve(&self) -> u64 {
        let is_worth = (self.turn * WORTH).as_secs_f64() > self.length;
        if self.length > 0.0 && is_worth {
            self.slots
        } else {
            0
        }
    }

    /// Whether tasks take much longer than those that ended before: none has ended for
    /// `since`.
    pub fn is_overdue(&self, since: Duration, live: u32) -> bool {
        let usual = Duration::from_secs_f64(self.length * 2.0);
        since > usual + self.gap(live) + OVERDUE
    }

    /// How many tasks end within a second, at the recent rate.
    pub fn soon(&self) -> u64 {
        whole(self.rate)
    }

    /// How many tasks to claim now: for the `idle` slots, and ahead of them,
    /// less those that are `queued` already.
    pub fn claim(&self, idle: u64, queued: u64, live: u32, left: u64) -> u64 {
        let is_short = self.round(live) <= SHORT_ROUND;
        // Where a round is long the others come too late to be fair to: the last
        // tasks would go out in thousands of turns, beside idle slots.
        let fair = left.div_ceil(u64::from(live.max(1)));
        let share = if is_short { fair } else { left };
        // Before the first end the length of a task is unknown: if the next turn is far
        // away, each slot gets two.
        let second = if self.length == 0.0 && self.farm(live) > FEW {
            idle.min(left / (2 * u64::from(self.farm(live))))
        } else {
            0
        };
        let wanted = idle.min(share) + second.max(self.lookahead(live, left));
        wanted.saturating_sub(queued)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive and far below 2^63"
)]
fn whole(tasks: f64) -> u64 {
    tasks as u64
}

/// How long claimed tasks may wait.
const OVERDUE: Duration = Duration::from_secs(5);

/// This number of farmers is not a burden to any file server.
const FEW: u32 = 128;

/// A wait for the lock after which a waiter must not come last.
pub const LONG_WAIT: Duration = Duration::from_millis(250);

/// How long to wait after so many tries to take the lock: 0.2 ms at first, a
/// neighbour's transaction; then growing to 50 ms.
///
/// A farmer that has waited long tries more often, or those that come later would be
/// served first. But tries, which take `effort` each, never make more than a small part of
/// the time, since they are requests to the file server: a thousand `contenders` that
/// tried every 16 ms would leave the server no time for the one that has the lock. Most of
/// them wait only when all start or all leave. So no farmer pauses as if more than a hundred
/// waited: a farmer that was unlucky a few times would wait for minutes.
pub fn lock_pause(tries: u32, waited: Duration, effort: Duration, contenders: u32) -> Duration {
    let pause = Duration::from_micros(200).mul_f64(1.3_f64.powi(tries.min(21).cast_signed()));
    let too_many = contenders.saturating_sub(FEW);
    if waited < LONG_WAIT {
        return pause.max(effort * too_many.min(6));
    }
    let cheap = (effort * 32).max(Duration::from_millis(5));
    let alone = pause.min(cheap);
    alone.max((effort * too_many.min(100)).min(Duration::from_secs(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate_per_s: u64, turn_ms: u64, hold_ms: u64) -> Pace {
        let mut pace = Pace::new(1);
        for _ in 0..50 {
            let (turn, hold) = (
                Duration::from_millis(turn_ms),
                Duration::from_millis(hold_ms),
            );
            // All 64 slots are busy.
            let ran = Duration::from_secs(64);
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
        let mut pace = Pace::new(1);
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
        // One task a second of 64 s each, and a turn takes seconds: one per slot.
        assert_eq!(pace.lookahead(1000, 10_000_000), 64, "{pace:?}");
        assert!(pace.starved_gap(1000) > Duration::from_secs(5));
        assert_eq!(pace.starved_gap(10), Duration::ZERO);
    }

    #[test]
    fn many_contenders_leave_the_file_server_alone() {
        let (ms, long) = (Duration::from_millis, Duration::from_secs(1));
        assert_eq!(lock_pause(30, long, ms(1), 10), ms(32));
        assert_eq!(lock_pause(30, long, ms(1), 1000), ms(100));
        assert_eq!(lock_pause(1, ms(1), ms(1), 1000), ms(6));
        assert!(lock_pause(1, ms(1), ms(1), 10) < ms(1));
        assert_eq!(lock_pause(30, long, Duration::from_micros(10), 64), ms(5));
    }

    #[test]
    fn the_rest_is_shared_fairly() {
        let pace = pace(3000, 2, 1);
        assert_eq!(pace.lookahead(8, 16), 1);
        assert_eq!(pace.claim(4, 0, 8, 16), 3);
        assert_eq!(pace.claim(4, 0, 8, 1), 1);
        assert_eq!(pace.claim(4, 0, 8, 0), 0);
    }

    #[test]
    fn the_first_of_a_large_farm_leave_the_lock_to_those_who_have_yet_to_join() {
        let mut pace = Pace::new(1000);
        // They count for what is fair, too.
        assert_eq!(pace.claim(64, 0, 1, 1_000_000), 128);
        assert_eq!(pace.claim(64, 0, 1, 10_000), 64 + 5);
        pace.joined(Duration::from_millis(10), 1);
        assert!(pace.starved_gap(3) > Duration::from_secs(10));
        let ends = Ends::default();
        let (hold, span) = (Duration::from_millis(10), Duration::from_secs(12));
        pace.measured(hold, hold, ends, span, 64);
        assert_eq!(pace.starved_gap(3), Duration::ZERO, "they never came");
        assert_eq!(Pace::new(16).claim(4, 0, 1, 1000), 4, "a few are no matter");
    }

    #[test]
    fn where_a_round_is_long_no_slot_is_idle_beside_the_last_tasks() {
        let long = pace(12, 100, 10);
        assert_eq!(long.claim(64, 0, 1000, 300), 64);
        let short = pace(12, 10, 1);
        assert_eq!(short.claim(64, 0, 100, 300), 3 + 1);
    }
}
