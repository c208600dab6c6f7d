"""The book itself: how long its chapters run, its widgets take, JupyterLab and the tests last.

Each chapter runs once, from top to bottom in a fresh kernel on one thread, as `normalise` runs it
and without being saved: seconds of the wall, which its budget in book.toml bounds, and its kernel's
peak memory. Then each of its widgets is redrawn at every stop of the slider that plays: CPU seconds
of the kernel, in the median, at most 60 ms. An import is of fresh interpreters, by the wall. A step
of DDIM is that of 256 points with a denoiser that returns at once; it shall take at most 4 µs with
NumPy and 15 µs with PyTorch, and what it can't do without stands beside it. JupyterLab is opened
once, in a headless Chromium: seconds from its start until it answers, until chapter 1 shows its
first widget as it was saved, and until the chapter, being run, shows it live; then how long that
one takes from key to picture. Last and once come the chapters under nbval, at most 6 minutes on two
workers, and all tests but the browser's, at most 10. `--rounds` are of imports and steps alone.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
from nbformat.reader import NotJSONError
from nbformat.v4 import new_code_cell

from bench import Row, timed
from minidiff.book import load
from minidiff.sampler import ddim
from minidiff.schedule import cosine
from normal_form import read
from normalise import CellFailed, execute

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"
sys.path += [str(ROOT), str(ROOT / "tests")]  # the launcher; how the tests open JupyterLab

PROBE = f"import sys\nsys.path.append({str(TOOLS)!r})\nimport probe\nprobe.chapter()"
REDRAW = "goal: 60 ms of CPU time"
IMPORTS = ("import minidiff", "import numpy", "import torch", "pass")
STEP = {"NumPy": "goal: 4 µs", "PyTorch": "goal: 15 µs"}
SUITES = {"chapters under nbval": (["chapters"], "goal: 6 min"),
          "tests but the browser's": (["-m", "not browser"], "goal: 10 min")}


def rows(rounds, tests=True, lab=True, chapters=None):
    """All of it; without the tests, without JupyterLab, or of some `Chapter`s alone if told so."""
    book = load(ROOT / "book.toml")
    for chapter in book.chapters if chapters is None else chapters:
        yield from of_chapter(chapter, ROOT / book.src)
    yield from imports(rounds)
    yield from steps(rounds)
    if lab:
        yield from of_lab(book.chapters[0])
    if tests:
        for what, (arguments, goal) in SUITES.items():
            yield from suite(what, arguments, goal)


# Chapters and their widgets.

def of_chapter(chapter, folder):
    """A chapter's seconds and memory, and its widgets' redraws; or why there are none."""
    try:
        seconds, told = run(chapter, folder)
    except ImportError as error:
        yield Row("chapter", chapter.file, math.nan, "s", note=f"skipped: {error}")
    except (CellFailed, NotJSONError, OSError) as error:
        yield Row("chapter", chapter.file, math.nan, "s", note=f"failed: {in_short(error)}")
    else:
        over = "OVER " if seconds > chapter.budget_s else ""
        yield Row("chapter", chapter.file, seconds, "s",
                  note=f"{over}budget: {chapter.budget_s:g} s; {told['cpu_s']:.1f} s of CPU time")
        yield memory("peak memory", chapter.file, told["peak_mb"])
        for name, redraw in told["redraws"]:
            yield Row("redraw", f"{chapter.number}: {name}", redraw, "s", note=REDRAW)


def run(chapter, folder):
    """`(seconds, what probe.py told)` of the chapter's cells."""
    if chapter.torch and not importlib.util.find_spec("torch"):
        raise ImportError("PyTorch is not installed")
    nb = read(folder / chapter.file)
    nb.cells.append(new_code_cell(PROBE, id="probe"))
    seconds = execute(nb, folder)
    told = json.loads("".join(output.text for output in nb.cells[-1].outputs
                              if output.get("name") == "stdout"))
    return seconds - told["probe_s"], told


