//! The simulated file system: a server, and on each node a cache of its own.
//!
//! As NFS has it: what is written stays on the node until it is synced, closed
//! or written back; what is read is as old as the last open of the file on this
//! node, or the last lock on it, and an open tells nothing new while another
//! descriptor of the node has the file open for writing; names and listings may be seconds old; names
//! are created, renamed and removed atomically at the server. A node that loses
//! power takes what it had not written back with it, torn anywhere, and its
//! locks may stay for a while or for ever.
//!
//! With one node and no server it is a local file system: coherent, but a power
//! cut also takes back names that were not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, MutexGuard};

use pytf::workdir::fs::{Dir, File, Open};
use pytf::workdir::layout::RESET;
use pytf::workdir::mechanism::Mechanism;

use crate::crashes::{Point, Write};
use crate::world::{Broken, Fate, Shared, TAKEOVER, World, die};

/// So long, in bytes, is a segment of the log: some transactions.
const SEGMENT: u64 = 300;
/// The inode of every folder.
const FOLDER: u64 = u64::MAX;

/// What kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Shared by several nodes; `stale`: a file that is gone at the server
    /// answers ESTALE (NFS 3).
    Nfs { stale: bool },
    /// On one node.
    Local,
}

pub(crate) struct Inode {
    pub(crate) data: Arc<Vec<u8>>,
    version: u64,
    lock: Option<Lock>,
    /// The node that removed its last name.
    gone_by: Option<usize>,
}

/// An open file.
struct Handle {
    actor: usize,
    ino: u64,
    writes: bool,
}

struct Lock {
    handle: u64,
    actor: usize,
    /// When a dead node's lock is free.
    free_at: u64,
}

#[derive(Default)]
struct Cache {
    version: u64,
    seen: Arc<Vec<u8>>,
    dirty: Vec<(u64, Vec<u8>)>,
}

#[derive(Default)]
struct Node {
    caches: BTreeMap<u64, Cache>,
    names: BTreeMap<String, (Option<u64>, u64)>,
    lists: BTreeMap<String, (Vec<String>, u64)>,
}

/// What became of one name: (name, before, after).
type Change = (String, Option<u64>, Option<u64>);

pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// How long the locks of a node stay that lost power.
    pub(crate) lease: u64,
    /// Whether locks stay on the node, as with `nolock`.
    pub(crate) has_local_locks: bool,
    /// Whether a file can be read past the cache of a node.
    has_fresh_reads: bool,
    pub(crate) names: BTreeMap<String, u64>,
    /// The folders that were made or moved; those that the workdir has from the start are not
    /// among them.
    folders: BTreeSet<String>,
    pub(crate) inodes: Vec<Inode>,
    nodes: Vec<Node>,
    /// The names that are durable, and what has changed since (local only).
    durable: BTreeMap<String, u64>,
    unsynced: Vec<Vec<Change>>,
    handles: BTreeMap<u64, Handle>,
    next_handle: u64,
    /// The state may have changed at the server.
    pub(crate) is_news: bool,
}

impl Server {
    pub(crate) fn new(kind: Kind, lease: u64, has_fresh_reads: bool) -> Self {
        Self {
            kind,
            lease,
            has_local_locks: false,
            has_fresh_reads,
            names: BTreeMap::new(),
            folders: BTreeSet::new(),
            inodes: Vec::new(),
            nodes: Vec::new(),
            durable: BTreeMap::new(),
            unsynced: Vec::new(),
            handles: BTreeMap::new(),
            next_handle: 1,
            is_news: false,
        }
    }

    fn inode(&mut self, ino: u64) -> &mut Inode {
        &mut self.inodes[at(ino)]
    }

    /// The file that the server has under a name.
    pub(crate) fn file(&self, name: &str) -> Option<&[u8]> {
        let ino = self.names.get(name);
        ino.map(|&ino| &self.inodes[at(ino)].data[..])
    }

    /// Whether a power cut would bring back another lock file: until then
    /// nothing may rest on the one there is.
    fn is_lock_open(&self) -> bool {
        self.is_local() && self.names.get("lock") != self.durable.get("lock")
    }

