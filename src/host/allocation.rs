//! What `model::allocation` needs from the system: environment variables, the node file, the
//! name of the node.

use std::path::PathBuf;

use crate::model::allocation::{Allocation, Launch, Scheduler, home_of, lines_of, processes_of};

/// The allocation of this process, from variables and from the files that these name.
pub fn here(host: &str) -> Allocation {
    let text = |name: &str| std::env::var(name).ok();
    let mut found = Allocation::from(text);
    let is_pbs = found.scheduler == Some(Scheduler::Pbs);
    let file = match found.scheduler {
        Some(Scheduler::Pbs) => text("PBS_NODEFILE")
            .map(PathBuf::from)
            .or_else(|| pbs_node_file(&found)),
        Some(Scheduler::Sge) => text("PE_HOSTFILE").map(PathBuf::from),
        _ => None,
    };
    let Some(file) = file.and_then(|path| std::fs::read_to_string(path).ok()) else {
        return found;
    };
    let (nodes, ours) = lines_of(&file, host);
    found.nodes = Some(nodes).filter(|nodes| *nodes > 0).or(found.nodes);
    let ours = Some(ours).filter(|ours| *ours > 0);
    // NCPUS is per chunk; the node file has a line per MPI process.
    found.cpus = found.cpus.max(ours);
    if is_pbs && found.launch == Launch::Launched && found.size.is_none() {
        found.size = Some(processes_of(&file)).filter(|size| *size > 0);
        found.local_size = ours;
    }
    found
}

/// Where PBS keeps the node file of a job, on each of its nodes: no variable names it for a
/// process that pbsdsh starts on the first node.
fn pbs_node_file(place: &Allocation) -> Option<PathBuf> {
    let job = place.asks_for.as_deref()?;
    let home = pbs_conf();
    Some(PathBuf::from(home_of(&home)).join("aux").join(job))
}

/// The text of the configuration of PBS; empty where there is no such file.
pub(super) fn pbs_conf() -> String {
    let path = std::env::var_os("PBS_CONF_FILE").unwrap_or_else(|| "/etc/pbs.conf".into());
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The node's name, from the kernel: HOSTNAME is the batch host's on every node.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    if name.is_empty() {
        "localhost".into()
    } else {
        name
    }
}
