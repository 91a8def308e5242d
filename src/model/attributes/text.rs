//! Attributes as text: what a user writes after `#PYTF`, and the form in which they are stored.
//!
//! `KEY=value …`; a value may be quoted as for a shell: `'…'`, `"…"`, `$'…'` and `\ `. Nothing is
//! expanded, so a `$` outside `'…'` is an error. Guarantee: the stored form has no blank and no
//! `#` but the blanks between its words, and reads back as what it was made from.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

use super::line::split;
use super::types::{Attributes, Stage};
use super::values;
use super::words::Key;
use crate::model::durations;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Wrong {
    /// The byte in the text, from 0.
    pub at: usize,
    /// What it is and what to do.
    pub what: String,
}

impl Attributes {
    /// Those of a text after `#PYTF`.
    pub fn parse(text: &[u8]) -> Result<Self, Wrong> {
        let mut attributes = Self::default();
        attributes.take(text)?;
        Ok(attributes)
    }

    /// Those of a stored line.
    pub fn of_line(line: &[u8]) -> Result<Self, Wrong> {
        Self::parse(split(line).1.unwrap_or_default())
    }

    /// Takes in a text; what it says replaces what was there. Returns the keys that it has, with
    /// their places. After an error the attributes are of no use.
    pub fn take(&mut self, text: &[u8]) -> Result<Vec<(Key, usize)>, Wrong> {
        let mut seen = Vec::new();
        let mut at = 0;
        while let Some(word) = Word::next(text, &mut at)? {
            let key = word.key()?;
            if seen.iter().any(|(there, _)| *there == key) {
                let what = format!("'{}' is there twice", key.word());
                return Err(Wrong { at: word.at, what });
            }
            seen.push((key, word.at));
            let wrong = |what| Wrong {
                at: word.value_at,
                what,
            };
            let value = std::str::from_utf8(&word.value);
            let value = value.map_err(|_| wrong("this is not UTF-8".to_owned()))?;
            if value.is_empty() {
                return Err(wrong(format!("'{}' has no value", key.word())));
            }
            self.set(key, value).map_err(wrong)?;
        }
        Ok(seen)
    }

    /// Sets one of them from its value without quotes.
    pub fn set(&mut self, key: Key, value: &str) -> Result<(), String> {
        match key {
            Key::Cpus => self.cpus = Some(values::cpus(value)?),
            Key::Gpus => self.gpus = Some(values::gpus(value)?),
            Key::Mem => self.mem = values::memory(value)?,
            Key::Time => self.time = Some(values::time(value)?),
            Key::Node => self.node = Some(value.to_owned()),
            Key::Priority => self.priority = values::priority(value)?,
            Key::Retries => self.retries = Some(values::retries(value)?),
            Key::RetryOn => self.retry_on = values::causes(value)?,
            Key::Name => self.name = Some(values::name(value)?),
            Key::After => self.after = values::names(value)?,
            Key::AfterAny => self.after_any = values::names(value)?,
            Key::Creates => self.creates = Some(value.to_owned()),
            Key::In => self.inputs = values::paths(value)?,
            Key::Out => self.outputs = values::paths(value)?,
            Key::Runner => self.runner = Some(value.to_owned()),
            Key::Nodes => self.nodes = Some(values::nodes(value)?),
            Key::Ntasks => self.ntasks = Some(values::ntasks(value)?),
            Key::Stage | Key::StageOk => {
                let number = value
                    .parse()
                    .map_err(|_| "a stage is a number".to_owned())?;
                let ok = key == Key::StageOk;
                self.stage = Stage { number, ok };
            }
        }
        Ok(())
    }

