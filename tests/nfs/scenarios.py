"""The scenarios. Each gets the machines and a farm on each of its mounts, at the same time;
what it does to a machine, all of them see. It fails with a Failure."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable

from rig import until

SCENARIOS = {}
KILLS = int(os.environ.get("PYTF_TEST_KILLS", "4"))
MOUNTS = {"4": "vers=4.2", "3": "vers=3", "3_nolock": "vers=3,nolock"}


@dataclass
class Scenario:
    """A scenario: how farmers may end, on which mounts, with which lock (the one that the
    program chooses by itself when empty), and whether the short form has it."""

    function: Callable
    allowed: set
    mounts: tuple = tuple(MOUNTS)
    lock: str = ""
    is_short: bool = False
    # Farmers take each other for dead after so many seconds. Who starts gives the lock up,
    # and ends, after half of that.
    takeover: int = 20
    # Mounts on which a node is alive and cannot be heard: until it knows, it runs what
    # others run again.
    may_overlap: tuple = ()


def storm(_, farms):
    """Farmers are killed, again and again, and others come in their place."""

    def on(farm):
        farm.tasks(30 + 10 * KILLS, seconds=1)
        farm.start_all(each=2)
        for nth in range(KILLS):
            farm.wait_for_starts((nth + 0.5) / (KILLS + 1))
            victim = farm.random.choice(farm.running() or farm.farmers)
            farm.kill(victim)
            farm.start(victim.node)

    with ThreadPoolExecutor() as pool:
        list(pool.map(on, farms))


def work_on_all(rig, farms):
    """All farmers have joined, and the second client runs tasks of each farm; that client."""
    node = rig.clients[1]
    gate = rig.home / f"gate_{farms[0].name}"

    def on(farm):
        farm.tasks(240, seconds=1.5, gate=f"/mnt/host/{gate.name}")
        farm.start_all(each=2)
        farm.wait_for_farmers()

    with ThreadPoolExecutor() as pool:
        list(pool.map(on, farms))
    until(lambda: all(farm.has_work_on(node) for farm in farms), f"tasks of all farms run on {node.name}", 120)
    # Not before: the first must not have ended when the last begins.
    gate.touch()
    return node


def power(rig, farms):
    """A client loses power, with all of its farmers; the other one has all of its work."""
    node = work_on_all(rig, farms)
    node.power_off()
    for farm in farms:
        farm.abandon(node)
    for farm in farms:
        farm.wait_for_all()
    node.boot().ready().mount(rig.mounts)


def cut(rig, farms):
    """A client cannot be reached for longer than the takeover time, and then it can."""
    node = work_on_all(rig, farms)
    node.cut()
    time.sleep(1.5 * max(farm.takeover for farm in farms))
    node.heal()


def reboot(rig, farms):
    """The server loses power in the middle, and is there again."""
    work_on_all(rig, farms)
    rig.reboot_server()


def steer(rig, farms):
    """A run is steered from each client in turn, and obeyed on both."""

    def on(farm):
        one, two = rig.clients
        farm.tasks(500, seconds=1.5, first=(600, 600))
        farm.start_all(each=2)
        farm.wait_for_farmers()
        farm.wait_for_starts(0.05)
        # One runs on each client, or both on the same one.
        farm.cancel(one, 0, 480, 481)
        farm.cancel(two, 1, 482)
        farm.edit(one, out=483, changed=484)
        farm.edit(two, out=485, changed=486)
        farm.obeyed(one, "pause", note="the run is paused")
        until(farm.is_quiet, f"what ran of {farm.name} has ended", 60)
        begun = farm.started()
        farm.obeyed(two, "resume", note="the run is resumed")
        until(lambda: farm.started() > begun, f"tasks of {farm.name} are started again", 60)
        farm.obeyed(two, "pause", "--stop", note="running tasks are stopped")
        farm.obeyed(one, "resume", note="running tasks are continued")
        farm.pytf(one, "drain", "--node", two.name)
        until(
            lambda: all(farmer.node is one for farmer in farm.running()),
            f"the farmers of {farm.name} on {two.name} leave",
            60,
        )
        farm.pytf(two, "stop")
        farm.wait_for_all()
        # The rest is too much for the last one alone.
        farm.start_all(each=2)
        farm.wait_for_all()

    with ThreadPoolExecutor() as pool:
        list(pool.map(on, farms))


KILLED = {-9, 0, 1}
SCENARIOS["storm"] = Scenario(storm, KILLED, is_short=True)
SCENARIOS["storm_link"] = Scenario(storm, KILLED, ("4", "3"), lock="link")
SCENARIOS["storm_fcntl"] = Scenario(storm, KILLED, ("4", "3"), lock="fcntl")
SCENARIOS["steer"] = Scenario(steer, {0, 1, 75})
SCENARIOS["power"] = Scenario(power, {0, 1, None}, is_short=True)
SCENARIOS["cut"] = Scenario(cut, {0, 1, 75, 76}, is_short=True, may_overlap=tuple(MOUNTS))
# No client is heard for as long as the server is gone, and in its grace period.
SCENARIOS["reboot"] = Scenario(
    reboot, {0, 1, 75, 76}, is_short=True, takeover=40, may_overlap=("3_nolock",)
)
