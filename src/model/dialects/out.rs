//! Where translations are written: tasks with what stands around them, and lines as they are.
//!
//! Guarantee: a task that comes out is read as the command that went in, with these attributes.

use super::text::{Result, shown, trim};
use crate::model::attributes::{Attributes, begin};
use crate::model::tool::{Refusal, Tool, Translation};

/// What holds for tasks one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Around {
    /// The words after `export`.
    pub(super) env: String,
    /// What each command begins with.
    pub(super) prefix: Vec<u8>,
    /// What each command ends with.
    pub(super) suffix: Vec<u8>,
    /// What is said of each task.
    pub(super) attributes: String,
}

/// A list that is written.
pub(super) struct Out {
    tool: Tool,
    made: Translation,
    /// What was written to hold for tasks below.
    around: Around,
}

impl Out {
    pub(super) fn of(tool: Tool) -> Self {
        Self {
            tool,
            made: Translation::default(),
            around: Around::default(),
        }
    }

    pub(super) fn done(self) -> Translation {
        self.made
    }

    /// A line that is written as it is.
    pub(super) fn line(&mut self, number: u64, line: &[u8]) {
        self.made.text.extend_from_slice(line);
        self.made.text.push(b'\n');
        self.made.lines.push(number);
    }

    /// A blank line or a comment, which stays.
    pub(super) fn comment(&mut self, number: u64, line: &[u8]) -> Result<()> {
        if trim(line).starts_with(b"#PYTF") {
            let what = format!(
                "#PYTF is not followed in a list of {}: write the whole list with #PYTF, as 'pytf \
                 convert LIST --to pytf' does",
                self.tool
            );
            return Err(Refusal::of(number, what));
        }
        self.line(number, line);
        Ok(())
    }

    /// Something that people should know.
    pub(super) fn note(&mut self, note: String) {
        if !self.made.notes.contains(&note) {
            self.made.notes.push(note);
        }
    }

    /// A task of which this is said beside what holds for all.
    pub(super) fn task(
        &mut self,
        number: u64,
        around: &Around,
        command: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        self.surround(number, around);
        let line = self.checked(number, trim(command), &attributes.to_string())?;
        self.line(number, &line);
        Ok(())
    }

    /// A command that is repeated: the text after `#PYTF repeat`.
    pub(super) fn repeat(&mut self, number: u64, text: &[u8]) -> Result<()> {
        self.surround(number, &Around::default());
        let text = self.checked(number, trim(text), "")?;
        self.line(number, &[b"#PYTF repeat ", &text[..]].concat());
        Ok(())
    }

    /// Says what holds from here on, unless it holds already.
    fn surround(&mut self, number: u64, around: &Around) {
        if self.around == *around {
            return;
        }
        if self.around != Around::default() {
            self.line(number, b"#PYTF defaults");
        }
        let parts: [(&[u8], &[u8]); 4] = [
            (b"", around.attributes.as_bytes()),
            (b"env ", around.env.as_bytes()),
            (b"prefix ", &around.prefix),
            (b"suffix ", &around.suffix),
        ];
        for (verb, text) in parts {
            if !text.is_empty() {
                self.line(number, &[b"#PYTF ", verb, text].concat());
            }
        }
        self.around = around.clone();
    }

    /// The line of a command, which is to be read as this command.
    fn checked(&self, number: u64, command: &[u8], attributes: &str) -> Result<Vec<u8>> {
        let refused = |what: String| Err(Refusal::of(number, what));
        if command.is_empty() {
            return refused("there is no command".to_owned());
        }
        if command[0] == b'#' {
            let what = format!("a command cannot begin with #: '{}'", shown(command));
            return refused(what);
        }
        if command.starts_with(b"\xef\xbb\xbf") {
            return refused("a byte order mark is not a part of a command: remove it".to_owned());
        }
        if command[0] == b'{' && command[1..].trim_ascii_start().first() == Some(&b'"') {
            let what = "a command cannot begin with {\" : write (, and ) at its end, around it";
            return refused(what.to_owned());
        }
        if command.iter().rev().take_while(|&&b| b == b'\\').count() % 2 == 1 {
            return refused(format!(
                "{} takes each line for a task, so the backslash at the end joins nothing: write \
                 the command in one line",
                self.tool
            ));
        }
        let mut line = command.to_vec();
        if attributes.is_empty() {
            return Ok(line);
        }
        if begin(command).is_none() {
            let at = line.len() + 1;
            line.extend_from_slice(b" #PYTF");
            if begin(&line) != Some(at) {
                let what = "a quote or a parenthesis of the command is not closed";
                return refused(what.to_owned());
            }
        }
        line.push(b' ');
        line.extend_from_slice(attributes.as_bytes());
        Ok(line)
    }
}
