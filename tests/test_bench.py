"""The bench: fair turns, missing peers named, equal work, and finite rows. No time is bounded."""

import functools
import math
import os
import platform
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import ROOT

import bench
import costs
import bench_solvers
from minidiff.data import eight_gaussians


class Clock:
    """A clock that only work moves; contenders' work is known."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def __call__(self):
        return self.now

    def worker(self, name, *seconds):
        """Takes these seconds, call by call, and then the last for good."""
        def do():
            self.log.append(name)
            calls = self.log.count(name)
            self.now += seconds[min(calls, len(seconds)) - 1]
        return do


def test_twice_the_work_has_ratio_two():
    clock = Clock()
    times = bench.compare({"a": clock.worker("a", 1.0), "b": clock.worker("b", 2.0)}, 5,
                          clock=clock)
    assert times["a"] == bench.Times(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert times["b"] == bench.Times(2.0, 2.0, 2.0, 2.0, 2.0, 2.0)


def test_they_take_turns_after_a_call_that_does_not_count():
    clock = Clock()
    times = bench.compare({"a": clock.worker("a", 99.0, 1.0), "b": clock.worker("b", 99.0, 1.0)},
                          3, clock=clock)
    assert clock.log == ["a", "b"] * 4
    assert times["a"].high_s == times["b"].high_s == 1.0


def test_a_ratio_is_of_its_own_round():
    """The machine is three times as slow in the last two rounds of four; the ratio is not."""
    clock = Clock()
    slow = (0, 1, 1, 3, 3)
    times = bench.compare({"a": clock.worker("a", *slow),
                           "b": clock.worker("b", *(2 * s for s in slow))}, 4, clock=clock)
    assert times["b"].ratio == times["b"].ratio_low == times["b"].ratio_high == 2.0
    assert (times["a"].low_s, times["a"].median_s, times["a"].high_s) == (1.0, 2.0, 3.0)
    assert times["b"].median_s == 4.0


def test_quartiles_are_of_the_rounds():
    clock = Clock()
    times = bench.compare({"a": clock.worker("a", 1.0),
                           "b": clock.worker("b", 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)}, 5, clock=clock)
    assert times["b"] == bench.Times(3.0, 2.0, 4.0, 3.0, 2.0, 4.0)


def test_a_turn_lasts_as_long_as_it_is_told_to():
    clock = Clock()
    times = bench.compare({"a": clock.worker("a", 0.5), "b": clock.worker("b", 0.125)}, 2, 1.0,
                          clock)
    assert clock.log == ["a", "b"] * 2 + (["a"] * 2 + ["b"] * 8) * 2
    assert times["a"].median_s == 0.5 and times["b"].ratio == 0.25


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
@pytest.mark.parametrize("kept", [False, True])
def test_freed_memory_stays(kept):
    """To ask for 64 MB once more takes no new page; without, it takes all."""
    code = f"""
import resource, numpy, bench
if {kept}:
    bench.keep_memory()
counts = []
for _ in range(3):
    numpy.ones(8_000_000)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(counts[2] - counts[1])"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tools", text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    assert (int(done.stdout) < 100) == kept


@pytest.mark.parametrize("contenders, rounds, word", [({}, 3, "contenders"),
                                                      ({"a": print}, 0, "rounds")])
def test_what_cannot_be_compared_is_refused(contenders, rounds, word):
    with pytest.raises(ValueError, match=word):
        bench.compare(contenders, rounds)


def fails(error):
    def make():
        raise error
    return make


def test_a_missing_peer_is_named_and_skipped():
    clock = Clock()
    makers = {"ours": lambda: clock.worker("ours", 1.0),
              "absent": lambda: bench.peer("no_such_peer"),
              "broken": lambda: fails(RuntimeError("no compiler\nand much more")),
              "theirs": lambda: clock.worker("theirs", 3.0)}
    rows = list(bench.timed("step", makers, 3, clock=clock, notes={"theirs": "as it is"}))
    assert [(row.who, row.ratio) for row in rows[:2]] == [("ours", 1.0), ("theirs", 3.0)]
    assert rows[1].note == "as it is" and rows[0].note == ""
    assert [row.who for row in rows[2:]] == ["absent", "broken"]
    assert "no_such_peer" in rows[2].note and rows[2].note.startswith("skipped")
    assert "no compiler" in rows[3].note and "\n" not in rows[3].note
    assert all(math.isnan(row.value) for row in rows[2:])


