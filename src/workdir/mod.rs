//! The workdir: the protocol by which farmers on any nodes share one list of
//! tasks through files.
//!
//! ```text
//! lock        who may change the shared files now; the state; the log of transactions
//! tasks       "id command": every task the workdir has known
//! toprocess   "id command": nobody has claimed it
//! finished    "id command": ended with exit status 0
//! failed      "id command": ended otherwise
//! requeued    "id attempt why": put back into toprocess
//! nodes/      one journal a farmer: what it started and how it ended; and by
//!             its lock: that it lives
//! nodes/done/ the journals of farmers that are over
//! logs/       what the tasks printed
//! ```
//!
//! Read [`state`] first (what makes a transaction true), then [`commit`] (the
//! transaction), then [`session`] (a farmer's part, from joining to leaving) and
//! [`recovery`] (what follows from a death). Nothing in here starts a process, and a
//! thread is only started to stand in the kernel's queue for the lock.

pub mod check;
pub mod commit;
pub mod error;
pub mod exclusion;
pub mod farmers;
pub mod feed;
pub mod fs;
pub mod journal;
pub mod layout;
pub mod lines;
pub mod lock;
pub mod new_file;
pub mod node;
pub mod open;
pub mod quarantine;
pub mod recovery;
pub mod repair;
pub mod resume;
pub mod retry;
pub mod rights;
pub mod session;
pub mod state;
pub mod upgrade;
pub mod watch;
