//! A farmer's own journal. It records which tasks the farmer started and how they ended. Its
//! lock and its growth show that the farmer is alive.
//!
//! One writer, so it may stay open. A result is recorded once it is synced here; everything
//! else in the workdir can be restored from it. A part whose write or sync failed is rewritten
//! at the same offset, so that neither a torn line nor a hole stays in the middle.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::record::{End, Header, Record};
use crate::workdir::error::{self, Context, Result};
use crate::workdir::files::Lines;
use crate::workdir::fs::{Dir, File, Open, Workdir};
use crate::workdir::layout::{self, NODES};
use crate::workdir::mechanism::Mechanism;

/// Locks a journal that was just created; `false` when another process has the lock.
fn is_locked(file: &dyn File, mechanism: Mechanism, name: &str) -> Result<bool> {
    match mechanism {
        // Such a lock is known on our own node only. Where there is none, our process and the
        // growth of the journal show that we are alive.
        Mechanism::Link => Ok(file.try_lock(Mechanism::Flock).unwrap_or(true)),
        _ => file
            .try_lock(mechanism)
            .map_err(|error| error::unusable(mechanism, name, error)),
    }
}

/// The journal of this process.
pub struct Journal {
    name: String,
    farmer: String,
    file: Arc<dyn File>,
    mechanism: Mechanism,
    /// Everything before it is durable.
    synced: u64,
    /// Everything after that: should a sync fail, it is written again, for the system may have
    /// dropped any part of it.
    tail: Vec<u8>,
    /// Everything before it is written.
    written: u64,
}

impl Journal {
    /// Creates and locks the journal and writes its header.
    ///
    /// If another farmer takes it for a dead farmer's in the moment between,
    /// it is abandoned: the caller tries again with another name.
    pub fn create(workdir: &Workdir, header: Header) -> Result<Option<Self>> {
        let farmer = header.farmer.clone();
        let name = layout::journal(&farmer);
        let file = match workdir.dir.open(&name, Open::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            file => file.context("create", &name)?,
        };
        let is_ours = is_locked(&*file, workdir.mechanism, &name).inspect_err(|_| {
            // It would stay without a header, and belong to no farmer.
            let _ = workdir.dir.remove(&name);
        })?;
        if !is_ours
            || workdir
                .dir
                .inode(&name)
                .context("look at", &name)?
                .is_none()
        {
            return Ok(None);
        }
        let mut journal = Self {
            name,
            farmer,
            file: file.into(),
            mechanism: workdir.mechanism,
            synced: 0,
            tail: Vec::new(),
            written: 0,
        };
        journal.push(&Record::Header(header));
        // Its results count as recorded once they are synced: so must its name be.
        let made = journal
            .sync()
            .and_then(|()| workdir.dir.sync_names_in(NODES).context("sync", NODES));
        if let Err(error) = made {
            // A full disk would be filled with the names of farmers that never were.
            let _ = journal.discard(&workdir.dir);
            return Err(error);
        }
        Ok(Some(journal))
    }

    /// The farmer's name.
    pub fn farmer(&self) -> &str {
        &self.farmer
    }

    /// Adds a record; it is written by the next [`Journal::write`].
    pub fn push(&mut self, record: &Record) {
        record.push_to(&mut self.tail);
    }

    /// Where the next record will begin.
    pub fn end(&self) -> u64 {
        self.synced + self.tail.len() as u64
    }

    /// Hands what was added to the kernel: it now survives this process.
    pub fn write(&mut self) -> Result<()> {
        let new = usize::try_from(self.written - self.synced).unwrap_or(usize::MAX);
        if new < self.tail.len() {
            self.file
                .write_at(&self.tail[new..], self.written)
                .context("write", &self.name)?;
            self.written = self.end();
        }
        Ok(())
    }

