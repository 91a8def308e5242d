"""The scenarios. Each gets a farm on a mounted file system, fails with a Failure, and
returns what it saw."""

import os
import time
from dataclasses import dataclass
from typing import Callable

from rig import until

SCENARIOS = {}
KILLS = int(os.environ.get("PYTF_TEST_KILLS", "4"))


@dataclass
class Scenario:
    """A scenario: on which mount, with which lock, and whether the short form has it."""

    function: Callable
    mount: str
    lock: str
    is_short: bool
    # Farmers take each other for dead after so many seconds. Who starts gives the lock up,
    # and ends, after half of that.
    takeover: int = 20
    # A node is alive and cannot be heard: until it knows, it runs what others run again.
    may_overlap: bool = False


def scenario(name, mount, lock="", is_short=False, **more):
    """Registers a function as a scenario."""

    def register(function):
        SCENARIOS[name] = Scenario(function, mount, lock, is_short, **more)
        return function

    return register


def storm(farm):
    """Farmers are killed, again and again, and others come in their place."""
    farm.tasks(30 + 10 * KILLS, seconds=0.2)
    farm.start_all(each=2)
    kills = 0
    for nth in range(KILLS):
        farm.wait_for_starts((nth + 0.5) / (KILLS + 1))
        victim = farm.random.choice(farm.running() or farm.farmers)
        kills += farm.kill(victim)
        farm.start(victim.node)
    farm.wait_for_all()
    return f"{kills} kills; {farm.complete(allowed={-9, 0, 1})}"


# The mechanism that the program chooses by itself is the first of each.
scenario("storm_4", "vers=4.2", is_short=True)(storm)
scenario("storm_4_fcntl", "vers=4.2", "fcntl")(storm)
scenario("storm_4_link", "vers=4.2", "link")(storm)
scenario("storm_3", "vers=3")(storm)
scenario("storm_3_fcntl", "vers=3", "fcntl")(storm)
scenario("storm_3_link", "vers=3", "link")(storm)
scenario("storm_3_nolock", "vers=3,nolock", is_short=True)(storm)


def power(farm):
    """A client loses power, with two farmers; the other one has all of its work."""
    farm.tasks(100, seconds=0.5)
    farm.start_all(each=2)
    farm.wait_for_farmers()
    node = farm.rig.clients[1]
    farm.wait_for_work_on(node)
    node.power_off()
    farm.abandon(node)
    farm.wait_for_all()
    node.boot().ready().mount(farm.rig.options)
    return farm.complete(allowed={0, 1, None})


scenario("power", "vers=4.2", is_short=True)(power)
scenario("power_3", "vers=3")(power)
scenario("power_3_nolock", "vers=3,nolock")(power)


def cut(farm):
    """A client cannot be reached for longer than the takeover time, and then it can."""
    farm.tasks(100, seconds=0.5)
    farm.start_all(each=2)
    farm.wait_for_farmers()
    node = farm.rig.clients[1]
    farm.wait_for_work_on(node)
    node.cut()
    time.sleep(1.5 * farm.scenario.takeover)
    node.heal()
    farm.wait_for_all()
    return farm.complete(allowed={0, 1, 75, 76})


scenario("cut", "vers=4.2", may_overlap=True)(cut)
scenario("cut_3", "vers=3", may_overlap=True)(cut)
scenario("cut_3_nolock", "vers=3,nolock", is_short=True, may_overlap=True)(cut)


def reboot(farm):
    """The server loses power in the middle, and is there again."""
    farm.tasks(100, seconds=0.5)
    farm.start_all(each=2)
    farm.wait_for_farmers()
    farm.rig.reboot_server()
    farm.wait_for_all()
    return farm.complete(allowed={0, 1, 75, 76})


# No client is heard for as long as the server is gone, and in its grace period.
scenario("reboot", "vers=4.2", takeover=40)(reboot)
scenario("reboot_3", "vers=3", takeover=40)(reboot)
scenario("reboot_3_nolock", "vers=3,nolock", may_overlap=True)(reboot)
