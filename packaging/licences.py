"""Prints the licences of the crates that the program is made of: licences.py TRIPLE.

Most of them ask that their text goes with the program. Who has the choice among several takes MIT. A text that
several crates share is printed once.
"""

import json
import subprocess
import sys
from pathlib import Path


def crates(triple):
    """What is linked into the program, with all that it needs."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={triple}"]
    metadata = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    of = {package["id"]: package for package in metadata["packages"]}
    root = metadata["resolve"]["root"]
    seen, todo = {root}, [root]
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            is_macro = any("proc-macro" in target["kind"] for target in of[dependency["pkg"]]["targets"])
            is_linked = not is_macro and any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_linked and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    return sorted((of[crate] for crate in seen - {root}), key=lambda crate: (crate["name"], crate["version"]))


def texts(crate):
    folder = Path(crate["manifest_path"]).parent
    names = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name.upper().startswith(names)]
    mit = [path for path in paths if "MIT" in path.name.upper()]
    return [path.read_text(encoding="utf-8", errors="replace").strip() for path in mit or paths]


def main():
    shared = {}
    print("pytf is made with the standard library of Rust (MIT OR Apache-2.0) and these crates:\n")
    for crate in crates(sys.argv[1]):
        name = f"{crate['name']} {crate['version']}"
        print(f"{name}: {crate['license']}" + (f", {crate['repository']}" if crate["repository"] else ""))
        for text in texts(crate):
            shared.setdefault(" ".join(text.split()), (text, []))[1].append(name)
    for text, names in shared.values():
        print(f"\n{'-' * 80}\n{', '.join(names)}\n\n{text}")


main()
