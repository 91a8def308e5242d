"""What scenarios are made of: a task list, a workdir, jobs that work on it."""

import os
import shutil

import checker
from cluster import HERE, Settings, until

SCENARIOS = {}
# Those that take minutes.
LONG = set()

# What the documents recommend; -c gives pytf the CPUs that it asks for.
SRUN = "srun -K0 -W0 --no-kill"


def scenario(is_long=False, **settings):
    """Registers a function as a scenario, on a cluster with these settings. It
    gets the cluster, fails with a Failure, and returns what it saw."""

    def register(function):
        SCENARIOS[function.__name__] = (function, Settings(**settings))
        if is_long:
            LONG.add(function.__name__)
        return function

    return register


class Farm:
    """A task list and its workdir, in a folder of their own."""

    def __init__(self, cluster, name="farm"):
        self.cluster = cluster
        self.folder = cluster.home / name
        self.effects = self.folder / "effects"
        self.workdir = self.folder / "tasks.txt_workdir"
        self.effects.mkdir(parents=True)
        shutil.copy(HERE / "work", self.folder)
        self.size = 0

    def tasks(self, *lines):
        """Adds tasks, each "SECONDS STATUS [stubborn|litter|not-on=NODE]"."""
        with open(self.folder / "tasks.txt", "a", encoding="utf-8") as file:
            file.writelines(f"{self.line(line)}\n" for line in lines)
        return self

    def line(self, task):
        """The command of one more task, as above."""
        self.size += 1
        return f"./work {self.size - 1} {task}"

    def added(self, *lines):
        """A file of tasks as above that are not in the list, for `pytf add`."""
        path = self.folder / "added.txt"
        path.write_text("".join(f"{self.line(line)}\n" for line in lines))
        return path

    def script(self, pytf="", srun="-c 4", before="", after=""):
        """A batch script. Its exit status is srun's, and so pytf's."""
        path = self.folder / "job.sh"
        path.write_text(
            "#!/bin/bash\n"
            f"{before}\n"
            f"{SRUN} {srun} pytf tasks.txt --proc 4 {pytf}\n"
            f"{after}\n"
        )
        return path

    def submit(self, *sbatch, **script):
        """One farmer with four slots on each of four nodes, unless told otherwise."""
        path = self.script(**script)
        return self.cluster.sbatch(
            "--nodes=4", "--ntasks-per-node=1", "--cpus-per-task=4",
            "--output=job.out", "--open-mode=append", *sbatch, path,
            cwd=self.folder,
        )

    def started(self):
        """How many tasks have begun."""
        return len(os.listdir(self.effects))

    def ended(self):
        """How many lines the tasks wrote about their end."""
        return sum(path.read_text().count("end ") for path in self.effects.iterdir())

    def wait_for_starts(self, count, within=60):
        until(lambda: self.started() >= count, f"{count} tasks of {self.folder.name} have begun", within)

    def check(self, **expected):
        return checker.check(self.workdir, self.effects, **expected)

    def books(self):
        """The files of the workdir as they are, unjudged."""
        return checker.Books(self.workdir)

    def resume(self, **expected):
        """The same command in a new job finishes the rest, exactly."""
        job = self.submit("--job-name=resume", pytf="--takeover 20")
        checker.require(job.ended() in ("COMPLETED", "FAILED"), f"{job} of the resume: {job.state()}")
        nodes = [] if "nodes" not in expected else expected.pop("nodes")
        return self.check(complete=True, nodes=nodes, **expected)

    def said(self):
        """What the jobs printed."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.out")))

    def names(self):
        return [node.name for node in self.cluster.nodes]


def shorten(farm):
    """Lets tasks that sleep for 600 s end at once, without changing the list."""
    sleep = farm.cluster.home / "bin/sleep"
    sleep.write_text('#!/bin/sh\n[ "$1" = 600 ] || exec /bin/sleep "$1"\n')
    sleep.chmod(0o755)
