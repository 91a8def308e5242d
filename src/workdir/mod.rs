//! The workdir: the protocol by which farmers on any nodes share one list of
//! tasks through files.
//!
//! ```text
//! lock        who may change the shared files now; the state; the log of transactions
//! tasks       "id command": every task the workdir has known
//! toprocess   "id command": unclaimed tasks
//! finished    "id command": ended with exit status 0
//! failed      "id command": ended otherwise
//! requeued    "id attempt why": put back into toprocess
//! toprocess.N the same, of a class of tasks; blocked, released: tasks that wait for others
//! orders      what farmers were asked to do, and which tasks were added or cancelled
//! nodes/      one journal per farmer: what it started and how it ended; its lock
//!             shows that the farmer is alive
//! nodes/done/ the journals of farmers that have left or were fenced
//! logs/       what the tasks printed
//! ```
//!
//! Read it from the ground up. Each module uses only those above it:
//!
//! ```text
//! layout, mechanism, fs, error, files   names, ways to lock, the file system, files of lines
//! state, journal, membership            what is recorded: state and log, journals, who is alive
//! liveness, lock                        who is alive as others see it; the lock
//! transaction, fencing                  how shared files change; how a farmer learns it is fenced
//! orders, blocked, cancel, retry, quarantine, feed, recovery, names, resume, add, edit
//!                                       what is done by transactions
//! exclusion, open, folder, session      a workdir as a farmer uses it
//! copies, check, upgrade, repair        damage, and older formats
//! reset, sort                           starting over, or in another order
//! ```
//!
//! Nothing in here starts a process, and a thread is only started to wait in the kernel's
//! queue for the lock.

// The ground: names, locking mechanisms, the file system, errors, files of lines.
pub mod error;
pub mod files;
pub mod fs;
pub mod layout;
pub mod mechanism;
// What is recorded: the state and the log, journals, who is alive by them.
pub mod journal;
pub mod membership;
pub mod state;
// Who is alive as far as others can see, and the lock.
pub mod liveness;
pub mod lock;
// The transaction, and what is done by it.
pub mod add;
mod blocked;
pub mod cancel;
pub mod edit;
pub mod feed;
pub mod fencing;
mod names;
pub mod orders;
pub mod quarantine;
pub mod recovery;
pub mod resume;
pub mod retry;
pub mod transaction;
// A workdir as a farmer uses it.
pub mod exclusion;
pub mod folder;
pub mod open;
pub mod session;
pub mod sort;
// Damage and older formats.
pub mod check;
pub mod copies;
pub mod repair;
pub mod reset;
pub mod upgrade;
