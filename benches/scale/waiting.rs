//! The wait for the lock, as events: what `workdir::lock::acquire` does between
//! its tries; and the clock of whoever acts.

use std::time::Duration;

use pytf::model::pace::{LONG_WAIT, lock_pause};
use pytf::workdir::liveness::Waiting;

use crate::files::{Shared, as_f64};

/// After how long a farmer that gives no sign of life is taken for dead.
pub(crate) const TAKEOVER: Duration = Duration::from_secs(2 * 60);

/// The clock of whoever acts, as the workdir code asks for it.
pub(crate) struct SimWaiting {
    server: Shared,
    random: u64,
}

impl SimWaiting {
    pub(crate) fn new(server: &Shared, random: u64) -> Self {
        let server = server.clone();
        Self { server, random }
    }
}

impl Waiting for SimWaiting {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.server.lock().clock)
    }

    fn micros(&self) -> u64 {
        1_800_000_000_000_000 + self.server.lock().clock / 1000
    }

    fn pause(&mut self, time: Duration) -> bool {
        self.server.lock().clock += u64::try_from(time.as_nanos()).unwrap_or(0);
        true
    }

    fn jitter(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        as_f64(self.random >> 33) / as_f64(1 << 31)
    }

    fn notify(&mut self, _: String) {}

    fn takeover(&self) -> Duration {
        TAKEOVER
    }
}

/// The tries of one wait for the lock.
pub(crate) struct Wait {
    pub(crate) since: u64,
    tries: u32,
    effort: u64,
    contenders: u32,
}

impl Wait {
    /// It begins; so many farmers may want the lock, as far as this one knows.
    pub(crate) fn new(since: u64, contenders: u32) -> Self {
        Self {
            since,
            tries: 0,
            effort: 0,
            contenders,
        }
    }

    /// A try that fails, from the clock of the server on; `live` is what a look at
    /// the state would show. Returns the pause before the next, without jitter.
    pub(crate) fn fail(&mut self, server: &Shared, closes: bool, live: u32) -> Duration {
        let mut server = server.lock();
        let began = server.clock;
        // Open, lock, close.
        server.ask(2 + u64::from(closes));
        let took = server.clock - began;
        self.tries += 1;
        self.effort = if self.tries == 1 {
            took
        } else {
            (self.effort * 3 + took) / 4
        };
        let waited = Duration::from_nanos(server.clock - self.since);
        // A look at the state; and now and then at the holder.
        if waited >= LONG_WAIT && self.tries.is_multiple_of(8) {
            server.ask(4);
            self.contenders = self.contenders.max(live);
        }
        if self.tries >= 36 && self.tries.is_multiple_of(3) {
            server.ask(4);
        }
        let effort = Duration::from_nanos(self.effort);
        lock_pause(self.tries, waited, effort, self.contenders)
    }
}
