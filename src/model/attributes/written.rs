//! Where attributes begin in a line as users write it.

use memchr::{memchr_iter, memrchr_iter};

use crate::model::shell_text::comment;

/// The word by which a line, or the end of one, is ours.
pub const WORD: &[u8] = b"#PYTF";

/// What follows the word in a line that is a directive. `#PYTF:` and `#PYTFX` are comments.
pub fn directive(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(WORD)?;
    rest.first()
        .is_none_or(|byte| matches!(byte, b' ' | b'\t'))
        .then_some(rest)
}

/// Where the directive at the end of a command begins: a comment with the exact word in it.
pub fn begin(task: &[u8]) -> Option<usize> {
    let is_word = |at: &usize| {
        let before = task[..*at].last();
        matches!(before, Some(b' ' | b'\t')) && directive(&task[*at..]).is_some()
    };
    let last = memrchr_iter(WORD[0], task).find(is_word)?;
    // Only now: to follow the quotes costs more.
    let comment = comment(task)?;
    let mut all = memchr_iter(WORD[0], &task[..=last]).filter(is_word);
    all.find(|at| *at >= comment)
}
