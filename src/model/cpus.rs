//! How many slots fit: the CPUs that this process may use, and the warnings when more
//! slots are asked for.

use super::allocation::{Allocation, Launch, Scheduler};

/// The CPUs as the kernel reports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// Those of the node.
    pub online: u32,
    /// Those that we are bound to.
    pub bound: u32,
    /// What the quota of our cgroups leaves of those.
    pub quota: u32,
}

/// How many CPUs this process may use for itself.
///
/// Processes that a launcher put on one node share its CPUs unless each was
/// bound to some of its own: that is when all of them together have no more
/// than there are. A quota is shared in any case.
pub fn usable(cpus: Cpus, place: &Allocation) -> u32 {
    let given = place.cpus.unwrap_or(cpus.online).min(cpus.online.max(1));
    let ours = cpus.bound.min(given);
    let ours = if is_shared(cpus, place) {
        ours / place.neighbours()
    } else {
        ours
    };
    let quota = if cpus.quota < cpus.bound {
        cpus.quota / place.neighbours()
    } else {
        cpus.quota
    };
    let all = [Some(ours), Some(quota), place.own_cpus];
    all.into_iter().flatten().min().unwrap_or(1).max(1)
}

fn is_shared(cpus: Cpus, place: &Allocation) -> bool {
    let given = place.cpus.unwrap_or(cpus.online);
    let neighbours = place.neighbours();
    neighbours > 1 && cpus.bound.saturating_mul(neighbours) > given
}

/// What is wrong with the allocation and the slots that were `asked` for, and the way out.
/// `host` is our node's name.
pub fn warnings(asked: Option<u32>, cpus: Cpus, place: &Allocation, host: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if place.speaks_for_node() {
        texts.extend(too_many(asked, cpus, place).map(|text| match place.nodes {
            Some(2..) => format!("{host}: {text}"),
            _ => text,
        }));
    }
    if place.speaks_for_all() {
        texts.extend(lonely(place));
    }
    texts
}

fn too_many(asked: Option<u32>, cpus: Cpus, place: &Allocation) -> Option<String> {
    let usable = usable(cpus, place);
    let slots = asked.unwrap_or(usable);
    let neighbours = place.neighbours();
    let is_slurm = place.scheduler == Some(Scheduler::Slurm) && place.is_step;
    let given = place.cpus.unwrap_or(cpus.online).min(cpus.online);
    let has = counted(usable, "CPU", "CPUs");
    if is_shared(cpus, place) && slots > usable {
        let all = given.min(cpus.bound);
        let cure = if is_slurm {
            "srun --ntasks-per-node=1"
        } else {
            "start one per node"
        };
        return Some(format!(
            "{neighbours} processes of pytf share {} and would run {slots} tasks each: \
             {cure}, or --proc {usable}",
            counted(all, "CPU", "CPUs")
        ));
    }
    // Every CPU that the step has on this node is for us, but we may not use it.
    let is_confined = is_slurm && usable < slots.max(given / neighbours);
    if is_confined && (usable < given / neighbours || place.own_cpus.is_none()) {
        let wanted = slots.max(given / neighbours);
        return Some(format!(
            "{} for {has}: srun gives each process one CPU unless it gets -c \
             itself, whatever sbatch got: srun -c {wanted} pytf …",
            counted(slots, "slot", "slots")
        ));
    }
    if slots <= usable {
        return None;
    }
    if place.scheduler.is_some() || place.launch == Launch::Launched {
        return Some(format!(
            "--proc {slots}, but this process has {has}: ask the scheduler for more, \
             or give a smaller --proc"
        ));
    }
    // On a machine of one's own it is a choice.
    (usable < cpus.online).then(|| {
        format!(
            "--proc {slots}, but this process may use {usable} of {} CPUs \
             (its affinity or the quota of its cgroup)",
            cpus.online
        )
    })
}

/// Started once where it was probably meant to be started on every node.
fn lonely(place: &Allocation) -> Option<String> {
    let nodes = place.nodes.unwrap_or(1);
    let how = match place.scheduler? {
        Scheduler::Slurm => "srun pytf …",
        Scheduler::Pbs => "pbsdsh or mpiexec",
        Scheduler::Lsf => "blaunch or jsrun",
        Scheduler::Sge => "mpiexec or qrsh -inherit",
        Scheduler::Flux => "flux run",
    };
    match place.launch {
        Launch::Script if nodes > 1 => Some(format!(
            "the job has {nodes} nodes, and pytf works on this one alone: \
             {how} starts it on all of them"
        )),
        Launch::Shell => Some(format!(
            "this shell of salloc may be outside of the job's {}: {how} works inside",
            counted(nodes, "node", "nodes")
        )),
        _ => None,
    }
}

