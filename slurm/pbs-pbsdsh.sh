#!/bin/bash
# A farm under PBS: pbsdsh starts one pytf on each chunk.
#
#     qsub pbs-pbsdsh.sh
#
# What pbsdsh starts has no variables of this script and begins in the home
# folder; so everything is said in words. --timeout is shorter than walltime: PBS
# tells a job how much time it has only by qstat, which may not be in its PATH.
#PBS -N farm
#PBS -l select=4:ncpus=16:mpiprocs=1
#PBS -l walltime=12:00:00
#PBS -j oe

folder=$PBS_O_WORKDIR
pytf=$(command -v pytf) || { echo "pytf is not in PATH"; exit 127; }

pbsdsh -- /bin/bash -c "cd '$folder' && exec '$pytf' tasks.txt --proc ${NCPUS:-16} --timeout 11:50:00"

# pbsdsh does not tell reliably how they ended; the workdir does.
cd "$folder" || exit
waiting=$(wc -l <tasks.txt_workdir/toprocess)
echo "$waiting tasks are left"
[ "$waiting" -eq 0 ] || exit 75
