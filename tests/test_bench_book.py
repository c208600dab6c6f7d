"""The section `book` on small chapters and small tests; and that `--write` writes no more than it
measured. No time of the book's own is bounded."""

import json
import math
import os
import subprocess
import sys
import types
from dataclasses import replace
from functools import partial
from itertools import islice

import nbformat
import numpy as np
import pytest
from conftest import BOOK, ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from test_bench import finite
from test_book import GOOD

import bench
import bench_book
import costs
import minutes
import navigation
import normalise
from minidiff.book import load
from minidiff.schedule import cosine
from normal_form import dumps, normal_form, read

CHAPTER = replace(BOOK.chapters[0], file="01_one.ipynb", budget_s=60)

# Of 200 MB for a moment, and with two widgets: a real one, and one whose redraws sleep.
LIVELY = """import gc, time
import numpy as np
from minidiff.show import walk
from minidiff.show.explorable import Explorable

class Slow(Explorable):
    name, axis = "a slow one", ("t", type("Slider", (), {"stops": (0.05, 0.3, 0.05)}))

    def __init__(self):
        self.circle = self  # so that it outlives its last name

    def draw(self, t):
        time.sleep(0.5)
        end = time.process_time() + t
        while time.process_time() < end:
            pass

gc.disable()
slow, real, gone = Slow(), walk(), Slow()
del gone
np.ones(25_000_000)
time.sleep(0.5)"""


def save(path, *sources, **ids):
    cells = [new_markdown_cell("# 1. One"), *map(new_code_cell, sources),
             *(new_code_cell(source, id=name) for name, source in ids.items())]
    nbformat.write(new_notebook(cells=cells), path)


@pytest.fixture(scope="module")
def lively(tmp_path_factory):
    """`(rows, the seconds it took with all redraws)` of a chapter that runs."""
    folder, totals = tmp_path_factory.mktemp("lively"), []
    save(folder / CHAPTER.file, LIVELY)
    before = (folder / CHAPTER.file).read_bytes()

    def execute(nb, folder):
        totals.append(normalise.execute(nb, folder))
        return totals[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_book, "execute", execute)
        rows = list(bench_book.of_chapter(CHAPTER, folder))
    assert [path.name for path in folder.iterdir()] == [CHAPTER.file]
    assert (folder / CHAPTER.file).read_bytes() == before
    return rows, totals[0]


def test_a_chapters_seconds_are_without_its_redraws(lively):
    (row, *_), total = lively
    assert (row.what, row.who, row.unit) == ("chapter", "01_one.ipynb", "s")
    assert 0.5 < row.value < total - 3 * 0.5
    assert row.note.startswith("budget: 60 s; ") and row.note.endswith(" s of CPU time")
    assert 0.2 < float(row.note.split()[3]) < 60


def test_a_chapters_memory_is_its_kernels(lively):
    (_, row, *_), _ = lively
    assert (row.what, row.who, row.unit) == ("peak memory", "01_one.ipynb", "MB")
    assert 200 < row.value < 600


def test_each_live_widget_is_redrawn(lively):
    (_, _, *redraws), _ = lively
    assert [(row.what, row.who) for row in redraws] == [
        ("redraw", "1: a slow one"), ("redraw", "1: walk")]
    slow, real = (row.value for row in redraws)
    assert 0.05 <= slow < 0.3 and 1e-4 < real < 1
    assert all(row.unit == "s" and "60 ms" in row.note for row in redraws)


def lacking(monkeypatch, package):
    """As if this package were not installed."""
    find = bench_book.importlib.util.find_spec
    monkeypatch.setattr(bench_book.importlib.util, "find_spec",
                        lambda name: None if name == package else find(name))


def test_a_chapter_needs_no_widgets_and_no_torch(tmp_path, monkeypatch):
    lacking(monkeypatch, "torch")
    save(tmp_path / CHAPTER.file, "x = 1")
    chapter, memory = bench_book.of_chapter(replace(CHAPTER, budget_s=1e-9), tmp_path)
    assert chapter.note.startswith("OVER budget") and finite([chapter, memory])


