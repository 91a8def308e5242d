"""Runs scenarios, one after the other on the same machines: main.py GUEST [--keep] [SCENARIO...].

Started by run.sh, in namespaces of its own: with this process ends all that it started.
"""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nfs_farm import Farm
from rig import Command, Failure, Rig
from scenarios import MOUNTS, SCENARIOS


def arguments():
    parser = argparse.ArgumentParser(prog="tests/nfs/run.sh", description="Scenarios on kernel NFS.")
    parser.add_argument("guest", help=argparse.SUPPRESS)
    short = [name for name, scenario in SCENARIOS.items() if scenario.is_short]
    names = " ".join(SCENARIOS)
    parser.add_argument("scenarios", nargs="*", help=f"all, or some of: {names}; by default {' '.join(short)}")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind")
    parsed = parser.parse_intermixed_args()
    unknown = [name for name in parsed.scenarios if name not in [*SCENARIOS, "all"]]
    if unknown:
        parser.error(f"no such scenario: {' '.join(unknown)}; there are {names}")
    wanted = list(SCENARIOS) if "all" in parsed.scenarios else parsed.scenarios or short
    return parsed, wanted


def post_mortem(farm):
    """What helps to understand a failure."""
    for farmer in farm.farmers:
        state = "still runs" if farmer.is_running() else f"ended with {farmer.status}"
        said = farmer.output.decode(errors="replace").replace("\r", "\n").splitlines()
        print(f"--- a farmer of {farm.name} on {farmer.node.name} {state}", *said[-8:], sep="\n")
        if farmer.is_running() and farmer not in farm.abandoned:
            print(*where(farmer), sep="\n")


def where(farmer):
    """What each thread of a farmer waits for, as its kernel tells."""
    task = f"/proc/{farmer.pid}/task"
    script = f"cd {task} && for t in *; do echo $t $(cat $t/comm $t/wchan $t/syscall); cat $t/stack; done"
    try:
        return Command(farmer.node, f"({script}) 2>&1").wait(20).splitlines()
    except (Failure, OSError, ValueError) as failure:
        return [f"its node does not tell: {failure}"]


def judge(farm, allowed):
    """Whether the farm is complete and exact, and what there is to say about it."""
    try:
        farm.wait_for_all()
        return True, farm.complete(allowed)
    except Failure as failure:
        return False, failure
    except Exception:  # noqa: BLE001 - the others are to be judged all the same
        return False, traceback.format_exc()


def play(rig, name, again=""):
    """Plays one scenario; whether it went well, and whether pytf was judged by it."""
    began = time.monotonic()
    scenario = SCENARIOS[name]
    farms = []
    verdicts = []
    try:
        rig.mount({mount: MOUNTS[mount] for mount in scenario.mounts})
        for mount in scenario.mounts:
            may_overlap = mount in scenario.may_overlap
            farm = Farm(rig, f"{name}_{mount}{again}", mount, scenario.lock, scenario.takeover, may_overlap)
            farms.append(farm)
        scenario.function(rig, farms)
        with ThreadPoolExecutor() as pool:
            verdicts = list(pool.map(lambda farm: judge(farm, scenario.allowed), farms))
        went_well = all(is_exact for is_exact, _ in verdicts)
        said = ""
    except Failure as failure:
        went_well, said = False, failure
    except Exception:  # noqa: BLE001 - the others are to be played all the same
        went_well, said = False, traceback.format_exc()
    print(f"{'ok    ' if went_well else 'FAILED'} {time.monotonic() - began:5.1f} s  {name} {said}", flush=True)
    for farm, (is_exact, words) in zip(farms, verdicts):
        print(f"       {'' if is_exact else 'FAILED '}{farm.mount}: {words}", flush=True)
        if not is_exact:
            post_mortem(farm)
    if not verdicts:
        for farm in farms:
            post_mortem(farm)
    return went_well, any(farm.is_judged for farm in farms)


def main():
    options, wanted = arguments()
    home = Path(tempfile.mkdtemp(prefix="pytf-nfs-"))
    home.chmod(0o755)
    began = time.monotonic()
    failed = []
    try:
        rig = Rig(options.guest, home, clients=2)
        print(f"       {time.monotonic() - began:5.1f} s  the machines are up", flush=True)
        for name in wanted:
            went_well, is_judged = play(rig, name)
            if not went_well:
                # What hangs there would disturb the next ones.
                rig.restart()
            if not went_well and not is_judged:
                # It did not come to the question: a busy machine, or the rig.
                print(f"SKIPPED tests/nfs: {name} did not come to its end, and was played again", flush=True)
                went_well, _ = play(rig, name, "_again")
                if not went_well:
                    rig.restart()
            if not went_well:
                failed.append(name)
        rig.power_off()
    finally:
        if options.keep:
            print(f"kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    print(f"{len(wanted) - len(failed)} of {len(wanted)} scenarios passed in {time.monotonic() - began:.0f} s")
    sys.exit(f"failed: {' '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
