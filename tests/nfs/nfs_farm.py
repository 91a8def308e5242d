"""What scenarios are made of: a task list and its workdir on the file system, and
farmers that work on it."""

import json
import random

from rig import Command, Failure, until  # Its place is where the checker is found, too.

import checker

SLOTS = 3


class Farm:
    """A task list and its workdir, in a folder of their own on one of the mounts."""

    def __init__(self, rig, name, mount, lock, takeover, may_overlap):
        self.rig = rig
        self.name = name
        self.mount = mount
        self.lock = lock
        self.takeover = takeover
        self.may_overlap = may_overlap
        self.size = 0
        self.cancelled = set()
        self.kills = 0
        self.random = random.Random()
        self.folder = f"/mnt/{mount}/{name}"
        self.home = rig.home / name
        self.home.mkdir()
        self.effects = rig.reports.folder / name
        self.effects.mkdir()
        self.farmers = []
        self.abandoned = set()
        self.is_judged = False

    def tasks(self, count, seconds, first=(), gate=""):
        """The list: so many tasks, of so many seconds on average; the first ones of exactly so many.
        They wait for a gate to be opened."""
        times = [*first, *(self.random.uniform(0, 2 * seconds) for _ in range(count - len(first)))]
        lines = [f"{self.line(time)} {gate}\n" for time in times]
        (self.home / "tasks.txt").write_text("".join(lines))
        self.rig.clients[0].run(f"mkdir {self.folder} && cp /mnt/host/{self.name}/tasks.txt {self.folder}/")

    def line(self, seconds):
        """The command of one more task: each fiftieth fails."""
        number, self.size = self.size, self.size + 1
        return f"/mnt/host/./work {self.name}/{number} {seconds:.3f} {int(number % 50 == 49)}"

    def start(self, node):
        """Starts a farmer on a node."""
        lock = f"--lock {self.lock}" if self.lock else ""
        options = f"--proc {SLOTS} --takeover {self.takeover} {lock}"
        farmer = Command(node, f"cd {self.folder} && exec /mnt/host/pytf tasks.txt {options} 2>&1")
        self.farmers.append(farmer)
        return farmer

    def start_all(self, each):
        """So many on each client."""
        for _ in range(each):
            for node in self.rig.clients:
                self.start(node)

    def running(self):
        return [farmer for farmer in self.farmers if farmer.is_running() and farmer not in self.abandoned]

    def kill(self, farmer):
        """SIGKILL; counted when it was still there."""
        farmer.node.run(f"kill -9 {farmer.pid} || true")
        farmer.reader.join(60)
        self.kills += farmer.status == -9

    def abandon(self, node):
        """The node is gone, and so are its farmers: nobody tells how they ended."""
        self.abandoned |= {farmer for farmer in self.farmers if farmer.node is node}

    def started(self):
        """How many tasks have begun."""
        return sum(1 for _ in self.effects.iterdir())

    def wait_for_starts(self, share, within=120):
        count = int(self.size * share)
        until(lambda: self.started() >= count, f"{count} tasks of {self.name} have begun", within)

    def wait_for_farmers(self, within=120):
        """Waits until all have joined, by the state that the server has: who has not may
        say that it cannot."""
        lock = f"/srv/disk/export/{self.name}/tasks.txt_workdir/lock"
        live = f'"live":{len(self.farmers)},'

        def have_joined():
            return live in self.rig.server.run(f"grep -aoh '\"live\":[0-9]*,' {lock} || true")

        until(have_joined, f"the farmers of {self.name} have joined", within)

    def pytf(self, node, command, *words):
        """A command about the run, from a client."""
        return node.run(f"cd {self.folder} && /mnt/host/pytf {command} tasks.txt_workdir {' '.join(words)} 2>&1")

    def cancel(self, node, *tasks):
        """Cancels tasks from a client, and waits until the journals that the server has say that
        those of them that have begun were ended."""
        ended = '"outcome":"cancelled"'
        count = self.notes(ended) + sum((self.effects / str(task)).exists() for task in tasks)
        self.pytf(node, "cancel", ",".join(map(str, tasks)))
        self.cancelled.update(tasks)
        until(lambda: self.notes(ended) >= count, f"cancelled tasks of {self.name} have ended", 120)

    def edit(self, node, out, changed):
        """Edits what waits, from a client: one task is taken out, one is another command, and one is
        new."""
        script = f"/^{out} /d; s|^{changed} .*|{changed} {self.line(0.1)}|; $a + {self.line(0.1)}"
        (self.home / "editor").write_text(f"#!/bin/sh\nexec sed -i '{script}' \"$1\"\n")
        (self.home / "editor").chmod(0o755)
        node.run(f"cd {self.folder} && VISUAL=/mnt/host/{self.name}/editor /mnt/host/pytf edit tasks.txt_workdir 2>&1")
        self.cancelled.update((out, changed))

    def notes(self, text):
        """How often farmers have noted this, by the journals that the server has."""
        nodes = f"/srv/disk/export/{self.name}/tasks.txt_workdir/nodes"
        return int(self.rig.server.run(f"grep -rhoF '{text}' {nodes} | wc -l"))

    def obeyed(self, node, command, *words, note):
        """Gives an order from a client, and waits until every farmer has noted that it obeys."""
        count = self.notes(note) + len(self.running())
        self.pytf(node, command, *words)
        until(lambda: self.notes(note) >= count, f"the farmers of {self.name} note: {note}", 120)

    def is_quiet(self):
        """Whether no task runs: one that was cancelled never comes to its end."""
        happened = checker.effects(self.effects, may_overlap=True).items()
        last = [attempts[-1] for task, attempts in happened if attempts and task not in self.cancelled]
        return all(attempt.end is not None for attempt in last)

    def has_work_on(self, node):
        """Whether tasks run on a node at this moment."""
        happened = checker.effects(self.effects, may_overlap=True)
        ongoing = [attempts[-1] for attempts in happened.values() if attempts and attempts[-1].end is None]
        return any(attempt.host == node.name for attempt in ongoing)

    def wait_for_all(self, within=240):
        until(lambda: not self.running(), f"the farmers of {self.name} end", within)

    def complete(self, allowed):
        """Another farmer finishes what is left, if anything, and all of it is judged.
        `allowed`: how the others may have ended. Returns what there is to say about it."""
        self.is_judged = True
        for farmer in self.farmers:
            if farmer not in self.abandoned and farmer.status not in allowed:
                said = farmer.output.decode(errors="replace")
                raise Failure(f"a farmer on {farmer.node.name} ended with {farmer.status}: {said[-2000:]}")
        left = self.left(self.rig.clients[0])
        last = self.start(self.rig.clients[0])
        last.reader.join(120)
        if last.status not in (0, 1):
            said = last.output.decode(errors="replace")
            raise Failure(f"the last farmer ended with {last.status}: {said[-2000:]}")
        for node in self.rig.clients:
            checker.require(self.left(node) == 0, f"{node.name} sees tasks without a result")
        # As the server has it, whatever clients believe.
        self.rig.server.run(f"cp -r /srv/disk/export/{self.name}/tasks.txt_workdir /mnt/host/{self.name}/ && sync")
        workdir = self.home / "tasks.txt_workdir"
        books = checker.check(workdir, self.effects, complete=True, may_rework=True, may_overlap=self.may_overlap)
        checker.require(books.cancelled == self.cancelled, f"cancelled are {sorted(books.cancelled)}")
        happened = checker.effects(self.effects, may_overlap=self.may_overlap)
        starts = sum(len(attempts) for attempts in happened.values())
        ends = sum(attempt.end is not None for attempts in happened.values() for attempt in attempts)
        broken = sum(farmer.output.count(b"its lock is broken") for farmer in self.farmers)
        return (
            f"{self.size} tasks, {self.kills} kills, {left} left for the last farmer, {starts - self.size} started again, "
            f"{ends - self.size} ended again, none lost or doubled; locks broken: {broken}"
        )

    def left(self, node):
        """How many tasks have no result, as a client sees it."""
        said = node.run(f"cd {self.folder} && /mnt/host/pytf status --json tasks.txt_workdir 2>/dev/null || true")
        counts = json.loads(said)["tasks"]
        return counts["total"] - counts["finished"] - counts["failed"] - counts["cancelled"]
