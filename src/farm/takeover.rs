//! Before a farmer joins: it finds farmers that have died and requeues their tasks.

use std::time::Duration;

use super::lock_wait::LockWaiter;
use crate::model::identity::Process;
use crate::model::liveness::{LockState, Verdict};
use crate::workdir::error::Result;
use crate::workdir::liveness::{JournalView, Waiting};
use crate::workdir::open::Workdir;
use crate::workdir::recovery::{self, Fencer, Suspect};
use crate::workdir::{liveness, membership};

/// How many farmers are checked before the first task: those with names like ours, and
/// others.
const MOST_NEAR: usize = 1024;
const MOST_FAR: usize = 64;
/// How long a farmer of this node that was just killed may take until its last task is
/// gone, and between two checks.
const DYING_CHECKS: u32 = 300;
const DYING_PAUSE: Duration = Duration::from_millis(10);

/// What is needed to take over tasks.
pub(super) struct Takeover<'a> {
    pub(super) workdir: &'a Workdir,
    pub(super) waiter: &'a mut LockWaiter,
    /// Our name.
    pub(super) me: &'a str,
}

impl Takeover<'_> {
    /// Takes over from every farmer that is proved dead; `node` is the name of ours.
    pub(super) fn of_dead(&mut self, node: &str) -> Result<()> {
        for farmer in self.suspects(node)? {
            self.if_dead(&farmer)?;
        }
        Ok(())
    }

    /// Takes over from the farmer that this process was before. A transaction of it may
    /// have failed without an answer whether it was committed. None of its tasks runs.
    pub(super) fn of_predecessor(&mut self, before: &str) -> Result<()> {
        let Some(watcher) = self.waiter.watcher() else {
            return Ok(());
        };
        if let Some(seen) = liveness::look_at(self.workdir, before, watcher)? {
            self.fence(before, &seen)?;
        }
        Ok(())
    }

    /// Farmers that may be dead. Those with names like ours come first, since a death on
    /// this node is proved at once. When a thousand start together, none of them checks
    /// all others; the rest is left to the neighbours.
    fn suspects(&self, node: &str) -> Result<Vec<String>> {
        let mut all = membership::present(&self.workdir.dir)?;
        let after = all.partition_point(|name| &**name <= self.me);
        all.rotate_left(after);
        all.retain(|name| name != self.me);
        let ours = format!("{node}.");
        let (near, far): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|name| name.starts_with(&ours));
        Ok(near
            .into_iter()
            .take(MOST_NEAR)
            .chain(far.into_iter().take(MOST_FAR))
            .collect())
    }

    /// Takes over from a farmer that is proved dead. The guard of one that was just killed on
    /// this node keeps its lock until its last task is gone; we wait only for that.
    fn if_dead(&mut self, farmer: &str) -> Result<()> {
        for nth in 0.. {
            let Some((seen, verdict)) = liveness::judge(self.workdir, farmer, self.waiter)? else {
                return Ok(());
            };
            if matches!(verdict, Verdict::Dead(_)) {
                return self.fence(farmer, &seen);
            }
            let is_dying = seen.process == Process::Gone && seen.lock == LockState::Held;
            if !is_dying || nth == DYING_CHECKS || !self.waiter.pause(DYING_PAUSE) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn fence(&mut self, farmer: &str, seen: &JournalView) -> Result<()> {
        let (by, journal) = (Fencer::Outsider(self.me), Some(seen));
        let suspect = Suspect { farmer, journal };
        recovery::fence(self.workdir, by, self.waiter, suspect).map(drop)
    }
}
