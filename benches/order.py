#!/usr/bin/env python3
"""What it costs to say more of tasks: order and classes, against a plain list.

    cargo build --release
    python3 benches/order.py                      # about eight minutes
    python3 benches/order.py --before OLD/pytf    # also the plain list against an older program
    python3 benches/order.py --rows order --tasks 20000

All tasks are `/bin/true`, eight at a time, without logs. Rounds of what is compared alternate, so that
whatever else the machine does meets both; a ratio is that of the medians of one run, and above 1 where
a task costs more time. Memory is the farmer's largest resident set. HyperQueue comes from PyPI (the
package `hyperqueue`, with its server and workers), into the environment that `benches/peers.py` makes.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import folders
import page
import peers
import ratio
from all import start_of_first, watched

PYTF = os.environ.get("PYTF", os.path.join(ratio.RELEASE, "pytf"))
HERE = os.path.dirname(os.path.abspath(__file__))
SLOTS = 8
CHAINS = 100
CLASSES = 20


# ---- lists ---------------------------------------------------------------


def plain(count):
    return ["/bin/true"] * count


def chains(count):
    """Chains side by side: of each one the next task."""
    for number in range(count):
        chain, step = number % CHAINS, number // CHAINS
        after = f" after=c{chain}-{step - 1}" if step else ""
        yield f"/bin/true #PYTF name=c{chain}-{step}{after}"


def fan(count):
    """One task, then all but two side by side, then one."""
    yield "/bin/true #PYTF name=first"
    for _ in range(count - 2):
        yield "/bin/true #PYTF name=middle after=first"
    yield "/bin/true #PYTF after=middle"


def classes(count):
    """Each task is of another class than the one before it."""
    for number in range(count):
        yield f"/bin/true #PYTF time={1 + number % CLASSES}h"


def directives(count):
    """The first task stays; each of the others says something."""
    yield "/bin/sleep 60 #PYTF name=first"
    for number in range(1, count):
        yield f"/bin/true #PYTF time={1 + number % CLASSES}h name=n{number % 1000}"


# ---- programs ------------------------------------------------------------


class Place:
    """A list in a folder of its own."""

    def __init__(self, lines):
        self.list = folders.tasklist(lines)


def farm(lines, program=PYTF):
    """One farm; seconds, and the largest resident memory of the farmer in MiB."""
    tasklist = folders.tasklist(lines)
    command = [program, tasklist, "--proc", str(SLOTS), "--logs", "none", "--quiet"]
    start = time.monotonic()
    process = subprocess.Popen(command, env={"PATH": os.environ["PATH"]}, stderr=subprocess.PIPE)
    seconds, peak = watched(process, start)
    if process.returncode:
        sys.exit(f"{program} ended with {process.returncode}: {process.stderr.read().decode()}")
    with open(tasklist + "_workdir/finished") as finished, open(tasklist) as tasks:
        assert sum(1 for _ in finished) == sum(1 for _ in tasks), "every task is finished"
    return seconds, peak


def hyperqueue(shape, count):
    """One job of HyperQueue on a server and one worker with as many slots; seconds, and MiB of both."""
    python = os.path.join(peers.VENV, "bin", "python")
    command = [python, os.path.join(HERE, "hyperqueue_job.py"), shape, str(count), str(SLOTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"HyperQueue ended with {done.returncode}: {done.stderr[-500:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return result["seconds"], result["peak_mib"]


# ---- rows ----------------------------------------------------------------


def alternate(runs, rounds):
    """Runs each of {name: function} once a round; {name: [(seconds, MiB)]}."""
    seen = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in runs.items():
            seen[name].append(run())
            print(f"  round {number + 1}: {name}: {seen[name][-1][0]:.2f} s", file=sys.stderr, flush=True)
    return seen


def table(seen, count, to, goals):
    """Compares all with one of them."""
    base = statistics.median(seconds for seconds, _ in seen[to])
    lines = ["| | tasks | rounds | seconds | µs a task | ratio | goal | resident, MiB |", "|---|---|---|---|---|---|---|---|"]
    for name, all_ in seen.items():
        times = [seconds for seconds, _ in all_]
        middle = statistics.median(times)
        lines.append(
            f"| {name} | {count:,} | {len(times)} | {middle:.2f} ({min(times):.2f}–{max(times):.2f}) | {middle / count * 1e6:.0f} "
            f"| {middle / base:.3f} | {goals.get(name, '')} | {max(peak for _, peak in all_):.1f} |"
        )
    return "\n".join(lines)


def before(args):
    if not args.before:
        return "not measured: --before names no older program."
    count = args.tasks // 10
    runs = {"before": lambda: farm(plain(count), args.before), "now": lambda: farm(plain(count))}
    return table(alternate(runs, args.rounds * 5), count, "before", {"now": "≤ 1.02"})


def order(args):
    shapes = {"plain": plain, f"{CHAINS} chains": chains, "fan-out, fan-in": fan}
    runs = {name: lambda shape=shape: farm(shape(args.tasks)) for name, shape in shapes.items()}
    goals = {name: "≤ 1.3" for name in shapes if name != "plain"}
    return table(alternate(runs, args.rounds), args.tasks, "plain", goals)


def many_classes(args):
    count = args.tasks * 3 if args.short else args.tasks * 10
    runs = {"plain": lambda: farm(plain(count)), f"{CLASSES} classes": lambda: farm(classes(count))}
    return table(alternate(runs, 1), count, "plain", {f"{CLASSES} classes": "≤ 1.2"})


def first(args):
    """Seconds to the first task of a long list in which each task says something."""
    count, took = args.tasks * 10, []
    for _ in range(args.rounds):
        place = Place(directives(count))
        start = time.time_ns()
        command = [PYTF, place.list, "--proc", "1", "--logs", "none", "--quiet"]
        process = subprocess.Popen(command, env={"PATH": os.environ["PATH"]}, stderr=subprocess.PIPE)
        while not (started := start_of_first(place)):
            if process.poll() is not None:
                sys.exit(f"pytf ended with {process.returncode}: {process.stderr.read().decode()}")
            time.sleep(0.05)
        took.append((started * 1000 - start) / 1e9)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    return f"{count:,} lines: {statistics.median(took):.2f} s ({min(took):.2f}–{max(took):.2f}); goal: < 2."


def against_hyperqueue(args):
    if not os.path.isdir(peers.VENV) or not peers.has("hyperqueue"):
        return "HyperQueue is absent."
    # Its time grows faster than the number of tasks of a fan.
    count, parts = args.tasks // 20, []
    for name, shape in {"plain": plain, "chains": chains, "fan": fan}.items():
        runs = {
            f"pytf, {name}": lambda shape=shape: farm(shape(count)),
            f"HyperQueue, {name}": lambda name=name: hyperqueue(name, count),
        }
        parts.append(table(alternate(runs, args.rounds), count, f"pytf, {name}", {}))
    head, *rest = parts
    return "\n".join([head, *(line for part in rest for line in part.splitlines()[2:])])


ROWS = {
    "before": ("The plain list, before and now", before),
    "order": ("Tasks that wait for others", order),
    "classes": ("Tasks of many classes", many_classes),
    "first": ("The first task of a list with directives", first),
    "hyperqueue": ("HyperQueue on the same graphs", against_hyperqueue),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--before", metavar="PYTF", help="an older program, for the row `before`")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--full", dest="short", action="store_false", help="a million tasks in classes, not 300,000")
    parser.add_argument("--no-install", action="store_true", help="make no virtual environment for HyperQueue")
    args = parser.parse_args()
    if not args.no_install:
        peers.install()
    for row in args.rows:
        title, measure = ROWS[row]
        start = time.monotonic()
        print(f"### {title}\n\n{measure(args)}\n", flush=True)
        print(f"{row}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    print(f"*{page.machine()}.*")


if __name__ == "__main__":
    main()
