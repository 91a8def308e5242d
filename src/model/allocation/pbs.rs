//! PBS: the job's script, what pbsdsh starts, the node file.

use super::{Allocation, Env, Launch, Scheduler};

pub(super) fn job(env: &Env) -> Option<Allocation> {
    let id = env.text("PBS_JOBID")?;
    // pbsdsh gives no node file to what it starts, only the node's number.
    let is_remote = !env.has("PBS_NODEFILE") && env.has("PBS_NODENUM");
    Some(Allocation {
        scheduler: Some(Scheduler::Pbs),
        job: Some(id.clone()),
        asks_for: Some(id),
        launch: if is_remote {
            Launch::Launched
        } else {
            Launch::Script
        },
        rank: is_remote
            .then(|| env.first(&["PBS_NODENUM", "PBS_VNODENUM"]))
            .flatten(),
        nodes: env.number("PBS_NUM_NODES"),
        cpus: env.first(&["NCPUS", "PBS_NUM_PPN"]),
        ..Allocation::default()
    })
}

/// What a node file, or Grid Engine's `PE_HOSTFILE`, tells: how many nodes there
/// are, and how many processes or slots on `host`. A line is a host, and behind
/// it perhaps a number; a host may have several lines.
pub fn lines_of(text: &str, host: &str) -> (u32, u32) {
    let short = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    let (mut hosts, mut ours) = (Vec::new(), 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next().map(short) else {
            continue;
        };
        let number: u32 = words
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(1);
        if name == short(host) {
            ours += number;
        }
        if !hosts.contains(&name) {
            hosts.push(name);
        }
    }
    (u32::try_from(hosts.len()).unwrap_or(u32::MAX), ours)
}
