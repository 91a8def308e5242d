#!/bin/bash
# A farm under PBS: mpiexec starts one pytf on each node. For an MPI that knows
# PBS, or finds the nodes in PBS_NODEFILE, as here.
#
#     qsub pbs-mpiexec.sh
#
# The job ends with the status of the farm: 0, 1, or 75 when work is left; then submit
# it again. --timeout is shorter than walltime, --grace than the 10 s that PBS leaves
# between SIGTERM and SIGKILL (kill_delay).
#PBS -N farm
#PBS -l select=4:ncpus=16:mpiprocs=1
#PBS -l place=scatter
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
    # Over ssh it passes nothing on, not even which job this is.
    for name in $(compgen -e | grep -E '^[A-Za-z_][A-Za-z0-9_]*$'); do
        case $name in
            PBS_NODENUM | PBS_TASKNUM | PBS_NODEFILE | PBS_MOMPORT | PBS_JOBCOOKIE) ;;
            OMPI_* | PMIX_* | PRTE_* | TMPDIR | HOSTNAME | PWD | OLDPWD | SHLVL | _) ;;
            *) set -- "$@" -x "$name" ;;
        esac
    done
else
    # MPICH and those made of it (Intel MPI, Cray). It ends all ranks when one
    # is killed, unless told not to. It passes the environment on.
    set -- -f "$PBS_NODEFILE" -ppn 1 -bind-to none -disable-auto-cleanup
fi

# When the processes of the first node are gone, PBS kills those of all others at once:
# so this script outlives a SIGTERM by the time that they need.
trap 'told=1' TERM
mpiexec -n "$nodes" "$@" \
    "$pytf" tasks.txt --proc "${NCPUS:-16}" --grace 5 --timeout 11:50:00
status=$?
[ -z "$told" ] || sleep 8
exit "$status"
