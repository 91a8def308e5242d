//! `#PYTF`: on a line of its own, what holds for the tasks below, and a command that is repeated;
//! at the end of a command, what is said of this task.
//!
//! | line | the tasks below |
//! |---|---|
//! | `#PYTF prefix TEXT` | begin with this text; without a text, with none |
//! | `#PYTF suffix TEXT` | end with it |
//! | `#PYTF env NAME=value …` | have these variables, as after the shell's `export` |
//! | `#PYTF cpus=4 mem=8G …` | have these attributes, unless their own lines say otherwise |
//! | `#PYTF defaults` | have nothing of that |
//! | `#PYTF barrier` | start when all tasks above have ended |
//! | `#PYTF barrier ok` | start when all tasks since the barrier above have finished |
//! | `#PYTF repeat i=0-999:10 T=300,310 COMMAND` | is one task for each combination of the values, with `{i}` and `{T}` in the command |
//!
//! Guarantee: what is not understood is an error at its place; a list without `#PYTF` means what
//! it says, byte for byte.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memmem;

use super::dialect::Dialect;
use crate::model::attributes::{self, Attributes, Key, Stage, WORD, directive};
use crate::model::shell_text::comment;
use crate::model::template::Tasks;

/// The most values of a range.
const MOST: u64 = 10_000_000;

/// What a line can say beside attributes.
const VERBS: [&str; 6] = ["prefix", "suffix", "env", "defaults", "repeat", "barrier"];

/// What is wrong with a directive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The byte in the line, from 0.
    pub(super) at: usize,
    pub(super) what: String,
}

/// What is said of a task.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) attributes: Attributes,
    /// Their stored form.
    pub(super) stored: Vec<u8>,
}

impl Said {
    pub(super) fn of(attributes: Attributes) -> Self {
        let stored = attributes.to_string().into_bytes();
        Self { attributes, stored }
    }
}

/// How many texts are kept of those behind commands. Most lists have few, in many lines.
const KEPT: usize = 4096;

/// What holds for the tasks that follow.
#[derive(Debug, Default)]
pub(super) struct Directives {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    /// The words after `export`.
    env: Vec<u8>,
    /// What holds for all tasks.
    base: Attributes,
    /// What holds for those below.
    attributes: Attributes,
    /// The stored form of the attributes of a task of which its line says nothing.
    stored: Vec<u8>,
    /// What was said behind commands with these texts, under what holds for all.
    known: HashMap<Vec<u8>, Arc<Said>>,
    /// The next task is the first since a barrier.
    is_first: bool,
    /// Whether there may be barriers.
    has_barriers: bool,
}

/// Whether a comment was probably meant as a directive: `# PYTF …`.
pub(super) fn is_nearly_one(line: &[u8]) -> bool {
    let rest = line.strip_prefix(b"#").map(<[u8]>::trim_ascii_start);
    let rest = rest.and_then(|rest| rest.strip_prefix(&WORD[1..]));
    directive(line).is_none() && rest.is_some_and(|rest| matches!(rest.first(), Some(b' ' | b'\t')))
}

impl Directives {
    /// None yet.
    pub(super) fn of(dialect: &Dialect) -> Self {
        let mut new = Self {
            base: dialect.attributes.clone(),
            is_first: true,
            has_barriers: dialect.has_barriers,
            ..Self::default()
        };
        new.clear();
        new
    }

