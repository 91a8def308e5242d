//! Whether slots are bound to CPUs, and to which.
//!
//! Two farms on a machine without a scheduler must not both bind themselves to its first CPUs.
//! So slots are bound only if that was requested, or if our step has its own CPUs.

use std::collections::BTreeSet;

use super::node_share::NodeShare;
use super::options::{Bind, DeviceOptions};
use crate::host::cpus;
use crate::model::allocation::Scheduler;
use crate::model::devices::cores::{CoreBinding, assign};

/// The CPUs of all slots.
pub(super) struct Cores {
    /// The CPUs of each slot, when slots are bound.
    pub(super) slots: Option<Vec<Vec<usize>>>,
    /// How many threads a task should have.
    pub(super) threads: Option<usize>,
    /// A message for the user.
    pub(super) remark: Option<String>,
}

/// The CPUs that this process may use: those that it may run on, or its part of them where
/// all processes of this node may run on the same CPUs.
pub(super) fn ours(share: &NodeShare) -> BTreeSet<usize> {
    let allowed = cpus::allowed();
    let part = share.part();
    let all = of_node(share);
    if allowed.len() * part.of as usize <= all || allowed.len() < part.of as usize {
        return allowed;
    }
    let range = part.of(allowed.len());
    allowed
        .into_iter()
        .skip(range.start)
        .take(range.len())
        .collect()
}

/// How many CPUs our job has on this node.
fn of_node(share: &NodeShare) -> usize {
    let online = cpus::online(&share.access.sysfs);
    slurms(share)
        .filter(|_| online > 0)
        .map_or(online, |n| n.min(online))
}

/// The CPUs that Slurm gave to our job on this node.
fn slurms(share: &NodeShare) -> Option<usize> {
    let place = share.allocation;
    let cpus = place
        .cpus
        .filter(|_| place.scheduler == Some(Scheduler::Slurm));
    cpus.and_then(|cpus| cpus.try_into().ok())
}

/// Whether the CPUs that we may run on belong to our step alone.
fn are_own(share: &NodeShare) -> bool {
    let place = share.allocation;
    let allowed = cpus::allowed().len();
    let is_part = allowed < cpus::online(&share.access.sysfs);
    let is_counted = slurms(share).is_some_and(|counted| counted >= allowed);
    place.rank.is_some() && place.job.is_some() && (is_part || is_counted)
}

pub(super) fn plan(
    options: &DeviceOptions,
    ours: &BTreeSet<usize>,
    near: &[BTreeSet<usize>],
    share: &NodeShare,
) -> Result<Cores, String> {
    let slots = near.len().max(1);
    let asked = options.cpus_per_task.map(|n| n as usize);
    let each = asked.unwrap_or((ours.len() / slots).max(1));
    let cannot = format!(
        "{slots} slots with {each} {} each need {} CPUs, and there are {}",
        if each == 1 { "CPU" } else { "CPUs" },
        each.saturating_mul(slots),
        ours.len()
    );
    let unbound = |remark| Cores {
        slots: None,
        threads: asked,
        remark,
    };
    let (bind, must) = match (options.bind, asked) {
        (Some(Bind::Core), _) => (CoreBinding::Own(each), true),
        (Some(Bind::Numa), _) => (CoreBinding::Numa, true),
        (Some(Bind::Gpu), _) => (CoreBinding::Near, true),
        (None, Some(_)) => (CoreBinding::Own(each), false),
        (None, None) if are_own(share) && slots <= ours.len() => (CoreBinding::Own(each), false),
        (None, None) | (Some(Bind::None), _) => return Ok(unbound(None)),
    };
    if options.bind == Some(Bind::Gpu) && near.iter().all(BTreeSet::is_empty) {
        let remark = "which CPUs are near the GPUs is not known: tasks are not bound";
        return Ok(unbound(Some(remark.to_owned())));
    }
    let layout = cpus::layout(&share.access.sysfs, ours);
    match assign(&layout, bind, near) {
        Some(slots) => Ok(Cores {
            slots: Some(slots),
            threads: asked.or(matches!(bind, CoreBinding::Own(_)).then_some(each)),
            remark: None,
        }),
        None if must => Err(format!(
            "--bind: {cannot}: use --proc {}, or --bind none",
            (ours.len() / each).max(1)
        )),
        None => Ok(unbound(Some(format!(
            "{cannot}: tasks are not bound to CPUs"
        )))),
    }
}
