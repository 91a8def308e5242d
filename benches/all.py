#!/usr/bin/env python3
"""Every figure of docs/performance.md, measured anew on this machine.

    cargo build --release --bins --examples
    python3 benches/all.py                        # some ten minutes; writes docs/performance.md
    python3 benches/all.py --quick --print        # two minutes, fewer tasks; only prints
    python3 benches/all.py --rows ratio cpu       # some rows; --rows million: 1,000,000 tasks

Rounds of what is compared alternate, so that whatever else the machine does
meets both; medians are compared. Peers that are not installed are said to be
absent: xargs and parallel come from Debian (`apt install findutils parallel`),
PyTaskFarmer and disBatch from PyPI (`python3 -m venv V; V/bin/pip install
pytaskfarmer disbatch; PATH=V/bin:$PATH`). Plots need matplotlib.
"""

import argparse
import glob
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import processes
import ratio

DOCS = os.path.join(ratio.HERE, "..", "docs")
PYTF = os.path.join(ratio.RELEASE, "pytf")
ENV = {"PATH": os.environ["PATH"]}
MARK = "<!-- figures -->\n"


def shown(values, digits=0):
    """Median and spread."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


class Place:
    """A folder with a task list, gone afterwards."""

    def __init__(self, lines):
        self.lines = lines

    def __enter__(self):
        self.folder = tempfile.mkdtemp()
        self.list = os.path.join(self.folder, "tasks.txt")
        with open(self.list, "w") as file:
            file.writelines(line + "\n" for line in self.lines)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def command(self, *options):
        return [PYTF, self.list, "--quiet", *options]

    def start(self, *options):
        return subprocess.Popen(self.command(*options), env=ENV, stderr=subprocess.PIPE)

    def ends(self):
        for journal in glob.glob(self.list + "_workdir/nodes/*.jsonl"):
            with open(journal) as file:
                yield from (r for r in map(json.loads, file) if r["event"] == "end")


# ---- rows ----------------------------------------------------------------


def against_bare(args):
    table = ["| mode | bare loop, runs/s | pytf, tasks/s | ratio | goal |", "|---|---|---|---|---|"]
    goals = {"null": 0.90, "file": 0.85, "append": 0.90, "shell": 0.90}
    for mode, goal in goals.items():
        floor, ours = [], []
        for _ in range(args.rounds):
            floor.append(ratio.bare(mode, args.tasks, 8)[0])
            ours.append(ratio.farm(mode, args.tasks, 8))
        middle = statistics.median(ours) / statistics.median(floor)
        table.append(f"| {mode} | {shown(floor)} | {shown(ours)} | {middle:.2f} | ≥ {goal:.2f} |")
    return f"{args.tasks:,} tasks, 8 slots. `file` is `--logs files`, `append` is `--logs packed`.\n\n" + "\n".join(table)


def cpu(args):
    floor, ours = [], []
    for _ in range(args.rounds):
        floor.append(ratio.bare("null", args.tasks, 8)[1])
        with Place(["/bin/true"] * args.tasks) as place:
            farm = place.start("--proc", "8", "--logs", "none")
            _, status, usage = os.wait4(farm.pid, 0)
            farm.returncode = status
            whole = (usage.ru_utime + usage.ru_stime) * 1e6
            tasks = sum(end["used"]["user"] + end["used"]["sys"] for end in place.ends())
            ours.append((whole - tasks) / args.tasks)
    middle = statistics.median(ours) / statistics.median(floor)
    return (
        "CPU time of the process itself, a task (pytf: all, less what its tasks used).\n\n"
        "| bare loop, µs | pytf, µs | ratio | goal |\n|---|---|---|---|\n"
        f"| {shown(floor, 1)} | {shown(ours, 1)} | {middle:.2f} | ≤ 0.30 |"
    )


def peer_commands(place, count):
    true = shutil.which("true", path="/bin:/usr/bin")
    return {
        "xargs": ("xargs", ["xargs", "-P8", "-n1", true], "\n".join(map(str, range(count)))),
        "GNU parallel": ("parallel", ["parallel", "-j8", "--joblog", place.folder + "/log", "-a", place.list], None),
        "PyTaskFarmer": ("pytaskfarmer.py", ["pytaskfarmer.py", place.list, "--proc", "8"], None),
        "disBatch": ("disbatch", ["disbatch", "-p", place.folder + "/d", "-s", "localhost:8", place.list], None),
    }


def peers(args):
    table = ["| peer | tasks | peer, tasks/s | pytf, tasks/s | ratio | goal |", "|---|---|---|---|---|---|"]
    few = 100 if args.quick else 300
    counts = {"xargs": 5000, "GNU parallel": few * 5, "PyTaskFarmer": 300 if args.quick else 2000, "disBatch": few // 3}
    goals = {"xargs": 2, "GNU parallel": 10, "PyTaskFarmer": 60, "disBatch": 100}
    for name, count in counts.items():
        theirs, ours = [], []
        for _ in range(min(args.rounds, 3)):
            with Place(["/bin/true"] * count) as place:
                program, command, stdin = peer_commands(place, count)[name]
                if not shutil.which(program):
                    break
                start = time.monotonic()
                done = subprocess.run(command, cwd=place.folder, input=stdin, text=True, capture_output=True, timeout=300)
                theirs.append(count / (time.monotonic() - start))
                if done.returncode:
                    sys.exit(f"{name} ended with {done.returncode}: {done.stderr[-500:]}")
            ours.append(ratio.farm("null", 5000, 8))
        if theirs:
            middle = statistics.median(ours) / statistics.median(theirs)
            table.append(f"| {name} | {count:,} | {shown(theirs)} | {shown(ours)} | {middle:.1f} | ≥ {goals[name]} |")
        else:
            table.append(f"| {name} | | absent | | | ≥ {goals[name]} |")
    return "`/bin/true`, 8 at a time; pytf runs 5,000 of them.\n\n" + "\n".join(table)


def flat(args, counts=None):
    counts = counts or ([1000, 3000] if args.quick else [1000, 10_000, 50_000])
    rates = {count: [] for count in counts}
    for _ in range(min(args.rounds, 3)):
        for count in counts:
            rates[count].append(ratio.farm("null", count, 8))
    points = [(count, statistics.median(rate)) for count, rate in rates.items()]
    first = points[0][1]
    table = ["| tasks | tasks/s | ratio to the first | goal |", "|---|---|---|---|"]
    table += [f"| {n:,} | {shown(rates[n])} | {rate / first:.2f} | 0.90–1.10 |" for n, rate in points]
    plot("tasks", points, "tasks", args)
    return "`--logs none`, 8 slots.\n\n" + "\n".join(table)


def million(args):
    return flat(args, [1000, 1_000_000])


def many(args):
    numbers, tasks = ([1, 4], 1000) if args.quick else ([1, 4, 16, 64], 10_000)
    goals = {1: 1, 4: 0.9, 16: 0.85, 64: 0.8}
    rates = {number: [] for number in numbers}
    for _ in range(min(args.rounds, 3)):
        for number in numbers:
            rates[number].append(processes.farm(number, 64, tasks)[0])
    points = [(number, statistics.median(rate)) for number, rate in rates.items()]
    table = ["| processes | tasks/s | ratio to one | goal |", "|---|---|---|---|"]
    table += [f"| {n} | {shown(rates[n])} | {rate / points[0][1]:.2f} | ≥ {goals[n]} |" for n, rate in points]
    plot("processes", points, "processes on one workdir", args)
    return f"{tasks:,} × `/bin/true`, 64 slots in all.\n\n" + "\n".join(table)


def proc(pid, name):
    with open(f"/proc/{pid}/{name}") as file:
        return file.read()


def idle(args):
    def state(pid):
        ticks = sum(map(int, proc(pid, "stat").rsplit(")", 1)[1].split()[11:13]))
        statuses = (proc(pid, f"task/{thread}/status") for thread in os.listdir(f"/proc/{pid}/task"))
        return ticks, sum(int(n) for text in statuses for n in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M))

    seconds = 10 if args.quick else 30
    with Place(["sleep 600"] * 256) as place:
        farm = place.start("--proc", "256")
        time.sleep(5)
        before = state(farm.pid)
        time.sleep(seconds)
        after = state(farm.pid)
        resident = int(re.search(r"VmRSS:\s+(\d+)", proc(farm.pid, "status"))[1]) / 1024
        farm.send_signal(signal.SIGTERM)
        farm.communicate()
    share = (after[0] - before[0]) / os.sysconf("SC_CLK_TCK") / seconds * 100
    wakes = (after[1] - before[1]) / seconds
    return (
        "256 slots that run `sleep 600`.\n\n| | | goal |\n|---|---|---|\n"
        f"| CPU, % of a core | {share:.2f} | < 0.1 |\n| resident, MiB | {resident:.1f} | < 20 |\n"
        f"| wake-ups a second | {wakes:.1f} | < 5 |"
    )


def first(args):
    table = ["| lines | first task after, ms | goal |", "|---|---|---|"]
    for lines, goal in [(1, 15), (100_000 if args.quick else 1_000_000, 1000)]:
        took = []
        for _ in range(min(args.rounds, 3)):
            with Place(["/bin/sleep 60"] + ["/bin/true"] * (lines - 1)) as place:
                start = time.time_ns()
                farm = place.start("--proc", "1", "--logs", "none")
                while not (started := start_of_first(place)):
                    if farm.poll() is not None:
                        sys.exit(f"pytf ended with {farm.returncode}")
                    time.sleep(0.05)
                took.append((started * 1000 - start) / 1e6)
                farm.send_signal(signal.SIGTERM)
                farm.communicate()
        table.append(f"| {lines:,} | {shown(took, 1)} | < {goal} |")
    return "From the start of the program to that of its first task, by the journal.\n\n" + "\n".join(table)


def start_of_first(place):
    for journal in glob.glob(place.list + "_workdir/nodes/*.jsonl"):
        with open(journal) as file:
            for line in file:
                if line.startswith('{"event":"start"'):
                    return json.loads(line)["at"]
    return None


def memory(args):
    lines = 100_000 if args.quick else 1_000_000
    with Place(["/bin/sleep 60 # ".ljust(99, "x")] * lines) as place:
        farm = place.start("--proc", "1", "--logs", "none")
        while not start_of_first(place):
            time.sleep(0.2)
        peak = int(re.search(r"VmHWM:\s+(\d+)", proc(farm.pid, "status"))[1]) / 1024
        farm.send_signal(signal.SIGTERM)
        farm.communicate()
    return f"A list of {lines:,} lines of 100 bytes: at most {peak:.1f} MiB resident until the first task runs (goal: < 64)."


def shared(args):
    if not shutil.which("strace"):
        return "strace is absent."
    table = ["| tasks | system calls a task | bytes written a task |", "|---|---|---|"]
    for count in (500, 2000):
        with Place(["/bin/true"] * count) as place:
            trace = os.path.join(place.folder, "trace")
            command = ["strace", "-f", "-y", "-qq", "-e", "trace=%file,%desc", "-e", "signal=none", "-o", trace]
            subprocess.run(command + place.command("--proc", "8", "--logs", "none", "--no-timeline"), env=ENV, check=True)
            calls, written = 0, 0
            with open(trace, errors="replace") as file:
                for line in file:
                    # Whatever belongs to the workdir, but for the folder of logs.
                    if "_workdir" in line and "_workdir/logs" not in line:
                        calls += 1
                        done = re.search(r" (?:p?write(?:64|v)?)\(.*\) = (\d+)$", line)
                        written += int(done[1]) if done else 0
        table.append(f"| {count:,} | {calls / count:.1f} | {written / count:,.0f} |")
    return "On the files of the workdir, `--logs none`, under strace (which slows the tasks, so turns carry less).\n\n" + "\n".join(table)


ROWS = {
    "ratio": ("Against a bare loop", against_bare),
    "cpu": ("CPU time of its own", cpu),
    "peers": ("Against others", peers),
    "flat": ("Over the number of tasks", flat),
    "processes": ("Over the number of processes", many),
    "idle": ("Idle", idle),
    "first": ("The first task", first),
    "memory": ("Memory", memory),
    "shared": ("On the file system", shared),
    "million": ("A million tasks", million),
}


# ---- the page ------------------------------------------------------------


def plot(name, points, label, args):
    if args.print:
        return
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no plots", file=sys.stderr)
        return
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "pytf"
    figure, axes = plt.subplots(figsize=(5, 3))
    axes.plot(*zip(*points), marker="o")
    axes.set(xscale="log", xlabel=label, ylabel="tasks a second", ylim=(0, None))
    figure.tight_layout()
    figure.savefig(os.path.join(DOCS, f"performance-{name}.svg"), metadata={"Date": None})


def machine():
    cpus = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    name = cpus[1] if cpus else platform.machine()
    return f"{os.cpu_count()} CPUs ({name}), Linux {platform.release()}, {time.strftime('%Y-%m-%d')}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[row for row in ROWS if row != "million"])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--tasks", type=int)
    parser.add_argument("--quick", action="store_true", help="fewer tasks and rounds")
    parser.add_argument("--print", action="store_true", help="write nothing into docs/")
    args = parser.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.tasks = args.tasks or (1000 if args.quick else 10_000)
    parts = [f"Measured on {machine()}. Medians, in brackets the least and the most; {args.rounds} rounds or fewer."]
    for row in args.rows:
        title, measure = ROWS[row]
        print(f"{row} …", file=sys.stderr)
        parts.append(f"### {title}\n\n{measure(args)}")
        print(parts[-1], file=sys.stderr)
    text = "\n\n".join(parts) + "\n"
    if args.print:
        print(text)
        return
    path = os.path.join(DOCS, "performance.md")
    with open(path) as file:
        before, _, after = file.read().split(MARK)
    with open(path, "w") as file:
        file.write(before + MARK + "\n" + text + "\n" + MARK + after)


if __name__ == "__main__":
    main()
