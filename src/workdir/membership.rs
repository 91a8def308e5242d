//! Which farmers a workdir knows, according to the places of their journals and to the log.
//!
//! The journal of a farmer is in `nodes/` while it lives, and is renamed to
//! `nodes/done/NAME.SEQ.jsonl` after the transaction SEQ that ended its membership. The rename
//! is atomic and does not touch the file itself, its lock or processes that have it open.
//! Guarantee: the farmer of a journal in `nodes/done/` is a member in no committed state; the
//! cost of listing `nodes/` depends on the number of live farmers, however many there were
//! before.

use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{read_from, retry_stale};
use crate::workdir::fs::{Dir, Open};
use crate::workdir::layout::{self, DONE, LOCK, NODES};
use crate::workdir::state::{self, Log, Members, State, peek};
use std::sync::Arc;

/// The farmers whose journals are in `nodes/`, in the order of their names.
pub fn present(dir: &Arc<dyn Dir>) -> Result<Vec<String>> {
    let names = dir.list(NODES).context("list", NODES)?;
    let farmers = names.iter().filter_map(|name| layout::farmer_of(name));
    let mut open: Vec<String> = farmers.map(str::to_owned).collect();
    open.sort_unstable();
    Ok(open)
}

/// A farmer that has left or was fenced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// Its name.
    pub farmer: String,
    /// The transaction by which it left or was fenced.
    pub seq: u64,
    /// Its journal.
    pub journal: String,
}

/// The farmers whose journals are in `nodes/done/`, in no order. The cost grows with
/// all farmers that ever were.
pub fn departed(dir: &Arc<dyn Dir>) -> Result<Vec<Departed>> {
    let names = dir.list(DONE).if_found("list", DONE)?.unwrap_or_default();
    let over = names.iter().filter_map(|name| {
        let (farmer, seq) = layout::departed_of(name)?;
        Some(Departed {
            farmer: farmer.to_owned(),
            seq,
            journal: format!("{DONE}/{name}"),
        })
    });
    Ok(over.collect())
}

/// The farmers that are alive by the log although they have no journal in
/// `nodes/`: it was deleted, or an old `lock` was put in place. `journals` are the
/// [`present`] ones.
pub fn without_journal(dir: &Arc<dyn Dir>, journals: &[String]) -> Result<Vec<String>> {
    let Some(state) = peek(dir)? else {
        return Ok(Vec::new());
    };
    if state.live as usize <= journals.len() {
        return Ok(Vec::new());
    }
    let Some(members) = members(dir, &state.log)? else {
        return Ok(Vec::new());
    };
    let names = members.iter().map(|member| &member.farmer);
    let is_missing = |farmer: &&String| journals.binary_search(farmer).is_err();
    Ok(names.filter(is_missing).cloned().collect())
}

/// Whether a farmer's journal has left `nodes/`, by one open of its name: the farmer has
/// left or was fenced, or the journal was deleted. On NFS the answer may be as old as the node
/// remembers names (`acdirmax`, a minute); [`has_departed`] is not.
pub fn has_departed_by_name(dir: &Arc<dyn Dir>, farmer: &str) -> Result<bool> {
    let name = layout::journal(farmer);
    Ok(dir
        .open(&name, Open::Read)
        .if_found("open", &name)?
        .is_none())
}

/// Whether a farmer has left or was fenced, by the log. It costs one open and reading the log back to
/// its last checkpoint.
pub fn has_departed(dir: &Arc<dyn Dir>, farmer: &str) -> Result<bool> {
    has_departed_at(dir, farmer, peek(dir)?.as_ref())
}

/// The same by a state that [`peek`] has just read.
pub fn has_departed_at(dir: &Arc<dyn Dir>, farmer: &str, then: Option<&State>) -> Result<bool> {
    let Some(state) = then.filter(|state| state.live > 0) else {
        return Ok(true);
    };
    let members = members(dir, &state.log)?;
    Ok(members.is_some_and(|members| members.named(farmer).is_none()))
}

/// The members by a segment of the log, read without the lock; `None` when the segment
/// does not exist any more or was read in part.
fn members(dir: &Arc<dyn Dir>, log: &Log) -> Result<Option<Members>> {
    let entries = retry_stale(|| {
        let file = dir.open(LOCK, Open::Fresh).context("open", LOCK)?;
        state::entries(&*file, log, &Log::default())
    });
    let entries = match entries {
        Err(Error::Damaged { .. }) => return Ok(None),
        entries => entries?,
    };
    let now = peek(dir)?;
    let is_intact = now.is_some_and(|now| log.is_intact(&now.log));
    Ok(is_intact.then(|| Members::after(&entries)))
}

/// Who takes part in a run.
#[derive(Debug, Default)]
pub struct Membership {
    /// Those that joined since there was no member.
    pub joined: Vec<String>,
    /// Those of them that are alive by the log.
    pub alive: Vec<String>,
}

