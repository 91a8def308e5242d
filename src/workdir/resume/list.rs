//! A task list in a file: read once, as a stream, and recognized later by the values of
//! stat(2).
//!
//! Guarantee: tasks are shown in their order, without what the format of lists has around them;
//! a list with a line that can never run, or a list that changes while it is read, adds no
//! task.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::model::refusal::hint;
use crate::model::tasklist::{Dialect, ListError, Parser, Remarks, handlers};
use crate::model::template::TemplateError;
use crate::model::tool::{Tool, Translation};
use crate::workdir::error::{Error, Result};
use crate::workdir::fs::uninterrupted;
use crate::workdir::layout::{FAILED, FINISHED, LOCK, NODES, REQUEUED, TASKS, TOPROCESS};
use crate::workdir::state::ListIdentity;

/// The bytes of a list, and an identity that changes with them.
pub trait Bytes: Send + Sync {
    /// Makes them, where that takes a while: called before the lock is taken.
    fn load(&self) -> io::Result<()> {
        Ok(())
    }
    /// Reads some bytes at an offset; 0 at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// The identity of the file now, from stat(2).
    fn identity(&self) -> io::Result<ListIdentity>;
}

impl Bytes for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| FileExt::read_at(self, buf, offset))
    }

    fn identity(&self) -> io::Result<ListIdentity> {
        let stat = self.metadata()?;
        Ok(ListIdentity {
            len: stat.len(),
            mtime: stat.mtime(),
            mtime_nsec: stat.mtime_nsec(),
            inode: stat.ino(),
        })
    }
}

/// A task list in a regular file, opened once: its path may come to mean another
/// file, what is read does not.
pub struct ListFile {
    pub(super) path: PathBuf,
    bytes: Box<dyn Bytes>,
    pub(super) identity: ListIdentity,
    dialect: Dialect,
    /// What was remarked when it was checked.
    checked: OnceLock<Box<Remarks>>,
    /// The list of ours that was made of it, when it is one of another tool.
    made: OnceLock<Translation>,
}

