#!/bin/bash
# A farm under PBS: mpiexec starts one pytf on each chunk. For an MPI that knows
# PBS, or finds the nodes in PBS_NODEFILE, as here.
#
#     qsub pbs-mpiexec.sh
#PBS -N farm
#PBS -l select=4:ncpus=16:mpiprocs=1
#PBS -l walltime=12:00:00
#PBS -j oe

cd "$PBS_O_WORKDIR" || exit
# With its folder: on the other nodes PATH may be another.
pytf=$(command -v pytf) || { echo "pytf is not in PATH"; exit 127; }
nodes=$(sort -u "$PBS_NODEFILE" | wc -l)

if mpiexec --version 2>&1 | grep -q "Open MPI\|OpenRTE\|PRRTE"; then
    # By default Open MPI binds each rank to one core, and ends all ranks when
    # one ends with a status other than 0.
    set -- --hostfile "$PBS_NODEFILE" --map-by ppr:1:node --bind-to none \
        --mca orte_abort_on_non_zero_status 0
else
    # MPICH and those made of it (Intel MPI, Cray). It ends all ranks when one
    # is killed, unless told not to.
    set -- -f "$PBS_NODEFILE" -ppn 1 -bind-to none -disable-auto-cleanup
fi
mpiexec -n "$nodes" "$@" \
    "$pytf" tasks.txt --proc "${NCPUS:-16}" --timeout 11:50:00
