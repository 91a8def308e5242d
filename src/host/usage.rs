//! How busy the node is, and how much of that is for us: this process and all its descendants.
//!
//! `PYTF_TEST_PROC` names a folder to read `stat` and `meminfo` in, instead of /proc.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use super::memory::{self, Process};
use crate::model::others::Reading;

/// What these CPUs, and the memory, are used for; `None` where the kernel does not say it.
pub fn read(cpus: &BTreeSet<usize>) -> Option<Reading> {
    let folder = std::env::var_os("PYTF_TEST_PROC").map_or_else(|| "/proc".into(), PathBuf::from);
    let read = |name| std::fs::read_to_string(folder.join(name)).ok();
    let (stat, meminfo) = (read("stat")?, read("meminfo")?);
    let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
    let per_second = u32::try_from(per_second).ok().filter(|ticks| *ticks > 0)?;
    let time = |ticks: u64| Duration::from_secs(ticks) / per_second;
    // The moment of what was read above; what follows takes its time.
    let at = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?);
    let (ticks, own_kib) = own(&memory::processes());
    Some(Reading {
        at,
        busy: time(busy_ticks(&stat, cpus)?),
        own: time(ticks),
        memory_kib: memory::field(&meminfo, "MemTotal:")?,
        available_kib: memory::field(&meminfo, "MemAvailable:")?,
        own_kib,
    })
}

/// How long these CPUs have been busy since the boot, by the text of /proc/stat. Waiting for
/// input and output is not being busy; what the kernel and the hypervisor take is.
fn busy_ticks(text: &str, cpus: &BTreeSet<usize>) -> Option<u64> {
    let of_cpu = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
        let cpu: usize = fields.next()?.parse().ok()?;
        // user nice system idle iowait irq softirq steal; guests count as user.
        let ticks = fields
            .take(8)
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>();
        let ticks = ticks.ok()?;
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        cpus.contains(&cpu)
            .then(|| ticks.iter().sum::<u64>() - idle)
    };
    let busy: Vec<u64> = text.lines().filter_map(of_cpu).collect();
    (!busy.is_empty()).then(|| busy.iter().sum())
}

/// The clock ticks and the KiB of this process and all its descendants.
fn own(all: &[Process]) -> (u64, u64) {
    let (by_pid, us) = (memory::by_pid(all), nix::unistd::getpid().as_raw());
    let is_ours = |one: &&Process| memory::lineage(&by_pid, one).any(|it| it.pid == us);
    let ours = all.iter().filter(is_ours);
    ours.fold((0, 0), |(ticks, kib), one| {
        (ticks + one.ticks, kib + one.kib)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_cpus_count_and_idle_ones_do_not() {
        let text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 4 1000 2000 8 16 32 1 0\n\
                    cpu1 100 0 0 5 5 0 0 0 0 0\ncpu10 7 0 0 0 0 0 0 0 0 0\nintr 1 2\n";
        let busy = |cpus: &[usize]| busy_ticks(text, &cpus.iter().copied().collect());
        assert_eq!(busy(&[0]), Some(63));
        assert_eq!(busy(&[0, 1]), Some(163));
        assert_eq!(busy(&[1]), Some(100));
        assert_eq!(busy(&[2]), None);
    }

    /// What a child uses is ours while it runs and when it has ended.
    #[test]
    fn the_work_of_a_child_is_ours() {
        let cpus = crate::host::cpus::allowed();
        let before = read(&cpus).unwrap();
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let child = std::process::Command::new("sh")
            .args(["-c", script])
            .status();
        assert!(child.unwrap().success());
        let after = read(&cpus).unwrap();
        assert!(after.own > before.own, "{before:?} {after:?}");
        assert!(after.busy > before.busy);
        assert!(after.own_kib > 0 && after.available_kib < after.memory_kib);
    }
}
