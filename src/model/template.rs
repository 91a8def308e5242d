//! A command and lists of values in place of a task list: `./md -T {1} ::: 300 310 ::: a b`.
//!
//! The words, the order of the tasks and the replacement strings are those of GNU parallel 20221122,
//! with which `tests/black_box` compares them. Where GNU parallel would leave something out in
//! silence, there is an error: a list without values, `{3}` with two lists. Guarantee: a value never
//! becomes shell syntax, also where its replacement string is in quotes, and the same template makes
//! the same tasks in the same order.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::shell_text::{Quoting, push_quoted, quoting};

/// A command and the lists of values for which it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    inputs: Vec<Input>,
    /// Each value is a row of columns; then the pieces are not known before the values.
    columns: Option<Columns>,
}

/// How values are split.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Columns {
    command: Vec<u8>,
    separator: Vec<u8>,
}

/// A list of values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Input {
    values: Values,
    /// It goes along with the list before it, value by value.
    is_linked: bool,
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Values {
    Given(Vec<Vec<u8>>),
    /// The lines of this file.
    File(PathBuf),
}

/// A part of the command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Piece {
    Text(Vec<u8>),
    /// `{#}`: the number of the task, from 1.
    Number,
    Value {
        which: Which,
        part: Part,
        /// `None` where the value is the command itself.
        quoting: Option<Quoting>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    /// One value of each list, with blanks between them.
    All,
    /// The value of this list, from 0.
    Of(usize),
}

/// What of a value is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Whole,
    WithoutExtension,
    Name,
    Folder,
    NameWithoutExtension,
}

/// Why the words are not a template.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// There is a command and no list of values.
    #[error(
        "no values follow the command after --: add ::: VALUE ... or :::: FILE ...; a task list comes \
         before --"
    )]
    NoValues,
    /// A list without values would mean no task.
    #[error("no values follow '{0}'")]
    EmptyList(&'static str),
    /// The first list has none before it.
    #[error("'{0}' goes along with the list before it, but it is the first")]
    NothingToLink(&'static str),
    /// The number of a list that is not there.
    #[error("'{name}' means a list of values that is not there: there are {lists}")]
    NoSuchList {
        /// The replacement string.
        name: String,
        /// How many lists there are.
        lists: usize,
    },
    /// Values that are in no task.
    #[error("'{0}' is not in the command: without it the same task would run many times")]
    Unused(String),
    /// A replacement string of GNU parallel that means nothing here.
    #[error("'{name}' of GNU parallel is not known here: {instead}")]
    Unknown {
        /// The replacement string.
        name: &'static str,
        /// What to write instead.
        instead: &'static str,
    },
    /// A value there could become a part of the command.
    #[error("'{name}' cannot be quoted in backticks or after a backslash: write $(...), or quotes")]
    Unsafe {
        /// The replacement string.
        name: String,
    },
    /// Options of pytf end at `--`.
    #[error("the command begins with '{0}': options of pytf come before --")]
    Option(String),
    /// It would be read as a comment.
    #[error("the command begins with #, so each task would be a comment")]
    Comment,
    /// A text is expected.
    #[error(
        "--colsep '{0}' is a regular expression: only a text is understood, as in ',' or '\\t'"
    )]
    Separator(String),
    /// `{3}` would be empty in some tasks.
    #[error("the value '{value}' has {columns} columns, and the first has {first}")]
    Ragged {
        /// The row.
        value: String,
        /// How many it has.
        columns: usize,
        /// How many the first has.
        first: usize,
    },
    /// A task is one line of text.
    #[error("{0} holds {1}, which a task cannot hold")]
    Unusable(String, &'static str),
}

/// The marks of lists: whether their words are files, and whether the list is linked.
const MARKS: [(&str, bool, bool); 4] = [
    (":::", false, false),
    (":::+", false, true),
    ("::::", true, false),
    ("::::+", true, true),
];
const PARTS: [(&str, Part); 5] = [
    ("", Part::Whole),
    (".", Part::WithoutExtension),
    ("/", Part::Name),
    ("//", Part::Folder),
    ("/.", Part::NameWithoutExtension),
];

