//! Threads that are started before their work is known, and wait for it.
//!
//! Guarantee: when the system refuses threads, that is known before this process joins a run
//! and claims tasks.

use std::io;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

/// These threads need small stacks, and there may be hundreds of them.
const STACK: usize = 256 << 10;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that waits for its work. It ends when this is dropped before.
pub(super) struct ReservedThread {
    work: Sender<Work>,
    thread: JoinHandle<()>,
}

impl ReservedThread {
    /// Starts a thread of this name.
    pub(super) fn reserve(name: &str) -> io::Result<Self> {
        let (work, given) = bounded::<Work>(1);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK)
            .spawn(move || {
                if let Ok(work) = given.recv() {
                    work();
                }
            })?;
        Ok(Self { work, thread })
    }

    /// Lets it do this work.
    pub(super) fn run(self, work: impl FnOnce() + Send + 'static) {
        // It waits for nothing else, so it receives the work.
        let _ = self.work.send(Box::new(work));
    }

    /// Ends it without work; returns when it has ended.
    fn release(self) {
        drop(self.work);
        // It has done nothing that could panic.
        let _ = self.thread.join();
    }
}

/// The threads of a farmer that join a run with it.
pub(super) struct ReservedThreads {
    pub(super) ledger: ReservedThread,
    /// Reads a stream of tasks.
    pub(super) feeder: Option<ReservedThread>,
    pub(super) slots: Vec<ReservedThread>,
}

impl ReservedThreads {
    /// Starts them, with as many slots as there may be.
    pub(super) fn reserve(slots_wanted: u32, feeds: bool) -> io::Result<Self> {
        Ok(Self {
            ledger: ReservedThread::reserve("ledger")?,
            feeder: feeds
                .then(|| ReservedThread::reserve("feeder"))
                .transpose()?,
            slots: slots(slots_wanted)?,
        })
    }
}

/// These threads and as many more as make so many slots, if the system allows them.
pub(super) fn with_more(mut threads: Vec<ReservedThread>, wanted: u32) -> Vec<ReservedThread> {
    while threads.len() < wanted as usize {
        match ReservedThread::reserve(&format!("slot-{}", threads.len())) {
            Ok(thread) => threads.push(thread),
            Err(_) => break,
        }
    }
    threads
}

/// The threads of the wanted slots. When the system refuses one, half of those that were
/// started are kept, since each slot also needs a process for its task.
fn slots(wanted: u32) -> io::Result<Vec<ReservedThread>> {
    let mut threads = Vec::new();
    for number in 0..wanted {
        match ReservedThread::reserve(&format!("slot-{number}")) {
            Ok(thread) => threads.push(thread),
            Err(error) if threads.is_empty() => return Err(error),
            Err(_) => {
                let keep = (threads.len() / 2).max(1);
                threads.drain(keep..).for_each(ReservedThread::release);
                break;
            }
        }
    }
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_thread_runs_its_work_and_ends_without() {
        let (done, is_done) = bounded(1);
        let mut threads = slots(2).unwrap();
        assert_eq!(threads.len(), 2);
        threads.pop().unwrap().release();
        let thread = threads.pop().unwrap();
        thread.run(move || done.send(7).unwrap());
        assert_eq!(is_done.recv(), Ok(7));
    }
}
