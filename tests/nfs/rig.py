"""A server and clients of kernel NFS on one machine, without virtualization hardware.

Each node is a user-mode Linux with a kernel and a page cache of its own. Node 1 is the
server, which exports an ext4 on a disk that survives it; the others are clients. A
bridge is their network; every node has a second one to this machine alone, for
commands and for what the tasks report, which is never cut. All of it is in namespaces
that the process which runs this brought, and ends with it.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "slurm"))

from cluster import Failure, output_of, until  # noqa: E402

SERVER = 1
# Of the server, in seconds: how long it keeps the locks of a client that it does not
# hear, and how long it waits for its clients after a reboot.
LEASE = 15
MEMORY = "256M"


class Command:
    """A command that runs in a node."""

    def __init__(self, node, text):
        self.node = node
        self.text = text
        self.output = b""
        self.status = None
        self.connection = socket.create_connection((node.control, 7777), timeout=20)
        self.connection.settimeout(None)
        self.connection.sendall(text.encode())
        self.connection.shutdown(socket.SHUT_WR)
        self.stream = self.connection.makefile("rb")
        self.pid = int(self.stream.readline())
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        try:
            while part := self.stream.read1():
                self.output += part
        except OSError:
            return
        self.output, _, status = self.output.rpartition(b"\n")
        # None when the node died first.
        self.status = int(status) if status.lstrip(b"-").isdigit() else None

    def is_running(self):
        return self.reader.is_alive()

    def wait(self, within=120):
        """Its output; a status other than 0 is a Failure."""
        self.reader.join(within)
        said = self.output.decode(errors="replace")
        if self.is_running() or self.status != 0:
            raise Failure(f"{self.node.name}: {self.text!r} ended with {self.status}: {said}")
        return said


class Node:
    """A machine of the rig."""

    def __init__(self, rig, number):
        self.rig = rig
        self.number = number
        self.name = f"n{number}"
        self.control = f"10.98.{number}.2"
        self.process = None
        for tap in (f"c{number}", f"l{number}"):
            output_of("ip", "tuntap", "add", tap, "mode", "tap")
            output_of("ip", "link", "set", tap, "up")
        output_of("ip", "addr", "add", f"10.98.{number}.1/24", "dev", f"c{number}")
        self.heal()

    def boot(self):
        """Turns the power on; it is `ready` some time later."""
        disk = [f"ubda={self.rig.disk}"] if self.number == SERVER else []
        console = open(self.rig.home / f"console{self.number}", "ab")
        mac = f"02:52:00:00:{{}}:{self.number:02x}"
        self.process = subprocess.Popen(
            # A process namespace for each, so that nothing outlives its power.
            ["unshare", "--pid", "--fork", "--kill-child", self.rig.guest / "kernel/usr/bin/linux.uml"]
            + [f"mem={MEMORY}", f"umid={self.name}", f"uml_dir={self.rig.home}/uml", *disk]
            + ["root=/dev/root", "rootfstype=hostfs", f"rootflags={self.rig.guest}/root", "rw"]
            + ["init=/pytf-init", f"node={self.number}", f"home={self.rig.home}"]
            + [f"vec0:transport=tap,ifname=c{self.number},depth=64,mac={mac.format('01')}"]
            + [f"vec1:transport=tap,ifname=l{self.number},depth=64,mac={mac.format('02')}"]
            + ["con=null", "con0=null,fd:1", "quiet"],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        console.close()
        return self

    def ready(self):
        def answers():
            try:
                return Command(self, "true").wait() is not None
            except (OSError, ValueError):
                return False

        until(answers, f"{self.name} boots")
        return self

    def power_off(self):
        """All at once, with what it had not yet written."""
        self.process.kill()
        self.process.wait()

    def run(self, text, within=120):
        return Command(self, text).wait(within)

    def cut(self):
        """Takes it off the network of the file system."""
        output_of("ip", "link", "set", f"l{self.number}", "nomaster")

    def heal(self):
        output_of("ip", "link", "set", f"l{self.number}", "master", "lan")

    def mount(self, mounts):
        """Mounts the server's export at /mnt/NAME, for each of `mounts`, by name. Mounts share no cache,
        so each is a client of its own."""
        self.run(
            "modprobe nfs; mountpoint -q /var/lib/nfs/rpc_pipefs || mount -t rpc_pipefs rpc /var/lib/nfs/rpc_pipefs;"
            "pidof rpcbind >/dev/null || rpcbind -w; pidof rpc.statd >/dev/null || rpc.statd"
        )
        for name, options in mounts.items():
            path = "/srv/export" if "vers=3" in options else "/"
            self.run(
                f"mkdir -p /mnt/{name}; while mountpoint -q /mnt/{name}; do umount -f /mnt/{name} || sleep 0.5; done;"
                f"mount -t nfs -o {options},nosharecache,proto=tcp 10.99.0.{SERVER}:{path} /mnt/{name}"
            )


class Reports:
    """What tasks report: in `folder`, a file for each, named as the task names itself."""

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self.socket.bind(("0.0.0.0", 9999))
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self):
        while True:
            name, what, task, attempt, host, status = (self.socket.recv(1024).decode() + " ").split(" ")[:6]
            line = f"{what} {task} {attempt} {host} {time.monotonic():.6f} {status}\n"
            with open(self.folder / name, "a", encoding="ascii") as file:
                file.write(line)


class Rig:
    """The machines."""

    def __init__(self, guest, home, clients):
        self.guest, self.home = Path(guest), Path(home)
        self.disk = self.home / "disk"
        output_of("truncate", "-s", "1G", self.disk)
        output_of("mkfs.ext4", "-q", "-F", self.disk)
        shutil.copy(HERE / "agent.py", self.home)
        shutil.copy(os.environ["PYTF"], self.home / "pytf")
        output_of("cc", "-O2", "-static", "-o", self.home / "work", HERE / "work.c", "-lm")
        output_of("ip", "link", "set", "lo", "up")
        output_of("ip", "link", "add", "lan", "type", "bridge")
        output_of("ip", "link", "set", "lan", "up")
        self.reports = Reports(self.home / "effects")
        self.server = Node(self, SERVER)
        self.clients = [Node(self, SERVER + 1 + nth) for nth in range(clients)]
        self.power_on()

    def power_on(self):
        """Boots all, and starts the server's service."""
        for node in (self.server, *self.clients):
            node.boot()
        for node in (self.server, *self.clients):
            node.ready()
        self.serve()

    def power_off(self):
        for node in (*self.clients, self.server):
            node.power_off()

    def restart(self):
        """Whatever hangs where, afterwards nothing does."""
        self.power_off()
        for node in self.clients:
            node.heal()
        self.power_on()

    def serve(self):
        """Starts the server's service; its state is on the disk as well."""
        self.server.run(
            "set -e; modprobe nfsd; mount /dev/ubda /srv/disk; mkdir -p /srv/disk/export;"
            "[ -d /srv/disk/nfs ] || cp -a /var/lib/nfs /srv/disk/nfs; umount /var/lib/nfs/rpc_pipefs 2>/dev/null || true;"
            "mount --bind /srv/disk/nfs /var/lib/nfs; mount --bind /srv/disk/export /srv/export;"
            "mount -t nfsd nfsd /proc/fs/nfsd; mount -t rpc_pipefs rpc /var/lib/nfs/rpc_pipefs;"
            "rpcbind -w; rpc.statd; nfsdcld || true;"
            "exportfs -o rw,no_root_squash,sync,no_subtree_check,fsid=0 '*:/srv/export';"
            f"rpc.nfsd -G {LEASE} -L {LEASE} 8; rpc.mountd; sm-notify || true"
        )

    def reboot_server(self):
        """The server loses power, and is back some seconds later."""
        self.server.power_off()
        self.server.boot().ready()
        self.serve()

    def mount(self, mounts):
        """On all clients."""
        self.mounts = mounts
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: node.mount(mounts), self.clients))
