"""Other farmers: where they come from, and how each runs a list.

xargs and GNU parallel come from Debian (`apt install findutils parallel`).
PyTaskFarmer and disBatch come from PyPI, into a virtual environment that is made
here, under target/; so do matplotlib, for the plots, and HyperQueue (`benches/order.py`).
"""

import os
import shutil
import subprocess
import sys
import time

import ratio

VENV = os.path.abspath(os.path.join(ratio.RELEASE, "..", "peers"))
PYPI = ["PyTaskFarmer", "disbatch", "matplotlib", "hyperqueue"]

# name, program, tasks, with --quick, rounds at most, goal
PEERS = [
    ("xargs", "xargs", 5000, 1000, 3, 2),
    ("GNU parallel", "parallel", 5000, 300, 3, 10),
    ("PyTaskFarmer", "pytaskfarmer.py", 2000, 200, 1, 60),
    # Each task costs it more the more there are.
    ("PyTaskFarmer", "pytaskfarmer.py", 5000, 400, 1, 60),
    ("disBatch", "disbatch", 200, 50, 3, 100),
]


def install():
    """Makes the virtual environment, once, and goes on in its Python."""
    python = os.path.join(VENV, "bin", "python")
    if sys.prefix == VENV:
        return
    done = os.path.join(VENV, "done")
    if not os.path.exists(done):
        print(f"installing {', '.join(PYPI)} into {VENV}", file=sys.stderr)
        made = subprocess.run([sys.executable, "-m", "venv", VENV]).returncode == 0
        # One by one: what cannot be had is absent, the others are not.
        for package in PYPI if made else []:
            if subprocess.run([python, "-m", "pip", "install", "--quiet", package]).returncode:
                print(f"{package} cannot be installed", file=sys.stderr)
        if made:
            open(done, "w").close()
    if os.path.exists(done):
        os.execv(python, [python, *sys.argv])


def has(module):
    """Whether a package of the virtual environment is there."""
    python = os.path.join(VENV, "bin", "python")
    return subprocess.run([python, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode == 0


def find(program):
    """The peer's program; none when it is absent."""
    return shutil.which(program, path=f"{VENV}/bin:{os.environ['PATH']}")


def command(program, path, place, count):
    """How a peer runs the list of a place, eight at a time; and what it reads."""
    if program == "xargs":
        return [path, "-P8", "-n1", "/bin/true"], "\n".join(map(str, range(count)))
    return {
        "parallel": [path, "-j8", "--joblog", place.folder + "/log", "-a", place.list],
        "pytaskfarmer.py": [path, place.list, "--proc", "8"],
        "disbatch": [path, "-p", place.folder + "/d", "-s", "localhost:8", place.list],
    }[program], None


def rate(program, path, place, count):
    """Tasks a second of one round of a peer."""
    words, stdin = command(program, path, place, count)
    start = time.monotonic()
    done = subprocess.run(words, cwd=place.folder, input=stdin, text=True, capture_output=True, timeout=600)
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(f"{program} ended with {done.returncode}: {done.stderr[-500:]}")
    return count / seconds
