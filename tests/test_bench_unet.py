"""The bench of the U-Net: equal work, honest counts, and finite rows. No time is bounded."""

import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
import bench_unet  # noqa: E402

from minidiff.nn import UNet, UNetConfig, parameters  # noqa: E402

torch.set_num_threads(1)

CPU = torch.device("cpu")
TINY = UNetConfig(size=8, base=32, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.0)
PLAIN = (False, False, "eager")


@pytest.fixture
def alone(monkeypatch):
    """Nobody but ours, in one setting."""
    monkeypatch.setattr(bench_unet, "STARTS", {"ours": bench_unet.ours})
    monkeypatch.setattr(bench_unet, "settings", lambda *_: {"contiguous, float32": PLAIN})


def test_each_one_s_rows_are_finite_and_a_missing_peer_is_named(alone, monkeypatch):
    def gone(config):
        raise ModuleNotFoundError("No module named 'gone'")

    monkeypatch.setitem(bench_unet.STARTS, "gone", gone)
    rows = list(bench_unet.rows(2, TINY, 2, "cpu"))
    skipped = [row for row in rows if row.who == "gone"]
    assert len(skipped) == 1 and "No module named 'gone'" in skipped[0].note
    assert math.isnan(skipped[0].value)
    rest = [row for row in rows if row.who != "gone"]
    assert all(0 < row.value < math.inf for row in rest)
    for what in bench_unet.STEPS:
        steps = {row.who: row for row in rest if row.what == what}
        assert set(steps) == {"ours", bench_unet.FLOOR} and steps["ours"].ratio == 1.0
        assert all(row.note.startswith("contiguous, float32; ") and " GFLOP/s; " in row.note
                   for row in steps.values())
        assert steps[bench_unet.FLOOR].note.endswith("100% of the convolutions'")
    assert [row.value for row in rest if row.what == "parameters"] == [parameters(UNet(TINY))]


def test_products_are_counted_as_by_hand():
    """One level without attention but the middle's: every convolution and matrix product."""
    n, size, B = 32, 8, 3
    config = replace(TINY, multipliers=(1,), attention=())

    def conv(a, b, kernel=3):
        return 2 * B * a * b * kernel**2 * size**2

    def residual(a, b):
        return conv(a, b) + conv(b, b) + (conv(a, b, 1) if a != b else 0)

    convs = (conv(3, n) + residual(n, n) + 2 * residual(n, n) + conv(n, 3 * n, 1) + conv(n, n, 1)
             + 2 * residual(2 * n, n) + conv(n, 3))
    linear = 2 * B * (n * 4 * n + 16 * n * n + 5 * 4 * n * n)
    scores = 2 * 2 * B * n * size**4
    one = bench_unet.ours(config)
    train, sample = bench_unet.counted(one, config, B)
    assert sample == convs + linear + scores
    assert bench_unet.counted(one, config, B, only="convolution")[1] == convs
    spared = conv(3, n) + 2 * B * n * 4 * n  # nobody asks for the slope in x and in the waves
    assert train == 3 * sample - spared


def test_a_doubling_counts_by_its_formula():
    """Four times nine products a coarse pixel, of which sixteen are done."""
    from torch.utils.flop_counter import FlopCounterMode
    B, one = 3, bench_unet.ours(TINY)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        one.network(torch.zeros(B, 3, 8, 8), torch.ones(B))
    n, coarse = TINY.widths[-1], 4**2
    assert bench_unet.counted(one, TINY, B)[1] - counter.get_total_flops() == (
        2 * B * n * n * coarse * (4 * 9 - 16))
    with bench_unet.by_the_formula(), torch.no_grad():
        plain = one.network.up[-3](torch.ones(B, n, 4, 4), None)
    assert torch.allclose(plain, one.network.up[-3](torch.ones(B, n, 4, 4), None), atol=1e-5)


def test_attention_counts_the_same_by_any_kernel():
    """A CPU's own kernel, which torch's counter leaves out, and the products that it stands for."""
    class Attend(torch.nn.Module):
        def __init__(self, plain):
            super().__init__()
            self.plain = plain

        def forward(self, x, t):
            q = x.flatten(2).transpose(1, 2)[:, None].contiguous().requires_grad_()
            if self.plain:
                return (q @ q.transpose(2, 3)).softmax(3) @ q
            return torch.nn.functional.scaled_dot_product_attention(q, q, q)

    counts = [bench_unet.counted(bench_unet.Contender(one, one), TINY, 2)
              for one in (Attend(True), Attend(False))]
    assert counts[0] == counts[1] == [3 * 2 * 2 * 2 * 3 * 8**4, 2 * 2 * 2 * 3 * 8**4]


def test_a_training_step_trains_clips_and_averages():
    calls = []
    one = bench_unet.ours(TINY)
    before = [p.detach().clone() for p in one.network.parameters()]
    one = replace(one, average=lambda: calls.append(1))
    step = bench_unet.training(one, TINY, 2, CPU, PLAIN)
    losses = [step() for _ in range(3)]
    assert len(calls) == 3 and all(0.1 < loss < 10 for loss in losses)
    assert any(not torch.equal(a, b) for a, b in zip(before, one.network.parameters()))
    norm = torch.stack([p.grad.norm() for p in one.network.parameters()]).norm()
    assert norm < 1.001 * one.clip
    still = bench_unet.training(replace(one, clip=1e-9, average=bool), TINY, 2, CPU, PLAIN)
    still()
    assert torch.stack([p.grad.norm() for p in one.network.parameters()]).norm() < 1e-8