def test_ours_must_be_there():
    with pytest.raises(RuntimeError, match="ours"):
        bench.made({"ours": fails(RuntimeError("ours")), "theirs": lambda: print})


def test_a_peer_needs_no_torchvision(tmp_path, monkeypatch):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('another torch')")
    (tmp_path / "some_peer.py").write_text(
        "from torchvision import transforms as tf\nplan = tf.Compose([tf.ToTensor()])\nx = 7")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    try:
        assert bench.peer("some_peer").x == bench.peer("some_peer").x == 7
        assert "torchvision" not in sys.modules and "torchvision.transforms" not in sys.modules
    finally:
        sys.modules.pop("some_peer", None)


# What is said.

ROWS = [bench.Row("step", "ours", 2.5e-4, "s", 2e-4, 3e-4, 1.0, 1.0, 1.0),
        bench.Row("step", "a|b", 1.5, "s", 1.0, 2.0, 6000.0, 5000.0, 7000.0),
        bench.Row("step", "gone", math.nan, "s", note="skipped: no such module")]


@pytest.mark.parametrize("number, unit, text", [
    (2.5e-4, "s", "250 µs"), (0.0125, "s", "12.5 ms"), (1.5, "s", "1.50 s"), (75.0, "s", "75.0 s"),
    (51234.0, "images/s", "51,234 images/s"), (2.187, "", "2.19"), (0.0, "s", "0.00 s"),
    (math.nan, "s", "")])
def test_numbers_are_shown_to_three_digits(number, unit, text):
    assert bench.shown(number, unit) == text


def test_the_table_has_a_line_for_each():
    head, rule, ours, theirs, gone = bench.table(ROWS).splitlines()
    assert ours == "| step | ours | 250 µs | 200 µs – 300 µs | 1.00 | 1.00 – 1.00 |  |"
    assert r"a\|b" in theirs and "6,000 | 5,000 – 7,000" in theirs
    assert gone == "| step | gone |  |  |  |  | skipped: no such module |"


def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    asked = []

    def rows(rounds):
        asked.append(rounds)
        yield from ROWS

    monkeypatch.setitem(sys.modules, "bench_toy", types.SimpleNamespace(rows=rows))
    monkeypatch.setitem(sys.modules, "bench_solvers", None)  # as if there were none
    out = tmp_path / "bench.json"
    bench.main(["toy", "solvers", "--rounds", "7", "--out", str(out)])
    said = capsys.readouterr().out
    assert asked == [7]
    assert "## toy" in said and bench.table(ROWS) in said
    assert "skipped" in said.split("## solvers")[1]
    assert all(word in said for word in (bench.processor(), f"numpy {np.__version__}"))
    record = costs.read(out)
    assert {name: kept["rounds"] for name, kept in record.items()} == {"toy": 7, "solvers": 7}
    assert record["toy"]["machine"]["versions"]["numpy"] == np.__version__
    assert repr(record["toy"]["rows"]) == repr(ROWS)


@pytest.mark.parametrize("words", [["toys"], ["toy", "--rounds", "0"]])
def test_what_is_not_there_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        bench.main(words)
    assert words[0] in capsys.readouterr().err or "--rounds" in words


def test_all_sections_are_asked_for_by_default():
    assert tuple(bench.parsed([]).sections) == ("toy", "unet", "data", "solvers", "book")


# The sections.

def finite(rows):
    """Whether each row has its number, or says why it has none."""
    return all(row.note if math.isnan(row.value) else 0 < row.value < math.inf for row in rows)


@pytest.fixture
def toy():
    pytest.importorskip("torch", reason="the torch extra is not installed")
    import bench_toy
    return bench_toy


