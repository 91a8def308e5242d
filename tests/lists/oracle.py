"""disBatch and GNU parallel as oracles for lists of other tools.

    python3 tests/lists/oracle.py PYTF [DISBATCH_EXAMPLES]

Lists of disBatch, its own examples and generated ones, are read by the parser of disBatch (from
PyPI) and by pytf: the same commands in the same order, the same variables as a shell sees them,
the same barriers. Commands with variables of GNU parallel are run by both. Needs disbatch 3.0 on
PYTHONPATH, and parallel.
"""

import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from disbatch import disBatch

PYTF = os.path.abspath(sys.argv[1])
NAMES = ["DISBATCH_TASKID", "DISBATCH_REPEAT_INDEX", "DISBATCH_STREAM_INDEX"]
NAMES += [name + "_ZP" for name in NAMES] + ["DISBATCH_NAMETASKS"]


def stored(folder, path, *args):
    """The stored lines of the tasks of a list, or what pytf says of it."""
    run = folder / "run"
    subprocess.run(["rm", "-rf", run], check=True)
    made = subprocess.run([PYTF, "convert", path, *args], capture_output=True)
    if made.returncode:
        return made.stderr.decode()
    plain = folder / "plain"
    plain.write_bytes(made.stdout)
    # The tasks run, in a folder of their own: what they do does not matter.
    ran = subprocess.run([PYTF, plain, "-w", run, "-q", "-n8"], capture_output=True, cwd=folder)
    if not (run / "tasks").exists():
        return ran.stderr.decode()
    lines = (run / "tasks").read_bytes().split(b"\n")[:-1]
    return [line.split(b" ", 1)[1] for line in lines]


def of_disbatch(path):
    """The tasks of disBatch: kind, command, values of the variables."""
    with open(path, "rb") as lines:
        yield from disBatch.TaskGenerator(lines)


def values(task, name):
    of = [task.taskId, task.taskRepIndex, task.taskStreamIndex]
    return [str(v) for v in of] + [f"{v:06d}" for v in of] + [name]


def seen_by_shell(line, task_id):
    """The variables as a task sees them, and its command without what sets them."""
    command, _, _ = line.partition(b" #PYTF")
    export, _, command = command.partition(b"; ")
    show = export.decode() + "; printf '%s\\n' " + " ".join(f'"${n}"' for n in NAMES)
    env = dict(os.environ, PYTF_TASK_ID=str(task_id), PYTF_SLOT="0", PYTF_WORKDIR="/x/run")
    out = subprocess.run(["bash", "-c", show], env=env, capture_output=True, check=True).stdout
    return out.decode().split("\n")[:-1], command


def blanks(command):
    return re.sub(rb"[ \t]+", b" ", command.strip())


def compare(folder, path, text):
    errors = disBatch.logger.error
    said = []
    disBatch.logger.error = lambda *args: said.append(args)
    theirs = list(of_disbatch(path))
    disBatch.logger.error = errors
    ours = stored(folder, path, "--from", "disbatch")
    if isinstance(ours, str):
        return "refused: " + ours.strip()
    assert not said, (text, said)
    tasks, stage, next_stage, number = [], 0, None, 0
    for task in theirs:
        if task.kind in "BC":
            if tasks:
                next_stage = ("stage-ok" if task.kind == "C" or (next_stage or "").startswith("stage-ok") else "stage")
        elif task.kind == "N":
            if next_stage:
                number += 1
                stage, next_stage = f"{next_stage}={number}", None
            tasks.append((task, stage))
    assert len(ours) == len(tasks), (text, ours, tasks)
    for number, (line, (task, stage)) in enumerate(zip(ours, tasks)):
        shown, command = seen_by_shell(line, number)
        mine = [value for name, value in zip(NAMES, shown)]
        for name, mine, their in zip(NAMES, mine, values(task, path.name)):
            # Set only where the list reads it.
            assert mine == their or (mine == "" and name not in text), (text, name, mine, their)
        assert blanks(command) == blanks(task.taskCmd), (text, command, task.taskCmd)
        said = line.partition(b" #PYTF ")[2].decode()
        assert said == (stage or ""), (text, said, stage)
    return f"{len(ours)} tasks"


def generated(rng):
    def command():
        return rng.choice(
            ["./a 1", "( cd w ; ./b )", "echo $DISBATCH_TASKID", "x 'a  b' > $DISBATCH_STREAM_INDEX_ZP.txt",
             "  ./c", "echo \"$DISBATCH_REPEAT_INDEX_ZP\"", "./d > o 2>&1", "awk '{i}' f", "./e # note"])
    lines = []
    for _ in range(rng.randint(1, 12)):
        lines.append(rng.choice([
            command, command, command, lambda: "", lambda: "# comment",
            lambda: "#DISBATCH PREFIX " + rng.choice(["", "nice ", "( cd x ; ", "./run_", "env A='b  c'  "]),
            lambda: "#DISBATCH SUFFIX " + rng.choice(["", " > $DISBATCH_TASKID_ZP.log", ".sh", "  2>&1", " ) &> l"]),
            lambda: "#DISBATCH BARRIER" + rng.choice(["", " CHECK"]),
            lambda: "#DISBATCH REPEAT %d%s%s %s" % (
                rng.randint(0, 4), rng.choice(["", " start 7"]), rng.choice(["", " step 3"]), command()),
        ])())
    return "\n".join(lines) + rng.choice(["", "\n"])


def disbatch(folder, examples):
    for path in sorted(examples):
        target = folder / path.name
        text = path.read_text(errors="replace")
        target.write_text(text)
        print(f"disBatch {path.name}: {compare(folder, target, text)}"[:150])
    rng, refused = random.Random(1), 0
    for _ in range(LISTS):
        text, target = generated(rng), folder / "some tasks"
        target.write_text(text)
        refused += compare(folder, target, text).startswith("refused")
    print(f"disBatch: {LISTS} generated lists, {refused} refused")


def parallel(folder):
    rng = random.Random(2)
    for _ in range(LISTS // 10):
        lines = [rng.choice(["echo $PARALLEL_SEQ a", "echo b$PARALLEL_SEQ", "", "# c", "echo $PARALLEL_JOBSLOT"])
                 for _ in range(rng.randint(1, 8))]
        lines.append("echo last $PARALLEL_SEQ")
        path, run = folder / "commands", folder / "run"
        path.write_text("\n".join(lines) + "\n")
        theirs = subprocess.run(["parallel", "-j1", "-k"], stdin=open(path), capture_output=True, check=True).stdout
        subprocess.run(["rm", "-rf", run], check=True)
        subprocess.run([PYTF, path, "-w", run, "-n1", "-q", "-t", "parallel"], capture_output=True, check=True)
        logs = sorted((run / "logs").iterdir(), key=lambda log: int(log.name.split("_")[1]))
        ours = b"".join(log.read_bytes() for log in logs)
        assert ours == theirs, (lines, ours, theirs)
    print(f"GNU parallel: {LISTS // 10} lists")


LISTS = int(os.environ.get("ORACLE_LISTS", "200"))
with tempfile.TemporaryDirectory() as folder:
    examples = Path(sys.argv[2]).iterdir() if len(sys.argv) > 2 else []
    disbatch(Path(folder), [path for path in examples if path.suffix == ""])
    parallel(Path(folder))
