"""Runs one scenario, as the head of its cluster: main.py NAME HOME PREFIX.

Started by run.py, in namespaces of its own.
"""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import scenario_farms  # noqa: F401
import scenario_docs  # noqa: F401
import scenario_faults  # noqa: F401
import scenario_mixed  # noqa: F401
import scenario_mpi  # noqa: F401
import scenario_scripts  # noqa: F401
import scenario_steer  # noqa: F401
import scenario_stops  # noqa: F401
import scenario_strays  # noqa: F401
from cluster import Cluster, Failure
from farm import SCENARIOS


def post_mortem(home):
    """What helps to understand a failure."""
    for folder in sorted(home.glob("*/tasks.txt_workdir")):
        print(f"--- {folder}")
        for name in ["tasks", "toprocess", "finished", "failed", "requeued"]:
            if (folder / name).exists():
                print(f"{name}: {(folder / name).read_bytes().count(10)} lines")
        for journal in sorted((folder / "nodes").rglob("*.jsonl")):
            lines = journal.read_text(errors="replace").splitlines()
            print(f"{journal.name}: {len(lines)} lines, the last: {lines[-1] if lines else ''}")
    for path in [*sorted(home.glob("*/*.out")), *sorted(home.glob("log/*.log"))]:
        print(f"--- the end of {path}")
        count = 30 if path.suffix == ".out" else 5
        print("\n".join(path.read_text(errors="replace").splitlines()[-count:]))
    subprocess.run(["ps", "-eo", "pid,ppid,stat,args"], check=False, stderr=subprocess.STDOUT)


def main(name, home, prefix):
    home = Path(home)
    function, settings = SCENARIOS[name]
    os.chdir(home)
    try:
        with Cluster(home, prefix, settings) as cluster:
            print(function(cluster))
        return 0
    except Failure as failure:
        print(f"FAILED: {failure}")
    except Exception:  # noqa: BLE001 - whatever it is, the post-mortem tells more
        traceback.print_exc(file=sys.stdout)
    post_mortem(home)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
