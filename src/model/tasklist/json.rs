//! A line of JSON that is a task: `{"command":"./sim c","mem":"8G","after":["s1"]}`.
//!
//! The members are `command` and the words of attributes. Guarantee: a member that is not
//! understood, or is there twice, is an error.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;

use super::directives::Wrong;
use super::text::trim;
use crate::model::attributes::{Attributes, Key, begin, nearest};

/// The member with the command.
const COMMAND: &str = "command";

/// Whether a line is JSON. In a shell nothing begins so.
pub(super) fn is_json(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"{") else {
        return false;
    };
    rest.trim_ascii_start().first() == Some(&b'"')
}

/// The command of a line; its attributes are taken into `attributes`, each with its place in
/// the line shown to `check` first.
pub(super) fn task(
    line: &[u8],
    attributes: &mut Attributes,
    check: impl Fn(Key, usize) -> Result<(), Wrong>,
) -> Result<Vec<u8>, Wrong> {
    let Members(members) = serde_json::from_slice(line).map_err(|error| {
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        let what = format!("this is not a JSON object: {what}");
        Wrong {
            at: error.column().saturating_sub(1).min(line.len()),
            what,
        }
    })?;
    let (mut command, mut keys) = (None, Vec::new());
    for (member, value) in &members {
        let at = place(line, member);
        let wrong = |what| Wrong { at, what };
        if member == COMMAND {
            if command.is_some() {
                return Err(wrong(format!("'{member}' is there twice")));
            }
            command = Some(self::command(value).map_err(wrong)?);
            continue;
        }
        let key = key(member).map_err(wrong)?;
        if keys.contains(&key) {
            return Err(wrong(format!("'{member}' is there twice")));
        }
        keys.push(key);
        check(key, at)?;
        let text = text(key, value).map_err(wrong)?;
        attributes.set(key, &text).map_err(wrong)?;
    }
    command.ok_or_else(|| Wrong {
        at: 0,
        what: "the member 'command' is missing".into(),
    })
}

fn key(member: &str) -> Result<Key, String> {
    match Key::of(member) {
        Err(_) if nearest(member, [COMMAND]).is_some() => Err(format!(
            "'{member}' is not known; did you mean '{COMMAND}'?"
        )),
        key => key,
    }
}

fn command(value: &Value) -> Result<Vec<u8>, String> {
    let Value::String(text) = value else {
        return Err("a command is a string".into());
    };
    let text = trim(text.as_bytes());
    match text.first() {
        None => Err("the command is empty".into()),
        Some(b'#') => Err("the command is a comment".into()),
        Some(_) if text.iter().any(|byte| matches!(byte, b'\n' | 0)) => {
            Err("a command has no line feed and no NUL byte".into())
        }
        Some(_) if begin(text).is_some() => {
            Err("what is said of a task is in members of their own, not in the command".into())
        }
        Some(_) => Ok(text.to_vec()),
    }
}

/// The text of a value as it is after `KEY=`.
fn text(key: Key, value: &Value) -> Result<String, String> {
    let one = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::String(_) => Err(format!("'{}' has no value", key.word())),
        _ => Err(format!("'{}' is a string or a number", key.word())),
    };
    match value {
        Value::Array(values) if key.is_list() => {
            let texts: Result<Vec<_>, _> = values.iter().map(one).collect();
            let texts = texts?;
            if texts.is_empty() {
                return Err(format!("'{}' has no value", key.word()));
            }
            match texts.iter().find(|text| text.contains(',')) {
                Some(text) => Err(format!("a value has no comma: '{text}'")),
                None => Ok(texts.join(",")),
            }
        }
        value => one(value),
    }
}

/// Where a member is in the line; at its beginning, where it is written with escapes.
fn place(line: &[u8], member: &str) -> usize {
    let quoted = format!("\"{member}\"");
    memchr::memmem::find(line, quoted.as_bytes()).unwrap_or(0)
}

/// The members of an object, in their order, also those that are there twice.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(All)
    }
}