    /// Writes what was added; what it returns makes that durable, so that it
    /// survives this node, without the journal being held meanwhile. Its outcome
    /// is for [`Journal::end_sync`].
    pub fn begin_sync(&mut self) -> Result<Sync> {
        self.write()?;
        let is_needed = self.synced < self.written;
        Ok(Sync {
            name: self.name.clone(),
            file: is_needed.then(|| self.file.clone()),
            upto: self.written,
        })
    }

    /// Writes what was added and makes it durable.
    pub fn sync(&mut self) -> Result<()> {
        let (upto, done) = self.begin_sync()?.finish();
        self.end_sync(upto, done)
    }

    /// Everything before `upto` is durable; or is not, and will be written again.
    pub fn end_sync(&mut self, upto: u64, done: Result<()>) -> Result<()> {
        match &done {
            Ok(()) if upto > self.synced => {
                let old = usize::try_from(upto - self.synced).unwrap_or(usize::MAX);
                self.tail.drain(..old.min(self.tail.len()));
                self.synced = upto;
            }
            Ok(()) => {}
            Err(_) => self.written = self.synced,
        }
        done
    }

    /// Takes the lock again should it have been lost, as a client of a network file
    /// system loses locks that it could not renew. What the system says to it proves
    /// nothing: others go by the growth, too.
    pub fn relock(&self) {
        let _ = self.file.try_lock(match self.mechanism {
            Mechanism::Link => Mechanism::Flock,
            mechanism => mechanism,
        });
    }

    /// When it was last written, by the file system's time.
    pub fn modified(&self) -> Result<Duration> {
        self.file.modified().context("look at", &self.name)
    }

    /// Removes it again: its farmer never joined.
    pub fn discard(self, dir: &Arc<dyn Dir>) -> Result<()> {
        dir.remove(&self.name).context("remove", &self.name)
    }

    /// A handle on the same open file, lock included: while it is held,
    /// the farmer's tasks are not given to others.
    pub fn share(&self) -> Result<OwnedFd> {
        self.file.share().context("share", &self.name)
    }
}

/// A sync that has begun.
pub struct Sync {
    name: String,
    file: Option<Arc<dyn File>>,
    upto: u64,
}

impl Sync {
    /// Waits until it is done: up to where, and whether it was.
    pub fn finish(self) -> (u64, Result<()>) {
        let done = self.file.map_or(Ok(()), |file| file.sync());
        (self.upto, done.context("sync", &self.name))
    }
}

/// The header of a journal, its first line; `None` when that line is incomplete or not a
/// header.
pub fn header(file: &dyn File) -> io::Result<Option<Header>> {
    let mut lines = Lines::new(file, 0, file.len()?);
    Ok(match lines.next()?.and_then(Record::parse) {
        Some(Record::Header(header)) => Some(header),
        _ => None,
    })
}

/// The ends that a journal records, each with the offset after its line.
pub fn ends(file: &dyn File) -> io::Result<Vec<(u64, End)>> {
    let (mut lines, mut ends) = (Lines::new(file, 0, file.len()?), Vec::new());
    // The last line of a dead farmer may be torn: it is not committed.
    while let Some(line) = lines.next()? {
        if let Some(Record::End(end)) = Record::parse(line) {
            ends.push((lines.at(), end));
        }
    }
    Ok(ends)
}

/// The journal, for all threads that write into it.
///
/// The order of ends in it must be the order in which the ledger learns of
/// them, so both happen under its lock.
#[derive(Clone)]
pub struct SharedJournal(Arc<Mutex<Journal>>);

impl SharedJournal {
    /// Shares it.
    pub fn new(journal: Journal) -> Self {
        Self(Arc::new(Mutex::new(journal)))
    }