def test_a_failing_chapter_is_named(tmp_path):
    save(tmp_path / CHAPTER.file, fine="x = 1", oops="1 / 0", later="x = 2")
    (row,) = bench_book.of_chapter(CHAPTER, tmp_path)
    assert row.who == "01_one.ipynb" and math.isnan(row.value)
    assert row.note.startswith("failed: cell 3 (oops)") and "ZeroDivisionError" in row.note
    assert "\n" not in row.note


@pytest.mark.parametrize("text", [None, "{"])
def test_a_chapter_that_cannot_be_read_is_named(tmp_path, text):
    if text:
        (tmp_path / CHAPTER.file).write_text(text)
    (row,) = bench_book.of_chapter(CHAPTER, tmp_path)
    assert math.isnan(row.value) and row.note.startswith("failed: ") and len(row.note) > 10


def test_a_chapter_that_lacks_torch_is_skipped(tmp_path, monkeypatch):
    lacking(monkeypatch, "torch")
    (row,) = bench_book.of_chapter(replace(CHAPTER, torch=True), tmp_path)
    assert math.isnan(row.value) and row.note == "skipped: PyTorch is not installed"


@pytest.mark.skipif(os.name != "posix", reason="the system doesn't tell of memory")
def test_a_parents_memory_is_not_counted():
    """The probe's own, and a command's, are told right by one who holds 400 MB."""
    tools = str(ROOT / "tools")
    said = subprocess.run([sys.executable, "-c", f"""if True:
        import subprocess, sys
        held = b"x" * 400_000_000
        own = "import sys; sys.path.append({tools!r}); import probe; print(probe.peak_mb())"
        command = [sys.executable, "{tools}/probe.py", sys.executable, "-c"]
        subprocess.run([sys.executable, "-c", own])
        subprocess.run([*command, "x = b'x' * 150_000_000"])
        print(subprocess.run([*command, "raise SystemExit(3)"]).returncode)"""],
                          capture_output=True, text=True, check=True).stdout.split()
    own, allocated, nothing, status = map(float, said)
    if sys.platform == "linux":
        assert 5 < own < 100
    assert 150 < allocated < 250 and 5 < nothing < 100 and status == 3


def test_imports_are_of_fresh_interpreters_by_the_wall(monkeypatch):
    monkeypatch.setattr(bench_book, "IMPORTS", (
        "import minidiff", "import time; time.sleep(0.3)", "import no_such_module", "pass"))
    ours, sleep, bare, missing = bench_book.imports(1)
    assert ours.who == "import minidiff" and ours.ratio == 1 and sleep.value > 0.3
    assert 0 < bare.value < 0.3 < 10 * ours.value
    assert missing.who == "import no_such_module" and missing.note.startswith("skipped")
    assert "No module named 'no_such_module'" in missing.note


def test_steps_run():
    rows = list(bench_book.steps(1, 0.0))
    assert finite(rows) and [row.who for row in rows] == [
        "NumPy", "NumPy, a·x0 + b·eps alone", "PyTorch", "PyTorch, a·x0 + b·eps alone"]
    assert "4 µs" in rows[0].note and ("15 µs" in rows[2].note or "skipped" in rows[2].note)


def test_a_step_is_one_of_ddim():
    x0, eps = np.random.default_rng(0).standard_normal((2, 5, 2)).astype(np.float32)
    table = cosine(3)
    states = list(islice(bench_book.sampled(x0, eps, T=3), 7))
    assert [t for t, _ in states] == [2, 1, 0, 2, 1, 0, 2]
    for t, x in states:
        assert x.dtype == np.float32
        assert np.allclose(x, table.alpha[t] * x0 + table.sigma[t] * eps, atol=1e-6)
    assert np.allclose(bench_book.mixed(x0, eps, 2, 3), 2 * x0 + 3 * eps)


