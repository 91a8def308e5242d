#!/usr/bin/python3
"""Stands in for mpiexec of Open MPI that knows nothing of PBS: it reaches other nodes by
ssh. A rank there begins in the same folder with what a login has, Open MPI's variables
and those that -x names; the first node's rank has all that mpiexec has."""
import os, signal, sys
own = os.environ
words = sys.argv[1:]
if words == ["--version"]:
    print("mpiexec (OpenRTE) 4.1.4")
    sys.exit()
given = {"-n": [], "--hostfile": [], "--map-by": [], "--bind-to": [], "-x": []}
while words[0].startswith("-"):
    option = words.pop(0)
    if option == "--mca":
        del words[:2]
    else:
        given[option].append(words.pop(0))
hosts = list(dict.fromkeys(open(given["--hostfile"][0]).read().split()))
count = int(given["-n"][0])
if count != len(hosts) or given["--map-by"] != ["ppr:1:node"]:
    sys.exit("there are not enough slots available in the system")
ranks = []
for rank in range(count):
    pid = os.fork()
    if pid == 0:
        env = dict(own)
        if rank > 0:
            env = {name: own[name] for name in ["HOME", "FARM_TEST_MARK"]}
            env["PATH"] = "/usr/bin:/bin"
            env.update((name, own[name]) for name in given["-x"])
        for name, value in [("RANK", rank), ("SIZE", count), ("LOCAL_RANK", 0), ("LOCAL_SIZE", 1)]:
            env["OMPI_COMM_WORLD_" + name] = str(value)
        os.execve(words[0], words, env)
    ranks.append(pid)

def tell(number, frame):
    for rank in ranks:
        os.kill(rank, number)

signal.signal(signal.SIGTERM, tell)
ends = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]
sys.exit(max(ends))
