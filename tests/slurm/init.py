"""The first process of a PID namespace.

It reaps what is orphaned, as an init does, and its death is the death of all
in the namespace: that is how a node loses power here, and how nothing outlives
a scenario. With a command it runs that and ends with its status; without one
it stays until it is killed.
"""

import os
import signal
import sys


def main(command):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    child = 0
    if command:
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            os.execvp(command[0], command)
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid = 0
        if pid == 0:
            signal.sigwait({signal.SIGCHLD})
        elif pid == child:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.exit(status if status >= 0 else 128 - status)
