//! PBS: the job's script, what pbsdsh starts, the node file. Recorded on OpenPBS 23; TORQUE
//! according to its documentation.

use super::job::{Allocation, Env, Launch, Scheduler};

pub(super) fn job(env: &Env) -> Option<Allocation> {
    let id = env.text("PBS_JOBID")?;
    let is_remote = is_tasks(env);
    Some(Allocation {
        scheduler: Some(Scheduler::Pbs),
        job: Some(id.clone()),
        asks_for: Some(id),
        launch: Launch::of(is_remote),
        rank: is_remote
            // TORQUE numbers them where several run on one node.
            .then(|| env.first(&["PBS_VNODENUM", "PBS_NODENUM"]))
            .flatten(),
        nodes: env.number("PBS_NUM_NODES"),
        cpus: env.first(&["NCPUS", "PBS_NUM_PPN"]),
        ..Allocation::default()
    })
}

/// Whether pbsdsh started us. The job's script is task 1; on OpenPBS the others have
/// eight hexadecimal digits (`00000002` on the first node, `40000001`, `80000001` on
/// others), on TORQUE a number. The node file proves nothing: the first node's have none,
/// and since OpenPBS 22.05 the other nodes' do.
fn is_tasks(env: &Env) -> bool {
    match env.text("PBS_TASKNUM") {
        Some(number) => number.trim() != "1" && env.has("PBS_NODENUM"),
        None => !env.has("PBS_NODEFILE") && env.has("PBS_NODENUM"),
    }
}

/// The folder of the mom's files, as the text of `pbs.conf` names it; the node file of
/// a job is in its subfolder `aux`, under the job's name, on every node.
pub fn home_of(conf: &str) -> &str {
    conf.lines()
        .find_map(|line| line.trim().strip_prefix("PBS_HOME="))
        .unwrap_or("/var/spool/pbs")
}

/// How many processes pbsdsh starts: one per line of the node file.
pub fn processes_of(text: &str) -> u32 {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    u32::try_from(lines.count()).unwrap_or(u32::MAX)
}

/// Reads a node file, or Grid Engine's `PE_HOSTFILE`: how many nodes there are, and how many
/// processes or slots on `host`. A line is a host, and after it perhaps a number; a host may
/// have several lines.
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