    /// Takes in a line, of which `rest` follows the word. Returns the tasks that it stands for.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<Option<Tasks>, Wrong> {
        let (verb, text) = word(line, WORD.len());
        let wrong = |at, what| Err(Wrong { at, what });
        if line.ends_with(b"\\") {
            return wrong(
                line.len() - 1,
                "a directive is one line: it cannot go on in the next".into(),
            );
        }
        match verb.text {
            b"prefix" => self.prefix = text.text.to_vec(),
            b"suffix" => self.suffix = text.text.to_vec(),
            b"env" => self.set(&text)?,
            b"defaults" if text.text.is_empty() => self.clear(),
            b"defaults" => return wrong(text.at, "nothing follows 'defaults'".into()),
            b"repeat" => return repeat(&text).map(Some),
            b"barrier" => self.barrier(verb.at, &text)?,
            other if is_attribute(other) => {
                let mut attributes = self.attributes.clone();
                Self::read(&mut attributes, line, verb.at)?;
                self.attributes = attributes;
                self.store();
            }
            other => return wrong(verb.at, unknown(other)),
        }
        Ok(None)
    }

    /// Nothing holds any more for the tasks below but what holds for all, and the barriers.
    fn clear(&mut self) {
        let stage = self.attributes.stage;
        self.prefix.clear();
        self.suffix.clear();
        self.env.clear();
        self.attributes = Attributes {
            stage,
            ..self.base.clone()
        };
        self.store();
    }

    fn store(&mut self) {
        self.stored = self.attributes.to_string().into_bytes();
        self.known.clear();
    }

    fn barrier(&mut self, at: usize, text: &Text<'_>) -> Result<(), Wrong> {
        let ok = match text.text {
            b"" => false,
            b"ok" => true,
            _ => {
                let what = "only 'ok' follows 'barrier'".into();
                return Err(Wrong { at: text.at, what });
            }
        };
        if !self.has_barriers {
            let what = "tasks that are added have no barrier: use name= and after=".into();
            return Err(Wrong { at, what });
        }
        let stage = self.attributes.stage;
        // Of barriers without a task between them, the strictest counts; above all tasks, none.
        self.attributes.stage = match (self.is_first, stage.number) {
            (true, 0) => stage,
            (true, number) => Stage {
                number,
                ok: stage.ok || ok,
            },
            (false, number) => Stage {
                number: number + 1,
                ok,
            },
        };
        self.is_first = true;
        self.store();
        Ok(())
    }

    /// Takes in the attributes that a line has from this place on.
    fn read(attributes: &mut Attributes, line: &[u8], from: usize) -> Result<(), Wrong> {
        let moved = |attributes::Wrong { at, what }| Wrong {
            at: from + at,
            what,
        };
        let keys = attributes.take(&line[from..]).map_err(moved)?;
        keys.iter()
            .try_for_each(|(key, at)| Self::check(*key, from + at))
    }

    /// Whether users may write this key.
    pub(super) fn check(key: Key, at: usize) -> Result<(), Wrong> {
        if matches!(key, Key::Stage | Key::StageOk) {
            let what = "a stage begins with a line of its own: #PYTF barrier".into();
            return Err(Wrong { at, what });
        }
        Ok(())
    }

    /// What is said of a task whose own attributes begin at this place in its line.
    pub(super) fn of_task(&mut self, line: &[u8], from: usize) -> Result<Arc<Said>, Wrong> {
        let from = from + WORD.len();
        if let Some(said) = self.known.get(&line[from..]) {
            return Ok(said.clone());
        }
        let mut attributes = self.attributes.clone();
        Self::read(&mut attributes, line, from)?;
        let said = Arc::new(Said::of(attributes));
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        self.known.insert(line[from..].to_vec(), said.clone());
        Ok(said)
    }

    /// The attributes of a task of which its line says nothing, and their stored form.
    pub(super) fn of_all(&self) -> (&Attributes, &[u8]) {
        (&self.attributes, &self.stored)
    }

    /// A task was read.
    pub(super) fn note_task(&mut self) {
        self.is_first = false;
    }

    fn set(&mut self, text: &Text<'_>) -> Result<(), Wrong> {
        let (first, _) = word(text.text, 0);
        if name(first.text).is_none() {
            let what = "NAME=value follows 'env', as after the shell's export".into();
            return Err(Wrong { at: text.at, what });
        }
        if !self.env.is_empty() {
            self.env.push(b' ');
        }
        self.env.extend_from_slice(text.text);
        Ok(())
    }

    /// Whether tasks have this variable, so far as it can be told from the words after `env`.
    pub(super) fn sets(&self, name: &str) -> bool {
        memmem::find_iter(&self.env, name).any(|at| {
            let is_word = at == 0 || self.env[at - 1] == b' ';
            is_word && self.env.get(at + name.len()) == Some(&b'=')
        })
    }

    /// Whether commands stay as they are and nothing is said of them.
    pub(super) fn are_none(&self) -> bool {
        self.prefix.is_empty()
            && self.suffix.is_empty()
            && self.env.is_empty()
            && self.stored.is_empty()
    }

    /// Appends the command of a task with what stands around it. The error is the place of a
    /// comment that would swallow the suffix.
    pub(super) fn push_around(&self, whole: &mut Vec<u8>, command: &[u8]) -> Result<(), usize> {
        if !self.env.is_empty() {
            whole.extend_from_slice(b"export ");
            whole.extend_from_slice(&self.env);
            whole.extend_from_slice(b"; ");
        }
        if !self.prefix.is_empty() {
            whole.extend_from_slice(&self.prefix);
            whole.push(b' ');
        }
        whole.extend_from_slice(command);
        if !self.suffix.is_empty() {
            if let Some(at) = comment(command) {
                return Err(at);
            }
            whole.push(b' ');
            whole.extend_from_slice(&self.suffix);
        }
        Ok(())
    }
}

