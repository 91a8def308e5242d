#!/bin/bash
# A farm under PBS: pbsdsh starts one pytf on each node.
#
#     qsub pbs-pbsdsh.sh
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
pytf=$(command -v pytf) || { echo "pytf is not in PATH"; exit 127; }
nodes=$(wc -l <"$PBS_NODEFILE")
job=$PWD/.pytf.$PBS_JOBID
rm -rf "$job" && mkdir "$job" || exit
trap 'rm -rf "$job"' EXIT

# What pbsdsh starts has neither the environment nor the folder of this script. What
# PBS itself tells each node stays as it is there.
(
    unset PBS_NODENUM PBS_TASKNUM PBS_NODEFILE PBS_MOMPORT PBS_JOBCOOKIE TMPDIR HOSTNAME
    export -p
    export -fp
) >"$job/env"
printf -v farm '. %q; cd %q; %q tasks.txt --proc %q --grace 5 --timeout 11:50:00' \
    "$job/env" "$PWD" "$pytf" "${NCPUS:-16}"
printf -v note 'echo $? >%q/$PBS_TASKNUM.new; mv %q/$PBS_TASKNUM.new %q/$PBS_TASKNUM.end' \
    "$job" "$job" "$job"

# How many have left, and whether nobody works any more.
left() { find "$job" -name '*.end' | wc -l; }
is_over() {
    [ "$(left)" -gt 0 ] &&
        "$pytf" status tasks.txt_workdir --json | grep -Eq '"state": *"(complete|stopped)"'
}

# When the processes of the first node are gone, PBS kills those of all others at once:
# so this script outlives a SIGTERM, until all have left.
trap 'told=1' TERM
pbsdsh -- /bin/bash -c "trap : TERM; $farm; $note" &
pbsdsh=$!
while kill -0 "$pbsdsh" 2>/dev/null; do
    sleep 5 &
    # The end of either, or a signal.
    wait -n
    # Of a node that has died pbsdsh waits for ever: the others do its tasks.
    [ -z "$told" ] && is_over && sleep 5 && kill -KILL "$pbsdsh" 2>/dev/null
    [ -n "$told" ] && break
done
for _ in {1..90}; do
    [ -z "$told" ] || [ "$(left)" -ge "$nodes" ] || sleep 0.1
done

# The last to leave tells how the run stands: the largest status is its.
status=$(cat "$job"/*.end 2>/dev/null | sort -n | tail -1)
exit "${status:-75}"
