//! The clock and the waits of a process that takes locks.
//!
//! Guarantee: after a canceled wait the lock is not taken.

use super::watcher::Watcher;
use std::time::Duration;

/// Time and waits, as the code that takes locks needs them.
pub trait Waiting {
    /// The time since some beginning, by a clock that never runs backwards.
    fn now(&self) -> Duration;
    /// The time as records have it: microseconds since 1970.
    fn micros(&self) -> u64;
    /// Waits; `false` when the wait was canceled and the lock is not wanted any more.
    fn pause(&mut self, time: Duration) -> bool;
    /// A random number from 0 to 1, so that waiters do not all try at the same time.
    fn jitter(&mut self) -> f64;
    /// Reports that a wait has become long.
    fn notify(&mut self, message: String);
    /// The takeover time.
    fn takeover(&self) -> Duration;
    /// How many processes may want the lock, as far as is known beforehand.
    fn contenders(&self) -> u32 {
        1
    }
    /// A heartbeat that began at this moment was written, and we were not fenced.
    fn lease_renewed(&mut self, _begun: Duration) {}
    /// What is known of other farmers; `None` for a process that does not observe any.
    fn watcher(&mut self) -> Option<&mut Watcher> {
        None
    }
    /// Ends what still runs of the tasks of a farmer of our node that is being fenced.
    fn end_tasks(&mut self, _farmer: &str) {}
}

/// A wait and a node for tests.
#[cfg(test)]
pub(in crate::workdir) mod samples {
    use std::time::Duration;

    use super::Waiting;
    use crate::model::identity::Process;
    use crate::model::record::{Header, NodeId};
    use crate::workdir::liveness::own_node::Node;

    /// A node that knows nothing of itself or of any process.
    pub(in crate::workdir) struct Unknown;

    impl Node for Unknown {
        fn id(&self) -> Option<&NodeId> {
            None
        }
        fn process(&self, _: &Header) -> Process {
            Process::Unknown
        }
    }

    /// Does not wait: no time passes, and a wait for a held lock is canceled.
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
        fn notify(&mut self, _: String) {}
        fn takeover(&self) -> Duration {
            Duration::from_secs(2 * 60)
        }
    }
}
