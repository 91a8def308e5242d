//! What was seen in a task list that could surprise its author, and the messages about it.

use std::fmt;

/// How many lines have a property, and the first of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// How many lines.
    pub count: u64,
    /// The number of the first one, counted from 1; 0 when there is none.
    pub first: u64,
}

/// What was seen in a list, above all what could surprise its author.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// What was to be said when the list was made from another.
    pub notes: Vec<String>,
    /// Lines of any kind.
    pub lines: u64,
    /// Tasks.
    pub tasks: u64,
    /// It began with a UTF-8 byte order mark.
    pub byte_order_mark: bool,
    /// The last line had no line end. This is harmless, so there is no message.
    pub no_final_newline: bool,
    /// Lines that ended in CR LF (the CR was dropped).
    pub crlf: Occurrences,
    /// Tasks with a CR in the middle (which PyTaskFarmer takes for a line end).
    pub inner_cr: Occurrences,
    /// Tasks that end in a backslash after which nothing comes: the list ends there, or it is
    /// read as it is.
    pub backslash: Occurrences,
    /// Comments that look like directives: `# PYTF`.
    pub spaced: Occurrences,
    /// Tasks that only set up their own shell.
    pub setup: Occurrences,
    /// The first of them.
    pub setup_line: String,
    /// Unset variables, and the tasks that read them; not more of them than
    /// a few.
    pub unset: Vec<(String, Occurrences)>,
}

/// So many unset variables are reported.
const MOST_UNSET: usize = 5;

impl Occurrences {
    /// Counts one more.
    pub fn add(&mut self, line: u64) {
        self.count += 1;
        if self.first == 0 {
            self.first = line;
        }
    }
}

/// `line 7`, `line 7 and 2 more`.
impl fmt::Display for Occurrences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.first)?;
        if self.count > 1 {
            write!(f, " and {} more", self.count - 1)?;
        }
        Ok(())
    }
}

impl Remarks {
    pub(super) fn add_unset(&mut self, name: &str, line: u64) {
        let known = self.unset.iter().position(|(there, _)| there == name);
        let at = known.unwrap_or(self.unset.len());
        if at == self.unset.len() {
            if at == MOST_UNSET {
                return;
            }
            self.unset.push((name.to_owned(), Occurrences::default()));
        }
        self.unset[at].1.add(line);
    }

    /// One sentence for everything that could surprise; most often none.
    pub fn messages(&self) -> Vec<String> {
        let mut messages = self.notes.clone();
        if self.byte_order_mark {
            messages
                .push("the list begins with a byte order mark: not taken as part of line 1".into());
        }
        if self.crlf.count > 0 {
            messages.push(format!(
                "{} of {} lines end in CR LF (Windows): the CR is not taken as part of the task",
                self.crlf.count, self.lines
            ));
        }
        for (seen, text) in [
            (
                self.inner_cr,
                "a CR in the middle of the line does not end the task",
            ),
            (
                self.spaced,
                "a comment; a directive is written #PYTF, without a blank",
            ),
            (
                self.backslash,
                "ends in a backslash, but a task does not continue on the next line",
            ),
        ] {
            if seen.count > 0 {
                messages.push(format!("{seen}: {text}"));
            }
        }
        if self.setup.count > 0 {
            let (seen, line) = (self.setup, self.setup_line.escape_debug());
            messages.push(format!(
                "{seen}: only sets up its own shell, which no other task sees ('{line}'): write it \
                 into each line, as in: {line} && COMMAND"
            ));
        }
        for (name, seen) in &self.unset {
            messages.push(format!(
                "{seen}: ${name} is set neither in the environment nor in the line"
            ));
        }
        messages
    }
}

/// The messages, one per line.
impl fmt::Display for Remarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages().join("\n"))
    }
}
