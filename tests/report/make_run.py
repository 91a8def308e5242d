#!/usr/bin/env python3
"""Makes a workdir as a large run leaves it, for timing the views.

    make_run.py DIR TASKS NODES SLOTS [--live] [--gpus N]

Every fiftieth task fails, one in a thousand is tried again elsewhere and
finishes. With --live a tenth of the tasks still wait and some run. With --gpus
each node has N GPUs, which its slots share; the last of the first node idles.
"""

import json
import math
import os
import random
import sys
import time
import zlib


def state(tasks, finished, failed, left, live):
    known = lambda n, size: {"len": size, "lines": n}
    entry = b'{"seq":2,"at":1,"did":"prepare"}\n'
    body = {
        "format": 1, "seq": 2, "mechanism": "flock",
        "queue": {"len": left[1], "cursor": 0, "left": left[0], "generation": 1},
        "finished": known(*finished), "failed": known(*failed),
        "requeued": known(0, 0), "tasks": known(*tasks), "dropped": 0,
        "live": live, "next_farmer": live, "seals": 0, "epoch": 1, "feeding": 0,
        "interrupted": 0, "log": len(entry), "last": [len(entry), zlib.crc32(entry)],
    }
    text = json.dumps(body, separators=(",", ":")).encode()
    place = b"%08x %s" % (zlib.crc32(text), text)
    return (place.ljust(1023) + b"\n") + b"\0" * 1024 + b" " * 511 + b"\n" + entry


def token(node, gpu):
    return f"GPU-{zlib.crc32(b'%d %d' % (node, gpu)):08x}-5a1e-4c7b"


def measured(node, gpus, begin, second):
    """How busy the GPUs of a node are: more and more, now and then not."""
    def one(gpu):
        wave = 35 + 25 * math.sin(second / 400 + node + gpu) + random.randrange(20)
        idles = node == 0 and gpu == gpus - 1
        load = random.randrange(4) if idles or second < 20 else int(wave)
        memory = 3 if second < 20 else min(95, 20 + second // 90 + 4 * gpu)
        return {"gpu": token(node, gpu), "load": load, "memory": memory}
    record = {"event": "gpus", "at": begin + second * 1_000_000,
              "gpus": [one(gpu) for gpu in range(gpus)]}
    return json.dumps(record, separators=(",", ":")) + "\n"


def main():
    where, tasks, nodes, slots = sys.argv[1], *map(int, sys.argv[2:5])
    live = "--live" in sys.argv
    gpus = int(sys.argv[sys.argv.index("--gpus") + 1]) if "--gpus" in sys.argv else 0
    random.seed(tasks)
    for folder in ("nodes", "logs"):
        os.makedirs(os.path.join(where, folder), exist_ok=True)
    command = lambda i: f"./simulate --seed {i} --output results/{i:07}.h5"
    begin = int(time.time() * 1e6) - 3_600_000_000
    done = tasks - tasks // 10 if live else tasks
    journals, clocks = [], []
    for node in range(nodes):
        name = f"node{node}.77.{4000 + node}.{begin // 1000 + node}"
        journals.append(open(f"{where}/nodes/{name}.jsonl", "w", buffering=1 << 20))
        header = {"event": "header", "version": 1, "farmer": name, "host": f"node{node}",
                  "pid": 4000 + node, "job": "77", "rank": node, "slots": slots,
                  "at": begin, "pytf": "0.1.0", "cpus": 64, "memory": 256 << 20}
        if gpus:
            header["devices"] = [{"gpus": [token(node, slot % gpus)]} for slot in range(slots)]
        journals[-1].write(json.dumps(header, separators=(",", ":")) + "\n")
        for second in range(0, 3600 if gpus else 0, 20):
            journals[-1].write(measured(node, gpus, begin, second))
        clocks.append([begin + random.randrange(1000) for _ in range(slots)])
    mean = 3_500_000_000 * nodes * slots / tasks
    finished, failed = open(f"{where}/finished", "w"), open(f"{where}/failed", "w")
    counts = [0, 0]

    def attempt(task, number, node, outcome):
        slot = min(range(slots), key=clocks[node].__getitem__) if slots < 9 else random.randrange(slots)
        at, us = clocks[node][slot], int(random.lognormvariate(0, 0.6) * mean * 0.8)
        clocks[node][slot] += us + 40
        peak = random.randrange(30_000, 900_000)
        journals[node].write(
            f'{{"event":"end","id":{task},"attempt":{number},"slot":{slot},"at":{at},"us":{us},'
            f'"outcome":{{"exit":{outcome}}},"used":{{"user":{us * 9 // 10},"sys":{us // 50},'
            f'"peak":{peak},"written":{peak // 8}}},"log":{{"file":"logs/{task // 1000}/log_{task}"}}}}\n')

    for task in range(done):
        node = random.randrange(nodes)
        if task % 50 == 7:
            attempt(task, 1, node, 3)
            if task % 1000 == 7:
                attempt(task, 2, (node + 1) % nodes, 0)
        else:
            attempt(task, 1, node, 0)
        ok = task % 50 != 7 or task % 1000 == 7
        (finished if ok else failed).write(f"{task} {command(task)}\n")
        counts[not ok] += 1
    running = 0
    for node, journal in enumerate(journals):
        for slot in range(slots if live else 0):
            task = done + running
            if task < tasks:
                journal.write(f'{{"event":"start","id":{task},"attempt":1,"slot":{slot},'
                              f'"pid":1,"at":{clocks[node][slot]}}}\n')
                running += 1
        if not live:
            journal.write(f'{{"event":"leave","at":{max(clocks[node])},"why":"nothing is left"}}\n')
            os.makedirs(f"{where}/nodes/done", exist_ok=True)
            over = os.path.basename(journal.name).replace(".jsonl", ".9.jsonl")
            os.rename(journal.name, f"{where}/nodes/done/{over}")
        journal.close()
    with open(f"{where}/tasks", "w") as out:
        out.writelines(f"{i} {command(i)}\n" for i in range(tasks))
    left = tasks - done - running
    with open(f"{where}/toprocess", "w") as out:
        out.writelines(f"{i} {command(i)}\n" for i in range(tasks - left, tasks))
    for file in (finished, failed):
        file.close()
    size = lambda name: os.path.getsize(f"{where}/{name}")
    with open(f"{where}/lock", "wb") as out:
        out.write(state((tasks, size("tasks")), (counts[0], size("finished")),
                        (counts[1], size("failed")), (left, size("toprocess")),
                        nodes if live else 0))


main()
