//! The environment variables that a launcher sets for the processes that it has started.
//!
//! A task that is an MPI program and finds them would take itself for a part of our step.
//! Variables that name our job are not among them: a task may start a step itself.

/// Prefixes of their names.
const FAMILIES: [&str; 21] = [
    "PMI_",
    "PMIX_",
    "PALS_",
    "PRTE_",
    "HYDI_",
    "HYDRA_",
    "MV2_COMM_WORLD_",
    "JSM_NAMESPACE_",
    "FLUX_TASK_",
    "FLUX_PMI_",
    "OMPI_COMM_WORLD_",
    "OMPI_MCA_orte_",
    "OMPI_MCA_ess",
    "OMPI_MCA_pmix",
    "SLURM_STEP_",
    "SLURM_SRUN_COMM_",
    "SLURM_PMI",
    "SLURM_CPU_BIND",
    "SLURM_MEM_BIND",
    "SLURM_GPU_BIND",
    "SLURM_MPI_",
];

/// Whole names.
const NAMES: [&str; 27] = [
    "MPI_LOCALRANKID",
    "MPI_LOCALNRANKS",
    "OMPI_APP_CTX_NUM_PROCS",
    "OMPI_FIRST_RANKS",
    "OMPI_NUM_APP_CTX",
    "OMPI_UNIVERSE_SIZE",
    "OMPI_ARGV",
    "OMPI_COMMAND",
    "OMPI_FILE_LOCATION",
    "PBS_TASKNUM",
    "SLURM_CPUS_PER_TASK",
    "SLURM_DISTRIBUTION",
    "SLURM_GTIDS",
    "SLURM_LAUNCH_NODE_IPADDR",
    "SLURM_LOCALID",
    "SLURM_NNODES",
    "SLURM_NODEID",
    "SLURM_NODELIST",
    "SLURM_NPROCS",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_PROCID",
    "SLURM_STEPID",
    "SLURM_STEPMGR",
    "SLURM_TASK_PID",
    "SLURM_TASKS_PER_NODE",
    "SRUN_CPUS_PER_TASK",
];

/// Whether a launcher sets the variable for the processes of its own step.
pub fn is_launchers(name: &str) -> bool {
    NAMES.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
}
