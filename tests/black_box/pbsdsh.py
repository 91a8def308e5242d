#!/usr/bin/python3
"""Stands in for pbsdsh, as it was recorded on OpenPBS 23: on each node a process in a
session of its own, in the home folder, with few variables and a poor PATH, without
SIGHUP and SIGQUIT; on the first node INT and TERM are blocked, and no node file is
named. Told to end it tells its tasks. For a node that has died it waits for ever."""
import os, signal, sys
own = os.environ
command = sys.argv[2:] if sys.argv[1] == "--" else sys.argv[1:]
count = len(open(own["PBS_NODEFILE"]).read().split())
numbers = ["00000002", "40000001", "80000001", "c0000001"]
# The last ones are the test's.
keep = ["PBS_ENVIRONMENT", "PBS_JOBID", "HOME", "FARM_TEST_MARK", "PBS_CONF_FILE", "PYTF_TAKEOVER"]
tasks = []

def tell(number, frame):
    for task in tasks:
        try:
            os.kill(task, number)
        except ProcessLookupError:
            pass

signal.signal(signal.SIGTERM, tell)
for node in range(count):
    task = os.fork()
    if task == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        env = {name: own[name] for name in keep}
        env.update(PATH="/bin:/usr/bin", PBS_NODENUM=str(node), PBS_TASKNUM=numbers[node])
        env["PBS_MOMPORT"] = own["PBS_MOMPORT"].split("#")[0] + f"#{node}"
        if node == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        else:
            env["PBS_NODEFILE"] = own["PBS_NODEFILE"]
        os.chdir(own["HOME"])
        os.execve(command[0], command, env)
    tasks.append(task)
for task in list(tasks):
    has_died = os.WIFSIGNALED(os.waitpid(task, 0)[1])
    tasks.remove(task)
    while has_died:
        signal.pause()
