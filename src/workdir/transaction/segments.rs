//! The log of transactions in a transaction: read back to its last checkpoint, and continued in
//! a new segment when the newest has become long.
//!
//! Guarantee: what is read and parsed is one segment, whatever the age of the run; a finished
//! segment is copied beside `lock` before the next one begins.

use super::txn::Txn;
use crate::workdir::error::{Context, Result};
use crate::workdir::fs::Open;
use crate::workdir::state::{self, Entry, Log, Members};

/// A log of this length is restarted when there is no member.
const LONG_LOG: u64 = 4 << 10;

/// So many segments of the log that are over are kept.
const KEPT: u64 = 16;

impl Txn<'_> {
    /// The entries of the log since it was as `then`; when a new segment has begun
    /// since, all of that, from its checkpoint on.
    pub fn entries_since(&self, then: &Log) -> Result<Vec<Entry>> {
        if self.state.live == 0 {
            // Entries of farmers that have all left are not needed.
            return Ok(Vec::new());
        }
        let entries = state::entries(&*self.held.file, &self.state.log, then);
        entries.map_err(|error| self.verdict(error))
    }

    /// The entries of the log, from the last checkpoint on.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        self.entries_since(&Log::default())
    }

    /// All of the newest segment, which has its checksum.
    fn log_bytes(&self) -> Result<Vec<u8>> {
        let bytes = state::bytes_since(&*self.held.file, &self.state.log, &Log::default());
        bytes.map_err(|error| self.verdict(error))
    }

    /// Finds whether the log is what was written, unless it is restarted.
    pub(super) fn check_log(&self) -> Result<()> {
        if !self.is_log_new {
            self.log_bytes()?;
        }
        Ok(())
    }

    /// Restarts the log when it has become long: allowed when no farmer is alive. What was is
    /// forgotten.
    pub fn clear_log(&mut self) {
        debug_assert_eq!(self.state.live, 0);
        self.is_log_new = self.state.has_long_log(LONG_LOG.min(self.dir.segment()));
    }

    /// Restarts the log: allowed when no farmer is alive. The older segments stay beside it.
    pub fn restart_log(&mut self) {
        debug_assert_eq!(self.state.live, 0);
        self.is_log_new = true;
    }

    /// Who was alive before this transaction, when a new segment of the log begins
    /// with it. The old one is kept, beside `lock`.
    pub(super) fn checkpoint(&self) -> Result<Option<Members>> {
        if self.is_log_new {
            return Ok(Some(Members::default()));
        }
        if !self.state.has_long_log(self.dir.segment()) {
            return Ok(None);
        }
        let before = &self.state.log;
        let bytes = self.log_bytes()?;
        let entries = state::parse_entries(&bytes).map_err(|error| self.verdict(error))?;
        self.may_write()?;
        let name = state::kept(before.segment);
        let kept = self.dir.open(&name, Open::Create).context("open", &name)?;
        kept.write_at(&bytes, 0).context("write", &name)?;
        kept.sync().context("sync", &name)?;
        if let Some(old) = before.segment.checked_sub(KEPT) {
            let old = state::kept(old);
            self.dir.remove(&old).context("remove", &old)?;
        }
        Ok(Some(Members::after(&entries)))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;
    use crate::model::ids::Ids;
    use crate::workdir::fs::{Dir, File, RealDir, Workdir};
    use crate::workdir::liveness::samples::Now;
    use crate::workdir::state::{Act, State};

    /// A workdir with short segments.
    struct Short(Arc<RealDir>);
    impl Dir for Short {
        fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn File>> {
            self.0.open(name, how)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.remove(name)
        }
        fn inode(&self, name: &str) -> io::Result<Option<u64>> {
            self.0.inode(name)
        }
        fn list(&self, sub: &str) -> io::Result<Vec<String>> {
            self.0.list(sub)
        }
        fn make_dir(&self, name: &str) -> io::Result<()> {
            self.0.make_dir(name)
        }
        fn sync_names(&self) -> io::Result<()> {
            self.0.sync_names()
        }
        fn segment(&self) -> u64 {
            500
        }
    }

    fn commit(dir: &Arc<dyn Dir>, act: Act, change: impl FnOnce(&mut Txn<'_>)) -> State {
        let mut now = Now;
        let workdir = Workdir::from(dir);
        let mut txn = Txn::begin(&workdir, "test", &mut now).unwrap();
        change(&mut txn);
        txn.commit(act).unwrap()
    }

    fn turn(by: u32, ended: &str, claim: &str) -> Act {
        Act::Turn {
            by,
            settled: 0,
            ended: ended.parse().unwrap(),
            claim: claim.parse().unwrap(),
            back: Ids::default(),
            fed: 0,
            fed_all: false,
            leave: false,
        }
    }

    fn kept(dir: &Arc<dyn Dir>) -> Vec<u64> {
        let names = dir.list("").unwrap();
        let mut kept: Vec<u64> = names.iter().filter_map(|n| state::segment_of(n)).collect();
        kept.sort_unstable();
        kept
    }

    /// A run of any age costs a reader of its log some segments, and the disk no more.
    #[test]
    fn what_is_open_is_read_from_one_segment_and_some_old_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let dir: Arc<dyn Dir> = Arc::new(Short(RealDir::open(folder.path()).unwrap()));
        for by in [0, 1] {
            let act = Act::Join {
                by,
                farmer: format!("n{by}.0.1.1"),
                feeds: false,
                claim: Ids::default(),
            };
            commit(&dir, act, |txn| txn.state_mut().live += 1);
        }
        commit(&dir, turn(0, "", "7,9"), |_| {});
        let (mut length, mut segments) = (0, 0);
        for nth in 0..300 {
            let ended = if nth == 0 {
                ""
            } else {
                &format!("{}", 99 + nth)
            };
            let state = commit(&dir, turn(1, ended, &format!("{}", 100 + nth)), |_| {});
            assert!(state.log.len < 1000, "{:?}", state.log);
            segments = state.log.segment;
            length = length.max(folder.path().join("lock").metadata().unwrap().len());
        }
        assert!(length < state::LOG_AT + 2000, "{length}");
        let newest: Vec<u64> = (segments - KEPT..segments).collect();
        assert_eq!(kept(&dir), newest);
        let (mut now, mut open) = (Now, Vec::new());
        let workdir = Workdir::from(&dir);
        let txn = Txn::begin(&workdir, "test", &mut now).unwrap();
        let entries = txn.entries().unwrap();
        assert!(matches!(entries[0].act, Act::Checkpoint { .. }) && entries.len() < 12);
        for member in Members::after(&entries).iter() {
            open.push((member.farmer.clone(), member.open.ids().to_string()));
        }
        let expected = [("n0.0.1.1", "7,9"), ("n1.0.1.1", "399")];
        assert_eq!(open, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        drop(txn);

        // The next run restarts the log when it has become long.
        let mut state = commit(&dir, turn(1, "", ""), |_| {});
        while !state.has_long_log(500) {
            state = commit(&dir, turn(1, "", ""), |_| {});
        }
        let anew = commit(&dir, Act::Prepare, |txn| {
            txn.state_mut().live = 0;
            txn.clear_log();
            txn.sweep().unwrap();
        });
        let before = state.log.segment;
        assert_eq!((anew.log.segment, kept(&dir)), (before + 1, vec![]));
    }
}
