//! The one lock of a workdir, and the three ways to take it.
//!
//! Guarantee: between [`acquire`] and the drop of what it returned, no other process holds the
//! lock, on any node. A wait is a try and a pause, or a moment in the queue of the kernel,
//! again and again, so that it can be canceled.
//!
//! A lock is released when its process ends, but when a *node* dies, NFS 3 may never release
//! it. Then the file itself is replaced: waiters open it again for every try and find the new
//! one; the dead node's lock stays on the old one. The evidence is that the lock did not change
//! hands for the takeover time by the waiter's own clock; an exclusive name decides which
//! process does it. A holder that was only frozen writes to files that are not read any more:
//! the next holder rewrites all shared files before it does anything else. `breaking` does
//! that, `announce` keeps others from it when the lock has changed hands.

mod acquire;
mod announce;
mod breaking;
mod held;
mod kernel_queue;
mod name;

pub use acquire::acquire;
pub use announce::announce;
pub use held::Held;
pub use name::is_past;
