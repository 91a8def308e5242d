//! Fencing: how a farmer finds out that others have fenced it.
//!
//! Guarantee: the answer under the lock is certain; the answer without it may miss a recent
//! fence, but never reports one that did not happen.

use crate::workdir::error::{Error, Result};
use crate::workdir::fs::{Dir, Workdir};
use crate::workdir::liveness::Waiting;
use crate::workdir::membership;
use crate::workdir::state::{Act, Members, State};
use crate::workdir::transaction::Txn;
use std::sync::Arc;

/// Whether others have fenced the farmer, asked without the lock.
pub(super) fn check_fence_unlocked(dir: &Arc<dyn Dir>, farmer: &str) -> Result<()> {
    if membership::has_departed(dir, farmer)? {
        Err(Error::Fenced)
    } else {
        Ok(())
    }
}

/// A member of the run, as it knows itself.
#[derive(Clone, Copy)]
pub struct OwnMembership<'a> {
    /// Its number in the log.
    pub number: u32,
    /// Its name.
    pub farmer: &'a str,
    /// The state that it saw last.
    pub seen: &'a State,
}

impl OwnMembership<'_> {
    /// Begins a transaction, unless others have fenced the farmer.
    pub(super) fn begin<'t>(
        &self,
        workdir: &'t Workdir,
        waiting: &'t mut dyn Waiting,
    ) -> Result<Txn<'t>> {
        let txn = Txn::begin(workdir, self.farmer, waiting)?;
        if self.is_fenced(&txn)? {
            return Err(Error::Fenced);
        }
        Ok(txn)
    }

    /// Whether others have fenced the farmer since the state that it saw last.
    fn is_fenced(&self, txn: &Txn<'_>) -> Result<bool> {
        let (now, seen) = (txn.state(), self.seen);
        Ok(if now.live == 0 {
            // There is no member, so we are not one.
            true
        } else if now.log.segment != seen.log.segment {
            let members = Members::after(&txn.entries()?);
            let member = members.named(self.farmer);
            member.is_none_or(|member| member.by != self.number)
        } else if now.log.len < seen.log.len {
            true
        } else if now.seals == seen.seals {
            false
        } else {
            let entries = txn.entries_since(&seen.log)?;
            let is_ours = |act: &Act| matches!(act, Act::Seal { of, .. } if *of == self.number);
            entries.iter().any(|entry| is_ours(&entry.act))
        })
    }
}
