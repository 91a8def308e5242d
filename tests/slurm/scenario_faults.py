"""Nodes that die and nodes that are cut off: scenario 5."""

import json

from checker import require
from cluster import freezer, until
from farm import Farm, scenario

# Farmers take each other for dead after this. Shorter than the two minutes of
# the program, since a test waits for it.
TAKEOVER = "--takeover 6"


@scenario(slurmd_timeout=10)
def node_dies(cluster):
    """One node of four loses power under --no-kill: the other three complete
    everything in the same job."""
    farm = Farm(cluster).tasks(*["0.3 0"] * 500)
    job = farm.submit("--no-kill", pytf=TAKEOVER)
    farm.wait_for_starts(60)
    victim = cluster.nodes[2]
    victim.power_off()
    state = job.ended(within=120)
    books = farm.check(complete=True, may_rework=True)
    dead = [journal for journal in books.journals if journal.why is None]
    require([journal.host for journal in dead] == [victim.name], f"left without a word: {dead}")
    require(len(books.journals) == 4 and books.jobs() == {job.id}, "one job, four farmers")
    lost = [task for task, _, why in books.requeued if why == "lost"]
    require(lost, "the dead node's tasks were not put back")
    node_seen = "Node failure" in farm.said()
    return (
        f"{len(lost)} tasks of the dead node done by the others in the same job: {state}, status {job.exit()};"
        f" Slurm {'noticed' if node_seen else 'noticed nothing'} meanwhile"
    )


@scenario(slurmd_timeout=10)
def slurmd_dies(cluster):
    """slurmd of one node is killed, its step lives on: no task is disturbed."""
    farm = Farm(cluster).tasks(*["0.3 0"] * 700)
    job = farm.submit("--no-kill", pytf=TAKEOVER)
    farm.wait_for_starts(60)
    victim = cluster.nodes[2]
    pid = (cluster.home / f"run/slurmd-{victim.name}.pid").read_text().strip()
    victim.run("kill", "-9", pid)
    state = job.ended(within=120)
    until(lambda: all(journal.why for journal in farm.check(at_rest=False).journals), "the last farmer leaves")
    books = farm.check(complete=True, nodes=farm.names())
    require(not books.requeued, f"put back: {books.requeued}")
    return f"{state}, status {job.exit()}; nothing was put back"


@scenario(nodes=5, slurmd_timeout=10)
def node_cut_off(cluster):
    """The link of one node is cut. Slurm requeues the job onto other nodes,
    and the rank that nobody can reach lives on beside the new run, since it
    still has the file system. Then the link is healed."""
    farm = Farm(cluster).tasks(*["0.5 0"] * 1600)
    job = farm.submit("--requeue", pytf=f"{TAKEOVER} --grace 2")
    farm.wait_for_starts(60)
    victim = cluster.nodes[2]
    victim.cut()
    job.wait_for("PENDING", within=120)
    require(_farmers(victim), "the isolated rank died with its job")
    job.update("StartTime=now")
    job.wait_for("RUNNING")
    until(lambda: len(_hosts_now(farm)) >= 5, "the new run works beside the isolated rank")
    beside = bool(_farmers(victim))
    before = farm.started()
    farm.wait_for_starts(min(before + 100, farm.size))
    victim.heal()
    job.ended(within=180)
    until(lambda: not _farmers(victim), "the isolated rank is gone")
    require(beside, "the isolated rank did not live on beside the new run")
    books = farm.resume(may_rework=True)
    return f"{len(books.journals)} farmers, the isolated one beside the new run; all {farm.size} tasks done once"


@scenario()
def node_stands_still(cluster):
    """One node of four stands still for longer than the takeover time, as one
    does that the file system does not answer; then it runs on. Its farmer finds
    itself sealed."""
    if not freezer():
        return "not tried: no freezer here"
    farm = Farm(cluster).tasks(*["0.3 0"] * 600)
    job = farm.submit("--no-kill", pytf=TAKEOVER)
    farm.wait_for_starts(60)
    victim = cluster.nodes[2]
    states = cluster.freezer_states(victim)
    for state in states:
        state.write_text("FROZEN")
    until(lambda: list((farm.workdir / "nodes/done").glob("*.jsonl")), "the others seal the silent farmer")
    for state in states:
        state.write_text("THAWED")
    job.ended()
    # What it records after the seal would be a second result for a task.
    books = farm.check(complete=True, may_rework=True)
    require("75" not in job.exit(), f"status {job.exit()}")
    return f"sealed, thawed, status {job.exit()}; all {len(books.tasks)} tasks done once"


@scenario()
def node_is_sick(cluster):
    """One node of four fails every task at once. Its farmer stops claiming, and
    the others do what it failed."""
    sick = cluster.nodes[1].name
    farm = Farm(cluster).tasks(*[f"0.3 0 not-on={sick}"] * 400)
    job = farm.submit()
    state = job.ended()
    books = farm.check(complete=True, may_rework=True)
    require(not books.failed, f"{len(books.failed)} tasks failed for good")
    failed = [end for journal in books.journals for end in journal.ends if end["outcome"] == {"exit": 9}]
    require(len(failed) >= 8, f"{len(failed)} attempts failed")
    require("this node is sick" in farm.said(), "the sick node was not reported")
    status = json.loads(cluster.nodes[0].run("pytf", "status", "--json", farm.workdir))
    (node,) = (node for node in status["nodes"] if node["node"] == sick)
    require(node["health"] == "sick" and node["forgiven"] == len(failed), f"status has {node}")
    advice = [advice["text"] for advice in status["advice"] if advice["kind"] == "sick-node"]
    require(any(sick in text for text in advice), f"the advice is {advice}")
    return f"{state}, status {job.exit()}: {len(failed)} of {farm.size} tasks failed on {sick}, and all succeeded elsewhere"


def _farmers(node):
    """The command lines of the farmers on a node."""
    text = node.run("ps", "-e", "-o", "args=")
    return [line for line in text.splitlines() if "/bin/pytf " in line]


def _hosts_now(farm):
    """Names of the nodes that have had a part so far."""
    return {path.name.split(".")[0] for path in (farm.workdir / "nodes").glob("*.jsonl")}
