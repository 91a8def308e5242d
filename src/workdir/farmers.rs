//! Which farmers a workdir knows: by their journals, by the marks beside them,
//! and by the log.
//!
//! A mark is put beside a journal after the transaction by which its farmer was
//! over, and says which that was. Others rely on this: who has a mark is not
//! alive by any state that is true.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::Arc;

use super::error::{Context, Error, Result};
use super::fs::{Dir, Open, read_from};
use super::layout::{self, NODES};
use super::resume::look;
use super::state::{self, Act, Entry, LOCK, State};

/// The farmers whose journals are not sealed, in the order of their names.
pub fn unsealed(dir: &Arc<dyn Dir>) -> Result<Vec<String>> {
    let names = dir.list(NODES).context("list", NODES)?;
    let sealed: HashSet<&str> = names
        .iter()
        .filter_map(|n| n.strip_suffix(".sealed"))
        .collect();
    let farmers = names.iter().filter_map(|name| layout::farmer_of(name));
    let mut open: Vec<String> = farmers
        .filter(|farmer| !sealed.contains(farmer))
        .map(str::to_owned)
        .collect();
    open.sort_unstable();
    Ok(open)
}

/// The farmers that the log takes for alive although they have no journal or
/// one that is sealed: somebody has deleted it, or put an old `lock` in place.
/// `journals` are the [`unsealed`] ones.
pub fn without_journal(dir: &Arc<dyn Dir>, journals: &[String]) -> Result<Vec<String>> {
    let file = dir.open(LOCK, Open::Read).context("open", LOCK)?;
    let Some(state) = state::read(&*file)? else {
        return Ok(Vec::new());
    };
    if state.live as usize <= journals.len() {
        return Ok(Vec::new());
    }
    let mut alive = match state::entries(&*file, 0, state.log) {
        Ok(entries) => Roll::of(&entries).alive,
        // Read without the lock: what is torn is no damage.
        Err(Error::Damaged { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    alive.retain(|farmer| journals.binary_search(farmer).is_err());
    Ok(alive)
}

/// Whether a farmer that was silent for long is over: its mark says so, and before
/// there is one the log does.
pub fn is_over(dir: &Arc<dyn Dir>, farmer: &str) -> Result<bool> {
    if is_marked(dir, farmer)? {
        return Ok(true);
    }
    let file = dir.open(LOCK, Open::Read).context("open", LOCK)?;
    let Some(state) = state::read(&*file)?.filter(|state| state.live > 0) else {
        return Ok(true);
    };
    match state::entries(&*file, 0, state.log) {
        Ok(entries) => Ok(!Roll::of(&entries).alive.iter().any(|other| other == farmer)),
        // Read without the lock: what is torn is no damage.
        Err(Error::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Who takes part in a run, by the log.
#[derive(Debug, Default)]
pub struct Roll {
    /// Those who joined since nobody was alive, in that order.
    pub joined: Vec<String>,
    /// Those of them who are not over.
    pub alive: Vec<String>,
}

impl Roll {
    /// How it was when a state came true; `None` when the log has been begun anew
    /// since.
    pub fn at(dir: &Arc<dyn Dir>, then: &State) -> Result<Option<Self>> {
        let file = dir.open(LOCK, Open::Read).context("open", LOCK)?;
        let now = state::read(&*file)?;
        if now.is_none_or(|now| now.epoch != then.epoch) {
            return Ok(None);
        }
        let entries = state::entries(&*file, 0, then.log)?;
        Ok(Some(Self::of(&entries)))
    }

    fn of(entries: &[Entry]) -> Self {
        let (mut joined, mut alive) = (Vec::new(), HashMap::new());
        for Entry { act, .. } in entries {
            match act {
                Act::Join { by, farmer, .. } => {
                    if alive.is_empty() {
                        joined.clear();
                    }
                    joined.push(farmer.clone());
                    alive.insert(*by, farmer.clone());
                }
                Act::Turn {
                    by, leave: true, ..
                } => drop(alive.remove(by)),
                Act::Seal { of, .. } => drop(alive.remove(of)),
                _ => {}
            }
        }
        let alive = alive.into_values().collect();
        Self { joined, alive }
    }
}

/// The job in a farmer's name `host.job.pid.start`.
pub fn job_of(farmer: &str) -> &str {
    farmer.rsplit('.').nth(2).unwrap_or_default()
}

/// When a farmer started, by its name: in milliseconds since 1970.
fn started(farmer: &str) -> u64 {
    let at = farmer.rsplit('.').next();
    at.and_then(|at| at.parse().ok()).unwrap_or(0)
}

/// How many of the marks are looked at for the newest transaction.
const MARKS: usize = 16;

/// Whether the file `lock` is older than what the marks of farmers tell: then
/// somebody has put a copy of it in place, and what it says is not true.
pub fn check_age(dir: &Arc<dyn Dir>) -> Result<()> {
    let is_quiet = |state: &State| state.live == 0;
    if !look(dir)?.as_ref().is_some_and(is_quiet) {
        return Ok(());
    }
    let mut marked: Vec<String> = dir
        .list(NODES)
        .context("list", NODES)?
        .iter()
        .filter_map(|name| name.strip_suffix(".sealed").map(str::to_owned))
        .collect();
    marked.sort_by_key(|farmer| std::cmp::Reverse(started(farmer)));
    marked.truncate(MARKS);
    let mut newest = None;
    for farmer in marked {
        newest = newest.max(marked_at(dir, &farmer)?.map(|seq| (seq, farmer)));
    }
    // Read after the marks: whoever made them had written a state before.
    let Some((state, (seq, farmer))) = look(dir)?.zip(newest) else {
        return Ok(());
    };
    if state.seq >= seq {
        return Ok(());
    }
    let what = format!(
        "it knows of {} transactions, but farmer {farmer} was over after {seq}: it is older than \
         the other files; see docs/workdir.md, \"A damaged workdir\"",
        state.seq
    );
    let file = LOCK.to_owned();
    Err(Error::Damaged { file, what })
}

/// The transaction after which a farmer was over, when its mark tells.
pub fn marked_at(dir: &Arc<dyn Dir>, farmer: &str) -> Result<Option<u64>> {
    let name = layout::sealed(farmer);
    let bytes = match dir.open(&name, Open::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        mark => read_from(&*mark.context("open", &name)?, 0).context("read", &name)?,
    };
    let text = std::str::from_utf8(&bytes).unwrap_or("");
    Ok(text.trim_ascii().parse().ok())
}

/// Puts the mark beside a journal that says: over, after the transaction `seq`.
pub fn mark(dir: &Arc<dyn Dir>, farmer: &str, seq: u64) -> Result<()> {
    let name = layout::sealed(farmer);
    match dir.open(&name, Open::CreateNew) {
        Ok(mark) => {
            // That it is there says enough. It is written once: a torn write over
            // another number could be a third one.
            let _ = mark.write_at(format!("{seq}\n").as_bytes(), 0);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).context("create", &name),
    }
}

/// Whether there is that mark; asked of the server, not of what the node
/// remembers of names.
pub fn is_marked(dir: &Arc<dyn Dir>, farmer: &str) -> Result<bool> {
    let name = layout::sealed(farmer);
    match dir.open(&name, Open::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("open", &name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::state::samples::{entry, join, leave};

    #[test]
    fn a_run_begins_when_somebody_joins_and_nobody_is_alive() {
        let seal = entry(Act::Seal { of: 2, by: 1 });
        let log = [
            join(0, "a"),
            leave(0),
            join(1, "b"),
            join(2, "c"),
            seal,
            join(3, "d"),
            leave(1),
        ];
        let roll = Roll::of(&log);
        assert_eq!(roll.joined, ["b", "c", "d"]);
        assert_eq!(roll.alive, ["d"]);
    }

    #[test]
    fn the_parts_of_a_name() {
        let farmer = "n1.cluster.org.100_3.123.1795230394109";
        assert_eq!(job_of(farmer), "100_3");
        assert_eq!(started(farmer), 1_795_230_394_109);
    }
}
