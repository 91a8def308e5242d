//! Makes untrusted bytes safe to print.
//!
//! Task lines and what tasks print may hold anything: sequences that retitle or rewrite a
//! terminal, line ends that forge a line of ours, marks that change the reading direction.
//! Everything that `pytf` prints of them goes through here; the files keep the bytes as they
//! are.

use std::fmt::Write as _;

/// The text in one line: control characters in caret notation (`^[`), a tab as
/// a blank, C1 and direction marks as `<U+202E>`, invalid UTF-8 as `\xff`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    push_line(&mut out, bytes);
    out
}

/// As [`escape`], at the end of `out`.
pub fn push_line(out: &mut String, bytes: &[u8]) {
    // Nearly all lines are plain, and a timeline has millions of them.
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        out.extend(str::from_utf8(bytes));
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\t' {
                out.push(' ');
            } else {
                push_char(out, c);
            }
        }
        for byte in chunk.invalid() {
            // A write into a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// Appends a character, visible whatever it is.
fn push_char(out: &mut String, c: char) {
    match c {
        '\0'..='\x1f' | '\x7f' => {
            out.push('^');
            // Caret notation: 0x1b is ^[, and 0x7f is ^?.
            out.push(char::from(c as u8 ^ 0x40));
        }
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => {
            let _ = write!(out, "<U+{:04X}>", u32::from(c));
        }
        _ => out.push(c),
    }
}

/// The text cut to `width` characters, the last one an ellipsis when something
/// was cut.
pub fn clip(text: &str, width: usize) -> String {
    if text.len() <= width {
        return text.to_owned();
    }
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) if width == 0 => String::new(),
        Some(_) => text.chars().take(width - 1).chain(['…']).collect(),
    }
}

/// The bytes without their colours, which would be noise in a single line.
pub fn without_colours(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(found) = memchr::memchr(0x1b, &bytes[at..]) {
        out.extend_from_slice(&bytes[at..at + found]);
        at += found;
        if let Escape::Colour(length) = colour(&bytes[at..]) {
            at += length;
        } else {
            out.push(0x1b);
            at += 1;
        }
    }
    out.extend_from_slice(&bytes[at..]);
    out
}

/// Makes a stream fit for a terminal: as [`escape`], except that line ends,
/// tabs and colours stay. A character or colour may be cut between two pieces.
#[derive(Debug, Default)]
pub struct Stream {
    /// The end of the last piece, when it may be the begin of something longer.
    kept: Vec<u8>,
    /// Whether a colour was set and not taken back yet.
    coloured: bool,
}

/// The longest colour sequence that is waited for: `ESC [ 38;2;255;255;255 m`
/// and several of those in one.
const LONGEST_COLOUR: usize = 64;

/// What stands at the begin of some bytes.
enum Escape {
    /// A colour sequence of this length.
    Colour(usize),
    /// The begin of one, perhaps.
    Cut,
    /// Neither.
    Other,
}

impl Stream {
    /// Appends what can be printed of everything up to the end of `piece`.
    pub fn push(&mut self, out: &mut String, piece: &[u8]) {
        let mut bytes = std::mem::take(&mut self.kept);
        bytes.extend_from_slice(piece);
        let done = self.print(out, &bytes);
        self.kept = bytes.split_off(done);
    }

    /// Appends what was still kept back, and takes a colour back.
    pub fn finish(mut self, out: &mut String) {
        push_line(out, &std::mem::take(&mut self.kept));
        if self.coloured {
            out.push_str("\x1b[0m");
        }
    }

    /// Prints what is complete; returns how much that was.
    fn print(&mut self, out: &mut String, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match rest[0] {
                b'\n' | b'\t' => {
                    out.push(char::from(rest[0]));
                    at += 1;
                }
                // A line end as DOS has it.
                b'\r' if rest.get(1) == Some(&b'\n') => at += 1,
                b'\r' if rest.len() == 1 => return at,
                0x1b => match colour(rest) {
                    Escape::Colour(length) => {
                        let text = &rest[..length];
                        self.coloured = !matches!(text, b"\x1b[m" | b"\x1b[0m");
                        out.extend(text.iter().map(|&byte| char::from(byte)));
                        at += length;
                    }
                    Escape::Cut => return at,
                    Escape::Other => {
                        push_char(out, '\x1b');
                        at += 1;
                    }
                },
                _ => {
                    let special = |&byte: &u8| matches!(byte, b'\n' | b'\t' | b'\r' | 0x1b);
                    let end = rest.iter().position(special).unwrap_or(rest.len());
                    // A lone CR is not a line end here, only a character.
                    let end = end.max(1);
                    let whole = end - cut_tail(&rest[..end], end == rest.len());
                    push_line(out, &rest[..whole]);
                    at += whole;
                    if whole < end {
                        return at;
                    }
                }
            }
        }
        at
    }
}