    /// The first changes of names are durable.
    fn sync_changes(&mut self, n: usize) {
        for (name, _, after) in self.unsynced.drain(..n).flatten() {
            self.is_news |= name == "lock";
            match after {
                Some(ino) => self.durable.insert(name, ino),
                None => self.durable.remove(&name),
            };
        }
    }

    fn node(&mut self, node: usize) -> &mut Node {
        while self.nodes.len() <= node {
            self.nodes.push(Node::default());
        }
        &mut self.nodes[node]
    }

    fn is_local(&self) -> bool {
        self.kind == Kind::Local
    }

    /// A write arrives at the server.
    fn arrive(&mut self, ino: u64, offset: u64, bytes: &[u8]) {
        let is_lock = [&self.names, &self.durable]
            .iter()
            .any(|names| names.get("lock") == Some(&ino));
        self.is_news |= is_lock;
        let inode = self.inode(ino);
        write_into(Arc::make_mut(&mut inode.data), offset, bytes);
        inode.version += 1;
    }

    /// What a node sees of a file.
    fn view(&mut self, node: usize, ino: u64) -> Arc<Vec<u8>> {
        let (data, version) = {
            let inode = self.inode(ino);
            (inode.data.clone(), inode.version)
        };
        let is_local = self.is_local();
        let cache = self.cache(node, ino);
        if is_local {
            (cache.seen, cache.version) = (data, version);
        }
        if cache.dirty.is_empty() {
            return cache.seen.clone();
        }
        let mut all = (*cache.seen).clone();
        for (offset, bytes) in &cache.dirty {
            write_into(&mut all, *offset, bytes);
        }
        Arc::new(all)
    }

    fn cache(&mut self, node: usize, ino: u64) -> &mut Cache {
        let (data, version) = {
            let inode = self.inode(ino);
            (inode.data.clone(), inode.version)
        };
        self.node(node).caches.entry(ino).or_insert(Cache {
            version,
            seen: data,
            dirty: Vec::new(),
        })
    }

    fn revalidate(&mut self, node: usize, ino: u64) {
        let (data, version) = {
            let inode = self.inode(ino);
            (inode.data.clone(), inode.version)
        };
        let cache = self.cache(node, ino);
        if cache.version != version {
            (cache.seen, cache.version) = (data, version);
        }
    }

    /// A node learns how long a file is, and not what is in it: what it did not know of
    /// the page that it had reads as zeros.
    fn lengthen(&mut self, node: usize, ino: u64) {
        let len = self.inode(ino).data.len();
        let cache = self.cache(node, ino);
        if cache.seen.len() < len {
            Arc::make_mut(&mut cache.seen).resize(len, 0);
        }
    }

    fn flush(&mut self, node: usize, ino: u64, how_many: usize) {
        for _ in 0..how_many {
            let cache = self.cache(node, ino);
            if cache.dirty.is_empty() {
                break;
            }
            let (offset, bytes) = cache.dirty.remove(0);
            self.arrive(ino, offset, &bytes);
            // A node knows what it wrote itself.
            let cache = self.cache(node, ino);
            write_into(Arc::make_mut(&mut cache.seen), offset, &bytes);
        }
    }

    fn change_names(&mut self, node: usize, changes: Vec<Change>) {
        for (name, before, after) in &changes {
            self.is_news |= name == "lock";
            match after {
                Some(ino) => self.names.insert(name.clone(), *ino),
                None => self.names.remove(name),
            };
            let stamp = (*after, 0);
            self.node(node).names.insert(name.clone(), stamp);
            if let Some(ino) = *before
                && !self.names.values().any(|&there| there == ino)
            {
                self.inode(ino).gone_by = Some(node);
            }
        }
        if self.is_local() {
            self.unsynced.push(changes);
        }
    }

    /// What has a name: a file, or a folder.
    fn there(&self, name: &str) -> Option<u64> {
        let file = self.names.get(name).copied();
        file.or_else(|| self.folders.contains(name).then_some(FOLDER))
    }

