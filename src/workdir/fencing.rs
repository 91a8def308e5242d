//! The fence: how a farmer finds out that others have fenced it.
//!
//! Others rely on this: what is asked under the lock is certain; what is asked without it
//! may be late, never wrong.

use crate::workdir::error::{Error, Result};
use crate::workdir::fs::Dir;
use crate::workdir::membership;
use crate::workdir::state::{Act, Members, State};
use crate::workdir::transaction::Txn;
use std::sync::Arc;

/// The same, without the lock.
pub(super) fn check_fence_unlocked(dir: &Arc<dyn Dir>, farmer: &str) -> Result<()> {
    if membership::has_departed(dir, farmer)? {
        Err(Error::Fenced)
    } else {
        Ok(())
    }
}

/// Whether others have sealed the farmer with that number and name since the state
/// that it saw last.
pub(super) fn check_fence(
    txn: &Txn<'_>,
    last: &State,
    (number, farmer): (u32, &str),
) -> Result<()> {
    let now = txn.state();
    let is_over = if now.live == 0 {
        // There is no member, so we are none either.
        true
    } else if now.log.segment != last.log.segment {
        let members = Members::after(&txn.entries()?);
        members
            .named(farmer)
            .is_none_or(|member| member.by != number)
    } else if now.log.len < last.log.len {
        true
    } else if now.seals == last.seals {
        false
    } else {
        let is_ours = |act: &Act| matches!(act, Act::Seal { of, .. } if *of == number);
        let entries = txn.entries_since(&last.log)?;
        entries.iter().any(|entry| is_ours(&entry.act))
    };
    if is_over { Err(Error::Fenced) } else { Ok(()) }
}
