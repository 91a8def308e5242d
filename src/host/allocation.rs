//! The edges of `model::allocation`: our variables, the node file, the node's
//! name.

use crate::model::allocation::{Allocation, Scheduler, lines_of};

/// Where we are, with what the files say that the variables name.
pub fn here(host: &str) -> Allocation {
    let text = |name: &str| std::env::var(name).ok();
    let mut found = Allocation::from(text);
    let file = match found.scheduler {
        Some(Scheduler::Pbs) => "PBS_NODEFILE",
        Some(Scheduler::Sge) => "PE_HOSTFILE",
        _ => return found,
    };
    let Some(nodes) = text(file).and_then(|path| std::fs::read_to_string(path).ok()) else {
        return found;
    };
    let (nodes, ours) = lines_of(&nodes, host);
    found.nodes = Some(nodes).filter(|nodes| *nodes > 0).or(found.nodes);
    // NCPUS is of a chunk; the node file has a line for each MPI process.
    found.cpus = found.cpus.max(Some(ours).filter(|ours| *ours > 0));
    found
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