/// What a word that begins a list of values means.
fn mark(word: &[u8]) -> Option<(&'static str, bool, bool)> {
    let mut marks = MARKS.into_iter();
    marks.find(|(mark, ..)| mark.as_bytes() == word)
}

/// Whether a word begins a list of values.
pub fn is_mark(word: &[u8]) -> bool {
    mark(word).is_some()
}

impl Template {
    /// Reads the words after `--`.
    pub fn of(words: &[&[u8]]) -> Result<Self, TemplateError> {
        for word in words {
            check_bytes("a word after --", word)?;
            if word.contains(&b'\n') {
                let name = "a word after --".to_owned();
                return Err(TemplateError::Unusable(name, "a line feed"));
            }
        }
        let is_mark = |word: &&[u8]| mark(word).is_some();
        let command = words.iter().position(is_mark).unwrap_or(words.len());
        let (command, mut rest) = words.split_at(command);
        let mut inputs = Vec::new();
        while let Some((first, after)) = rest.split_first() {
            let len = after.iter().position(is_mark).unwrap_or(after.len());
            let (values, next) = after.split_at(len);
            rest = next;
            inputs.extend(self::inputs(first, values, inputs.is_empty())?);
        }
        if inputs.is_empty() {
            return Err(TemplateError::NoValues);
        }
        let command = command.join(&b' ');
        let pieces = all_pieces(&command, inputs.len())?;
        let columns = None;
        Ok(Self {
            pieces,
            inputs,
            columns,
        })
    }

    /// The same where each value is a row, whose columns are separated by this text, as with
    /// `--colsep` of GNU parallel: the columns are lists that are linked, without the blanks
    /// around them.
    pub fn of_columns(words: &[&[u8]], separator: &[u8]) -> Result<Self, TemplateError> {
        const SPECIAL: &[u8] = b".*+?[](){}|^$\\";
        let separator = match separator {
            b"\\t" => b"\t",
            b"\\|" => b"|",
            text => text,
        };
        let is_special = |byte: &u8| SPECIAL.contains(byte) && separator != b"|";
        if separator.is_empty() || separator.iter().any(is_special) {
            let text = String::from_utf8_lossy(separator).into_owned();
            return Err(TemplateError::Separator(text));
        }
        let is_mark = |word: &&[u8]| mark(word).is_some();
        let command = words.iter().position(is_mark).unwrap_or(words.len());
        let command = words[..command].join(&b' ');
        // What it says of lists can be judged when the columns are there.
        let without = [
            &[&b"{}"[..]],
            &words[words.iter().position(is_mark).unwrap_or(words.len())..],
        ]
        .concat();
        let separator = separator.to_vec();
        Ok(Self {
            columns: Some(Columns { command, separator }),
            ..Self::of(&without)?
        })
    }

    /// Reads the files among the lists with `read`; then it can make tasks.
    pub fn tasks<E: From<TemplateError>>(
        &self,
        read: impl Fn(&Path) -> Result<Vec<u8>, E>,
    ) -> Result<Tasks, E> {
        let mut groups: Vec<Group> = Vec::new();
        for Input { values, is_linked } in &self.inputs {
            let values = match values {
                Values::Given(values) => values.clone(),
                Values::File(path) => {
                    let bytes = read(path)?;
                    check_bytes(&path.display().to_string(), &bytes)?;
                    lines(&bytes)
                }
            };
            let lists = match &self.columns {
                None => vec![values],
                Some(columns) => columns.of(&values)?,
            };
            let len = lists.first().map_or(0, Vec::len);
            match groups.last_mut().filter(|_| *is_linked) {
                Some(group) => {
                    group.len = group.len.min(len);
                    group.lists.extend(lists);
                }
                None => groups.push(Group { lists, len }),
            }
        }
        let count = groups.iter().map(|group| group.lists.len()).sum();
        let pieces = match &self.columns {
            None => self.pieces.clone(),
            Some(columns) => all_pieces(&columns.command, count)?,
        };
        Ok(Tasks { pieces, groups })
    }
}