    /// The names of all files in a folder, at any depth.
    fn names_in(&self, folder: &str) -> Vec<String> {
        let is_in = |name: &&String| {
            let rest = name.strip_prefix(folder);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        self.names.keys().filter(is_in).cloned().collect()
    }

    fn folder(&self, sub: &str) -> Vec<String> {
        let names = self.names.keys().filter_map(|name| match sub {
            "" => (!name.contains('/')).then(|| name.clone()),
            sub => name
                .strip_prefix(sub)
                .and_then(|rest| rest.strip_prefix('/'))
                .filter(|rest| !rest.contains('/'))
                .map(str::to_owned),
        });
        names.collect()
    }
}

fn at(ino: u64) -> usize {
    usize::try_from(ino).unwrap_or(usize::MAX)
}

fn write_into(data: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = at(offset);
    if data.len() < offset + bytes.len() {
        data.resize(offset + bytes.len(), 0);
    }
    data[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl World {
    /// Some extents reach the server in any order, each perhaps torn; the rest
    /// is lost.
    fn tear(&mut self, node: usize, ino: u64) {
        let mut dirty = std::mem::take(&mut self.server.cache(node, ino).dirty);
        while !dirty.is_empty() {
            let nth = at(self.random.below(dirty.len() as u64));
            let (offset, bytes) = dirty.remove(nth);
            match self.random.below(3) {
                0 => {}
                1 => self.server.arrive(ino, offset, &bytes),
                _ => {
                    let cut = at(self.random.below(bytes.len() as u64 + 1));
                    let tail = self.random.one_in(2);
                    if tail {
                        self.server.arrive(ino, offset + cut as u64, &bytes[cut..]);
                    } else {
                        self.server.arrive(ino, offset, &bytes[..cut]);
                    }
                }
            }
        }
        self.server.revalidate(node, ino);
    }

    /// Flushes in any order.
    fn write_back(&mut self, node: usize, ino: u64, all: bool) {
        let n = self.server.cache(node, ino).dirty.len();
        // Extents that overlap keep their order.
        if n > 1 && self.random.one_in(2) && !overlap(&self.server.cache(node, ino).dirty) {
            let by = at(self.random.below(n as u64));
            self.server.cache(node, ino).dirty.rotate_left(by);
        }
        self.server.flush(node, ino, if all { n } else { 1 });
    }

    /// Whether a node has a file open for writing: what others write to it is then taken
    /// for its own, and is not seen. Measured on NFS 3, 4.0 and 4.2.
    fn is_being_written(&self, node: usize, ino: u64) -> bool {
        let mut open = self.server.handles.values();
        open.any(|open| open.writes && open.ino == ino && self.actors[open.actor].node == node)
    }

    /// Moves a folder with all that is in it. One with files is not replaced.
    fn move_folder(&mut self, node: usize, from: &str, to: &str) -> io::Result<()> {
        let server = &mut self.server;
        let names = server.names_in(from);
        if names.is_empty() && !server.folders.contains(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if !server.names_in(to).is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOTEMPTY));
        }
        server.folders.remove(from);
        server.folders.insert(to.into());
        let moved = names.into_iter().flat_map(|name| {
            let ino = server.names.get(&name).copied();
            let new = format!("{to}{}", &name[from.len()..]);
            [(name, ino, None), (new, None, ino)]
        });
        let changes: Vec<Change> = moved.collect();
        let inodes: Vec<u64> = changes.iter().filter_map(|change| change.2).collect();
        server.change_names(node, changes);
        for ino in inodes {
            server.inode(ino).gone_by = None;
        }
        for (name, seen) in [(from, None), (to, Some(FOLDER))] {
            server.node(node).names.insert(name.into(), (seen, 0));
        }
        self.check();
        Ok(())
    }

    fn close(&mut self, handle: u64) {
        let Some(Handle { actor, ino, .. }) = self.server.handles.remove(&handle) else {
            return;
        };
        let node = self.actors[actor].node;
        if !self.server.is_local() {
            self.write_back(node, ino, true);
        }
        let inode = self.server.inode(ino);
        if inode
            .lock
            .as_ref()
            .is_some_and(|lock| lock.handle == handle)
        {
            inode.lock = None;
        }
    }

    /// The kernel closes what a killed process had open.
    pub(crate) fn close_all(&mut self, actor: usize) {
        let open = self.server.handles.iter();
        let mut open: Vec<u64> = open
            .filter(|(_, handle)| handle.actor == actor)
            .map(|(handle, _)| *handle)
            .collect();
        if self.random.one_in(2) {
            open.reverse();
        }
        for handle in open {
            self.close(handle);
        }
        self.check();
    }

    pub(crate) fn lose_power(&mut self, node: usize) {
        let files: Vec<u64> = self.server.node(node).caches.keys().copied().collect();
        for ino in files {
            self.tear(node, ino);
        }
        let is_local = self.server.is_local();
        if is_local {
            let n = self.server.unsynced.len();
            let keep = at(self.random.below(n as u64 + 1));
            self.server.sync_changes(keep);
            self.server.unsynced.clear();
            self.server.names = self.server.durable.clone();
        }
        let free_at = self.now.saturating_add(self.server.lease);
        let dead = &mut self.actors;
        self.server
            .handles
            .retain(|_, handle| dead[handle.actor].node != node || !dead[handle.actor].is_dead);
        for inode in &mut self.server.inodes {
            if let Some(lock) = &mut inode.lock
                && dead[lock.actor].node == node
                && dead[lock.actor].is_dead
            {
                lock.free_at = if is_local { 0 } else { free_at };
            }
        }
        *self.server.node(node) = Node::default();
        self.server.is_news = true;
        self.check();
    }

    /// A farmer loses the lock of its journal; whether it had one.
    pub(crate) fn unlock_journal(&mut self, actor: usize) -> bool {
        let names = self.server.names.iter();
        let journals = names.filter(|(name, _)| name.starts_with("nodes/"));
        for ino in journals.map(|(_, ino)| at(*ino)) {
            let lock = &mut self.server.inodes[ino].lock;
            if lock.take_if(|lock| lock.actor == actor).is_some() {
                return true;
            }
        }
        false
    }

    /// The promises are looked at whenever the state may have changed.
    pub(crate) fn check(&mut self) {
        self.oracle.at = self.now;
        if !self.server.is_lock_open()
            && std::mem::take(&mut self.server.is_news)
            && let Err(what) = self.oracle.look(&self.server)
        {
            self.violated(what);
        }
    }
}

fn overlap(dirty: &[(u64, Vec<u8>)]) -> bool {
    let mut parts: Vec<(u64, u64)> = dirty
        .iter()
        .map(|(at, bytes)| (*at, at + bytes.len() as u64))
        .collect();
    parts.sort_unstable();
    parts.windows(2).any(|pair| pair[0].1 > pair[1].0)
}

/// The workdir, as one process has it open.
pub(crate) struct SimDir {
    pub(crate) shared: Arc<Shared>,
    pub(crate) me: usize,
}

struct SimFile {
    shared: Arc<Shared>,
    me: usize,
    handle: u64,
    /// Past the cache.
    is_fresh: bool,
    ino: u64,
    name: String,
}

/// The process takes a step: others may go before, and something may go wrong.
fn enter<'a>(
    shared: &'a Shared,
    me: usize,
    step: (&str, &str, u64),
    torn: impl FnOnce(&mut World, bool),
) -> io::Result<MutexGuard<'a, World>> {
    enter_aimed(shared, me, step, false, torn)
}

