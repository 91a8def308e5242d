//! Environments as they were recorded on real clusters, and what they mean.

use std::time::Duration;

use super::*;

fn seen(vars: &str) -> Allocation {
    let vars: Vec<(&str, &str)> = vars
        .split_whitespace()
        .map(|var| var.split_once('=').unwrap())
        .collect();
    Allocation::from(|name| {
        vars.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

/// Slurm 22.05, `srun` in `sbatch -N4 --ntasks-per-node=1`, rank 3; HOSTNAME is
/// the batch host's.
const STEP: &str = "HOSTNAME=node1 SLURMD_NODENAME=node4 SLURM_CPUS_ON_NODE=1 \
    SLURM_GTIDS=3 SLURM_JOBID=2 SLURM_JOB_ID=2 SLURM_JOB_NUM_NODES=4 \
    SLURM_JOB_CPUS_PER_NODE=1(x4) SLURM_LOCALID=0 SLURM_NNODES=4 SLURM_NODEID=3 SLURM_NPROCS=4 \
    SLURM_NTASKS=4 SLURM_NTASKS_PER_NODE=1 SLURM_PROCID=3 SLURM_STEPID=0 SLURM_STEP_ID=0 \
    SLURM_STEP_NODELIST=node[1-4] SLURM_STEP_NUM_NODES=4 SLURM_STEP_NUM_TASKS=4 \
    SLURM_STEP_TASKS_PER_NODE=1(x4) SLURM_TASKS_PER_NODE=1(x4) SLURM_TASK_PID=31066";

/// The batch script of the same job: it has a rank, and is not a step.
const SCRIPT: &str = "SLURM_JOB_ID=2 SLURM_JOB_NUM_NODES=4 SLURM_PROCID=0 SLURM_LOCALID=0 \
    SLURM_NODEID=0 SLURM_NTASKS=4 SLURM_GTIDS=0 SLURM_CPUS_ON_NODE=1 \
    SLURM_JOB_CPUS_PER_NODE=1(x4) SLURM_NNODES=4 SLURM_TASKS_PER_NODE=1(x4)";

/// OpenPBS 23, a job's script.
const PBS: &str = "PBS_ENVIRONMENT=PBS_BATCH PBS_JOBID=9.pbs0 PBS_NODEFILE=/var/spool/9 \
    PBS_NODENUM=0 PBS_TASKNUM=1 PBS_QUEUE=workq NCPUS=16 OMP_NUM_THREADS=16";

fn slurm_job(id: &str) -> Allocation {
    Allocation {
        scheduler: Some(Scheduler::Slurm),
        job: Some(id.into()),
        asks_for: Some(id.into()),
        ..Allocation::default()
    }
}

#[test]
fn a_step_of_srun() {
    let step = Allocation {
        step: Some("0".into()),
        launch: Launch::Launched,
        nodes: Some(4),
        rank: Some(3),
        size: Some(4),
        local_rank: Some(0),
        local_size: Some(1),
        cpus: Some(1),
        is_uniform: true,
        is_step: true,
        ..slurm_job("2")
    };
    assert_eq!(seen(STEP), step);
    // With --mpi=pmi2 or pmix the same ranks come by other names as well.
    assert_eq!(seen(&format!("{STEP} PMI_RANK=3 PMI_SIZE=4")), step);
    assert_eq!(seen(&format!("{STEP} PMIX_RANK=3")), step);
    assert!(!step.speaks_for_all() && !step.speaks_for_node());
    assert!(step.has_companions());
    let alone = seen(&STEP.replace("SLURM_STEP_NUM_TASKS=4", "SLURM_STEP_NUM_TASKS=1"));
    assert!(!alone.has_companions());
    let requeued = seen(&format!(
        "{STEP} SLURM_RESTART_COUNT=1 SLURM_JOB_END_TIME=1763683522 SRUN_CPUS_PER_TASK=8"
    ));
    assert_eq!(requeued.restarts, Some(1));
    assert_eq!(requeued.ends_at, Some(Duration::from_secs(1_763_683_522)));
    assert_eq!(requeued.own_cpus, Some(8));
}

#[test]
fn a_batch_script_and_the_shell_of_salloc_are_no_step() {
    let script = seen(SCRIPT);
    assert_eq!((script.launch, script.rank), (Launch::Script, None));
    assert_eq!((script.nodes, script.is_step), (Some(4), false));
    assert!(script.speaks_for_all() && !script.has_companions());
    let login = seen("SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=2 SLURM_NTASKS=2");
    assert_eq!(login.launch, Launch::Shell);
    let interactive = seen("SLURM_JOB_ID=7 SLURM_STEP_ID=4294967290 SLURM_PROCID=0");
    assert_eq!(
        (interactive.launch, interactive.step),
        (Launch::Shell, None)
    );
    assert_eq!(interactive.rank, None);
}

#[test]
fn an_array_element_is_named_as_people_know_it() {
    let element = "SLURM_JOB_ID=103 SLURM_ARRAY_JOB_ID=100 SLURM_ARRAY_TASK_ID=3 SLURM_PROCID=0";
    let element = seen(element);
    assert_eq!(element.job.as_deref(), Some("100_3"));
    assert_eq!(element.asks_for.as_deref(), Some("103"));
    assert_eq!(
        seen("PBS_JOBID=9[3].pbs0 PBS_NODEFILE=/f").job.as_deref(),
        Some("9[3].pbs0")
    );
    for (vars, job) in [
        ("LSB_JOBID=5 LSB_JOBINDEX=0", "5"),
        ("LSB_JOBID=5 LSB_JOBINDEX=4", "5[4]"),
        ("JOB_ID=5 SGE_TASK_ID=undefined", "5"),
        ("JOB_ID=5 SGE_TASK_ID=4", "5.4"),
        ("FLUX_JOB_ID=f2Q", "f2Q"),
    ] {
        assert_eq!(seen(vars).job.as_deref(), Some(job), "{vars}");
    }
}

#[test]
fn the_local_size_is_that_of_our_own_node() {
    for (list, node, size) in [
        ("1(x4)", 3, Some(1)),
        ("2(x3),1", 2, Some(2)),
        ("2(x3),1", 3, Some(1)),
        ("4,2", 1, Some(2)),
        ("4,2", 2, None),
        ("x", 0, None),
    ] {
        let step = format!(
            "SLURM_JOB_ID=1 SLURM_STEP_ID=0 SLURM_STEP_TASKS_PER_NODE={list} SLURM_NODEID={node}"
        );
        assert_eq!(seen(&step).local_size, size, "{list} {node}");
    }
}

#[test]
fn pbs_and_what_pbsdsh_starts() {
    let script = Allocation {
        scheduler: Some(Scheduler::Pbs),
        job: Some("9.pbs0".into()),
        asks_for: Some("9.pbs0".into()),
        launch: Launch::Script,
        cpus: Some(16),
        ..Allocation::default()
    };
    assert_eq!(seen(PBS), script);
    // As pbsdsh starts them on OpenPBS: on the first node, and on two others, which
    // have a node file.
    for (vars, rank) in [
        ("PBS_JOBID=9.pbs0 PBS_NODENUM=0 PBS_TASKNUM=00000002", 0),
        (
            "PBS_JOBID=9.pbs0 PBS_NODENUM=1 PBS_TASKNUM=40000001 PBS_NODEFILE=/f",
            1,
        ),
        (
            "PBS_JOBID=9.pbs0 PBS_NODENUM=2 PBS_TASKNUM=80000001 PBS_NODEFILE=/f",
            2,
        ),
        // TORQUE.
        (
            "PBS_JOBID=9.pbs0 PBS_NODENUM=0 PBS_VNODENUM=3 PBS_TASKNUM=4 PBS_NODEFILE=/f",
            3,
        ),
    ] {
        let task = seen(vars);
        assert_eq!(
            (task.launch, task.rank),
            (Launch::Launched, Some(rank)),
            "{vars}"
        );
        assert!(!task.is_step);
    }
    // A rank over ssh has only what mpiexec was given to pass on.
    let rank = seen("PBS_JOBID=9.pbs0 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2");
    assert_eq!(
        (rank.job.as_deref(), rank.rank, rank.size),
        (Some("9.pbs0"), Some(1), Some(2))
    );
    let remote = seen("PBS_JOBID=9.pbs0 PBS_NODENUM=2 PBS_TASKNUM=4");
    assert_eq!((remote.launch, remote.rank), (Launch::Launched, Some(2)));
    assert_eq!(remote.cpus, None);
}

#[test]
fn the_innermost_launcher_is_believed() {
    let pals = " PALS_RANKID=5 PALS_LOCAL_RANKID=1 PALS_LOCAL_SIZE=4 PMI_RANK=5 PMI_SIZE=8";
    // OpenMPI's daemon is a task of a step, and so would its children be.
    let daemon = STEP.replace("SLURM_PROCID=3", "SLURM_PROCID=1");
    for (vars, ranks) in [
        (format!("{PBS}{pals}"), (Some(5), Some(8), Some(1), Some(4))),
        (
            format!(
                "{daemon} OMPI_COMM_WORLD_RANK=6 OMPI_COMM_WORLD_SIZE=8 \
                 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 PMIX_RANK=6"
            ),
            (Some(6), Some(8), Some(1), Some(2)),
        ),
        (
            "PMI_RANK=3 PMI_SIZE=4 MPI_LOCALRANKID=3 MPI_LOCALNRANKS=4".into(),
            (Some(3), Some(4), Some(3), Some(4)),
        ),
        (
            format!("{daemon} PMI_RANK=1 PMI_SIZE=4 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=4"),
            (Some(1), Some(4), Some(1), Some(4)),
        ),
        (
            "FLUX_JOB_ID=f2 FLUX_TASK_RANK=2 FLUX_TASK_LOCAL_ID=0 FLUX_JOB_SIZE=4".into(),
            (Some(2), Some(4), Some(0), None),
        ),
    ] {
        let found = seen(&vars);
        assert_eq!(found.launch, Launch::Launched, "{vars}");
        let found = (found.rank, found.size, found.local_rank, found.local_size);
        assert_eq!(found, ranks, "{vars}");
    }
}

#[test]
fn without_variables_it_is_a_plain_host() {
    assert_eq!(seen(""), Allocation::default());
    // A name that anybody may use is not a sign of a scheduler.
    assert_eq!(
        seen("JOB_ID=5 HOSTNAME=node7 NCPUS=4"),
        Allocation::default()
    );
}

#[test]
fn a_node_file_tells_nodes_and_processes() {
    assert_eq!(processes_of("node1\nnode1\nnode2\n\n"), 3);
    assert_eq!(
        home_of("PBS_EXEC=/opt/pbs\nPBS_HOME=/scratch/pbs\n"),
        "/scratch/pbs"
    );
    assert_eq!(home_of(""), "/var/spool/pbs");
    let file = "node1.site\nnode1.site\nnode2.site\n\n";
    assert_eq!(lines_of(file, "node1"), (2, 2));
    assert_eq!(lines_of(file, "node2.elsewhere"), (2, 1));
    assert_eq!(lines_of(file, "node3"), (2, 0));
    let sge = "node1 8 all.q@node1 <NULL>\nnode2 4 all.q@node2 <NULL>\n";
    assert_eq!(lines_of(sge, "node2"), (2, 4));
}

#[test]
fn what_makes_an_mpi_program_a_part_of_our_step_is_the_launchers() {
    for name in STEP
        .split_whitespace()
        .filter_map(|var| var.split('=').next())
    {
        let is_jobs = name.starts_with("SLURM_JOB")
            || ["HOSTNAME", "SLURMD_NODENAME", "SLURM_CPUS_ON_NODE"].contains(&name);
        assert_eq!(is_launchers(name), !is_jobs, "{name}");
    }
    for name in [
        "PMI_FD",
        "PMIX_NAMESPACE",
        "PALS_APID",
        "OMPI_COMM_WORLD_SIZE",
    ] {
        assert!(is_launchers(name), "{name}");
    }
    for name in ["PATH", "OMPI_MCA_btl", "PBS_JOBID", "CUDA_VISIBLE_DEVICES"] {
        assert!(!is_launchers(name), "{name}");
    }
}
