"""How Slurm tracks processes must not matter: scenario 6. Tasks leave
grandchildren behind, in their group, in sessions of their own, and as daemons.
Under `cgroup` Slurm kills all of them, under `pgid` and `linuxproc` it does not;
there pytf must have done it."""

import os

from checker import require
from cluster import freezer, until
from farm import Farm, scenario

# Failures lie apart: a row of them would make a node doubt itself, and stand idle
# while the others are busy for ten minutes.
LITTER = (["0.1 0 litter"] * 3 + ["0.1 1 litter"]) * 10 + ["600 0 litter"] * 12 + ["600 0"] * 200


def survivors(farm):
    """Processes that tasks of this farm have started, by their environment."""
    mark = f"PYTF_WORKDIR={farm.workdir}".encode() + b"\0"
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read()
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                state = file.read().rpartition(")")[2].split()[0]
        except OSError:
            continue  # It is gone.
        if mark in environment and state != "Z":
            found.append(int(pid))
    return found


def _litter(cluster, stop):
    """A farm of tasks that leave processes behind, ended in some way."""
    farm = Farm(cluster, stop.__name__.strip("_")).tasks(*LITTER)
    job = farm.submit(pytf="--grace 2")
    farm.wait_for_starts(56)
    require(survivors(farm), "no task is seen to run: the search is wrong")
    stop(job)
    job.ended()
    until(lambda: not survivors(farm), "no process of a task survives", within=20)
    return farm


def _by_term(job):
    job.cancel("-s", "TERM", step=0)


def _by_scancel(job):
    job.cancel()


def _by_kill(job):
    job.cancel(step=0)


def _all_ways(cluster):
    for stop in (_by_term, _by_scancel):
        farm = _litter(cluster, stop)
        farm.check()
    farm = _litter(cluster, _by_kill)
    farm.check(at_rest=False, may_rework=True)
    return "after SIGTERM, scancel and SIGKILL no process of a task survived"


@scenario(proctrack="linuxproc")
def strays_linuxproc(cluster):
    """proctrack/linuxproc: a daemon survives Slurm."""
    return _all_ways(cluster)


@scenario(proctrack="pgid")
def strays_pgid(cluster):
    """proctrack/pgid: whatever left the task's group survives Slurm."""
    return _all_ways(cluster)


@scenario()
def strays_cgroup(cluster):
    """proctrack/cgroup, as production sites have it."""
    if not freezer():
        return "not tried: no control groups of the first version here"
    return _all_ways(cluster)