/// The same; `aimed_at`: it is killed over it.
fn enter_aimed<'a>(
    shared: &'a Shared,
    me: usize,
    (what, name, weight): (&str, &str, u64),
    aimed_at: bool,
    torn: impl FnOnce(&mut World, bool),
) -> io::Result<MutexGuard<'a, World>> {
    let dead = || io::Error::from_raw_os_error(libc::EIO);
    shared.answered(me);
    let mut world = shared.lock();
    if world.actors[me].is_dead {
        drop(world);
        die();
        return Err(dead());
    }
    let cost = world.random.between(50, 400);
    world.actors[me].ready_at = world.now + cost;
    let fate = if aimed_at || world.is_aimed_at(me, what) {
        world.hit(me)
    } else {
        world.fate(me, weight)
    };
    world = shared.switch(world, me);
    if world.actors[me].is_dead {
        drop(world);
        die();
        return Err(dead());
    }
    world.trace(me, || format!("{what} {name}"));
    match fate {
        Fate::Goes => Ok(world),
        Fate::Dies => {
            torn(&mut world, true);
            if what != "write" {
                let World {
                    actors, crashes, ..
                } = &mut *world;
                actors[me].progress.killed(what, crashes);
            }
            world.kill(me);
            drop(world);
            die();
            Err(dead())
        }
        Fate::Refused(error) => {
            torn(&mut world, false);
            world.trace(me, || format!("REFUSED: {error}"));
            world.check();
            Err(error)
        }
    }
}

