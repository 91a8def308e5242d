//! What the file `lock` holds: the state of the workdir and the newest segment of the
//! log of its transactions.
//!
//! ```text
//! 0      the format, for programs that know only older ones   ( 1024 bytes)
//! 2048   who took the lock last, for people                   (  512 bytes)
//! 4096   state, written by transactions with an even number   (16384 bytes)
//! 20480  state, written by transactions with an odd number    (16384 bytes)
//! 36864  the log: one line of JSON per transaction
//! ```
//!
//! The first kilobyte and the holder's line are where format 1 has them, so a program that
//! knows only format 1 refuses the workdir, and programs of different formats can wait for
//! each other's lock.
//!
//! A transaction first writes its line of the log after the committed end, then the state that
//! refers to it, in the place of the older state. **Writing the state commits everything in the
//! transaction**: claims, results, requeued tasks, new files. Whatever was written after a
//! committed length before that is uncommitted. Each state carries a checksum of itself and of
//! its line of the log, so after a torn write the older state is the current one. **No byte of
//! the segment that the current state refers to is ever overwritten**: a new segment begins
//! before or after it.
//!
//! `fields` is the state, `place` how it is written, `log` the lines of the log, `members`
//! who is alive by them, `lock_file` the file; `format1` reads the format before this one.

mod fields;
mod format1;
mod lock_file;
mod log;
mod members;
mod place;

pub use fields::{FORMAT, ListIdentity, Log, PLAIN, Queue, Rename, State};
pub use lock_file::{
    mechanism_in, peek, read, read_holder, read_locked, write, write_again, write_holder,
    write_new, write_place,
};
pub use log::{Act, Entry, Member, bytes, bytes_since, entries, kept, parse_entries, segment_of};
pub use members::Members;
#[cfg(test)]
pub(super) use members::samples;
pub use place::LOG_AT;

#[cfg(test)]
mod tests;
