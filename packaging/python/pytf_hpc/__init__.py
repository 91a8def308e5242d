"""Use a run of pytf from Python: add tasks, wait for them, read their results, steer the run.

    from pytf_hpc import Run

    run = Run("sweep")                                  # its workdir
    ids = run.add(f"./sim {seed}" for seed in range(100))
    for result in run.as_completed(ids):                # as the tasks end
        print(result.id, result.outcome, result.seconds)

The farm itself is started as ever, here or by a job: ``pytf --workdir sweep --follow``.

Everything is done by the program ``pytf``, whose JSON is read; so a run can be used from any
machine that sees its workdir. The program is the argument ``pytf`` of Run, else the variable
PYTF, else the one that was installed with this module, else that in PATH. What the program
refuses is a PytfError with its message and its exit status.

The module is called ``pytf_hpc``, as its distribution is: ``pytf`` on PyPI is another project.
It needs nothing but the standard library of Python 3.7 (in 3.6, the package dataclasses).
"""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple, Union

__all__ = ["NotRunning", "PytfError", "Result", "Run", "Status"]

Ids = Union[int, Iterable[int]]
_Path = Union[str, "os.PathLike[str]"]

# How often as_completed looks, in seconds: not more often than this, nor than takes a part of the
# time of ten, so that a run with many tasks is not read all the time; and not less often.
_OFTEN, _RARELY = 0.2, 10.0
# Longer lists of ids do not go onto a command line.
_LONGEST = 100_000
# The exit status when work is left.
_LEFT = 75


