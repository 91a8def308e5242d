"""Runs scenarios, some at a time, and says how each went.

    run.py [--all] [--keep] [--jobs N] [SCENARIO...]

Each gets a folder, a cluster and namespaces of its own, so they do not disturb
each other, and none of them outlives this process: not even when it is killed.
"""

import argparse
import os
import random
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import main
from farm import LONG, SCENARIOS

HERE = Path(__file__).resolve().parent


class Scenario:
    """A scenario that runs."""

    def __init__(self, name, pytf, keep):
        self.name = name
        self.home = Path(tempfile.mkdtemp(prefix="pytf-slurm-"))
        # Slurm's control groups carry the nodes' names: no two clusters may share them.
        prefix = "n" + "".join(random.choices(string.ascii_lowercase, k=4))
        self.janitor = subprocess.Popen(
            [sys.executable, HERE / "janitor.py", self.home, prefix, *(["keep"] if keep else [])],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        (self.home / "bin").mkdir()
        shutil.copy(pytf, self.home / "bin/pytf")
        self.home.chmod(0o755)
        self.log = open(self.home / "log.txt", "w+", encoding="utf-8")
        self.began = time.monotonic()
        namespaces = ["--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--net", "--uts"]
        python = [sys.executable, "-B"]
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "--propagation", "private"]
            + [*python, HERE / "init.py", *python, HERE / "main.py", name, self.home, prefix],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def has_ended(self):
        """Also when it takes too long: `clean_up` kills it then."""
        return self.process.poll() is not None or self.seconds() > SCENARIOS[self.name][1].watchdog

    def seconds(self):
        return time.monotonic() - self.began

    def report(self):
        """Says how it went; true when it went well."""
        well = self.process.returncode == 0
        self.log.seek(0)
        said = self.log.read().strip()
        word = "ok    " if well else "FAILED"
        print(f"{word} {self.seconds():5.1f} s  {self.name}: {said}", flush=True)
        if well and "not tried" in said:
            print(f"SKIPPED tests/slurm: {self.name}: {said}", flush=True)
        return well

    def clean_up(self):
        self.process.kill()
        # Something frozen may keep it from ending: the janitor thaws that.
        self.janitor.stdin.close()
        self.janitor.wait()
        self.process.wait()
        self.log.close()


def run(names, pytf, jobs, keep):
    """Runs them all, returns the names of those that failed."""
    waiting, running, failed = list(names), [], []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(Scenario(waiting.pop(0), pytf, keep))
            for scenario in [scenario for scenario in running if scenario.has_ended()]:
                running.remove(scenario)
                if not scenario.report():
                    failed.append(scenario.name)
                scenario.clean_up()
                if keep:
                    print(f"       kept: {scenario.home}")
            time.sleep(0.1)
    finally:
        for scenario in running:
            scenario.clean_up()
    return failed


def arguments():
    parser = argparse.ArgumentParser(prog="tests/slurm/run.sh", description="Scenarios on a real Slurm.")
    parser.add_argument("scenarios", nargs="*", help=f"by default all but {' '.join(LONG)}: {' '.join(SCENARIOS)}")
    parser.add_argument("--all", action="store_true", help="also those that take minutes")
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("PYTF_SLURM_JOBS", "3")))
    parser.add_argument("--keep", action="store_true", help="leave the folders of the scenarios")
    parsed = parser.parse_args()
    unknown = [name for name in parsed.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no such scenario: {' '.join(unknown)}; there are {' '.join(SCENARIOS)}")
    return parsed


def be_terminated(*_):
    sys.exit("tests/slurm: terminated")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, be_terminated)
    signal.signal(signal.SIGHUP, be_terminated)
    options = arguments()
    began = time.monotonic()
    wanted = options.scenarios or [name for name in SCENARIOS if options.all or name not in LONG]
    bad = run(wanted, os.environ["PYTF"], options.jobs, options.keep)
    print(f"{len(wanted) - len(bad)} of {len(wanted)} scenarios passed in {time.monotonic() - began:.0f} s")
    sys.exit(f"failed: {' '.join(bad)}" if bad else 0)