impl Columns {
    /// The columns of rows.
    fn of(&self, rows: &[Vec<u8>]) -> Result<Vec<Vec<Vec<u8>>>, TemplateError> {
        let finder = memchr::memmem::Finder::new(&self.separator);
        let mut columns: Vec<Vec<Vec<u8>>> = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            let mut begin = 0;
            let ends = finder.find_iter(row).chain([row.len()]);
            let cells: Vec<_> = ends
                .map(|end| {
                    let cell = row[begin..end].trim_ascii().to_vec();
                    begin = end + self.separator.len();
                    cell
                })
                .collect();
            if number == 0 {
                columns.resize(cells.len(), Vec::new());
            }
            if cells.len() != columns.len() {
                return Err(TemplateError::Ragged {
                    value: String::from_utf8_lossy(row).into_owned(),
                    columns: cells.len(),
                    first: columns.len(),
                });
            }
            for (column, cell) in columns.iter_mut().zip(cells) {
                column.push(cell);
            }
        }
        Ok(columns)
    }
}

/// The parts of a command with so many lists; without a replacement string, all values follow it.
fn all_pieces(command: &[u8], lists: usize) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = pieces(command, &|name| numbered(name, lists))?;
    if !pieces.iter().any(|piece| !matches!(piece, Piece::Text(_))) {
        let is_empty = command.trim_ascii().is_empty();
        if !is_empty {
            pieces.push(Piece::Text(b" ".to_vec()));
        }
        pieces.push(Piece::Value {
            which: Which::All,
            part: Part::Whole,
            // Without a command the values are the commands.
            quoting: (!is_empty).then_some(Quoting::Bare),
        });
    }
    Ok(pieces)
}

/// The lists of values after a mark.
fn inputs(first: &[u8], words: &[&[u8]], is_first: bool) -> Result<Vec<Input>, TemplateError> {
    let Some((mark, is_file, is_linked)) = mark(first) else {
        return Ok(Vec::new());
    };
    if words.is_empty() {
        return Err(TemplateError::EmptyList(mark));
    }
    if is_linked && is_first {
        return Err(TemplateError::NothingToLink(mark));
    }
    let input = |values| Input { values, is_linked };
    Ok(if is_file {
        let files = words.iter().map(|word| OsStr::from_bytes(word).into());
        files.map(|file| input(Values::File(file))).collect()
    } else {
        vec![input(Values::Given(
            words.iter().map(|word| word.to_vec()).collect(),
        ))]
    })
}

/// What a name between braces means; `None` where it is no replacement string.
type Resolve<'a> = &'a dyn Fn(&str) -> Result<Option<Replacement>, TemplateError>;

/// A replacement string.
enum Replacement {
    Number,
    Value(Which, Part),
}

/// The parts of a command.
fn pieces(command: &[u8], resolve: Resolve<'_>) -> Result<Vec<Piece>, TemplateError> {
    let command = command.trim_ascii();
    match command.first() {
        Some(b'#') => return Err(TemplateError::Comment),
        Some(b'-') => {
            let word = command.split(|&byte| byte == b' ').next();
            let word = String::from_utf8_lossy(word.unwrap_or_default()).into_owned();
            return Err(TemplateError::Option(word));
        }
        _ => {}
    }
    let (mut pieces, mut at, mut text) = (Vec::new(), 0, 0);
    while let Some(open) = memchr::memchr(b'{', &command[at..]).map(|found| at + found) {
        at = open + 1;
        let Some(close) = memchr::memchr(b'}', &command[at..]).map(|found| at + found) else {
            break;
        };
        let Some(name) = std::str::from_utf8(&command[at..close]).ok() else {
            continue;
        };
        let piece = match resolve(name)? {
            None => continue,
            Some(Replacement::Number) => Piece::Number,
            Some(Replacement::Value(which, part)) => {
                let name = || format!("{{{name}}}");
                let quoting = quoting(&command[..open]);
                let quoting = quoting.ok_or_else(|| TemplateError::Unsafe { name: name() })?;
                let quoting = Some(quoting);
                Piece::Value {
                    which,
                    part,
                    quoting,
                }
            }
        };
        pieces.push(Piece::Text(command[text..open].to_vec()));
        pieces.push(piece);
        (at, text) = (close + 1, close + 1);
    }
    pieces.push(Piece::Text(command[text..].to_vec()));
    Ok(pieces)
}

