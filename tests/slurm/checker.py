"""Judges a workdir: each task exactly once, and everything told as it was.

It believes no record alone. What `pytf` wrote (docs/workdir.md) is held against
the task list and against the effects: what the tasks themselves wrote down
(`work`).
"""

import json
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from cluster import Failure


def require(holds, what):
    if not holds:
        raise Failure(what)


@dataclass
class Journal:
    """What one farmer wrote down."""

    header: dict
    ends: list = field(default_factory=list)
    why: str | None = None

    @property
    def host(self):
        return self.header["host"]


@dataclass
class Attempt:
    """What a task wrote down about one time that it ran."""

    number: int
    host: str
    start: float
    end: float | None = None
    status: int | None = None


class Books:
    """The files of a workdir at some moment."""

    def __init__(self, workdir):
        self.workdir = Path(workdir)
        self.state = self._state()
        self.tasks = dict(self._lines("tasks"))
        self.finished = self._lines("finished")
        self.failed = self._lines("failed")
        self.waiting = self._lines("toprocess", self.state["queues"][0]["cursor"])
        self.requeued = [line.split() for line in self._text("requeued").splitlines()]
        self.attempts = {int(task): int(attempt) for task, attempt, _ in self.requeued}
        self.cancelled = self._cancelled()
        paths = sorted((self.workdir / "nodes").rglob("*.jsonl"))
        # A farmer that another looks at before it has locked its journal leaves
        # that one empty, and makes another.
        self.journals = [self._journal(path) for path in paths if path.stat().st_size]

    def _text(self, name, start=0):
        path = self.workdir / name
        return path.read_bytes()[start:].decode() if path.exists() else ""

    def _state(self):
        """The state in force: the newer of the two that are whole."""
        data = (self.workdir / "lock").read_bytes()
        whole = []
        for slot in (data[at : at + 16384].partition(b"\n")[0] for at in (4096, 20480)):
            digits, _, text = slot.decode().rstrip().partition(" ")
            if text and int(digits, 16) == zlib.crc32(text.encode()):
                whole.append(json.loads(text))
        require(whole, "no state in the lock file is whole")
        return max(whole, key=lambda state: state["seq"])

    def _lines(self, name, start=0):
        pairs = []
        for line in self._text(name, start).splitlines():
            number, blank, command = line.partition(" ")
            require(number.isdigit() and blank, f"{name} holds a line that is none: {line!r}")
            pairs.append((int(number), command))
        return pairs

    def _cancelled(self):
        """Ids of the failed tasks that were cancelled in their last attempt: they need not have
        begun, nor have come to their end."""
        orders = [json.loads(line) for line in self._text("orders").splitlines()]
        attempts = {
            (task, order["attempt"])
            for order in orders
            if order["do"] == "cancel"
            for first, _, last in (part.partition("-") for part in order["ids"].split(","))
            for task in range(int(first), int(last or first) + 1)
        }
        return {task for task, _ in self.failed if (task, self.attempts.get(task, 1)) in attempts}

    def is_result(self, end):
        """Whether an end in a journal is one of its task's, and not of an attempt of which nothing
        counts: it was put back, or it was cancelled and the task ran again."""
        was_cancelled = end["outcome"] == "cancelled" and end["attempt"] != self.attempts.get(end["id"], 1)
        return end["outcome"] not in ("interrupted", "lost") and not was_cancelled

    def _journal(self, path):
        records = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        require(records and records[0]["event"] == "header", f"{path.name} begins with no header")
        journal = Journal(records[0])
        for record in records:
            if record["event"] == "end":
                journal.ends.append(record)
            elif record["event"] == "leave":
                journal.why = record["why"]
        return journal

    def done(self):
        """Ids of the tasks that have a result."""
        return [task for task, _ in self.finished + self.failed]

    def doubted(self):
        """How often a task was tried again that had failed on a node in doubt."""
        return Counter(int(task) for task, _, why in self.requeued if why == "doubted")

    def jobs(self):
        return {journal.header.get("job") for journal in self.journals}

    def attempts_of(self, outcome):
        """Ids of attempts that ended like this, in any journal."""
        return [end["id"] for journal in self.journals for end in journal.ends if end["outcome"] == outcome]


def effects(folder, *, may_overlap=False):
    """What the tasks wrote down, by their number in the list, in the order in
    which it happened. `may_overlap`: a node that could not be heard may have run what
    others ran again."""
    seen = defaultdict(list)
    for path in Path(folder).iterdir():
        attempts = seen[int(path.name)]
        for line in path.read_text().splitlines():
            word, task, number, host, at, status = (line.split() + [""])[:6]
            require(task == path.name, f"task {path.name} was told that it is {task}")
            if word == "start":
                attempts.append(Attempt(int(number), host, float(at)))
                continue
            last = attempts[-1]
            if may_overlap:
                on_node = [attempt for attempt in attempts if attempt.host == host and attempt.end is None]
                last = on_node[-1] if on_node else last
            require(
                word == "end" and (last.number, last.host) == (int(number), host) and last.end is None,
                f"two attempts of task {task} ran at the same time: {path.read_text()}",
            )
            last.end, last.status = float(at), int(status)
    return seen


