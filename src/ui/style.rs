//! How to print on a stream: the width, colours, and which characters.
//!
//! This is determined once per stream; everything that prints takes an [`OutputStyle`], so
//! a test sees what a person sees.

use console::{Term, truncate_str};

/// What a stream is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Whether it is a terminal.
    pub is_terminal: bool,
    /// Its width in characters; 0 where `srun -u` pretends one.
    pub columns: u16,
    /// Its height in lines.
    pub rows: u16,
}

impl Terminal {
    /// What stdout is.
    pub fn of_stdout() -> Self {
        Self::of(&Term::stdout())
    }

    /// What stderr is.
    pub fn of_stderr() -> Self {
        Self::of(&Term::stderr())
    }

    fn of(term: &Term) -> Self {
        let (rows, columns) = term.size_checked().unwrap_or((0, 0));
        Self {
            is_terminal: term.is_term(),
            columns,
            rows,
        }
    }

    /// Whether a person may use it: a terminal that has a size and can move its cursor.
    /// `term` is the variable `TERM`.
    pub fn is_real(&self, term: Option<&str>) -> bool {
        let is_dumb = matches!(term, None | Some("" | "dumb"));
        self.is_terminal && self.columns > 0 && self.rows > 0 && !is_dumb
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputStyle {
    /// How many characters fit into a line.
    pub width: usize,
    /// Whether colours may be used.
    pub colour: bool,
    /// Whether marks and lines may be other than ASCII.
    pub unicode: bool,
}

/// The width for files and pipes: lines of this length read well.
const WIDTH: usize = 100;

/// The least width: on narrower terminals lines wrap.
const NARROWEST: usize = 40;

impl OutputStyle {
    /// For a file or a pipe in a plain locale.
    pub const PLAIN: Self = Self {
        width: WIDTH,
        colour: false,
        unicode: false,
    };

    /// For a stream; `var` looks an environment variable up.
    pub fn new(terminal: Terminal, var: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name: &str| var(name).filter(|value| !value.is_empty());
        // The first of these that is set decides (locale(7)).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(is_set);
        let locale = locale.unwrap_or_default().to_ascii_uppercase();
        let is_real = terminal.is_real(var("TERM").as_deref());
        Self {
            width: if is_real {
                usize::from(terminal.columns).max(NARROWEST)
            } else {
                WIDTH
            },
            colour: is_real && is_set("NO_COLOR").is_none(),
            unicode: locale.contains("UTF-8") || locale.contains("UTF8"),
        }
    }

    /// The characters for marks and lines.
    pub fn marks(&self) -> &'static Marks {
        if self.unicode { &UNICODE } else { &ASCII }
    }

    /// The text cut to `width` columns, with a mark where it was cut.
    pub fn clip(&self, text: &str, width: usize) -> String {
        let tail = match width {
            0 => "",
            _ if self.unicode => "…",
            1 | 2 => "",
            _ => "...",
        };
        truncate_str(text, width, tail).into_owned()
    }

    /// The text in a colour, where there are colours.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if self.colour {
            format!("\x1b[{}m{text}\x1b[0m", paint.code())
        } else {
            text.to_owned()
        }
    }
}

/// The characters for marks and lines.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// Before a line about success.
    pub good: &'static str,
    /// Before a line about failure.
    pub bad: &'static str,
    /// Before a remark.
    pub more: &'static str,
    /// Before a line of a log.
    pub bar: &'static str,
    /// Between facts.
    pub dot: &'static str,
    /// Between a number and what it counts.
    pub times: &'static str,
    /// What is done of a bar.
    pub full: &'static str,
    /// What is left of a bar.
    pub empty: &'static str,
}

const UNICODE: Marks = Marks {
    good: "✔",
    bad: "✘",
    more: "▸",
    bar: "│",
    dot: " · ",
    times: "×",
    full: "█",
    empty: "░",
};

const ASCII: Marks = Marks {
    good: "ok:",
    bad: "failed:",
    more: "->",
    bar: "|",
    dot: ", ",
    times: "x",
    full: "#",
    empty: "-",
};

/// What a colour means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paint {
    /// All is well.
    Good,
    /// Something failed.
    Bad,
    /// Something is to be done.
    Warn,
    /// The most important part of a line.
    Strong,
    /// A time that is longer than all before.
    Longest,
    /// Less important.
    #[default]
    Faint,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Warn => "33",
            Self::Strong => "1",
            Self::Longest => "35",
            Self::Faint => "2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: Terminal = Terminal {
        is_terminal: true,
        columns: 120,
        rows: 50,
    };

    #[test]
    fn only_a_terminal_with_a_size_is_real() {
        for (columns, rows, is_terminal, term, real) in [
            (120, 50, true, Some("xterm"), true),
            (120, 50, true, Some("dumb"), false),
            (120, 50, true, None, false),
            (0, 0, true, Some("xterm"), false),
            (120, 50, false, Some("xterm"), false),
        ] {
            let terminal = Terminal {
                is_terminal,
                columns,
                rows,
            };
            assert_eq!(terminal.is_real(term), real, "{terminal:?} {term:?}");
        }
    }

    #[test]
    fn what_is_cut_ends_with_dots_that_the_locale_has() {
        let unicode = OutputStyle {
            unicode: true,
            ..OutputStyle::PLAIN
        };
        for (text, width, plain, fine) in [
            ("abcdef", 6, "abcdef", "abcdef"),
            ("abcdefg", 6, "abc...", "abcde…"),
            ("äöüäöüä", 6, "äöü...", "äöüäö…"),
            ("äöüäöü", 6, "äöüäöü", "äöüäöü"),
            ("雪雪雪", 6, "雪雪雪", "雪雪雪"),
            ("雪雪雪雪", 6, "雪...", "雪雪…"),
            ("abc", 2, "ab", "a…"),
        ] {
            assert_eq!(OutputStyle::PLAIN.clip(text, width), plain);
            assert_eq!(unicode.clip(text, width), fine);
        }
    }

    #[test]
    fn the_environment_decides_about_colours_and_characters() {
        for (vars, colour, unicode) in [
            (
                &[("TERM", "xterm"), ("LANG", "en_US.UTF-8")][..],
                true,
                true,
            ),
            (&[("TERM", "xterm"), ("LANG", "C")], true, false),
            (
                &[("TERM", "xterm"), ("LC_ALL", "C"), ("LANG", "C.UTF-8")],
                true,
                false,
            ),
            (
                &[("TERM", "xterm"), ("LC_ALL", ""), ("LANG", "C.utf8")],
                true,
                true,
            ),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], false, false),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], true, false),
            (&[("TERM", "dumb")], false, false),
        ] {
            let var = |name: &str| {
                let found = vars.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let style = OutputStyle::new(REAL, var);
            assert_eq!((style.colour, style.unicode), (colour, unicode), "{vars:?}");
        }
    }
}
