//! Preparing a workdir for its task list: the first time, again with the same
//! list, again with a changed one, and after PyTaskFarmer.
//!
//! Guarantee: a task's id is permanent, so a result always belongs to the same line; and one
//! process prepares, however many try at once.
//!
//! `list` reads a list: as a stream, so what is kept in memory of a task is a few words, never
//! its line. `changed` matches a changed one with the known tasks, `import` imports what
//! PyTaskFarmer left.

mod changed;
mod import;
mod list;
mod prepare;

pub use changed::{EditPolicy, ListChanges};
pub use list::{Bytes, ListFailure, ListFile};
pub use prepare::{ListSource, Prepared, prepare, prepare_stream};
