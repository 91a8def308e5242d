//! Why a list cannot be used.

use crate::model::tool::Tool;

/// Why a list cannot be used. Lines count from 1.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ListError {
    /// No command can hold a NUL byte.
    #[error(
        "line {line} holds a NUL byte: {}",
        if *utf16 { "the list seems to be UTF-16; write it as UTF-8" }
        else { "is this a list of commands, one per line?" }
    )]
    Nul {
        /// The line.
        line: u64,
        /// Whether the list begins like UTF-16 text.
        utf16: bool,
    },
    /// The line is longer than `LONGEST_LINE`.
    #[error("line {line} is longer than {limit} bytes: is this a list of commands, one per line?")]
    TooLong {
        /// The line.
        line: u64,
        /// The limit that it exceeds.
        limit: usize,
    },
    /// The line says something to another tool.
    #[error("line {line}, column {column}: {what}")]
    ForeignSyntax {
        /// The line.
        line: u64,
        /// The byte in it, counted from 1.
        column: u64,
        /// What it is and what to do.
        what: String,
        /// The part of the line by which it was told.
        mark: String,
        /// The tool, where its lists are understood.
        tool: Option<Tool>,
    },
    /// A directive that is not understood.
    #[error("line {line}, column {column}: {what}")]
    Directive {
        /// The line.
        line: u64,
        /// The byte in it, counted from 1.
        column: u64,
        /// What it is and what to do.
        what: String,
    },
    /// Lines end in CR alone, so the whole list is one.
    #[error(
        "its lines end in CR alone, as on old Macs, so it is a single line: \
         tr '\\r' '\\n' <LIST >NEW makes it a list"
    )]
    OldMac,
}