def test_toy_runs(toy, monkeypatch):
    monkeypatch.setattr(toy, "GOOD", 100.0)
    monkeypatch.setattr(toy, "LEVELS", 4)
    rows = list(toy.rows(2, 8, (4, 4), 64, 30, 0.0, compiled=False, seeds=(0,)))
    assert finite(rows) and {"ours", "eager PyTorch", "smalldiffusion", "products alone"} <= {
        row.who for row in rows}
    assert [row.note for row in rows[-2:]] == ["25 steps of 30: the median of 1 seeds"] * 2
    for step, end in zip(rows[:2], rows[-2:]):
        assert (end.who, end.value) == (step.who, 25 * step.value)


def test_a_loss_that_is_not_reached_is_said_to_be(toy):
    row = toy.until_good(bench.Row("step", "ours", 1.0, "s", 1.0, 1.0), [math.nan, 25], 30)
    assert math.isnan(row.value) and row.note == "not in 30 steps by every seed"


def test_ours_and_torch_do_the_same_work(toy, monkeypatch):
    """Five steps on the same draws: as many parameters, the same losses, the same weights."""
    import torch

    rng = np.random.default_rng(3)
    points, eps = rng.standard_normal((2, 64, 2)).astype(np.float32)
    u = ((rng.permutation(1000)[:64] + 0.5) / 1000) ** 0.5  # in the middle of what becomes a row
    mine, copy = toy.start((16, 8)), toy.start((16, 8))
    mine.parameters[:] = copy.parameters[:] = rng.standard_normal(mine.parameters.size) / 3
    assert sum(p.numel() for p in toy.copied(copy).parameters()) == mine.parameters.size
    draws = types.SimpleNamespace(standard_normal=lambda *_, **__: eps, random=lambda n: u,
                                  integers=lambda n, size: np.arange(size))
    monkeypatch.setattr(np.random, "default_rng", lambda seed: draws)
    for name, value in (("randint", torch.arange(64)), ("randn", torch.from_numpy(eps)),
                        ("rand", torch.from_numpy(u))):
        monkeypatch.setattr(torch, name, lambda *_, value=value, **__: value)
    results = []
    for training, network in ((toy.by_hand, mine), (toy.in_torch, copy)):
        back, losses = training(network, points, 64, 5)
        results.append((list(losses), back().parameters))
    (ours, weights), (theirs, same) = results
    assert theirs == pytest.approx(ours, rel=1e-4) and ours[0] - ours[4] > 0.01
    assert np.allclose(weights, same, atol=1e-4)


@pytest.mark.parametrize("name, words", [("by_hand", {}), ("in_torch", {"fused": True})])
def test_they_come_near_the_least_loss(toy, monkeypatch, name, words):
    monkeypatch.setattr(toy, "GOOD", 1.15)
    monkeypatch.setattr(toy, "LEVELS", 8)
    points = eight_gaussians().sample(5000, np.random.default_rng(0)).astype(np.float32)
    training = functools.partial(getattr(toy, name), **words)
    assert 100 <= toy.to_good(training, points, 256, (128, 128, 128), 400, 0) <= 400
    assert math.isnan(toy.to_good(training, points, 256, (128, 128, 128), 50, 0))


def test_good_is_measured_from_the_oracle(toy):
    """`least` by quadrature is the oracle's own loss, and `excess` what one's error adds to it."""
    def oracle(error):
        def network(x, c):
            row = int(np.argmin(abs(toy.TABLE.log_snr - c)))
            a, s = toy.TABLE.at(row, x)
            x0, eps = toy.CLOUD.denoiser(toy.TABLE)(x, row)
            return a * eps - s * x0 + error
        return network

    t, best = toy.least()
    assert toy.excess(oracle(0.0), t) < 1e-12
    assert toy.excess(oracle(0.3), t) == pytest.approx(0.09)
    rng, n, losses = np.random.default_rng(4), 4000, []
    for row in t.tolist():
        a, s = toy.TABLE.at(row, None)
        x0, eps = toy.CLOUD.sample(n, rng), rng.standard_normal((n, 2))
        y = oracle(0.0)(a * x0 + s * eps, toy.TABLE.log_snr[row])
        losses.append(((y - (a * eps - s * x0)) ** 2).mean(axis=1))
    error = np.std(losses, axis=1).mean() / (n * len(t)) ** 0.5
    assert error < 0.005 and abs(np.mean(losses) - best) < 4 * error  # false alarm: 6e-5


