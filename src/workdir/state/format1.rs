//! Reading the file `lock` of format 1, which had states of a kilobyte.
//!
//! Others rely on this: what is read is the state in force, in the words of the present
//! format, with `format` 1. Its log is not read: nothing in it counts when there is
//! no member, and nothing else is done with such a workdir but to look at it.

use super::fields::{ListIdentity, Log, Queue, Rename, State};
use super::log::last_is_whole;
use super::place::checked;
use crate::workdir::error::Result;
use crate::workdir::files::Committed;
use crate::workdir::fs::File;
use crate::workdir::mechanism::Mechanism;
use serde::Deserialize;

const PLACE: usize = 1024;
const LOG_AT: u64 = 2560;

/// A state of format 1.
#[derive(Deserialize)]
struct Old {
    format: u32,
    seq: u64,
    mechanism: Mechanism,
    queue: Queue,
    finished: Committed,
    failed: Committed,
    requeued: Committed,
    tasks: Committed,
    dropped: u64,
    live: u32,
    #[serde(default)]
    quarantined: u32,
    next_farmer: u32,
    seals: u64,
    epoch: u64,
    #[serde(default)]
    breaks: u32,
    #[serde(default)]
    renewed: u32,
    feeding: u32,
    interrupted: u64,
    log: u64,
    last: (u64, u32),
    #[serde(default)]
    list: Option<ListIdentity>,
    #[serde(default)]
    renames: Vec<Rename>,
}

impl Old {
    fn read(place: &[u8]) -> Option<Self> {
        let old: Self = serde_json::from_str(checked(place)?).ok()?;
        (old.format == 1).then_some(old)
    }

    fn now(self) -> State {
        State {
            format: self.format,
            seq: self.seq,
            queues: vec![self.queue],
            finished: self.finished,
            failed: self.failed,
            requeued: self.requeued,
            tasks: self.tasks,
            dropped: self.dropped,
            live: self.live,
            quarantined: self.quarantined,
            next_farmer: self.next_farmer,
            seals: self.seals,
            breaks: self.breaks,
            renewed: self.renewed,
            feeding: self.feeding,
            interrupted: self.interrupted,
            log: Log {
                segment: self.epoch,
                len: self.log,
                last: self.last,
                ..Log::default()
            },
            list: self.list,
            renames: self.renames,
            ..State::new(self.mechanism)
        }
    }
}

/// The states of a file that begins with these bytes, as far as they are of format 1.
pub(super) fn states(begin: &[u8]) -> impl Iterator<Item = State> + '_ {
    let places = begin.chunks(PLACE).take(2);
    places.filter_map(Old::read).map(Old::now)
}

/// The state in force of a file that begins with these bytes, if it is of format 1.
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
