#!/bin/bash
# Many small jobs on one workdir: each element of the array is one node, starts
# when the scheduler has one, and joins those that are there. A big job may join
# them, too: any pytf with the same list and the same workdir does.
#
#     sbatch array.sh [TASKLIST]
#
# Elements that start when nothing is left end at once.
#SBATCH --job-name=array
#SBATCH --array=1-4
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append

srun -K0 -W0 -c "$SLURM_CPUS_PER_TASK" \
    pytf "${1:-tasks.txt}"
