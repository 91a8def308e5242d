//! Reading the file `lock` of format 1, which had states of a kilobyte.
//!
//! Guarantee: what is read is the current state, as fields of the present format, and its
//! `format` is 1. The log is not read: without a member nothing in it is needed, and while
//! there are members such a workdir is only viewed.

use super::fields::{Log, State};
use super::log::last_is_whole;
use super::place::checked;
use crate::workdir::error::Result;
use crate::workdir::fs::File;
use serde_json::{Map, Value, json};

const PLACE: usize = 1024;
const LOG_AT: u64 = 2560;

/// A state of format 1 in the words of the present format: it had one queue, and the log's
/// fields were the state's own.
fn decode(place: &[u8]) -> Option<State> {
    let mut old: Map<String, Value> = serde_json::from_str(checked(place)?).ok()?;
    let log = json!({
        "segment": old.remove("epoch")?, "len": old.remove("log")?, "last": old.remove("last")?,
        "at": 0, "checkpoint": 0, "sum": 0,
    });
    let queues = json!([old.remove("queue")?]);
    old.extend([("log".to_owned(), log), ("queues".to_owned(), queues)]);
    let state: State = serde_json::from_value(old.into()).ok()?;
    (state.format == 1).then_some(state)
}

/// The states of a file that begins with these bytes, as far as they are of format 1.
pub(super) fn states(begin: &[u8]) -> impl Iterator<Item = State> + '_ {
    let places = begin.chunks(PLACE).take(2);
    places.filter_map(decode)
}

/// The current state of a file that begins with these bytes, if it is of format 1.
pub(super) fn read(file: &dyn File, begin: &[u8]) -> Result<Option<State>> {
    let mut states: Vec<State> = states(begin).collect();
    states.sort_by_key(|state| std::cmp::Reverse(state.seq));
    for state in states {
        if last_is_whole(file, &state.log, LOG_AT)? {
            let log = Log {
                segment: state.log.segment,
                ..Log::default()
            };
            return Ok(Some(State { log, ..state }));
        }
    }
    Ok(None)
}
