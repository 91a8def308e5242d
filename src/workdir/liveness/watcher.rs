//! Observing the journals of other farmers.
//!
//! This makes the observations, `model::liveness` judges them. Guarantee: a journal is opened
//! to be read only, since on NFS a node that has a file open for writing anywhere does not see
//! how it grows; the header of a journal names its farmer; and locks are queried, never taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::own_node::Node;
use crate::model::identity::Process;
use crate::model::liveness::{LockState, Observer};
use crate::model::record::{Header, NodeId};
use crate::workdir::error::{Context, Result};
use crate::workdir::fs::{Dir, File, Open, Workdir};
use crate::workdir::mechanism::Mechanism;
use crate::workdir::{journal, layout, membership};

/// Observes other farmers from this node, and keeps what is known of them.
pub struct Watcher {
    node: Box<dyn Node>,
    /// What was seen so far.
    pub observer: Observer,
    /// Headers do not change.
    ids: HashMap<String, Header>,
}

impl Watcher {
    /// Nothing seen yet.
    pub fn new(node: Box<dyn Node>, takeover: Duration) -> Self {
        Self {
            node,
            observer: Observer::new(takeover),
            ids: HashMap::new(),
        }
    }

    /// Our own node.
    pub fn node(&self) -> &dyn Node {
        &*self.node
    }

    /// Who writes the journal of this name; `None` when it is gone, or has no header
    /// that can be read.
    pub fn id_of(&mut self, dir: &Arc<dyn Dir>, farmer: &str) -> Result<Option<Header>> {
        match open(dir, farmer)? {
            Some(file) => self.id_in(&*file, farmer),
            None => Ok(None),
        }
    }

    /// The same of a farmer that may have left or been fenced.
    pub fn id_of_any(&mut self, dir: &Arc<dyn Dir>, farmer: &str) -> Result<Option<Header>> {
        if let Some(id) = self.id_of(dir, farmer)? {
            return Ok(Some(id));
        }
        let over = membership::departed(dir)?;
        let Some(over) = over.into_iter().find(|over| over.farmer == farmer) else {
            return Ok(None);
        };
        let file = dir.open(&over.journal, Open::Read);
        self.id_in(&*file.context("open", &over.journal)?, farmer)
    }

    fn id_in(&mut self, file: &dyn File, farmer: &str) -> Result<Option<Header>> {
        if let Some(id) = self.ids.get(farmer) {
            return Ok(Some(id.clone()));
        }
        let header = journal::header(file).context("read", &layout::journal(farmer))?;
        // A copy under another name belongs to no farmer.
        let id = header.filter(|id| id.farmer == farmer);
        if let Some(id) = &id {
            self.ids.insert(farmer.to_owned(), id.clone());
        }
        Ok(id)
    }

    /// Forgets a farmer that has left or was fenced.
    pub fn forget(&mut self, farmer: &str) {
        self.observer.forget(farmer);
        self.ids.remove(farmer);
    }
}

/// What one observation has shown of a journal.
#[derive(Clone, Debug)]
pub struct JournalView {
    /// Who writes it; `None` without a header that can be read.
    pub id: Option<Header>,
    /// Its length, which grows while its farmer lives.
    pub len: u64,
    /// When it was last written, by the file system's time.
    pub modified: Duration,
    /// Whether it is locked.
    pub lock: LockState,
    /// The farmer's process.
    pub process: Process,
    /// Whether the farmer is on our node.
    pub is_here: bool,
}

impl JournalView {
    /// Whether the farmer is under another kernel than the one that is ours.
    pub fn is_under_another_kernel(&self, node: Option<&NodeId>) -> bool {
        let is_another = |id: &Header| id.is_under_another_kernel(node);
        self.id.as_ref().is_some_and(is_another)
    }
}

fn open(dir: &Arc<dyn Dir>, farmer: &str) -> Result<Option<Box<dyn File>>> {
    let name = layout::journal(farmer);
    dir.open(&name, Open::Read).if_found("open", &name)
}

/// Observes a journal; `None` when it is gone.
pub fn look_at(
    workdir: &Workdir,
    farmer: &str,
    watcher: &mut Watcher,
) -> Result<Option<JournalView>> {
    let Some(file) = open(&workdir.dir, farmer)? else {
        return Ok(None);
    };
    let id = watcher.id_in(&*file, farmer)?;
    let node = watcher.node();
    let is_here = id.as_ref().is_some_and(|id| id.is_on(node.id()));
    // Asked before the lock: a farmer that ends between the two leaves a free lock.
    let process = id.as_ref().map_or(Process::Unknown, |id| node.process(id));
    let lock = lock_of(&*file, workdir.mechanism, is_here);
    let name = layout::journal(farmer);
    let len = file.len().context("look at", &name)?;
    let modified = file.modified().context("look at", &name)?;
    Ok(Some(JournalView {
        id,
        len,
        modified,
        lock,
        process,
        is_here,
    }))
}

/// The state of a journal's lock. Where no lock reaches other nodes, flock(2) still works
/// on one node. An error is not an answer.
pub(in crate::workdir) fn lock_of(
    file: &dyn File,
    mechanism: Mechanism,
    is_here: bool,
) -> LockState {
    let by = match mechanism {
        Mechanism::Flock | Mechanism::Fcntl => mechanism,
        Mechanism::Link if is_here => Mechanism::Flock,
        Mechanism::Link => return LockState::Unknown,
    };
    match file.is_locked(by) {
        Ok(true) => LockState::Held,
        Ok(false) => LockState::Free,
        Err(_) => LockState::Unknown,
    }
}
