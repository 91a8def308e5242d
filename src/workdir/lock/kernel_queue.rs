//! The kernel's queue for the lock, where all processes that may want it are on its node:
//! the lock is granted in the order of arrival, at once, without failed tries.
//! Sixty processes that try again and again use more CPU time than their turns.
//!
//! A thread of ours waits in the queue, so that the wait can be canceled. Guarantee: if the
//! wait was canceled, the lock is released as soon as it is granted.

use crate::workdir::fs::{Dir, File};
use crate::workdir::layout::LOCK;
use crate::workdir::mechanism::Mechanism;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// For how long a waiter waits in the queue before it checks anything else.
const STAND: Duration = Duration::from_millis(100);

/// Our place in the queue.
pub(super) struct QueuedLock {
    /// The file that we want to lock: others may put a new one in its place.
    inode: u64,
    served: Receiver<io::Result<Box<dyn File>>>,
}

/// The result of waiting in the queue for a while.
pub(super) enum Queued {
    /// The file, locked.
    Acquired(Box<dyn File>),
    /// Still waiting.
    Pending(QueuedLock),
    /// The queue is for a file that has been replaced, or it cannot be used.
    Stale,
}

impl QueuedLock {
    /// Joins the queue for this file, which another process has locked; `None` where there is
    /// no queue, or no thread can be started for it.
    pub(super) fn join(
        dir: &Arc<dyn Dir>,
        file: Box<dyn File>,
        mechanism: Mechanism,
    ) -> Option<Self> {
        if mechanism != Mechanism::Flock || !dir.is_local() {
            return None;
        }
        let inode = file.inode().ok()?;
        let (serve, served) = sync_channel(1);
        let stand = move || {
            let locked = file.lock().map(|()| file);
            // Not wanted any more: closed, and so released.
            drop(serve.send(locked));
        };
        let thread = thread::Builder::new().name("lock-queue".into());
        thread.stack_size(64 << 10).spawn(stand).ok()?;
        Some(Self { inode, served })
    }

    /// Waits in the queue for a moment.
    pub(super) fn wait(self, dir: &Arc<dyn Dir>) -> Queued {
        match self.served.recv_timeout(STAND) {
            Ok(Ok(file)) => Queued::Acquired(file),
            Err(RecvTimeoutError::Timeout)
                if dir.inode(LOCK).ok().flatten() == Some(self.inode) =>
            {
                Queued::Pending(self)
            }
            _ => Queued::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Instant;

    use super::*;
    use crate::workdir::error::Result;
    use crate::workdir::fs::{Open, RealDir};
    use crate::workdir::liveness::Waiting;
    use crate::workdir::lock::{Held, acquire};

    /// Asks before it waits on, so that the test knows that it waits.
    struct Asks(Sender<Sender<bool>>);

    impl Waiting for Asks {
        fn now(&self) -> Duration {
            static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
            BEGAN.get_or_init(Instant::now).elapsed()
        }
        fn micros(&self) -> u64 {
            0
        }
        fn pause(&mut self, _: Duration) -> bool {
            let (answer, answered) = channel();
            self.0.send(answer).is_err() || answered.recv().unwrap_or(true)
        }
        fn jitter(&mut self) -> f64 {
            0.5
        }
        fn notify(&mut self, _: String) {}
        fn takeover(&self) -> Duration {
            Duration::from_secs(2 * 60)
        }
    }

    fn place() -> (tempfile::TempDir, Arc<dyn Dir>) {
        let folder = tempfile::tempdir().unwrap();
        let dir: Arc<dyn Dir> = RealDir::open(folder.path()).unwrap();
        assert!(dir.is_local(), "{}", folder.path().display());
        (folder, dir)
    }

    fn lock(dir: &Arc<dyn Dir>) -> Held {
        let (nobody_hears, _) = channel();
        acquire(&dir.into(), "a test", &mut Asks(nobody_hears)).unwrap()
    }

    /// A process that waits for the lock, has asked three times, and goes on waiting
    /// if `goes_on`.
    fn waiter(dir: &Arc<dyn Dir>, goes_on: bool) -> thread::JoinHandle<Result<Held>> {
        let (ask, asked) = channel();
        let there = dir.clone();
        let waiter = thread::spawn(move || acquire(&(&there).into(), "a waiter", &mut Asks(ask)));
        for nth in 0..3 {
            asked.recv().unwrap().send(goes_on || nth < 2).unwrap();
        }
        waiter
    }

    #[test]
    fn a_waiter_is_served_when_the_lock_is_given_back() {
        let (_folder, dir) = place();
        let held = lock(&dir);
        let waiter = waiter(&dir, true);
        drop(held);
        drop(waiter.join().unwrap().unwrap());
        drop(lock(&dir));
    }

    #[test]
    fn who_stops_waiting_does_not_keep_what_comes_after_all() {
        let (_folder, dir) = place();
        let held = lock(&dir);
        assert!(waiter(&dir, false).join().unwrap().is_err());
        drop(held);
        drop(lock(&dir));
    }

    #[test]
    fn the_queue_for_a_file_that_was_replaced_is_left() {
        let (folder, dir) = place();
        let _held = lock(&dir);
        let waiter = waiter(&dir, true);
        dir.open("other", Open::CreateNew).unwrap();
        std::fs::copy(folder.path().join(LOCK), folder.path().join("other")).unwrap();
        dir.rename("other", LOCK).unwrap();
        drop(waiter.join().unwrap().unwrap());
    }
}