    /// For programs: an object with the same members as in a list of JSON lines.
    pub fn json(&self) -> Value {
        let value = |key: Key, text: String| match text.parse::<i64>() {
            _ if key.is_list() => text.split(',').map(Value::from).collect(),
            Ok(number) if key.is_number() => number.into(),
            _ => Value::from(text),
        };
        let members = self.entries();
        let members = members.map(|(key, text)| (key.word().to_owned(), value(key, text)));
        Value::Object(members.collect::<Map<_, _>>())
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The keys of what is said, and the values as they are stored.
    pub fn entries(&self) -> impl Iterator<Item = (Key, String)> {
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let sizes: Vec<_> = self.mem.iter().copied().map(values::show_size).collect();
        let causes: Vec<_> = self.retry_on.iter().map(ToString::to_string).collect();
        let list = |texts: &[String]| (!texts.is_empty()).then(|| texts.join(","));
        let stage = Some(self.stage).filter(|stage| stage.number > 0 || stage.ok);
        let stage_of = |ok| stage.filter(|stage| stage.ok == ok);
        let entries = [
            (Key::Cpus, number(self.cpus)),
            (Key::Gpus, number(self.gpus)),
            (Key::Mem, list(&sizes)),
            (Key::Time, self.time.map(durations::exact)),
            (Key::Node, self.node.clone()),
            (
                Key::Priority,
                (self.priority != 0).then(|| self.priority.to_string()),
            ),
            (Key::Retries, number(self.retries)),
            (Key::RetryOn, list(&causes)),
            (Key::Name, self.name.clone()),
            (Key::After, list(&self.after)),
            (Key::AfterAny, list(&self.after_any)),
            (Key::Creates, self.creates.clone()),
            (Key::In, list(&self.inputs)),
            (Key::Out, list(&self.outputs)),
            (Key::Runner, self.runner.clone()),
            (Key::Nodes, number(self.nodes)),
            (Key::Ntasks, number(self.ntasks)),
            (
                Key::Stage,
                stage_of(false).map(|stage| stage.number.to_string()),
            ),
            (
                Key::StageOk,
                stage_of(true).map(|stage| stage.number.to_string()),
            ),
        ];
        let said = entries.into_iter();
        said.filter_map(|(key, value)| Some((key, value?)))
    }
}

/// The stored form.
impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (key, value)) in self.entries().enumerate() {
            let blank = if nth == 0 { "" } else { " " };
            write!(f, "{blank}{}=", key.word())?;
            write_escaped(f, &value)?;
        }
        Ok(())
    }
}

/// A value without blanks, quotes and `#`: where it has any, as `$'…'`.
fn write_escaped(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    let is_special =
        |c: char| c <= ' ' || matches!(c, '\x7f' | '#' | '$' | '\'' | '"' | '\\' | '`');
    if !value.contains(is_special) {
        return f.write_str(value);
    }
    f.write_str("$'")?;
    for c in value.chars() {
        if is_special(c) {
            write!(f, "\\x{:02x}", u32::from(c))?;
        } else {
            f.write_char(c)?;
        }
    }
    f.write_char('\'')
}

/// `KEY=value`, without the quotes of the value.
struct Word {
    at: usize,
    key: Vec<u8>,
    value_at: usize,
    value: Vec<u8>,
    has_value: bool,
}

impl Word {
    /// The word that begins at `at` or behind the blanks there.
    fn next(text: &[u8], at: &mut usize) -> Result<Option<Self>, Wrong> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
        *at += text[*at..].iter().take_while(|byte| is_blank(byte)).count();
        if *at == text.len() {
            return Ok(None);
        }
        let begin = *at;
        let rest = &text[begin..];
        let ends_key = |byte: &u8| is_blank(byte) || *byte == b'=';
        let len = rest.iter().position(ends_key).unwrap_or(rest.len());
        let has_value = rest.get(len) == Some(&b'=');
        *at += len + usize::from(has_value);
        let mut word = Self {
            at: begin,
            key: rest[..len].to_vec(),
            value_at: *at,
            value: Vec::new(),
            has_value,
        };
        while let Some(&byte) = text.get(*at).filter(|byte| has_value && !is_blank(byte)) {
            word.push(text, at, byte)?;
        }
        Ok(Some(word))
    }

    /// Takes the piece of the value that begins with this byte.
    fn push(&mut self, text: &[u8], at: &mut usize, byte: u8) -> Result<(), Wrong> {
        let begin = *at;
        let (quote, has_escapes) = match (byte, text.get(begin + 1)) {
            (b'\'' | b'"', _) => (byte, false),
            (b'$', Some(b'\'')) => (b'\'', true),
            (b'$' | b'`', _) => return Err(not_expanded(begin)),
            (b'\\', Some(&next)) => {
                self.value.push(next);
                *at += 2;
                return Ok(());
            }
            _ => {
                self.value.push(byte);
                *at += 1;
                return Ok(());
            }
        };
        *at += 1 + usize::from(has_escapes);
        while let Some(&byte) = text.get(*at) {
            *at += 1;
            match byte {
                _ if byte == quote => return Ok(()),
                b'\\' if has_escapes => self.push_escape(text, at)?,
                b'\\'
                    if quote == b'"'
                        && matches!(text.get(*at), Some(b'"' | b'\\' | b'$' | b'`')) =>
                {
                    self.value.push(text[*at]);
                    *at += 1;
                }
                b'$' | b'`' if quote == b'"' => return Err(not_expanded(*at - 1)),
                _ => self.value.push(byte),
            }
        }
        let what = "this quote is not closed".to_owned();
        Err(Wrong { at: begin, what })
    }

    /// What follows a backslash in `$'…'`.
    fn push_escape(&mut self, text: &[u8], at: &mut usize) -> Result<(), Wrong> {
        let wrong = |what: &str| Wrong {
            at: *at - 1,
            what: what.to_owned(),
        };
        let known = "in $'…' a backslash is followed by \\, ', \", n, t or x and two digits";
        let byte = match text.get(*at) {
            Some(byte @ (b'\\' | b'\'' | b'"')) => *byte,
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'x') => {
                let digits = text.get(*at + 1..*at + 3);
                let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
                let is_hex = |text: &&str| text.bytes().all(|b| b.is_ascii_hexdigit());
                let digits = digits.filter(is_hex);
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let byte = byte.filter(|byte| *byte != 0).ok_or_else(|| wrong(known))?;
                *at += 2;
                byte
            }
            _ => return Err(wrong(known)),
        };
        self.value.push(byte);
        *at += 1;
        Ok(())
    }

    fn key(&self) -> Result<Key, Wrong> {
        if let Some(key) = Key::known(&self.key).filter(|_| self.has_value) {
            return Ok(key);
        }
        let wrong = |what| Wrong { at: self.at, what };
        let shown = String::from_utf8_lossy(&self.key[..self.key.len().min(40)]);
        let shown = shown.escape_debug().to_string();
        if self.key.starts_with(b"#") {
            let what = "a comment cannot follow attributes: write it in a line of its own";
            return Err(wrong(what.to_owned()));
        }
        if self.key.is_empty() {
            let what = "a word is before '=', without a blank between them, as in cpus=4";
            return Err(wrong(what.to_owned()));
        }
        let key = Key::of(&shown).map_err(wrong)?;
        if !self.has_value {
            return Err(wrong(format!(
                "'{shown}' has no value: write {shown}=VALUE, without blanks around '='"
            )));
        }
        Ok(key)
    }
}

