//! The attempts of one task, as all journals record them.

use std::collections::BTreeMap;
use std::io;

use super::journals::Journal;
use super::run::attempt::Attempt;
use crate::model::escape::escape;
use crate::model::record::{LogAt, Record};
use crate::model::task::TaskId;

/// The last that is recorded of an attempt: its end, or else its start.
pub(crate) struct Recorded<'a> {
    /// The journal of the farmer that ran it.
    pub(crate) journal: &'a Journal,
    /// The record.
    pub(crate) attempt: Attempt,
    /// Its log, where the end names one.
    pub(crate) log: Option<LogAt>,
    /// The folder that was made for it, on its node, where that was kept.
    pub(crate) dir: Option<String>,
    /// The file by which it was found to be done, if it was not started.
    pub(crate) skipped: Option<String>,
}

impl Recorded<'_> {
    /// How it ended, in words; none while that is not recorded.
    pub(crate) fn end_in_words(&self) -> Option<String> {
        let outcome = self.attempt.outcome.as_ref()?;
        Some(match &self.skipped {
            Some(file) => format!(
                "{outcome} without a start: {} is there",
                escape(file.as_bytes())
            ),
            None => outcome.to_string(),
        })
    }
}

/// The attempts of a task by their numbers.
pub(crate) fn attempts<'a>(
    journals: impl IntoIterator<Item = &'a Journal>,
    id: TaskId,
) -> io::Result<BTreeMap<u32, Recorded<'a>>> {
    let mut found: BTreeMap<u32, Recorded> = BTreeMap::new();
    for journal in journals {
        journal.each_record_of(id, |record| {
            let (attempt, log, dir, skipped) = match record {
                Record::Start(start) => (Attempt::from(start), None, None, None),
                Record::End(mut end) => {
                    let (log, dir) = (end.log.take(), end.dir.take());
                    let skipped = end.skipped.clone();
                    (Attempt::from(end), log, dir, skipped)
                }
                _ => return Ok(()),
            };
            let known = found.get(&attempt.attempt);
            // The start of an attempt never replaces its end.
            let has_end = known.is_some_and(|known| known.attempt.outcome.is_some());
            if attempt.outcome.is_some() || !has_end {
                let recorded = Recorded {
                    journal,
                    attempt,
                    log,
                    dir,
                    skipped,
                };
                found.insert(recorded.attempt.attempt, recorded);
            }
            Ok(())
        })?;
    }
    Ok(found)
}