/// A part of a line, and where it begins there.
#[derive(Clone, Copy)]
struct Text<'a> {
    at: usize,
    text: &'a [u8],
}

/// The first word of a line from this place on, and what follows it without the blanks around.
fn word(line: &[u8], from: usize) -> (Text<'_>, Text<'_>) {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let skip = |from: usize| {
        let blanks = line[from..].iter().take_while(|byte| is_blank(byte));
        from + blanks.count()
    };
    let at = skip(from);
    let len = line[at..].iter().take_while(|byte| !is_blank(byte)).count();
    let rest = skip(at + len);
    let first = Text {
        at,
        text: &line[at..at + len],
    };
    let text = line[rest..].trim_ascii_end();
    (first, Text { at: rest, text })
}

/// The name before `=`, where this is one.
fn name(word: &[u8]) -> Option<(&str, &[u8])> {
    let equals = memchr::memchr(b'=', word)?;
    let name = std::str::from_utf8(&word[..equals]).ok()?;
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_name && name.starts_with(|c: char| !c.is_ascii_digit()))
        .then_some((name, &word[equals + 1..]))
}

/// Whether a word was meant as an attribute.
fn is_attribute(word: &[u8]) -> bool {
    let bare = word.strip_prefix(b"--").unwrap_or(word);
    let is_key = |known: &str| known.as_bytes() == bare;
    memchr::memchr(b'=', word).is_some() || Key::words().any(is_key)
}

/// Why this is not a verb.
fn unknown(verb: &[u8]) -> String {
    let text = String::from_utf8_lossy(&verb[..verb.len().min(40)])
        .escape_debug()
        .to_string();
    let verbs = VERBS.join(", ");
    if text.is_empty() {
        return format!("a word follows #PYTF: {verbs}, or attributes, as in cpus=4");
    }
    let known = VERBS.into_iter().chain(Key::words());
    match attributes::nearest(&text, known) {
        Some(known) => format!("'{text}' is not known; did you mean '{known}'?"),
        None => format!(
            "'{text}' is not known: the words are {verbs}, or attributes, as in cpus=4; --plain \
             ignores all directives"
        ),
    }
}

