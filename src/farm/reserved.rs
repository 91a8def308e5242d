//! Threads that are there before their work is: they are started first, and wait.
//!
//! Others rely on this: whatever the system refuses is known before this process
//! joins a run and takes tasks from it.

use std::io;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

/// Slots, ledger and their like hold little on their stacks, and may be hundreds.
const STACK: usize = 256 << 10;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that waits for its work. Dropped without, it ends.
pub(super) struct Hand {
    work: Sender<Work>,
    thread: JoinHandle<()>,
}

impl Hand {
    /// Starts a thread.
    pub(super) fn hire(name: &str) -> io::Result<Self> {
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

    /// Gives it its work.
    pub(super) fn start(self, work: impl FnOnce() + Send + 'static) {
        // It waits for nothing else, so it is there.
        let _ = self.work.send(Box::new(work));
    }

    /// Ends it without work; returns when it is gone.
    fn dismiss(self) {
        drop(self.work);
        // It has done nothing that could panic.
        let _ = self.thread.join();
    }
}

/// The threads of a farmer that join a run with it.
pub(super) struct Crew {
    pub(super) ledger: Hand,
    /// Reads a stream of tasks.
    pub(super) feeder: Option<Hand>,
    pub(super) slots: Vec<Hand>,
}

impl Crew {
    /// Starts them, with as many slots as there may be.
    pub(super) fn hire(slots_wanted: u32, feeds: bool) -> io::Result<Self> {
        Ok(Self {
            ledger: Hand::hire("ledger")?,
            feeder: feeds.then(|| Hand::hire("feeder")).transpose()?,
            slots: slots(slots_wanted)?,
        })
    }
}

/// The threads of so many slots, or of as many as the system allows: then half of
/// those, since each slot needs a process for its task as well.
fn slots(wanted: u32) -> io::Result<Vec<Hand>> {
    let mut hands = Vec::new();
    for number in 0..wanted {
        match Hand::hire(&format!("slot-{number}")) {
            Ok(hand) => hands.push(hand),
            Err(error) if hands.is_empty() => return Err(error),
            Err(_) => {
                let keep = (hands.len() / 2).max(1);
                hands.drain(keep..).for_each(Hand::dismiss);
                break;
            }
        }
    }
    Ok(hands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_does_its_work_and_ends_without() {
        let (done, is_done) = bounded(1);
        let mut hands = slots(2).unwrap();
        assert_eq!(hands.len(), 2);
        hands.pop().unwrap().dismiss();
        let hand = hands.pop().unwrap();
        hand.start(move || done.send(7).unwrap());
        assert_eq!(is_done.recv(), Ok(7));
    }
}
