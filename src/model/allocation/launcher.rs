//! The launchers of MPI programs: mpirun and mpiexec of OpenMPI, MVAPICH, HPE
//! PALS, MPICH and Intel MPI (Hydra), IBM's jsrun, PMIx.

use super::job::Env;

/// What a launcher tells each of its processes.
pub(super) struct Ranks {
    pub(super) rank: u32,
    pub(super) size: Option<u32>,
    pub(super) local_rank: Option<u32>,
    pub(super) local_size: Option<u32>,
}

/// The names of rank, size, local rank and local size. Launchers use srun or
/// each other to reach the nodes, so the most particular ones come first.
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

pub(super) fn ranks(env: &Env) -> Option<Ranks> {
    // srun sets these, too, as it was told by --mpi; its own say more.
    let by_srun = env
        .number::<u32>("SLURM_PROCID")
        .filter(|_| env.has("SLURM_STEP_ID"));
    NAMES
        .iter()
        .find_map(|[rank, size, local_rank, local_size]| {
            let rank = env.first(rank)?;
            let local_rank = env.first(local_rank);
            if by_srun == Some(rank) && local_rank.is_none() {
                return None;
            }
            Some(Ranks {
                rank,
                size: env.first(size),
                local_rank,
                local_size: env.first(local_size),
            })
        })
}
