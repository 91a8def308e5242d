//! Orders: how one command steers all farmers of a run, through the file `orders`.
//!
//! An order is one line of JSON with the word `do`. A transaction appends it, and its length
//! becomes part of the commit record; so a farmer that reads the commit record anyway knows
//! without a further request whether there are new ones. Guarantee: an order is given as a
//! whole or not at all; a farmer obeys the orders that were given after it joined, each once;
//! while the state is `paused`, no transaction claims a task.

use serde_json::{Map, Value, json};
use std::sync::Arc;

use crate::model::ids::{IdSet, Ids};
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{CHANGED, Committed, checksum, read_full};
use crate::workdir::fs::{Dir, File, Open, Workdir};
use crate::workdir::layout::ORDERS;
use crate::workdir::liveness::Waiting;
use crate::workdir::state::{Act, State, no_verdict};
use crate::workdir::transaction::Txn;

/// What farmers are asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start nothing more, until it is lifted.
    Pause {
        /// Whether running tasks are stopped meanwhile; else they go on.
        stop: bool,
    },
    /// Start tasks again.
    Resume,
    /// Leave in good order, as after SIGTERM.
    Stop,
    /// Finish what runs, start nothing more, and leave: all, or those on this node.
    Drain {
        /// The node's name, as headers have it.
        node: Option<String>,
    },
    /// These tasks, which the command added, are there: nothing to obey. The order records that
    /// they are not of the list.
    Add {
        /// Their ids.
        ids: Ids,
    },
    /// An order of a later pytf, which is not obeyed: its word, or the whole line.
    Unknown(String),
}

impl Order {
    /// Its word.
    pub fn word(&self) -> &str {
        match self {
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Drain { .. } => "drain",
            Self::Add { .. } => "add",
            Self::Unknown(word) => word,
        }
    }

    /// Its line, given at this time in microseconds since 1970.
    pub(super) fn line(&self, at: u64) -> Vec<u8> {
        let mut line = json!({ "do": self.word(), "at": at });
        match self {
            Self::Drain { node: Some(node) } => line["node"] = json!(node),
            Self::Pause { stop: true } => line["stop"] = json!(true),
            Self::Add { ids } => line["ids"] = json!(ids),
            _ => {}
        }
        format!("{line}\n").into_bytes()
    }

    /// The order of a line. One with a field that is not known may mean less than the word
    /// alone: it is not obeyed, either.
    pub(super) fn of(line: &[u8]) -> Self {
        let text = || String::from_utf8_lossy(line).into_owned();
        let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(line) else {
            return Self::Unknown(text());
        };
        let Some(Value::String(word)) = fields.remove("do") else {
            return Self::Unknown(text());
        };
        fields.remove("at");
        let order = match &*word {
            "pause" => match fields.remove("stop") {
                None => Self::Pause { stop: false },
                Some(Value::Bool(stop)) => Self::Pause { stop },
                Some(_) => return Self::Unknown(word),
            },
            "resume" => Self::Resume,
            "stop" => Self::Stop,
            "drain" => match fields.remove("node") {
                None => Self::Drain { node: None },
                Some(Value::String(node)) => Self::Drain { node: Some(node) },
                Some(_) => return Self::Unknown(word),
            },
            "add" => match fields.remove("ids").map(serde_json::from_value) {
                Some(Ok(ids)) => Self::Add { ids },
                _ => return Self::Unknown(word),
            },
            _ => return Self::Unknown(word),
        };
        if fields.is_empty() {
            order
        } else {
            Self::Unknown(word)
        }
    }
}

