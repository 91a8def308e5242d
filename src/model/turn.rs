//! When the ledger takes a turn: the decisions, from what it sees.
//!
//! The ledger of a farm and the simulator of large farms ask the same questions
//! here, so that what is simulated is what runs.

use std::time::Duration;

use super::pace::Pace;

/// What a ledger sees between two turns.
#[derive(Clone, Copy, Debug)]
pub struct LedgerView {
    /// Slots of this farmer.
    pub slots: u64,
    /// Slots without a task.
    pub idle: u64,
    /// Claimed tasks that wait for a slot.
    pub queued: u64,
    /// Slots that may take no task now: their device is busy.
    pub barred: u64,
    /// Whether no task may be started at present.
    pub is_paused: bool,
    /// Farmers that are alive.
    pub live: u32,
    /// The number of this one.
    pub farmer: u32,
    /// How often `toprocess` was rewritten.
    pub generation: u64,
    /// Unclaimed tasks.
    pub left: u64,
    /// Bytes of `toprocess` that are claimed.
    pub cursor: u64,
    /// Bytes of it that are not.
    pub rest: u64,
    /// Whether there is something to settle or to give back.
    pub has_pending: bool,
    /// Since the last turn.
    pub since_turn: Duration,
    /// Since `toprocess` was last rewritten.
    pub since_compaction: Duration,
}

impl LedgerView {
    /// Whether a turn should come now. `is_starved`: a slot has asked for a task.
    pub fn is_turn_due(&self, pace: &Pace, is_starved: bool) -> bool {
        self.rest(pace, is_starved).is_zero() && self.wants_turn(pace)
    }

    /// How long no turn may come, were there a reason for one.
    pub fn rest(&self, pace: &Pace, is_starved: bool) -> Duration {
        if self.is_last_settling() {
            return Duration::ZERO;
        }
        let gap = if is_starved && self.left > 0 {
            pace.starved_gap(self.live)
        } else {
            pace.gap(self.live)
        };
        gap.saturating_sub(self.since_turn)
    }

    /// Whether there is anything to do under the lock.
    pub fn wants_turn(&self, pace: &Pace) -> bool {
        let ahead = pace.lookahead(self.live, self.left);
        let could_claim = !self.is_paused
            && self.left > 0
            && (self.idle > self.queued || self.queued < ahead.div_ceil(2));
        could_claim || self.has_pending || self.surplus(pace) > 0 || self.is_compaction_due(pace)
    }

    /// Our last task has ended and there is no other: the run may wait for this
    /// turn alone, and it is the last for a while.
    pub fn is_last_settling(&self) -> bool {
        self.has_pending && self.left == 0 && self.is_idle()
    }

    /// Whether no slot has a task or will have one.
    pub fn is_idle(&self) -> bool {
        self.idle + self.barred == self.slots && self.queued == 0
    }

    /// Whether the state of the run should be read: we have nothing to do, and nothing is left
    /// to claim, or so little that the others may have taken it since our last turn. They claim
    /// up to two tasks for each slot at a time.
    pub fn wants_look(&self) -> bool {
        let others = u64::from(self.live.saturating_sub(1));
        self.is_idle() && self.left <= 2 * self.slots * others
    }

    /// Claimed tasks that wait here although others could start them: what does
    /// not start soon, once there is nothing else to claim; and what was claimed
    /// when tasks were short, once they are long.
    pub fn surplus(&self, pace: &Pace) -> u64 {
        if self.is_paused {
            return self.queued;
        }
        let is_overdue = !self.has_pending && pace.is_overdue(self.since_turn, self.live);
        let keep = match self.left {
            _ if self.live < 2 => self.queued,
            _ if is_overdue => 0,
            0 => pace.soon(),
            _ => self.queued,
        };
        self.queued.saturating_sub(self.idle + keep)
    }

    /// Whether `toprocess` should be rewritten: now and then, and never so often that it costs
    /// more than a few writes for every claimed line.
    pub fn is_compaction_due(&self, pace: &Pace) -> bool {
        self.cursor > 0
            && (self.rest <= 1 << 20 || self.cursor >= self.rest / 8)
            && self.since_compaction > self.compact_every(pace)
    }

    /// After how long this farmer does it: a second for each that is alive, up to
    /// a minute; and then one after the other, since the others see only at their
    /// next turn that it is done, and would all have made a copy in vain.
    pub fn compact_every(&self, pace: &Pace) -> Duration {
        let live = self.live.max(1);
        let nth = (u64::from(self.farmer) + self.generation) % u64::from(live);
        let queue = pace.gap(live) * u32::try_from(nth).unwrap_or(u32::MAX);
        Duration::from_secs(1) * live.min(60) + queue
    }
}

