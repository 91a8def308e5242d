//! The attempts of a task that was tried again, linked by arrows.

use std::collections::{BTreeMap, HashSet};
use std::io;

use serde_json::json;

use super::merge::Row;
use super::trace::Trace;
use crate::history::run::Run;

/// More arrows are of no use.
const MOST: usize = 100_000;

/// An arrow from the end of one attempt to the beginning of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) id: u64,
    /// Where it begins: the row and the time.
    pub(super) from: (Row, u64),
    /// Where it ends.
    pub(super) to: (Row, u64),
}

/// Where the attempts of tasks are that were tried more than once.
#[derive(Debug, Default)]
pub(super) struct Links {
    wanted: HashSet<u64>,
    /// By task and attempt: the row, begin and end.
    places: BTreeMap<(u64, u32), (Row, u64, u64)>,
}

impl Links {
    /// Which tasks were tried more than once.
    pub(super) fn new(run: &Run) -> Self {
        let again = run.farmers.iter().flat_map(|farmer| &farmer.again);
        Self {
            wanted: again.copied().take(MOST).collect(),
            places: BTreeMap::new(),
        }
    }

    /// Whether a task was tried more than once.
    pub(super) fn is_wanted(&self, id: u64) -> bool {
        self.wanted.contains(&id)
    }

    /// Notes where an attempt was drawn.
    pub(super) fn note(&mut self, id: u64, attempt: u32, row: Row, from: u64, dur: u64) {
        if self.is_wanted(id) {
            self.places.insert((id, attempt), (row, from, from + dur));
        }
    }

    /// All arrows, but those that would run backwards since clocks differ.
    fn all(&self) -> Vec<Link> {
        let pairs = self.places.iter().zip(self.places.iter().skip(1));
        pairs
            .filter(|(((one, _), _), ((other, _), _))| one == other)
            .filter_map(|(((id, _), (row, _, end)), (_, (next, begin, _)))| {
                // A point inside the slice: its end is outside.
                let end = end - 1;
                (end <= *begin).then_some(Link {
                    id: *id,
                    from: (*row, end),
                    to: (*next, *begin),
                })
            })
            .collect()
    }

    /// Draws all arrows.
    pub(super) fn draw(&self, trace: &mut Trace) -> io::Result<()> {
        for (number, link) in (1_u64..).zip(self.all()) {
            for (phase, ((pid, tid), ts)) in [("s", link.from), ("f", link.to)] {
                let mut event = json!({
                    "name": "tried again",
                    "cat": "retry",
                    "ph": phase,
                    "id": number,
                    "ts": ts,
                    "pid": pid,
                    "tid": tid,
                    "args": { "id": link.id },
                });
                if phase == "f" {
                    event["bp"] = "e".into();
                }
                trace.event(event.to_string().as_bytes())?;
            }
        }
        Ok(())
    }
}