fn counted(number: u32, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(online: u32, bound: u32, quota: u32) -> Cpus {
        Cpus {
            online,
            bound,
            quota,
        }
    }

    fn launched(cpus: Option<u32>, local_size: u32) -> Allocation {
        Allocation {
            launch: Launch::Launched,
            cpus,
            local_size: Some(local_size),
            local_rank: Some(0),
            rank: Some(0),
            ..Allocation::default()
        }
    }

    fn step(cpus: u32, local_size: u32) -> Allocation {
        Allocation {
            scheduler: Some(Scheduler::Slurm),
            is_step: true,
            ..launched(Some(cpus), local_size)
        }
    }

    #[test]
    fn slots_are_the_cpus_that_we_have_for_ourselves() {
        let one = Allocation::default();
        let said = Allocation {
            own_cpus: Some(4),
            ..step(16, 2)
        };
        for (cpus, place, slots) in [
            (cpus(64, 64, 64), &one, 64),
            (cpus(64, 8, 8), &one, 8),
            (cpus(64, 64, 2), &one, 2),
            // The scheduler gave one of two, and does not bind processes.
            (cpus(2, 2, 2), &step(1, 1), 1),
            (cpus(64, 1, 1), &step(16, 1), 1),
            // Bound to CPUs of their own, or all to the same.
            (cpus(64, 4, 4), &step(16, 4), 4),
            (cpus(64, 16, 16), &step(16, 4), 4),
            (cpus(64, 16, 16), &said, 4),
            // mpirun without a scheduler: OpenMPI binds, MPICH does not.
            (cpus(8, 1, 1), &launched(None, 4), 1),
            (cpus(8, 8, 8), &launched(None, 4), 2),
            (cpus(2, 2, 2), &launched(None, 4), 1),
            // A quota is one for all of them.
            (cpus(64, 16, 8), &launched(None, 4), 2),
        ] {
            assert_eq!(usable(cpus, place), slots, "{cpus:?} {place:?}");
        }
    }

    #[test]
    fn too_many_slots_are_reported_with_the_cure() {
        let one = Allocation::default();
        let pbs = Allocation {
            scheduler: Some(Scheduler::Pbs),
            launch: Launch::Script,
            cpus: Some(2),
            ..Allocation::default()
        };
        for (asked, cpus, place, said) in [
            (None, cpus(8, 8, 8), &one, ""),
            (Some(16), cpus(8, 8, 8), &one, ""),
            (Some(16), cpus(8, 2, 2), &one, "may use 2 of 8 CPUs"),
            (Some(2), cpus(8, 2, 2), &one, ""),
            (Some(16), cpus(64, 1, 1), &step(16, 1), "srun -c 16 pytf"),
            (None, cpus(64, 1, 1), &step(16, 1), "srun -c 16 pytf"),
            (Some(16), cpus(64, 1, 1), &step(1, 1), "srun -c 16 pytf"),
            (None, cpus(64, 16, 16), &step(16, 1), ""),
            (None, cpus(64, 16, 16), &step(16, 4), ""),
            (
                Some(16),
                cpus(64, 16, 16),
                &step(16, 4),
                "--ntasks-per-node=1, or --proc 4",
            ),
            (
                Some(8),
                cpus(8, 8, 8),
                &launched(None, 4),
                "4 processes of pytf share 8 CPUs",
            ),
            (Some(8), cpus(8, 8, 8), &pbs, "this process has 2 CPUs"),
        ] {
            let texts = warnings(asked, cpus, place, "node1").join("\n");
            let is_right = if said.is_empty() {
                texts.is_empty()
            } else {
                texts.contains(said)
            };
            assert!(is_right, "{asked:?} {cpus:?} {place:?}: '{texts}'");
        }
    }

    #[test]
    fn only_one_process_tells_what_all_would() {
        let said = |place: &Allocation| warnings(Some(16), cpus(64, 1, 1), place, "node3");
        let second = Allocation {
            rank: Some(1),
            nodes: Some(4),
            ..step(16, 1)
        };
        // A problem of its own node, unless all nodes have it.
        assert!(said(&second)[0].starts_with("node3: "));
        let uniform = Allocation {
            is_uniform: true,
            ..second.clone()
        };
        assert_eq!(said(&uniform), [""; 0]);
        let neighbour = Allocation {
            local_rank: Some(1),
            ..second
        };
        assert_eq!(said(&neighbour), [""; 0]);
    }

    #[test]
    fn a_batch_script_of_many_nodes_probably_meant_srun() {
        let script = |scheduler, launch, nodes| Allocation {
            scheduler: Some(scheduler),
            launch,
            nodes: Some(nodes),
            ..Allocation::default()
        };
        let said = |place: &Allocation| warnings(None, cpus(8, 8, 8), place, "node1").join("");
        assert!(said(&script(Scheduler::Slurm, Launch::Script, 4)).contains("srun pytf"));
        assert!(said(&script(Scheduler::Pbs, Launch::Script, 2)).contains("pbsdsh"));
        assert!(said(&script(Scheduler::Slurm, Launch::Shell, 1)).contains("salloc"));
        assert_eq!(said(&script(Scheduler::Slurm, Launch::Script, 1)), "");
        assert_eq!(said(&script(Scheduler::Slurm, Launch::Launched, 4)), "");
    }
}
