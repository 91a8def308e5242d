#!/bin/bash
# A farm that submits itself again until nothing is left to do.
#
#     sbatch chain.sh [TASKLIST]
#
# Status 75 says: stopped with work left. The next job is submitted then, unless
# two jobs in a row brought no result: a task that never ends within one job
# would go on for ever. `scancel` stops the chain, too: it ends this script.
#SBATCH --job-name=chain
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --no-kill
#SBATCH --open-mode=append

list=${1:-tasks.txt}
results() { cat "${list}_workdir/finished" "${list}_workdir/failed" 2>/dev/null | wc -l; }
before=$(results)

srun -K0 -W0 --no-kill -c "$SLURM_CPUS_PER_TASK" \
    pytf "$list"
status=$?

case $status in
    0) echo "chain: complete" ;;
    1) echo "chain: some tasks failed, or cannot run: pytf status ${list}_workdir" ;;
    75 | 76)
        idle=$((${CHAIN_IDLE:-0} + 1))
        [ "$(results)" -gt "$before" ] && idle=0
        if [ "$idle" -ge 2 ]; then
            echo "chain: two jobs in a row brought no result: stopped"
        else
            # The file that was submitted, as it is now; $0 is Slurm's copy.
            script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p')
            CHAIN_IDLE=$idle sbatch --export=ALL "$script" "$list"
        fi
        ;;
    *) echo "chain: pytf or srun ended with $status: stopped" ;;
esac
exit "$status"
