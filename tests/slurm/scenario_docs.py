"""What the documents show of Slurm: each batch script is submitted as it is, each command is
run as it is and prints what the page says."""

import os
import re
import shutil
import subprocess

from checker import require
from cluster import HERE
from farm import scenario

ROOT = HERE.parent.parent


def _scripts():
    """The page, and the text, of each whole script with directives of Slurm."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for script in re.findall(r"^```bash\n(#!/bin/bash\n#SBATCH .*?)^```$", page.read_text(), re.M | re.S):
            yield page, script


def _lists(folder, script):
    """Short lists of the names that the script has; the tasks of MPI pages are steps."""
    step = "srun --exact -N1 -n8 -c1 --mem-per-cpu=500M " if "SLURM_NTASKS / 8" in script else ""
    names = set(re.findall(r"pytf (\w+\.txt)", script))
    for name in names:
        (folder / name).write_text("".join(f"{step}true {number}\n" for number in range(20)))
    return names


@scenario(select="CR_CPU_Memory")
def documented_scripts(cluster):
    """Each list of each script is complete, and each job ends with status 0."""
    tried = []
    for page, script in _scripts():
        folder = cluster.home / f"script{len(tried)}"
        folder.mkdir()
        lists = _lists(folder, script)
        (folder / "job.sh").write_text(script)
        job = cluster.sbatch("--output=job.out", "job.sh", cwd=folder)
        job.ended()
        said = (folder / "job.out").read_text()
        require(job.exit() == "0:0", f"{page.name}: {job.exit()}: {said}")
        for name in lists:
            finished = (folder / f"{name}_workdir/finished").read_text().splitlines()
            require(len(finished) == 20, f"{page.name}: {name}: {len(finished)} of 20 finished: {said}")
        shutil.rmtree(folder)
        tried.append(page.name)
    require(len(tried) >= 5, f"scripts were found in {tried} only")
    return f"scripts of {', '.join(tried)}"


def _commands(cluster, page):
    """Runs the commands of a page, and those of the tutorial before it, by tests/docs."""
    test = os.environ.get("PYTF_DOCS_TEST")
    if not test:
        return "not tried: there is no test program for the documents (cargo test --test docs --no-run)"
    env = {**cluster.env, "DOCS_RUN": "slurm", "DOCS_PAGE": page, "DOCS_NODES": cluster.prefix}
    done = subprocess.run(
        [test, "commands_print_what_the_pages_show", "--nocapture"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    require(done.returncode == 0, done.stdout)
    return f"{page}: {re.search(r'[0-9]+ commands', done.stdout).group()} print what it shows"


@scenario(is_long=True, usable=2, watchdog=600)
def documented_commands_tutorial(cluster):
    """40,000 tasks, a time limit, a resume: as the tutorial has them."""
    return _commands(cluster, "docs/tutorial/4-cluster.md")


@scenario()
def documented_commands_mixed_nodes(cluster):
    """Two jobs in two partitions work on one list."""
    cluster.slurm("scontrol", "create", "PartitionName=big", f"Nodes={cluster.prefix}[1-3]")
    cluster.slurm("scontrol", "create", "PartitionName=small", f"Nodes={cluster.prefix}1")
    return _commands(cluster, "docs/how-to/mixed-nodes.md")


@scenario()
def documented_commands_workflows(cluster):
    """A job that waits for another."""
    return _commands(cluster, "docs/how-to/workflows.md")


@scenario()
def documented_commands_containers(cluster):
    """Tasks in containers: Apptainer is a stand-in that checks its command line."""
    return _commands(cluster, "docs/how-to/containers.md")