    /// The journal, for this thread alone.
    pub fn lock(&self) -> MutexGuard<'_, Journal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the journal durable; other threads may write into it meanwhile.
    pub fn sync(&self) -> Result<()> {
        let sync = self.lock().begin_sync()?;
        let (upto, done) = sync.finish();
        self.lock().end_sync(upto, done)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::workdir::fs::RealDir;

    /// A folder whose files say when their sync has begun, and end it when they may.
    struct Slow {
        real: Arc<RealDir>,
        begun: Sender<String>,
        may_end: Arc<Mutex<()>>,
    }

    struct SlowFile {
        real: Box<dyn File>,
        name: String,
        begun: Sender<String>,
        may_end: Arc<Mutex<()>>,
    }

    impl Dir for Slow {
        fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn File>> {
            Ok(Box::new(SlowFile {
                real: self.real.open(name, how)?,
                name: name.to_owned(),
                begun: self.begun.clone(),
                may_end: self.may_end.clone(),
            }))
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.real.rename(from, to)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.real.remove(name)
        }
        fn inode(&self, name: &str) -> io::Result<Option<u64>> {
            self.real.inode(name)
        }
        fn list(&self, sub: &str) -> io::Result<Vec<String>> {
            self.real.list(sub)
        }
        fn make_dir(&self, name: &str) -> io::Result<()> {
            self.real.make_dir(name)
        }
        fn sync_names(&self) -> io::Result<()> {
            self.real.sync_names()
        }
        fn sync_names_in(&self, sub: &str) -> io::Result<()> {
            let _ = self.begun.send(sub.to_owned());
            self.real.sync_names_in(sub)
        }
    }

    impl File for SlowFile {
        fn len(&self) -> io::Result<u64> {
            self.real.len()
        }
        fn inode(&self) -> io::Result<u64> {
            self.real.inode()
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.real.read_at(buf, offset)
        }
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
            self.real.write_at(buf, offset)
        }
        fn sync(&self) -> io::Result<()> {
            let _ = self.begun.send(self.name.clone());
            drop(self.may_end.lock());
            self.real.sync()
        }
        fn try_lock(&self, mechanism: Mechanism) -> io::Result<bool> {
            self.real.try_lock(mechanism)
        }
        fn share(&self) -> io::Result<OwnedFd> {
            self.real.share()
        }
    }

    const HEADER: &[u8] = br#"{"event":"header","version":1,"farmer":"a.0.1.1","host":"a",
        "pid":1,"slots":1,"at":0,"pytf":""}"#;

    /// A power cut must not take the name of what counts as recorded; and a file system
    /// that takes long to sync must not keep slots from writing how their tasks ended.
    #[test]
    fn its_name_is_durable_and_a_slow_sync_keeps_nobody_from_writing() {
        let folder = tempfile::tempdir().unwrap();
        let (begun, syncs) = channel();
        let may_end = Arc::<Mutex<()>>::default();
        let dir: Arc<dyn Dir> = Arc::new(Slow {
            real: RealDir::open(folder.path()).unwrap(),
            begun,
            may_end: may_end.clone(),
        });
        dir.make_dir(NODES).unwrap();
        let Some(Record::Header(header)) = Record::parse(HEADER) else {
            panic!("a header");
        };
        let journal = Journal::create(&(&dir).into(), header).unwrap();
        let synced: Vec<String> = syncs.try_iter().collect();
        assert_eq!(synced, [&layout::journal("a.0.1.1"), NODES]);

        let journal = SharedJournal::new(journal.unwrap());
        journal.lock().push(&Record::Beat { at: 1 });
        let not_yet = may_end.lock().unwrap();
        let slow = std::thread::spawn({
            let journal = journal.clone();
            move || journal.sync()
        });
        assert_eq!(syncs.recv().unwrap(), layout::journal("a.0.1.1"));
        let free = journal.0.try_lock().map(|mut journal| {
            journal.push(&Record::Beat { at: 2 });
            journal.write()
        });
        drop(not_yet);
        slow.join().unwrap().unwrap();
        assert!(free.is_ok_and(|written| written.is_ok()));
        let ours = journal.lock();
        assert_eq!((ours.tail.is_empty(), ours.written), (false, ours.end()));
    }
}
