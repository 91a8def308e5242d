"""Every script in slurm/, submitted as it is: scenario 7."""

import subprocess
from collections import Counter

import checker
from checker import require
from cluster import HERE, until
from farm import Farm, scenario

SCRIPTS = HERE.parent.parent / "slurm"
# Which function tries which script; `every_script_is_tried` holds it complete.
TRIED = {}


def tries(*names):
    def note(function):
        for name in names:
            TRIED[name] = function
        return function

    return note


def _submit(farm, name, *arguments):
    return farm.cluster.sbatch(*arguments, SCRIPTS / name, cwd=farm.folder)


@tries("cpu-farm.sh")
def _cpu_farm(cluster):
    farm = Farm(cluster, "cpu-farm").tasks(*["0.2 0"] * 200)
    job = _submit(farm, "cpu-farm.sh")
    require(job.ended() == "COMPLETED", f"cpu-farm.sh: {job.exit()}: {farm.said()}")
    farm.check(complete=True, nodes=farm.names())


@tries("gpu-farm.sh")
def _gpu_farm(cluster):
    farm = Farm(cluster, "gpu-farm").tasks(*["0.2 0"] * 100)
    if "--gpus-per-task" not in cluster.slurm("pytf", "--help"):
        return "gpu-farm.sh not tried: this pytf has no --gpus-per-task"
    (farm.folder / "tasks.txt").write_text(
        "".join(
            line.replace("./work", f"echo $CUDA_VISIBLE_DEVICES >gpus.{number}; ./work") + "\n"
            for number, line in enumerate((farm.folder / "tasks.txt").read_text().splitlines())
        )
    )
    job = _submit(farm, "gpu-farm.sh")
    require(job.ended() == "COMPLETED", f"gpu-farm.sh: {job.exit()}: {farm.said()}")
    farm.check(complete=True, nodes=farm.names())
    seen = Counter(path.read_text().strip() for path in farm.folder.glob("gpus.*"))
    require(set(seen) == {"0", "1", "2", "3"}, f"tasks saw these devices: {seen}")
    return None


@tries("chain.sh")
def _chain(cluster):
    farm = Farm(cluster, "chain").tasks(*["0.3 0"] * 500, "0.3 1")
    first = _submit(farm, "chain.sh")
    farm.wait_for_starts(100)
    # As the end of the time would; only the step gets it.
    first.cancel("-s", "TERM")
    cluster.no_jobs()
    books = farm.check(complete=True)
    require(len(books.jobs()) == 2, f"jobs of the chain: {books.jobs()}")
    require("chain: some tasks failed, or cannot run" in farm.said(), farm.said())

    # Tasks that never end within a job: two jobs without a result, and no third.
    farm = Farm(cluster, "idle-chain").tasks("0 0", *["1000 0"] * 80)
    _submit(farm, "chain.sh")
    for number in range(3):
        before = _starts(farm)
        until(lambda n=number: len(list((farm.workdir / "nodes").rglob("*.jsonl"))) >= 4 * (n + 1), "four farmers")
        until(lambda n=before: _starts(farm) >= n + 8, "tasks run on all nodes")
        cluster.slurm("scancel", "-s", "TERM", "--name=chain")
        until(lambda n=number: farm.said().count("tasks are left") >= n + 1, "the last has left")
    cluster.no_jobs()
    require("two jobs in a row brought no result: stopped" in farm.said(), farm.said())
    require(len(farm.check().jobs()) == 3, "one job with a result, and two without")


def _starts(farm):
    return sum(path.read_text().count("start ") for path in farm.effects.iterdir())


@tries("array.sh")
def _array(cluster):
    farm = Farm(cluster, "array").tasks(*["0.2 0"] * 400)
    _submit(farm, "array.sh")
    cluster.no_jobs()
    books = farm.check(complete=True)
    require(len(books.jobs()) == 4, f"elements: {books.jobs()}")


@tries("mpi-tasks.sh")
def _mpi_tasks(cluster):
    folder = cluster.home / "mpi-tasks"
    folder.mkdir()
    rank = folder / "rank"
    rank.write_text(
        '#!/bin/sh\nread -r start _ </proc/uptime\nsleep 0.5\nread -r end _ </proc/uptime\n'
        'echo "$SLURM_PROCID $SLURM_NTASKS $(hostname) $start $end" >>"ranks.$1"\n'
    )
    rank.chmod(0o755)
    step = "srun --exact -N1 -n8 -c1 --mem-per-cpu=500M"
    (folder / "tasks.txt").write_text("".join(f"{step} ./rank {number}\n" for number in range(24)))
    job = cluster.sbatch(SCRIPTS / "mpi-tasks.sh", cwd=folder)
    require(job.ended() == "COMPLETED", f"mpi-tasks.sh: {job.exit()}")
    books = checker.Books(folder / "tasks.txt_workdir")
    require(sorted(books.done()) == list(range(24)) and not books.failed, f"results: {books.done()}")
    ran = []
    for number in range(24):
        seen = [line.split() for line in (folder / f"ranks.{number}").read_text().splitlines()]
        require(sorted(int(rank) for rank, *_ in seen) == list(range(8)), f"task {number} had the ranks {seen}")
        require({size for _, size, *_ in seen} == {"8"}, f"task {number} believes in {seen}")
        require(len({host for _, _, host, *_ in seen}) == 1, f"task {number} ran on more than one node: {seen}")
        ran.append((seen[0][2], min(float(line[3]) for line in seen), max(float(line[4]) for line in seen)))
    require(len({host for host, *_ in ran}) == 4, f"steps ran on {ran}")
    # Two steps of 8 on one node of 16 CPUs at a time: the first does not take it all.
    together = [(a, b) for a in ran for b in ran if a[0] == b[0] and a[1] < b[1] < a[2]]
    require(together, f"steps on one node ran one after the other: {ran}")
    logs = [path.read_text() for path in (folder / "tasks.txt_workdir/logs").iterdir()]
    waited = sum("temporarily disabled" in log for log in logs)
    return f"{waited} of 24 steps waited for the end of another to be noticed"


