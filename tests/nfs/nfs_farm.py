"""What scenarios are made of: a task list and its workdir on the file system, and
farmers that work on it."""

import random

from rig import Command, Failure, until  # Its place is where the checker is found, too.

import checker

# Farmers take each other for dead after this. Shorter than the two minutes of the
# program, since a test waits for it; longer than the server's reboot.
TAKEOVER = 20
SLOTS = 4


class Farm:
    """A task list and its workdir, in a folder of their own."""

    def __init__(self, rig, name, count, seconds, options=""):
        self.rig = rig
        self.name = name
        self.options = options
        self.size = count
        self.random = random.Random(f"{name} {random.random()}")
        self.folder = f"/mnt/nfs/{name}"
        self.home = rig.home / name
        self.effects = self.home / "effects"
        self.effects.mkdir(parents=True)
        rig.reports.folder = self.effects
        lines = (
            f"/mnt/host/./work {number} {self.random.uniform(0, 2 * seconds):.3f} {int(number % 50 == 49)}\n"
            for number in range(count)
        )
        (self.home / "tasks.txt").write_text("".join(lines))
        rig.clients[0].run(f"mkdir {self.folder} && cp /mnt/host/{name}/tasks.txt {self.folder}/")
        self.farmers = []

    def start(self, node):
        """Starts a farmer on a node."""
        command = f"cd {self.folder} && exec /mnt/host/pytf tasks.txt --proc {SLOTS} --takeover {TAKEOVER} {self.options} 2>&1"
        farmer = Command(node, command)
        self.farmers.append(farmer)
        return farmer

    def start_all(self, each):
        """So many on each client."""
        for _ in range(each):
            for node in self.rig.clients:
                self.start(node)

    def running(self):
        return [farmer for farmer in self.farmers if farmer.is_running()]

    def kill(self, farmer):
        """SIGKILL; true when it was still there."""
        farmer.node.run(f"kill -9 {farmer.pid} || true")
        farmer.reader.join(60)
        return farmer.status == -9

    def started(self):
        """How many tasks have begun."""
        return sum(1 for _ in self.effects.iterdir())

    def wait_for_starts(self, share, within=300):
        count = int(self.size * share)
        until(lambda: self.started() >= count, f"{count} tasks of {self.name} have begun", within)

    def wait_for_all(self, within=600):
        until(lambda: not self.running(), f"the farmers of {self.name} end", within)

    def statuses(self):
        return sorted({farmer.status for farmer in self.farmers if farmer.status is not None})

    def complete(self):
        """Another farmer finishes what is left, and all of it is judged. Returns what
        there is to say about it."""
        last = self.start(self.rig.clients[0])
        last.reader.join(300)
        if last.status not in (0, 1):
            raise Failure(f"the last farmer ended with {last.status}: {last.output.decode(errors='replace')}")
        allowed = {-9, 0, 1, 75, 76}
        wrong = [farmer for farmer in self.farmers if farmer.status is not None and farmer.status not in allowed]
        if wrong:
            raise Failure(f"a farmer ended with {wrong[0].status}: {wrong[0].output.decode(errors='replace')}")
        # As the server has it, whatever clients believe.
        self.rig.server.run(
            f"rm -rf /mnt/host/{self.name}/tasks.txt_workdir;"
            f"cp -r /srv/disk/export/{self.name}/tasks.txt_workdir /mnt/host/{self.name}/ && sync"
        )
        checker.check(self.home / "tasks.txt_workdir", self.effects, complete=True, may_rework=True)
        happened = checker.effects(self.effects)
        starts = sum(len(attempts) for attempts in happened.values())
        ends = sum(attempt.end is not None for attempts in happened.values() for attempt in attempts)
        return f"{self.size} tasks, {starts - self.size} started again, {ends - self.size} finished again, none lost or doubled; statuses {self.statuses()}"
