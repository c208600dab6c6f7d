"""The moving average of the weights against its closed form."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from minidiff.nn import EMA, MLP  # noqa: E402

torch.set_num_threads(1)


def network(value=0.0):
    net = MLP(1, (2,)).double()
    fill(net, value)
    return net


def fill(net, value):
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(value)


def average(ema):
    """The average's one value: all weights of these networks are the same number."""
    values = ema.network.flat()
    assert np.ptp(values) == 0
    return values[0]


def run(values, size, half_life, warmup=0.05):
    net = network()
    ema = EMA(net, half_life, warmup)
    for value in values:
        fill(net, value)
        ema.update(size)
    return average(ema)


def test_it_is_its_closed_form():
    """Steps' weights by hand: the k-th value counts (1 - d_k)·d_{k+1}·d_{k+2}···, from k = 0 on."""
    values, size, half_life, warmup = np.random.default_rng(0).standard_normal(30), 8, 50.0, 0.5
    decays = [0.0] + [2 ** -(size / min(half_life, warmup * size * k)) for k in range(1, 30)]
    assert decays[1] == 0.25 and decays[-1] == 2 ** -0.16 and decays[12] < decays[13] == decays[14]
    want = sum((1 - d) * np.prod(decays[k + 1:]) * values[k] for k, d in enumerate(decays))
    assert run(values, size, half_life, warmup) == pytest.approx(want, rel=1e-12)


def test_a_weight_half_a_life_ago_counts_half():
    """After a long time at 0 and half a life at 1 the average is 1/2, whatever the batch size."""
    for size in (10, 50, 100, 500):
        zeros, ones = 40_000 // size, 1000 // size
        assert run([0] * zeros + [1] * ones, size, 1000) == pytest.approx(0.5, rel=1e-9), size


def test_the_start_is_forgotten_soon():
    """The first step takes its weights over whole, and after 1,000 the start counts almost nothing,
    though the half-life is a million images; with warm-up it is a twentieth of the images."""
    assert run([3.0], 64, 1e6) == 3.0
    early = run([5.0] + [1.0] * 999, 64, 1e6)
    assert abs(early - 1) < 1e-12
    switched = run([0.0] * 1000 + [1.0] * 53, 64, 1e6)  # 5.3 % more images: about one half-life
    assert 0.45 < switched < 0.55


def test_the_average_is_apart_from_the_network():
    net = network(1.0)
    ema = EMA(net, 10)
    ema.update(4)
    fill(net, 2.0)
    assert average(ema) == 1.0 and ema.seen == 4
    assert not ema.network.training and net.training
    assert not any(p.requires_grad for p in ema.network.parameters())
    assert all(p.requires_grad for p in net.parameters())
    ema.update(4)
    assert 1 < average(ema) < 2 and ema.seen == 8 and net.flat()[0] == 2


def test_buffers_are_copied():
    net = torch.nn.BatchNorm1d(2)
    ema = EMA(net, 10)
    net.running_mean.fill_(3)
    ema.update(1)
    assert ema.network.running_mean.tolist() == [3, 3]


@pytest.mark.parametrize("call, words", [
    (lambda: EMA(network(), 0), "half_life must be > 0 images; got 0"),
    (lambda: EMA(network(), 10, 0), "warmup must be > 0; got 0"),
    (lambda: EMA(network(), 10).update(0), "images must be > 0; got 0"),
])
def test_it_refuses(call, words):
    with pytest.raises(ValueError, match=words):
        call()
