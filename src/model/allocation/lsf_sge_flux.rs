//! LSF, Grid Engine, Flux: the job, by their environment variables.

use super::job::{Allocation, Env, Launch, Scheduler};

pub(super) fn lsf(env: &Env) -> Option<Allocation> {
    let id = env.text("LSB_JOBID")?;
    let element = env.text("LSB_JOBINDEX").filter(|index| index != "0");
    // `host1 16 host2 16`
    let hosts = env.text("LSB_MCPU_HOSTS");
    let nodes = hosts.map(|hosts| hosts.split_whitespace().count() / 2);
    Some(Allocation {
        scheduler: Some(Scheduler::Lsf),
        job: Some(element.map_or_else(|| id.clone(), |index| format!("{id}[{index}]"))),
        asks_for: Some(id),
        launch: Launch::Script,
        nodes: nodes.and_then(|nodes| u32::try_from(nodes).ok()),
        restarts: (env.text("LSB_RESTART").as_deref() == Some("Y")).then_some(1),
        ..Allocation::default()
    })
}

pub(super) fn sge(env: &Env) -> Option<Allocation> {
    // JOB_ID alone is a name that anybody may use.
    let id = env
        .text("JOB_ID")
        .filter(|_| env.has("SGE_TASK_ID") || env.has("SGE_ROOT"))?;
    let element = env.text("SGE_TASK_ID").filter(|index| index != "undefined");
    let nodes = env.number("NHOSTS");
    Some(Allocation {
        scheduler: Some(Scheduler::Sge),
        job: Some(element.map_or_else(|| id.clone(), |index| format!("{id}.{index}"))),
        asks_for: Some(id),
        launch: Launch::Script,
        nodes,
        // Of all hosts together: of use where there is one.
        cpus: (nodes.unwrap_or(1) == 1)
            .then(|| env.number("NSLOTS"))
            .flatten(),
        restarts: env.number("RESTARTED").filter(|count| *count > 0),
        ..Allocation::default()
    })
}

pub(super) fn flux(env: &Env) -> Option<Allocation> {
    let id = env.text("FLUX_JOB_ID")?;
    let rank = env.number("FLUX_TASK_RANK");
    Some(Allocation {
        scheduler: Some(Scheduler::Flux),
        job: Some(id.clone()),
        asks_for: Some(id),
        launch: Launch::of(rank.is_some()),
        nodes: env.number("FLUX_JOB_NNODES"),
        rank,
        size: env.number("FLUX_JOB_SIZE"),
        local_rank: env.number("FLUX_TASK_LOCAL_ID"),
        ..Allocation::default()
    })
}
