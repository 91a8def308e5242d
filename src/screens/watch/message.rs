//! What the threads of the screen send to each other.

use std::io;

use super::snapshot::Snapshot;

/// What comes to the loop.
pub(super) enum Message {
    /// The run as it is now.
    Snapshot(Box<Snapshot>),
    /// The log that was asked for.
    Log(LogTail),
    /// The workdir could not be read this time.
    ReadFailed(String),
    Key(Key),
    /// The terminal has another size.
    Resized,
    Signal(i32),
    /// The terminal gives no more keys.
    InputClosed(io::Error),
    /// The reader has ended.
    ReaderEnded,
}

/// A key, as far as it means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Left,
    Right,
    Next,
    Previous,
    Enter,
    Escape,
    Backspace,
    /// Empties what is typed.
    Clear,
    Char(char),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Redraw,
}

/// What the screen wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The log of an attempt of a task.
    Open(u64, u32),
    /// No log.
    Close,
}

/// A log as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogTail {
    pub(super) id: u64,
    pub(super) attempt: u32,
    /// What it is the log of.
    pub(super) notes: Vec<String>,
    /// Its lines, the last ones of a long log.
    pub(super) lines: Vec<String>,
    /// Whether lines before them are left out.
    pub(super) is_cut: bool,
    /// Why there is nothing to show.
    pub(super) error: Option<String>,
}
