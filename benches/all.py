#!/usr/bin/env python3
"""Every figure of docs/performance.md, measured anew on this machine.

    cargo build --release --bins --examples
    python3 benches/all.py                        # less than 20 minutes; writes docs/performance.md
    python3 benches/all.py --quick --print        # two minutes, fewer tasks; only prints
    python3 benches/all.py --rows ratio cpu       # some rows; the others stay as they are

Rounds of what is compared alternate, so that whatever else the machine does
meets both; medians are compared. Peers that are not there are said to be
absent: `benches/peers.py` tells where they come from, and installs what comes
from PyPI, and matplotlib for the plots, under target/ (not with --no-install).
"""

import argparse
import glob
import json
import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time

import folders
import page
import peers
import processes
import ratio

PYTF = os.path.join(ratio.RELEASE, "pytf")
ENV = {"PATH": os.environ["PATH"]}


def shown(values, digits=0):
    """Median and spread."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


class Place:
    """A folder with a task list."""

    def __init__(self, lines):
        self.list = folders.tasklist(lines)
        self.folder = os.path.dirname(self.list)

    def command(self, *options):
        return [PYTF, self.list, "--quiet", *options]

    def start(self, *options):
        return subprocess.Popen(self.command(*options), env=ENV, stderr=subprocess.PIPE)

    def ends(self):
        for journal in glob.glob(self.list + "_workdir/nodes/**/*.jsonl", recursive=True):
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
    loop, children, ours, all_ours = [], [], [], []
    for _ in range(args.rounds):
        _, own, others = ratio.bare("null", args.tasks, 8)
        loop.append(own)
        children.append(own + others)
        place = Place(["/bin/true"] * args.tasks)
        farm = place.start("--proc", "8", "--logs", "none")
        _, status, usage = os.wait4(farm.pid, 0)
        farm.returncode = status
        whole = (usage.ru_utime + usage.ru_stime) * 1e6
        tasks = sum(end["used"]["user"] + end["used"]["sys"] for end in place.ends())
        ours.append((whole - tasks) / args.tasks)
        all_ours.append(whole / args.tasks)
    own, whole = statistics.median(loop), statistics.median(children)
    added = [mine - own for mine in ours]

    def row(what, values, goal=""):
        middle = statistics.median(values)
        return f"| {what} | {shown(values, 1)} | {middle / own:.2f} | {middle / whole:.2f} | {goal} |"

    return (
        "User and system time a task. What a task costs its farmer is mostly the spawn, which the bare loop pays\n"
        "too; what it costs the machine is mostly the task itself, its `exec` and its end.\n\n"
        "| | µs a task | of the loop itself | of the loop and its children | goal |\n|---|---|---|---|---|\n"
        + "\n".join(
            [
                row("the bare loop itself", loop),
                row("the bare loop and its children", children),
                row("pytf itself", ours, "≤ 0.30 of the loop and its children"),
                row("of that, beyond the bare loop", added, "≤ 0.30 of the loop itself"),
                row("pytf and its children", all_ours),
            ]
        )
    )


def against_peers(args):
    table = [
        "| peer | tasks | rounds | peer, tasks/s | pytf, tasks/s | ratio | of the bare loop | goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, program, full, quick, rounds, goal in peers.PEERS:
        path, count = peers.find(program), quick if args.quick else full
        if not path:
            table.append(f"| {name} | | | absent | | | | ≥ {goal} |")
            continue
        rounds, theirs, ours, floor = min(args.rounds, rounds), [], [], []
        for _ in range(rounds):
            place = Place(["/bin/true"] * count)
            theirs.append(peers.rate(program, path, place, count))
            ours.append(ratio.farm("null", 5000, 8))
            floor.append(ratio.bare("null", 5000, 8)[0])
        ours_to, floor_to = (statistics.median(rates) / statistics.median(theirs) for rates in (ours, floor))
        table.append(
            f"| {name} | {count:,} | {rounds} | {shown(theirs)} | {shown(ours)} | {ours_to:.1f} | {floor_to:.1f} | ≥ {goal} |"
        )
    return (
        "`/bin/true`, 8 at a time; pytf runs 5,000 of them, and so does the bare loop: nothing that starts\n"
        "processes can do better.\n\n" + "\n".join(table)
    )


def flat(args):
    # The longest once, since it takes six minutes; the shortest ten times a round.
    times = {1000: 10, 1_000_000: 0}
    counts = [1000, 3000] if args.quick else [1000, 10_000, 100_000, 1_000_000]
    rates, peaks = {count: [] for count in counts}, {count: [] for count in counts}
    for number in range(min(args.rounds, 3)):
        for count in counts:
            for _ in range(max(times.get(count, 1), number == 0)):
                rate, peak = whole_farm(count)
                rates[count].append(rate)
                peaks[count].append(peak)
    middles = [statistics.median(rates[count]) for count in counts]
    table = ["| tasks | rounds | tasks/s | ratio to the first | goal | at most resident, MiB |", "|---|---|---|---|---|---|"]
    table += [
        f"| {n:,} | {len(rates[n])} | {shown(rates[n])} | {rate / middles[0]:.2f} | 0.90–1.10 | {max(peaks[n]):.1f} |"
        for n, rate in zip(counts, middles)
    ]
    text = "`/bin/true`, `--logs none`, 8 slots, from the start of the program to its end.\n\n" + "\n".join(table)
    return text + plot("tasks", {"": (counts, middles)}, "tasks", "Rate over the number of tasks", args)


def whole_farm(count):
    """Tasks a second of one farm, and its largest resident memory in MiB."""
    place = Place(["/bin/true"] * count)
    start = time.monotonic()
    farm = place.start("--proc", "8", "--logs", "none")
    seconds, peak = watched(farm, start)
    if farm.returncode:
        sys.exit(f"pytf ended with {farm.returncode}: {farm.stderr.read().decode()}")
    with open(place.list + "_workdir/finished") as file:
        assert sum(1 for _ in file) == count, "every task is finished"
    return count / seconds, peak


def watched(process, start):
    """Waits for the end of a process; the seconds since `start`, and its largest resident memory in MiB."""
    ended, peak = select.poll(), 0
    pidfd = os.pidfd_open(process.pid)
    ended.register(pidfd, select.POLLIN)
    while not ended.poll(50):
        peak = max(peak, high_water(process.pid))
    seconds = time.monotonic() - start
    os.close(pidfd)
    process.wait()
    return seconds, peak


def high_water(pid):
    """The largest resident memory of a process so far, in MiB; 0 when it has ended."""
    found = re.search(r"VmHWM:\s+(\d+)", proc(pid, "status"))
    return int(found[1]) / 1024 if found else 0


def many(args):
    numbers, tasks = ([1, 4], [1000]) if args.quick else ([1, 4, 16, 64], [10_000, 20_000])
    goals = {1: 1, 4: 0.9, 16: 0.85, 64: 0.8}
    rates = {(count, number): [] for count in tasks for number in numbers}
    for _ in range(min(args.rounds, 3)):
        for count, number in rates:
            rates[count, number].append(processes.farm(number, 64, count)[0])
    table = ["| tasks | processes | tasks/s | ratio to one | goal |", "|---|---|---|---|---|"]
    curves = {}
    for count in tasks:
        middles = [statistics.median(rates[count, number]) for number in numbers]
        curves[f"{count:,} tasks"] = (numbers, middles)
        table += [
            f"| {count:,} | {n} | {shown(rates[count, n])} | {rate / middles[0]:.2f} | ≥ {goals[n]} |"
            for n, rate in zip(numbers, middles)
        ]
    text = "`/bin/true`, 64 slots in all, from the first start to the last end.\n\n" + "\n".join(table)
    return text + plot("processes", curves, "processes on one workdir", "Rate over the number of processes", args)


def plot(name, curves, label, title, args):
    return "" if args.print else page.plot(name, curves, label, title)


def proc(pid, name):
    with open(f"/proc/{pid}/{name}") as file:
        return file.read()


def idle(args):
    def state(pid):
        ticks = sum(map(int, proc(pid, "stat").rsplit(")", 1)[1].split()[11:13]))
        statuses = (proc(pid, f"task/{thread}/status") for thread in os.listdir(f"/proc/{pid}/task"))
        return ticks, sum(int(n) for text in statuses for n in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M))

    seconds = 10 if args.quick else 30
    place = Place(["sleep 600"] * 256)
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
    many = 100_000 if args.quick else 1_000_000
    for lines, classes, goal in [(1, 0, 15), (many, 0, 1000), (many, 20, 2000)]:
        took = []
        for _ in range(min(args.rounds, 3)):
            more = [f"  #PYTF time={1 + n}h mem={1 + n % 2}M" for n in range(classes)] or [""]
            tasks = ["/bin/true" + more[n % len(more)] for n in range(lines - 1)]
            place = Place(["/bin/sleep 60" + more[0]] + tasks)
            start = time.time_ns()
            farm = place.start("--proc", "1", "--logs", "none")
            while not (started := start_of_first(place)):
                if farm.poll() is not None:
                    sys.exit(f"pytf ended with {farm.returncode}")
                time.sleep(0.05)
            took.append((started * 1000 - start) / 1e6)
            farm.send_signal(signal.SIGTERM)
            farm.communicate()
        what = f", of {classes} classes" if classes else ""
        table.append(f"| {lines:,}{what} | {shown(took, 1)} | < {goal} |")
    return "From the start of the program to that of its first task, by the journal.\n\n" + "\n".join(table)


def start_of_first(place):
    for journal in glob.glob(place.list + "_workdir/nodes/**/*.jsonl", recursive=True):
        with open(journal) as file:
            for line in file:
                if line.startswith('{"event":"start"'):
                    return json.loads(line)["at"]
    return None


def memory(args):
    lines = 100_000 if args.quick else 1_000_000
    place = Place(["/bin/sleep 60 # ".ljust(99, "x")] * lines)
    farm = place.start("--proc", "1", "--logs", "none")
    while not start_of_first(place):
        time.sleep(0.2)
    peak = high_water(farm.pid)
    farm.send_signal(signal.SIGTERM)
    farm.communicate()
    return f"A list of {lines:,} lines of 100 bytes: at most {peak:.1f} MiB resident until the first task runs (goal: < 64)."


def shared(args):
    if not shutil.which("strace"):
        return "strace is absent."
    table = ["| tasks | system calls a task | bytes written a task |", "|---|---|---|"]
    for count in (500, 2000):
        place = Place(["/bin/true"] * count)
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
    "peers": ("Against others", against_peers),
    "flat": ("Over the number of tasks", flat),
    "processes": ("Over the number of processes", many),
    "idle": ("Idle", idle),
    "first": ("The first task", first),
    "memory": ("Memory", memory),
    "shared": ("On the file system", shared),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--tasks", type=int)
    parser.add_argument("--quick", action="store_true", help="fewer tasks and rounds")
    parser.add_argument("--print", action="store_true", help="write nothing into docs/")
    parser.add_argument("--no-install", action="store_true", help="make no virtual environment for peers and plots")
    args = parser.parse_args()
    if not args.no_install:
        peers.install()
    args.rounds = args.rounds or (2 if args.quick else 3)
    args.tasks = args.tasks or (1000 if args.quick else 10_000)
    caption = f"*{page.machine()}. Medians of {args.rounds} rounds or fewer, in brackets the least and the most.*"
    measured = {}
    for row in args.rows:
        title, measure = ROWS[row]
        start = time.monotonic()
        measured[title] = f"{measure(args)}\n\n{caption}"
        print(f"### {title}\n\n{measured[title]}\n")
        print(f"{row}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if not args.print:
        page.write([title for title, _ in ROWS.values()], measured)


if __name__ == "__main__":
    main()
