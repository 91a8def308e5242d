//! Slurm: batch script, step of srun, shell of salloc.

use std::time::Duration;

use super::job::{Allocation, Env, Launch, Scheduler};

/// Numbers of steps from here on are Slurm's own: salloc's shell, the batch
/// script, what came by ssh (slurm.h).
const RESERVED: u32 = 0xffff_fff0;

pub(super) fn job(env: &Env) -> Option<Allocation> {
    let id = env
        .text("SLURM_JOB_ID")
        .or_else(|| env.text("SLURM_JOBID"))
        .or_else(|| env.text("SLURM_STEP_ID").map(|_| String::new()))?;
    let element = env.text("SLURM_ARRAY_JOB_ID").and_then(|array| {
        let index = env.text("SLURM_ARRAY_TASK_ID")?;
        Some(format!("{array}_{index}"))
    });
    let step = env.text("SLURM_STEP_ID").filter(|step| is_step(step));
    let id = Some(id).filter(|id| !id.is_empty());
    let mut found = Allocation {
        scheduler: Some(Scheduler::Slurm),
        job: element.or_else(|| id.clone()),
        asks_for: id,
        restarts: env.number("SLURM_RESTART_COUNT"),
        cpus: env.number("SLURM_CPUS_ON_NODE"),
        ends_at: env.number("SLURM_JOB_END_TIME").map(Duration::from_secs),
        is_uniform: is_uniform(env),
        nodes: env.first(&["SLURM_JOB_NUM_NODES", "SLURM_NNODES"]),
        ..Allocation::default()
    };
    if step.is_some() {
        found.is_step = true;
        found.launch = Launch::Launched;
        found.step = step;
        found.nodes = env.number("SLURM_STEP_NUM_NODES").or(found.nodes);
        found.rank = env.number("SLURM_PROCID");
        found.size = env.first(&["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"]);
        found.local_rank = env.number("SLURM_LOCALID");
        let node: Option<usize> = env.number("SLURM_NODEID");
        found.local_size = env
            .text("SLURM_STEP_TASKS_PER_NODE")
            .and_then(|text| per_node(&text, node?));
        // srun takes its -c from it. SLURM_CPUS_PER_TASK may be that of the job only.
        found.own_cpus = env.number("SRUN_CPUS_PER_TASK");
    } else if env.has("SLURM_PROCID") && !env.has("SLURM_STEP_ID") {
        // The batch script has a rank, too, though it was not launched as one.
        found.launch = Launch::Script;
    } else {
        found.launch = Launch::Shell;
    }
    Some(found)
}

fn is_step(step: &str) -> bool {
    step.parse().is_ok_and(|number: u32| number < RESERVED)
}

/// The entry for one node in Slurm's lists of numbers, `2(x3),1`.
fn per_node(text: &str, node: usize) -> Option<u32> {
    let mut before = 0;
    for part in text.split(',') {
        let (number, times) = match part.split_once("(x") {
            Some((number, times)) => (number, times.strip_suffix(')')?.parse().ok()?),
            None => (part, 1_usize),
        };
        before += times;
        if node < before {
            return number.trim().parse().ok();
        }
    }
    None
}

fn is_uniform(env: &Env) -> bool {
    let lists = ["SLURM_JOB_CPUS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE"];
    lists
        .iter()
        .all(|name| env.text(name).is_some_and(|list| !list.contains(',')))
}
