//! The task list: bytes → the lines that are tasks.
//!
//! One line, one task. Blank lines and lines whose first non-blank byte is `#` are not tasks; a
//! line that ends in a backslash continues in the next one, as in a shell. `#PYTF` begins a
//! directive, alone in a line or after a command. A list whose first task begins with `{"` is one
//! JSON object per line. Directives of other tools are errors: they would be ignored. What comes
//! out is the line of a task as it is stored: its command, and what is said of it.
//!
//! The parser is fed chunks as they arrive, from a file of a million lines or from a pipe that
//! stays open, and keeps no more than one unfinished line and the names of tasks. Guarantee: where the chunks are cut never changes the result, a task is
//! never empty, holds no line end and no NUL byte, and is otherwise byte for byte what the list
//! says.

mod dialect;
mod directives;
mod error;
pub mod handlers;
mod json;
mod names;
mod remarks;
mod text;

use memchr::{memchr, memchr3_iter};

use super::attributes::{Attributes, begin, directive, joined, push_attributes};
use super::foreign_syntax::{self, Suspicion};
use super::setup;
use super::shell_text::comment;
use super::template::Tasks;
pub use dialect::{Dialect, NameScope, TaskCheck};
use directives::{Directives, Said, Wrong, is_nearly_one};
pub use error::ListError;
pub use names::check_added;
use names::{Names, Place};
pub use remarks::{Occurrences, Remarks};
use text::{ends_in_escape, trim};

/// The longest line that is accepted, in bytes. Longer than any command that
/// was meant; a list of one endless line must not fill the memory.
pub const LONGEST_LINE: usize = 16 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Turns the bytes of a list into tasks. After an error it cannot be used any more.
#[derive(Debug)]
pub struct Parser {
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
    /// Lines that go on in the next one, without their backslashes.
    joined: Vec<u8>,
    /// Where each of them begins there, and its number.
    parts: Vec<(usize, u64)>,
    /// The line of a task as it is stored, while it is made.
    stored: Vec<u8>,
    /// Whether the current task holds a CR so far.
    has_cr: bool,
    /// What was read so far may hold for other tools.
    suspicion: Suspicion,
    limit: usize,
    dialect: Dialect,
    directives: Directives,
    /// The list was made from that of another tool.
    is_made: bool,
    /// Whether the list is JSON lines; not known before the first task.
    is_json: Option<bool>,
    names: Names,
    remarks: Remarks,
    /// What was remarked about these bytes before; then they are not searched again for what
    /// other tools mean, nor for what could surprise, and names and runners are not checked again.
    known: Option<Remarks>,
}

impl Parser {
    /// A parser at the beginning of a list that is to be read in this way.
    pub fn of(dialect: Dialect) -> Self {
        Self::with(dialect, LONGEST_LINE)
    }

    fn with(dialect: Dialect, limit: usize) -> Self {
        Self {
            carry: Vec::new(),
            joined: Vec::new(),
            parts: Vec::new(),
            stored: Vec::new(),
            has_cr: false,
            suspicion: Suspicion::default(),
            limit,
            directives: Directives::of(&dialect),
            dialect,
            is_made: false,
            is_json: None,
            names: Names::default(),
            remarks: Remarks::default(),
            known: None,
        }
    }

    /// The same for a list that was read to its end before without an error, and of which this
    /// was remarked. It makes the same tasks.
    #[must_use]
    pub fn again(self, known: Option<Remarks>) -> Self {
        Self { known, ..self }
    }