PBSDSH = """#!/bin/bash
# Stands in for OpenPBS' pbsdsh, as it was recorded: on each chunk, with few
# variables, in the home folder.
[ "$1" = -- ] && shift
number=0
while read -r host; do
    ssh -n "$host" "cd; exec env -i PBS_ENVIRONMENT=PBS_BATCH PBS_JOBID=$PBS_JOBID PBS_NODENUM=$number" \\
        "PBS_TASKNUM=$((number + 2)) HOME=/root USER=root PATH=/usr/bin:/bin $(printf '%q ' "$@")" &
    number=$((number + 1))
done <"$PBS_NODEFILE"
wait
"""


def _pbs(farm, name, **more):
    """Runs a script as a PBS job does on its first node, with the variables that
    were recorded on OpenPBS 23."""
    cluster = farm.cluster
    nodes = cluster.home / "nodefile"
    nodes.write_text("".join(f"{name}\n" for name in farm.names()))
    environment = {
        "PATH": cluster.env["PATH"],
        "HOME": "/root",
        "USER": "root",
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBID": "9.pbs0",
        "PBS_JOBNAME": "farm",
        "PBS_NODEFILE": str(nodes),
        "PBS_NODENUM": "0",
        "PBS_TASKNUM": "1",
        "PBS_QUEUE": "workq",
        "PBS_O_WORKDIR": str(farm.folder),
        "NCPUS": "4",
        "OMP_NUM_THREADS": "4",
        **more,
    }
    command = cluster.nodes[0].on("bash", SCRIPTS / name)
    with open(farm.folder / "pbs.out", "w", encoding="utf-8") as out:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=100, check=False
        )
    require(done.returncode == 0, f"{name} ended with {done.returncode}: {farm.said()}")


@tries("pbs-pbsdsh.sh")
def _pbsdsh(cluster):
    stand_in = cluster.home / "bin/pbsdsh"
    stand_in.write_text(PBSDSH)
    stand_in.chmod(0o755)
    farm = Farm(cluster, "pbsdsh").tasks(*["0.2 0"] * 120)
    _pbs(farm, "pbs-pbsdsh.sh")
    books = farm.check(complete=True, nodes=farm.names())
    require(books.jobs() == {"9.pbs0"}, f"{books.jobs()}")


@tries("pbs-mpiexec.sh")
def _pbs_mpiexec(cluster):
    notes = []
    for kind in ("openmpi", "mpich"):
        program = subprocess.run(["which", f"mpiexec.{kind}"], capture_output=True, text=True, check=False).stdout.strip()
        if not program:
            notes.append(f"pbs-mpiexec.sh not tried with {kind}: it is not installed")
            continue
        mpiexec = cluster.home / "bin/mpiexec"
        mpiexec.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        mpiexec.chmod(0o755)
        farm = Farm(cluster, f"pbs-{kind}").tasks(*["0.2 0"] * 120)
        _pbs(farm, "pbs-mpiexec.sh", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        books = farm.check(complete=True, nodes=farm.names())
        require(sorted(journal.header.get("rank") for journal in books.journals) == [0, 1, 2, 3], f"{kind}: ranks")
    return "; ".join(notes)


def _with_ssh(cluster):
    """Whether scripts that need ssh can be tried."""
    if subprocess.run(["which", "sshd", "ssh-keygen"], capture_output=True, check=False).returncode:
        return False
    cluster.start_sshd()
    return True


def _every_script_is_tried():
    there = {path.name for path in SCRIPTS.glob("*.sh")}
    require(there == set(TRIED), f"scripts {sorted(there)}, tried {sorted(TRIED)}")


@scenario(select="CR_CPU_Memory")
def slurm_scripts(cluster):
    """The scripts for Slurm, each submitted as it is."""
    _every_script_is_tried()
    notes = [function(cluster) for function in (_cpu_farm, _gpu_farm, _chain, _array, _mpi_tasks)]
    return "; ".join(["each submitted as it is", *filter(None, notes)])


@scenario()
def pbs_scripts(cluster):
    """The scripts for PBS, each run as it is."""
    _every_script_is_tried()
    if not _with_ssh(cluster):
        return "not tried: there is no sshd (apt-get install openssh-server)"
    notes = [function(cluster) for function in (_pbsdsh, _pbs_mpiexec)]
    return "; ".join(filter(None, notes))
