//! What is said of one task beside its command: its needs, its place in the order, when it is
//! tried again.
//!
//! A task that has any is stored with them at the end of its line, in every file of a workdir:
//! `./train a #PYTF gpus=2 time=8h`. So whatever moves a line moves them, too.

mod line;
mod text;
mod types;
pub mod values;
mod words;
mod written;

pub use line::{command, joined, push_attributes, split};
pub use text::Wrong;
pub use types::{Attributes, RetryCause, Stage};
pub use words::{Key, nearest};
pub use written::{WORD, begin, directive};
