//! Time and its waits, as whoever waits for the lock has them.
//!
//! Others rely on this: a wait that ends early says so, and whoever wanted the lock gives
//! up then.

use super::watcher::Watcher;
use std::time::Duration;

/// Time and its waits, as whoever takes locks has them.
pub trait Waiting {
    /// The time since some beginning, by a clock that never runs backwards.
    fn now(&self) -> Duration;
    /// The time as records have it: microseconds since 1970.
    fn micros(&self) -> u64;
    /// Waits; `false` when the wait was ended and nobody wants the lock any more.
    fn pause(&mut self, time: Duration) -> bool;
    /// A random number from 0 to 1, so that waiters do not march in step.
    fn jitter(&mut self) -> f64;
    /// Tells people that a wait has become long.
    fn tell(&mut self, message: String);
    /// After how long a process that gives no sign of life is taken for dead.
    fn takeover(&self) -> Duration;
    /// How many processes may want the lock, as far as is known beforehand.
    fn crowd(&self) -> u32 {
        1
    }
    /// A heartbeat that was begun at this moment has arrived, and nobody had sealed us.
    fn renewed(&mut self, _begun: Duration) {}
    /// What is known of other farmers; `None` for whoever looks at nobody.
    fn watcher(&mut self) -> Option<&mut Watcher> {
        None
    }
    /// Ends what is left of the tasks of a farmer of our node that is being sealed.
    fn end_tasks(&mut self, _farmer: &str) {}
}

/// A wait for tests.
#[cfg(test)]
pub(in crate::workdir) mod samples {
    use std::time::Duration;

    use super::Waiting;

    /// Whoever does not wait: no time passes, and a lock that is held is given up.
    pub(in crate::workdir) struct Now;

    impl Waiting for Now {
        fn now(&self) -> Duration {
            Duration::ZERO
        }
        fn micros(&self) -> u64 {
            0
        }
        fn pause(&mut self, _: Duration) -> bool {
            false
        }
        fn jitter(&mut self) -> f64 {
            0.0
        }
        fn tell(&mut self, _: String) {}
        fn takeover(&self) -> Duration {
            Duration::from_mins(2)
        }
    }
}
