//! The launchers of MPI programs: mpirun and mpiexec of OpenMPI, MVAPICH, HPE
//! PALS, MPICH and Intel MPI (Hydra), IBM's jsrun, PMIx.

use super::job::{Allocation, Env, Launch};

/// The names of rank, size, local rank and local size. Launchers use srun or
/// each other to reach the nodes, so the most specific ones come first.
const NAMES: [[&[&str]; 4]; 6] = [
    [
        &["OMPI_COMM_WORLD_RANK"],
        &["OMPI_COMM_WORLD_SIZE"],
        &["OMPI_COMM_WORLD_LOCAL_RANK"],
        &["OMPI_COMM_WORLD_LOCAL_SIZE"],
    ],
    [
        &["MV2_COMM_WORLD_RANK"],
        &["MV2_COMM_WORLD_SIZE"],
        &["MV2_COMM_WORLD_LOCAL_RANK"],
        &["MV2_COMM_WORLD_LOCAL_SIZE"],
    ],
    [
        &["PALS_RANKID"],
        &["PALS_SIZE", "PMI_SIZE"],
        &["PALS_LOCAL_RANKID", "PMI_LOCAL_RANK"],
        &["PALS_LOCAL_SIZE", "PMI_LOCAL_SIZE"],
    ],
    [
        &["PMI_RANK"],
        &["PMI_SIZE"],
        &["MPI_LOCALRANKID", "PMI_LOCAL_RANK"],
        &["MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"],
    ],
    [
        &["JSM_NAMESPACE_RANK"],
        &["JSM_NAMESPACE_SIZE"],
        &["JSM_NAMESPACE_LOCAL_RANK"],
        &["JSM_NAMESPACE_LOCAL_SIZE"],
    ],
    [&["PMIX_RANK"], &[], &[], &[]],
];

/// Adds what a launcher says to each of its processes.
pub(super) fn add_ranks(env: &Env, found: &mut Allocation) {
    // srun sets these, too, as --mpi requests; its own variables say more.
    let by_srun = env
        .number::<u32>("SLURM_PROCID")
        .filter(|_| env.has("SLURM_STEP_ID"));
    for [rank, size, local_rank, local_size] in NAMES {
        let (rank, local_rank) = (env.first(rank), env.first(local_rank));
        if rank.is_none() || by_srun == rank && local_rank.is_none() {
            continue;
        }
        found.launch = Launch::Launched;
        (found.rank, found.local_rank) = (rank, local_rank);
        found.size = env.first(size).or(found.size);
        found.local_size = env.first(local_size);
        return;
    }
}
