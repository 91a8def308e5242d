//! Tasks from a stream: read line by line, handed to the ledger as they come.
//!
//! The reading thread blocks on the stream and on a small channel, so a stream
//! that is faster than the farm waits, and memory stays flat.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::model::task::parse_line;
use crate::model::tasklist::{ListError, Parser, Remarks};
use crate::workdir::commit::{Lines, Txn};
use crate::workdir::error::{Context, Result};
use crate::workdir::fs::{Dir, Open};
use crate::workdir::layout::TASKS;

/// What comes out of a stream.
pub enum Fed {
    /// Lines that are tasks.
    Lines(Vec<Vec<u8>>),
    /// The stream is at its end.
    End(Remarks),
    /// It cannot be read on.
    Broken(String),
    /// A line can never run; nothing behind it is read.
    Wrong(ListError),
}

/// Reads a stream to its end, in a thread of its own.
pub fn read(mut stream: impl Read + Send + 'static, fed: Sender<Fed>) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("feeder".into())
        .spawn(move || {
            let mut parser = Parser::new();
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
        })?;
    Ok(())
}

/// Which lines of a stream the workdir knows already: the same generator run
/// again, or read by several farmers at once, adds nothing twice.
#[derive(Default)]
pub struct Occurrences {
    /// By text: how often the workdir has it, and how often this stream had it.
    counts: HashMap<u128, (u32, u32)>,
    read: u64,
}

impl Occurrences {
    /// Reads what others have added since the last time.
    pub fn refresh(&mut self, dir: &Arc<dyn Dir>, txn: &Txn<'_>) -> Result<()> {
        let known = txn.state().tasks.len;
        if self.read == known {
            return Ok(());
        }
        let file = dir.open(TASKS, Open::Create).context("open", TASKS)?;
        let mut lines = Lines::new(&*file, self.read, known);
        while let Some(line) = lines.next().context("read", TASKS)? {
            if let Some((_, text)) = parse_line(line) {
                self.counts.entry(key(text)).or_default().0 += 1;
            }
        }
        self.read = known;
        Ok(())
    }

    /// Whether a line of the stream is new; counts it.
    pub fn is_new(&mut self, line: &[u8]) -> bool {
        let (known, seen) = self.counts.entry(key(line)).or_default();
        *seen += 1;
        *seen > *known
    }
}

fn key(line: &[u8]) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, line).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}
