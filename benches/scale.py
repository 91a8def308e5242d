#!/usr/bin/env python3
"""Large farms in simulated time: the tables and plots of docs/scale.md.

    cargo build --release --example scale
    python3 benches/scale.py            # minutes; needs matplotlib for the plots
    python3 benches/scale.py --quick    # up to 256 nodes

Writes docs/scale-*.svg and what stands between the marks in docs/scale.md. Time is
simulated: how many cases run at once, on what machine, makes no difference.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
DOCS = os.path.join(HERE, "..", "docs")
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target"))
SCALE = os.path.join(TARGET, "release", "examples", "scale")
NODES = [1, 16, 64, 256, 1000, 4096]
# Of each length of task: for how long there is work, so that every slot runs
# a good number of tasks.
RUNS = {1: 60, 5: 600, 60: 1800, 600: 6000, 3600: 14400}
# What the table of docs/scale.md shows.
CASES = [
    ("nfs", 1000, 1),
    *(("nfs", nodes, 60) for nodes in NODES),
    *(("nfs", nodes, task) for task in (600, 3600) for nodes in (1000, 4096)),
    ("lustre", 1000, 1),
    *(("lustre", nodes, 5) for nodes in NODES if nodes <= 1000),
    ("lustre", 4096, 60),
    *(("moosefs", nodes, 60) for nodes in (16, 256, 1000)),
]


def n_tasks(case):
    _, nodes, task = case
    return nodes * 64 * RUNS[task] / task


def simulate(case):
    fs, nodes, task = case
    command = [SCALE, "--fs", fs, "--nodes", nodes, "--task", task, "--run", RUNS[task]]
    began = time.monotonic()
    result = json.loads(subprocess.check_output([str(word) for word in command]))
    print(f"{time.monotonic() - began:.0f} s: {row(result)}", file=sys.stderr)
    return result


def row(r):
    steady = "–" if r["steady"] is None else f"{100 * r['steady']:.2f} %"
    return (
        f"| {r['fs']} | {r['nodes']:,} | {r['task']:g} s | {r['run']:,.0f} s | {r['tasks']:,} | {steady} | {100 * r['utilisation']:.1f} % "
        f"| {r['full_after']:.1f} s | {r['tail']:.0f} s | {r['left_after']:.1f} s | {100 * r['lock']:.1f} % | {r['hold_ms']:.1f} ms "
        f"| {r['wait_p99']:.2f} s | {r['requests_per_s']:,.0f} | {r['requests_busiest_s']:,} | {r['written_per_s'] / 1e6:.2f} MB/s |"
    )


HEAD = """| file system | nodes | task | work for | tasks | slots busy while there is work | in all | all have tasks after | tail | last farmer gone after | lock taken | a turn holds it | wait, 99 % | requests/s | in the busiest second | written |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def plot(results):
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no plots", file=sys.stderr)
        return
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "pytf"
    for name, key, label, factor in [
        ("utilisation", "steady", "slots busy while there is work, %", 100),
        ("lock", "lock", "lock taken, %", 100),
        ("requests", "requests_per_s", "requests a second", 1),
    ]:
        figure, axes = plt.subplots(figsize=(5, 3))
        for fs, task in [("nfs", 60), ("lustre", 5)]:
            line = [(r["nodes"], r[key] * factor) for r in results if (r["fs"], r["task"]) == (fs, task) and r[key]]
            axes.plot(*zip(*line), marker="o", markersize=3, label=f"{fs}, {task:g} s")
        axes.set(xscale="log", xlabel="nodes of 64 slots", ylabel=label)
        axes.legend(fontsize=6)
        figure.tight_layout()
        figure.savefig(os.path.join(DOCS, f"scale-{name}.svg"), metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 256 nodes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases at once")
    args = parser.parse_args()
    cases = [case for case in CASES if not args.quick or case[1] <= 256]
    with ThreadPoolExecutor(args.jobs) as pool:
        # The longest first, so that none is left over at the end.
        longest_first = sorted(cases, key=n_tasks, reverse=True)
        running = {case: pool.submit(simulate, case) for case in longest_first}
        results = [running[case].result() for case in cases]
    table = "\n".join([HEAD, *map(row, results)])
    path = os.path.join(DOCS, "scale.md")
    with open(path) as file:
        before, rest = file.read().split("<!-- table -->\n")[0::2]
    with open(path, "w") as file:
        file.write(f"{before}<!-- table -->\n{table}\n<!-- table -->\n{rest}")
    plot(results)


if __name__ == "__main__":
    main()
