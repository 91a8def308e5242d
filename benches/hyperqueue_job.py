"""One job of HyperQueue, run by `benches/order.py`: hyperqueue_job.py SHAPE TASKS SLOTS.

The server and its worker are those of HyperQueue's Python package, in this process; a task is
`/bin/true` without output. Prints the seconds from the submission of the job to its end, and what
this process has resident at most.
"""

import json
import resource
import sys
import tempfile
import time

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

CHAINS = 100


def graph(shape, count):
    """The same tasks as those of `order.py`."""
    job = Job(max_fails=None)

    def task(*after):
        return job.program(["/bin/true"], stdout=None, stderr=None, deps=after)

    if shape == "plain":
        for _ in range(count):
            task()
    elif shape == "chains":
        last = [task() for _ in range(CHAINS)]
        for number in range(CHAINS, count):
            last[number % CHAINS] = task(last[number % CHAINS])
    else:
        first = task()
        task(*[task(first) for _ in range(count - 2)])
    return job


def main():
    shape, count, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder, LocalCluster(folder, WorkerConfig(cores=slots)) as cluster:
        client, job = cluster.client(), graph(shape, count)
        start = time.monotonic()
        client.wait_for_jobs([client.submit(job)])
        seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak}))


if __name__ == "__main__":
    main()
