"""What the book's code costs beside what one would otherwise use, measured on this machine.

usage: python tools/bench.py [toy|unet|data|solvers|book ...] [--rounds N] [--peers] [--write]
                             [--out FILE]

Contenders take turns, A B C A B C, so that what slows the machine down slows all of them; a ratio
is taken within each round, and its median counts. Without names it is all sections. A peer that is
not installed, or fails, is named with the reason and skipped: none is needed by the book; `--peers`
installs them. Prints as it goes and at the end a table in Markdown. `--write` makes it the book's
own: the record in chapters/records, the README's lines and, of section `book`, the seconds that
the chapters state. `--out` writes a record elsewhere. All sections together take 35 minutes.

A section is a file, bench_NAME.py, with a function `rows(rounds)` that yields `Row`s. All runs on
one thread, unless OMP_NUM_THREADS says otherwise, and counts the seconds of this process, which
don't pass while others have the core; with more threads those of the wall, as on a GPU. Memory that
is freed stays with the process, or one contender would pay for the pages that another gave back.
"""

import os

if __name__ == "__main__":  # before NumPy is there, which reads them once
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, os.environ.get("OMP_NUM_THREADS", "1"))
    os.environ.setdefault("TQDM_DISABLE", "1")  # the peers' bars

import argparse
import ctypes
import importlib.util
import math
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from unittest import mock

import numpy as np

from minidiff.errors import require

SECTIONS = ("toy", "unet", "data", "solvers", "book")
# Their wheels ask for torchvision and more, of which the bench needs nothing.
PEERS = ("denoising-diffusion-pytorch", "smalldiffusion", "torchcfm")
PACKAGES = ("numpy", "torch", "pillow", "diffusers", *PEERS)
PINS = Path(__file__).resolve().parent.parent / "pins.txt"
ONE_THREAD = os.environ.get("OMP_NUM_THREADS") == "1"


@dataclass(frozen=True)
class Times:
    """A contender's seconds a call: the median over the rounds and its quartiles; and how many
    times as long as the first it took, within each round, likewise."""

    median_s: float
    low_s: float
    high_s: float
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured of whom. NaN is what does not apply."""

    what: str
    who: str
    value: float
    unit: str
    low: float = math.nan  # quartiles
    high: float = math.nan
    ratio: float = math.nan  # how many times as long as the first contender took
    ratio_low: float = math.nan
    ratio_high: float = math.nan
    note: str = ""


def compare(contenders, rounds, seconds=0.0, clock=None):
    """{name: its `Times`} of {name: a function that does the piece of work once}.

    In every round each has a turn, in their order: as many calls as fill `seconds`, at least one.
    A call before the first round is not timed.
    """
    require(len(contenders) >= 1, "contenders", "one or more", contenders)
    require(rounds >= 1, "rounds", ">= 1", rounds)
    clock = clock or (time.process_time if ONE_THREAD else time.perf_counter)
    for do in contenders.values():
        do()
    calls = {name: max(1, round(seconds / max(_turn(do, 1, clock), 1e-7)))
             for name, do in contenders.items()} if seconds else dict.fromkeys(contenders, 1)
    turns = np.array([[_turn(do, calls[name], clock) for name, do in contenders.items()]
                      for _ in range(rounds)])
    spread = np.percentile(turns, (50, 25, 75), axis=0).T
    ratios = np.percentile(turns / turns[:, :1], (50, 25, 75), axis=0).T
    return {name: Times(*map(float, (*s, *r)))
            for name, s, r in zip(contenders, spread, ratios)}


def keep_memory():
    """Tell glibc, where it is, to hand nothing back to the system: fresh pages take time."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option in (-1, -3):  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
        mallopt(option, 2**30)


def _turn(do, calls, clock):
    start = clock()
    for _ in range(calls):
        do()
    return (clock() - start) / calls


def made(makers):
    """`(contenders, missing)` of {name: a function that makes the contender}.

    The first must be had; of another that can't be imported, made or called, `missing` has the
    reason, as {name: reason}.
    """
    contenders, missing = {}, {}
    for name, make in makers.items():
        try:
            do = make()
            do()
        except Exception as error:  # whatever a peer may raise: it is not ours to mend
            if not contenders:
                raise
            said = str(error).strip() or "no reason given"
            missing[name] = f"{type(error).__name__}: {said.splitlines()[0]:.100}"
        else:
            contenders[name] = do
    return contenders, missing


def peer(name):
    """The module of a peer. While it is imported, an empty torchvision stands where there is none
    that works: peers ask for it at once, and the bench for nothing of it."""
    if name in sys.modules:
        return sys.modules[name]
    stubs = {}
    try:
        importlib.import_module("torchvision")
    except Exception:  # beside another build of torch it fails in many ways
        stubs = {part: mock.MagicMock() for part in ("torchvision", "torchvision.transforms")}
    sys.modules.update(stubs)
    try:
        return importlib.import_module(name)
    finally:
        for part in stubs:
            del sys.modules[part]


