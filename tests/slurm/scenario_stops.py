"""What a scheduler does to a farm in the middle: scenario 3.

Each of these must leave the workdir so that the same command does exactly the
rest.
"""

import time

from checker import require
from cluster import freezer, until
from farm import Farm, scenario, shorten

HALF_A_MINUTE = ["0.2 0"] * 200 + ["0.2 2"] * 20 + ["0.2 0 stubborn"] * 20


def _stopped(farm, job, within=60):
    """The job ends; every farmer has left in good order."""
    state = job.ended(within)
    books = farm.check()
    require(books.waiting, "nothing was left to do")
    require(all(journal.why for journal in books.journals), "a farmer did not leave in good order")
    reasons = {why for _, _, why in books.requeued}
    require(reasons <= {"interrupted"}, f"put back: {reasons}")
    before = len(books.done())
    books = farm.resume()
    return f"{state}, status {job.exit()}, with {before} results and {len(books.requeued)} interrupted; resumed exactly"


@scenario()
def signal_and_no_end(cluster):
    """`--signal=USR1@30`, where pytf does not know the end of the job: it stops."""
    farm = Farm(cluster).tasks(*["600 0"] * 12, *["0.3 0"] * 600)
    job = farm.submit("--time=1", "--signal=USR1@30", pytf="--grace 2 --no-walltime")
    farm.wait_for_starts(40)
    job.ended(within=150)
    require(job.exit() == "75:0", f"status {job.exit()}: {farm.said()}")
    require("SIGUSR1" in farm.said(), "stopped by SIGUSR1")
    shorten(farm)
    return _stopped(farm, job)


@scenario()
def signal_and_end(cluster):
    """`--signal=USR1@30`, where it knows the end: it starts nothing more, and lets
    what runs come to its end."""
    farm = Farm(cluster).tasks(*["0.5 0"] * 2400)
    job = farm.submit("--time=1", "--signal=USR1@30", pytf="--grace 2")
    farm.wait_for_starts(40)
    job.ended(within=150)
    require(job.exit() == "75:0", f"status {job.exit()}: {farm.said()}")
    require("SIGUSR1" in farm.said(), "stopped by SIGUSR1")
    books = farm.check()
    require(not books.requeued, f"what ran was not left to its end: {books.requeued}")
    return f"status {job.exit()} with {len(books.done())} results, nothing interrupted"


@scenario()
def cancel(cluster):
    """`scancel JOB`: SIGTERM, and SIGKILL after KillWait."""
    farm = Farm(cluster).tasks(*HALF_A_MINUTE)
    job = farm.submit(pytf="--grace 2")
    farm.wait_for_starts(40)
    job.cancel()
    return _stopped(farm, job)


@scenario()
def cancel_term(cluster):
    """`scancel -s TERM JOB.0`, the safe way to stop a farm: the script goes on."""
    farm = Farm(cluster).tasks(*HALF_A_MINUTE)
    job = farm.submit(after='echo "srun ended with $?"')
    farm.wait_for_starts(40)
    job.cancel("-s", "TERM", step=0)
    job.ended()
    require("srun ended with 75" in farm.said(), "the script sees status 75")
    return _stopped(farm, job)


@scenario()
def cancel_term_job(cluster):
    """`scancel -s TERM JOB`: only the steps get it."""
    farm = Farm(cluster).tasks(*HALF_A_MINUTE)
    job = farm.submit()
    farm.wait_for_starts(40)
    job.cancel("-s", "TERM")
    job.ended()
    require(job.exit() == "75:0", f"status 75, not {job.exit()}")
    return _stopped(farm, job)


