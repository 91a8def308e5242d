#!/bin/bash
# A farm on GPUs: one pytf a node, one task a GPU, each task sees its own only.
#
#     sbatch gpu-farm.sh [TASKLIST]
#
# Small tasks may share: --tasks-per-gpu 4 instead of --gpus-per-task 1.
#SBATCH --job-name=gpu-farm
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --no-kill
#SBATCH --open-mode=append

srun -K0 -W0 --no-kill -c "$SLURM_CPUS_PER_TASK" \
    pytf "${1:-tasks.txt}" --gpus-per-task 1
