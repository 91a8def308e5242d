"""Folders for what is measured: removed when the program ends, and not before.

ext4 without a journal passes over inodes that were freed in the last minutes, one
by one, so that after many files were removed others are created at half the rate.
"""

import os
import tempfile

ROOT = tempfile.TemporaryDirectory()


def new():
    return tempfile.mkdtemp(dir=ROOT.name)


def tasklist(lines):
    """A list in a new folder; its path."""
    path = os.path.join(new(), "tasks.txt")
    with open(path, "w") as file:
        file.writelines(line + "\n" for line in lines)
    return path
