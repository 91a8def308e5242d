"""A run that is steered from the login node's place, while it works on four nodes.

Each command goes through the workdir alone. What it does is a fact that the scenario
waits for; how long that took is printed.
"""

import json
import time

from checker import require
from cluster import output_of, until
from farm import Farm, scenario, shorten


class Steering:
    """Commands about one farm, and what its journals say."""

    def __init__(self, cluster, farm):
        self.cluster = cluster
        self.farm = farm
        self.took = []

    def pytf(self, *words, **variables):
        """Runs a command on the head, where no node is and no farmer."""
        env = {**self.cluster.env, **variables}
        return output_of(self.cluster.home / "bin/pytf", *words, env=env, cwd=self.farm.folder)

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

    def order(self, words, holds, what, **variables):
        """Gives an order, and waits until it is obeyed."""
        began = time.monotonic()
        self.pytf(*words, **variables)
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
    """cancel, pause, resume, pause --stop, add, edit, wait, drain --node, stop, by commands on
    the head."""
    farm = Farm(cluster).tasks(*["600 0"] * 2, *["0.5 0"] * 2400, *["0.5 3"] * 20)
    job = farm.submit(pytf="--grace 2")
    farm.wait_for_starts(40)
    steering = Steering(cluster, farm)
    workdir = farm.workdir

    # Two that run and ten that wait; one of those that run is tried again later.
    cancelled = {0, *range(2400, 2410)}
    steering.order(
        ("cancel", workdir, "0-1,2400-2409", "--reason", "wrong seed"),
        lambda: {0, 1} <= {task for task, _ in farm.books().failed},
        "what ran of the cancelled tasks has ended",
    )
    ends = sorted(farm.books().attempts_of("cancelled"))
    require(ends == [0, 1], f"journals have as cancelled: {ends}")
    require(farm.books().cancelled == {1, *cancelled}, f"failed has {sorted(farm.books().cancelled)}")
    said = steering.pytf("status", workdir, "--task", 2400)
    require("wrong seed" in said, f"status does not say why: {said}")
    shorten(farm)
    steering.pytf("retry", workdir, 1)

    steering.noted("pause", workdir, note="the run is paused")
    # Those that were cancelled never did.
    until(lambda: farm.ended() == farm.started() - 2, "what ran has ended")
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

    # One is taken out, one is another command from now on, and one is new.
    editor = f"sed -i -e '/^2410 /d' -e 's|^2411 .*|2411 {farm.line('0.1 0')}|' -e '$a + {farm.line('0.1 5')}'"
    steering.order(("edit", workdir), lambda: True, "", VISUAL=editor)
    edited = {first + 2, first + 3}
    cancelled |= {2410, 2411}
    require(cancelled <= farm.books().cancelled, "edit has cancelled what it says")
    require(edited <= set(farm.books().tasks), "edit has added what it says")

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
    reasons = {why for _, _, why in books.requeued}
    require(reasons <= {"interrupted", "retry"}, f"put back: {reasons}")
    books = farm.resume()
    require({first, first + 1, *edited} <= set(books.done()), "the added tasks ran")
    require(1 in {task for task, _ in books.finished}, "what was cancelled and tried again has finished")
    require(books.cancelled == cancelled, f"cancelled are {sorted(books.cancelled)}")
    ran = [task for task in cancelled - {0} if (farm.effects / str(task)).exists()]
    require(not ran, f"cancelled, and ran: {ran}")
    return f"{'; '.join(steering.took)}; then resumed exactly"
