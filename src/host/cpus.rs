//! The CPUs that we may use, how they are laid out, and binding to them.
//!
//! Guarantee: a thread binds only itself, and what it starts afterwards inherits the binding.

use std::collections::BTreeSet;
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::model::cpus::Cpus;
use crate::model::devices::cores::{Cpu, parse_list};

/// The CPUs that this thread may run on.
pub fn allowed() -> BTreeSet<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return BTreeSet::new();
    };
    (0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect()
}

/// What the kernel knows: the node, our affinity, the quotas of our cgroups
/// (`cpu.max`, and version 1's `cpu.cfs_quota_us`).
pub fn usable() -> Cpus {
    // The standard library reads affinity and quotas, and gives the smaller.
    let both = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let quota = u32::try_from(both).unwrap_or(u32::MAX);
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    let online = online.and_then(|online| u32::try_from(online).ok());
    let bound = u32::try_from(allowed().len()).ok();
    Cpus {
        online: online.unwrap_or(quota).max(1),
        bound: bound.filter(|bound| *bound > 0).unwrap_or(quota),
        quota,
    }
}

/// How many processes of the node have run or waited for a CPU, on average over a minute.
pub fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// How many CPUs the node has.
pub fn online(sysfs: &Path) -> usize {
    let text = std::fs::read_to_string(sysfs.join("devices/system/cpu/online"));
    text.ok()
        .and_then(|text| parse_list(&text))
        .map_or(0, |cpus| cpus.len())
}

/// Binds this thread, and all that it starts, to these CPUs.
pub fn bind(cpus: &[usize]) -> nix::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Where these CPUs are. Without information from sysfs, each CPU is taken for a core of its
/// own, and all for one NUMA node.
pub fn layout(sysfs: &Path, cpus: &BTreeSet<usize>) -> Vec<Cpu> {
    let nodes = nodes(sysfs);
    let place = |&id: &usize| {
        let folder = sysfs.join(format!("devices/system/cpu/cpu{id}/topology"));
        let siblings = ["core_cpus_list", "thread_siblings_list"]
            .iter()
            .find_map(|name| std::fs::read_to_string(folder.join(name)).ok());
        let core = siblings.and_then(|text| parse_list(&text)?.first().copied());
        let numa = nodes.iter().find(|(_, cpus)| cpus.contains(&id));
        Cpu {
            numa: numa.map_or(0, |(node, _)| *node),
            core: core.unwrap_or(id),
            id,
        }
    };
    cpus.iter().map(place).collect()
}

fn nodes(sysfs: &Path) -> Vec<(u32, BTreeSet<usize>)> {
    let entries = std::fs::read_dir(sysfs.join("devices/system/node"));
    let node = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix("node")?.parse().ok()?;
        let cpus = std::fs::read_to_string(entry.path().join("cpulist")).ok()?;
        Some((number, parse_list(&cpus)?))
    };
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(node)
        .collect()
}