/// GNU parallel's replacement strings, of so many lists.
fn numbered(name: &str, lists: usize) -> Result<Option<Replacement>, TemplateError> {
    if name == "#" {
        return Ok(Some(Replacement::Number));
    }
    if name == "%" {
        let instead = "write $PYTF_SLOT";
        return Err(TemplateError::Unknown {
            name: "{%}",
            instead,
        });
    }
    if name.len() > 1 && name.starts_with('=') && name.ends_with('=') {
        let instead = "it is Perl; write the values, or a list with one command per line";
        return Err(TemplateError::Unknown {
            name: "{= =}",
            instead,
        });
    }
    let digits = name.find(|c: char| !c.is_ascii_digit() && c != '-');
    let (number, part) = name.split_at(digits.unwrap_or(name.len()));
    let Some((_, part)) = PARTS.into_iter().find(|(text, _)| *text == part) else {
        return Ok(None);
    };
    let which = match number.parse::<i64>() {
        _ if number.is_empty() => Which::All,
        Err(_) => return Ok(None),
        Ok(number) => {
            let count = i64::try_from(lists).unwrap_or(i64::MAX);
            let at = if number < 0 {
                count + number
            } else {
                number - 1
            };
            let of = usize::try_from(at).ok().filter(|at| *at < lists);
            let name = format!("{{{name}}}");
            Which::Of(of.ok_or(TemplateError::NoSuchList { name, lists })?)
        }
    };
    Ok(Some(Replacement::Value(which, part)))
}

/// The lines of a file of values.
fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = bytes.split(|&byte| byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec());
    if bytes.is_empty() {
        Vec::new()
    } else {
        lines.collect()
    }
}

/// Refuses bytes that no command can hold.
fn check_bytes(name: &str, bytes: &[u8]) -> Result<(), TemplateError> {
    match memchr::memchr(0, bytes) {
        Some(_) => Err(TemplateError::Unusable(name.to_owned(), "a NUL byte")),
        None => Ok(()),
    }
}

/// The tasks of a template.
#[derive(Debug, Hash)]
pub struct Tasks {
    pieces: Vec<Piece>,
    groups: Vec<Group>,
}

/// Lists that are linked: their values go together.
#[derive(Debug, Hash)]
struct Group {
    lists: Vec<Vec<Vec<u8>>>,
    /// The length of the shortest.
    len: usize,
}

impl Tasks {
    /// Those of a command with `{NAME}` where the value of a list is inserted; each list has its
    /// name. They are combined as the lists of [`Template`].
    pub fn named(command: &[u8], lists: Vec<(&str, Vec<Vec<u8>>)>) -> Result<Self, TemplateError> {
        let resolve = |name: &str| {
            let list = lists.iter().position(|(known, _)| *known == name);
            Ok(list.map(|list| Replacement::Value(Which::Of(list), Part::Whole)))
        };
        let pieces = pieces(command, &resolve)?;
        let is_used = |list: usize| {
            let is_it = |piece: &Piece| matches!(piece, Piece::Value { which: Which::Of(of), .. } if *of == list);
            pieces.iter().any(is_it)
        };
        if let Some(list) = (0..lists.len()).find(|list| !is_used(*list)) {
            return Err(TemplateError::Unused(format!("{{{}}}", lists[list].0)));
        }
        let group = |(_, values): (&str, Vec<Vec<u8>>)| Group {
            len: values.len(),
            lists: vec![values],
        };
        let groups = lists.into_iter().map(group).collect();
        Ok(Self { pieces, groups })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        let lens = self.groups.iter().map(|group| group.len as u64);
        lens.fold(1, u64::saturating_mul)
    }