@pytest.mark.parametrize("package", ["pytest", "psutil", "playwright"])
def test_what_jupyterlab_lacks_is_named(monkeypatch, package):
    lacking(monkeypatch, package)
    (row,) = bench_book.of_lab(CHAPTER)
    assert math.isnan(row.value) and row.note == f"skipped: {package} is not installed"


def test_a_missing_chromium_is_named(monkeypatch):
    pytest.importorskip("playwright")
    import lab
    monkeypatch.setattr(lab, "CHROMIUM", None)
    (row,) = bench_book.of_lab(CHAPTER)
    assert math.isnan(row.value) and row.note.startswith("skipped: there is no Chromium")


def test_a_failing_jupyterlab_is_named_after_what_was_seen(monkeypatch):
    def opened(chapter, folder):
        assert folder.is_dir()
        yield bench.Row("JupyterLab", "server answers", 1.0, "s")
        raise RuntimeError("it did not start:\nsome log\nport in use\n")

    monkeypatch.setattr(bench_book, "no_browser", lambda: "")
    monkeypatch.setattr(bench_book, "opened", opened)
    seen, failed = bench_book.of_lab(CHAPTER)
    assert seen.value == 1.0 and math.isnan(failed.value)
    assert failed.note == "failed: it did not start: … port in use"


@pytest.mark.browser
def test_jupyterlab_is_measured():
    why = bench_book.no_browser()
    if why:
        pytest.skip(why)
    *shown, key = bench_book.of_lab(BOOK.chapters[0])
    assert [row.who for row in shown] == [
        "server answers", "saved widget drawn", "live widget drawn"]
    times = [row.value for row in shown]
    assert 0 < times[0] < times[1] < times[2] < 900
    assert key.what == "key to picture" and 0 < key.value < 20


TESTS = """import os

def test_fine():
    assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == "2"
    assert os.environ["OMP_NUM_THREADS"] == "1" and "TQDM_DISABLE" not in os.environ
    assert len(b"x" * 200_000_000) > 0

def test_bad():
    assert False
"""


@pytest.fixture(scope="module")
def small_tests(tmp_path_factory):
    """A folder with a test that passes and one that fails, and what the launcher asks for."""
    root = tmp_path_factory.mktemp("suite")
    (root / "tests").mkdir()
    (root / "tests/nbval_sanitize.cfg").write_text("")
    (root / "tests/test_small.py").write_text(TESTS)
    (root / "pytest.ini").write_text("[pytest]")
    return root


def suite(root, monkeypatch, *arguments):
    """The rows; the environment must stay as it is."""
    for name, value in (("OMP_NUM_THREADS", "7"), ("TQDM_DISABLE", "1"),
                        ("PYTEST_XDIST_AUTO_NUM_WORKERS", "1")):
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    rows = list(bench_book.suite("small", arguments, "goal: 1 min", root))
    assert dict(os.environ) | {"PYTEST_CURRENT_TEST": ""} == before | {"PYTEST_CURRENT_TEST": ""}
    return rows


def test_failing_tests_are_told(small_tests, monkeypatch):
    time, memory = suite(small_tests, monkeypatch)
    assert (time.what, time.who, time.unit) == ("small", "two workers", "s") and time.value > 0.1
    assert time.note.startswith("failed, exit code 1: 1 failed, 1 passed")
    assert time.note.endswith("; goal: 1 min") and "=" not in time.note
    assert memory.unit == "MB" and (math.isnan(memory.value) or 200 < memory.value < 600)


def test_passing_tests_are_told(small_tests, monkeypatch):
    time, _ = suite(small_tests, monkeypatch, "-k", "fine")
    assert time.note.startswith("1 passed in ")


def test_tests_that_do_not_begin_are_told(small_tests, monkeypatch):
    time, _ = suite(small_tests, monkeypatch, "--no-such-option")
    assert time.note.startswith("failed, exit code 4: ") and len(time.note) > 40


