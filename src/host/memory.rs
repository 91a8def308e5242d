//! How much memory there is, and whether the kernel killed a process for lack of memory (OOM).
//!
//! For kills there is evidence, not proof: the counter of our own memory cgroup
//! where there is one (`memory.events` of cgroup v2, `memory.oom_control` of
//! v1), else the node's (`oom_kill` in /proc/vmstat, Linux 4.13).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a counted kill can explain the end of a task: when several tasks are killed
/// together, their ends are seen one after the other.
const FRESH: Duration = Duration::from_secs(2);

/// The out-of-memory kills that the kernel has counted.
pub struct OomKills {
    source: PathBuf,
    kills: Mutex<Kills>,
}

#[derive(Clone, Copy, Debug)]
struct Kills {
    counted: u64,
    /// Kills that may still explain the end of a task.
    open: u64,
    /// Kills that explained no end in time.
    missed: u64,
    /// When the counter last rose.
    rose: Instant,
}

impl Kills {
    /// Explains an end by a kill, if the count has risen for it.
    fn explain(&mut self, counted: u64, now: Instant) -> bool {
        self.count(counted, now);
        let is_explained = self.open > 0;
        self.open = self.open.saturating_sub(1);
        is_explained
    }

    fn count(&mut self, counted: u64, now: Instant) {
        if now.duration_since(self.rose) > FRESH {
            self.missed += std::mem::take(&mut self.open);
        }
        if counted > self.counted {
            self.open += counted - self.counted;
            (self.counted, self.rose) = (counted, now);
        }
    }

    /// The kills that explain no end. Recent ones are included only when no more ends come.
    fn unexplained(&mut self, counted: u64, now: Instant, is_last: bool) -> u64 {
        self.count(counted, now);
        if is_last {
            self.missed += std::mem::take(&mut self.open);
        }
        std::mem::take(&mut self.missed)
    }
}

impl OomKills {
    /// Finds the counter and notes where it stands.
    pub fn new() -> Self {
        let memberships = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let source = counters_of(&memberships)
            .into_iter()
            .find(|path| read(path).is_some())
            .unwrap_or_else(|| PathBuf::from("/proc/vmstat"));
        let kills = Mutex::new(Kills {
            counted: read(&source).unwrap_or(0),
            open: 0,
            missed: 0,
            rose: Instant::now(),
        });
        Self { source, kills }
    }

    /// Whether a counted kill explains the end of a task that was just killed. A kill
    /// explains one end at most.
    pub fn explain_end(&self) -> bool {
        let counted = read(&self.source).unwrap_or(0);
        let mut kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        kills.explain(counted, Instant::now())
    }

    /// How many counted kills explain no end of a task: a task whose child was killed may
    /// end as if nothing had happened. Each kill is reported once.
    pub fn unexplained(&self, is_last: bool) -> u64 {
        let Some(counted) = read(&self.source) else {
            return 0;
        };
        let mut kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        kills.unexplained(counted, Instant::now(), is_last)
    }

    /// What the counter covers.
    pub fn scope(&self) -> &'static str {
        if self.source.starts_with("/sys/fs/cgroup") {
            "this job's control group"
        } else {
            "this node, of this and other programs"
        }
    }
}

impl Default for OomKills {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory that this process and its tasks may use together, in KiB: the memory of the
/// node, or the lowest limit of its cgroups.
pub fn usable_kib() -> Option<u64> {
    let of_node = of_meminfo("MemTotal:");
    let memberships = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = counters_of(&memberships).into_iter().flat_map(|counter| {
        let name = match counter.file_name().and_then(|name| name.to_str()) {
            Some("memory.events") => "memory.max",
            _ => "memory.limit_in_bytes",
        };
        // A limit of any cgroup above holds as well.
        let folders = counter.ancestors().skip(1);
        folders
            .map(|folder| folder.join(name))
            .take_while(|path| path.starts_with("/sys/fs/cgroup"))
            .collect::<Vec<_>>()
    });
    limits
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .map(|bytes| bytes / 1024)
        .chain(of_node)
        .min()
}

/// The memory of the node that new processes may use without swapping, in KiB.
pub fn free_kib() -> Option<u64> {
    of_meminfo("MemAvailable:")
}

fn of_meminfo(name: &str) -> Option<u64> {
    field(&std::fs::read_to_string("/proc/meminfo").ok()?, name)
}

/// A field of the text of /proc/meminfo, in KiB.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The processes that belong to our tasks, with their resident memory in KiB: for each of these
/// process groups its members and all their descendants.
pub fn of_groups(groups: &[i32]) -> BTreeMap<i32, Vec<(i32, u64)>> {
    let all = processes();
    let by_pid = by_pid(&all);
    let mut found: BTreeMap<i32, Vec<_>> = groups.iter().map(|group| (*group, vec![])).collect();
    for process in &all {
        let group = lineage(&by_pid, process).find(|one| found.contains_key(&one.group));
        if let Some(members) = group.and_then(|one| found.get_mut(&one.group)) {
            members.push((process.pid, process.kib));
        }
    }
    found
}

/// Processes by their ids.
pub(super) fn by_pid(all: &[Process]) -> HashMap<i32, &Process> {
    all.iter().map(|process| (process.pid, process)).collect()
}

/// A process and its ancestors, beginning with itself.
pub(super) fn lineage<'a>(
    by_pid: &HashMap<i32, &'a Process>,
    process: &'a Process,
) -> impl Iterator<Item = &'a Process> {
    let parent = |one: &&Process| by_pid.get(&one.parent).copied();
    // What is read while it changes may have a circle.
    std::iter::successors(Some(process), parent).take(64)
}

