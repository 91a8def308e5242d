//! Which farmers are alive, as far as a process can see it from its node: [`Watcher`] observes
//! journals, their locks and processes, [`judge`](fn@judge) asks `model::liveness` what that
//! proves, and [`Waiting`] is its clock and its waits.

mod judge;
pub mod own_node;
mod waiting;
mod watcher;

pub use judge::{judge, judge_missing};
pub use waiting::Waiting;
#[cfg(test)]
pub(in crate::workdir) use waiting::samples;
pub(in crate::workdir) use watcher::lock_of;
pub use watcher::{JournalView, Watcher, look_at};