    /// Takes the next bytes of the list and hands every task that is complete
    /// with them to `emit`, in order.
    pub fn feed(&mut self, chunk: &[u8], emit: &mut dyn FnMut(&[u8])) -> Result<(), ListError> {
        let mut start = 0;
        self.suspicion.read(chunk);
        for at in memchr3_iter(b'\n', 0, b'\r', chunk) {
            if chunk[at] == b'\r' {
                self.has_cr = true;
                continue;
            }
            let piece = &chunk[start..at];
            self.check_length(piece)?;
            if chunk[at] == 0 {
                return Err(self.nul(piece));
            }
            if self.carry.is_empty() {
                self.line(piece, emit)?;
            } else {
                self.carry.extend_from_slice(piece);
                self.carried_line(emit)?;
            }
            start = at + 1;
        }
        let rest = &chunk[start..];
        self.check_length(rest)?;
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    /// Takes the text of a whole list that was made from another, whose lines have these
    /// numbers, and ends.
    pub fn feed_made(
        &mut self,
        text: &[u8],
        lines: &[u64],
        emit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ListError> {
        for (line, number) in text.split_inclusive(|&byte| byte == b'\n').zip(lines) {
            self.next_line_is(*number);
            self.feed(line, emit)?;
        }
        self.finish(emit)
    }

    /// The line that follows has this number.
    pub fn next_line_is(&mut self, number: u64) {
        self.is_made = true;
        self.remarks.lines = number.saturating_sub(1);
    }

    /// The list has ended: its last line may lack a line end.
    pub fn finish(&mut self, emit: &mut dyn FnMut(&[u8])) -> Result<(), ListError> {
        if !self.carry.is_empty() {
            self.remarks.no_final_newline = true;
            let inner = self.carry.strip_suffix(b"\r").unwrap_or(&self.carry);
            if self.remarks.lines == 0 && self.has_cr && memchr(b'\r', inner).is_some() {
                return Err(ListError::OldMac);
            }
            self.carried_line(emit)?;
        }
        if !self.parts.is_empty() {
            // Nothing follows the backslash: it is part of the task.
            let mut task = std::mem::take(&mut self.joined);
            task.push(b'\\');
            let first = self.parts[0].1;
            self.task(&task, first, emit)?;
        }
        self.names.check(self.dialect.names)
    }

    /// How many lines were read so far.
    pub fn lines(&self) -> u64 {
        self.remarks.lines
    }

    /// What was seen so far.
    pub fn remarks(&self) -> Remarks {
        self.known.as_ref().unwrap_or(&self.remarks).clone()
    }

    /// Checked before anything is copied, so no more than `limit` is ever held.
    fn check_length(&self, piece: &[u8]) -> Result<(), ListError> {
        if self.carry.len() + piece.len() > self.limit {
            return Err(ListError::TooLong {
                line: self.remarks.lines + 1,
                limit: self.limit,
            });
        }
        Ok(())
    }

    fn nul(&self, piece: &[u8]) -> ListError {
        let mut head = self.carry.iter().chain(piece);
        let mark = (head.next(), head.next());
        let line = self.remarks.lines + 1;
        let utf16 =
            line == 1 && matches!(mark, (Some(0xff), Some(0xfe)) | (Some(0xfe), Some(0xff)));
        ListError::Nul { line, utf16 }
    }

    fn carried_line(&mut self, emit: &mut dyn FnMut(&[u8])) -> Result<(), ListError> {
        let line = std::mem::take(&mut self.carry);
        let done = self.line(&line, emit);
        self.carry = emptied(line);
        done
    }

    /// One line without its LF.
    fn line(&mut self, line: &[u8], emit: &mut dyn FnMut(&[u8])) -> Result<(), ListError> {
        let seen = &mut self.remarks;
        seen.lines += 1;
        let number = seen.lines;
        let mut line = line;
        if number == 1
            && !self.is_made
            && let Some(rest) = line.strip_prefix(BYTE_ORDER_MARK)
        {
            seen.byte_order_mark = true;
            line = rest;
        }
        if let Some(rest) = line.strip_suffix(b"\r") {
            seen.crlf.add(number);
            if !self.dialect.plain {
                line = rest;
            }
        }
        let goes_on = !self.dialect.plain
            && ends_in_escape(line)
            && !(self.parts.is_empty() && trim(line).first() == Some(&b'#'));
        if !goes_on && self.parts.is_empty() {
            return self.task(line, number, emit);
        }
        if self.joined.len() + line.len() > self.limit {
            let (line, limit) = (number, self.limit);
            return Err(ListError::TooLong { line, limit });
        }
        self.parts.push((self.joined.len(), number));
        if goes_on {
            self.joined.extend_from_slice(&line[..line.len() - 1]);
            return Ok(());
        }
        let mut whole = std::mem::take(&mut self.joined);
        whole.extend_from_slice(line);
        let first = self.parts.first().map_or(number, |(_, number)| *number);
        let done = self.task(&whole, first, emit);
        self.joined = emptied(whole);
        done
    }

    /// The text of a task, or of a line without a task, which begins in line `number`.
    fn task(
        &mut self,
        text: &[u8],
        number: u64,
        emit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ListError> {
        let has_cr = std::mem::take(&mut self.has_cr);
        let task = trim(text);
        let seen = Seen {
            // Where it begins in `text`.
            begin: task.as_ptr().addr() - text.as_ptr().addr(),
            number,
            has_cr,
            is_suspect: !self.dialect.plain && self.suspicion.falls_on(task),
            is_made: false,
        };
        let done = if self.dialect.plain {
            self.plain_task(task, seen, emit)
        } else if self.is_bare(task, seen) {
            self.directives.note_task();
            self.note(task, seen);
            emit(task);
            Ok(())
        } else {
            self.entry(task, seen, emit)
        };
        self.parts.clear();
        done
    }

    /// Whether a line is a command of which nothing is said, as nearly all lines are. Only a
    /// shortcut: [`Self::entry`] does the same.
    fn is_bare(&self, task: &[u8], seen: Seen) -> bool {
        !seen.is_suspect
            && self.is_json == Some(false)
            && !matches!(task.first(), None | Some(b'{' | b'#'))
            && self.directives.are_none()
    }

    /// A line of a list that is read as it is.
    fn plain_task(
        &mut self,
        task: &[u8],
        seen: Seen,
        emit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ListError> {
        if task.is_empty() || task[0] == b'#' {
            self.note_comment(task, seen);
            return Ok(());
        }
        self.note(task, seen);
        let (attributes, stored) = self.directives.of_all();
        if stored.is_empty() && memchr(b'#', task).is_none() {
            emit(task);
            return Ok(());
        }
        let stored = joined(task, stored);
        if self.known.is_none() {
            let place = self.place(0, seen);
            check(attributes, place, &self.dialect, &mut self.names)?;
        }
        // What looks like attributes belongs to the command.
        emit(&stored);
        Ok(())
    }

    /// A directive, a task or nothing.
    fn entry(
        &mut self,
        task: &[u8],
        seen: Seen,
        emit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ListError> {
        if seen.is_suspect && directive(task).is_some() {
            let tasks = self.directives.take(task);
            return match tasks.map_err(|wrong| self.wrong(wrong, seen))? {
                Some(tasks) => self.repeat(&tasks, seen, emit),
                None => Ok(()),
            };
        }
        if task.is_empty() || task[0] == b'#' {
            self.check_foreign(task, seen)?;
            self.note_comment(task, seen);
            return Ok(());
        }
        let is_json = json::is_json(task);
        if is_json != *self.is_json.get_or_insert(is_json) {
            let what = if is_json {
                "this is JSON, but the tasks above are commands; --plain takes it as a command"
            } else {
                "the tasks above are JSON, so this has to be a JSON object with a member 'command'"
            };
            let what = what.to_owned();
            return Err(self.wrong(Wrong { at: 0, what }, seen));
        }
        if is_json {
            return self.json(task, seen, emit);
        }
        self.command(task, seen, emit)
    }

    /// A command, and what is said after it.
    fn command(
        &mut self,
        task: &[u8],
        seen: Seen,
        emit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ListError> {
        let at = seen.is_suspect.then(|| begin(task)).flatten();
        let Some(at) = at else {
            self.check_foreign(task, seen)?;
            return self.put(task, None, seen, emit);
        };
        let command = trim(&task[..at]);
        self.check_foreign(command, seen)?;
        let said = self.directives.of_task(task, at);
        let said = said.map_err(|wrong| self.wrong(wrong, seen))?;
        self.put(command, Some((&said, at)), seen, emit)
    }

    /// A task that is a JSON object.
    fn json(
        &mut self,
        task: &[u8],
        seen: Seen,
        emit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ListError> {
        let mut attributes = self.directives.of_all().0.clone();
        let check = |key, at| Directives::check(key, at);
        let command = json::task(task, &mut attributes, check);
        let command = command.map_err(|wrong| self.wrong(wrong, seen))?;
        self.check_foreign(&command, seen)?;
        self.put(&command, Some((&Said::of(attributes), 0)), seen, emit)
    }

    /// Refuses what means something to another tool.
    fn check_foreign(&self, command: &[u8], seen: Seen) -> Result<(), ListError> {
        let is_set = |name: &str| self.dialect.is_set(name) || self.directives.sets(name);
        let suspect = (seen.is_suspect && self.known.is_none()).then_some(command);
        let Some(mark) = suspect.and_then(|command| foreign_syntax::find(command, &is_set)) else {
            return Ok(());
        };
        let Place { line, column } = self.place(mark.at, seen);
        let what = if self.is_made {
            mark.what
        } else {
            format!("{}: {}", mark.what, mark.how)
        };
        let (tool, mark) = (mark.tool, mark.shown);
        Err(ListError::ForeignSyntax {
            line,
            column,
            what,
            mark,
            tool,
        })
    }

    /// Hands a task on: its command with what stands around it, and its attributes; without
    /// own ones, which were read at this place, those that hold for all.
    fn put(
        &mut self,
        command: &[u8],
        own: Option<(&Said, usize)>,
        seen: Seen,
        emit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ListError> {
        self.directives.note_task();
        if own.is_none() && self.directives.are_none() {
            self.note(command, seen);
            if seen.is_suspect && memchr(b'#', command).is_some() {
                emit(&joined(command, b""));
            } else {
                emit(command);
            }
            return Ok(());
        }
        let mut line = emptied(std::mem::take(&mut self.stored));
        let around = self.directives.push_around(&mut line, command);
        around.map_err(|at| {
            let what = "the suffix would be a part of this comment".to_owned();
            self.wrong(Wrong { at, what }, seen)
        })?;
        let (attributes, stored) = own.map_or_else(
            || self.directives.of_all(),
            |(said, _)| (&said.attributes, &*said.stored),
        );
        if self.known.is_none() {
            let place = self.place(own.map_or(0, |(_, at)| at), seen);
            check(attributes, place, &self.dialect, &mut self.names)?;
        }
        let len = line.len();
        push_attributes(&mut line, stored);
        let is_suspect = true;
        self.note(&line[..len], Seen { is_suspect, ..seen });
        emit(&line);
        self.stored = line;
        Ok(())
    }

    /// The tasks of a command that is repeated.
    fn repeat(
        &mut self,
        tasks: &Tasks,
        seen: Seen,
        emit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ListError> {
        let mut command = Vec::new();
        let seen = Seen {
            has_cr: false,
            is_suspect: true,
            is_made: true,
            ..seen
        };
        for task in 0..tasks.count() {
            command.clear();
            tasks.push(&mut command, task);
            self.command(&command, seen, emit)?;
        }
        Ok(())
    }

    /// Notes a line that is not a task.
    fn note_comment(&mut self, text: &[u8], seen: Seen) {
        if is_nearly_one(text) {
            self.remarks.spaced.add(seen.number);
        }
    }

    /// Notes what could surprise about a task.
    fn note(&mut self, task: &[u8], seen: Seen) {
        let Seen {
            number,
            has_cr,
            is_suspect,
            ..
        } = seen;
        let dialect = &self.dialect;
        let is_set = |name: &str| dialect.is_set(name);
        let seen = &mut self.remarks;
        seen.tasks += 1;
        if self.known.is_some() {
            return;
        }
        if has_cr && memchr(b'\r', task).is_some() {
            seen.inner_cr.add(number);
        }
        if ends_in_escape(task) {
            seen.backslash.add(seen.lines);
        }
        if setup::only_sets_up(task) {
            if seen.setup.count == 0 {
                seen.setup_line = String::from_utf8_lossy(&task[..task.len().min(60)]).into();
            }
            seen.setup.add(number);
        }
        if is_suspect {
            for (_, name) in foreign_syntax::unset(task, &is_set) {
                seen.add_unset(name, number);
            }
            if memchr(b'#', task).is_some()
                && memchr::memmem::find(task, b"PYTF").is_some()
                && comment(task).is_some_and(|at| is_nearly_one(&task[at..]))
            {
                seen.spaced.add(number);
            }
        }
    }

    /// The line and the column of this byte of what was read, which may be joined from several
    /// lines.
    fn place(&self, at: usize, seen: Seen) -> Place {
        if seen.is_made || self.is_made {
            return Place {
                line: seen.number,
                column: 1,
            };
        }
        let at = seen.begin + at;
        let part = self.parts.iter().rev().find(|(begin, _)| *begin <= at);
        let (begin, line) = part.copied().unwrap_or((0, seen.number));
        let column = (at - begin) as u64 + 1;
        Place { line, column }
    }

    fn wrong(&self, Wrong { at, what }: Wrong, seen: Seen) -> ListError {
        let Place { line, column } = self.place(at, seen);
        ListError::Directive { line, column, what }
    }
}

/// Checks what is said of a task, and the names in it.
fn check(
    attributes: &Attributes,
    place: Place,
    dialect: &Dialect,
    names: &mut Names,
) -> Result<(), ListError> {
    let Place { line, column } = place;
    let can_run = dialect.check_task(attributes);
    can_run.map_err(|what| ListError::Directive { line, column, what })?;
    names.note(attributes, place, dialect.names)
}

/// What is known of a line beside its text.
#[derive(Clone, Copy)]
struct Seen {
    /// Where it begins in what was read, which may be joined from several lines.
    begin: usize,
    /// The number of its first line.
    number: u64,
    has_cr: bool,
    /// It may hold a mark or a variable.
    is_suspect: bool,
    /// It is not a line of the list but made from one, so its columns are not those of the user.
    is_made: bool,
}

/// A buffer to be used again; what a long line needed is given back.
fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer.shrink_to(64 << 10);
    buffer
}

#[cfg(test)]
mod directive_tests;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use proptest::prelude::*;

    type Parsed = Result<(Vec<Vec<u8>>, Remarks), ListError>;

    /// Parses chunks with a small limit, so that tests reach it.
    fn parse(chunks: &[&[u8]], limit: usize) -> Parsed {
        parse_as(Dialect::default(), chunks, limit)
    }

    fn parse_as(dialect: Dialect, chunks: &[&[u8]], limit: usize) -> Parsed {
        let mut parser = Parser::with(dialect, limit);
        let mut tasks = Vec::new();
        for chunk in chunks {
            parser.feed(chunk, &mut |task| tasks.push(task.to_vec()))?;
        }
        parser.finish(&mut |task| tasks.push(task.to_vec()))?;
        Ok((tasks, parser.remarks()))
    }

    #[test]
    fn lines_become_tasks() {
        for (list, tasks) in [
            (&b""[..], &[][..]),
            (b"\n\n", &[]),
            (b"# only\n  # comments\n\t#\n", &[]),
            (b"a\nb\n", &[&b"a"[..], b"b"]),
            (b"a\n\nb", &[b"a", b"b"]),
            (b"a\r\nb\r\n\r\n", &[b"a", b"b"]),
            (b"a \t \r\n", &[b"a"]),
            (b"  a  b\t\n", &[b"a  b"]),
            (b"echo a#b # c\n", &[b"echo a#b # c"]),
            (b"\xef\xbb\xbfa\n", &[b"a"]),
            (b"\xef\xbb\xbf# a\n", &[]),
            (b"a\n\xef\xbb\xbfb\n", &[b"a", b"\xef\xbb\xbfb"]),
            (b"echo \xff\xfe \x80\n", &[b"echo \xff\xfe \x80"]),
            (b"rm my\\ \nrm my\\   \r\n", &[b"rm my\\ ", b"rm my\\ "]),
            (b"rm my\\\\ \n", &[b"rm my\\\\"]),
            (b"a \\\n  b\\\r\nc\nd\n", &[b"a   bc", b"d"]),
            (b"a \\\n# b\nc\n", &[b"a # b", b"c"]),
            (b"# a \\\nb\n", &[b"b"]),
            (b"a \\\n\nb\n", &[b"a", b"b"]),
            (b"a \\", &[b"a \\"]),
            (b"a \\\n", &[b"a \\"]),
            (b"\\\n", &[b"\\"]),
            (b"a \\ \nb\n", &[b"a \\ ", b"b"]),
            (b"a\rb\n", &[b"a\rb"]),
            (b"\x0ca\n", &[b"\x0ca"]),
        ] {
            let (found, remarks) = parse(&[list], 1000).unwrap();
            assert_eq!(found, tasks, "{}", list.escape_ascii());
            assert_eq!(remarks.tasks, tasks.len() as u64);
        }
    }

    #[test]
    fn directives_change_the_tasks_below_and_are_comments_in_a_plain_list() {
        let list =
            b"a\n#PYTF prefix cd w &&\nb # c\n#PYTF repeat i=1-2 ./md {i}\n#PYTF defaults\nd\n";
        let (found, remarks) = parse(&[list], 1000).unwrap();
        let tasks = [
            "a",
            "cd w && b # c",
            "cd w && ./md 1",
            "cd w && ./md 2",
            "d",
        ];
        assert_eq!(found, tasks.map(|task| task.as_bytes().to_vec()));
        assert_eq!(remarks.tasks, 5);
        let plain = Dialect {
            plain: true,
            ..Dialect::default()
        };
        let (found, _) = parse_as(plain, &[list], 1000).unwrap();
        assert_eq!(
            found,
            ["a", "b # c", "d"].map(|task| task.as_bytes().to_vec())
        );
        for (list, at, part) in [
            (&b"a\n  #PYTF perfix b\n"[..], (2, 9), "did you mean"),
            (
                b"#PYTF suffix > f\na # b\n",
                (2, 3),
                "a part of this comment",
            ),
            (
                b"#PYTF suffix > f\na \\\n  # b\n",
                (3, 3),
                "a part of this comment",
            ),
        ] {
            let error = parse(&[list], 1000).unwrap_err();
            let ListError::Directive { line, column, what } = &error else {
                panic!("{error}");
            };
            assert_eq!((*line, *column), at, "{what}");
            assert!(what.contains(part), "{what}");
        }
        let (_, remarks) = parse(&[b"# PYTF prefix a\nb\n"], 1000).unwrap();
        assert!(remarks.messages()[0].contains("a directive is written #PYTF"));
    }

    #[test]
    fn what_cannot_run_is_named_by_its_line() {
        let nul = |line, utf16| Err(ListError::Nul { line, utf16 });
        let long = |line| Err(ListError::TooLong { line, limit: 10 });
        for (list, error) in [
            (&b"a\n\nb\0\n"[..], nul(3, false)),
            (b"\0", nul(1, false)),
            (b"\xff\xfee\0c\0", nul(1, true)),
            (b"a\n0123456789a\n", long(2)),
            (b"0123456789a", long(1)),
            (b"0123456789a\0", long(1)),
            (b"0123456789\0", nul(1, false)),
            (b"           # blanks count\n", long(1)),
        ] {
            assert_eq!(parse(&[list], 10), error, "{}", list.escape_ascii());
        }
        assert!(parse(&[b"0123456789\n0123456789"], 10).is_ok());
    }

    #[test]
    fn a_line_without_end_is_not_hoarded() {
        let mut parser = Parser::of(Dialect::default());
        let chunk = vec![b'x'; 1 << 20];
        let fed = (0..1000).take_while(|_| parser.feed(&chunk, &mut |_| ()).is_ok());
        assert_eq!(fed.count(), LONGEST_LINE >> 20);
        assert!(parser.carry.capacity() <= 2 * LONGEST_LINE);
    }

    #[test]
    fn a_long_line_does_not_hold_its_memory_for_ever() {
        let mut parser = Parser::of(Dialect::default());
        parser.feed(&vec![b'x'; 8 << 20], &mut |_| ()).unwrap();
        parser.feed(b"\na", &mut |_| ()).unwrap();
        assert!(parser.carry.capacity() <= 64 << 10);
    }

    #[test]
    fn surprises_are_reported() {
        let list = b"\xef\xbb\xbfa\r\n# c\\\nb \\\n  c\\\n\r\nd\re\r\nf\\\\";
        let plain = Dialect {
            plain: true,
            ..Dialect::default()
        };
        let (tasks, remarks) = parse_as(plain, &[list], 1000).unwrap();
        assert_eq!(tasks.len(), 5);
        assert!(remarks.no_final_newline);
        assert_eq!(
            remarks.to_string(),
            "the list begins with a byte order mark: not taken as part of line 1\n\
             3 of 7 lines end in CR LF (Windows): the CR is not taken as part of the task\n\
             line 6: a CR in the middle of the line does not end the task\n\
             line 3 and 1 more: ends in a backslash, but a task does not continue on the next line"
        );
        assert!(parse(&[b"a\nb"], 10).unwrap().1.messages().is_empty());
    }

    #[test]
    fn directives_of_other_tools_are_errors_with_their_place() {
        for (list, line, column, what) in [
            ("a\n#DISBATCH BARRIER\nb\n", 2, 1, "disBatch"),
            ("a\n\n  ./b  #SWARM -g 5\n", 3, 8, "swarm"),
            ("a \\\n  b \\\n c #@2", 3, 4, "runtask"),
            ("a\n 5,./b\n", 2, 2, "pylauncher"),
        ] {
            let error = parse(&[list.as_bytes()], 1000).unwrap_err();
            let said = error.to_string();
            assert!(
                said.starts_with(&format!("line {line}, column {column}: ")),
                "{said}"
            );
            assert!(said.contains(what) && said.contains("--plain"), "{said}");
            let plain = Dialect {
                plain: true,
                ..Dialect::default()
            };
            let lines = list
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with('#'));
            let (tasks, _) = parse_as(plain, &[list.as_bytes()], 1000).unwrap();
            assert_eq!(
                tasks.len(),
                lines.count(),
                "each line of {list:?} is one task"
            );
        }
        assert_eq!(parse(&[b"a\rb\rc"], 1000), Err(ListError::OldMac));
        assert_eq!(parse(&[b"a\rb\rc\r"], 1000), Err(ListError::OldMac));
        assert!(parse(&[b"a\r"], 1000).is_ok());
    }

    #[test]
    fn what_does_not_reach_other_tasks_is_reported() {
        let variables = Some(Arc::new(HashSet::from(["USER".to_owned()])));
        let dialect = Dialect {
            variables,
            ..Dialect::default()
        };
        let list = "cd a\n./b $SEED\nmodule load c\n./d $USER $PYTF_SLOT $SEED $N\n";
        let (tasks, remarks) = parse_as(dialect, &[list.as_bytes()], 1000).unwrap();
        assert_eq!(tasks.len(), 4);
        assert_eq!(
            remarks.messages(),
            [
                "line 1 and 1 more: only sets up its own shell, which no other task sees ('cd a'): \
                 write it into each line, as in: cd a && COMMAND",
                "line 2 and 1 more: $SEED is set neither in the environment nor in the line",
                "line 4: $N is set neither in the environment nor in the line",
            ]
        );
    }

    /// The same by the obvious way, for well-formed lists.
    fn obvious_way(list: &[u8]) -> Vec<Vec<u8>> {
        let list = list.strip_prefix(BYTE_ORDER_MARK).unwrap_or(list);
        let mut tasks = Vec::new();
        for line in joined(list) {
            let mut line = line;
            let mut popped = None;
            while let Some(b' ' | b'\t' | b'\r') = line.last() {
                popped = line.pop();
            }
            while let Some(b' ' | b'\t') = line.first() {
                line.remove(0);
            }
            let slashes = line.iter().rev().take_while(|&&b| b == b'\\').count();
            match popped {
                Some(blank) if slashes % 2 == 1 && blank != b'\r' => line.push(blank),
                _ => (),
            }
            if !line.is_empty() && line[0] != b'#' {
                tasks.push(line);
            }
        }
        tasks
    }

    /// Lines, those that end in a backslash together with the next one.
    fn joined(list: &[u8]) -> Vec<Vec<u8>> {
        let (mut lines, mut open) = (Vec::new(), None::<Vec<u8>>);
        // Behind the last line end there is no line.
        let list = list.strip_suffix(b"\n").unwrap_or(list);
        for line in list.split(|&b| b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_comment =
                open.is_none() && line.iter().find(|b| !matches!(b, b' ' | b'\t')) == Some(&b'#');
            let slashes = line.iter().rev().take_while(|&&b| b == b'\\').count();
            let mut whole = open.take().unwrap_or_default();
            if slashes % 2 == 1 && !is_comment {
                whole.extend_from_slice(&line[..line.len() - 1]);
                open = Some(whole);
            } else {
                whole.extend_from_slice(line);
                lines.push(whole);
            }
        }
        lines.extend(open.map(|open| [&open[..], b"\\"].concat()));
        lines
    }

    fn lists() -> impl Strategy<Value = Vec<u8>> {
        let piece = proptest::sample::select(vec![
            &b"\n"[..],
            b" ",
            b"\t",
            b"\r",
            b"\r\n",
            b"\\",
            b"#",
            b"\xef\xbb\xbf",
            b"a",
            b"echo \xff",
        ]);
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    fn cut(list: &[u8], mut at: Vec<usize>) -> Vec<&[u8]> {
        for at in &mut at {
            *at %= list.len() + 1;
        }
        at.sort_unstable();
        let ends = at.iter().copied().chain([list.len()]);
        let mut begin = 0;
        ends.map(|end| &list[std::mem::replace(&mut begin, end)..end])
            .collect()
    }

    proptest! {
        #[test]
        fn it_is_what_the_obvious_way_gives(list in lists()) {
            // One line that ends in CR alone is an error, and not reported in this way.
            prop_assume!(list.contains(&b'\n') || !list.contains(&b'\r'));
            prop_assert_eq!(parse(&[&list], 1000).unwrap().0, obvious_way(&list));
        }

        #[test]
        fn cuts_change_nothing(
            list in lists(),
            nul in proptest::option::of(0..60usize),
            limit in prop_oneof![Just(1000usize), 1..12usize],
            at in proptest::collection::vec(0..400usize, 0..8),
        ) {
            let mut list = list;
            if let Some(nul) = nul && nul < list.len() {
                list[nul] = 0;
            }
            let bytes: Vec<&[u8]> = list.chunks(1).collect();
            let whole = parse(&[&list], limit);
            prop_assert_eq!(&parse(&bytes, limit), &whole);
            prop_assert_eq!(&parse(&cut(&list, at), limit), &whole);
        }
    }

    /// `cargo test --release -- --ignored list_speed --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn list_speed() {
        let list = b"python simulate.py --seed 12345 --out results/12345\n".repeat(4_000_000);
        let begin = std::time::Instant::now();
        let (mut parser, mut bytes) = (Parser::of(Dialect::default()), 0);
        for chunk in list.chunks(256 << 10) {
            parser.feed(chunk, &mut |task| bytes += task.len()).unwrap();
        }
        let rate = list.len() as u128 / begin.elapsed().as_micros();
        println!("{bytes} bytes of tasks, {rate} MB/s");
    }
}
