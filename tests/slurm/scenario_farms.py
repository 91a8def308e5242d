"""Farms that run through, farms that reach the time limit, farms that are
killed: scenarios 1, 2 and 4."""

import contextlib
import os
import signal
from collections import Counter

from checker import require
from cluster import until
from farm import Farm, scenario, shorten

MANY = int(os.environ.get("PYTF_SLURM_TASKS", "2000"))


def mixed(count):
    """Short and long, good and bad."""
    for number in range(count):
        seconds = "0.3" if number % 40 == 7 else "0.05" if number % 7 == 3 else "0"
        yield f"{seconds} {number % 4 if number % 10 == 9 else 0}"


@scenario()
def farm(cluster):
    """2,000 mixed tasks on 4 nodes with 4 slots each."""
    farm = Farm(cluster).tasks(*mixed(MANY))
    job = farm.submit()
    require(job.ended() == "FAILED" and job.exit() == "1:0", f"some tasks fail, so status 1: {job.show()}")
    books = farm.check(complete=True, nodes=farm.names())
    require(len(books.journals) == 4, f"{len(books.journals)} journals")
    require(sorted(journal.header.get("rank") for journal in books.journals) == [0, 1, 2, 3], "ranks")
    require(books.jobs() == {job.id}, f"journals of {books.jobs()}")
    again = farm.submit()
    again.ended()
    require(again.exit() == "1:0", "the same command on a complete run says how it stands")
    farm.check(complete=True)
    shares = sorted(len(journal.ends) for journal in books.journals)
    return f"{MANY} tasks, {len(books.failed)} failed; shares {shares[:4]}"


@scenario()
def time_limit(cluster):
    """The time limit comes while tasks run, some of which ignore SIGTERM, and
    pytf does not look at the time."""
    farm = Farm(cluster).tasks(*["600 0"] * 8, *["600 0 stubborn"] * 4, *["1 0"] * 400)
    job = farm.submit("--time=1", pytf="--grace 2 --no-walltime")
    farm.wait_for_starts(100)
    state = job.ended(within=150)
    books = farm.check(may_rework=False)
    require(all(journal.why for journal in books.journals), "all left in good order, within KillWait")
    interrupted = len(books.requeued)
    require(interrupted >= 12, f"only {interrupted} tasks were put back")
    require(all(why == "interrupted" for _, _, why in books.requeued), f"{books.requeued}")
    done = len(books.done())
    shorten(farm)
    books = farm.resume()
    return f"{state} with {done} results, {interrupted} put back; the next job did exactly the rest"


@scenario()
def walltime(cluster):
    """pytf asks Slurm when the job ends, stops before, and the script sees 75."""
    farm = Farm(cluster).tasks(*["600 0"] * 8, *["600 0 stubborn"] * 4, *["1 0"] * 400)
    job = farm.submit("--time=1", pytf="--grace 2", after='echo "srun ended with $?"')
    farm.wait_for_starts(100)
    state = job.ended(within=150)
    require(state == "COMPLETED", f"the script came to its end: {job.show()}")
    require("srun ended with 75" in farm.said(), f"the script sees status 75: {farm.said()}")
    require("SIGTERM: " not in farm.said(), "stopped before Slurm did")
    books = farm.check()
    require(all(journal.why for journal in books.journals), "all left in good order")
    reasons = {why for _, _, why in books.requeued}
    require(reasons == {"interrupted"} and len(books.requeued) >= 12, f"put back: {books.requeued}")
    done = len(books.done())
    shorten(farm)
    farm.resume()
    return f"stopped by itself with {done} results and {len(books.requeued)} put back; the next job did exactly the rest"


@scenario()
def kill_step(cluster):
    """`scancel JOB.STEP`: SIGKILL for everything, without a warning."""
    farm = Farm(cluster).tasks(*["0.1 0"] * 200, *["0.3 1"] * 60)
    job = farm.submit()
    farm.wait_for_starts(40)
    job.cancel(step=0)
    job.ended()
    return _resumes(farm)


@scenario()
def kill_srun(cluster):
    """srun is killed. The batch script ends with it, and then Slurm stops the step."""
    farm = Farm(cluster).tasks(*["0.1 0"] * 200, *["0.3 1"] * 60)
    job = farm.submit()
    farm.wait_for_starts(40)
    sruns = processes(b"srun\0")
    require(sruns, "no srun was found")
    for pid in sruns:
        with contextlib.suppress(ProcessLookupError):  # One may end with the other.
            os.kill(pid, signal.SIGKILL)
    job.ended()
    return _resumes(farm)


def processes(start_of_command):
    """Ids of the processes whose command line begins like this, on all nodes."""
    found = []
    for folder in os.listdir("/proc"):
        if folder.isdigit():
            try:
                with open(f"/proc/{folder}/cmdline", "rb") as file:
                    if file.read().startswith(start_of_command):
                        found.append(int(folder))
            except OSError:
                pass  # It is gone.
    return found


def _resumes(farm):
    until(lambda: not processes(b"pytf\0"), "no farmer lives")
    books = farm.check(at_rest=False, may_rework=True)
    left = [journal for journal in books.journals if journal.why]
    before = len(books.done())
    require(before < farm.size, "nothing was left to do")
    books = farm.resume(may_rework=True)
    reasons = Counter(why for _, _, why in books.requeued)
    require(reasons, "nothing was put back, although tasks ran")
    return (
        f"{len(left)} of 4 farmers left in good order; {before} results in the files then;"
        f" attempts put back: {dict(reasons)}; all {farm.size} tasks done once"
    )
