#!/bin/bash
# Tasks that are MPI programs: one pytf, in the batch script itself, and each
# task is an `srun` of its own inside the allocation. The list has lines like
#
#     srun --exact -N1 -n8 -c1 --mem-per-cpu=500M ./simulate --seed 1
#
# --exact        takes only the CPUs it asks for. Without it a step takes all of
#                its nodes, and the next one waits: "step creation temporarily
#                disabled, retrying (Requested nodes are busy)".
# -N1 -n8 -c1    the size of a step, written out: what is left out comes from the
#                job's variables and is mostly too much.
# --mem-per-cpu  a step's own part of the memory. Without it, where Slurm manages
#                memory, the first step takes all, and the others wait.
# --proc         how many steps fit: here 4 nodes with 16 CPUs, 8 CPUs a step. One
#                more, and a step waits inside its task, on the task's time.
#
# `exec` makes pytf the batch script: so it gets SIGTERM from scancel and at the
# time limit, and `B:` sends USR1 to it. It is not started with srun here: that
# step would hold the CPUs which the tasks need.
#
#     sbatch mpi-tasks.sh [TASKLIST]
#SBATCH --job-name=mpi-tasks
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=16
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=500M
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append

exec pytf "${1:-tasks.txt}" --proc $((SLURM_NTASKS / 8))
