//! The ends and starts in a journal, parsed without allocating memory but for a lease.
//!
//! A run of a million tasks has hundreds of megabytes of them, and a view needs
//! only their numbers. Other fields of a line are skipped, so a record with
//! new fields is read like any other. Other records are left to
//! [`Record`](crate::model::record::Record). serde takes more than twice as long, also
//! into a struct that borrows: `cargo bench` has both.

use super::attempt::Attempt;
use crate::model::outcome::Outcome;
use crate::model::record::Used;

/// Reads a line; `None` when it is not a start or an end, or damaged.
pub fn parse(line: &[u8]) -> Option<Attempt> {
    let mut text = Text(line);
    let (mut attempt, mut seen) = (Attempt::default(), 0_u32);
    let mut kind: &[u8] = b"";
    text.members(|key, text| {
        let place = match key {
            b"event" => {
                kind = text.string()?;
                return Some(());
            }
            b"id" => 0,
            b"attempt" => 1,
            b"slot" => 2,
            b"at" => 3,
            b"us" => 4,
            b"outcome" => {
                attempt.outcome = Some(outcome(text)?);
                seen |= 1 << 5;
                return Some(());
            }
            b"used" => {
                attempt.used = Some(spent(text)?);
                return Some(());
            }
            b"again" => {
                attempt.again = Some(text.number()?);
                return Some(());
            }
            b"skipped" => {
                attempt.is_skipped = true;
                return text.skip();
            }
            b"lease" => {
                // One of a later version, with other fields, counts as none.
                attempt.lease = serde_json::from_slice(text.value()?).ok();
                return Some(());
            }
            b"pid" => {
                attempt.pid = u32::try_from(text.number()?).ok()?;
                return Some(());
            }
            _ => return text.skip(),
        };
        let number = text.number()?;
        seen |= 1 << place;
        match place {
            0 => attempt.id = number,
            1 => attempt.attempt = u32::try_from(number).ok()?,
            2 => attempt.slot = u32::try_from(number).ok()?,
            3 => attempt.at = number,
            _ => attempt.us = number,
        }
        Some(())
    })?;
    let is_whole = match kind {
        b"start" => seen & 0b1111 == 0b1111,
        b"end" => seen == 0b11_1111,
        _ => false,
    };
    (is_whole && text.0.is_empty()).then_some(attempt)
}

fn spent(text: &mut Text) -> Option<Used> {
    let mut spent = Used::default();
    text.members(|key, text| {
        let place = match key {
            b"user" => &mut spent.user,
            b"sys" => &mut spent.sys,
            b"peak" => &mut spent.peak,
            b"read" => &mut spent.read,
            b"written" => &mut spent.written,
            _ => return text.skip(),
        };
        *place = text.number()?;
        Some(())
    })?;
    Some(spent)
}

fn outcome(text: &mut Text) -> Option<Outcome> {
    if text.0.first() == Some(&b'"') {
        return match text.string()? {
            b"time-limit" => Some(Outcome::TimeLimit),
            b"out-of-memory" => Some(Outcome::OutOfMemory),
            b"cancelled" => Some(Outcome::Cancelled),
            b"interrupted" => Some(Outcome::Interrupted),
            b"lost" => Some(Outcome::Lost),
            b"unknown" => Some(Outcome::Unknown),
            b"no-result" => Some(Outcome::NoResult),
            _ => None,
        };
    }
    let mut found = None;
    text.members(|key, text| {
        let number = text.integer()?;
        found = Some(match key {
            b"exit" => Outcome::Exit(number),
            b"signal" => Outcome::Signal(number),
            b"not-started" => Outcome::NotStarted(number),
            _ => return None,
        });
        Some(())
    })?;
    found
}

/// How deep what is skipped may be nested.
const DEEPEST: u32 = 16;

