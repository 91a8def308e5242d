//! A workdir at the other end of a pipe that may end: an operation is carried out, and its answer
//! is lost. From then on nothing is, and the other end has closed what was open.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pytf::workdir::fs::{Dir, File, Open};
use pytf::workdir::mechanism::Mechanism;

use crate::sim_fs::SimDir;
use crate::world::Shared;

/// After which operations the stories must have lost the answer.
pub(crate) const MUST: [&str; 12] = [
    "inode",
    "is locked",
    "length",
    "list",
    "lock",
    "open",
    "read",
    "remove",
    "rename",
    "sync",
    "sync names",
    "write",
];

/// Those that are seldom asked for.
pub(crate) const SELDOM: [&str; 5] = ["inode", "make folder", "remove", "rename", "sync names"];

/// How often an answer was lost, by operation.
pub(crate) type Lost = BTreeMap<&'static str, u64>;

/// The pipe of one process.
#[derive(Clone)]
struct Pipe {
    shared: Arc<Shared>,
    me: usize,
}

impl Pipe {
    fn ask<T>(
        &self,
        operation: &'static str,
        carry_out: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let ended = || Err(io::ErrorKind::ConnectionAborted.into());
        if self.shared.lock().actors[self.me].is_cut {
            return ended();
        }
        let answer = carry_out()?;
        if self.shared.lock().loses_answer(self.me, operation) {
            // What it has got is closed by its own destructor.
            drop(answer);
            return ended();
        }
        Ok(answer)
    }
}

/// The workdir.
pub(crate) struct PipedDir {
    pipe: Pipe,
    dir: SimDir,
}

impl PipedDir {
    pub(crate) fn new(shared: Arc<Shared>, me: usize) -> Self {
        let dir = SimDir {
            shared: shared.clone(),
            me,
        };
        let pipe = Pipe { shared, me };
        Self { pipe, dir }
    }
}

impl Dir for PipedDir {
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn File>> {
        let file = self.pipe.ask("open", || self.dir.open(name, how))?;
        let pipe = self.pipe.clone();
        Ok(Box::new(PipedFile { pipe, file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.pipe.ask("rename", || self.dir.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.pipe.ask("remove", || self.dir.remove(name))
    }

    fn inode(&self, name: &str) -> io::Result<Option<u64>> {
        self.pipe.ask("inode", || self.dir.inode(name))
    }

    fn list(&self, sub: &str) -> io::Result<Vec<String>> {
        self.pipe.ask("list", || self.dir.list(sub))
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        self.pipe.ask("make folder", || self.dir.make_dir(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.pipe.ask("sync names", || self.dir.sync_names())
    }

    fn segment(&self) -> u64 {
        self.dir.segment()
    }
}

struct PipedFile {
    pipe: Pipe,
    file: Box<dyn File>,
}

impl File for PipedFile {
    fn len(&self) -> io::Result<u64> {
        self.pipe.ask("length", || self.file.len())
    }

    fn inode(&self) -> io::Result<u64> {
        self.file.inode()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.pipe.ask("read", || self.file.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.pipe.ask("write", || self.file.write_at(buf, offset))
    }

    fn sync(&self) -> io::Result<()> {
        self.pipe.ask("sync", || self.file.sync())
    }

    fn try_lock(&self, mechanism: Mechanism) -> io::Result<bool> {
        self.pipe.ask("lock", || self.file.try_lock(mechanism))
    }

    fn is_locked(&self, mechanism: Mechanism) -> io::Result<bool> {
        self.pipe
            .ask("is locked", || self.file.is_locked(mechanism))
    }

    fn modified(&self) -> io::Result<Duration> {
        self.file.modified()
    }

    fn share(&self) -> io::Result<OwnedFd> {
        self.file.share()
    }
}
