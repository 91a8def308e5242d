//! How the threads of a farmer wait for the lock: with pauses that the
//! supervisor can end.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::clock::Clock;
use super::message::Event;
use crate::workdir::lock::Waiting;

/// The waits of one thread.
pub struct Patience {
    clock: Clock,
    /// Disconnected when nobody wants to wait any more.
    abort: Receiver<()>,
    events: Option<Sender<Event>>,
    takeover: Duration,
    launched: u32,
    random: u64,
}

impl Patience {
    /// Waits until `abort` is disconnected; tells of long waits by `events`, or
    /// on standard error.
    pub fn new(abort: Receiver<()>, events: Option<Sender<Event>>, takeover: Duration) -> Self {
        let random = RandomState::new().hash_one(0) | 1;
        Self {
            clock: Clock::start(),
            abort,
            events,
            takeover,
            launched: 1,
            random,
        }
    }

    /// The same, of one of so many processes that were launched together.
    #[must_use]
    pub fn among(self, launched: u32) -> Self {
        Self { launched, ..self }
    }
}

impl Waiting for Patience {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn micros(&self) -> u64 {
        self.clock.micros(Instant::now())
    }

    fn pause(&mut self, time: Duration) -> bool {
        matches!(
            self.abort.recv_timeout(time),
            Err(RecvTimeoutError::Timeout)
        )
    }

    fn jitter(&mut self) -> f64 {
        // xorshift64: good enough to keep waiters out of step.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        f64::from(u32::try_from(self.random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    fn tell(&mut self, message: String) {
        match &self.events {
            Some(events) => {
                let _ = events.send(Event::Say(message));
            }
            None => {
                let _ = std::io::Write::write_fmt(
                    &mut std::io::stderr(),
                    format_args!("pytf: {message}\n"),
                );
            }
        }
    }

    fn takeover(&self) -> Duration {
        self.takeover
    }

    fn crowd(&self) -> u32 {
        self.launched
    }
}