def test_the_products_are_all_of_a_step(toy, monkeypatch):
    flops, honest = [], np.matmul

    def counted(a, b, out):
        flops.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return honest(a, b, out=out)

    do = toy.products(256, (19, 128, 128, 128, 2))
    monkeypatch.setattr(toy.np, "matmul", counted)
    do()
    size = 19 * 128 + 2 * 128**2 + 128 * 2
    assert sum(flops) == 2 * 256 * (3 * size - 19 * 128)


@pytest.fixture
def loading():
    pytest.importorskip("torch", reason="the torch extra is not installed")
    pytest.importorskip("PIL", reason="images are Pillow's")
    import bench_data
    return bench_data


def test_data_runs(loading):
    rows = list(loading.rows(2, 16, 8, 0.0))
    assert finite(rows) and [row.who for row in rows] == ["ours", "DataLoader"] * 2
    assert all(row.low <= row.value <= row.high for row in rows)
    with pytest.raises(ValueError, match="divisible"):
        next(loading.rows(1, 10, 8))


def test_the_images_alone_are_the_steps_own(loading):
    images = np.random.default_rng(5).integers(256, size=(12, 3, 4, 4), dtype=np.uint8)
    for x0, (same, t, eps), _ in zip(loading.resident(images, 4), loading.whole(images, 4),
                                     range(7)):
        assert np.array_equal(x0, same) and t.shape == (4,) and eps.shape == x0.shape


def test_the_loader_makes_the_same_numbers(loading):
    images = np.random.default_rng(6).integers(256, size=(5, 3, 4, 6), dtype=np.uint8)
    ours = images / 127.5 - 1
    for flip, same in ((0.0, ours), (1.0, ours[..., ::-1])):
        made = np.stack(list(map(loading.Pictures(images, flip).__getitem__, range(5))))
        assert made.dtype == np.float32 and np.allclose(made, same, atol=1e-6)
    x0, t, eps = next(loading.noised(images, 2))
    assert x0.shape == eps.shape == (2, 3, 4, 6) and t.shape == (2,)


def test_solvers_run_and_depend_on_nothing(monkeypatch):
    monkeypatch.setattr(bench_solvers, "JUDGE", 20)

    def run():
        return list(bench_solvers.rows(1, (3, 9), n=40, repeats=2, steps=20, finest=15))

    rows = run()
    assert len(rows) == 2 * 2 * (1 + len(bench_solvers.SOLVERS)) and rows == run()
    assert finite(rows) and {row.unit for row in rows} == {"", "evaluations"}


@pytest.mark.parametrize("solver", bench_solvers.SOLVERS.values())
def test_evaluations_are_counted(solver):
    asked, cloud = [], eight_gaussians()

    def model(table):
        denoise = cloud.denoiser(table)
        return lambda x, t: asked.append(t) or denoise(x, t)

    found = bench_solvers.distances(solver, 9, model, [bench_solvers.drawn(cloud, 50, 0)])
    assert len(asked) == 9 and found.shape == (1,) and 0 < abs(found[0]) < 1


@pytest.mark.parametrize("needed", [1, *bench_solvers.LADDER, 248])
def test_the_first_good_rung_is_found(monkeypatch, needed):
    asked = []

    def distances(solver, evaluations, model, draws):
        asked.append(evaluations)
        return np.array([1.0, 1.2]) + (0.04 if evaluations >= needed else 0.06)

    monkeypatch.setattr(bench_solvers, "distances", distances)
    row = bench_solvers.reached("what", "who", None, None, None, np.array([1.0, 1.2]), 1.0,
                                bench_solvers.LADDER)
    first = [rung for rung in bench_solvers.LADDER if rung >= needed]
    if first:
        assert row.value == first[0] and row.note.startswith("4.0% ± 0.0%")
    else:
        assert math.isnan(row.value) and row.note.startswith("more than 247: there 6.0% ± 0.0%")
    assert len(asked) <= 4


def test_learned_is_a_denoiser_of_any_table():
    model = bench_solvers.learned(eight_gaussians(), 5)
    x = np.random.default_rng(7).standard_normal((6, 2))
    x0, eps = model(bench_solvers.karras(4))(x, 4)
    assert x0.shape == eps.shape == (6, 2)
