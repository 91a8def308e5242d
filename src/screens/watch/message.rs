//! What the threads of the screen send to each other.

use std::io;

use ratatui::crossterm::event::Event;

use super::snapshot::Snapshot;

/// What comes to the loop.
pub(super) enum Message {
    /// The run as it is now.
    Snapshot(Box<Snapshot>),
    /// The log that was requested.
    Log(LogTail),
    /// The workdir could not be read this time.
    ReadFailed(String),
    /// A key, or the terminal has another size; after an error nothing more comes.
    Input(io::Result<Event>),
    Signal(i32),
    /// The reader has ended.
    ReaderEnded,
}

/// A log as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogTail {
    pub(super) id: u64,
    pub(super) attempt: u32,
    /// Lines about the task and its log.
    pub(super) notes: Vec<String>,
    /// Its lines, the last ones of a long log.
    pub(super) lines: Vec<String>,
    /// Whether lines before them are left out.
    pub(super) is_cut: bool,
    /// Why there is nothing to show.
    pub(super) error: Option<String>,
}