    /// Appends the command of this task, counted from 0; the values of the last list change
    /// fastest.
    pub fn push(&self, out: &mut Vec<u8>, number: u64) {
        let mut values = Vec::new();
        let mut rest = number;
        for group in self.groups.iter().rev() {
            let len = group.len as u64;
            let at = usize::try_from(rest % len).unwrap_or(0);
            rest /= len;
            values.extend(group.lists.iter().rev().map(|list| &*list[at]));
        }
        values.reverse();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Number => out.extend_from_slice((number + 1).to_string().as_bytes()),
                Piece::Value {
                    which,
                    part,
                    quoting,
                } => {
                    let values = match which {
                        Which::All => &values[..],
                        Which::Of(list) => &values[*list..=*list],
                    };
                    for (at, value) in values.iter().enumerate() {
                        if at > 0 {
                            out.push(b' ');
                        }
                        push(out, part.of(value), *quoting);
                    }
                }
            }
        }
    }
}

/// Appends a value in these quotes; without any, as it is.
fn push(out: &mut Vec<u8>, value: &[u8], quoting: Option<Quoting>) {
    match quoting {
        Some(quoting) => push_quoted(out, value, quoting),
        None => out.extend_from_slice(value),
    }
}

impl Part {
    /// This part of a value, as GNU parallel cuts it.
    fn of(self, value: &[u8]) -> &[u8] {
        let slash = memchr::memrchr(b'/', value);
        let name = &value[slash.map_or(0, |at| at + 1)..];
        match self {
            Self::Whole => value,
            Self::Name => name,
            Self::WithoutExtension => &value[..value.len() - name.len() + stem(name)],
            Self::NameWithoutExtension => &name[..stem(name)],
            Self::Folder => folder(value),
        }
    }
}

/// The length of a file's name without its extension.
fn stem(name: &[u8]) -> usize {
    memchr::memrchr(b'.', name).unwrap_or(name.len())
}

