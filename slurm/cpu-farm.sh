#!/bin/bash
# A farm on all CPUs of some nodes: one pytf a node, one task a CPU.
#
#     sbatch cpu-farm.sh              # runs tasks.txt of this folder
#     sbatch cpu-farm.sh mytasks.txt
#
# Submit it again to go on where it ended. docs/slurm.md explains the options.
#SBATCH --job-name=cpu-farm
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --no-kill
#SBATCH --open-mode=append

srun -K0 -W0 --no-kill -c "$SLURM_CPUS_PER_TASK" \
    pytf "${1:-tasks.txt}"
