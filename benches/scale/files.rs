//! The modelled file system: files in memory, and what each operation costs a
//! client of a network file system in requests, bytes and time.
//!
//! The cost model, for each operation of the workdir code:
//!
//! | operation | requests |
//! |---|---|
//! | open, create, look up a name, remove, rename | 1 |
//! | close | 1 (NFS 4, Lustre; 0 where the protocol has no open files) |
//! | try a lock; give it back | 1 each |
//! | read | 1 a MiB, for what this open file has not read or written yet |
//! | write | 0: the kernel keeps it until the sync or the close; 1 a page of which only a part is written, to read the rest |
//! | sync, close after a write | 1 for each range of pages, and 1 commit |
//! | list a folder | 1, and 1 for each 100 names |
//!
//! A request takes the round trip, and its turn in the queue of the server: at
//! a load of *u* it waits *u / (1 - u)* times its own service time. The load is
//! that of the tenth of a second before. Nothing is cached across an open: that
//! is what the protocol relies on, and the worst case.
//!
//! Time is the local clock of whoever acts; the world sets it before each call.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pytf::workdir::fs::{Dir, File, Open};
use pytf::workdir::mechanism::Mechanism;

const SECOND: f64 = 1e9;
/// The length of a span in which the load of the server is counted.
const SPAN: u64 = 100_000_000;
const PAGE: u64 = 4096;

/// The figures of a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    /// Round trip of a request, ns.
    pub(crate) trip: u64,
    /// Making written data durable, ns, beside the round trip.
    pub(crate) commit: u64,
    /// Whether an open file is known to the server, so that closing it is a request.
    pub(crate) closes: bool,
    /// Requests a second that the server can do.
    pub(crate) capacity: f64,
    /// Bytes a second of one client.
    pub(crate) bandwidth: f64,
}

pub(crate) const PROFILES: [Profile; 5] = [
    Profile {
        name: "nfs",
        trip: 350_000,
        commit: 500_000,
        closes: true,
        capacity: 50_000.0,
        bandwidth: 1e9,
    },
    Profile {
        name: "nfs3",
        trip: 350_000,
        commit: 500_000,
        closes: false,
        capacity: 50_000.0,
        bandwidth: 1e9,
    },
    Profile {
        name: "lustre",
        trip: 650_000,
        commit: 1_000_000,
        closes: true,
        capacity: 50_000.0,
        bandwidth: 1e9,
    },
    Profile {
        name: "moosefs",
        trip: 300_000,
        commit: 2_000_000,
        closes: true,
        capacity: 20_000.0,
        bandwidth: 5e8,
    },
    // An overloaded server: everything takes ten times as long.
    Profile {
        name: "slow",
        trip: 3_500_000,
        commit: 5_000_000,
        closes: true,
        capacity: 5_000.0,
        bandwidth: 1e8,
    },
];

/// What has been asked of the server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) requests: u64,
    pub(crate) read: u64,
    pub(crate) written: u64,
}

enum Data {
    Bytes(Vec<u8>),
    /// A journal: nobody reads it, so its length will do.
    Length(u64),
}

struct Node {
    inode: u64,
    data: Data,
}

/// The server.
pub(crate) struct Server {
    profile: Profile,
    /// The local clock of whoever acts.
    pub(crate) clock: u64,
    /// When the lock was last given back.
    pub(crate) unlocked: u64,
    pub(crate) count: Count,
    names: HashMap<String, Arc<Mutex<Node>>>,
    farmers: BTreeSet<String>,
    next_inode: u64,
    /// Requests in each span.
    spans: Vec<u32>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server, for everybody.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Server>>);