impl ListFile {
    /// `None` when it is not a regular file, and so must be read as a stream.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        let kind = std::fs::metadata(path)?.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Ok(None);
        }
        // O_NONBLOCK: a FIFO that took its place meanwhile must not hang us.
        let mut options = File::options();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = file.open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        Self::of(path, Box::new(file)).map(Some)
    }

    /// A list whose bytes come from somewhere else than a file; `path` is for
    /// messages.
    pub fn of(path: &Path, bytes: Box<dyn Bytes>) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: bytes.identity()?,
            bytes,
            dialect: Dialect::default(),
            checked: OnceLock::new(),
            made: OnceLock::new(),
        })
    }

    /// The same list, of which this one of ours was made.
    #[must_use]
    pub fn made(self, list: Translation) -> Self {
        let made = OnceLock::from(list);
        Self { made, ..self }
    }

    /// The list of ours that was made of it, as far as that is known: after [`Self::check`].
    pub fn translation(&self) -> Option<&Translation> {
        self.made.get()
    }

    /// How it is read.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Refuses a path that leads into a workdir: its files look like lists, and their lines begin
    /// with ids.
    pub fn refuse_file_of_workdir(list: &Path) -> Result<(), ListFailure> {
        const FILES: [&str; 6] = [LOCK, TASKS, TOPROCESS, FINISHED, FAILED, REQUEUED];
        let real = list.canonicalize().unwrap_or_else(|_| list.to_owned());
        let name = real.file_name().and_then(|name| name.to_str());
        let Some((name, folder)) = name.zip(real.parent()) else {
            return Ok(());
        };
        if !FILES.contains(&name) || !folder.join(LOCK).is_file() || !folder.join(NODES).is_dir() {
            return Ok(());
        }
        Err(ListFailure::Refused(format!(
            "{} is a file of a workdir, not a task list. The same command as before resumes the \
             run; 'pytf retry {}' lets failed tasks run again",
            list.display(),
            list.parent().unwrap_or(folder).display()
        )))
    }

    /// The same list, read in another way.
    #[must_use]
    pub fn read_as(self, dialect: &Dialect) -> Self {
        let dialect = dialect.clone();
        Self {
            dialect,
            checked: OnceLock::new(),
            made: OnceLock::new(),
            ..self
        }
    }

    /// Whether it can be worked on, as far as the list alone shows: nothing counts of a
    /// list of which any line cannot run. What changes meanwhile is read again later. What was
    /// checked is kept, so that reading the list for its tasks costs less.
    pub fn check(&self) -> Result<(), ListFailure> {
        match self.reading(|| self.each(|_| Ok(()))) {
            Ok(remarks) => {
                self.checked.get_or_init(|| Box::new(remarks));
                Ok(())
            }
            Err(ListFailure::Changing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The list that its path means now; `None` when that is not a regular file.
    pub fn again(&self) -> Result<Option<Self>, ListFailure> {
        let list = Self::at(&self.path).map_err(|error| self.unreadable(error))?;
        Ok(list.map(|list| list.read_as(&self.dialect)))
    }

    /// Where it is, as the user named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs what reads the list; once more when the list turned out to be one of another tool.
    pub(in crate::workdir) fn reading<T>(
        &self,
        mut read: impl FnMut() -> Result<T, ListFailure>,
    ) -> Result<T, ListFailure> {
        match read() {
            Err(ListFailure::OtherTool) if self.made.get().is_some() => read(),
            done => done,
        }
    }

    /// Makes a list of ours of that of another tool, after the first mark of the tool.
    fn translate(&self, tool: Tool, line: u64, mark: &str) -> ListFailure {
        let text = match self.contents() {
            Ok(text) => text,
            Err(failure) => return failure,
        };
        let path = self.name();
        match handlers::made(tool, &self.dialect.list(&text, &path)) {
            Ok(mut list) => {
                let note = handlers::recognized(tool, line, mark);
                list.notes.insert(0, note);
                // It is the first: where there is one, marks are errors.
                self.made.get_or_init(|| list);
                ListFailure::OtherTool
            }
            Err(source) => ListFailure::Wrong { list: path, source },
        }
    }

    /// Shows every task, once; returns what people should know about the list.
    ///
    /// What was shown counts only when this succeeds: a list that was written to
    /// meanwhile is [`ListFailure::Changing`], and one that turned out to be another tool's is
    /// [`ListFailure::OtherTool`]: the next time the tasks of that are shown.
    pub(in crate::workdir) fn each(
        &self,
        mut task: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Remarks, ListFailure> {
        let mut parser = Parser::of(self.dialect.clone())
            .again(self.checked.get().map(|known| (**known).clone()));
        let mut done = Ok(());
        let mut emit = |line: &[u8]| {
            if done.is_ok() {
                done = task(line);
            }
        };
        let wrong = |source| ListFailure::Wrong {
            list: self.name(),
            source,
        };
        let made = self.made.get();
        let parsed = if let Some(list) = made {
            let fed = parser.feed_made(&list.text, &list.lines, &mut emit);
            fed.map_err(wrong)
        } else {
            let parsed = self.read(|chunk| parser.feed(chunk, &mut emit).map_err(wrong));
            parsed.and_then(|()| parser.finish(&mut emit).map_err(wrong))
        };
        // Of a list that is being written nothing is believed, no fault either.
        self.check_unchanged()?;
        match parsed {
            Err(ListFailure::Wrong {
                source:
                    ListError::ForeignSyntax {
                        line,
                        mark,
                        tool: Some(tool),
                        ..
                    },
                ..
            }) if made.is_none() => return Err(self.translate(tool, line, &mark)),
            parsed => parsed?,
        }
        done?;
        let mut remarks = parser.remarks();
        remarks.notes = made.map_or_else(Vec::new, |list| list.notes.clone());
        Ok(remarks)
    }

    /// Makes its bytes, where that takes a while.
    pub(super) fn load(&self) -> Result<(), ListFailure> {
        self.bytes.load().map_err(|error| self.unreadable(error))
    }

    /// All its bytes, read once; those of the list that was given.
    pub fn contents(&self) -> Result<Vec<u8>, ListFailure> {
        let mut all = Vec::new();
        self.read(|chunk| {
            all.extend_from_slice(chunk);
            Ok(())
        })?;
        self.check_unchanged()?;
        Ok(all)
    }

    fn read(
        &self,
        mut see: impl FnMut(&[u8]) -> Result<(), ListFailure>,
    ) -> Result<(), ListFailure> {
        let (mut chunk, mut at) = (vec![0; 1 << 18], 0);
        loop {
            let read = self.bytes.read_at(&mut chunk, at);
            match read.map_err(|error| self.unreadable(error))? {
                0 => return Ok(()),
                read => {
                    see(&chunk[..read])?;
                    at += read as u64;
                }
            }
        }
    }

    fn check_unchanged(&self) -> Result<(), ListFailure> {
        let now = self.bytes.identity();
        if now.map_err(|error| self.unreadable(error))? == self.identity {
            return Ok(());
        }
        Err(ListFailure::Changing { list: self.name() })
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn unreadable(&self, source: io::Error) -> ListFailure {
        // On NFS a file that another node replaced is gone from under us.
        if source.raw_os_error() == Some(libc::ESTALE) {
            return ListFailure::Changing { list: self.name() };
        }
        let list = self.name();
        ListFailure::Unreadable { list, source }
    }
}

/// Why a list cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum ListFailure {
    /// It cannot be read.
    #[error("cannot read the task list {list}: {source}{}", hint(source))]
    Unreadable {
        /// Its path.
        list: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The values of a template cannot be read.
    #[error("cannot read the values in {file}: {source}{}", hint(source))]
    UnreadableValues {
        /// Their file.
        file: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// It turned out to be one of another tool while it was read: to be read again.
    #[error("the task list is that of another tool")]
    OtherTool,
    /// It was written to while it was read.
    #[error(
        "the task list {list} changed while it was read: run again when nothing writes it any more"
    )]
    Changing {
        /// Its path.
        list: String,
    },
    /// A line of it can never run.
    #[error("{list}: {source}")]
    Wrong {
        /// Its path.
        list: String,
        /// Which line, and what is wrong with it.
        source: ListError,
    },
    /// It cannot be the list of this workdir; the text says why, and the way out. It stays a
    /// text: callers show it and end with the status for wrong usage, whatever it is.
    #[error("{0}")]
    Refused(String),
    /// The workdir.
    #[error(transparent)]
    Workdir(#[from] Error),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::workdir::fs::{Dir, RealDir, Workdir};
    use crate::workdir::liveness::samples::Now;
    use crate::workdir::repair::repair;
    use crate::workdir::resume::{EditPolicy, ListSource, prepare};
    use crate::workdir::state::Act;
    use crate::workdir::state::peek;
    use crate::workdir::transaction::Txn;

    /// A list that is replaced in place after so many reads.
    struct Written {
        texts: [&'static [u8]; 2],
        after: u64,
        reads: AtomicU64,
    }

    impl Written {
        fn now(&self) -> usize {
            usize::from(self.reads.load(Ordering::SeqCst) >= self.after)
        }
    }

    impl Bytes for Written {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let text = self.texts[self.now()];
            let rest = text.get(usize::try_from(offset).unwrap()..);
            let rest = rest.unwrap_or_default();
            let read = rest.len().min(buf.len()).min(4);
            buf[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        }

        fn identity(&self) -> io::Result<ListIdentity> {
            Ok(ListIdentity {
                inode: self.after,
                mtime: i64::try_from(self.now()).unwrap(),
                ..ListIdentity::default()
            })
        }
    }

    fn written(texts: [&'static [u8]; 2], after: u64) -> ListFile {
        let reads = AtomicU64::new(0);
        let bytes = Written {
            texts,
            after,
            reads,
        };
        ListFile::of(Path::new("list"), Box::new(bytes)).unwrap()
    }

    fn prepared(dir: &Arc<dyn Dir>, list: &ListFile) -> Result<(), ListFailure> {
        let edits = EditPolicy {
            strict: false,
            drop: true,
        };
        let source = ListSource {
            list,
            folder: None,
            runner: None,
            edits,
        };
        prepare(&dir.into(), "test", &mut Now, source).map(drop)
    }

    #[test]
    fn of_a_list_that_changes_while_it_is_read_no_task_counts() {
        let texts: [&[u8]; 2] = [
            b"echo a\necho b\necho c\n",
            b"echo x\necho a\necho b\necho c\n",
        ];
        for after in 1..=7 {
            let folder = tempfile::tempdir().unwrap();
            let dir: Arc<dyn Dir> = RealDir::open(folder.path()).unwrap();
            dir.make_dir("nodes").unwrap();
            // The first time, and again on a workdir that knows the list before.
            for known in [0, 3] {
                let made = prepared(&dir, &written(texts, after));
                assert!(
                    matches!(made, Err(ListFailure::Changing { .. })),
                    "{made:?}"
                );
                let state = peek(&dir).unwrap();
                assert_eq!(state.map_or(0, |state| state.tasks.lines), known);
                prepared(&dir, &written([texts[0]; 2], u64::MAX)).unwrap();
            }
            prepared(&dir, &written([texts[1]; 2], 0)).unwrap();
            let queue = std::fs::read_to_string(folder.path().join("toprocess")).unwrap();
            assert_eq!(queue, "3 echo x\n0 echo a\n1 echo b\n2 echo c\n");
        }
    }

    #[test]
    fn a_list_that_is_replaced_is_read_as_it_was_when_it_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::fs::write(&path, "echo a\n").unwrap();
        let list = ListFile::at(&path).unwrap().unwrap();
        std::fs::write(folder.path().join("new"), "echo b\n").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        let mut seen = Vec::new();
        list.each(|line| {
            seen.push(line.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [b"echo a"]);
        assert_ne!(
            ListFile::at(&path).unwrap().unwrap().identity,
            list.identity
        );
    }

    #[test]
    fn tasks_that_are_claimed_by_nobody_are_named_and_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let dir: Arc<dyn Dir> = RealDir::open(folder.path()).unwrap();
        dir.make_dir("nodes").unwrap();
        let list = written([b"echo a\necho b\n"; 2], u64::MAX);
        prepared(&dir, &list).unwrap();
        let mut now = Now;
        let workdir = Workdir::from(&dir);
        let mut txn = Txn::begin(&workdir, "test", &mut now).unwrap();
        // As if a claim had been lost.
        txn.claim(1, &crate::workdir::transaction::Attempts::default())
            .unwrap();
        txn.commit(Act::Prepare).unwrap();
        let begun = Txn::begin(&workdir, "test", &mut now);
        let said = begun.err().map(|error| error.to_string()).unwrap();
        assert!(said.contains("1 tasks are claimed"), "{said}");
        let made = repair(&workdir, None, &mut now).unwrap();
        assert_eq!((made.left, made.finished, made.failed), (2, 0, 0));
        Txn::begin(&workdir, "test", &mut now).unwrap();
    }
}