@scenario()
def term_to_srun(cluster):
    """`kill -TERM $SRUN_PID` is what the documents warn of: SIGKILL for all, at
    once. Even so nothing is lost or doubled."""
    farm = Farm(cluster).tasks(*HALF_A_MINUTE)
    job = farm.submit(srun="-c 4 --jobid=$SLURM_JOB_ID", after="exit 0", before="trap '' TERM")
    farm.wait_for_starts(40)
    cluster.nodes[0].run("pkill", "-TERM", "-o", "-x", "srun")
    job.ended()
    books = farm.check(at_rest=False, may_rework=True)
    killed = sum(journal.why is None for journal in books.journals)
    require(killed, "no farmer was killed: then the documents are wrong")
    farm.resume(may_rework=True)
    return f"{killed} of 4 farmers were killed without a word; resumed exactly"


@scenario()
def requeue(cluster):
    """`scontrol requeue`: the same job, again from its script's first line."""
    farm = Farm(cluster).tasks(*HALF_A_MINUTE)
    job = farm.submit("--requeue", pytf="--grace 2")
    farm.wait_for_starts(40)
    job.control("requeue")
    job.wait_for("PENDING")
    books = farm.check()
    before = len(books.done())
    require(before < farm.size, "nothing was left to do")
    job.update("StartTime=now")
    job.ended()
    books = farm.check(complete=True)
    require(books.jobs() == {job.id} and len(books.journals) == 8, f"{len(books.journals)} journals of {books.jobs()}")
    return f"{before} results before, the rest after it, under the same job id"


LOW_AND_HIGH = (
    "PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=4 PreemptMode=REQUEUE\n"
    "PartitionName=high Nodes=ALL PriorityTier=10"
)
PREEMPTION = "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\nPreemptExemptTime=0"


@scenario(partitions=LOW_AND_HIGH, extra=PREEMPTION)
def preemption(cluster):
    """A job of more priority takes the nodes; GraceTime between the first
    SIGTERM and the end; then the job starts again."""
    farm = Farm(cluster).tasks(*HALF_A_MINUTE)
    job = farm.submit("--partition=low", "--exclusive", "--requeue", pytf="--grace 2")
    farm.wait_for_starts(40)
    high = cluster.sbatch("--partition=high", "--nodes=4", "--exclusive", "--wrap=sleep 1", cwd=cluster.home)
    high.wait_for("RUNNING", "COMPLETED")
    books = farm.check()
    require(all(journal.why for journal in books.journals), "a farmer did not leave in good order")
    before = len(books.done())
    high.ended()
    state = job.state()
    if state == "PENDING":
        job.update("StartTime=now")
    job.ended()
    books = farm.resume() if state != "PENDING" else farm.check(complete=True)
    return f"the farm was {state} with {before} results; all {farm.size} tasks done once"


@scenario()
def suspend(cluster):
    """`scontrol suspend` and `resume`: no limit runs on meanwhile."""
    farm = Farm(cluster).tasks(*["1.5 0"] * 48)
    job = farm.submit(pytf="--task-timeout 4")
    farm.wait_for_starts(20)
    job.control("suspend")
    job.wait_for("SUSPENDED")
    # Slurm sends SIGTSTP, and SIGSTOP two seconds later.
    until(lambda: _all_stopped(cluster), "every farmer stands still")
    seen = farm.ended()
    time.sleep(6)  # Longer than any task may take.
    require(farm.ended() == seen, "tasks went on while the job was suspended")
    job.control("resume")
    job.ended()
    require(job.exit() == "0:0", f"status {job.exit()}: {farm.said()}")
    books = farm.check(complete=True)
    require(not books.failed and not books.requeued, "the time of the stop was charged to tasks")
    return f"stood still for 6 s with {seen} ends, no task over its limit of 4 s"


def _all_stopped(cluster):
    """Frozen by their control groups, or stopped by a signal."""
    if freezer():
        states = cluster.freezer_states()
        return states and all(state.read_text().strip() == "FROZEN" for state in states)
    states = cluster.slurm("ps", "-C", "pytf,work,sleep", "-o", "stat=").split()
    return states and all(state[0] in "TZ" for state in states)