impl Shared {
    pub(crate) fn new(profile: Profile) -> Self {
        Self(Arc::new(Mutex::new(Server {
            profile,
            clock: 0,
            unlocked: 0,
            count: Count::default(),
            names: HashMap::new(),
            farmers: BTreeSet::new(),
            next_inode: 1,
            spans: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Server> {
        lock(&self.0)
    }

    /// Its files, as a workdir.
    pub(crate) fn dir(&self) -> Arc<dyn Dir> {
        Arc::new(SimDir(self.clone()))
    }
}

impl Server {
    /// So many requests, one after the other.
    pub(crate) fn ask(&mut self, requests: u64) {
        for _ in 0..requests {
            let span = usize::try_from(self.clock / SPAN).unwrap_or(0);
            if self.spans.len() <= span {
                self.spans.resize(span + 1, 0);
            }
            self.spans[span] += 1;
            let before = span.checked_sub(1).map_or(0, |at| self.spans[at]);
            let service = 1.0 / self.profile.capacity;
            let load = (f64::from(before) * service * SECOND / as_f64(SPAN)).min(0.99);
            self.clock += self.profile.trip + as_u64(load / (1.0 - load) * service * SECOND);
        }
        self.count.requests += requests;
    }

    fn carry(&mut self, bytes: u64) {
        self.clock += as_u64(as_f64(bytes) / self.profile.bandwidth * SECOND);
    }

    /// The most requests in one second.
    pub(crate) fn busiest_second(&self) -> u32 {
        let seconds = self.spans.chunks(10).map(|spans| spans.iter().sum());
        seconds.max().unwrap_or(0)
    }

    fn make(&mut self, name: &str) -> Arc<Mutex<Node>> {
        let inode = self.next_inode;
        self.next_inode += 1;
        let data = if is_journal(name) {
            Data::Length(0)
        } else {
            Data::Bytes(Vec::new())
        };
        let node = Arc::new(Mutex::new(Node { inode, data }));
        self.names.insert(name.to_owned(), node.clone());
        if let Some(name) = name.strip_prefix("nodes/") {
            self.farmers.insert(name.to_owned());
        }
        node
    }
}

#[expect(clippy::cast_precision_loss, reason = "a model needs no 53 bits")]
pub(crate) fn as_f64(n: u64) -> f64 {
    n as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and counts are positive and small"
)]
pub(crate) fn as_u64(x: f64) -> u64 {
    x as u64
}

fn is_journal(name: &str) -> bool {
    name.strip_suffix(".jsonl").is_some()
}

struct SimDir(Shared);

impl Dir for SimDir {
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn File>> {
        let mut server = self.0.lock();
        server.ask(1);
        let node = match (server.names.get(name), how) {
            (Some(_), Open::CreateNew | Open::CreateProgram) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (Some(node), _) => node.clone(),
            (None, Open::Read | Open::Fresh | Open::Write) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (None, _) => server.make(name),
        };
        Ok(Box::new(SimFile {
            server: self.0.clone(),
            node,
            is_new_journal: how == Open::CreateNew && is_journal(name),
            is_lock: name == "lock",
            cache: Mutex::default(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut server = self.0.lock();
        server.ask(1);
        let node = server.names.remove(from);
        let node = node.ok_or(io::ErrorKind::NotFound)?;
        server.names.insert(to.to_owned(), node);
        if let Some(name) = from.strip_prefix("nodes/") {
            server.farmers.remove(name);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut server = self.0.lock();
        server.ask(1);
        server.names.remove(name);
        Ok(())
    }

    fn inode(&self, name: &str) -> io::Result<Option<u64>> {
        let mut server = self.0.lock();
        server.ask(1);
        Ok(server.names.get(name).map(|node| lock(node).inode))
    }

    fn list(&self, sub: &str) -> io::Result<Vec<String>> {
        let mut server = self.0.lock();
        let below = |sub: &str| {
            let names = server
                .names
                .keys()
                .filter_map(|name| name.strip_prefix(sub));
            let names = names.filter(|name| !name.contains('/'));
            names.map(str::to_owned).collect()
        };
        let names: Vec<String> = match sub {
            "nodes" => server.farmers.iter().cloned().collect(),
            "" => below(""),
            sub => below(&format!("{sub}/")),
        };
        server.ask(1 + names.len() as u64 / 100);
        Ok(names)
    }

    fn make_dir(&self, _: &str) -> io::Result<()> {
        self.0.lock().ask(1);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        // Names are durable when the server has answered.
        Ok(())
    }
}

/// What a client knows of an open file.
#[derive(Default)]
struct Cache {
    /// Pages that were read or written.
    known: BTreeSet<u64>,
    /// Pages that are written and not synced, and the bytes of it.
    dirty: BTreeSet<u64>,
    bytes: u64,
    has_lock: bool,
}

struct SimFile {
    server: Shared,
    node: Arc<Mutex<Node>>,
    is_new_journal: bool,
    is_lock: bool,
    cache: Mutex<Cache>,
}

impl SimFile {
    /// A client reads a page of which only a part is written, up to `at`.
    fn complete(&self, at: u64, len: u64) {
        if at.is_multiple_of(PAGE) || at / PAGE * PAGE >= len {
            return;
        }
        if lock(&self.cache).known.insert(at / PAGE) {
            let mut server = self.server.lock();
            server.ask(1);
            server.carry(PAGE);
            server.count.read += PAGE;
        }
    }

    fn flush(&self) {
        let mut cache = lock(&self.cache);
        if cache.dirty.is_empty() {
            return;
        }
        let (mut ranges, mut last) = (0, None);
        for &page in &cache.dirty {
            ranges += u64::from(last.is_none_or(|last| last + 1 != page));
            last = Some(page);
        }
        let bytes = std::mem::take(&mut cache.bytes);
        cache.dirty.clear();
        let mut server = self.server.lock();
        server.ask(ranges + 1);
        server.carry(bytes);
        server.count.written += bytes;
        server.clock += server.profile.commit;
    }
}

fn pages(offset: u64, len: usize) -> std::ops::Range<u64> {
    offset / PAGE..(offset + len as u64).div_ceil(PAGE)
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(match &lock(&self.node).data {
            Data::Bytes(bytes) => bytes.len() as u64,
            Data::Length(length) => *length,
        })
    }

    fn inode(&self) -> io::Result<u64> {
        Ok(lock(&self.node).inode)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let node = lock(&self.node);
        let Data::Bytes(bytes) = &node.data else {
            return Err(io::Error::other("nobody reads a journal here"));
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(rest) = bytes.get(from..) else {
            return Ok(0);
        };
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        let mut cache = lock(&self.cache);
        let before = cache.known.len();
        cache.known.extend(pages(offset, n));
        let new = (cache.known.len() - before) as u64 * PAGE;
        if new > 0 {
            let mut server = self.server.lock();
            server.ask(new.div_ceil(1 << 20));
            server.carry(new);
            server.count.read += new;
        }
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut node = lock(&self.node);
        let end = offset + buf.len() as u64;
        let had = match &node.data {
            Data::Bytes(bytes) => bytes.len() as u64,
            Data::Length(_) => 0,
        };
        self.complete(offset, had);
        self.complete(end, had);
        match &mut node.data {
            Data::Length(length) => *length = end.max(*length),
            Data::Bytes(bytes) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
                if bytes.len() < at(end) {
                    bytes.resize(at(end), 0);
                }
                bytes[at(offset)..at(end)].copy_from_slice(buf);
            }
        }
        let mut cache = lock(&self.cache);
        cache.dirty.extend(pages(offset, buf.len()));
        cache.known.extend(pages(offset, buf.len()));
        cache.bytes += buf.len() as u64;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.flush();
        if self.is_new_journal {
            // It stays open for hours: what it knows must not grow.
            lock(&self.cache).known.clear();
        }
        Ok(())
    }

    /// The world lets one farmer at a time come here, so `lock` is free; and
    /// all farmers live, so only their own journals are.
    fn try_lock(&self, _: Mechanism) -> io::Result<bool> {
        self.server.lock().ask(1);
        let is_free = self.is_lock || self.is_new_journal;
        lock(&self.cache).has_lock = is_free;
        Ok(is_free)
    }

    fn unlock(&self, _: Mechanism) {
        self.flush();
        if std::mem::take(&mut lock(&self.cache).has_lock) {
            let mut server = self.server.lock();
            server.ask(1);
            if self.is_lock {
                server.unlocked = server.clock;
            }
        }
    }

    fn share(&self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.flush();
        let has_lock = lock(&self.cache).has_lock;
        let mut server = self.server.lock();
        let closes = server.profile.closes;
        server.ask(u64::from(has_lock) + u64::from(closes));
    }
}