def _each_in_one_file(books, at_rest):
    files = {"finished": books.finished, "failed": books.failed, "toprocess": books.waiting}
    for name, pairs in files.items():
        for task, command in pairs:
            require(books.tasks.get(task) == command, f"{name} has another task {task} than the list: {command}")
    count = Counter(task for pairs in files.values() for task, _ in pairs)
    doubled = [task for task, times in count.items() if times > 1]
    require(not doubled, f"in two files, or twice in one: {doubled[:20]}")
    if at_rest:
        gone = sorted(set(books.tasks) - set(count))
        require(not gone, f"{len(gone)} tasks are in none of the three files: {gone[:20]}")


def _results_are_true(books, happened, at_rest, may_overlap):
    results, doubted = Counter(), books.doubted()
    for journal in books.journals:
        for end in journal.ends:
            results[end["id"]] += books.is_result(end)
    counted = books.state.get("cancelled", 0)
    require(counted == len(books.cancelled) or not at_rest, f"{counted} are counted as cancelled: {books.cancelled}")
    for name, pairs, good in (("finished", books.finished, True), ("failed", books.failed, False)):
        for task, command in pairs:
            told = results[task] - doubted[task]
            if task in books.cancelled:
                require(told <= 1 or may_overlap, f"task {task} was cancelled and has {told} results in the journals")
                continue
            # A farmer that was sealed may have written on: nobody reads that.
            require(told == 1 or may_overlap and told > 1, f"task {task} is in {name} and has {told} results in the journals")
            status = int(command.partition("./work ")[2].split()[2])
            require((status == 0) == good, f"{name} has task {task}: {command}")
            ends = [attempt.status for attempt in happened[task] if attempt.end is not None]
            require(status in ends, f"{name} has task {task}, which never came to its end: {happened[task]}")
    early = {task for task in results if results[task] > doubted[task]} - set(books.done())
    require(not early or not at_rest, f"tasks with a result that are in neither file: {sorted(early)[:20]}")


def reworked(books, happened):
    """Tasks that came to their end more than once, although they were not put back: as
    what a doubted node failed is, and what was told to stop in the moment of its end."""
    again = Counter(int(task) for task, _, why in books.requeued if why in ("doubted", "interrupted"))
    ends = {task: sum(a.end is not None for a in attempts) for task, attempts in happened.items()}
    return [task for task in ends if ends[task] - again[task] > 1]


def _timeline(books, nodes, may_overlap):
    path = books.workdir / "timeline.json"
    require(path.exists(), "there is no timeline")
    events = json.loads(path.read_text())
    names = {event["args"]["name"].split()[0] for event in events if event["name"] == "process_name"}
    require(names >= set(nodes), f"the timeline names {sorted(names)}, not {sorted(nodes)}")
    slices = Counter()
    results = Counter()
    for event in events:
        if event["ph"] == "X" and event["cat"] == "task":
            slices[event["args"]["id"], event["args"]["attempt"]] += 1
            args = event["args"]
            results[args["id"]] += args["outcome"] not in ("running", "unknown") and books.is_result(args)
    twice = [attempt for attempt, times in slices.items() if times > 1]
    require(not twice, f"the timeline has an attempt twice: {twice[:20]}")
    doubted = books.doubted()
    counts = {task: results[task] - doubted[task] for task in books.done() if task not in books.cancelled}
    wrong = [task for task, ends in counts.items() if ends < 1 or ends > 1 and not may_overlap]
    require(not wrong, f"the timeline has no end, or two, of tasks {wrong[:20]}")


def check(workdir, effects_folder, *, complete=False, at_rest=True, nodes=(), may_rework=False, may_overlap=False):
    """The whole judgement. `complete`: every task has its result. `at_rest`:
    every farmer has left in good order, so the files are exact. `nodes`: those
    that must have had a part. `may_rework`: somebody was killed, so that a task
    may have come to its end unrecorded. `may_overlap`: see `effects`. Returns the books."""
    books = Books(workdir)
    happened = effects(effects_folder, may_overlap=may_overlap)
    at_rest = at_rest or complete
    _each_in_one_file(books, at_rest)
    _results_are_true(books, happened, at_rest, may_overlap)
    if complete:
        require(not books.waiting, f"{len(books.waiting)} tasks still wait")
        require(not (Path(workdir) / "toprocess").read_bytes(), "toprocess is not empty")
        _timeline(books, nodes, may_overlap)
    share = Counter(journal.host for journal in books.journals for _ in journal.ends)
    for node in nodes:
        fair = len(books.tasks) / len(nodes)
        require(share[node] >= fair / 4, f"{node} had no share: {dict(share)}")
    if not may_rework:
        again = reworked(books, happened)
        require(not again, f"came to their end twice: {again[:20]}")
    return books
