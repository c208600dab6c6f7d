"""What a process has cost, told by itself: as a chapter's last cell, or of a command.

usage: python tools/probe.py COMMAND ...     (runs it; the last line is its peak memory in MB)

A command gets a small parent of its own this way: Linux counts as a process's what its parent held.
"""

import gc
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"


def chapter():
    """Print as JSON what the kernel has cost so far, and its widgets' CPU seconds a redraw."""
    start, cpu, peak = time.perf_counter(), time.process_time(), peak_mb()
    sys.path.append(str(TESTS))
    from conftest import redraw_seconds
    redraws = [(widget.name, float(redraw_seconds(widget))) for widget in widgets()]
    print(json.dumps({"cpu_s": cpu, "peak_mb": peak, "redraws": redraws,
                      "probe_s": time.perf_counter() - start}))


def widgets():
    """All `Explorable`s that are alive, by name."""
    show = sys.modules.get("minidiff.show.explorable")
    if not show:
        return []
    gc.collect()
    return sorted((thing for thing in gc.get_objects()
                   if issubclass(type(thing), show.Explorable)), key=lambda widget: widget.name)


def peak_mb(children=False):
    """The most memory that this process has held, or one of its children that have ended; NaN
    where nobody counts."""
    status = Path("/proc/self/status")
    if status.exists() and not children:
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # on Windows
        return math.nan
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    status = subprocess.call(sys.argv[1:])
    print(peak_mb(children=True))
    sys.exit(status)
