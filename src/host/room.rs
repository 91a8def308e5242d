//! The CPUs that the kernel lets us use.

use nix::unistd::{SysconfVar, sysconf};

use super::cpus::allowed;
use crate::model::cpus::Cpus;

/// What the kernel knows: the node, our affinity, the quotas of our cgroups
/// (`cpu.max`, and version 1's `cpu.cfs_quota_us`).
pub fn cpus() -> Cpus {
    // The standard library reads affinity and quotas, and gives the smaller.
    let both = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let quota = u32::try_from(both).unwrap_or(u32::MAX);
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    let online = online.and_then(|online| u32::try_from(online).ok());
    Cpus {
        online: online.unwrap_or(quota).max(1),
        bound: bound().unwrap_or(quota).max(1),
        quota,
    }
}

fn bound() -> Option<u32> {
    let bound = u32::try_from(allowed().len()).ok();
    bound.filter(|bound| *bound > 0)
}
