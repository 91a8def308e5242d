//! A line as a shell reads it, as far as task lists need it: where the comment begins, which
//! variables are read, and how a value must be quoted at a place.
//!
//! Not a parser: quotes, escapes, command substitution and comments are followed, the rest is
//! passed over. Guarantee: what is in single quotes, escaped or in a comment is never taken for
//! a variable.

/// What was found in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A comment begins here, after a blank; it goes to the end.
    Comment(usize),
    /// A variable is read, and nothing is given for the case that it is not set.
    Variable {
        /// Where its `$` is.
        at: usize,
        /// Its name.
        name: &'a str,
    },
}

/// Where the comment of a line begins.
pub fn comment(line: &[u8]) -> Option<usize> {
    pieces(line).find_map(|piece| match piece {
        Piece::Comment(at) => Some(at),
        Piece::Variable { .. } => None,
    })
}

/// The quotes around a place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quoting {
    /// There are none.
    Bare,
    /// `"…"`
    Double,
    /// `'…'`
    Single,
    /// `$'…'`
    Escaped,
}

/// The quotes around the end of this beginning of a line; `None` in backticks and after a
/// backslash, where no quoting is safe.
pub fn quoting(beginning: &[u8]) -> Option<Quoting> {
    let mut scan = Scan::of(beginning);
    while scan.next().is_some() {}
    let is_open = scan.unclosed.is_some();
    let last = beginning.len().saturating_sub(1);
    let is_in_backticks = memchr::memchr_iter(b'`', beginning).count() % 2 == 1;
    if !is_open && (is_in_backticks || scan.escape == Some(last)) {
        return None;
    }
    Some(match (scan.unclosed, scan.inside.last()) {
        (Some(quoting), _) => quoting,
        (None, Some(Inside::Quotes)) => Quoting::Double,
        (None, _) => Quoting::Bare,
    })
}

/// Appends a value, quoted so that a shell takes it as one word, or as a part of one.
pub fn push_quoted(out: &mut Vec<u8>, value: &[u8], quoting: Quoting) {
    let escaped = |out: &mut Vec<u8>, special: &[u8]| {
        for &byte in value {
            if special.contains(&byte) {
                out.push(b'\\');
            }
            out.push(byte);
        }
    };
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-./+:@%,".contains(b);
    match quoting {
        Quoting::Bare if !value.is_empty() && value.iter().all(is_plain) => {
            out.extend_from_slice(value);
        }
        Quoting::Bare => {
            out.push(b'\'');
            push_quoted(out, value, Quoting::Single);
            out.push(b'\'');
        }
        Quoting::Double => escaped(out, b"\"\\$`"),
        Quoting::Escaped => escaped(out, b"'\\"),
        Quoting::Single => {
            for piece in value.split_inclusive(|&byte| byte == b'\'') {
                let (text, quote) = match piece.split_last() {
                    Some((b'\'', text)) => (text, &b"'\\''"[..]),
                    _ => (piece, &b""[..]),
                };
                out.extend_from_slice(text);
                out.extend_from_slice(quote);
            }
        }
    }
}

/// What encloses a place in a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Quotes,
    Parentheses,
}

/// The pieces of a line, in their order.
pub fn pieces(line: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let mut scan = Scan::of(line);
    std::iter::from_fn(move || scan.next())
}

struct Scan<'a> {
    line: &'a [u8],
    at: usize,
    inside: Vec<Inside>,
    /// The single quotes that are not closed at the end.
    unclosed: Option<Quoting>,
    /// Where the last backslash is that escapes a byte.
    escape: Option<usize>,
}

impl<'a> Scan<'a> {
    fn of(line: &'a [u8]) -> Self {
        Self {
            line,
            at: 0,
            inside: Vec::new(),
            unclosed: None,
            escape: None,
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.line.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<Piece<'a>> {
        while let Some(byte) = self.peek(0) {
            let in_quotes = self.inside.last() == Some(&Inside::Quotes);
            match byte {
                b'\\' => {
                    self.escape = Some(self.at);
                    self.at += 1;
                }
                b'\'' if !in_quotes => self.skip_quoted(false),
                b'"' if in_quotes => drop(self.inside.pop()),
                b'"' => self.inside.push(Inside::Quotes),
                b'(' if !in_quotes => self.inside.push(Inside::Parentheses),
                b')' if self.inside.last() == Some(&Inside::Parentheses) => {
                    self.inside.pop();
                }
                b'#' if self.inside.is_empty() && self.is_behind_blank() => {
                    let at = self.at;
                    self.at = self.line.len();
                    return Some(Piece::Comment(at));
                }
                b'$' => {
                    if let Some(found) = self.dollar(in_quotes) {
                        return Some(found);
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        None
    }

    fn is_behind_blank(&self) -> bool {
        self.at == 0 || matches!(self.line[self.at - 1], b' ' | b'\t')
    }

    /// To the closing quote; `$'…'` knows escapes.
    fn skip_quoted(&mut self, has_escapes: bool) {
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\'' => return,
                b'\\' if has_escapes => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.unclosed = Some(if has_escapes {
            Quoting::Escaped
        } else {
            Quoting::Single
        });
    }

    /// What follows a `$`; leaves the place at its last byte.
    fn dollar(&mut self, in_quotes: bool) -> Option<Piece<'a>> {
        let at = self.at;
        match self.peek(1)? {
            b'(' => {
                self.inside.push(Inside::Parentheses);
                self.at += 1;
                None
            }
            b'\'' if !in_quotes => {
                self.at += 1;
                self.skip_quoted(true);
                None
            }
            b'{' => {
                self.at += 1;
                let marks = usize::from(matches!(self.peek(1), Some(b'#' | b'!')));
                let name = self.name(at + 2 + marks)?;
                self.at = at + 1 + marks + name.len();
                let rest = &self.line[self.at + 1..];
                let rest = rest.strip_prefix(b":").unwrap_or(rest);
                let is_cared_for = matches!(rest.first(), Some(b'-' | b'=' | b'?' | b'+'));
                (!is_cared_for).then_some(Piece::Variable { at, name })
            }
            _ => {
                let name = self.name(at + 1)?;
                self.at += name.len();
                Some(Piece::Variable { at, name })
            }
        }
    }

    /// The name of a variable that begins here.
    fn name(&self, from: usize) -> Option<&'a str> {
        let rest = self.line.get(from..)?;
        let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        let len = rest.iter().take_while(is_name).count();
        let name = std::str::from_utf8(&rest[..len]).ok()?;
        name.starts_with(|c: char| !c.is_ascii_digit())
            .then_some(name)
    }
}