/// `i=0-999:10 T=300,310 COMMAND`
fn repeat(text: &Text<'_>) -> Result<Tasks, Wrong> {
    let mut lists: Vec<(&str, Vec<Vec<u8>>)> = Vec::new();
    let mut rest = *text;
    loop {
        let (first, after) = word(rest.text, 0);
        let at = rest.at;
        let Some((name, values)) = name(first.text) else {
            break;
        };
        let wrong = |what| Wrong { at, what };
        if lists.iter().any(|(known, _)| *known == name) {
            return Err(wrong(format!("'{name}' is there twice")));
        }
        let values = values.split(|&byte| byte == b',').map(range);
        let values: Result<Vec<_>, _> = values.collect();
        lists.push((name, values.map_err(wrong)?.concat()));
        rest = Text {
            at: at + after.at,
            text: after.text,
        };
    }
    let Text { at, text } = rest;
    if lists.is_empty() || text.is_empty() {
        let what = "NAME=VALUES and a command follow 'repeat', as in i=0-9 T=300,310 ./md {i} {T}";
        return Err(Wrong {
            at,
            what: what.into(),
        });
    }
    Tasks::named(text, lists).map_err(|error| {
        let what = error.to_string();
        Wrong { at, what }
    })
}

/// The values of `0-20:5`, with the zeros of `001-100`; any other text is one value.
fn range(item: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let text = String::from_utf8_lossy(item);
    if item.is_empty() {
        return Err("a value is empty: write '' for it".to_owned());
    }
    let (span, step) = text.split_once(':').unwrap_or((&text, "1"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = span
        .split_once('-')
        .filter(|(from, to)| is_number(from) && is_number(to));
    let Some((from, to)) = parts.filter(|_| is_number(step)) else {
        let value = if item == b"''" { &item[..0] } else { item };
        return Ok(vec![value.to_vec()]);
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("{text} is too large"))
    };
    let (first, last, step) = (number(from)?, number(to)?, number(step)?);
    if (last.saturating_sub(first)) / step.max(1) > MOST {
        return Err(format!("the range {text} has more than {MOST} values"));
    }
    if first > last || step == 0 {
        return Err(format!("the range {text} has no values"));
    }
    let width = if from.starts_with('0') { from.len() } else { 0 };
    let mut values = Vec::new();
    let mut next = Some(first);
    while let Some(value) = next.filter(|value| *value <= last) {
        values.push(format!("{value:0width$}").into_bytes());
        next = value.checked_add(step);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tasks of a list whose lines are directives and commands, or what is wrong, with the
    /// number of the line and the column.
    fn tasks(list: &str) -> Result<Vec<String>, (usize, usize, String)> {
        let mut directives = Directives::of(&Dialect::default());
        let mut tasks = Vec::new();
        for (number, line) in list.lines().enumerate() {
            let mut add = |command: &[u8]| {
                let mut whole = Vec::new();
                directives.push_around(&mut whole, command).unwrap();
                tasks.push(String::from_utf8(whole).unwrap());
            };
            if directive(line.as_bytes()).is_none() {
                add(line.as_bytes());
                continue;
            }
            let wrong = |Wrong { at, what }| (number + 1, at + 1, what);
            let Some(repeated) = directives.take(line.as_bytes()).map_err(wrong)? else {
                continue;
            };
            for task in 0..repeated.count() {
                let mut command = Vec::new();
                repeated.push(&mut command, task);
                let mut whole = Vec::new();
                directives.push_around(&mut whole, &command).unwrap();
                tasks.push(String::from_utf8(whole).unwrap());
            }
        }
        Ok(tasks)
    }

    #[test]
    fn what_stands_around_holds_until_it_is_changed() {
        for (list, expected) in [
            (
                "#PYTF prefix cd /w &&\na\nb",
                &["cd /w && a", "cd /w && b"][..],
            ),
            (
                "a\n#PYTF suffix > log\nb\n#PYTF suffix\nc",
                &["a", "b > log", "c"],
            ),
            (
                "#PYTF env A=1\n#PYTF env B=\"x y\" C=3\na",
                &["export A=1 B=\"x y\" C=3; a"],
            ),
            (
                "#PYTF\tenv A=1\n#PYTF prefix p\n#PYTF suffix s\na\n#PYTF defaults\nb",
                &["export A=1; p a s", "b"],
            ),
        ] {
            assert_eq!(tasks(list).unwrap(), expected, "{list}");
        }
    }

    #[test]
    fn a_command_is_repeated_for_each_combination() {
        for (list, expected) in [
            (
                "#PYTF repeat i=0-2 ./md {i}",
                &["./md 0", "./md 1", "./md 2"][..],
            ),
            (
                "#PYTF repeat i=08-12:2 T=a,b ./md {i}{T}",
                &[
                    "./md 08a", "./md 08b", "./md 10a", "./md 10b", "./md 12a", "./md 12b",
                ],
            ),
            (
                "#PYTF repeat f=x.dat,2024-01-05,'' ./md \"{f}\" {g}",
                &[
                    "./md \"x.dat\" {g}",
                    "./md \"2024-01-05\" {g}",
                    "./md \"\" {g}",
                ],
            ),
            (
                "#PYTF repeat v=$(id),it's echo {v} > out.{v}",
                &[
                    "echo '$(id)' > out.'$(id)'",
                    "echo 'it'\\''s' > out.'it'\\''s'",
                ],
            ),
            (
                "#PYTF prefix cd w;\n#PYTF repeat i=1,5-6 ./md {i}",
                &["cd w; ./md 1", "cd w; ./md 5", "cd w; ./md 6"],
            ),
        ] {
            assert_eq!(tasks(list).unwrap(), expected, "{list}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named_at_its_place() {
        for (list, line, column, part) in [
            ("a\n#PYTF perfix x", 2, 7, "did you mean 'prefix'"),
            ("#PYTF", 1, 6, "a word follows #PYTF"),
            ("#PYTF barrier all", 1, 15, "only 'ok' follows"),
            ("#PYTF stage=4", 1, 7, "#PYTF barrier"),
            ("#PYTF name a", 1, 7, "write name=VALUE"),
            ("#PYTF nmae=a", 1, 7, "did you mean 'name'?"),
            ("#PYTF barier", 1, 7, "did you mean 'barrier'?"),
            ("#PYTF defaults all", 1, 16, "nothing follows"),
            ("#PYTF env 4", 1, 11, "NAME=value"),
            ("#PYTF env A B=1", 1, 11, "NAME=value"),
            ("#PYTF env 4=1", 1, 11, "NAME=value"),
            ("#PYTF repeat ./md {i}", 1, 14, "NAME=VALUES"),
            ("#PYTF repeat i=0-3", 1, 19, "and a command"),
            (
                "#PYTF repeat i=0-3 i=1 ./md {i}",
                1,
                20,
                "'i' is there twice",
            ),
            ("#PYTF repeat i=3-0 ./md {i}", 1, 14, "has no values"),
            ("#PYTF repeat i=0-9:0 ./md {i}", 1, 14, "has no values"),
            (
                "#PYTF repeat i=0-99999999999 ./md {i}",
                1,
                14,
                "more than 10000000 values",
            ),
            ("#PYTF repeat i=1,,2 ./md {i}", 1, 14, "a value is empty"),
            (
                "#PYTF repeat i=0-3 T=1 ./md {T}",
                1,
                24,
                "'{i}' is not in the command",
            ),
            ("#PYTF repeat i=0-3 `md {i}`", 1, 20, "backticks"),
            ("#PYTF prefix a \\", 1, 16, "a directive is one line"),
        ] {
            let (at, place, what) = tasks(list).unwrap_err();
            assert_eq!((at, place), (line, column), "{list}: {what}");
            assert!(what.contains(part), "{list}: {what}");
        }
    }

    #[test]
    fn only_the_exact_word_is_ours() {
        for line in [
            "##PYTF prefix a",
            "# PYTF prefix a",
            "#PYTFX",
            "#pytf prefix a",
            "#SBATCH",
        ] {
            assert!(directive(line.as_bytes()).is_none(), "{line}");
            assert_eq!(is_nearly_one(line.as_bytes()), line.starts_with("# PYTF"));
        }
    }
}