/// The rest of a line, as our own writer lays JSON out: without blanks.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn take(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        (*first == byte).then_some(())
    }

    fn members(&mut self, mut each: impl FnMut(&'a [u8], &mut Self) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.0.first() == Some(&b'}') {
            return self.take(b'}');
        }
        loop {
            let key = self.string()?;
            self.take(b':')?;
            each(key, self)?;
            let (next, rest) = self.0.split_first()?;
            self.0 = rest;
            match next {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// A string as it is written, escapes and all.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let mut at = 0;
        loop {
            match self.0.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                0..=0x1f => return None,
                _ => at += 1,
            }
        }
        let (text, rest) = self.0.split_at_checked(at)?;
        self.0 = rest.get(1..)?;
        Some(text)
    }

    fn number(&mut self) -> Option<u64> {
        let length = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=20).contains(&length) {
            return None;
        }
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        digits.iter().try_fold(0_u64, |number, digit| {
            number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
    }

    fn integer(&mut self) -> Option<i32> {
        if self.0.first() == Some(&b'-') {
            self.take(b'-')?;
            return i32::try_from(self.number()?).ok().map(|number| -number);
        }
        i32::try_from(self.number()?).ok()
    }

    /// Any value, as it is written.
    fn value(&mut self) -> Option<&'a [u8]> {
        let from = self.0;
        self.skip()?;
        from.get(..from.len() - self.0.len())
    }

    /// Any value.
    fn skip(&mut self) -> Option<()> {
        self.skip_to(DEEPEST)
    }

    fn skip_to(&mut self, deepest: u32) -> Option<()> {
        let deeper = deepest.checked_sub(1)?;
        match self.0.first()? {
            b'"' => self.string().map(|_| ()),
            b'{' => self.members(|_, text| text.skip_to(deeper)),
            b'[' => {
                self.take(b'[')?;
                if self.0.first() == Some(&b']') {
                    return self.take(b']');
                }
                loop {
                    self.skip_to(deeper)?;
                    let (next, rest) = self.0.split_first()?;
                    self.0 = rest;
                    match next {
                        b',' => {}
                        b']' => return Some(()),
                        _ => return None,
                    }
                }
            }
            _ => {
                let is_word = |b: &&u8| b.is_ascii_alphanumeric() || b"+-.".contains(*b);
                let length = self.0.iter().take_while(is_word).count();
                self.0 = self.0.get(length..)?;
                (length > 0).then_some(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::record::{End, Leased, LogAt, Record, Start, Used};
    use crate::model::task::TaskId;

    fn outcomes() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            any::<i32>().prop_map(Outcome::Exit),
            any::<i32>().prop_map(Outcome::Signal),
            any::<i32>().prop_map(Outcome::NotStarted),
            Just(Outcome::TimeLimit),
            Just(Outcome::OutOfMemory),
            Just(Outcome::Cancelled),
            Just(Outcome::Interrupted),
            Just(Outcome::Lost),
            Just(Outcome::Unknown),
            Just(Outcome::NoResult),
        ]
    }

    fn written(record: &Record) -> Vec<u8> {
        let mut line = Vec::new();
        record.push_to(&mut line);
        line.pop();
        line
    }

    proptest! {
        #[test]
        fn what_the_writer_writes_is_read(
            (id, attempt, slot) in (any::<u64>(), any::<u32>(), any::<u32>()),
            (at, us) in (any::<u64>(), any::<u64>()),
            outcome in outcomes(),
            again in prop::option::of(any::<u64>()),
            used in prop::option::of((any::<u64>(), any::<u64>(), any::<u64>())),
            file in prop::option::of(".*"),
            lease in prop::option::of((1..9_u32, prop::collection::vec(".*", 0..3), any::<u64>())),
        ) {
            let lease = lease.map(|(cpus, gpus, mem)| Box::new(Leased { cpus, gpus, mem, ..Leased::default() }));
            let end = Record::End(End {
                id: TaskId(id), attempt, slot, at, us,
                outcome: outcome.clone(),
                again,
                used: used.map(|(user, sys, peak)| Used { user, sys, peak, ..Used::default() }),
                log: file.map(|file| LogAt { file, stderr: None, part: Some((1, 2)) }),
                skipped: None,
                dir: None,
                lease: lease.clone(),
            });
            // -2147483648 has no positive twin; no exit status is like that.
            let is_least = [Outcome::Exit(i32::MIN), Outcome::Signal(i32::MIN), Outcome::NotStarted(i32::MIN)]
                .contains(&outcome);
            let found = parse(&written(&end));
            if !is_least {
                let found = found.unwrap();
                prop_assert_eq!((found.id, found.attempt, found.slot), (id, attempt, slot));
                prop_assert_eq!((found.at, found.us, found.outcome), (at, us, Some(outcome)));
                prop_assert_eq!(found.again, again);
                prop_assert_eq!(found.lease, lease);
                let found = found.used.map(|used| (used.user, used.sys, used.peak));
                prop_assert_eq!(found, used);
            }
        }

        #[test]
        fn no_bytes_are_too_strange(line in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(parse(&line), None);
        }

        #[test]
        fn what_is_cut_is_none(length in 0_usize..100) {
            let start = Record::Start(Start { id: TaskId(1), attempt: 1, slot: 2, pid: 3, at: 4, lease: None });
            let line = written(&start);
            if length < line.len() {
                prop_assert_eq!(parse(&line[..length]), None);
            } else {
                let found = parse(&line).unwrap();
                prop_assert_eq!((found.outcome, found.pid), (None, 3));
            }
        }
    }

    #[test]
    fn an_end_without_a_start_is_told_from_others() {
        let end = |more: &str| {
            let line =
                r#"{"event":"end","id":1,"attempt":1,"slot":0,"at":5,"us":0,"outcome":{"exit":0}"#;
            parse(format!("{line}{more}}}").as_bytes())
                .unwrap()
                .is_skipped
        };
        assert!(end(r#","skipped":"out/\"a""#));
        assert!(!end(""));
    }

    #[test]
    fn new_fields_are_ignored_and_missing_ones_are_damage() {
        for (line, is_read) in [
            (
                r#"{"event":"end","id":1,"attempt":1,"slot":0,"at":5,"us":6,"outcome":{"exit":0},"x":[1,{"a":"\"}"},null,-1.5e3],"y":{}}"#,
                true,
            ),
            (
                r#"{"id":1,"attempt":1,"slot":0,"at":5,"event":"start","devices":["GPU-1"]}"#,
                true,
            ),
            (
                r#"{"event":"end","id":1,"attempt":1,"slot":0,"at":5,"outcome":{"exit":0}}"#,
                false,
            ),
            (
                r#"{"event":"end","id":1,"attempt":1,"slot":0,"at":5,"us":6,"outcome":{"exit":0}}}"#,
                false,
            ),
            (
                r#"{"event":"end","id":1,"attempt":1,"slot":0,"at":5,"us":6,"outcome":"new-word"}"#,
                false,
            ),
            (r#"{"event":"beat","at":5}"#, false),
        ] {
            assert_eq!(parse(line.as_bytes()).is_some(), is_read, "{line}");
        }
    }
}