/// How many bytes at the end of `text` may be the begin of a character whose
/// rest comes with the next piece.
fn cut_tail(text: &[u8], is_end: bool) -> usize {
    if !is_end {
        return 0;
    }
    (1..=text.len().min(3))
        .find(|length| {
            let tail = &text[text.len() - length..];
            // No `error_len`: the text ends within a character, which is not
            // wrong so far.
            tail[0] >= 0xc0
                && std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none())
        })
        .unwrap_or(0)
}

/// Whether bytes that begin with ESC begin with a colour: `ESC [ digits ; … m`.
fn colour(bytes: &[u8]) -> Escape {
    match bytes.get(1) {
        None => return Escape::Cut,
        Some(b'[') => {}
        Some(_) => return Escape::Other,
    }
    let inner = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b';' | b':');
    let length = 2 + bytes[2..].iter().take_while(inner).count();
    match bytes.get(length) {
        _ if length > LONGEST_COLOUR => Escape::Other,
        None => Escape::Cut,
        Some(b'm') => Escape::Colour(length + 1),
        Some(_) => Escape::Other,
    }
}

/// A message without the number that Rust appends to the text of the system: the words before
/// it say the same to people.
pub fn without_error_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        out += before;
        match after.split_once(')') {
            Some((number, behind)) if number.bytes().all(|b| b.is_ascii_digit()) => rest = behind,
            _ => {
                out += " (os error ";
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_shown_in_words() {
        for (text, said) in [
            (
                "cannot open x: No such file (os error 2)",
                "cannot open x: No such file",
            ),
            ("a (os error 5), b (os error 28): c", "a, b: c"),
            ("x (os error two) (os error ", "x (os error two) (os error "),
            ("", ""),
        ] {
            assert_eq!(without_error_numbers(text), said);
        }
    }

    #[test]
    fn nothing_that_acts_on_a_terminal_passes() {
        for (bytes, text) in [
            (&b"echo hello"[..], "echo hello"),
            ("größe 雪 🦀".as_bytes(), "größe 雪 🦀"),
            (b"a\tb", "a b"),
            (b"a\nb\r", "a^Jb^M"),
            (b"\x1b]0;title\x07", "^[]0;title^G"),
            (b"\x1b[31mred", "^[[31mred"),
            (b"\x00\x7f", "^@^?"),
            ("\u{9b}2J".as_bytes(), "<U+009B>2J"),
            ("\u{202e}gpj.exe".as_bytes(), "<U+202E>gpj.exe"),
            ("\u{2066}x\u{2069}".as_bytes(), "<U+2066>x<U+2069>"),
            (b"\xff\xfe ok", "\\xff\\xfe ok"),
            (b"cut \xe2\x82", "cut \\xe2\\x82"),
        ] {
            assert_eq!(escape(bytes), text);
        }
    }

    #[test]
    fn a_clip_never_grows_and_tells_that_it_cut() {
        for (text, width, clipped) in [
            ("", 0, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("äöü!", 3, "äö…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(clip(text, width), clipped);
        }
    }

    #[test]
    fn colours_go_and_all_else_stays() {
        for (bytes, left) in [
            (&b"plain"[..], &b"plain"[..]),
            (b"\x1b[1;31merror\x1b[0m: x", b"error: x"),
            (b"\x1b[2J\x1b", b"\x1b[2J\x1b"),
        ] {
            assert_eq!(without_colours(bytes), left);
        }
    }

    /// Whatever the pieces, the result is the same.
    fn stream(bytes: &[u8]) -> String {
        let mut whole = None;
        for size in 1..=bytes.len().max(1) {
            let (mut out, mut stream) = (String::new(), Stream::default());
            for piece in bytes.chunks(size) {
                stream.push(&mut out, piece);
            }
            stream.finish(&mut out);
            assert_eq!(*whole.get_or_insert_with(|| out.clone()), out, "{size}");
        }
        whole.unwrap_or_default()
    }

    #[test]
    fn a_stream_keeps_lines_tabs_and_colours_only() {
        for (bytes, text) in [
            (&b"a\tb\nc\n"[..], "a\tb\nc\n"),
            (b"dos\r\nline", "dos\nline"),
            (b"bar\r 50%\r", "bar^M 50%^M"),
            (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            (b"\x1b[32mgreen", "\x1b[32mgreen\x1b[0m"),
            (b"\x1b[2J\x1b[H", "^[[2J^[[H"),
            (b"\x1b]0;t\x07", "^[]0;t^G"),
            (b"end \x1b", "end ^["),
            (b"end \x1b[3", "end ^[[3"),
            ("é€🦀x".as_bytes(), "é€🦀x"),
            (b"\xff\xe2\x82", "\\xff\\xe2\\x82"),
            ("\u{202e}".as_bytes(), "<U+202E>"),
        ] {
            assert_eq!(stream(bytes), text, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_no_control_character_leaves(bytes: Vec<u8>) {
            proptest::prop_assert!(!escape(&bytes).chars().any(char::is_control));
            let plain = stream(&bytes).replace('\x1b', "");
            proptest::prop_assert!(
                !plain.chars().any(|c| c.is_control() && c != '\n' && c != '\t')
            );
        }
    }
}