class PytfError(Exception):
    """The program refused, or failed. `status` is its exit status, `message` what it said."""

    def __init__(self, message: str, status: int, command: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.command = list(command)

    def __str__(self) -> str:
        return "{} (exit status {})".format(self.message, self.status)


class NotRunning(PytfError):
    """Tasks are left, and no process works on the run: start one, or the same command again."""


@dataclass(frozen=True)
class Result:
    """A task that has ended, with its last attempt. What is not known is None."""

    id: int
    command: str
    #: "finished", "failed" or "cancelled".
    place: str
    #: How often it was tried.
    attempts: Optional[int]
    #: How it ended: "exit", "signal", "time-limit", "out-of-memory", ...
    outcome: Optional[str]
    #: Its exit status, or the number of the signal.
    status: Optional[int]
    signal: Optional[int]
    node: Optional[str]
    farmer: Optional[str]
    slot: Optional[int]
    #: When it began, in seconds since 1970 by the clock of its node, and how long it took.
    start: Optional[float]
    seconds: Optional[float]
    #: CPU time in seconds, peak memory, what was read from storage and written there.
    user: Optional[float]
    sys: Optional[float]
    peak_kib: Optional[int]
    read_kib: Optional[int]
    written_kib: Optional[int]
    #: The path of its log, and offset and length in it where several tasks share a log.
    log: Optional[str]
    part: Optional[Tuple[int, int]]
    #: The path of the log of its standard error, where it has one of its own (--logs split).
    stderr: Optional[str] = None

    @property
    def ok(self) -> bool:
        """Whether it ended with exit status 0."""
        return self.place == "finished"


@dataclass(frozen=True)
class Status:
    """The state of a run, when it was read."""

    #: "complete": no task is left. "running": tasks are left and a process is alive.
    #: "stopped": tasks are left and no process is alive.
    state: str
    paused: bool
    #: How many tasks there are, and where.
    total: int
    finished: int
    failed: int
    cancelled: int
    claimed: int
    running: int
    waiting: int
    left: int
    #: All that `pytf status --json` says: docs/status-json.md.
    json: Dict[str, Any] = field(repr=False, compare=False)


class Run:
    """A run, by its workdir. `pytf` is the program, if it is not to be looked for."""

    def __init__(self, workdir: _Path, pytf: Optional[_Path] = None) -> None:
        self.workdir = os.fspath(workdir)
        self.pytf = os.fspath(pytf) if pytf is not None else _program()

    def __repr__(self) -> str:
        return "Run({!r})".format(self.workdir)

    def add(self, commands: Union[str, Iterable[str]]) -> List[int]:
        """Adds a task, or several; returns their ids, in the same order. A workdir that does not
        exist is created. All of them are added, or none."""
        lines = [commands] if isinstance(commands, str) else list(commands)
        for line in lines:
            _check(line)
        if not lines:
            return []
        said = self._run("add", "--from", "-", stdin="".join(line + "\n" for line in lines))
        return _ids(said)

    def wait(
        self, ids: Optional[Ids] = None, timeout: Optional[float] = None, while_running: bool = False
    ) -> bool:
        """Waits until the run is complete, or these tasks have ended; returns whether all have
        finished. Raises TimeoutError after `timeout` seconds. Goes on waiting when no process
        works on the run, since one may come; with `while_running` that raises NotRunning."""
        chosen = self._chosen(ids)
        if chosen == [""]:
            return True
        until, pause = _Until(timeout), _OFTEN
        while True:
            limit = []  # type: List[str]
            if until.rest is not None:
                # 0 has another meaning there.
                limit = ["--timeout={:d}ms".format(max(1, int(until.rest * 1000)))]
            done = self._call(["wait"] + chosen + limit, None)
            if done.returncode in (0, 1):
                return done.returncode == 0
            error = self._error(done)
            if done.returncode != _LEFT:
                raise error
            if until.is_over:
                raise TimeoutError(error.message)
            if while_running:
                raise NotRunning(error.message, error.status, error.command)
            until.sleep(pause)
            pause = min(2 * pause, _RARELY)

    def as_completed(
        self, ids: Optional[Ids] = None, timeout: Optional[float] = None, while_running: bool = False
    ) -> Iterator[Result]:
        """The results of these tasks, or of all until the run is complete, as they end. Raises
        TimeoutError when some have not ended `timeout` seconds after the first was asked for,
        and waits for processes as `wait` does."""
        until = _Until(timeout)
        left = None  # type: Optional[Set[int]]
        if ids is not None:
            left = {ids} if isinstance(ids, int) else set(ids)
        seen = set()  # type: Set[int]
        while left is None or left:
            looked = time.monotonic()
            # Before the results: what has ended by then is among them.
            status = self.status() if left is None or while_running else None
            for result in self.results(left):
                if result.id not in seen:
                    seen.add(result.id)
                    yield result
            if left is not None:
                left = left - seen
            if left is None and status is not None and status.left == 0 or left == set():
                return
            if status is not None and status.state != "running" and while_running:
                raise NotRunning("tasks are left, and no process works on the run", _LEFT)
            if until.is_over:
                raise TimeoutError("{} tasks have ended in time".format(len(seen)))
            until.sleep(min(max(_OFTEN, 10 * (time.monotonic() - looked)), _RARELY))

    def results(self, ids: Optional[Ids] = None) -> Iterator[Result]:
        """The tasks that have ended, all or these, in no particular order. A failed task that was
        put back has not ended."""
        chosen = self._chosen(ids)
        if chosen == [""]:
            return
        wanted = None  # type: Optional[Set[int]]
        if chosen and len(chosen[0]) > _LONGEST:
            assert ids is not None and not isinstance(ids, int)
            wanted, chosen = set(ids), []
        for line in self._run("export", "--jsonl", "--tasks", *chosen).splitlines():
            row = json.loads(line)
            if wanted is None or row["id"] in wanted:
                yield self._result(row)

    def status(self) -> Status:
        """How the run stands."""
        said = json.loads(self._run("status", "--json"))
        tasks = said["tasks"]
        names = ["total", "finished", "failed", "cancelled", "claimed", "running", "waiting", "left"]
        counts = {name: int(tasks.get(name, 0)) for name in names}
        return Status(state=said["state"], paused=bool(said["paused"]), json=said, **counts)

    def task(self, id: int) -> Dict[str, Any]:
        """All about one task, ended or not: docs/status-json.md, `"kind": "task"`."""
        said = json.loads(self._run("status", "--json", "--task", str(id)))
        assert isinstance(said, dict)
        return said

    def running(self) -> List[Dict[str, Any]]:
        """The tasks that run: docs/status-json.md, `"kind": "running"`."""
        said = json.loads(self._run("status", "--json", "--running"))["running"]
        assert isinstance(said, list)
        return said

    def log(self, id: int, attempt: Optional[int] = None) -> str:
        """What a task printed, in its last attempt or in this one."""
        more = [] if attempt is None else ["--attempt", str(attempt)]
        return self._run("log", str(id), *more)

    def cancel(self, ids: Ids, reason: Optional[str] = None) -> None:
        """Cancels tasks: those that wait never run, those that run are stopped."""
        chosen = self._chosen(ids)
        if chosen != [""]:
            more = [] if reason is None else ["--reason=" + reason]
            self._run("cancel", *(chosen + more))

    def retry(self, ids: Optional[Ids] = None) -> None:
        """Puts failed tasks back, all or these."""
        chosen = self._chosen(ids)
        if chosen != [""]:
            self._run("retry", *chosen)

    def pause(self, stop: bool = False) -> None:
        """Lets the run start nothing more; with `stop` running tasks are stopped, too, until
        `resume`."""
        self._run("pause", *(["--stop"] if stop else []))

    def resume(self) -> None:
        """Lifts a pause."""
        self._run("resume")

    def drain(self, node: Optional[str] = None) -> None:
        """Lets the processes, or those on a node, finish their running tasks and leave."""
        self._run("drain", *([] if node is None else ["--node=" + node]))

    def stop(self) -> None:
        """Stops all processes in good order; their running tasks wait again."""
        self._run("stop")

    def close(self) -> None:
        """Says that no more tasks will be added: processes that stay for more (`--follow`) leave
        when none is left."""
        self._run("close")

    def _chosen(self, ids: Optional[Ids]) -> List[str]:
        """Ids as words of a command line; [""] for no tasks at all, [] for all."""
        if ids is None:
            return []
        text = _ranges([ids] if isinstance(ids, int) else ids)
        return [text]

    def _result(self, row: Dict[str, Any]) -> Result:
        log, part, stderr = row.get("log"), row.get("part"), row.get("stderr")
        names = ["outcome", "status", "signal", "node", "farmer", "slot", "start", "seconds"]
        names += ["user", "sys", "peak_kib", "read_kib", "written_kib"]
        return Result(
            id=row["id"],
            command=row["command"],
            place=row["place"],
            attempts=row.get("attempt"),
            log=None if log is None else os.path.join(self.workdir, log),
            part=None if part is None else (part[0], part[1]),
            stderr=None if stderr is None else os.path.join(self.workdir, stderr),
            **{name: row.get(name) for name in names}
        )

    def _run(self, command: str, *words: str, **more: Optional[str]) -> str:
        """Runs a command on the workdir; returns what it printed."""
        done = self._call([command] + list(words), more.get("stdin"))
        if done.returncode != 0:
            raise self._error(done)
        return done.stdout

    def _call(self, words: List[str], stdin: Optional[str]) -> "subprocess.CompletedProcess[str]":
        # A workdir may begin with a hyphen.
        workdir = os.path.join(os.curdir, self.workdir) if self.workdir[:1] == "-" else self.workdir
        command = [self.pytf, words[0], workdir] + words[1:]
        return subprocess.run(
            command,
            input=stdin if stdin is not None else "",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )

    @staticmethod
    def _error(done: "subprocess.CompletedProcess[str]") -> PytfError:
        said = done.stderr.strip() or done.stdout.strip() or "no message"
        prefix = "pytf: "
        said = "\n".join(
            line[len(prefix) :] if line.startswith(prefix) else line for line in said.splitlines()
        )
        return PytfError(said, done.returncode, done.args)


class _Until:
    """A point in time, if there is one."""

    def __init__(self, timeout: Optional[float]) -> None:
        self._at = None if timeout is None else time.monotonic() + timeout

    @property
    def rest(self) -> Optional[float]:
        """Seconds until then."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    @property
    def is_over(self) -> bool:
        return self.rest is not None and self.rest < 0.01

    def sleep(self, seconds: float) -> None:
        """Not beyond that point."""
        time.sleep(seconds if self.rest is None else min(seconds, self.rest))


def _program() -> str:
    """The program: that of PYTF, that beside this module, that in PATH."""
    named = os.environ.get("PYTF")
    if named:
        return named
    # PREFIX/lib/python3.11/site-packages/pytf_hpc, or TARGET/pytf_hpc.
    packages = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for up in [packages, os.path.join(packages, "..", "..", "..")]:
        program = os.path.abspath(os.path.join(up, "bin", "pytf"))
        if os.access(program, os.X_OK) and os.path.isfile(program):
            return program
    found = shutil.which("pytf")
    if found is None:
        raise FileNotFoundError(
            "there is no program pytf beside {}, and none in PATH: set PYTF".format(packages)
        )
    return found


def _check(line: str) -> None:
    """A command that a line of a task list cannot hold, or would not run, is refused."""
    if "\n" in line or "\0" in line:
        raise ValueError("a command is one line, without NUL: {!r}".format(line))
    if not line.strip() or line.lstrip().startswith("#"):
        raise ValueError("a blank line, or a comment, is not a command: {!r}".format(line))
    if line.endswith("\\"):
        raise ValueError("a command cannot end with a backslash: {!r}".format(line))


def _ranges(ids: Iterable[int]) -> str:
    """3, 4, 5, 9 as 3-5,9."""
    ranges = []  # type: List[List[int]]
    for id in sorted(set(ids)):
        if ranges and ranges[-1][1] + 1 == id:
            ranges[-1][1] = id
        else:
            ranges.append([id, id])
    return ",".join(str(a) if a == b else "{}-{}".format(a, b) for a, b in ranges)


def _ids(text: str) -> List[int]:
    """3-5,9 as 3, 4, 5, 9."""
    ids = []  # type: List[int]
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        ids.extend(range(int(first), int(last or first) + 1))
    return ids
