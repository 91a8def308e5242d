"""A real Slurm on one machine: Debian's slurmctld, slurmd and munged.

A scenario runs in namespaces of its own, as the head of the cluster (`run.py`
sees to that). Each node has PID, network, mount and host name namespaces inside
those: a name of its own, 10.77.0.K on a bridge, process ids from 1. The head
sees the processes of all nodes. To end the first process of a node is to turn
its power off; to end the head's ends everything. Nothing outside is touched,
except control groups named after the nodes, which the janitor removes.
"""

import os
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEAD_ADDRESS = "10.77.0.254"
PORT = 17300


class Failure(Exception):
    """Something that must hold does not."""


def until(holds, what, within=60):
    """Waits until `holds()` is true, and returns what it returned."""
    give_up_at = time.monotonic() + within
    while True:
        answer = holds()
        if answer:
            return answer
        if time.monotonic() > give_up_at:
            raise Failure(f"waited {within} s in vain: {what}")
        time.sleep(0.05)


def output_of(*command, **more):
    """Runs a command, returns what it printed; its failure is a Failure."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        **more,
    )
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stdout}")
    return done.stdout


def freezer():
    """Where control groups of the first version can be frozen, if they can."""
    folder = Path("/sys/fs/cgroup/freezer")
    probe = folder / f"pytf-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return None
    return folder


class Machine:
    """A machine in namespaces of its own, on the bridge br0."""

    def __init__(self, number, name, address, port, folder, env=None):
        self.number = number
        self.name = name
        self.address = address
        # The end of its cable at the bridge.
        self.port = port
        # Where commands begin, and their environment.
        self.folder = folder
        self.env = env
        self.holder = None
        self.init = None

    def on(self, *command):
        """The command line that runs `command` on this machine."""
        return ["nsenter", "-t", str(self.init), "-m", "-u", "-n", "-p", f"--wd={self.folder}", "--"] + [
            str(word) for word in command
        ]

    def run(self, *command):
        return output_of(*self.on(*command), env=self.env)

    def boot(self):
        """Turns the power on."""
        namespaces = ["--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--net", "--uts"]
        self.holder = subprocess.Popen(
            ["unshare", *namespaces, "--propagation", "private", sys.executable, HERE / "init.py"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # It complains when the power goes.
        )
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children")
        self.init = int(until(lambda: children.read_text().split(), f"{self.name} boots")[0])
        until(lambda: b"init.py" in Path(f"/proc/{self.init}/cmdline").read_bytes(), f"{self.name} is up")
        self.run("hostname", self.name)
        # The other end of a cable whose machine was turned off goes late.
        until(lambda: f" {self.port}@" not in output_of("ip", "link"), f"{self.port} is gone")
        output_of("ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.init)
        output_of("ip", "link", "set", self.port, "master", "br0", "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("eth0", "lo"):
            self.run("ip", "link", "set", link, "up")

    def power_off(self):
        """All that runs on it dies at once, without a word."""
        os.kill(self.init, 9)
        self.holder.wait()

    def cut(self):
        """Takes its network away. What runs on it goes on."""
        self.run("ip", "link", "set", "eth0", "down")

    def heal(self):
        self.run("ip", "link", "set", "eth0", "up")


class Node(Machine):
    """One machine of the cluster."""

    def __init__(self, cluster, number):
        super().__init__(number, f"{cluster.prefix}{number}", f"10.77.0.{number}", f"v{number}", os.getcwd(), cluster.env)
        self.cluster = cluster

    def boot(self):
        super().boot()
        self.start_slurmd()

    def start_slurmd(self):
        (self.cluster.home / "spool" / self.name).mkdir(parents=True, exist_ok=True)
        self.run("slurmd", "-N", self.name)


@dataclass
class Settings:
    """What a scenario may want otherwise."""

    nodes: int = 4
    cpus: int = 32
    gpus: int = 4
    # How many nodes have them, the last ones; 0: all.
    gpu_nodes: int = 0
    proctrack: str = ""
    kill_wait: int = 5
    slurmd_timeout: int = 15
    # With "{prefix}" for what comes before the numbers of the nodes.
    partitions: str = ""
    select: str = "CR_CPU"
    extra: str = ""
    # Seconds until it hangs, by all that is known.
    watchdog: int = 300
    # How many CPUs of this machine the nodes have together, where a page says so.
    usable: int = 0


class Cluster:
    """The cluster, up from `with` to the end of its block."""

    def __init__(self, home, prefix, settings):
        self.home = home
        self.prefix = prefix
        self.settings = settings
        self.all_nodes = f"{prefix}[1-{settings.nodes}]"
        self.env = {
            "PATH": f"{home}/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home / "user"),
            "USER": "root",
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(home / "etc/slurm.conf"),
        }
        self.nodes = [Node(self, number) for number in range(1, settings.nodes + 1)]

    def __enter__(self):
        if self.settings.usable:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: self.settings.usable])
        for folder in ["etc", "log", "run", "state", "spool", "munge", "dev", "user"]:
            (self.home / folder).mkdir(exist_ok=True)
        (self.home / "munge").chmod(0o700)
        self._become_head()
        self._start_munged()
        self._configure()
        output_of("slurmctld", "-c", env=self.env)
        for node in self.nodes:
            node.boot()
        until(self._all_idle, "all nodes register")
        return self

    def __exit__(self, *_):
        # With the head's first process everything goes, except what is frozen.
        for state in self.freezer_states():
            state.write_text("THAWED")

    def freezer_states(self, node=None):
        """The files by which the steps of a node, or of all, are frozen."""
        name = node.name if node else f"{self.prefix}[0-9]"
        return sorted(freezer().glob(f"slurm_{name}/**/step_*/freezer.state")) if freezer() else []

    def _all_idle(self):
        lines = set(self.slurm("sinfo", "-h", "-N", "-o", "%N %t").splitlines())
        return lines == {f"{node.name} idle" for node in self.nodes}

    def _become_head(self):
        output_of("hostname", "head")
        hosts = ["127.0.0.1 localhost", f"{HEAD_ADDRESS} head"]
        hosts += [f"{node.address} {node.name}" for node in self.nodes]
        (self.home / "etc/hosts").write_text("\n".join(hosts) + "\n")
        output_of("mount", "--bind", self.home / "etc/hosts", "/etc/hosts")
        output_of("ip", "link", "set", "lo", "up")
        output_of("ip", "link", "add", "br0", "type", "bridge")
        output_of("ip", "addr", "add", f"{HEAD_ADDRESS}/24", "dev", "br0")
        output_of("ip", "link", "set", "br0", "up")

    def _start_munged(self):
        key = self.home / "munge/key"
        key.write_bytes(random.randbytes(128))
        key.chmod(0o400)
        output_of(
            "munged",
            f"--key-file={key}",
            f"--socket={self.home}/run/munge.sock",
            f"--pid-file={self.home}/run/munged.pid",
            f"--log-file={self.home}/munge/munged.log",
            f"--seed-file={self.home}/munge/seed",
            env=self.env,
        )

    def _configure(self):
        home, settings = self.home, self.settings
        proctrack = settings.proctrack or ("cgroup" if freezer() else "linuxproc")
        gres = ""
        if settings.gpus:
            gres = f"Gres=gpu:{settings.gpus}"
            for number in range(settings.gpus):
                device = home / f"dev/gpu{number}"
                if subprocess.run(["mknod", "-m", "666", device, "c", "1", "3"], check=False).returncode:
                    device.write_bytes(b"")
            names = f"{home}/dev/gpu[0-{settings.gpus - 1}]" if settings.gpus > 1 else f"{home}/dev/gpu0"
            first = settings.nodes + 1 - (settings.gpu_nodes or settings.nodes)
            with_gpus = f"{self.prefix}[{first}-{settings.nodes}]"
            (home / "etc/gres.conf").write_text(f"NodeName={with_gpus} Name=gpu File={names}\n")
        partitions = settings.partitions or "PartitionName=farm Nodes=ALL Default=YES MaxTime=INFINITE"
        lines = f"""
            ClusterName=farm
            SlurmctldHost=head({HEAD_ADDRESS})
            SlurmctldPort={PORT}
            SlurmUser=root
            SlurmdUser=root
            AuthType=auth/munge
            AuthInfo=socket={home}/run/munge.sock
            CredType=cred/munge
            CommunicationParameters=NoAddrCache,NoInAddrAny,NoCtldInAddrAny
            StateSaveLocation={home}/state
            SlurmdSpoolDir={home}/spool/%n
            SlurmctldPidFile={home}/run/slurmctld.pid
            SlurmdPidFile={home}/run/slurmd-%n.pid
            SlurmctldLogFile={home}/log/slurmctld.log
            SlurmdLogFile={home}/log/slurmd-%n.log
            ProctrackType=proctrack/{proctrack}
            TaskPlugin=task/none
            JobAcctGatherType=jobacct_gather/none
            AccountingStorageType=accounting_storage/none
            JobCompType=jobcomp/none
            SelectType=select/cons_tres
            SelectTypeParameters={settings.select}
            SchedulerType=sched/backfill
            SchedulerParameters=bf_interval=1,sched_interval=2
            MpiDefault=none
            ReturnToService=2
            SlurmdParameters=config_overrides
            KillWait={settings.kill_wait}
            CompleteWait=0
            SlurmdTimeout={settings.slurmd_timeout}
            InactiveLimit=0
            MailProg=/bin/true
            GresTypes=gpu
            {settings.extra}
        """.splitlines()
        for node in self.nodes:
            has_gpus = node.number > settings.nodes - (settings.gpu_nodes or settings.nodes)
            its_gres = gres if has_gpus else ""
            lines.append(
                f"NodeName={node.name} NodeHostname={node.name} NodeAddr={node.address}"
                f" Port={PORT + node.number} CPUs={settings.cpus} RealMemory=64000 {its_gres} State=UNKNOWN"
            )
        lines += partitions.replace("{prefix}", self.prefix).splitlines()
        text = "".join(line.strip() + "\n" for line in lines)
        (home / "etc/slurm.conf").write_text(text)
        (home / "etc/cgroup.conf").write_text(
            "CgroupAutomount=no\nCgroupMountpoint=/sys/fs/cgroup\nCgroupPlugin=autodetect\n"
        )

    def slurm(self, *command, cwd=None):
        """Runs one of Slurm's commands on the head."""
        return output_of(*command, env=self.env, cwd=cwd)

    def sbatch(self, *arguments, cwd):
        """Submits a job as a user would."""
        said = self.slurm("sbatch", *arguments, cwd=cwd)
        return Job(self, re.search(r"Submitted batch job (\d+)", said).group(1))

    def no_jobs(self, within=120):
        """Until the queue is empty."""
        until(lambda: not self.slurm("squeue", "-h"), "all jobs are over", within)

    def start_sshd(self):
        """Lets `ssh NODE` work on the head and on all nodes, as root, with keys
        and a configuration of our own."""
        folder = self.home / "ssh"
        folder.mkdir(mode=0o700)
        for name in ("host", "user"):
            output_of("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
        (folder / "sshd").write_text(
            f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nPermitRootLogin yes\n"
            f"StrictModes no\nUsePAM no\nPidFile none\n"
        )
        (folder / "ssh").write_text(
            f"IdentityFile {folder}/user\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
        )
        (self.home / "bin/ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/ssh "$@"\n')
        (self.home / "bin/ssh").chmod(0o755)
        # The machine's /run is not ours to change; what root's shell does at its
        # start, by ssh too, is not ours to wait for.
        start = (
            "mount -t tmpfs run /run && mkdir /run/sshd &&"
            " { [ ! -e /root/.bashrc ] || mount --bind /dev/null /root/.bashrc; } && /usr/sbin/sshd -f $0"
        )
        for node in self.nodes:
            node.run("sh", "-c", start, folder / "sshd")


class Job:
    """A job that was submitted."""

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.id = number

    def __str__(self):
        return f"job {self.id}"

    def show(self):
        """What `scontrol show job` knows about it."""
        text = self.cluster.slurm("scontrol", "-o", "show", "job", self.id)
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def state(self):
        return self.show()["JobState"]

    def exit(self):
        """Its exit status and signal, as in "75:0"."""
        return self.show()["ExitCode"]

    def wait_for(self, *states, within=120):
        """Until it is in one of these states; returns which."""

        seen = []

        def reached():
            seen.append(self.state())
            return seen[-1] if seen[-1] in states else None

        try:
            return until(reached, f"{self} is {' or '.join(states)}", within)
        except Failure as failure:
            raise Failure(f"{failure}; it is {seen[-1]}") from None

    def ended(self, within=120):
        """Until it is over and its nodes are free."""
        ends = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED"]
        return self.wait_for(*ends, within=within)

    def control(self, *words):
        """`scontrol VERB this-job …`"""
        self.cluster.slurm("scontrol", words[0], self.id, *words[1:])

    def update(self, setting):
        self.cluster.slurm("scontrol", "update", f"jobid={self.id}", setting)

    def cancel(self, *options, step=None):
        target = self.id if step is None else f"{self.id}.{step}"
        self.cluster.slurm("scancel", *options, target)
