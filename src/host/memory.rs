//! How much memory there is, and whether the kernel killed something for lack of
//! it.
//!
//! Of kills there is evidence, not proof: the counter of our own memory cgroup
//! where there is one (`memory.events` of cgroup v2, `memory.oom_control` of
//! v1), else the node's (`oom_kill` in /proc/vmstat, Linux 4.13).

use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Tells whether out-of-memory kills have been counted since it was last asked.
pub struct OomKills {
    source: PathBuf,
    seen: Mutex<u64>,
}

impl OomKills {
    /// Finds the counter and notes where it stands.
    pub fn new() -> Self {
        let memberships = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let source = counters_of(&memberships)
            .into_iter()
            .find(|path| read(path).is_some())
            .unwrap_or_else(|| PathBuf::from("/proc/vmstat"));
        let seen = Mutex::new(read(&source).unwrap_or(0));
        Self { source, seen }
    }

    /// Whether the counter has risen since the last call.
    pub fn rose(&self) -> bool {
        let now = read(&self.source).unwrap_or(0);
        let mut seen = self
            .seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        now > std::mem::replace(&mut seen, now)
    }
}

impl Default for OomKills {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory that this process and its tasks may use together, in KiB: the
/// least of what the node has and what its cgroups allow.
pub fn usable_kib() -> Option<u64> {
    let of_node = std::fs::read_to_string("/proc/meminfo").ok();
    let of_node = of_node.and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    });
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

/// Where the counters of these cgroups (the text of /proc/self/cgroup) may be.
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
