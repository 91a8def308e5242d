//! What the readers of all lists need of a text.

use crate::model::shell_text::{Quoting, push_quoted};

/// The result of reading a part of a list.
pub(super) type Result<T> = std::result::Result<T, crate::model::tool::Refusal>;

/// The lines of a text with their numbers, without their ends.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    let lines = whole.split(|&byte| byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    (1..)
        .zip(lines)
        .take(if text.is_empty() { 0 } else { usize::MAX })
}

/// Without the blanks around it.
pub(super) fn trim(line: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = line.iter().position(|byte| !is_blank(byte));
    let end = line.iter().rposition(|byte| !is_blank(byte));
    match (begin, end) {
        (Some(begin), Some(end)) => &line[begin..=end],
        _ => b"",
    }
}

/// Whether a text is there.
pub(super) fn mentions(text: &[u8], word: &str) -> bool {
    memchr::memmem::find(text, word.as_bytes()).is_some()
}

/// An expression of the shell for the id of a task and so many more.
pub(super) fn id_plus(more: i64) -> String {
    match more {
        0 => "$PYTF_TASK_ID".to_owned(),
        more => format!("$((PYTF_TASK_ID{more:+}))"),
    }
}

/// The number of a line beside that of its task, which is not larger.
pub(super) fn difference(line: u64, task: u64) -> i64 {
    i64::try_from(line).unwrap_or(i64::MAX) - i64::try_from(task).unwrap_or(i64::MAX)
}

/// A text in quotes for the shell.
pub(super) fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push_quoted(&mut out, text, Quoting::Bare);
    out
}

/// For a message.
pub(super) fn shown(text: &[u8]) -> String {
    const MOST: usize = 200;
    let text = String::from_utf8_lossy(&text[..text.len().min(MOST)]);
    text.escape_debug()
        .to_string()
        .replace("\\\"", "\"")
        .replace("\\'", "'")
}
