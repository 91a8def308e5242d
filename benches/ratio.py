#!/usr/bin/env python3
"""How near `pytf` comes to threads that only spawn and wait.

    cargo build --release --examples --bins
    python3 benches/ratio.py                    # 10,000 x /bin/true, 8 at a time
    python3 benches/ratio.py --mode file --rounds 9
    python3 benches/ratio.py --flat             # 1,000 against 100,000 tasks

Rounds of the two alternate, so that whatever else the machine does meets
both; medians are compared. A ratio of 1 is the bare loop's rate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import folders

HERE = os.path.dirname(os.path.abspath(__file__))
RELEASE = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target")), "release")
# mode of the bare loop: (--logs of pytf, task line)
MODES = {
    "null": ("none", "/bin/true"),
    "file": ("files", "/bin/true"),
    "append": ("packed", "/bin/true"),
    "shell": ("none", "true && true"),
}


def bare(mode, tasks, proc):
    """One round of the bare loop: runs a second; CPU time a run in us, its own and its children's."""
    command = [os.path.join(RELEASE, "examples", "bare_loop"), mode, str(tasks), str(proc), folders.new()]
    result = json.loads(subprocess.check_output(command))
    return result["rate"], result["cpu_us"], result["children_us"]


def farm(mode, tasks, proc):
    """One round of pytf on a new workdir: tasks a second."""
    logs, line = MODES[mode]
    tasklist = folders.tasklist([line] * tasks)
    command = [os.path.join(RELEASE, "pytf"), tasklist, "--proc", str(proc), "--logs", logs, "--quiet"]
    start = time.monotonic()
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, stderr=subprocess.PIPE)
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(f"pytf ended with {done.returncode}: {done.stderr.decode()}")
    with open(tasklist + "_workdir/finished") as file:
        assert sum(1 for _ in file) == tasks, "every task is finished"
    return tasks / seconds


def spread(values):
    return f"{statistics.median(values):8.0f}  ({min(values):.0f}-{max(values):.0f})"


def compare(mode, tasks, proc, rounds):
    """Prints both medians and their ratio; returns the ratio."""
    floor, cpu, ours = [], [], []
    for number in range(rounds):
        rate, us, _ = bare(mode, tasks, proc)
        floor.append(rate)
        cpu.append(us)
        ours.append(farm(mode, tasks, proc))
        print(f"  round {number + 1}: bare {floor[-1]:.0f}/s, pytf {ours[-1]:.0f}/s", file=sys.stderr)
    ratio = statistics.median(ours) / statistics.median(floor)
    print(f"{mode:7} {tasks:7} tasks, {proc} at a time: bare {spread(floor)}/s, {statistics.median(cpu):.0f} us CPU each")
    print(f"{'':32} pytf {spread(ours)}/s   ratio {ratio:.3f}")
    return ratio


def flat(mode, proc, rounds):
    """Whether what a task costs depends on how many there are."""
    few, many = [], []
    for _ in range(rounds):
        # As many tasks in all: 10 small farms against one large one.
        few.append(statistics.median(farm(mode, 1000, proc) for _ in range(10)))
        many.append(farm(mode, 100_000, proc))
    print(f"{mode:7} pytf {spread(few)}/s with 1,000 tasks")
    print(f"{'':7} pytf {spread(many)}/s with 100,000 tasks   ratio {statistics.median(many) / statistics.median(few):.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=[*MODES, "all"], default="null")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--proc", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flat", action="store_true", help="1,000 against 100,000 tasks instead")
    args = parser.parse_args()
    for mode in MODES if args.mode == "all" else [args.mode]:
        if args.flat:
            flat(mode, args.proc, args.rounds)
        else:
            compare(mode, args.tasks, args.proc, args.rounds)


if __name__ == "__main__":
    main()
