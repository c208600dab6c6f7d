"""The torch MLP against the one by hand: the same numbers, the same slopes."""

import numpy as np
import pytest

from minidiff import mlp
from minidiff.denoise import denoiser
from minidiff.schedule import cosine, flow

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from minidiff.nn import MLP  # noqa: E402

torch.set_num_threads(1)


def pair_of_networks(d=2, hidden=(7, 5), dtype=np.float64):
    """The network by hand with weights that are nowhere zero, and the same in torch."""
    rng = np.random.default_rng(0)
    by_hand = mlp.MLP(rng, d, hidden, dtype)
    by_hand.parameters[:] = rng.standard_normal(by_hand.parameters.shape)
    network = MLP(d, hidden).to(torch.tensor(by_hand.parameters).dtype)
    return by_hand, network.load(by_hand.parameters)


def points(d=2, n=9):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, d)), rng.uniform(-15, 15, (n, 1))


@pytest.mark.parametrize("d, hidden", [(2, (7, 5)), (3, (4,)), (1, (6, 6, 6))])
def test_the_same_numbers_and_slopes_as_by_hand(d, hidden):
    """In float64, to 1e-12: y, and the gradient of the mean square error by every parameter."""
    by_hand, network = pair_of_networks(d, hidden)
    x, c = points(d)
    want = np.random.default_rng(2).standard_normal(x.shape)
    z = by_hand.embed(x, c)
    y, trail = mlp.forward(by_hand.layers, z)
    slopes = np.empty_like(by_hand.parameters)
    mlp.backward(by_hand.layers, z, trail, 2 * (y - want) / y.size,
                 mlp.split(slopes, by_hand.widths))

    ours = network(torch.tensor(x), torch.tensor(c))
    np.testing.assert_allclose(ours.detach().numpy(), y, rtol=1e-12, atol=1e-12)
    (ours - torch.tensor(want)).square().mean().backward()
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(p.grad)
    np.testing.assert_allclose(network.flat(), slopes, rtol=1e-12, atol=1e-12 * abs(slopes).max())


@pytest.mark.parametrize("c", [0.5, -40.0, np.inf, -np.inf])
def test_a_level_for_all_is_that_level_for_each(c):
    by_hand, network = pair_of_networks()
    x, _ = points()
    y = network(torch.tensor(x), c)
    np.testing.assert_allclose(y.detach().numpy(), by_hand(x, c), rtol=1e-12, atol=1e-12)
    assert torch.equal(y, network(torch.tensor(x), torch.full((len(x), 1), c)))


@pytest.mark.parametrize("schedule, kind", [(cosine(20), "v"), (flow(20), "flow")])
def test_they_are_the_same_denoiser(schedule, kind):
    by_hand, network = pair_of_networks()
    x, t = points()[0], np.array([1, 2, 3, 7, 11, 13, 17, 19, 20])
    ours = denoiser(network, schedule, kind)(torch.tensor(x), torch.tensor(t))
    for a, b in zip(ours, denoiser(by_hand, schedule, kind)(x, t)):
        np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-11, atol=1e-11)


def test_what_is_loaded_comes_back_bit_for_bit():
    by_hand, network = pair_of_networks(dtype=np.float32)
    flat = network.flat()
    assert flat.dtype == np.float32 and np.array_equal(flat, by_hand.parameters)
    flat[:] = 0  # a copy: the network keeps its own
    assert np.array_equal(network.flat(), by_hand.parameters)
    by_hand.parameters[:] = 0
    assert network.flat().any()


def test_it_starts_at_zero_with_numbers_of_even_size():
    network = MLP()
    sizes = []
    for layer in network.layers[1:]:
        layer.register_forward_pre_hook(lambda layer, z: sizes.append(z[0].square().mean().item()))
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    y = network(x, 1.0)
    assert y.shape == x.shape and y.dtype == torch.float32 and not y.any()
    assert max(sizes) < 4 * min(sizes), sizes
    assert network.flat().size == 19 * 128 + 128 + 2 * (128 * 128 + 128) + 128 * 2 + 2


def test_its_weights_come_from_its_generator_and_nowhere_else():
    before = torch.get_rng_state()
    a, b = (MLP(generator=torch.Generator().manual_seed(seed)).flat() for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(a, MLP(generator=torch.Generator().manual_seed(1)).flat())
    assert not np.array_equal(a, b) and np.array_equal(MLP().flat(), MLP().flat())
    n = 128 * 128  # of one layer's weights, of variance 2/128; 5 standard errors
    middle = a[19 * 128 + 128:][:n]
    assert abs(middle.var() * 64 - 1) < 5 * (2 / n) ** 0.5
    assert abs(middle.mean()) < 5 / (64 * n) ** 0.5


@pytest.mark.parametrize("call, words", [
    (lambda: MLP(d=0), "d must be >= 1; got 0"),
    (lambda: MLP(hidden=()), r"hidden must be one or more widths >= 1; got \(\)"),
    (lambda: MLP(hidden=(8, 0)), r"hidden must be one or more widths >= 1; got \(8, 0\)"),
    (lambda: MLP()(torch.zeros(4, 3), 0.0), r"x must be of shape \(B, 2\); got \(4, 3\)"),
    (lambda: MLP().load(np.zeros(7)), r"flat must be of shape \(35842,\); got \(7,\)"),
])
def test_it_refuses(call, words):
    with pytest.raises(ValueError, match=words):
        call()
