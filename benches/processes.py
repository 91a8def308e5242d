#!/usr/bin/env python3
"""What many `pytf` processes on one workdir do, against one with as many slots.

    cargo build --release
    python3 benches/processes.py                          # 1, 4, 16, 64 processes, 64 slots in all
    python3 benches/processes.py --tasks 5000 --rounds 1

All processes of a round are started at once and share the slots. Rounds of the
numbers alternate, medians are compared with those of one process. The clock
runs from the first start to the last exit, so starting and leaving count too.
After each round the files are compared with the list: every task once.
"""

import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import time

import folders

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target"))
PYTF = os.environ.get("PYTF", os.path.join(TARGET, "release", "pytf"))


def farm(processes, slots, tasks):
    """One round: tasks a second, the longest wait for the lock in seconds."""
    tasklist = folders.tasklist(["/bin/true"] * tasks)
    command = [PYTF, tasklist, "--proc", str(slots // processes), "--logs", "none", "--quiet"]
    start = time.monotonic()
    farmers = [
        subprocess.Popen(command, env={"PATH": os.environ["PATH"]}, stderr=subprocess.PIPE)
        for _ in range(processes)
    ]
    launched = time.monotonic() - start
    for farmer in farmers:
        _, said = farmer.communicate()
        if farmer.returncode:
            sys.exit(f"pytf ended with {farmer.returncode}: {said.decode()}")
    seconds = time.monotonic() - start
    workdir = tasklist + "_workdir"
    with open(workdir + "/finished") as file:
        ids = sorted(int(line.split()[0]) for line in file)
    assert ids == list(range(tasks)), "every task is finished, and once"
    waits = []
    for journal in glob.glob(workdir + "/nodes/**/*.jsonl", recursive=True):
        with open(journal) as file:
            for line in file:
                record = json.loads(line)
                if record["event"] == "leave":
                    waits.append(record.get("longest_wait_us", 0) / 1e6)
    return tasks / seconds, max(waits, default=0), launched


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--slots", type=int, default=64, help="slots in all")
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    seen = {processes: [] for processes in args.processes}
    for number in range(args.rounds):
        for processes in args.processes:
            seen[processes].append(farm(processes, args.slots, args.tasks))
            rate, wait, launched = seen[processes][-1]
            print(
                f"  round {number + 1}: {processes:3} processes {rate:6.0f}/s, "
                f"longest wait for the lock {wait:.2f} s, all launched after {launched:.2f} s",
                file=sys.stderr,
            )
    one = statistics.median(rate for rate, _, _ in seen[args.processes[0]])
    for processes, rounds in seen.items():
        rates = [rate for rate, _, _ in rounds]
        print(
            f"{processes:3} processes: {statistics.median(rates):6.0f}/s ({min(rates):.0f}-{max(rates):.0f})   "
            f"ratio {statistics.median(rates) / one:.3f}   longest wait {max(wait for _, wait, _ in rounds):.2f} s"
        )


if __name__ == "__main__":
    main()