impl SimDir {
    fn enter(&self, what: &str, name: &str, weight: u64) -> io::Result<MutexGuard<'_, World>> {
        enter(&self.shared, self.me, (what, name, weight), |_, _| {})
    }

    /// A new name for a new file.
    fn create(&self, world: &mut World, name: &str) -> u64 {
        let node = world.actors[self.me].node;
        let ino = world.server.inodes.len() as u64;
        world.server.inodes.push(Inode {
            data: Arc::default(),
            version: 0,
            lock: None,
            gone_by: None,
        });
        let before = world.server.names.get(name).copied();
        let change = (name.to_owned(), before, Some(ino));
        world.server.change_names(node, vec![change]);
        ino
    }
}

impl Dir for SimDir {
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn File>> {
        let mut guard = self.enter(&format!("open {how:?}"), name, 1)?;
        let world = &mut *guard;
        let node = world.actors[self.me].node;
        let there = world.server.names.get(name).copied();
        let ino = match (there, how) {
            (None, Open::Read | Open::Fresh | Open::Write) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (Some(_), Open::CreateNew | Open::CreateProgram)
                if world.broken != Broken::NoExclusive =>
            {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (Some(ino), _) => ino,
            (None, _) => self.create(world, name),
        };
        if world.broken != Broken::StaleOpen {
            if world.is_being_written(node, ino) {
                world.server.lengthen(node, ino);
            } else {
                world.server.revalidate(node, ino);
            }
        }
        let now = world.now;
        let seen = (Some(ino), now);
        world.server.node(node).names.insert(name.into(), seen);
        let handle = world.server.next_handle;
        world.server.next_handle += 1;
        let writes = !matches!(how, Open::Read | Open::Fresh);
        let actor = self.me;
        world
            .server
            .handles
            .insert(handle, Handle { actor, ino, writes });
        let is_fresh = how == Open::Fresh && world.server.has_fresh_reads;
        world.check();
        let (shared, name) = (self.shared.clone(), name.to_owned());
        Ok(Box::new(SimFile {
            shared,
            me: self.me,
            handle,
            is_fresh,
            ino,
            name,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.enter("rename", &format!("{from} -> {to}"), 4)?;
        let node = world.actors[self.me].node;
        let Some(&ino) = world.server.names.get(from) else {
            return world.move_folder(node, from, to);
        };
        let before = world.server.names.get(to).copied();
        let changes = vec![
            (from.to_owned(), Some(ino), None),
            (to.to_owned(), before, Some(ino)),
        ];
        world.server.change_names(node, changes);
        world.server.inode(ino).gone_by = None;
        world.check();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.enter("remove", name, 2)?;
        let node = world.actors[self.me].node;
        if let Some(&ino) = world.server.names.get(name) {
            let change = (name.to_owned(), Some(ino), None);
            world.server.change_names(node, vec![change]);
        }
        Ok(())
    }

    fn inode(&self, name: &str) -> io::Result<Option<u64>> {
        let mut world = self.enter("inode", name, 1)?;
        let (node, now) = (world.actors[self.me].node, world.now);
        let is_local = world.server.is_local();
        let may_be_old = !is_local && world.random.one_in(2);
        if may_be_old
            && let Some(&(seen, when)) = world.server.node(node).names.get(name)
            && now - when < TAKEOVER / 2
        {
            return Ok(seen);
        }
        let there = world.server.there(name);
        let seen = (there, now);
        world.server.node(node).names.insert(name.into(), seen);
        Ok(there)
    }

    fn list(&self, sub: &str) -> io::Result<Vec<String>> {
        let mut world = self.enter("list", sub, 1)?;
        let (node, now) = (world.actors[self.me].node, world.now);
        let may_be_old = !world.server.is_local() && world.random.one_in(3);
        if may_be_old
            && let Some((seen, when)) = world.server.node(node).lists.get(sub)
            && now - when < TAKEOVER / 2
        {
            return Ok(seen.clone());
        }
        let names = world.server.folder(sub);
        if names.is_empty() && sub.starts_with(RESET) && world.server.there(sub).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let seen = (names.clone(), now);
        world.server.node(node).lists.insert(sub.into(), seen);
        Ok(names)
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        let mut world = self.enter("make folder", name, 1)?;
        world.server.folders.insert(name.into());
        Ok(())
    }

    /// Short, so that new ones begin all the time.
    fn segment(&self) -> u64 {
        SEGMENT
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut world = self.enter("sync", "names", 4)?;
        if world.broken != Broken::NoSync {
            let n = world.server.unsynced.len();
            world.server.sync_changes(n);
        }
        world.check();
        Ok(())
    }
}

impl SimFile {
    fn enter(&self, what: &str, weight: u64) -> io::Result<MutexGuard<'_, World>> {
        let world = enter(&self.shared, self.me, (what, &self.name, weight), |_, _| {})?;
        self.known(world)
    }

    /// A file that another node removed is gone, where the server keeps no
    /// record of who has it open.
    fn known<'a>(&self, world: MutexGuard<'a, World>) -> io::Result<MutexGuard<'a, World>> {
        let gone_by = world.server.inodes[at(self.ino)].gone_by;
        let node = world.actors[self.me].node;
        match world.server.kind {
            Kind::Nfs { stale: true } if gone_by.is_some_and(|by| by != node) => {
                Err(io::Error::from_raw_os_error(libc::ESTALE))
            }
            _ => Ok(world),
        }
    }

    /// Whether another has it locked, as far as we can see.
    fn is_held(&self, world: &World) -> bool {
        let node = |actor: usize| world.actors[actor].node;
        let lock = world.server.inodes[at(self.ino)].lock.as_ref();
        lock.is_some_and(|lock| {
            let is_here = node(lock.actor) == node(self.me);
            let reaches_us = is_here || !world.server.has_local_locks;
            lock.handle != self.handle && lock.free_at > world.now && reaches_us
        })
    }

    fn view(&self, world: &mut World) -> Arc<Vec<u8>> {
        let node = world.actors[self.me].node;
        if self.is_fresh {
            world.write_back(node, self.ino, true);
            return world.server.inode(self.ino).data.clone();
        }
        world.server.view(node, self.ino)
    }

    fn put(&self, world: &mut World, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        let node = world.actors[self.me].node;
        let cache = world.server.cache(node, self.ino);
        cache.dirty.push((offset, bytes.to_vec()));
        if world.random.one_in(4) {
            world.write_back(node, self.ino, false);
        }
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut world = self.enter("length of", 1)?;
        Ok(self.view(&mut world).len() as u64)
    }

    fn inode(&self) -> io::Result<u64> {
        Ok(self.ino)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.enter("read", 1)?;
        let node = world.actors[self.me].node;
        if world.random.one_in(4) && !world.is_being_written(node, self.ino) {
            world.server.revalidate(node, self.ino);
        }
        let data = self.view(&mut world);
        let from = at(offset).min(data.len());
        let n = buf.len().min(data.len() - from);
        buf[..n].copy_from_slice(&data[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let write = Write::of(&self.name, buf);
        let aimed_at = self.shared.lock().aims_at_write(write);
        let what = ("write", &self.name[..], 4);
        let torn = |world: &mut World, is_killed| {
            let some = at(world.random.below(buf.len() as u64 + 1));
            let part = match aimed_at {
                Some(Point::Before) => 0,
                Some(Point::Torn) => some.min(buf.len() - 1).max(1),
                Some(Point::Written) => buf.len(),
                _ => some,
            };
            if is_killed {
                let World {
                    actors, crashes, ..
                } = world;
                let write = (&self.name[..], buf, offset);
                actors[self.me].progress.killed_over(write, part, crashes);
            }
            self.put(world, &buf[..part], offset);
        };
        let world = enter_aimed(&self.shared, self.me, what, aimed_at.is_some(), torn)?;
        let mut world = self.known(world)?;
        world.trace(self.me, || {
            let text = String::from_utf8_lossy(&buf[..buf.len().min(700)]);
            format!("  at {offset}: {}", text.trim_end())
        });
        self.put(&mut world, buf, offset);
        let progress = &mut world.actors[self.me].progress;
        progress.written(&self.name, buf, offset);
        world.check();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let torn = |world: &mut World, is_killed: bool| {
            // NFS drops what it could not write.
            if !is_killed && !world.server.is_local() && world.random.one_in(2) {
                let node = world.actors[self.me].node;
                world.tear(node, self.ino);
            }
        };
        let what = ("sync", &self.name[..], 4);
        let world = enter(&self.shared, self.me, what, torn)?;
        let mut world = self.known(world)?;
        if world.broken == Broken::NoSync {
            return Ok(());
        }
        let node = world.actors[self.me].node;
        if world.random.one_in(2) {
            world.write_back(node, self.ino, false);
            world.check();
            drop(world);
            let what = ("sync more", &self.name[..], 4);
            world = enter(&self.shared, self.me, what, torn)?;
        }
        // Others may look at the server between any two writes that arrive.
        while !world.server.cache(node, self.ino).dirty.is_empty() {
            world.write_back(node, self.ino, false);
            world.check();
        }
        world.actors[self.me].progress.synced(&self.name);
        let ino = Some(self.ino);
        let made = |changes: &Vec<Change>| changes.iter().any(|change| change.2 == ino);
        if let Some(nth) = world.server.unsynced.iter().rposition(made) {
            world.server.sync_changes(nth + 1);
        }
        world.check();
        Ok(())
    }

    fn try_lock(&self, mechanism: Mechanism) -> io::Result<bool> {
        if mechanism == Mechanism::Link {
            return Ok(true);
        }
        let mut world = self.enter("lock", 2)?;
        let (node, broken) = (world.actors[self.me].node, world.broken);
        let is_held = self.is_held(&world);
        let inode = world.server.inode(self.ino);
        if is_held && broken != Broken::NoLock {
            return Ok(false);
        }
        inode.lock = Some(Lock {
            handle: self.handle,
            actor: self.me,
            free_at: u64::MAX,
        });
        if broken != Broken::StaleOpen {
            world.server.revalidate(node, self.ino);
        }
        Ok(true)
    }

    fn is_locked(&self, _: Mechanism) -> io::Result<bool> {
        // Only who looks at others asks that.
        let world = self.enter("is locked", 4)?;
        Ok(self.is_held(&world) && world.broken != Broken::NoLock)
    }

    fn share(&self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut world = self.shared.lock();
        if world.actors[self.me].is_dead || world.actors[self.me].is_cut {
            return;
        }
        let cost = world.random.between(20, 200);
        world.actors[self.me].ready_at = world.now + cost;
        world = self.shared.switch(world, self.me);
        if !world.actors[self.me].is_dead {
            world.close(self.handle);
            world.check();
        }
    }
}