def install_peers():
    subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", "-c", str(PINS), *PEERS],
                   check=True)


def timed(what, makers, rounds, seconds=0.0, clock=None, notes=None):
    """Yields the rows of a piece of work: the contenders' times, `notes` on some of them, and who
    is missing and why."""
    contenders, missing = made(makers)
    for who, t in compare(contenders, rounds, seconds, clock).items():
        yield Row(what, who, t.median_s, "s", t.low_s, t.high_s, t.ratio, t.ratio_low,
                  t.ratio_high, (notes or {}).get(who, ""))
    yield from (Row(what, who, math.nan, "s", note=f"skipped: {why}")
                for who, why in missing.items())


# What is said at the end.

def machine():
    """What a ratio depends on, besides the code."""
    return {"processor": processor(), "cores": os.cpu_count(), "gpu": gpu(),
            "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
            "clock": "seconds of this process" if ONE_THREAD else "seconds of the wall",
            "system": platform.platform(), "python": platform.python_version(),
            "blas": blas(), "versions": dict(versions())}


def processor():
    """What the CPU calls itself."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or "CPU"


def gpu():
    if importlib.util.find_spec("torch"):
        import torch
        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    return None


def blas():
    found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{found['name']} {found['version']}"


def versions():
    for package in PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            pass


def table(rows):
    """The rows in Markdown; a ratio says how many times as long as the first it took."""
    lines = ["| | | median | quartiles | ratio | quartiles | |", "|:--|:--|--:|--:|--:|--:|:--|"]
    for row in rows:
        cells = (row.what, row.who, shown(row.value, row.unit), _pair(row.low, row.high, row.unit),
                 shown(row.ratio), _pair(row.ratio_low, row.ratio_high), row.note)
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def shown(number, unit=""):
    """A number with its unit; seconds by the size that suits them; nothing for NaN."""
    if math.isnan(number):
        return ""
    if unit == "s" and 0 < number < 1:
        factor, unit = (1e3, "ms") if number >= 1e-3 else (1e6, "µs")
        number *= factor
    return f"{number:,.{max(0, 2 - math.floor(math.log10(abs(number) or 1)))}f} {unit}".strip()


def _pair(low, high, unit=""):
    return "" if math.isnan(low) else f"{shown(low, unit)} – {shown(high, unit)}"


def document(sections):
    """The text of the end: a table for each section, and the machine."""
    about = machine()
    packages = ", ".join(f"{name} {version}" for name, version in about.pop("versions").items())
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items() if value is not None)
    tables = "\n\n".join(f"## {name}\n\n{table(rows)}" for name, rows in sections.items())
    return f"{tables}\n\n## machine\n\n{facts}\n- packages: {packages}"


def slug(words):
    """The words as they stand in a file's name."""
    return re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")


def section(name, rounds):
    """The rows of a section; one that can't be imported is named and skipped."""
    try:
        rows = importlib.import_module(f"bench_{name}").rows
    except ImportError as error:
        yield Row(name, "", math.nan, "", note=f"skipped: {error}")
    else:
        yield from rows(rounds)


def parsed(words):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", default=SECTIONS,
                        help=f"of {', '.join(SECTIONS)}; by default all")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--out", type=Path, help="where to write a record, as JSON")
    parser.add_argument("--write", action="store_true",
                        help="write the book's own record, the README's lines, and of section book "
                             "the seconds that the chapters state")
    parser.add_argument("--peers", action="store_true",
                        help=f"first install {', '.join(PEERS)}, without what they ask for")
    asked = parser.parse_args(words)
    unknown = set(asked.sections) - set(SECTIONS)
    if unknown or asked.rounds < 1:
        parser.error(f"there is no section {', '.join(sorted(unknown))}" if unknown
                     else "--rounds must be >= 1")
    return asked


def main(words=None):
    asked, sections = parsed(words), {}
    if asked.peers:
        install_peers()
    keep_memory()
    import costs  # which builds on this file
    for name in asked.sections:
        rows = sections.setdefault(name, [])
        for row in section(name, asked.rounds):
            rows.append(row)
            print(f"{name}: {row.what}, {row.who}: {shown(row.value, row.unit)} {row.note}",
                  flush=True)
        left = costs.publish({name: rows}, asked.rounds, asked.out, asked.write)  # before the next
        for file, why in left.items():
            print(f"{file}: the book's seconds stay: it {why}")
    print(f"\n{document(sections)}")


if __name__ == "__main__":
    main()