def in_short(error):
    """The first line of what is said, where it happened, and the last, what."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]:.80} … {lines[-1]:.120}"


def memory(what, who, peak_mb):
    note = "skipped: this system doesn't tell" if math.isnan(peak_mb) else ""
    return Row(what, who, peak_mb, "MB", note=note)


# Imports and steps.

def imports(rounds):
    makers = {code: lambda code=code: partial(fresh, code) for code in IMPORTS}
    yield from timed("fresh interpreter", makers, rounds, clock=time.perf_counter)


def fresh(code):
    """Run the code in an interpreter of its own; raises an error that says its last words."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def steps(rounds, seconds=0.1):
    """DDIM's step, and what is left of it without checks and generators."""
    def tensors():
        import torch
        return map(torch.from_numpy, pair)

    pair = np.random.default_rng(0).standard_normal((2, 256, 2)).astype(np.float32)
    makers = {"NumPy": lambda: sampled(*pair).__next__,
              "NumPy, a·x0 + b·eps alone": lambda: partial(mixed, *pair),
              "PyTorch": lambda: sampled(*tensors()).__next__,
              "PyTorch, a·x0 + b·eps alone": lambda: partial(mixed, *tensors())}
    yield from timed("DDIM step of 256 points", makers, rounds, seconds, notes=STEP)


def sampled(x0, eps, T=10_000):
    """DDIM's states, one sample after another, of a denoiser that always says the same."""
    table, pair = cosine(T), (x0, eps)
    while True:
        states = ddim(lambda x, t: pair, table, eps)
        next(states)  # what it begins with is no step
        yield from states


def mixed(x0, eps, a=0.8, b=0.6):
    return a * x0 + b * eps


# JupyterLab.

def of_lab(chapter):
    """When it shows what, and a key's answer; or why that isn't known."""
    why = no_browser()
    if why:
        yield Row("JupyterLab", chapter.file, math.nan, "s", note=f"skipped: {why}")
        return
    try:
        with TemporaryDirectory() as folder:
            yield from opened(chapter, Path(folder))
    except Exception as error:  # a browser may fail in many ways, and the tests are still to come
        yield Row("JupyterLab", chapter.file, math.nan, "s", note=f"failed: {in_short(error)}")


def no_browser():
    """Why there is none to open JupyterLab in, or ""."""
    for package in ("pytest", "psutil", "playwright"):  # what `lab` and `explore` need
        if not importlib.util.find_spec(package):
            return f"{package} is not installed"
    from lab import CHROMIUM
    return "" if CHROMIUM else "there is no Chromium (or MINIDIFF_CHROMIUM)"


def opened(chapter, folder):
    """Opens the chapter in JupyterLab, runs it, and presses keys in its first widget."""
    from explore import LIVE, SAVED, sync_api
    from lab import CHROMIUM, FLAGS, serve
    from test_lab import RUN_S, await_idle, choose, keys, latency, open_file

    def after(who):
        return Row("JupyterLab, from its start", who, time.perf_counter() - start, "s")

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        with serve(folder) as lab:
            yield after("server answers")
            open_file(page, lab, chapter.file)
            first_widget(page, SAVED, RUN_S)
            yield after("saved widget drawn")
            await_idle(page)
            choose(page, "Run", "Run All Cells")
            widget = first_widget(page, LIVE, RUN_S)
            yield after("live widget drawn")
            waiting = page.locator(".jp-InputPrompt", has_text="[*]")
            sync_api.expect(waiting).to_have_count(0, timeout=1e3 * RUN_S)
            seconds, lost = latency(widget, keys(widget))
            yield Row("key to picture", f"{chapter.number}: first widget", seconds, "s",
                      note=f"{1e3 * lost:.0f} ms of them lost to other processes")


def first_widget(page, form, patience_s):
    """The first widget of this form, as soon as its picture is there."""
    from explore import until

    widget = page.locator(form.widget).first
    widget.wait_for(state="attached", timeout=1e3 * patience_s)
    widget.scroll_into_view_if_needed()
    until(widget, form, lambda seen: seen.pixels, "it is not drawn")
    return widget


# The tests.

def suite(what, arguments, goal, root=ROOT):
    """Seconds and memory of the launcher's tests with these arguments, on two workers."""
    import book

    with mock.patch.dict(os.environ):  # which the launcher sets for its tests
        os.environ.pop("TQDM_DISABLE", None)
        command = [sys.executable, *book.test([*arguments, "-n", "2"])]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, str(TOOLS / "probe.py"), *command], cwd=root,
                              capture_output=True, encoding="utf-8", errors="replace")
        seconds = time.perf_counter() - start
    said, _, told = done.stdout.strip().rpartition("\n")
    try:
        peak_mb = float(told)
    except ValueError:  # it was killed, and told nothing
        said, peak_mb = done.stdout, math.nan
    last = (said.strip() or done.stderr.strip()).rpartition("\n")[2].strip("= ")
    failed = f"failed, exit code {done.returncode}: " if done.returncode else ""
    yield Row(what, "two workers", seconds, "s", note=f"{failed}{last}; {goal}")
    yield memory(what, "largest process", peak_mb)
