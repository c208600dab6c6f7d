"""What the bench keeps of its measurements, and what the README says of them."""

import json
import math
import types

import pytest
from conftest import BOOK, ROOT

import bench
import costs
from bench import Row

STEP = [Row("step", "ours", 2.5e-4, "s", 2e-4, 3e-4, 1.0, 0.9, 1.1),
        Row("step", "theirs", 5e-4, "s", 4e-4, 6e-4, 2.0, 1.8, 2.2, "so|so"),
        Row("step", "gone", math.nan, "s", note="skipped: no such module")]
BARE = [Row("parameters", "ours", 7.0, ""), Row("GFLOP of a step", "ours", 7.0, ""),
        Row("chapter", "01_noise.ipynb", 7.0, "s"), Row("peak memory", "01_noise.ipynb", 7.0, "MB"),
        Row("redraw", "4: gone", math.nan, "s", note="failed: cell 3")]
REDRAWS = [Row("redraw", "1: noising", 0.012, "s"), Row("redraw", "2: field", 0.0345, "s"),
           Row("redraw", "3: fit", 0.02, "s")]
COUNTS = [Row("moons", "the floor", 0.01, ""), Row("moons", "DDIM", 21.0, "evaluations"),
          Row("moons", "Heun", 123.0, "evaluations"),
          Row("moons", "DDPM", math.nan, "evaluations", note="more than 247: there 31.1%")]
RECORDS = sorted((ROOT / "chapters" / "records").glob("bench-*.json"))


@pytest.fixture
def about(monkeypatch):
    """A machine that is the same everywhere."""
    there = {"processor": "CPU", "cores": 2, "gpu": None, "threads": "1", "python": "3.12",
             "versions": {"numpy": "2.4", "pillow": "13", "torch": "2.13"}}
    monkeypatch.setattr(costs, "machine", lambda: there)
    return there


def test_a_record_is_read_as_it_was_kept(tmp_path, about):
    path = tmp_path / "deep" / "bench.json"
    costs.keep(path, {"toy": STEP, "solvers": COUNTS}, 7)
    json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)  # NaN is not JSON
    record = costs.read(path)
    assert list(record) == ["toy", "solvers"] and record["toy"]["rounds"] == 7
    assert record["toy"]["machine"] == about
    assert repr(record["toy"]["rows"]) == repr(STEP)
    assert repr(record["solvers"]["rows"]) == repr(COUNTS)
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]


def test_a_section_takes_its_old_ones_place_and_no_other_s(tmp_path, about):
    path = tmp_path / "bench.json"
    costs.keep(path, {"data": STEP, "solvers": COUNTS}, 7)
    costs.keep(path, {"toy": STEP[:2], "data": STEP[:1]}, 9)
    record = costs.read(path)
    assert {name: (kept["rounds"], len(kept["rows"])) for name, kept in record.items()} == {
        "toy": (9, 2), "data": (9, 1), "solvers": (7, 4)}
    assert list(record) == ["toy", "data", "solvers"]  # as the bench has them


@pytest.mark.parametrize("text", ['{"moons": {}}', "[]", "3"])
def test_another_file_is_refused_and_stays(tmp_path, about, text):
    path = tmp_path / "bench.json"
    path.write_text(text)
    for do in (lambda: costs.read(path), lambda: costs.keep(path, {"toy": STEP}, 7)):
        with pytest.raises(ValueError, match="bench.json must be a record with sections of"):
            do()
    assert path.read_text() == text


def test_each_device_has_a_record():
    place = ROOT / "chapters" / "records"
    assert costs.path({"gpu": None}) == place / "bench-cpu.json"
    assert costs.path({"gpu": "NVIDIA H200 (SXM)"}) == place / "bench-nvidia-h200-sxm.json"


def test_what_is_told():
    told = dict(costs.told([*BARE, *STEP, *COUNTS, *REDRAWS]))
    assert told == {"step": "250 µs; theirs × 2.00",
                    "moons": "DDIM 21; Heun 123; DDPM more than 247",
                    "slowest redraw of 3 widgets": "2: field: 34.5 ms"}
    alone = [Row("chapters under nbval", "two workers", 9.0, "s")]
    assert dict(costs.told(alone)) == {"chapters under nbval": "two workers 9.00 s"}
    assert dict(costs.told(STEP[:1])) == {"step": "250 µs"}


def test_the_readme_has_the_lines_of_every_record_and_nothing_else_changes(tmp_path, about):
    readme = "before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n"
    (tmp_path / "README.md").write_text(readme)
    assert costs.publish({"toy": STEP}, 7, write=True, root=tmp_path) == {}
    text = (tmp_path / "README.md").read_text("utf-8")
    assert text.startswith("before\n<!-- bench -->\n\n| of | what | measured |\n") and "old" not in text
    assert text.endswith("\n\n<!-- /bench -->\nafter\n")
    assert "| chapter 3's network | step | 250 µs; theirs × 2.00 |" in text
    assert "*CPU, 2 cores, threads: 1; Python 3.12, numpy 2.4, torch 2.13; medians of 7" in text
    about["gpu"] = "H200"
    costs.publish({"unet": STEP}, 7, write=True, root=tmp_path)
    both = (tmp_path / "README.md").read_text("utf-8")
    assert "| U-Net | step |" in both and "*H200, " in both and "| chapter 3's network |" in both
    with pytest.raises(ValueError, match="README.md must be with <!-- bench -->"):
        costs.with_costs("before", tmp_path)


def test_what_is_measured_is_kept_before_the_next_section(tmp_path, monkeypatch):
    def section(name, rounds):
        yield from STEP
        if name == "data":
            raise KeyboardInterrupt

    monkeypatch.setattr(bench, "section", section)
    out = tmp_path / "bench.json"
    with pytest.raises(KeyboardInterrupt):
        bench.main(["toy", "data", "--out", str(out)])
    assert list(costs.read(out)) == ["toy"] and [*tmp_path.iterdir()] == [out]


def test_the_peers_are_installed_without_what_they_ask_for(monkeypatch):
    asked = []
    monkeypatch.setattr(bench, "subprocess", types.SimpleNamespace(
        run=lambda command, check: asked.append(command)))
    monkeypatch.setattr(bench, "section", lambda name, rounds: [])
    bench.main(["toy"])
    assert asked == []
    bench.main(["toy", "--peers"])
    assert asked[0][1:5] == ["-m", "pip", "install", "--no-deps"]
    assert asked[0][-3:] == ["denoising-diffusion-pytorch", "smalldiffusion", "torchcfm"]
    pinned = (ROOT / "pins.txt").read_text()
    assert all(f"\n{name}==" in pinned for name in asked[0][-3:])


# The book's own.

def test_the_readme_quotes_the_records():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert costs.with_costs(readme) == readme, "run: python book.py bench --write"


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_of_the_book_is_whole(path):
    record = costs.read(path)
    rows = {name: {(row.what, row.who) for row in kept["rows"] if not math.isnan(row.value)}
            for name, kept in record.items()}
    for step in ("training step", "sampling step"):
        assert {who for what, who in rows["unet"] if what == step} == {
            "ours", "diffusers", "denoising-diffusion-pytorch", "smalldiffusion", "torchcfm",
            "convolutions alone"}
    assert all(kept["rounds"] >= 15 for kept in record.values())


def test_the_cpu_s_record_has_every_section_and_chapter():
    record = costs.read(costs.path({"gpu": None}))
    assert tuple(record) == bench.SECTIONS
    chapters = {row.who for row in record["book"]["rows"]
                if row.what == "chapter" and row.value > 0}
    assert chapters == {chapter.file for chapter in BOOK.chapters}
