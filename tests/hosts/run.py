"""Hosts that are reached by ssh: run.py [SCENARIO]..., inside of the namespaces of run.sh.

This machine's namespaces are the host from which the others are reached. The hosts n1, n2, n3
share its folder, with their own homes; n4 and n5 do not share it.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests/slurm"))

import checker  # noqa: E402
from cluster import Failure, Machine, output_of, until  # noqa: E402

BASE = Path("/tmp/pytf-hosts")
SHARED = BASE / "shared"
PROGRAM = BASE / "bin/pytf"
WORK = REPO / "tests/slurm/work"
SSHD = shutil.which("sshd")


class Host(Machine):
    """A machine with an sshd."""

    def __init__(self, number):
        super().__init__(number, f"n{number}", f"10.78.0.{number}", f"h{number}", "/")
        self.shares = number < 4
        self.home = BASE / "homes" / self.name

    def boot(self):
        super().boot()
        self.home.mkdir(parents=True, exist_ok=True)
        self.run("mount", "--bind", self.home, "/root")
        if not self.shares:
            self.run("mount", "--bind", SHARED, "/mnt")
            self.run("mount", "-t", "tmpfs", "none", SHARED)
        # The program is the starting host's alone.
        self.run("mount", "-t", "tmpfs", "none", PROGRAM.parent)
        (self.home / ".ssh").mkdir(mode=0o700, exist_ok=True)
        shutil.copy("/root/.ssh/id_ed25519.pub", self.home / ".ssh/authorized_keys")
        for name in ("id_ed25519", "config"):
            shutil.copy(Path("/root/.ssh") / name, self.home / ".ssh")
        self.run(SSHD, "-f", BASE / "sshd_config", "-E", BASE / f"sshd-{self.name}.log")

    def prepare(self, scene):
        """A host without the shared folder has the program of the tasks, and notes what they do."""
        if not self.shares:
            self.run("mkdir", "-p", scene.folder)
            self.run("cp", f"/mnt/{scene.folder.name}/work", scene.folder)
            self.run("ln", "-s", f"/mnt/{scene.folder.name}/effects", scene.folder / "effects")

    def start(self, scene, *args, program="/root/pytf"):
        """Starts pytf there, in the folder of a scene; its output is in a file of its own."""
        if not (self.home / "pytf").exists():
            shutil.copy(PROGRAM, self.home / "pytf")
        output = scene.folder / f"output-{self.name}"
        with output.open("a") as file:
            return subprocess.Popen(
                self.on("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", scene.folder, program, *args),
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
                env={**os.environ, "HOME": "/root"},
            )

    def processes(self, word):
        """Those of this host whose command line has this word in it."""
        try:
            return processes_below(self.init, word)
        except (OSError, ValueError):
            return []


def processes_below(root, word):
    found, look = [], [root]
    while look:
        pid = look.pop()
        try:
            # A child is that of the thread that has started it.
            for thread in Path(f"/proc/{pid}/task").iterdir():
                look += map(int, (thread / "children").read_text().split())
            if word in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(pid)
        except OSError:
            pass
    return found


class HostOfUser(Host):
    """A host without the shared folder, and with users of its own: nobody logs in as root."""

    USER, ID, HOME = "guest", 4321, Path("/home/guest")

    def __init__(self, number):
        super().__init__(number)
        self.shares = False
        self.user_home = BASE / "homes" / f"{self.name}-{self.USER}"

    def boot(self):
        super().boot()
        etc = BASE / f"etc-{self.name}"
        shutil.copytree("/etc", etc, symlinks=True, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        with (etc / "passwd").open("a") as passwd:
            passwd.write(f"{self.USER}:x:{self.ID}:{self.ID}::{self.HOME}:/bin/sh\n")
        with (etc / "group").open("a") as group:
            group.write(f"{self.USER}:x:{self.ID}:\n")
        self.run("mount", "--bind", etc, "/etc")
        shutil.copytree(self.home / ".ssh", self.user_home / ".ssh", dirs_exist_ok=True)
        output_of("chown", "-R", f"{self.ID}:{self.ID}", self.user_home)
        self.run("mount", "-t", "tmpfs", "none", "/home")
        self.run("mkdir", self.HOME)
        self.run("mount", "--bind", self.user_home, self.HOME)
        (self.home / ".ssh/authorized_keys").unlink()


HOSTS = [Host(number) for number in (1, 2, 3, 4, 5)]


def build():
    """The network, the keys, the hosts."""
    output_of("mount", "-t", "tmpfs", "none", "/run")
    Path("/run/sshd").mkdir(mode=0o755)
    BASE.mkdir(exist_ok=True)
    output_of("mount", "-t", "tmpfs", "-o", "mode=755", "none", BASE)
    for folder in (SHARED, PROGRAM.parent, BASE / "homes/master/.ssh"):
        folder.mkdir(parents=True)
    shutil.copy(os.environ["PYTF"], PROGRAM)
    output_of("mount", "--bind", BASE / "homes/master", "/root")
    output_of("hostname", "master")
    output_of("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
    output_of("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", BASE / "host_key")
    config = "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in HOSTS)
    Path("/root/.ssh/config").write_text(config + "Host *\n  StrictHostKeyChecking no\n  LogLevel ERROR\n")
    (BASE / "sshd_config").write_text(
        f"HostKey {BASE}/host_key\nPermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\n"
        "PidFile none\nMaxStartups 100\n"
    )
    output_of("ip", "link", "set", "lo", "up")
    output_of("ip", "link", "add", "br0", "type", "bridge")
    output_of("ip", "addr", "add", "10.78.0.254/24", "dev", "br0")
    output_of("ip", "link", "set", "br0", "up")
    for host in HOSTS:
        host.boot()


class Scene:
    """A folder with a list, and what is done with it."""

    def __init__(self, name, tasks, seconds="0.1"):
        self.folder = SHARED / name
        (self.folder / "effects").mkdir(parents=True)
        shutil.copy(WORK, self.folder / "work")
        lines = [f"./work {nth} {seconds} {nth % 7 == 6:d}\n" for nth in range(tasks)]
        (self.folder / "tasks.txt").write_text("".join(lines))
        self.tasks = tasks
        for host in HOSTS:
            host.prepare(self)
        self.workdir = self.folder / "tasks.txt_workdir"
        self.output = self.folder / "output"

    def start(self, *args):
        with self.output.open("w") as output:
            return subprocess.Popen(
                [PROGRAM, "tasks.txt", *args],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *args):
        return self.start(*args).wait(timeout=300)

    def said(self):
        return self.output.read_text()

    def require(self, holds, what):
        checker.require(holds, f"{what}\n{self.said()}")

    def ended(self):
        """How many tasks have: none while the workdir is still being made."""
        files = [self.workdir / name for name in ("finished", "failed")]
        return sum(file.read_bytes().count(b"\n") for file in files if file.exists())

    def check(self, **how):
        books = checker.check(self.workdir, self.folder / "effects", **how)
        checker.require(len(books.tasks) == self.tasks, f"{len(books.tasks)} tasks")
        return books

    def nobody_is_left(self):
        """No farmer, guard or task runs on any host, and no file of ours is left."""
        for host in HOSTS:
            for word in ("__hosted", "__piped", "__guard", "./work"):
                until(lambda host=host, word=word: not host.processes(word), f"{word} has ended on {host.name}")
        left = list((self.workdir / "logs").glob("hosts_*"))
        checker.require(not left, f"left behind: {left}")


def hosts_share_a_folder():
    """Three hosts without pytf: each gets a copy, once, and has its share of the tasks."""
    scene = Scene("share", 90)
    (scene.folder / "hosts.toml").write_text(
        'hosts = ["n1", "n2:3"]\n[defaults]\nslots = 2\n'
        f'[[host]]\nname = "third"\naddress = "{HOSTS[2].address}"\nlabels = ["fat"]\n'
    )
    scene.require(scene.run("--hosts", "hosts.toml") == 1, "every seventh task fails")
    scene.check(complete=True, nodes=["n1", "n2", "n3"])
    copies = [path for host in HOSTS[:3] for path in (host.home / ".cache/pytf").iterdir()]
    checker.require(len(copies) == 3, f"copies: {copies}")
    checker.require(all(copy.read_bytes() == PROGRAM.read_bytes() for copy in copies), "the copies are whole")
    before = [copy.stat().st_mtime_ns for copy in copies]
    slots = {journal.host: journal.header["slots"] for journal in checker.Books(scene.workdir).journals}
    checker.require(slots == {"n1": 2, "n2": 3, "n3": 2}, f"slots: {slots}")
    # Only on the third, by its label, and with an option from a variable.
    (scene.folder / "tasks.txt").write_text("test $(hostname) = n3  #PYTF node=third\ntest $(hostname) = n3  #PYTF node=fat\nfalse\n")
    shutil.rmtree(scene.workdir)
    os.environ["PYTF_RETRIES"] = "1"
    try:
        code = scene.run("--hosts", "hosts.toml")
    finally:
        del os.environ["PYTF_RETRIES"]
    books = checker.Books(scene.workdir)
    scene.require((code, len(books.finished), books.attempts) == (1, 2, {2: 2}), "labels, and options from variables")
    scene.require(scene.said().count(" tasks failed") == 1, "one summary")
    checker.require([copy.stat().st_mtime_ns for copy in copies] == before, "nothing was copied again")
    scene.nobody_is_left()


def hosts_that_cannot_be_used():
    """They are reported with the way out, and the others go on."""
    scene = Scene("unused", 20)
    (scene.folder / "hosts.toml").write_text(
        'hosts = ["n1", "10.78.0.99"]\n'
        f'[[host]]\nname = "elsewhere"\naddress = "{HOSTS[3].address}"\n'
        f'[[host]]\nname = "missing"\naddress = "{HOSTS[1].address}"\nfolder = "/nowhere"\n'
        f'[[host]]\nname = "other"\naddress = "{HOSTS[1].address}"\npytf = "/bin/true"\n'
        f'[[host]]\nname = "stranger"\nuser = "nobody"\naddress = "{HOSTS[1].address}"\n'
        f'[[host]]\nname = "sealed"\naddress = "{HOSTS[2].address}"\n'
    )
    HOSTS[2].run("mkdir", "-p", "/root/.cache")
    HOSTS[2].run("mount", "-t", "tmpfs", "-o", "noexec", "none", "/root/.cache")
    scene.require(scene.run("--hosts", "hosts.toml", "--ssh-option", "ConnectTimeout=2", "--on-end", "true") == 1, "the run is complete")
    scene.check(complete=True, nodes=["n1"])
    for words in (
        "elsewhere: not used: it does not share the workdir",
        "missing: not used: the folder /nowhere there",
        "other: not used: /bin/true there is not pytf",
        "stranger: cannot be reached: nobody@10.78.0.2: Permission denied",
        "try: ssh nobody@10.78.0.2 true",
        "10.78.0.99: cannot be reached: ssh: connect to host 10.78.0.99",
        "sealed: not used: a copy of this pytf does not run there (Linux ",
        "Permission denied): ",
        "of 7 hosts these were not used: ",
    ):
        scene.require(words in scene.said(), f"it says: {words}")
    HOSTS[2].run("umount", "/root/.cache")
    # Nobody at all.
    scene = Scene("nobody", 3)
    code = scene.run("--hosts", "10.78.0.99", "--ssh-option", "ConnectTimeout=2")
    scene.require(code == 69, f"no host can be used: {code}")
    scene.require("no host was used: 10.78.0.99" in scene.said(), "it says so")


def a_signal_stops_all():
    """Ctrl-C once: tasks are stopped and wait again; the same command completes the run."""
    scene = Scene("signal", 60, seconds="1")
    for how in (signal.SIGINT, signal.SIGTERM):
        pytf = scene.start("--hosts", "n1,n2,n3", "-n", "3")
        ended = scene.ended()
        until(lambda: scene.ended() >= ended + 9, "some have ended")
        pytf.send_signal(how)
        scene.require(pytf.wait(timeout=60) == 75, "work is left")
        scene.check()
        scene.nobody_is_left()
    scene.require(scene.run("--hosts", "n1,n2,n3", "-n", "8") == 1, "complete")
    scene.check(complete=True)


def death_of_the_starter():
    """SIGKILL: all farmers leave in good order, whatever they have of it."""
    scene = Scene("death", 60, seconds="1")
    pytf = scene.start("--hosts", "n1,n2,n3", "-n", "3")
    until(lambda: scene.ended() >= 9, "some have ended")
    pytf.kill()
    pytf.wait()
    for host in HOSTS:
        until(lambda host=host: not host.processes("__hosted"), f"the farmer on {host.name} has left")
    books = scene.check()
    reasons = [journal.why for journal in books.journals]
    scene.require(all(reasons), f"all have left in good order: {reasons}")
    checker.require(not list((scene.workdir / "nodes").glob("*.jsonl")), "no journal of a live farmer")
    scene.require(scene.run("--hosts", "n1,n2,n3", "-n", "8") == 1, "complete")
    scene.check(complete=True)


def a_cut_link_of_a_pipe():
    """Others take over what runs there, and the farmer there stops."""
    scene = Scene("pipe-cut", 60, seconds="1")
    pytf = scene.start("--hosts", "n1,n4", "-n", "3", "--ssh-option", "ServerAliveInterval=1")
    until(lambda: scene.ended() >= 9, "some have ended")
    HOSTS[3].cut()
    until(lambda: not HOSTS[3].processes("__piped"), "the farmer that hears nothing has ended", within=90)
    HOSTS[3].heal()
    scene.require(pytf.wait(timeout=120) == 1, "complete")
    scene.require("n4: the connection was lost" in scene.said(), "it is reported")
    # What ran there was not heard of when others took it over.
    scene.check(complete=True, may_rework=True, may_overlap=True)
    scene.nobody_is_left()


def lost_answers():
    """The nth answer to a request is lost, for each n: what was carried out counts once."""
    spans = {}

    def one(nth):
        scene = Scene(f"lost-{nth}", 3, seconds="0")
        path = f"{REPO}/tests/hosts/cut:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "CUT_AFTER": str(nth), "CUT_COUNT": str(scene.folder / "answers")}
        with scene.output.open("w") as output:
            # Where the last farmer was lost when it left, the next one puts the files in order.
            for _ in range(2):
                done = subprocess.run(
                    [PROGRAM, "tasks.txt", "--hosts", "far", "-n", "2"],
                    cwd=scene.folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=200, check=False,
                )
                scene.require(done.returncode == 0, f"answer {nth}: ended with {done.returncode}")
                spans.setdefault(nth, int((scene.folder / "answers").read_text()))
        scene.check(complete=True, may_rework=True)

    with ThreadPoolExecutor(8) as pool:
        one(10_000)
        last = spans[10_000]
        print(f"  {last} answers in a run of 3 tasks", flush=True)
        list(pool.map(one, range(1, last + 1)))


def a_cut_link():
    """A host that is cut off stops after a minute of silence, and is used again when it is back."""
    scene = Scene("cut", 400, seconds="1")
    pytf = scene.start("--hosts", "n1,n2", "-n", "3", "--ssh-option", "ServerAliveInterval=1")
    until(lambda: scene.ended() >= 9, "some have ended")
    HOSTS[0].cut()
    # The shared folder of this test is there all the time: the farmer leaves by itself.
    until(lambda: not HOSTS[0].processes("__hosted"), "the farmer that hears nothing has left", within=90)
    HOSTS[0].heal()
    until(lambda: HOSTS[0].processes("__hosted"), "it is started again", within=90)
    scene.require("n1: the connection was lost" in scene.said(), "it is reported")
    pytf.send_signal(signal.SIGTERM)
    scene.require(pytf.wait(timeout=60) == 75, "work is left")
    scene.check()
    scene.nobody_is_left()


def hosts_without_a_shared_folder():
    """They work on the workdir by the pipe of ssh; what their tasks print is in its logs."""
    scene = Scene("pipe", 120, seconds="0.5")
    scene.require(scene.run("--hosts", "n1,n4,n5", "-n", "3") == 1, "every seventh task fails")
    books = scene.check(complete=True, nodes=["n1", "n4", "n5"])
    for journal in books.journals:
        for end in journal.ends:
            printed = (scene.workdir / end["log"]["file"]).read_text()
            scene.require(printed == f"this is task {end['id']}\n", f"{end}: {printed}")
    scene.nobody_is_left()
    for host in HOSTS[3:]:
        checker.require(not list((host.home / ".cache/pytf").glob("run-*")), "no folder is left")
    # Alone, with other forms of logs, and large ones.
    for mode in ("split", "packed", "failed"):
        scene = Scene(f"pipe-{mode}", 14)
        code = scene.run("--hosts", "n4,n5", "--logs", mode, "-n", "4")
        scene.require(code == 1, f"{mode}: {code}")
        scene.check(complete=True)
        printed = (scene.workdir / "logs/log_6").read_text()
        scene.require(printed == "this is task 6\n", f"{mode}: {printed}")
        checker.require((scene.workdir / "logs/log_5").exists() == (mode != "failed"), mode)
    (scene.folder / "tasks.txt").write_text("head -c 3000000 /dev/zero\n")
    shutil.rmtree(scene.workdir)
    scene.require(scene.run("--hosts", "n4") == 0, "a large log")
    checker.require((scene.workdir / "logs/log_0").stat().st_size == 3000000, "a large log is whole")


def hosts_with_their_own_users():
    """Another user there, with a home of its own: that has the copy of pytf, and the tasks run in it."""
    scene = Scene("users", 60, seconds="0.5")
    host = HostOfUser(6)
    host.boot()
    (scene.folder / "effects").chmod(0o777)
    (host.user_home / "effects").symlink_to(f"/mnt/{scene.folder.name}/effects")
    (scene.folder / "hosts.toml").write_text(
        'hosts = ["n4"]\n[defaults]\nslots = 3\n'
        f'[[host]]\nname = "theirs"\naddress = "{host.address}"\nuser = "{host.USER}"\ncopy-in = ["work"]\n'
    )
    # No host has done all before the other is there.
    (scene.folder / "there").mkdir()
    (scene.folder / "there").chmod(0o777)
    there = f"there=there; [ -d there ] || there=/mnt/{scene.folder.name}/there; touch $there/$(id -un)"
    setup = f"echo up; id -un; pwd; {there}; until [ -e $there/{host.USER} ]; do sleep 0.1; done"
    commands = ("--node-setup", setup, "--node-teardown", "echo down")
    scene.require(scene.run("--hosts", "hosts.toml", *commands) == 1, "every seventh task fails")
    books = scene.check(complete=True, nodes=["n4", "n6"])
    ours = {task for journal in books.journals if journal.host == "n6" for task in (end["id"] for end in journal.ends)}
    owners = {nth: (scene.folder / f"effects/{nth}").stat().st_uid for nth in range(60)}
    scene.require(all((uid == host.ID) == (nth in ours) for nth, uid in owners.items()), f"{ours}: {owners}")
    copies = [path for path in (host.user_home / ".cache/pytf").iterdir()]
    scene.require([path.name[:5] for path in copies] == ["pytf-"], f"a copy, and nothing else: {copies}")
    stat = copies[0].stat()
    scene.require((stat.st_uid, stat.st_mode & 0o777) == (host.ID, 0o700), f"it is that user's own: {stat}")
    scene.require(copies[0].read_bytes() == PROGRAM.read_bytes(), "it is whole")
    checker.require(not (host.home / ".cache").exists(), "nothing is in the home of root there")
    printed = {path.name.split(".")[0]: path.read_text() for path in (scene.workdir / "logs").glob("*_n6.*")}
    expected = {"setup_n6": f"up\n{host.USER}\n{host.HOME}\n", "teardown_n6": "down\n"}
    scene.require(printed == expected, f"what the commands there have printed: {printed}")
    scene.nobody_is_left()
    host.power_off()


def files_are_copied():
    """Only what has changed, whole or not at all, and to hosts without the folder only."""
    scene = Scene("copy", 0)
    for nth in range(40):
        file = scene.folder / "data" / f"{nth % 4}" / f"{nth}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(nth * 100))
    (scene.folder / "data/link").symlink_to("0/4")
    (scene.folder / "data/empty").mkdir()
    (scene.folder / "tool").write_text("#!/bin/sh\ncat data/link data/3/39\n")
    (scene.folder / "tool").chmod(0o755)
    (scene.folder / "hosts.toml").write_text(
        'hosts = ["n4", "n5"]\n[defaults]\nslots = 2\nfolder = "~/below/it"\ncopy-in = ["data"]\n'
        f'[[host]]\nname = "n1"\nfolder = "{scene.folder}"\n'
        f'[[host]]\nname = "far"\naddress = "{HOSTS[4].address}"\nfolder = "~/full"\n'
    )
    HOSTS[4].run("mkdir", "-p", "/root/full/data/0/4")
    long_ago = time.time() - 100
    for path in [*scene.folder.glob("data/*/*"), scene.folder / "tool"]:
        os.utime(path, (long_ago, long_ago))

    def run(expected, *more):
        shutil.rmtree(scene.workdir, ignore_errors=True)
        # One for each host: none ends before the others have begun.
        lines = "".join(f"./tool && sleep 1 #PYTF node={name}\n" for name in ("n4", "n5"))
        (scene.folder / "tasks.txt").write_text(lines)
        code = scene.run("--hosts", "hosts.toml", "--copy-in", "tool", *more)
        scene.require(code == 0, f"it ends with {code}")
        said = re.findall(r"(n\d): copied (\d+) files? there", scene.said())
        scene.require(sorted(said) == sorted(expected), f"{said} are copied")
        for host in HOSTS[3:]:
            for name in ("data", "tool"):
                host.run("diff", "-r", "--no-dereference", f"/mnt/copy/{name}", f"/root/below/it/{name}")
            host.run("test", "-x", "/root/below/it/tool")
            host.run("test", "-d", "/root/below/it/data/empty")
            host.run("test", "-L", "/root/below/it/data/link")

    run([("n4", "41"), ("n5", "41")])
    scene.require("far: not used: files cannot be copied there: data/0/4 is a folder there" in scene.said(), "it says why")
    run([])
    # One is changed, and keeps its length; one has another time, and is the same.
    (scene.folder / "data/2/38").write_bytes(os.urandom(3800))
    os.utime(scene.folder / "data/1/37")
    run([("n4", "1"), ("n5", "1")])
    # Everything, but not the workdir.
    run([("n4", str(1 + 3)), ("n5", str(1 + 3))], "--copy-in", ".")
    HOSTS[3].run("test", "!", "-e", "/root/below/it/tasks.txt_workdir")
    for path, words in (("/etc", "absolute"), ("../x", "'..'"), ("nothing", "No such file")):
        scene.require(scene.run("--hosts", "n4", "--copy-in", path) == 2 and words in scene.said(), f"{path} is refused")


def a_copy_that_is_killed():
    """A file is never there in part; the next connection copies it."""
    scene = Scene("copy-kill", 0)
    big = 300 << 20
    with (scene.folder / "big").open("wb") as file:
        file.truncate(big)
    (scene.folder / "tasks.txt").write_text("test $(stat -c %s big) = $SIZE\n".replace("$SIZE", str(big)))
    HOSTS[3].run("rm", "-rf", "/root/kill")
    (scene.folder / "hosts.toml").write_text('hosts = ["n4"]\n[defaults]\nfolder = "~/kill"\n')
    there = HOSTS[3].home / "kill"
    for _ in range(3):
        pytf = scene.start("--hosts", "hosts.toml", "--copy-in", "big")
        until(lambda: sum(file.stat().st_size for file in there.glob(".pytf-copy*")) > (20 << 20), "some of it is there")
        scene.require(not (there / "big").exists(), "it is not there in part")
        for pid in HOSTS[3].processes("__host"):
            os.kill(pid, 9)
        scene.require(pytf.wait(timeout=60) == 69, "no host can be used")
        scene.require(not (there / "big").exists(), "it is not there in part")
        for file in there.glob(".pytf-copy*"):
            file.unlink()
    scene.require(scene.run("--hosts", "hosts.toml", "--copy-in", "big") == 0, "complete")
    scene.require((there / "big").stat().st_size == big, "it is whole")
    # Stopped by Ctrl-C in the middle, it leaves nothing behind.
    (there / "big").unlink()
    shutil.rmtree(scene.workdir)
    pytf = scene.start("--hosts", "hosts.toml", "--copy-in", "big")
    until(lambda: sum(file.stat().st_size for file in there.glob(".pytf-copy*")) > (20 << 20), "some of it is there")
    pytf.send_signal(signal.SIGINT)
    scene.require(pytf.wait(timeout=60) == 75, "work is left")
    until(lambda: not list(there.iterdir()), "nothing is left behind")


def inputs_and_results():
    """Inputs are fetched once, results are brought back whole, whether a host shares the folder or not."""
    scene = Scene("results", 0)
    (scene.folder / "in").mkdir()
    common = os.urandom(3_000_000)
    (scene.folder / "in/common").write_bytes(common)
    (scene.folder / "in/tool").write_text("#!/bin/sh\ncat $1 in/common | md5sum; hostname\n")
    (scene.folder / "in/tool").chmod(0o755)
    (scene.folder / "secret").write_text("treasure")
    lines = ""
    for nth in range(30):
        (scene.folder / f"in/{nth}").write_text(f"input {nth}\n")
        lines += (
            f"mkdir -p out/{nth}/deep/er && in/tool in/{nth} > out/{nth}/deep/er/sum && cp in/{nth} out/{nth}/copy"
            f"  #PYTF in=in/common,in/tool,in/{nth} out=out/{nth}/*\n"
        )
    lines += "true #PYTF in=nothing node=n4\ntrue #PYTF out=nothing node=n4\ncat secret #PYTF node=n4\n"
    lines += "head -c 20000000 /dev/urandom > big; md5sum < big > sum #PYTF out=big,sum node=n4\n"
    (scene.folder / "tasks.txt").write_text(lines)
    scene.require(scene.run("--hosts", "n1,n4,n5", "-n", "3") == 1, "three tasks fail")
    books = checker.Books(scene.workdir)
    failed = sorted(id for id, _ in books.failed)
    scene.require(failed == [30, 31, 32], f"failed: {failed}")
    results = scene.workdir / "results"
    hosts = set()
    for nth in range(30):
        text = f"input {nth}\n".encode()
        scene.require((results / f"{nth}/out/{nth}/copy").read_bytes() == text, f"result {nth}")
        found, host = (results / f"{nth}/out/{nth}/deep/er/sum").read_text().splitlines()
        scene.require(found.split()[0] == hashlib.md5(text + common).hexdigest(), f"its inputs were whole: {nth}")
        hosts.add(host)
    scene.require(hosts == {"n1", "n4", "n5"}, f"on {hosts}")
    big = hashlib.md5((results / "33/big").read_bytes()).hexdigest()
    scene.require((results / "33/sum").read_text().split()[0] == big, "a large result is whole")
    scene.require(sorted(path.name for path in results.iterdir()) == sorted([str(nth) for nth in range(30)] + ["33"]), "and nothing else")
    log = (scene.workdir / "logs/log_30").read_text()
    scene.require("its input nothing: No such file" in log, log)
    log = (scene.workdir / "logs/log_31").read_text()
    scene.require("its result nothing is not there" in log, log)
    scene.require("No such file" in (scene.workdir / "logs/log_32").read_text(), "what is not named is not there")
    # Once for each host, and again when it has changed.
    there = HOSTS[3].run("stat", "-c", "%i", scene.folder / "in/common")
    (scene.folder / "tasks.txt").write_text("cat in/0 in/common | md5sum #PYTF node=n4 in=in/common,in/0\n")
    (scene.folder / "in/0").write_text("changed")
    shutil.rmtree(scene.workdir)
    scene.require(scene.run("--hosts", "n4") == 0, "complete")
    log = (scene.workdir / "logs/log_0").read_text()
    scene.require(log.split()[0] == hashlib.md5(b"changed" + common).hexdigest(), "what has changed was fetched")
    scene.require(HOSTS[3].run("stat", "-c", "%i", scene.folder / "in/common") == there, "what has not was not")
    scene.nobody_is_left()


def results_of_lost_connections():
    """A connection is lost while results are brought back: what has the name of a result is whole."""
    scene = Scene("results-lost", 0)
    line = "head -c 8000000 /dev/zero | tr '\\0' x > big.{0}; head -c 8000000 /dev/zero | tr '\\0' y > more.{0} #PYTF out=*.{0}\n"
    (scene.folder / "tasks.txt").write_text("".join(line.format(nth) for nth in range(30)))
    pytf = scene.start("--hosts", "n4,n5", "-n", "2", "--takeover", "12")
    results, kills = scene.workdir / "results", 0
    while pytf.poll() is None:
        # Folders get other names meanwhile.
        there = [(Path(folder), files) for folder, _, files in os.walk(results)]
        parts = [folder for folder, files in there if folder.name.startswith(".") and files]
        for folder, files in there:
            for name in files if folder.name.isdigit() else []:
                scene.require((folder / name).stat().st_size == 8_000_000, f"{folder}/{name} is whole")
        if kills < 6 and parts:
            victims = processes_below(pytf.pid, "ssh -T")
            if victims:
                os.kill(random.choice(victims), 9)
                kills += 1
                time.sleep(1)
        time.sleep(0.02)
    scene.require((pytf.returncode, kills) == (0, 6), f"complete: {pytf.returncode} after {kills} kills")
    books = checker.Books(scene.workdir)
    scene.require(len(books.finished) == 30, f"finished: {len(books.finished)}")
    for nth in range(30):
        found = {path.name: path.stat().st_size for path in (results / str(nth)).iterdir()}
        scene.require(found == {f"big.{nth}": 8_000_000, f"more.{nth}": 8_000_000}, f"result {nth}: {found}")
    scene.nobody_is_left()


def signals_and_death_by_a_pipe():
    """The same as with a shared folder; what the starter had claimed by its pipes is found."""
    scene = Scene("pipe-signal", 60, seconds="1")
    for how in (signal.SIGINT, signal.SIGKILL):
        pytf = scene.start("--hosts", "n4,n5", "-n", "4", "--takeover", "12")
        ended = scene.ended()
        until(lambda: scene.ended() >= ended + 9, "some have ended")
        pytf.send_signal(how)
        code = pytf.wait(timeout=60)
        scene.require(code == 75 or how == signal.SIGKILL, f"work is left: {code}")
        for host in HOSTS[3:]:
            until(lambda host=host: not host.processes("__piped"), f"the farmer on {host.name} has left")
        scene.check(at_rest=how != signal.SIGKILL, may_rework=True)
    scene.require(scene.run("--hosts", "n4,n5", "-n", "8") == 1, "complete")
    scene.check(complete=True, may_rework=True)


def machines_join_by_ssh():
    """They log in to the host that has the workdir, which has no pytf; another works there."""
    scene = Scene("far", 200, seconds="1")
    # n4 has the folder of all scenes in another place.
    scene.workdir, far = scene.folder / "w", f"ssh://n4/mnt/{scene.folder.name}/w"
    n1, n2, n4, n5 = (HOSTS[nth] for nth in (0, 1, 3, 4))
    ask = ("--ssh-option", "ServerAliveInterval=1", "-n", "2", "--takeover", "12")
    farmers = {n1: n1.start(scene, "tasks.txt", "-w", far, *ask)}
    until(lambda: scene.ended() >= 2, "some have ended")
    # Without a list, since the run is there; and beside a farmer that has the folder.
    farmers[n5] = n5.start(scene, "-w", far, *ask)
    farmers[n2] = n2.start(scene, "tasks.txt", "-w", far, *ask)
    copy = next((n4.home / ".cache/pytf").iterdir())
    copy = f"/root/.cache/pytf/{copy.name}"
    local = n4.start(scene, "-w", f"/mnt/{scene.folder.name}/w", "-n", "1", program=copy)
    until(lambda: all(processes_below(farmer.pid, "./work") for farmer in farmers.values()), "all have work")
    # Below the process that went into the namespaces.
    os.kill(int(Path(f"/proc/{farmers[n2].pid}/task/{farmers[n2].pid}/children").read_text().split()[0]), 9)
    farmers.pop(n2).wait()
    n1.cut()
    said = lambda host: (scene.folder / f"output-{host.name}").read_text()
    until(lambda: "joining again" in said(n1), "the cut is noticed", within=60)
    until(lambda: len(n4.processes("__host")) == 1, "nothing is left of it on the other side", within=60)
    n1.heal()
    for host, farmer in farmers.items():
        checker.require(farmer.wait(timeout=120) in (0, 1), f"{host.name}: {said(host)}")
    checker.require(local.wait(timeout=60) in (0, 1), said(n4))
    again = n1.start(scene, "tasks.txt", "-w", far, *ask)
    checker.require(again.wait(timeout=60) == 1, f"nothing is left to do: {said(n1)}")
    # The timeline is written where the files are.
    last = n4.start(scene, "-w", f"/mnt/{scene.folder.name}/w", program=copy)
    checker.require(last.wait(timeout=60) == 1, said(n4))
    books = scene.check(complete=True, may_rework=True, may_overlap=True)
    names = {journal.host for journal in books.journals}
    checker.require(names == {"n1", "n2", "n4", "n5"}, f"all had a part: {names}")
    scene.nobody_is_left()
    until(lambda: not n4.processes("__host"), "no server is left")
    for host in (n1, n5):
        checker.require(not list((host.home / ".cache/pytf").glob("run-*")), f"no folder is left on {host.name}")


def hosts_are_asked():
    """What they are; and one command on all of them, which ends with whoever has started it."""
    folder = Scene("ask", 1).folder
    ask = {"cwd": folder, "capture_output": True, "text": True, "timeout": 120, "check": False}
    done = subprocess.run([PROGRAM, "hosts", "--hosts", "n1,n4,10.78.0.99", "--ssh-option", "ConnectTimeout=2", "--json"], **ask)
    checker.require(done.returncode == 69, f"one is not there: {done}")
    n1, n4, gone = json.loads(done.stdout)
    for host, name, shares in ((n1, "n1", True), (n4, "n4", False)):
        checker.require((host["node"], host["shares_folder"]) == (name, shares), f"{host}")
        checker.require(abs(host["clock"]["ahead"]) < 1 and host["free_kib"] > 0 and host["problem"] is None, f"{host}")
    checker.require("try: ssh 10.78.0.99 true" in gone["problem"], f"{gone}")
    checker.require(not list(folder.glob(".pytf*")), "no file is left")
    on = [PROGRAM, "on", "--hosts", "n1,n4,n5", "--"]
    done = subprocess.run([*on, "echo $(hostname) \"isn't\" $PWD; printf half; test $(hostname) != n5"], **ask)
    checker.require(done.returncode == 1, f"it fails on one: {done}")
    lines = [f"{name}: {text}" for name in ("n1", "n4", "n5") for text in (f"{name} isn't {folder}", "half")]
    checker.require(sorted(done.stdout.splitlines()) == sorted(lines), f"{done}")
    checker.require(done.stderr == "pytf: 2 of 3 hosts: exit status 0; n5: exit status 1\n", f"{done}")
    for how, code in ((signal.SIGINT, 75), (signal.SIGKILL, -9)):
        pytf = command_on(on)
        pytf.send_signal(how)
        checker.require(pytf.wait(timeout=60) == code, f"{how}")
        for host in (HOSTS[0], *HOSTS[3:]):
            until(lambda host=host: not host.processes("sleep 100"), f"the command has ended on {host.name}")


def command_on(on):
    """A command that runs on n1, n4 and n5."""
    pytf = subprocess.Popen([*on, "sleep 1000 & sleep 1001"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until(lambda: all(host.processes("sleep 1001") for host in (HOSTS[0], *HOSTS[3:])), "it runs everywhere")
    return pytf


def a_cut_link_of_a_command():
    """It is ended there after a minute without a sign of life."""
    pytf = command_on([PROGRAM, "on", "--hosts", "n1,n4,n5", "--ssh-option", "ServerAliveInterval=1", "--"])
    HOSTS[3].cut()
    until(lambda: not HOSTS[3].processes("sleep 100"), "the command that hears nothing has ended", within=120)
    checker.require(HOSTS[4].processes("sleep 1001"), "the others go on")
    HOSTS[3].heal()
    pytf.send_signal(signal.SIGTERM)
    checker.require(pytf.wait(timeout=60) == 75, "it was stopped")


def a_storm():
    """Farmers, sshd, ssh and hosts are killed at random: every task has one result."""
    storm("storm", HOSTS[:3])


def a_storm_over_pipes():
    """The same on two hosts without the folder, and one with it."""
    storm("pipe-storm", [HOSTS[0], *HOSTS[3:]])


def a_storm_over_all():
    """On hosts with and without the folder; the process that has started the farmers is killed, too."""
    storm("all-storm", HOSTS, "starter")


def storm(name, hosts, *more):
    tasks, seconds = int(os.environ.get("HOSTS_TASKS", "300")), float(os.environ.get("HOSTS_SECONDS", "20"))
    seed = int(os.environ.get("HOSTS_SEED", time.time_ns() % 100_000))
    chance = random.Random(seed)
    print(f"  seed {seed}", flush=True)
    scene = Scene(name, tasks, seconds="0.5")
    began = time.monotonic()

    def start():
        return scene.start("--hosts", ",".join(host.name for host in hosts), "-n", "4")

    pytf = start()
    until(lambda: scene.ended() >= 4, "some have ended")
    kills, until_when = {}, time.monotonic() + seconds
    while time.monotonic() < until_when and pytf.poll() is None:
        time.sleep(chance.uniform(0.2, 2.0))
        what = chance.choice(["farmer", "sshd", "ssh", "host", *more])
        host = chance.choice(hosts)
        if what == "host" and kills.get("host", 0) == 2:
            what = "farmer"
        if what == "host":
            host.power_off()
            host.boot()
            host.prepare(scene)
        elif what == "starter":
            pytf.kill()
            pytf.wait()
            scene.output.rename(scene.folder / f"output-{kills.get(what, 0)}")
            pytf = start()
        elif what == "ssh":
            victims = processes_below(pytf.pid, "ssh -T")
            if not victims:
                continue
            os.kill(chance.choice(victims), 9)
        else:
            word = "sshd: root" if what == "sshd" else "__hosted" if host.shares else "__piped"
            victims = host.processes(word)
            if not victims:
                continue
            try:
                os.kill(chance.choice(victims), 9)
            except ProcessLookupError:
                continue
        kills[what] = kills.get(what, 0) + 1
    print(f"  {kills}", flush=True)
    # Each task of half a second, on four slots of each host, and as long again.
    code = pytf.wait(timeout=300 + tasks / 4 / len(hosts))
    scene.require(code == 1, f"the run is complete: {code}")
    books = scene.check(complete=True, may_rework=True, may_overlap=True)
    took = time.monotonic() - began
    print(f"  {tasks} tasks in {took:.0f} s by {len(books.journals)} farmers; {len(books.attempts)} tried again", flush=True)
    scene.nobody_is_left()


def figures():
    """Not a test: what four hosts do with a shared folder, and without one over longer ways."""
    print(f"  {'way':>8}{'kbit/s':>8}  {'tasks':20}{'s':>7}{'tasks/s':>9}{'kB/task':>9}{'turns/task':>11}", flush=True)
    for way, rate in (("shared", 0), ("0.2", 0), ("2", 0), ("20", 0), ("50", 1000)):
        for host in HOSTS[1:]:
            host.power_off()
            host.shares = way == "shared"
            host.boot()
        figure(way, rate, 2000, "true", 8)
        figure(way, rate, 1000, "sleep 5", 32)


def figure(way, rate, tasks, command, slots):
    scene = Scene(f"{way}-{tasks}", 0)
    (scene.folder / "tasks.txt").write_text(f"{command}\n" * tasks)
    counts = scene.folder / "counts"
    options = ["--hosts", ",".join(host.name for host in HOSTS[1:]), "-n", str(slots)]
    if way != "shared":
        options += ["--ssh-option", f"ProxyCommand={REPO}/tests/hosts/slow {way} {rate} %h 22 {counts}"]
    began = time.monotonic()
    scene.require(scene.run(*options) == 0, "complete")
    took = time.monotonic() - began
    finished = (scene.workdir / "finished").read_bytes().count(b"\n")
    checker.require(finished == tasks, f"{finished} have finished")
    there, back, turns = 0, 0, 0
    for line in counts.read_text().splitlines() if counts.exists() else []:
        there, back, turns = (sum(pair) for pair in zip((there, back, turns), map(int, line.split())))
    print(
        f"  {way:>8}{rate or '':>8}  {tasks:5} x {command:12}{took:7.1f}{tasks / took:9.1f}"
        f"{(there + back) / 1000 / tasks:9.1f}{turns / tasks:11.2f}",
        flush=True,
    )


def fifty():
    """Not a test: how long fifty hosts take to start, with and without a shared folder."""
    for shares in (True, False):
        hosts = [Host(number) for number in range(6, 56)]
        for host in hosts:
            host.shares = shares
            shutil.rmtree(host.home, ignore_errors=True)
            host.boot()
        for nth, what in enumerate(("they get a copy of pytf", "they have it")):
            scene = Scene(f"fifty-{shares}-{nth}", 0)
            (scene.folder / "tasks.txt").write_text("sleep 2\n" * 2000)
            began = time.time()
            pytf = scene.start("--hosts", ",".join(host.address for host in hosts), "-n", "2")
            starts = until(lambda: first_starts(scene, len(hosts)), "each has started a task", within=300)
            after = sorted(at / 1e6 - began for at in starts)
            folder = "the folder is shared" if shares else "it is not"
            print(f"  {folder}, {what}: first task after {after[0]:.1f} s, last host's after {after[-1]:.1f} s", flush=True)
            pytf.send_signal(signal.SIGTERM)
            scene.require(pytf.wait(timeout=120) == 75, "work is left")
        for host in hosts:
            host.power_off()


def first_starts(scene, hosts):
    """When each host has started its first task, once all have."""
    if not (scene.workdir / "lock").exists():
        return None
    journals = [path.read_text().splitlines() for path in (scene.workdir / "nodes").glob("*.jsonl")]
    starts = [[line for line in lines if '"event":"start"' in line] for lines in journals]
    starts = [json.loads(lines[0])["at"] for lines in starts if lines]
    return starts if len(starts) == hosts else None


SCENARIOS = {
    "share": hosts_share_a_folder,
    "unused": hosts_that_cannot_be_used,
    "signal": a_signal_stops_all,
    "death": death_of_the_starter,
    "pipe": hosts_without_a_shared_folder,
    "users": hosts_with_their_own_users,
    "copy": files_are_copied,
    "copy-kill": a_copy_that_is_killed,
    "results": inputs_and_results,
    "results-lost": results_of_lost_connections,
    "pipe-signal": signals_and_death_by_a_pipe,
    "far": machines_join_by_ssh,
    "ask": hosts_are_asked,
    "storm": a_storm,
    "pipe-storm": a_storm_over_pipes,
    "all-storm": a_storm_over_all,
    "lost": lost_answers,
    "cut": a_cut_link,
    "pipe-cut": a_cut_link_of_a_pipe,
    "on-cut": a_cut_link_of_a_command,
    "figures": figures,
    "fifty": fifty,
}


def main(names):
    if names and names[0] == "--help":
        print(__doc__, "\n".join(f"{name:8} {what.__doc__}" for name, what in SCENARIOS.items()), sep="\n")
        return 0
    # A shell starts what is in the background with Ctrl-C ignored, and pytf respects that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # These take minutes.
    long = ["lost", "cut", "pipe-cut", "on-cut", "storm", "all-storm", "figures", "fifty"]
    names = list(SCENARIOS) if names == ["--all"] else names or [name for name in SCENARIOS if name not in long]
    build()
    failed = 0
    for name in names:
        began = time.monotonic()
        try:
            SCENARIOS[name]()
            print(f"ok {name} {time.monotonic() - began:.1f} s", flush=True)
        except (Failure, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAILED {name}: {error}", flush=True)
            for path in sorted(BASE.glob("shared/*/output*")):
                print(f"--- {path}\n{path.read_text()[-3000:]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
