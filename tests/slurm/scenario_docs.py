"""The batch scripts that the documents show, each submitted as it is."""

import re
import shutil

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
