//! The logs of tasks: the file that a journal names, and its last lines.
//!
//! A file that a journal names is opened only if it is inside the workdir.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::open;
use crate::model::escape::{escape, without_colours};
use crate::model::record::LogAt;

/// The file that a journal names as a log; `None` when it is not in the workdir.
pub(crate) fn log_path(workdir: &Path, log: &LogAt) -> Option<PathBuf> {
    let is_inside = Path::new(&log.file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    is_inside.then(|| workdir.join(&log.file))
}

/// How much of the end of a log is read.
const READ: u64 = 16 << 10;

/// The last `lines` lines of a log that are not blank, fit to be printed;
/// `part` is the offset and the length of a part of a packed log. Empty where there is no
/// such log: that is not an error for the caller.
pub fn log_tail(path: &Path, part: Option<(u64, u64)>, lines: usize) -> Vec<String> {
    let Ok((bytes, _)) = open(path).and_then(|file| read_end(file, part, READ)) else {
        return Vec::new();
    };
    let mut last: Vec<String> = bytes
        .rsplit(|&byte| byte == b'\n')
        .map(shown)
        .filter(|line| !line.trim().is_empty())
        .take(lines)
        .collect();
    last.reverse();
    last
}

/// The last `most` bytes of a log or of a part of it, from the beginning of a line, and
/// whether that is not all.
pub(crate) fn read_end(
    mut file: File,
    part: Option<(u64, u64)>,
    most: u64,
) -> io::Result<(Vec<u8>, bool)> {
    let length = file.metadata()?.len();
    let (begin, end) = part.map_or((0, length), |(begin, part)| {
        (begin, begin.saturating_add(part).min(length))
    });
    let from = begin.max(end.saturating_sub(most));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(end.saturating_sub(from))
        .read_to_end(&mut bytes)?;
    let is_cut = from > begin;
    if is_cut && let Some(at) = memchr::memchr(b'\n', &bytes) {
        bytes.drain(..=at);
    }
    Ok((bytes, is_cut))
}

/// A line of a log as it is on a terminal in the end: what follows the last CR.
fn shown(line: &[u8]) -> String {
    let line = line.trim_ascii_end();
    let begin = memchr::memrchr(b'\r', line).map_or(0, |at| at + 1);
    escape(&without_colours(&line[begin..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::synthetic::workdir;

    #[test]
    fn the_tail_of_a_log() {
        let dir = workdir(&[]);
        let many: Vec<String> = (0..10_000).map(|n| format!("line {n}\n")).collect();
        let many = many.concat();
        let one_long = "y".repeat(100_000);
        for (log, part, tail) in [
            (&b""[..], None, &[][..]),
            (b"one", None, &["one"]),
            (b"one\n\n  \ntwo\n\n", None, &["one", "two"]),
            (b"1\n2\n3\n4\n", None, &["2", "3", "4"]),
            (b"10%\r50%\r100%\r\n", None, &["100%"]),
            (b"\x1b[31mred\x1b[0m \x1b[2J\n", None, &["red ^[[2J"]),
            (b"aa\nbb\ncc\n", Some((3, 3)), &["bb"]),
            (b"aa\nbb\n", Some((3, 100)), &["bb"]),
            (b"aa\nbb\n", Some((100, u64::MAX)), &[]),
            (
                many.as_bytes(),
                None,
                &["line 9997", "line 9998", "line 9999"],
            ),
        ] {
            let path = dir.file("logs/log_0", log);
            assert_eq!(log_tail(&path, part, 3), tail);
        }
        let path = dir.file("logs/log_0", one_long.as_bytes());
        assert_eq!(log_tail(&path, None, 3).len(), 1);
        assert!(log_tail(&dir.path().join("none"), None, 3).is_empty());
        assert!(log_tail(dir.path(), None, 3).is_empty());
    }
}
