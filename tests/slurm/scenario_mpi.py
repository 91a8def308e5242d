"""Farms that mpirun and mpiexec start: scenario 8."""

import shutil

from checker import require
from farm import Farm, scenario

# Open MPI does not like to be root; jobs of these tests are.
AS_ROOT = "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"


def _in_a_job(cluster, name, launch, sbatch):
    """Four ranks in a Slurm job, started by an MPI's own launcher."""
    farm = Farm(cluster, name).tasks(*["0.2 0"] * 200)
    script = farm.folder / "job.sh"
    script.write_text(f"#!/bin/bash\n{AS_ROOT}\n{launch} pytf tasks.txt --proc 4\n")
    job = cluster.sbatch("--output=job.out", *sbatch, script, cwd=farm.folder)
    job.ended()
    require(job.exit() == "0:0", f"{name}: status {job.exit()}: {farm.said()}")
    books = farm.check(complete=True)
    ranks = sorted(journal.header.get("rank") for journal in books.journals)
    require(ranks == [0, 1, 2, 3], f"{name}: ranks {ranks}")
    require(books.jobs() == {job.id}, f"{name}: jobs {books.jobs()}")
    return farm, books


FOUR_NODES = ["--nodes=4", "--ntasks-per-node=1", "--cpus-per-task=4"]
ONE_NODE = ["--nodes=1", "--ntasks-per-node=4", "--cpus-per-task=1"]


def _launchers():
    """Installed launchers, and their options for one rank a node."""
    all_of_them = {
        "openmpi": ("mpirun.openmpi", "-n 4 --bind-to none --mca orte_abort_on_non_zero_status 0", "--map-by ppr:1:node"),
        "mpich": ("mpiexec.hydra", "-n 4 -bind-to none -disable-auto-cleanup", "-ppn 1"),
    }
    return {name: words for name, words in all_of_them.items() if shutil.which(words[0])}


@scenario()
def mpi_launchers(cluster):
    """Open MPI's mpirun and MPICH's mpiexec start four ranks on four nodes."""
    launchers = _launchers()
    for name, (program, options, one_a_node) in launchers.items():
        farm, books = _in_a_job(cluster, name, f"{program} {options} {one_a_node}", FOUR_NODES)
        hosts = sorted(journal.host for journal in books.journals)
        require(hosts == farm.names(), f"{name}: ranks on {hosts}")
    return f"four ranks each by: {', '.join(launchers)}" if launchers else "not tried: no MPI is installed"


@scenario()
def mpi_on_one_node(cluster):
    """All four ranks on one node, each with as many slots as the node has CPUs
    for all: that is said."""
    launchers = _launchers()
    for name, (program, options, _) in launchers.items():
        farm, books = _in_a_job(cluster, name, f"{program} {options}", ONE_NODE)
        require(len({journal.host for journal in books.journals}) == 1, f"{name}: not on one node")
        require("4 processes of pytf share" in farm.said(), f"{name}: no word of warning: {farm.said()}")
    return f"four ranks on one node by: {', '.join(launchers)}" if launchers else "not tried: no MPI is installed"
