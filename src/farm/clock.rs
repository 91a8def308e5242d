//! The farmer's clock: the wall clock at its start, carried on by the monotonic one, so that
//! setting the wall clock back changes nothing here.

use std::time::{Duration, Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// The time since the boot, including the time that the machine was suspended: meanwhile
/// other farmers run, and the allocation gets shorter.
pub(super) fn since_boot() -> Duration {
    // Where there is no such clock, one that stops during a suspend is used.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC))
        .map_or(Duration::ZERO, Duration::from)
}

/// Microseconds since 1970, from a beginning and a monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    began_at: Duration,
}

impl Clock {
    /// Reads the wall clock, once.
    pub(super) fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            began: Instant::now(),
            began_at: since_1970.unwrap_or_default(),
        }
    }

    /// When the farmer began, by the monotonic clock.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A moment, as records have it.
    pub(super) fn micros(&self, at: Instant) -> u64 {
        let since = self.began_at + at.saturating_duration_since(self.began);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}
