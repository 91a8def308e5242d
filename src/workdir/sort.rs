//! Putting the waiting tasks in another order, before a run begins.
//!
//! Guarantee: ids, attempts and what is known of tasks stay; only the order of the lines of
//! `toprocess` changes. It is done once, by one process, however many start at once: not while
//! farmers work, and not again before anything else has changed.

use std::cmp::Reverse;

use crate::model::task::parse_line;
use crate::workdir::error::{Context, Result};
use crate::workdir::fs::Workdir;
use crate::workdir::layout::TOPROCESS;
use crate::workdir::liveness::Waiting;
use crate::workdir::state::{Act, State, peek};
use crate::workdir::transaction::Txn;

/// Whether the order is settled: tasks may have been claimed by it already.
fn is_settled(state: &State) -> bool {
    state.live > 0 || state.left() + state.pending() < 2 || state.sorted == state.seq
}

/// Puts the waiting tasks in the order of their lengths, the longest first, those of one length
/// in the order in which they were. `lengths` is called once, under the lock: it makes what tells
/// the length of a task from its id and its line. Returns what it made; `None` when the order is
/// settled already.
pub fn longest_first<L>(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn Waiting,
    lengths: impl FnOnce() -> Result<L>,
    of: impl Fn(&L, &[u8]) -> u64,
) -> Result<Option<L>> {
    // Most processes of a large run find it done. What cannot be understood is judged below.
    if (peek(&workdir.dir).ok().flatten()).is_some_and(|state| is_settled(&state)) {
        return Ok(None);
    }
    let mut txn = Txn::begin(workdir, who, waiting)?;
    if is_settled(txn.state()) {
        return Ok(None);
    }
    let lengths = lengths()?;
    txn.gather_all()?;
    let (mut lines, mut order) = (Vec::new(), Vec::new());
    let cursor = txn.state().queue().cursor;
    txn.each_line_from(cursor, TOPROCESS, |line| {
        if let Some((id, text)) = parse_line(line) {
            order.push((Reverse(of(&lengths, text)), id, lines.len(), text.len()));
            lines.extend_from_slice(text);
        }
    })?;
    order.sort_by_key(|(length, ..)| *length);
    let mut queue = txn.new_file(TOPROCESS)?;
    for (_, id, at, len) in order {
        let written = queue.write_task(id, &lines[at..at + len]);
        written.context("write", TOPROCESS)?;
    }
    txn.replace_queue(queue)?;
    txn.state_mut().sorted = txn.state().seq + 1;
    txn.commit(Act::Prepare)?;
    Ok(Some(lengths))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::task::TaskId;
    use crate::workdir::fs::{Dir, RealDir};
    use crate::workdir::liveness::samples::Now;
    use crate::workdir::transaction::Attempts;

    /// It is done once, keeps the ids, and nobody measures again before something has changed.
    #[test]
    fn the_longest_come_first_and_ids_stay() {
        let folder = tempfile::tempdir().unwrap();
        let dir: Arc<dyn Dir> = RealDir::open(folder.path()).unwrap();
        dir.make_dir("nodes").unwrap();
        let workdir = Workdir::from(&dir);
        let [mut now, mut later, mut last] = [Now, Now, Now];
        let mut txn = Txn::begin(&workdir, "test", &mut now).unwrap();
        txn.add(b"0 a\n1 bb\n2 dddd\n3 ee\n").unwrap();
        txn.commit(Act::Prepare).unwrap();
        let sort = || {
            let of = |(): &(), line: &[u8]| line.len() as u64;
            longest_first(&workdir, "test", &mut Now, || Ok(()), of).unwrap()
        };
        let queue = || std::fs::read_to_string(folder.path().join("toprocess")).unwrap();
        assert!(sort().is_some());
        assert_eq!(queue(), "2 dddd\n1 bb\n3 ee\n0 a\n");
        let tasks = std::fs::read_to_string(folder.path().join("tasks")).unwrap();
        assert_eq!(tasks, "0 a\n1 bb\n2 dddd\n3 ee\n");
        assert!(sort().is_none(), "it is done");
        let mut txn = Txn::begin(&workdir, "test", &mut later).unwrap();
        txn.add(b"4 ccc\n").unwrap();
        txn.commit(Act::Prepare).unwrap();
        assert!(sort().is_some());
        assert_eq!(queue(), "2 dddd\n4 ccc\n1 bb\n3 ee\n0 a\n");
        let state = peek(&dir).unwrap().unwrap();
        assert_eq!((state.left(), state.tasks.lines), (5, 5));
        let mut txn = Txn::begin(&workdir, "test", &mut last).unwrap();
        let claimed = txn.claim(1, &Attempts::default()).unwrap();
        assert_eq!(claimed[0].id, TaskId(2));
    }
}