impl Membership {
    /// How it was when a state was committed; `None` when its log is gone by now. It lists
    /// the journals of all farmers that ever were.
    pub fn at(dir: &Arc<dyn Dir>, then: &State) -> Result<Option<Self>> {
        let Some(members) = members(dir, &then.log)? else {
            return Ok(None);
        };
        let mut joined = present(dir)?;
        let over = departed(dir)?.into_iter();
        let over = over.filter(|over| over.seq > then.began);
        joined.extend(over.map(|over| over.farmer));
        let names = members.iter().map(|member| member.farmer.clone());
        let alive = names.collect();
        Ok(Some(Self { joined, alive }))
    }
}

/// Finds whether the file `lock` is older than the journals of farmers that have left: then
/// an old copy of it was put in place, and its state is not true. Checked only when there is
/// no member; it lists `nodes/done/`.
pub fn check_age(dir: &Arc<dyn Dir>) -> Result<()> {
    let is_quiet = |state: &State| state.live == 0;
    // Only the holder of the lock decides about a state that cannot be read.
    if !peek(dir).is_ok_and(|state| state.as_ref().is_some_and(is_quiet)) {
        return Ok(());
    }
    let newest = departed(dir)?.into_iter().max_by_key(|over| over.seq);
    // Read afterwards: the process that moved the journal had written a state before.
    let Some((state, newest)) = peek(dir)?.zip(newest) else {
        return Ok(());
    };
    if state.seq >= newest.seq {
        return Ok(());
    }
    let what = format!(
        "it knows {} transactions, but farmer {} left after transaction {}: it is older than the \
         other files",
        state.seq, newest.farmer, newest.seq
    );
    Err(Error::damaged(LOCK, what))
}

/// Moves a farmer's journal to those that are over, after the transaction `seq`. One
/// that was moved already, or deleted, is not an error.
pub fn retire(dir: &Arc<dyn Dir>, farmer: &str, seq: u64) -> Result<()> {
    let (from, to) = (layout::journal(farmer), layout::departed(farmer, seq));
    if dir.rename(&from, &to).if_found("move", &from)?.is_none() {
        dir.make_dir(DONE).context("create", DONE)?;
        dir.rename(&from, &to).if_found("move", &from)?;
    }
    Ok(())
}

/// Moves the journals that format 1 marked by a file `NAME.sealed` with the number of
/// the transaction. A mark that holds no number says at least that.
pub fn retire_marked(dir: &Arc<dyn Dir>) -> Result<()> {
    let names = dir.list(NODES).context("list", NODES)?;
    for name in names {
        let Some(farmer) = name.strip_suffix(".sealed") else {
            continue;
        };
        let name = format!("{NODES}/{name}");
        let Some(mark) = dir.open(&name, Open::Read).if_found("open", &name)? else {
            continue;
        };
        let bytes = read_from(&*mark, 0).context("read", &name)?;
        let text = std::str::from_utf8(&bytes).unwrap_or("");
        retire(dir, farmer, text.trim_ascii().parse().unwrap_or(0))?;
        dir.remove(&name).context("remove", &name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::fs::RealDir;

    fn folder(names: &[(&str, &str)]) -> (tempfile::TempDir, Arc<dyn Dir>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(NODES)).unwrap();
        for (name, text) in names {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let dir = RealDir::open(folder.path()).unwrap();
        (folder, dir)
    }

    #[test]
    fn who_is_over_is_not_among_the_living_and_its_journal_says_since_when() {
        let (_folder, dir) = folder(&[("nodes/a.0.1.1.jsonl", ""), ("nodes/b.0.1.2.jsonl", "")]);
        assert!(!has_departed_by_name(&dir, "a.0.1.1").unwrap());
        retire(&dir, "a.0.1.1", 17).unwrap();
        // The farmer itself and the one that fenced it may both do it.
        retire(&dir, "a.0.1.1", 18).unwrap();
        assert!(has_departed_by_name(&dir, "a.0.1.1").unwrap());
        assert_eq!(present(&dir).unwrap(), ["b.0.1.2"]);
        let gone = Departed {
            farmer: "a.0.1.1".into(),
            seq: 17,
            journal: "nodes/done/a.0.1.1.17.jsonl".into(),
        };
        assert_eq!(departed(&dir).unwrap(), [gone]);
    }

    #[test]
    fn the_marks_of_format_1_become_places() {
        let (folder, dir) = folder(&[
            ("nodes/a.0.1.1.jsonl", "x"),
            ("nodes/a.0.1.1.sealed", "17\n"),
            ("nodes/b.0.1.2.jsonl", ""),
            ("nodes/b.0.1.2.sealed", ""),
            ("nodes/c.0.1.3.sealed", "4\n"),
            ("nodes/d.0.1.4.jsonl", ""),
        ]);
        retire_marked(&dir).unwrap();
        retire_marked(&dir).unwrap();
        assert_eq!(present(&dir).unwrap(), ["d.0.1.4"]);
        let mut all: Vec<String> = departed(&dir)
            .unwrap()
            .into_iter()
            .map(|o| o.journal)
            .collect();
        all.sort();
        assert_eq!(
            all,
            ["nodes/done/a.0.1.1.17.jsonl", "nodes/done/b.0.1.2.0.jsonl"]
        );
        let left = std::fs::read_dir(folder.path().join(NODES))
            .unwrap()
            .count();
        assert_eq!(left, 2, "a journal and the folder");
    }
}
