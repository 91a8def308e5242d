//! Files of lines: what is known of them, reading them, and writing new ones.

pub mod checksum;
mod extent;
mod lines;
mod new_file;
mod read;

pub use checksum::CHANGED;
pub use extent::{Committed, Head};
pub use lines::{Lines, lines_of};
pub use new_file::{NEW, NewFile};
pub use read::{read_from, read_full, retry_stale, sum_of};