#[cfg(test)]
mod tests {
    use super::super::pace::Ends;
    use super::*;

    const QUIET: LedgerView = LedgerView {
        slots: 4,
        idle: 0,
        queued: 0,
        barred: 0,
        is_paused: false,
        live: 2,
        farmer: 0,
        generation: 2,
        left: 100,
        cursor: 0,
        rest: 1000,
        has_pending: false,
        since_turn: Duration::from_secs(60),
        since_compaction: Duration::from_secs(2 * 60),
    };

    #[test]
    fn a_turn_needs_a_reason_and_a_rest_or_an_idle_slot() {
        let pace = Pace::new(1);
        assert!(!QUIET.is_turn_due(&pace, true), "nothing to do");
        let news = LedgerView {
            has_pending: true,
            ..QUIET
        };
        assert!(news.is_turn_due(&pace, false));
        let early = LedgerView {
            since_turn: Duration::ZERO,
            ..news
        };
        assert!(!early.is_turn_due(&pace, false), "it has not rested");
        assert!(early.is_turn_due(&pace, true), "a slot is idle");
        let last = LedgerView {
            left: 0,
            idle: 4,
            ..early
        };
        assert!(last.is_turn_due(&pace, false), "the run waits for it");
    }

    #[test]
    fn who_has_nothing_to_do_looks_where_others_may_have_taken_the_rest() {
        let idle = LedgerView { idle: 4, ..QUIET };
        let looks = |left, live| LedgerView { live, left, ..idle }.wants_look();
        assert!(looks(0, 1) && looks(8, 2) && looks(100, 1000));
        assert!(!looks(1, 1), "nobody else could take it");
        assert!(!looks(9, 2), "they could not take so many");
        assert!(
            !LedgerView { left: 0, ..QUIET }.wants_look(),
            "all are busy"
        );
    }

    #[test]
    fn a_long_rest_is_copied_only_when_much_is_claimed() {
        let large = LedgerView {
            cursor: 1 << 20,
            rest: 1 << 24,
            ..QUIET
        };
        let pace = Pace::new(1);
        assert!(!large.is_compaction_due(&pace));
        let more = LedgerView {
            cursor: 1 << 21,
            ..large
        };
        assert!(more.is_compaction_due(&pace));
        let again = LedgerView {
            since_compaction: Duration::ZERO,
            ..more
        };
        assert!(!again.is_compaction_due(&pace));
    }

    #[test]
    fn of_many_farmers_one_copies_at_a_time() {
        let pace = Pace::new(1);
        let due = |farmer, generation| {
            let view = LedgerView {
                live: 100,
                farmer,
                generation,
                ..QUIET
            };
            view.compact_every(&pace)
        };
        let first = (0..100).map(|farmer| due(farmer, 7)).min();
        assert_eq!(first, Some(Duration::from_secs(60)));
        let mut all: Vec<_> = (0..100).map(|farmer| due(farmer, 7)).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|two| two[1] >= two[0] + pace.gap(100)));
        assert_ne!(due(3, 7), due(3, 8), "not always the same");
    }

    #[test]
    fn what_waits_here_in_vain_is_surplus() {
        let pace = Pace::new(1);
        let full = LedgerView {
            left: 0,
            queued: 9,
            ..QUIET
        };
        assert_eq!(full.surplus(&pace), 9);
        assert_eq!(LedgerView { live: 1, ..full }.surplus(&pace), 0);
        let held = LedgerView {
            is_paused: true,
            ..QUIET
        };
        assert_eq!(LedgerView { queued: 3, ..held }.surplus(&pace), 3);
    }

    #[test]
    fn what_was_claimed_when_tasks_were_short_is_surplus_once_they_are_long() {
        let mut pace = Pace::new(1);
        let turn = Duration::from_millis(2);
        let short = Ends {
            count: 300,
            ran: Duration::from_secs(4),
        };
        pace.measured(turn, turn, short, Duration::from_secs(1), 4);
        let waits = |since_turn| {
            let busy = LedgerView {
                left: 1000,
                queued: 9,
                idle: 0,
                since_turn: Duration::from_secs(since_turn),
                ..QUIET
            };
            busy.surplus(&pace)
        };
        assert_eq!((waits(1), waits(10)), (0, 9));
    }
}
