"""Cleans up after a scenario, whatever ended it: janitor.py HOME PREFIX [keep].

It waits until its standard input is closed, which the death of run.py does as
well as its word. By then the scenario's first process is dead, and with it all
others; control groups and files are what is left.
"""

import contextlib
import shutil
import sys
import time
from pathlib import Path


def remove_groups(prefix):
    """Removes the control groups that slurmd made for our nodes. True when none
    is left."""
    for group in Path("/sys/fs/cgroup").glob(f"*/slurm_{prefix}[0-9]*"):
        # What was suspended dies only when it may run again.
        for state in group.rglob("freezer.state"):
            with contextlib.suppress(OSError):
                state.write_text("THAWED")
        inner = [path for path in group.rglob("*") if path.is_dir()]
        for folder in sorted(inner, key=lambda path: len(path.parts), reverse=True) + [group]:
            with contextlib.suppress(OSError):
                folder.rmdir()
    return not any(Path("/sys/fs/cgroup").glob(f"*/slurm_{prefix}[0-9]*"))


def main(home, prefix, keep=""):
    sys.stdin.read()
    for _ in range(100):
        if remove_groups(prefix):
            break
        time.sleep(0.1)
    if not keep:
        for _ in range(20):
            shutil.rmtree(home, ignore_errors=True)
            if not Path(home).exists():
                break
            time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