def test_parts_are_left_out_if_told_so(monkeypatch):
    def fake(name):
        monkeypatch.setattr(bench_book, name, lambda *a: [(name, *a)])

    for name in ("of_chapter", "imports", "steps", "of_lab", "suite"):
        fake(name)
    folder = ROOT / BOOK.src
    small = list(bench_book.rows(3, tests=False, lab=False, chapters=BOOK.chapters[1:2]))
    assert small == [("of_chapter", BOOK.chapters[1], folder), ("imports", 3), ("steps", 3)]
    assert [row[0] for row in bench_book.rows(3, tests=False, chapters=())] == [
        "imports", "steps", "of_lab"]
    *whole, last, end = bench_book.rows(3)
    assert whole == [*(("of_chapter", chapter, folder) for chapter in BOOK.chapters),
                     ("imports", 3), ("steps", 3), ("of_lab", BOOK.chapters[0])]
    assert last[2] == ["chapters"] and end[2] == ["-m", "not browser"]


@pytest.mark.parametrize("said, peak_mb", [
    ("4 passed\n12.5\n", 12.5), ("4 passed\nnan\n", math.nan), ("4 passed\n", math.nan)])
def test_a_probe_that_tells_no_memory_loses_no_result(monkeypatch, said, peak_mb):
    """It can't on Windows, and it can be killed."""
    done = types.SimpleNamespace(stdout=said, stderr="", returncode=0)
    monkeypatch.setattr(bench_book.subprocess, "run", lambda *_, **__: done)
    seconds, memory = bench_book.suite("tests", [], "goal: soon")
    assert seconds.note == "4 passed; goal: soon"
    assert memory.value == pytest.approx(peak_mb, nan_ok=True)


# What `--write` makes of it.

NOTED = GOOD.replace("run_s = 9.5\n", "run_s = 9.5    # measured, run_s = 1\n")


def test_only_the_seconds_change_in_the_manifest():
    text = minutes.with_minutes(NOTED, {"01_one.ipynb": 13, "02_two.ipynb": 200})
    assert text == NOTED.replace("run_s = 9.5 ", "run_s = 13 ").replace("= 240", "= 200")
    assert minutes.with_minutes(text, {"01_one.ipynb": 13}) == text
    assert minutes.with_minutes(NOTED, {"03_three.ipynb": 1}) == NOTED
    windows = NOTED.replace("\n", "\r\n")
    assert minutes.with_minutes(windows, {"02_two.ipynb": 7}) == windows.replace("= 240", "= 7")


def test_every_chapter_of_the_book_can_be_written():
    text = (ROOT / "book.toml").read_text("utf-8")
    same = {chapter.file: f"{chapter.run_s:g}" for chapter in BOOK.chapters}
    assert minutes.with_minutes(text, same) == text
    other = minutes.with_minutes(text, dict.fromkeys(same, 1.25)).splitlines()
    changed = [new for old, new in zip(text.splitlines(), other, strict=True) if old != new]
    assert [line.split()[:3] for line in changed] == [["run_s", "=", "1.25"]] * len(same)


@pytest.fixture
def book(tmp_path):
    """A small book on the disk, in normal form: its root."""
    (tmp_path / "chapters/solutions").mkdir(parents=True)
    (tmp_path / "book.toml").write_text(NOTED, "utf-8", newline="\n")
    (tmp_path / "README.md").write_text(
        "Text\n<!-- contents -->\n<!-- /contents -->\n<!-- bench -->\n<!-- /bench -->\nend\n")
    small = load(tmp_path / "book.toml")
    for chapter in small.chapters:
        output = nbformat.v4.new_output("stream", text="kept\n")
        cells = [new_markdown_cell(f"# {chapter.title}"),
                 new_code_cell("raise SystemExit", execution_count=1, outputs=[output])]
        nb = new_notebook(cells=navigation.with_navigation(cells, small, chapter))
        (tmp_path / "chapters" / chapter.file).write_text(dumps(normal_form(nb)), "utf-8",
                                                          newline="\n")
    normalise.tables(tmp_path, small)
    return tmp_path


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*")
            if path.is_file()}


