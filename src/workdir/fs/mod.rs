//! The file system: a small trait, the real one, and one at the other end of a pipe.

mod dir;
mod pipe_dir;
mod pipe_server;
mod real;
mod rights;
mod wire;

pub use dir::{Dir, File, LockTry, NotAFile, Open, Workdir, is_no_folder};
pub use pipe_dir::{Input, PipeDir};
pub use pipe_server::{PipeServer, Readable};
pub use real::RealDir;
pub(in crate::workdir) use real::uninterrupted;
pub use rights::{Rights, Trust};
pub use wire::{read_frame, write_frame};
