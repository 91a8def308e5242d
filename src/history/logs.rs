//! The logs of tasks: the file that a journal names, and its last lines.
//!
//! A file that a journal names is opened only if it is inside the workdir.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::open;
use crate::model::escape::{escape, without_colours};
use crate::model::logs::{log_name, stderr_name};
use crate::model::record::LogAt;
use crate::model::task::TaskId;

/// The file that a journal names as a log; `None` when it is not in the workdir.
pub(crate) fn log_path(workdir: &Path, log: &LogAt) -> Option<PathBuf> {
    let is_inside = Path::new(&log.file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    is_inside.then(|| workdir.join(&log.file))
}

/// The file of standard error in a split log, as [`log_path`] has that of standard output.
pub(crate) fn stderr_path(workdir: &Path, log: &LogAt) -> Option<PathBuf> {
    log_path(workdir, &LogAt::whole(log.stderr.clone()?))
}

/// The log of an attempt that no end names yet, if it has files of its own.
pub(crate) fn unrecorded_log(workdir: &Path, id: TaskId, attempt: u32) -> LogAt {
    let file = log_name(id, attempt);
    let stderr = stderr_name(&file);
    LogAt {
        stderr: workdir.join(&stderr).exists().then_some(stderr),
        ..LogAt::whole(file)
    }
}

/// How much of the end of a log is read.
const READ: u64 = 16 << 10;

/// The last `lines` lines of a log that are not blank, fit to be printed: those of standard
/// error, or where that has none those of standard output. Empty where there is no such log:
/// that is not an error for the caller.
pub fn log_tail(workdir: &Path, log: &LogAt, lines: usize) -> Vec<String> {
    let of_stderr = stderr_path(workdir, log).map(|path| tail(&path, None, lines));
    let of_stderr = of_stderr.filter(|lines| !lines.is_empty());
    let of_stdout = || log_path(workdir, log).map(|path| tail(&path, log.part, lines));
    of_stderr.or_else(of_stdout).unwrap_or_default()
}

/// The same of one file; `part` is the offset and the length of a part of a packed log.
fn tail(path: &Path, part: Option<(u64, u64)>, lines: usize) -> Vec<String> {
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
            assert_eq!(super::tail(&path, part, 3), tail);
        }
        let path = dir.file("logs/log_0", one_long.as_bytes());
        assert_eq!(tail(&path, None, 3).len(), 1);
        assert!(tail(&dir.path().join("none"), None, 3).is_empty());
        assert!(tail(dir.path(), None, 3).is_empty());
    }

    /// Why a task failed is mostly in standard error; where that is empty, in the other.
    #[test]
    fn the_tail_of_a_split_log_is_that_of_standard_error() {
        let dir = workdir(&[]);
        dir.file("logs/log_0", b"out\n");
        let split = |stderr: &str| LogAt {
            stderr: Some(stderr.to_owned()),
            ..LogAt::whole("logs/log_0".to_owned())
        };
        dir.file("logs/log_0.err", b"err\n");
        assert_eq!(
            unrecorded_log(dir.path(), TaskId(0), 1),
            split("logs/log_0.err")
        );
        assert_eq!(log_tail(dir.path(), &split("logs/log_0.err"), 3), ["err"]);
        dir.file("logs/log_0.err", b" \n");
        for stderr in ["logs/log_0.err", "logs/none", "../logs/log_0"] {
            assert_eq!(log_tail(dir.path(), &split(stderr), 3), ["out"], "{stderr}");
        }
    }
}