/// The memory of these processes in KiB. What several of them share counts once, where that
/// can be read; else it counts for each.
pub fn sum_of(processes: &[(i32, u64)]) -> u64 {
    let pss = |(pid, kib): &(i32, u64)| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
        let pss = text.and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        });
        pss.unwrap_or(*kib)
    };
    processes.iter().map(pss).sum()
}

/// A process as proc(5) has it.
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    group: i32,
    /// The CPU time of it and of those children that it has waited for, in clock ticks.
    pub(super) ticks: u64,
    /// Resident memory.
    pub(super) kib: u64,
}

/// All processes of the node that can be seen.
pub(super) fn processes() -> Vec<Process> {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page
        .ok()
        .flatten()
        .and_then(|page| u64::try_from(page).ok());
    let kib = page.unwrap_or(4096) / 1024;
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name: state, ppid, pgrp; utime, stime, cutime and cstime are from the 12th on,
        // resident pages are the 22nd.
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let times = fields.by_ref().skip(8).take(4);
        let ticks = times.filter_map(|time| time.parse::<u64>().ok()).sum();
        let pages: u64 = fields.nth(6)?.parse().ok()?;
        Some(Process {
            pid,
            parent,
            group,
            ticks,
            kib: pages * kib,
        })
    })
    .collect()
}

/// The files that may have the counters of these cgroups (the text of /proc/self/cgroup).
fn counters_of(memberships: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut found = Vec::new();
    for line in memberships.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            found.push(root.join(path).join("memory.events"));
            found.push(root.join("unified").join(path).join("memory.events"));
        } else if controllers.split(',').any(|name| name == "memory") {
            found.push(root.join("memory").join(path).join("memory.oom_control"));
        }
    }
    found
}

fn read(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_memory_and_not_more_than_the_node_has() {
        let usable = usable_kib().unwrap();
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total = text.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!((1024..=total).contains(&usable), "{usable} of {total}");
    }

    #[test]
    fn our_own_group_has_memory_and_an_unknown_one_has_none() {
        let group = nix::unistd::getpgrp().as_raw();
        let found = of_groups(&[group, i32::MAX]);
        let ours: u64 = found[&group].iter().map(|(_, kib)| kib).sum();
        assert!(ours > 1024, "{found:?}");
        assert!((1..=ours * 2).contains(&sum_of(&found[&group])));
        assert_eq!(found[&i32::MAX], []);
    }

    #[test]
    fn each_kill_explains_one_end_and_not_for_long() {
        let now = Instant::now();
        let mut kills = Kills {
            counted: 5,
            open: 0,
            missed: 0,
            rose: now,
        };
        assert!(!kills.explain(5, now));
        assert!(kills.explain(7, now) && kills.explain(7, now));
        assert!(!kills.explain(7, now), "two were killed, not three");
        assert!(kills.explain(9, now));
        assert!(!kills.explain(9, now + FRESH * 2), "that was another's");
        // Of those that were counted, one explains no end; of the next an end may follow.
        let later = now + FRESH * 2;
        assert_eq!(kills.unexplained(10, later, false), 1);
        assert_eq!(kills.unexplained(10, later, false), 0);
        assert_eq!(kills.unexplained(10, later + FRESH * 2, false), 1);
        assert_eq!(
            kills.unexplained(10, later + FRESH * 4, true),
            0,
            "reported once"
        );
        assert_eq!(
            kills.unexplained(12, later + FRESH * 4, true),
            2,
            "the last"
        );
    }

    #[test]
    fn both_kinds_of_cgroups_have_a_counter() {
        let text = "9:memory:/slurm/uid_1/job_2\n3:cpu,cpuacct:/x\n0::/user.slice/session\n";
        let paths: Vec<_> = counters_of(text)
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        assert_eq!(
            paths,
            [
                "/sys/fs/cgroup/memory/slurm/uid_1/job_2/memory.oom_control",
                "/sys/fs/cgroup/user.slice/session/memory.events",
                "/sys/fs/cgroup/unified/user.slice/session/memory.events",
            ]
        );
    }
}