def test_seconds_are_rounded_up_and_stay_within_the_budget(book):
    chapters = load(book / "book.toml")
    assert minutes.settled(chapters, {"01_one.ipynb": 19.01, "02_two.ipynb": 9.0}) == (
        {"01_one.ipynb": 20, "02_two.ipynb": 9}, {})
    whole, left = minutes.settled(chapters, {"01_one.ipynb": 20.01, "02_two.ipynb": math.nan})
    assert whole == {} and set(left) == {"01_one.ipynb", "02_two.ipynb"}
    assert "20.0 s" in left["01_one.ipynb"] and "not measured" in left["02_two.ipynb"]
    (book / "book.toml").write_text(NOTED.replace("budget_s = 20", "budget_s = 20.5"), "utf-8")
    assert minutes.settled(load(book / "book.toml"), {"01_one.ipynb": 20.3})[0] == {}


def test_the_book_follows_its_measured_seconds(book):
    other = book / "chapters/02_two.ipynb"
    other.write_text(other.read_text("utf-8") + "\n", "utf-8")  # no normal form, and it stays
    before = contents(book)
    left = minutes.write({"01_one.ipynb": 12.3, "02_two.ipynb": 301.0}, book)
    assert list(left) == ["02_two.ipynb"]
    small, after = load(book / "book.toml"), contents(book)
    assert [chapter.run_s for chapter in small.chapters] == [13, 240]
    assert {name for name in before if after[name] != before[name]} == {
        "book.toml", "README.md", "chapters/01_one.ipynb", "chapters/checksums.txt"}
    assert before.keys() == after.keys()
    cells, old = (json.loads(files["chapters/01_one.ipynb"])["cells"] for files in (after, before))
    assert cells[1:] == old[1:] and "runs in 13 s" in "".join(cells[0].pop("source"))
    assert "9.5 s" in "".join(old[0].pop("source")) and cells[0] == old[0]
    for chapter in small.chapters:
        nb = read(book / "chapters" / chapter.file)
        assert nb.cells == navigation.with_navigation(nb.cells, small, chapter)
    assert "| 13 s |" in after["README.md"].decode() and b"\nend\n" in after["README.md"]
    assert after["chapters/checksums.txt"].decode() == normalise.checksums(book / "chapters")


def test_a_second_write_changes_nothing(book):
    seconds = {"01_one.ipynb": 12.3, "02_two.ipynb": 100.0}
    assert minutes.write(seconds, book) == {}
    before = contents(book)
    assert minutes.write(seconds, book) == {} and contents(book) == before


@pytest.fixture
def measured(monkeypatch, book):
    """The command, where the section book has measured this small book."""
    def rows(rounds):
        yield bench.Row("chapter", "01_one.ipynb", 7.5, "s")
        yield bench.Row("peak memory", "01_one.ipynb", 99.0, "MB")
        yield bench.Row("chapter", "02_two.ipynb", math.nan, "s", note="failed: cell 3")

    monkeypatch.setitem(sys.modules, "bench_book", types.SimpleNamespace(rows=rows))
    monkeypatch.setattr(costs, "publish", partial(costs.publish, root=book))
    return bench.main


def test_the_command_writes_what_it_measured(measured, book, capsys):
    before = contents(book)
    measured(["book"])
    assert contents(book) == before
    measured(["book", "--write"])
    assert [chapter.run_s for chapter in load(book / "book.toml").chapters] == [8, 240]
    (record,) = (book / "chapters/records").glob("bench-*.json")
    assert "book" in costs.read(record)
    said = capsys.readouterr().out
    assert "02_two.ipynb: the book's seconds stay: it was not measured" in said
    assert "01_one.ipynb: the book's" not in said
