"""A run that is steered from the login node's place, while it works on four nodes.

Each command goes through the workdir alone. What it does is a fact that the scenario
waits for; how long that took is printed.
"""

import json
import time

from checker import require
from cluster import output_of, until
from farm import Farm, scenario


class Steering:
    """Commands about one farm, and what its journals say."""

    def __init__(self, cluster, farm):
        self.cluster = cluster
        self.farm = farm
        self.took = []

    def pytf(self, *words):
        """Runs a command on the head, where no node is and no farmer."""
        return output_of(self.cluster.home / "bin/pytf", *words, env=self.cluster.env, cwd=self.farm.folder)

    def records(self):
        """All records of each journal."""
        for path in (self.farm.workdir / "nodes").rglob("*.jsonl"):
            try:
                lines = path.read_text().splitlines(keepends=True)
            except FileNotFoundError:
                # It moved: it is in the other folder the next time.
                continue
            yield [json.loads(line) for line in lines if line.endswith("\n")]

    def count(self, holds):
        """In how many journals such a record is."""
        return sum(any(holds(record) for record in journal) for journal in self.records())

    def notes(self, text):
        """How often the farmers have noted this, all together."""
        return sum(record.get("text") == text for journal in self.records() for record in journal)

    def order(self, words, holds, what):
        """Gives an order, and waits until it is obeyed."""
        began = time.monotonic()
        self.pytf(*words)
        until(holds, what, within=60)
        took = time.monotonic() - began
        shown = " ".join(word for word in map(str, words) if word[:2] == "--" or word.isalpha())
        self.took.append(f"{shown} {took:.1f} s")

    def noted(self, *words, note, by=4):
        """The same, where the farmers write a note."""
        before = self.notes(note)
        self.order(words, lambda: self.notes(note) >= before + by, f"{by} farmers note: {note}")


@scenario()
def steer(cluster):
    """pause, resume, pause --stop, add, wait, drain --node, stop, by commands on the head."""
    farm = Farm(cluster).tasks(*["0.5 0"] * 2400, *["0.5 3"] * 20)
    job = farm.submit(pytf="--grace 2")
    farm.wait_for_starts(40)
    steering = Steering(cluster, farm)
    workdir = farm.workdir

    steering.noted("pause", workdir, note="the run is paused")
    until(lambda: farm.ended() == farm.started(), "what ran has ended")
    begun = farm.started()
    require(begun < farm.size, "nothing was left to pause")
    steering.noted("resume", workdir, note="the run is resumed")
    until(lambda: farm.started() > begun, "tasks are started again")

    steering.noted("pause", workdir, "--stop", note="running tasks are stopped")
    ended = farm.ended()
    require(ended < farm.started(), "no task was stopped")
    state = json.loads(steering.pytf("status", workdir, "--json"))
    require(state["tasks_stopped"] and state["paused"], "status says so")
    steering.noted("resume", workdir, note="running tasks are continued")
    until(lambda: farm.ended() > ended, "stopped tasks go on")

    first = farm.size
    # They wait behind all others: that they ran is seen at the end.
    added = farm.added("0.1 0", "0.1 4")
    said = steering.pytf("add", workdir, "--from", added)
    require(f"{first}-{first + 1}" in said.splitlines(), f"the ids of the added tasks: {said}")

    drained = farm.names()[2]
    left = lambda: steering.count(lambda record: record["event"] == "leave")
    steering.order(
        ("drain", workdir, "--node", drained),
        lambda: left() == 1,
        f"the farmer of {drained} leaves",
    )
    hosts = {journal.host: journal.why for journal in farm.books().journals}
    require(hosts[drained] == "pytf drain", f"who left, and why: {hosts}")

    some = farm.books().done()[:5]
    steering.order(("wait", workdir, ",".join(map(str, sorted(some))), "--timeout", "1m"), lambda: True, "")
    steering.order(("stop", workdir), lambda: left() == 4, "all farmers leave")
    job.ended()
    require(job.exit() == "75:0", f"status {job.exit()}: {farm.said()}")
    books = farm.check()
    require(books.waiting, "nothing was left to stop")
    require({why for _, _, why in books.requeued} <= {"interrupted"}, "put back: only what was stopped")
    books = farm.resume()
    require({first, first + 1} <= set(books.done()), "the added tasks ran")
    return f"{'; '.join(steering.took)}; then resumed exactly"
