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
use crate::workdir::files::{CHANGED, Committed, checksum, read_full, sum_of};
use crate::workdir::fs::{Dir, File, Open, Workdir};
use crate::workdir::layout::ORDERS;
use crate::workdir::liveness::Waiting;
use crate::workdir::state::{Act, State};
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
    /// Let these attempts end, or never start.
    Cancel(Cancel),
    /// No more tasks are expected: who stays for them leaves when the run is complete.
    Close,
    /// An order of a later pytf, which is not obeyed: its word, or the whole line.
    Unknown(String),
}

/// Tasks that were cancelled by one command, all in the same attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancel {
    /// The number of the attempt: a later one is not cancelled.
    pub attempt: u32,
    /// The tasks.
    pub ids: Ids,
    /// Who cancelled them: `USER@HOST`.
    pub by: String,
    /// Why, in the words of who did.
    pub reason: Option<String>,
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
            Self::Cancel(_) => "cancel",
            Self::Close => "close",
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
            Self::Cancel(cancel) => {
                line["attempt"] = json!(cancel.attempt);
                line["ids"] = json!(cancel.ids);
                line["by"] = json!(cancel.by);
                if let Some(reason) = &cancel.reason {
                    line["reason"] = json!(reason);
                }
            }
            _ => {}
        }
        format!("{line}\n").into_bytes()
    }

    /// The order of a line. One with a field that is not known may mean less than the word
    /// alone: it is not obeyed, either.
    pub fn of(line: &[u8]) -> Self {
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
            "cancel" => return Cancel::of(fields).map_or(Self::Unknown(word), Self::Cancel),
            "close" => Self::Close,
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

impl Cancel {
    /// That of a line, from its other fields.
    fn of(mut fields: Map<String, Value>) -> Option<Self> {
        let attempt = fields.remove("attempt")?.as_u64()?;
        let Some(Value::String(ids)) = fields.remove("ids") else {
            return None;
        };
        let text = |value: Option<Value>| match value {
            None => Some(None),
            Some(Value::String(text)) => Some(Some(text)),
            Some(_) => None,
        };
        let by = text(fields.remove("by"))?.unwrap_or_default();
        let reason = text(fields.remove("reason"))?;
        let cancel = Self {
            attempt: attempt.try_into().ok()?,
            ids: ids.parse().ok()?,
            by,
            reason,
        };
        fields.is_empty().then_some(cancel)
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
        Order::Stop
        | Order::Drain { .. }
        | Order::Add { .. }
        | Order::Close
        | Order::Unknown(_) => state.live > 0,
        // Tasks are cancelled by a transaction of their own.
        Order::Cancel(_) => false,
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

/// Whether the orders of a state are the `seen` ones and what was given since. They are not when the
/// run was reset meanwhile: what is in the file then was ordered to other farmers.
pub fn continue_from(dir: &Arc<dyn Dir>, state: &State, seen: Committed) -> Result<bool> {
    if state.orders.len < seen.len {
        return Ok(false);
    }
    if seen.is_empty() {
        return Ok(true);
    }
    let file = current(dir, state)?;
    Ok(sum_of(&*file, seen.len).context("read", ORDERS)? == seen.sum)
}

/// The orders of a state that were given since `seen`, read without the lock. The error is not
/// a verdict: what the node remembers of the file may be older than the state.
pub(super) fn since(dir: &Arc<dyn Dir>, state: &State, seen: Committed) -> Result<Vec<Order>> {
    read_since(&*current(dir, state)?, state, seen)
}

/// The same, read from this file.
pub(super) fn read_since(file: &dyn File, state: &State, seen: Committed) -> Result<Vec<Order>> {
    let bytes = bytes_since(file, state, seen)?;
    Ok(lines(&bytes).map(Order::of).collect())
}

/// What is committed of the file since `seen`.
fn bytes_since(file: &dyn File, state: &State, seen: Committed) -> Result<Vec<u8>> {
    let length = state.orders.len.saturating_sub(seen.len);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = read_full(file, &mut bytes, seen.len).context("read", ORDERS)?;
    let sum = checksum::rest(state.orders.sum, seen.sum, length);
    if read < bytes.len() || crc32fast::hash(&bytes) != sum {
        return Err(Error::damaged(ORDERS, CHANGED).no_verdict());
    }
    Ok(bytes)
}

/// The cancels of a state that were given since `seen`, with their times in microseconds since
/// 1970; read as [`since`] does.
pub fn cancels_since(
    dir: &Arc<dyn Dir>,
    state: &State,
    seen: Committed,
) -> Result<Vec<(u64, Cancel)>> {
    let bytes = bytes_since(&*current(dir, state)?, state, seen)?;
    let cancels = lines(&bytes).filter_map(|line| match Order::of(line) {
        Order::Cancel(cancel) => Some((at(line), cancel)),
        _ => None,
    });
    Ok(cancels.collect())
}

/// When the order of a line was given.
fn at(line: &[u8]) -> u64 {
    let fields: Option<Map<String, Value>> = serde_json::from_slice(line).ok();
    let at = fields.and_then(|fields| fields.get("at")?.as_u64());
    at.unwrap_or(0)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = bytes.split(|&byte| byte == b'\n');
    lines.filter(|line| !line.is_empty())
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
        let cancel = |reason: Option<&str>| {
            Order::Cancel(Cancel {
                attempt: 2,
                ids: "3-9,12".parse().unwrap(),
                by: "eva@login1".into(),
                reason: reason.map(str::to_owned),
            })
        };
        for order in [
            Order::Pause { stop: false },
            Order::Pause { stop: true },
            Order::Resume,
            Order::Stop,
            Order::Close,
            Order::Drain { node: None },
            Order::Drain { node },
            Order::Add {
                ids: [3, 4, 7].map(TaskId).into_iter().collect(),
            },
            cancel(None),
            cancel(Some("wrong\n\"seed\" \u{1b}[31m")),
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
            (r#"{"do":"cancel","ids":"3-9","attempt":"1"}"#, "cancel"),
            (r#"{"do":"cancel","ids":"9-3","attempt":1}"#, "cancel"),
            (
                r#"{"do":"cancel","ids":"3","attempt":1,"node":"n1"}"#,
                "cancel",
            ),
            (
                r#"{"do":"cancel","ids":"3","attempt":1,"reason":7}"#,
                "cancel",
            ),
            (r#"{"do":"stop","rank":3}"#, "stop"),
            (r#"{"do":"stop","ids":"3-9"}"#, "stop"),
            (r#"{"do":"add","ids":"x"}"#, "add"),
            (r#"{"do":"close","node":"n1"}"#, "close"),
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
