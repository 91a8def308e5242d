"""A heterogeneous job: nodes with and without GPUs work on one list, with a task that needs a
whole node among thousands of small ones."""

import os

from checker import require
from farm import SRUN, Farm, scenario

NARROW = int(os.environ.get("PYTF_SLURM_TASKS", "2000"))
SLOTS = 8
GPUS = 2
# What a small task takes, and what a machine may take longer for that runs four nodes at once.
SECONDS = 0.5
LOAD = 2.0


@scenario(
    gpus=GPUS,
    gpu_nodes=1,
    partitions="PartitionName=cpu Nodes={prefix}[1-3] Default=YES\nPartitionName=gpu Nodes={prefix}4",
)
def heterogeneous_job(cluster):
    """`#SBATCH hetjob`: three nodes with CPUs and one with GPUs, one `srun` over both."""
    farm = Farm(cluster)
    wide = NARROW // 2
    gpu = set(range(5, NARROW, 40))
    for number in range(NARROW + 1):
        if number == wide:
            farm.tasks(f"{SECONDS} 0 #PYTF cpus={SLOTS}")
        elif number in gpu:
            farm.tasks(f"{SECONDS} 0 #PYTF gpus=1")
        else:
            farm.tasks(f"{SECONDS if number % 2 else 0} 0")
    each = f"--ntasks-per-node=1 --cpus-per-task={SLOTS}"
    script = farm.folder / "job.sh"
    script.write_text(
        "#!/bin/bash\n"
        f"#SBATCH --nodes=3 {each} --time=10 --partition=cpu --output=job.out\n"
        "#SBATCH hetjob\n"
        f"#SBATCH --nodes=1 {each} --time=10 --partition=gpu --gres=gpu:{GPUS}\n"
        f"{SRUN} -c {SLOTS} --het-group=0,1 pytf tasks.txt --proc {SLOTS}\n"
    )
    job = cluster.sbatch(script, cwd=farm.folder)
    require(job.ended(within=200) == "COMPLETED", f"{job.show()}: {farm.said()}")
    cluster.no_jobs()
    books = farm.check(complete=True, nodes=farm.names())
    runs = {end["id"]: (journal.host, end) for journal in books.journals for end in journal.ends}
    _gpus_are_dealt(cluster, runs, gpu)
    late = _wide_task_is_alone_and_in_time(runs, wide)
    ranks = sorted(journal.header["rank"] for journal in books.journals)
    require(ranks == [0, 1, 2, 3], f"ranks {ranks}")
    shares = sorted(len(journal.ends) for journal in books.journals)
    return f"shares {shares}; the wide task started {late:.2f} s after the last small one before it"


def _span(end):
    """When an attempt ran, in seconds."""
    return end["at"] / 1e6, (end["at"] + end["us"]) / 1e6


def _overlap(one, other):
    (begin, end), (from_, to) = _span(one), _span(other)
    return begin < to and from_ < end


def _gpus_are_dealt(cluster, runs, gpu):
    """Tasks that need a GPU ran where there are some, each with one of its own."""
    by_gpu = {}
    for number in sorted(gpu):
        host, end = runs[number]
        require(host == cluster.nodes[-1].name, f"task {number} needs a GPU and ran on {host}")
        devices = end["lease"]["gpus"]
        require(len(devices) == 1, f"task {number} had {end['lease']}")
        by_gpu.setdefault(str(devices[0]), []).append(end)
    require(len(by_gpu) == GPUS, f"{sorted(by_gpu)} were used of {GPUS}")
    for ends in by_gpu.values():
        ends.sort(key=lambda end: end["at"])
        for one, other in zip(ends, ends[1:]):
            require(not _overlap(one, other), f"{one} and {other} had one GPU")


def _wide_task_is_alone_and_in_time(runs, wide):
    """It starts within twice the longest small task once its turn has come: the last task before
    it in the list that its node ran has started. Returns how late it was."""
    host, mine = runs[wide]
    require(mine["lease"]["cpus"] == SLOTS, f"{mine}")
    others = [end for number, (where, end) in runs.items() if number != wide and where == host]
    beside = [end["id"] for end in others if _overlap(mine, end)]
    require(not beside, f"{beside} ran beside the task that needs the whole node")
    turn = max(_span(end)[0] for end in others if end["id"] < wide)
    late = _span(mine)[0] - turn
    longest = max(end["us"] for end in others) / 1e6
    require(late <= 2 * longest + LOAD, f"it waited for {late} s, the longest small task took {longest} s")
    return late