fn not_expanded(at: usize) -> Wrong {
    let what = "variables and commands are not expanded here: write it between '…' if it is meant \
                as it is"
        .to_owned();
    Wrong { at, what }
}

#[cfg(test)]
mod tests {
    use super::super::types::RetryCause;
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn what_is_said_has_one_stored_form() {
        for (text, stored) in [
            ("", ""),
            (" gpus=2  time=90m ", "gpus=2 time=1h30m"),
            ("--task-timeout=8h --gpus-per-task=2", "gpus=2 time=8h"),
            (
                "cpus-per-task=4 mem=4096M,16G retries=0",
                "cpus=4 mem=4G,16G retries=0",
            ),
            (
                "retry-on=oom,exit:75 priority=-3 node=fat*",
                "node=fat* priority=-3 retry-on=oom,exit:75",
            ),
            (
                "after-any=t after=a,b,a name=d",
                "name=d after=a,b after-any=t",
            ),
            (r"creates='a b'", r"creates=$'a\x20b'"),
            (r#"creates=a\ b"'\$"'#'"#, r"creates=$'a\x20b\x27\x24\x23'"),
            (r"creates=$'\t\x41'", r"creates=$'\x09A'"),
            ("creates=ö#", "creates=$'ö\\x23'"),
            (
                "ntasks=8 nodes=2 runner=srun",
                "runner=srun nodes=2 ntasks=8",
            ),
            ("stage-ok=2", "stage-ok=2"),
            ("priority=0", ""),
        ] {
            let read = Attributes::parse(text.as_bytes()).unwrap();
            assert_eq!(read.to_string(), stored, "{text}");
        }
    }

    #[test]
    fn what_comes_later_replaces_what_was_said() {
        let mut attributes = Attributes::parse(b"mem=4G,8G priority=5 time=2h").unwrap();
        let keys = attributes.take(b"mem=1G priority=0").unwrap();
        assert_eq!(keys, [(Key::Mem, 0), (Key::Priority, 7)]);
        assert_eq!(attributes.to_string(), "mem=1G time=2h");
    }

    #[test]
    fn what_is_wrong_is_named_at_its_place() {
        for (text, at, part) in [
            ("cpu=4", 0, "did you mean 'cpus'?"),
            ("mem=4G cpus=", 12, "'cpus' has no value"),
            ("cpus", 0, "write cpus=VALUE"),
            ("cpus = 4", 0, "write cpus=VALUE"),
            ("=4", 0, "a word is before '='"),
            ("cpus=1.5", 5, "a whole number from 1"),
            ("cpus=0.5", 5, "part of a CPU"),
            ("mem=4G,4000", 4, "4000M or 4000G?"),
            ("time=30", 5, "30s or 30m?"),
            ("cpus=1 --cpus-per-task=2", 7, "there twice"),
            ("cpus=1 # more", 7, "a comment cannot follow"),
            ("creates=$OUT/a", 8, "not expanded"),
            ("creates=\"a$b\"", 10, "not expanded"),
            ("creates=`date`", 8, "not expanded"),
            ("creates='a b", 8, "not closed"),
            ("creates=$'\\x00'", 10, "two digits"),
            ("creates=$'\\q'", 10, "two digits"),
            ("name=a,b", 5, "no comma"),
            ("after=a,,b", 6, "a name is empty"),
            ("retries=-1", 8, "from 0 to 1000"),
            ("nodes=0", 6, "a whole number from 1"),
            ("in=a,/etc/passwd", 3, "an absolute path"),
            ("out=../a", 4, "'..'"),
            ("out=.", 4, "names the whole folder"),
        ] {
            let Wrong { at: place, what } = Attributes::parse(text.as_bytes()).unwrap_err();
            assert_eq!(place, at, "{text}: {what}");
            assert!(what.contains(part), "{text}: {what}");
        }
        let Wrong { what, .. } = Attributes::parse(b"creates=\xff").unwrap_err();
        assert!(what.contains("not UTF-8"));
    }

    fn texts() -> impl Strategy<Value = String> {
        "[a-c \t\n#$'\"\\\\`=*{}ö\u{1}]{1,8}"
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        let all = ["a", "b c", "d#", "e'"].map(str::to_owned).to_vec();
        proptest::sample::subsequence(all, 0..4)
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        use proptest::option::of;
        let causes = vec![
            RetryCause::Exit,
            RetryCause::Status(75),
            RetryCause::Signal,
            RetryCause::Timeout,
            RetryCause::Memory,
            RetryCause::Lost,
        ];
        let needs = (
            of(1..=65_536u32),
            of(0..=65_536u32),
            proptest::collection::vec(1..=1u64 << 50, 0..3),
            of(1..=u64::MAX >> 9),
        );
        let stage = (0..3u32, any::<bool>()).prop_map(|(number, ok)| Stage { number, ok });
        let place = (
            of(texts()),
            any::<i32>(),
            of(names()),
            names(),
            names(),
            of(texts()),
            stage,
            (of(texts()), of(1..=65_536u32), of(1..=65_536u32)),
            names(),
        );
        let tries = (of(0..=1000u32), proptest::sample::subsequence(causes, 0..6));
        (needs, place, tries).prop_map(|(needs, place, tries)| Attributes {
            cpus: needs.0,
            gpus: needs.1,
            mem: needs.2,
            time: needs
                .3
                .map(|ns| Duration::from_nanos(ns).min(durations::LONGEST)),
            node: place.0,
            priority: place.1,
            name: place.2.and_then(|names| names.first().cloned()),
            after: place.3,
            after_any: place.4,
            creates: place.5,
            stage: place.6,
            inputs: place.8.iter().map(|name| format!("{name}/x")).collect(),
            outputs: place.8,
            runner: place.7.0,
            nodes: place.7.1,
            ntasks: place.7.2,
            retries: tries.0,
            retry_on: tries.1,
        })
    }

    proptest! {
        #[test]
        fn the_stored_form_reads_back(attributes in attributes()) {
            let stored = attributes.to_string();
            prop_assert_eq!(Attributes::parse(stored.as_bytes()), Ok(attributes.clone()));
            prop_assert!(!stored.contains(['#', '\t', '\n']), "{}", stored);
            prop_assert_eq!(stored.split(' ').filter(|word| !word.is_empty()).count(), attributes.entries().count());
            prop_assert_eq!(stored.is_empty(), attributes.is_empty());
            let json = attributes.json();
            prop_assert_eq!(json.as_object().map(Map::len), Some(attributes.entries().count()));
        }

        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(
            proptest::sample::select(vec![&b"cpus="[..], b"mem=", b"time=", b"creates=", b"after=", b"1", b"G", b"h", b".", b",",
                b"'", b"\"", b"$'", b"\\", b"\\x", b" ", b"=", b"#", b"\xff", b"\xc3", b"9999999999999999999"]), 0..12)) {
            let text = text.concat();
            if let Err(Wrong { at, .. }) = Attributes::parse(&text) {
                prop_assert!(at <= text.len());
            }
        }
    }
}
