//! The blanks around a line, and the backslash at its end.

/// Without the blanks around it, as PyTaskFarmer; but a blank that a backslash
/// escapes belongs to the command: `rm my\ ` names a file that ends in a blank.
pub(super) fn trim(line: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let begin = line.iter().position(|b| !blank(b)).unwrap_or(line.len());
    let line = &line[begin..];
    let end = line
        .iter()
        .rposition(|b| !blank(b) && *b != b'\r')
        .map_or(0, |last| last + 1);
    let escaped = line.get(end).is_some_and(blank) && ends_in_escape(&line[..end]);
    &line[..end + usize::from(escaped)]
}

/// Whether the last byte is a backslash that is not itself escaped.
pub(super) fn ends_in_escape(text: &[u8]) -> bool {
    text.iter().rev().take_while(|&&b| b == b'\\').count() % 2 == 1
}
