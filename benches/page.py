"""The figures of docs/performance.md: sections between two marks, and plots."""

import os
import platform
import re
import sys
import time

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs")
MARK = "<!-- figures -->\n"


def machine():
    """Where and when, in a line."""
    with open("/proc/cpuinfo") as file:
        cpus = re.search(r"model name\s*:\s*(.*)", file.read())
    name = cpus[1] if cpus else platform.machine()
    return f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPUs ({name}), Linux {platform.release()}"


def plot(name, points, label, title):
    """Draws a rate over a number; returns the line that shows it on the page."""
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is absent: no plot", file=sys.stderr)
        return ""
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "pytf"
    figure, axes = plt.subplots(figsize=(5, 3))
    for curve, (numbers, rates) in points.items():
        axes.plot(numbers, rates, marker="o", label=curve)
    numbers = sorted({number for numbers, _ in points.values() for number in numbers})
    axes.set(xscale="log", xlabel=label, ylabel="tasks a second", ylim=(0, None))
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    if len(points) > 1:
        axes.legend()
    figure.tight_layout()
    figure.savefig(os.path.join(DOCS, f"performance-{name}.svg"), metadata={"Date": None})
    plt.close(figure)
    return f"\n\n![{title}](performance-{name}.svg)"


def sections(text):
    """Title to text, of what is between the marks."""
    parts = re.split(r"^### (.*)\n", text, flags=re.M)
    return {title: body.strip() for title, body in zip(parts[1::2], parts[2::2])}


def write(titles, measured):
    """Puts what was measured in the place of what was there before, in this order."""
    path = os.path.join(DOCS, "performance.md")
    with open(path) as file:
        before, old, after = file.read().split(MARK)
    known = sections(old) | measured
    text = "\n\n".join(f"### {title}\n\n{known[title]}" for title in titles if title in known)
    with open(path, "w") as file:
        file.write(f"{before}{MARK}\n{text}\n\n{MARK}{after}")
