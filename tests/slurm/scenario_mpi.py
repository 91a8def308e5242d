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


RANK = """#!/bin/sh
echo "$SLURM_PROCID $SLURM_NTASKS $(hostname)"
sleep 0.3
"""


@scenario()
def srun_runner(cluster):
    """--runner srun: each task is a step of its own, of the size that it asks for, from the
    batch script and from a step on each node."""
    seen = {}
    for name, start in {"batch": "pytf", "step": "srun -N2 --ntasks-per-node=1 pytf"}.items():
        farm = Farm(cluster, f"srun_{name}")
        rank = farm.folder / "rank"
        rank.write_text(RANK)
        rank.chmod(0o755)
        lines = [f"./rank {nth} #PYTF ntasks=2 mem=100M" for nth in range(8)]
        lines += ["./rank 8 | sort #PYTF nodes=2 ntasks=4", "./rank 9; exit 3", "true && ./rank 10"]
        (farm.folder / "tasks.txt").write_text("\n".join(lines) + "\n")
        script = farm.folder / "job.sh"
        script.write_text(f"#!/bin/bash\n{start} tasks.txt --runner srun --proc 4\n")
        job = cluster.sbatch("--nodes=2", "--ntasks-per-node=4", "--mem-per-cpu=100M", "--output=job.out", script, cwd=farm.folder)
        job.ended()
        books = farm.books()
        require(sorted(books.done()) == [*range(11)], f"{name}: {books.done()}: {farm.said()}")
        require([nth for nth, _ in books.failed] == [9], f"{name}: {books.failed}")
        for nth, size in enumerate([2] * 8 + [4, 1, 1]):
            log = (farm.workdir / f"logs/log_{nth}").read_text()
            ranks = [line.split() for line in log.splitlines() if line[:1].isdigit()]
            require(sorted(ranks)[-1][:2] == [str(size - 1), str(size)] and len(ranks) == size, f"{name}: task {nth}: {log}")
            nodes = len({host for _, _, host in ranks})
            require(nodes == (2 if nth == 8 else 1), f"{name}: task {nth} on {nodes} nodes: {log}")
        logs = [path.read_text() for path in (farm.workdir / "logs").iterdir()]
        seen[name] = sum("temporarily disabled" in log for log in logs)
    return f"steps of 1, 2 and 4 ranks; steps that waited: {seen}"