/// Gives an order, in one transaction. Returns the state after it, and whether anything was to
/// be done: a run that is paused already is not paused again, and without a member there is
/// nobody to stop.
pub fn give(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn Waiting,
    order: &Order,
) -> Result<(State, bool)> {
    let mut txn = Txn::begin(workdir, who, waiting)?;
    let state = txn.state();
    if state.seq == 0 {
        let what = "the run has not begun: its workdir has no tasks yet";
        return Err(Error::Refused(what.into()));
    }
    let is_needed = match order {
        Order::Pause { stop } => !state.paused || state.stopped != *stop,
        Order::Resume => state.paused,
        Order::Stop | Order::Drain { .. } | Order::Add { .. } | Order::Unknown(_) => state.live > 0,
    };
    if !is_needed {
        return Ok((state.clone(), false));
    }
    let line = order.line(txn.micros());
    txn.append(ORDERS, &line)?;
    let state = txn.state_mut();
    (state.paused, state.stopped) = match order {
        Order::Pause { stop } => (true, *stop),
        Order::Resume => (false, false),
        _ => (state.paused, state.stopped),
    };
    let order = order.word().to_owned();
    let ids = Ids::default();
    Ok((txn.commit(Act::Order { order, ids })?, true))
}

/// The tasks that `pytf add` brought in, by the orders of a transaction that begin at `from` or
/// later: those of the list, or of a stream, are all others.
pub(super) fn added(txn: &mut Txn<'_>, from: u64) -> Result<IdSet> {
    let mut added = IdSet::default();
    if txn.state().orders.len > from {
        txn.each_line_from(from, ORDERS, |line| {
            if let Order::Add { ids } = Order::of(line) {
                added.insert(&ids);
            }
        })?;
    }
    Ok(added)
}

/// The orders of a state that were given since `seen`, read without the lock. The error is not
/// a verdict: what the node remembers of the file may be older than the state.
pub(super) fn since(dir: &Arc<dyn Dir>, state: &State, seen: Committed) -> Result<Vec<Order>> {
    let length = state.orders.len.saturating_sub(seen.len);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = read_full(&*current(dir, state)?, &mut bytes, seen.len).context("read", ORDERS)?;
    let sum = checksum::rest(state.orders.sum, seen.sum, length);
    if read < bytes.len() || crc32fast::hash(&bytes) != sum {
        return Err(no_verdict(Error::damaged(ORDERS, CHANGED)));
    }
    let lines = bytes.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    Ok(lines.map(Order::of).collect())
}

/// The file `orders` of a state: under its new name while it is about to be renamed.
fn current(dir: &Arc<dyn Dir>, state: &State) -> Result<Box<dyn File>> {
    let renames = state.renames.iter().filter(|rename| rename.to == ORDERS);
    for rename in renames {
        let new = dir.open(&rename.from, Open::Fresh);
        if let Some(file) = new.if_found("open", ORDERS)? {
            return Ok(file);
        }
    }
    dir.open(ORDERS, Open::Fresh).context("open", ORDERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::TaskId;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let node = Some("n17\n\"x".to_owned());
        for order in [
            Order::Pause { stop: false },
            Order::Pause { stop: true },
            Order::Resume,
            Order::Stop,
            Order::Drain { node: None },
            Order::Drain { node },
            Order::Add {
                ids: [3, 4, 7].map(TaskId).into_iter().collect(),
            },
        ] {
            let line = order.line(17);
            assert_eq!(line.split(|byte| *byte == b'\n').count(), 2);
            assert_eq!(Order::of(line.trim_ascii_end()), order);
        }
    }

    /// A word, or a restriction, of a later version must not be taken for less than it says.
    #[test]
    fn an_order_that_is_not_known_in_whole_is_not_obeyed() {
        for (line, word) in [
            (r#"{"do":"cancel","ids":"3-9"}"#, "cancel"),
            (r#"{"do":"stop","rank":3}"#, "stop"),
            (r#"{"do":"stop","ids":"3-9"}"#, "stop"),
            (r#"{"do":"add","ids":"x"}"#, "add"),
            (r#"{"do":"stop","node":"n1"}"#, "stop"),
            (r#"{"do":"drain","node":7}"#, "drain"),
            (r#"{"do":"pause","stop":1}"#, "pause"),
            (r#"{"do":"pause","node":"n1"}"#, "pause"),
            ("{\"do\":7}", "{\"do\":7}"),
            ("halt", "halt"),
        ] {
            assert_eq!(Order::of(line.as_bytes()), Order::Unknown(word.into()));
        }
    }
}
