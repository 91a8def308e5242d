//! Reads tasks from a stream, line by line, and passes them to the ledger as they arrive.
//!
//! The reading thread blocks on the stream and on a small channel. So a stream that is
//! faster than the farm waits, and the use of memory does not grow.

use std::io::Read;

use crossbeam_channel::Sender;

use crate::model::tasklist::{Dialect, ListError, Parser, Remarks};

/// What comes out of a stream.
pub(super) enum Fed {
    /// Lines that are tasks.
    Lines(Vec<Vec<u8>>),
    /// The stream is at its end.
    End(Remarks),
    /// A read failed.
    Broken(String),
    /// A line can never run; the lines after it are not read.
    Wrong(ListError),
}

/// Reads a stream to its end.
pub(super) fn read(mut stream: impl Read, dialect: Dialect, fed: &Sender<Fed>) {
    let mut parser = Parser::of(dialect);
    let mut chunk = vec![0; 1 << 16];
    let last = loop {
        let mut lines = Vec::new();
        let mut emit = |line: &[u8]| lines.push(line.to_vec());
        let (parsed, is_end) = match stream.read(&mut chunk) {
            Ok(0) => (parser.finish(&mut emit), true),
            Ok(read) => (parser.feed(&chunk[..read], &mut emit), false),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => break Fed::Broken(error.to_string()),
        };
        if !lines.is_empty() && fed.send(Fed::Lines(lines)).is_err() {
            return;
        }
        match parsed {
            Err(wrong) => break Fed::Wrong(wrong),
            Ok(()) if is_end => break Fed::End(parser.remarks()),
            Ok(()) => {}
        }
    };
    // The ledger may be gone already.
    let _ = fed.send(last);
}
