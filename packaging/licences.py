"""Prints the licences of what the programs are made of: licences.py COPYRIGHT-OF-MUSL TRIPLE...

Most of them ask that their text goes with the program. Who has the choice among several takes MIT. A text that
several crates share is printed once.
"""

import html
import json
import re
import subprocess
import sys
from pathlib import Path


def printed(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout


def crates(triples):
    """What is linked into the program for any of the triples."""
    linked = {}
    for triple in triples:
        tree = ("--locked", "--edges=normal,no-proc-macro", f"--target={triple}", "--prefix=none", "--format={p}")
        names = {tuple(line.split()[:2]) for line in printed("cargo", "tree", *tree).splitlines()}
        metadata = printed("cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={triple}")
        for crate in json.loads(metadata)["packages"]:
            if crate["source"] and (crate["name"], f"v{crate['version']}") in names:
                linked[crate["name"], crate["version"]] = crate
    return [crate for _, crate in sorted(linked.items())]


def texts(crate):
    folder = Path(crate["manifest_path"]).parent
    names = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name.upper().startswith(names)]
    mit = [path for path in paths if "MIT" in path.name.upper() and " AND " not in crate["license"]]
    return [path.read_text(encoding="utf-8", errors="replace").strip() for path in mit or paths]


def mit(owners):
    """The text of the MIT licence, for those who have not sent theirs."""
    text = Path("LICENSE-MIT").read_text(encoding="utf-8")
    return f"Copyright (c) {owners}\n\n" + text[text.index("Permission is hereby granted") :].strip()


def library():
    """Names, licences and texts of Rust's standard library and what is in it."""
    yield "Rust's standard library", "MIT OR Apache-2.0", mit("The Rust Project Developers (see https://thanks.rust-lang.org)")
    root = Path(printed("rustc", "--print=sysroot").strip())
    notices = root / "share/doc/rust/COPYRIGHT-library.html"
    if not notices.exists():
        return
    rlibs = {path.name[3:].rsplit("-", 1)[0] for path in root.glob("lib/rustlib/*/lib/lib*.rlib")}
    for crate in notices.read_text(encoding="utf-8").split("<h3>\N{PACKAGE} ")[1:]:
        name, version = re.match(r"(.*?)-(\d[^<]*)</h3>", crate).groups()
        found = re.search(r"<code>[^<]*MIT[^<]*</code></summary>(.*?)</details>", crate, re.S)
        if name.replace("-", "_") in rlibs and found:
            licence = re.search(r"License:</b> (.*?)</p>", crate).group(1)
            lines = html.unescape(re.sub("<[^>]*>", "", found.group(1))).strip("\n")
            yield f"{name} {version} (in that library)", licence, lines.strip()


def main():
    parts = list(library())
    parts.append(("musl (in the static program)", "MIT", Path(sys.argv[1]).read_text(encoding="utf-8").strip()))
    for crate in crates(sys.argv[2:]):
        name, licence = f"{crate['name']} {crate['version']}", crate["license"]
        found = texts(crate)
        if not found and "MIT" in licence and crate["authors"]:
            found = [mit(", ".join(crate["authors"]))]
        if not found:
            sys.exit(f"licences.py: {name} ({licence}) comes without the text of its licence")
        where = f", {crate['repository']}" if crate["repository"] else ""
        parts += [(name, licence + where, text) for text in found]
    print("pytf is made with:\n")
    for line in dict.fromkeys(f"{name}: {licence}" for name, licence, _ in parts):
        print(line)
    shared = {}
    for name, _, text in parts:
        shared.setdefault(" ".join(text.split()), (text, []))[1].append(name)
    for text, names in shared.values():
        print(f"\n{'-' * 80}\n{', '.join(names)}\n\n{text}")


main()
