"""Runs commands in a node: its last process, and the parent of all it starts.

A connection to port 7777 is a command: shell text up to the end of the stream. The
answer is the number of its process, a line feed, what it printed, a line feed, and its
status.
"""

import os
import signal
import socket
import subprocess


def serve(connection):
    """Runs one command, in a process of its own."""
    text = b""
    while part := connection.recv(65536):
        text += part
    command = subprocess.Popen(
        ["/bin/bash", "-c", text],
        stdin=subprocess.DEVNULL,
        stdout=connection,
        stderr=connection,
        preexec_fn=lambda: connection.sendall(f"{os.getpid()}\n".encode()),
    )
    status = command.wait()
    connection.sendall(f"\n{status}".encode())


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    listener = socket.create_server(("", 7777), backlog=64)
    while True:
        connection, _ = listener.accept()
        # Reaps what others have left to this process, as an init does.
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        if os.fork() == 0:
            listener.close()
            serve(connection)
            os._exit(0)
        connection.close()


main()