/// dirname(1).
fn folder(value: &[u8]) -> &[u8] {
    let without = |value: &[u8]| {
        value
            .iter()
            .rposition(|&b| b != b'/')
            .map_or(0, |at| at + 1)
    };
    let path = &value[..without(value)];
    match memchr::memrchr(b'/', path) {
        _ if path.is_empty() && !value.is_empty() => b"/",
        None => b".",
        Some(slash) => match without(&path[..slash]) {
            0 => b"/",
            len => &path[..len],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tasks of the words of a text, which are separated by `|`.
    fn tasks(words: &str) -> Result<Vec<String>, TemplateError> {
        let words: Vec<&[u8]> = words.split('|').map(str::as_bytes).collect();
        let words = if words == [b""] { &[][..] } else { &words };
        let read = |path: &Path| match path.to_str() {
            Some("empty") => Ok(Vec::new()),
            Some("nul") => Ok(b"a\0".to_vec()),
            _ => Ok::<_, TemplateError>(b"p\n\nq r\r\n".to_vec()),
        };
        let tasks = Template::of(words)?.tasks(read)?;
        let text = |number| {
            let mut out = Vec::new();
            tasks.push(&mut out, number);
            String::from_utf8(out).unwrap()
        };
        Ok((0..tasks.count()).map(text).collect())
    }

    #[test]
    fn templates_make_tasks_in_order() {
        for (words, expected) in [
            ("echo|:::|a|b", &["echo a", "echo b"][..]),
            (
                "e|{1}-{2}|:::|a|b|:::|c|d",
                &["e a-c", "e a-d", "e b-c", "e b-d"],
            ),
            (
                "e|:::|a|b|:::+|c|d|e|:::|1|2",
                &["e a c 1", "e a c 2", "e b d 1", "e b d 2"],
            ),
            ("e {-1} {-2}|:::|a|:::|b", &["e b a"]),
            ("e|{#}|:::|x|y", &["e 1", "e 2"]),
            (
                "e|{.}|{/}|{//}|{/.}|:::|d/f.tar.gz",
                &["e d/f.tar f.tar.gz d f.tar"],
            ),
            (":::|echo a|ls -l", &["echo a", "ls -l"]),
            ("e {foo} {1..3} ${A}|:::|x", &["e {foo} {1..3} ${A} x"]),
            ("e|::::|file", &["e p", "e ''", "e 'q r'"]),
            ("e|::::|file|empty", &[]),
            ("e|{}|{}|:::|a b", &["e 'a b' 'a b'"]),
        ] {
            assert_eq!(tasks(words).unwrap(), expected, "{words}");
        }
    }

    /// A value must stay one word, whatever it holds and wherever it is put.
    #[test]
    fn a_value_is_never_shell_syntax() {
        let values = [
            "a  b",
            "it's",
            "$(touch x)",
            "`id`",
            "a\"b",
            "\\",
            "$HOME",
            "",
            "~",
            "#a",
            "*",
            "a;b",
            "!x",
            "\t",
            "{}",
            "é",
        ];
        for command in [
            "printf %s\\\\n {}",
            "printf %s\\\\n \"{}\"",
            "printf %s\\\\n '{}'",
            "printf %s\\\\n $'{}'",
            "printf %s\\\\n \"$(printf %s {})\"",
            "printf %s\\\\n x{}y",
        ] {
            for value in values {
                let words = [command.as_bytes(), b":::", value.as_bytes()];
                let tasks = Template::of(&words)
                    .unwrap()
                    .tasks(|_| Ok::<_, TemplateError>(Vec::new()))
                    .unwrap();
                let mut line = Vec::new();
                tasks.push(&mut line, 0);
                let line = String::from_utf8(line).unwrap();
                let run = std::process::Command::new("bash")
                    .args(["-c", &line])
                    .output()
                    .unwrap();
                let expected = if command.contains('x') {
                    format!("x{value}y\n")
                } else {
                    format!("{value}\n")
                };
                assert_eq!(String::from_utf8(run.stdout).unwrap(), expected, "{line}");
            }
        }
    }

    #[test]
    fn rows_have_columns() {
        let tasks = |words: &str, separator: &str| {
            let words: Vec<&[u8]> = words.split('|').map(str::as_bytes).collect();
            let template = Template::of_columns(&words, separator.as_bytes())?;
            let tasks = template.tasks(|_| Ok::<_, TemplateError>(b"a, b c ,d\ne,f,g".to_vec()))?;
            let text = |number| {
                let mut out = Vec::new();
                tasks.push(&mut out, number);
                String::from_utf8(out).unwrap()
            };
            Ok::<_, TemplateError>((0..tasks.count()).map(text).collect::<Vec<_>>())
        };
        let read = tasks("e {2} {1} {-1}|::::|file", ",").unwrap();
        assert_eq!(read, ["e 'b c' a d", "e f e g"]);
        assert_eq!(tasks("e|::::|file", ",").unwrap()[1], "e e f g");
        let read = tasks("e {3} {1}|:::|a b|:::|x y", " ").unwrap();
        assert_eq!(read, ["e x a"]);
        for (words, separator, part) in [
            ("e {4}|::::|file", ",", "'{4}' means"),
            ("e|:::|a,b|c", ",", "has 1 columns, and the first has 2"),
            ("e|::::|file", "\\s+", "regular expression"),
            ("e|::::|file", "", "regular expression"),
            ("e", ",", "no values follow"),
        ] {
            let error = tasks(words, separator).unwrap_err().to_string();
            assert!(error.contains(part), "{words}: {error}");
        }
    }

    #[test]
    fn what_is_not_a_template_is_refused() {
        for (words, part) in [
            ("", "no values follow the command"),
            ("echo|a", "no values follow the command"),
            ("echo|:::", "no values follow ':::'"),
            ("echo|:::|:::|a", "no values follow ':::'"),
            ("echo|:::+|a", "goes along with the list before it"),
            (
                "echo|{2}|:::|a",
                "'{2}' means a list of values that is not there: there are 1",
            ),
            ("echo|{0}|:::|a", "'{0}' means"),
            ("echo|{-2.}|:::|a", "'{-2.}' means"),
            ("echo|{%}|:::|a", "$PYTF_SLOT"),
            ("echo|{=s/a/b/=}|:::|a", "Perl"),
            ("echo|`ls {}`|:::|a", "backticks"),
            ("echo|\\{}|:::|a", "backticks"),
            ("-k|echo|:::|a", "begins with '-k'"),
            ("# a|:::|a", "comment"),
            ("echo|:::|a\nb", "a line feed"),
            ("echo|::::|nul", "nul holds a NUL byte"),
        ] {
            let error = tasks(words).unwrap_err().to_string();
            assert!(error.contains(part), "{words}: {error}");
        }
    }
}
