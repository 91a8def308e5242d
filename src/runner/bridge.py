"""Calls classes for PyTaskFarmer. pytf starts it as

    python3 -c THIS tasks CLASS KEYS PLACE LIST WORKDIR
    python3 -c THIS run   CLASS KEYS PLACE ID COMMAND

and reads tasks from its output, as one object of JSON per line, or takes its exit status for
that of the task.
"""
import importlib
import json
import os
import signal
import sys
import tempfile
import types

# As PyTaskFarmer's own script has it: modules are found by PYTHONPATH, not in the current folder.
sys.path[:] = [path for path in sys.path if path != ""]


def stop(what):
    sys.stdout.flush()
    sys.exit("pytf: %s: %s" % (place, what))


class TaskList:
    def __init__(self, path, workdir):
        self.path, self.workdir = path, workdir

    def lock(self):
        pass

    def unlock(self):
        pass


class ListTaskList(TaskList):
    def __init__(self, path, workdir):
        super().__init__(path, workdir)
        with open(path) as lines:
            self.tasks = [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def __len__(self):
        return len(self.tasks)

    def __getitem__(self, taskid):
        return self.tasks[taskid]


class Runner:
    def __init__(self):
        pass

    def terminate(self):
        pass


def taskfarmer():
    """PyTaskFarmer's package; where it is not installed, what classes are derived from."""
    try:
        task = importlib.import_module("taskfarmer.task")
    except ImportError:
        package = types.ModuleType("taskfarmer")
        package.__path__ = []
        for name, classes in (("task", (TaskList, ListTaskList)), ("runners", (Runner,))):
            module = types.ModuleType("taskfarmer." + name)
            for cls in classes:
                setattr(module, cls.__name__, cls)
            setattr(package, name, module)
            sys.modules["taskfarmer." + name] = module
        sys.modules["taskfarmer"] = package
        return
    # Its lock is a file of the workdir, which is not PyTaskFarmer's: it would be emptied.
    task.lock_area = tempfile.gettempdir()
    task.TaskList.lock = task.TaskList.unlock = lambda self: None


def made(name, *args):
    module, _, cls = name.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError) as error:
        stop("%s cannot be imported: %s; is its folder in PYTHONPATH?" % (name, error))
    try:
        return cls(*args, **json.loads(keys))
    except TypeError as error:
        stop("%s does not take these keys: %s" % (name, error))


what, name, keys, place, first, second = sys.argv[1:]
taskfarmer()
if what == "tasks":
    # What the class prints is not a task.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogateescape")
    os.dup2(2, 1)
    tasks = made(name, first, second)
    for nth in range(len(tasks)):
        command = tasks[nth]
        if not isinstance(command, str):
            stop("task %d is %r, and not a command" % (nth, command))
        if "\n" in command or "\0" in command:
            stop("task %d has a line end or a NUL byte: %r" % (nth, command))
        out.write(command + "\n")
    out.close()
else:
    runner = made(name)

    def terminate(signum, frame):
        runner.terminate()

    signal.signal(signal.SIGTERM, terminate)
    code = runner.run(int(first), second, sys.stdout)
    sys.stdout.flush()
    # None is no success: PyTaskFarmer compares with 0.
    sys.exit(1 if code is None else code if code >= 0 else 128 - code)
