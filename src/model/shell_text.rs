//! A line as a shell reads it, as far as task lists need it: where the comment begins and
//! which variables are read.
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

/// What encloses a place in a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Quotes,
    Parentheses,
}

/// The pieces of a line, in their order.
pub fn pieces(line: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let mut scan = Scan {
        line,
        at: 0,
        inside: Vec::new(),
    };
    std::iter::from_fn(move || scan.next())
}

struct Scan<'a> {
    line: &'a [u8],
    at: usize,
    inside: Vec<Inside>,
}

impl<'a> Scan<'a> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.line.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<Piece<'a>> {
        while let Some(byte) = self.peek(0) {
            let in_quotes = self.inside.last() == Some(&Inside::Quotes);
            match byte {
                b'\\' => self.at += 1,
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
