//! The file system: a small trait, and the real one.

mod dir;
mod real;
mod rights;

pub use dir::{Dir, File, NotAFile, Open, Workdir, is_no_folder};
pub use real::RealDir;
pub(in crate::workdir) use real::uninterrupted;
pub use rights::{Rights, Trust};