def test_a_sampling_step_asks_once_and_goes_on():
    asked = []
    one = bench_unet.ours(TINY)

    def said(x, t):
        assert not torch.is_grad_enabled() and x.shape == (2, 3, 8, 8) and t.shape == (2,)
        asked.append(t[0].item())
        return one.network(x, t)

    step = bench_unet.sampling(replace(one, said=said), TINY, 2, CPU, PLAIN)
    for _ in range(3):
        step()
    assert asked == [1000.0, 999.0, 998.0] and not one.network.training


def test_the_floor_does_all_convolutions_and_nothing_else():
    one = bench_unet.ours(TINY)
    from torch.utils.flop_counter import FlopCounterMode
    for index, what in enumerate(bench_unet.STEPS):
        once = bench_unet.convolutions(one, TINY, 2, CPU, PLAIN, what)
        with FlopCounterMode(display=False) as counter, bench_unet.by_the_formula():
            once()
        want = bench_unet.counted(one, TINY, 2, only="convolution")[index]
        assert counter.get_total_flops() == want


def test_the_quickest_setting_is_taken(monkeypatch):
    now, cost = [0.0], {"slow": 3.0, "quick": 1.0, "middling": 2.0}

    def make(name):
        def do():
            now[0] += cost[name]
            return name
        return do

    monkeypatch.setattr(bench_unet, "settings", lambda *_: {name: name for name in cost})
    monkeypatch.setattr(bench_unet, "clock", lambda device: lambda: now[0])
    do, name = bench_unet.quickest(make, CPU)
    assert (do(), name) == ("quick", "quick")


def test_the_settings_have_names_of_their_own():
    on_cpu, on_gpu = (bench_unet.settings(torch.device(name)) for name in ("cpu", "cuda"))
    assert len(on_cpu) == 4 and len(on_gpu) == 8
    assert on_cpu["channels_last, bf16, eager"] == (True, True, "eager")
    assert on_gpu["contiguous, float32, compiled"] == (False, False, "compiled")
    graphs = bench_unet.settings(torch.device("cuda"), graphs=True)
    assert len(graphs) == 12 and {setting[2] for setting in graphs.values()} == {
        "eager", "compiled", "graphs"}
    assert bench_unet.settings(CPU, graphs=True) == on_cpu


@pytest.mark.parametrize("how, asked", [("eager", []), ("compiled", [None]),
                                        ("graphs", ["reduce-overhead"])])
def test_graphs_are_a_way_to_compile(monkeypatch, how, asked):
    modes = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode: modes.append(mode))
    bench_unet.set_up(bench_unet.ours(TINY), CPU, (False, False, how))
    assert modes == asked


def test_a_share_is_of_each_known_rate():
    rows = [bench_unet.Row("step", who, seconds, "s") for who, seconds in (
        ("ours", 2.0), (bench_unet.FLOOR, 1.0), ("gone", math.nan))]
    flops = {"ours": 6e9, bench_unet.FLOOR: 4e9}
    ours, floor, gone = bench_unet.with_rates(rows, flops, {"bf16 products": 12e9})
    assert ours.note.endswith("3 GFLOP/s; 75% of the convolutions'; 25% of the bf16 products'")
    assert floor.note.endswith("100% of the convolutions'; 33% of the bf16 products'")
    assert gone.note == ""


def test_the_rate_of_products_counts_them(monkeypatch):
    times = SimpleNamespace(median_s=0.5)
    monkeypatch.setattr(bench_unet, "compare", lambda do, *_, **__: [f() for f in do.values()] and {
        "products": times})
    assert bench_unet.products(CPU, 1, n=8) == 2 * 8**3 / 0.5


def test_a_setting_is_heeded():
    one = bench_unet.ours(TINY)
    kinds = set()
    one.network.first.register_forward_hook(lambda layer, x, y: kinds.add(y.dtype))
    network, said = bench_unet.set_up(one, CPU, (True, True, False))
    assert network.first.weight.is_contiguous(memory_format=torch.channels_last)
    assert said(torch.zeros(2, 3, 8, 8), torch.ones(2)).dtype == torch.float32
    assert kinds == {torch.bfloat16}


@pytest.mark.parametrize("who", [who for who in bench_unet.STARTS if who != "ours"])
def test_a_peer_has_a_network_of_about_our_size_and_does_both_steps(who):
    config = UNetConfig(base=64, dropout=0.0)
    try:
        one = bench_unet.STARTS[who](config)
    except ImportError as error:
        pytest.skip(str(error))
    assert 0.8 < parameters(one.network) / 8_952_067 < 1.05
    small = replace(config, size=16, base=32, multipliers=(1, 2), blocks=1, attention=(8,))
    step = bench_unet.training(bench_unet.STARTS[who](small), small, 2, CPU, PLAIN)
    assert 0.1 < step() < 100
    bench_unet.sampling(bench_unet.STARTS[who](small), small, 2, CPU, PLAIN)()


def test_a_module_of_a_package_without_its_first_lines(tmp_path, monkeypatch):
    (tmp_path / "odd" / "inner").mkdir(parents=True)
    (tmp_path / "odd" / "__init__.py").write_text("import no_such_thing")
    (tmp_path / "odd" / "inner" / "__init__.py").write_text("from odd.other import value")
    (tmp_path / "odd" / "other.py").write_text("value = 7")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("odd.inner", "odd.other"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert bench_unet.alone("odd.inner").value == 7 and "odd" not in sys.modules
    assert bench_unet.alone("odd.inner").value == 7
    with pytest.raises(ModuleNotFoundError):
        bench_unet.alone("no_such_package.inner")
