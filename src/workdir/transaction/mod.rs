//! The transaction: the one way in which shared files change.
//!
//! Take the lock, read the state, write after the committed ends or write new files beside the
//! old, and then write the state. Only that last write commits it; a process that dies before
//! it has done nothing. What it wrote after a committed end is overwritten or cut off by the
//! next transaction.
//!
//! The cost of a transaction depends on what it does, not on how many tasks
//! there are: a claim reads k lines at the cursor, a result appends a line.
//!
//! Its parts: `checks` (what is checked before something is written), `shared_files` (reading,
//! appending, replacing), `queue` (a queue of waiting tasks), `classes` (one queue per class), `requeued` (why and how often tasks were put
//! back) and `segments` (the log).

mod checks;
mod classes;
mod queue;
mod requeued;
mod segments;
mod shared_files;
mod txn;

pub(super) use classes::has_attributes;
pub use classes::{BlockedLine, parse_released};
pub use queue::{Claim, QueueCopy};
pub(super) use requeued::note;
pub use requeued::{Attempts, RequeueReason, parse_note};
pub use txn::Txn;
