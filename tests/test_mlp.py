"""The network by hand: literal formulas, finite differences, the Bayes optimum."""

import numpy as np
import pytest

from minidiff import mlp
from minidiff.data import eight_gaussians
from minidiff.denoise import denoiser
from minidiff.process import diffuse
from minidiff.quadrature import noise_loss
from minidiff.schedule import Schedule, cosine, flow

WIDTHS = (5, 7, 6, 3)


def net(seed, widths=WIDTHS, n=9):
    """Layers in float64 that are nowhere zero, inputs for them, and the flat vector behind."""
    rng = np.random.default_rng(seed)
    size = sum((a + 1) * b for a, b in zip(widths, widths[1:]))
    flat = rng.standard_normal(size)
    return mlp.split(flat, widths), rng.standard_normal((n, widths[0])), flat


def test_split_makes_views_that_share_the_vector_out():
    flat = np.arange(5 * 7 + 7 + 7 * 6 + 6 + 6 * 3 + 3.0)
    layers = mlp.split(flat, WIDTHS)
    assert [W.shape for W, _ in layers] == [(5, 7), (7, 6), (6, 3)]
    assert np.array_equal(np.concatenate([a.ravel() for pair in layers for a in pair]), flat)
    layers[1][1][:] = -1
    assert (flat == -1).sum() == 6


def test_forward_is_the_formula_unit_by_unit():
    layers, x, _ = net(0)
    y, trail = mlp.forward(layers, x)
    for row in range(len(x)):
        z = x[row]
        for layer, (W, b) in enumerate(layers):
            a = [sum(z[i] * W[i, j] for i in range(len(z))) + b[j] for j in range(len(b))]
            if layer < 2:
                z = np.array([v / (1 + np.exp(-v)) for v in a])
                np.testing.assert_allclose(trail[layer][0][row], z, rtol=1e-12)
                np.testing.assert_allclose(trail[layer][1][row], 1 / (1 + np.exp(-np.array(a))),
                                           rtol=1e-12)
        np.testing.assert_allclose(y[row], a, rtol=1e-12)


def test_gates_do_not_overflow():
    layers = [(np.ones((1, 1), np.float32), np.zeros(1, np.float32))] * 2
    with np.errstate(all="raise"):
        y, _ = mlp.forward(layers, np.array([[-1000], [0], [1000]], np.float32))
    assert y.ravel().tolist() == [0, 0, 1000]


def test_backward_is_the_slope_of_every_parameter():
    """Central differences in float64: their error is about 1e-9 of the largest slope."""
    layers, x, flat = net(1)
    target = np.random.default_rng(2).standard_normal((9, 3))

    def loss():
        return ((mlp.forward(layers, x)[0] - target) ** 2).mean()

    y, trail = mlp.forward(layers, x)
    gradient = np.full_like(flat, np.nan)
    mlp.backward(layers, x, trail, 2 * (y - target) / y.size, mlp.split(gradient, WIDTHS))
    slopes, h = np.empty_like(flat), 1e-5
    for i, value in enumerate(flat.tolist()):
        flat[i] = value + h
        above = loss()
        flat[i] = value - h
        slopes[i] = (above - loss()) / (2 * h)
        flat[i] = value
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=1e-8 * abs(slopes).max())


def test_one_layer_is_linear_regression():
    layers, x, flat = net(3, (4, 2))
    delta, gradient = np.random.default_rng(4).standard_normal((9, 2)), np.empty_like(flat)
    mlp.backward(layers, x, [], delta, mlp.split(gradient, (4, 2)))
    np.testing.assert_allclose(gradient[:8].reshape(4, 2), x.T @ delta, rtol=1e-12)
    np.testing.assert_allclose(gradient[8:], delta.sum(axis=0), rtol=1e-12)


def test_a_trail_that_is_used_up_changes_nothing():
    layers, x, flat = net(5)
    y, trail = mlp.forward(layers, x)
    y = y.copy()
    mlp.backward(layers, x, trail, y, mlp.split(np.empty_like(flat), WIDTHS))
    again, lent = mlp.forward(layers, x, trail)
    assert lent is trail and np.array_equal(again, y)


def test_adam_is_its_formula():
    rng, lr = np.random.default_rng(6), 0.01
    start, gradients = rng.standard_normal(20), rng.standard_normal((4, 20))
    parameters = start.copy()
    adam = mlp.Adam(parameters, beta1=0.8, beta2=0.95, tiny=1e-3)
    want, m, v = start, 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        adam.step(g, lr)
        m = 0.8 * m + 0.2 * g
        v = 0.95 * v + 0.05 * g**2
        want = want - lr * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-3)
        np.testing.assert_allclose(parameters, want, rtol=1e-12)


def test_adams_first_step_is_lr_whatever_the_gradients_size():
    parameters = np.zeros(3)
    mlp.Adam(parameters).step(np.array([1e-3, -1.0, 1e3]), 0.01)
    np.testing.assert_allclose(parameters, [-0.01, 0.01, -0.01], rtol=1e-4)


def test_embed_is_its_formula():
    x, c = np.array([[0.3, -1.0], [2.0, 0.5]]), np.array([[-3.0], [7.0]])
    waves = [f(2 * np.pi * k / 32 * c) for f in (np.sin, np.cos) for k in range(1, 9)]
    np.testing.assert_allclose(mlp.embed(x, c), np.hstack([x, c / 12, *waves]), rtol=1e-12)


def test_embed_takes_clean_data_and_pure_noise():
    x = np.zeros((1, 2))
    for log_snr, held in ((np.inf, 12.0), (-np.inf, -12.0), (40.0, 12.0)):
        assert np.array_equal(mlp.embed(x, log_snr), mlp.embed(x, held))
        assert mlp.embed(x, log_snr)[0, 2] == held / 12


def test_a_network_starts_at_zero_with_numbers_of_even_size():
    network, x = mlp.MLP(np.random.default_rng(7)), np.random.default_rng(8).normal(size=(500, 2))
    assert network.parameters.size == 19 * 128 + 128 + 2 * (128 * 128 + 128) + 128 * 2 + 2
    assert network.parameters.dtype == np.float32
    assert network(x, 1.0).dtype == np.float32 and not network(x, 1.0).any()
    _, trail = mlp.forward(network.layers, mlp.embed(x.astype(np.float32), 1.0))
    sizes = [np.sqrt((out**2).mean()) for out, _ in trail]
    assert max(sizes) < 2 * min(sizes), sizes


def test_a_network_sees_what_its_embedding_shows():
    def blind(x, log_snr):
        return x

    network = mlp.MLP(np.random.default_rng(7), embed=blind)
    assert network.widths == (2, 128, 128, 128, 2)
    list(mlp.train(network, eight_gaussians().sample, cosine(), np.random.default_rng(8), 5))
    x = np.ones((1, 2))
    assert network(x, -3.0).any() and np.array_equal(network(x, -3.0), network(x, 3.0))


def trained(steps, seed=0, **options):
    rng = np.random.default_rng(seed)
    network = mlp.MLP(rng)
    losses = list(mlp.train(network, eight_gaussians().sample, cosine(), rng, steps, **options))
    return network, losses


def test_the_network_fits_a_denoiser_row_by_row():
    network, _ = trained(20)
    x, t = np.random.default_rng(9).standard_normal((6, 2)).astype(np.float32), np.arange(1, 7) * 90
    denoise = denoiser(network, cosine(), "v")
    for i, (x0, eps) in enumerate(zip(*denoise(x, t))):
        one = denoise(x[i:i + 1], int(t[i]))
        assert one[0].dtype == one[1].dtype == np.float32
        np.testing.assert_allclose(np.concatenate(one), [x0, eps], rtol=1e-3, atol=1e-4)


def test_training_is_reproducible_and_leaves_the_global_state_alone():
    before = np.random.get_state()[1].tolist()
    (a, losses), (b, again) = trained(30), trained(30)
    assert losses == again and np.array_equal(a.parameters, b.parameters)
    assert losses != trained(30, seed=1)[1]
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("focus", [0.5, 1.0, 2.0])
def test_focus_says_which_rows_are_drawn(focus):
    """All data at (3, 3): the first loss, of y = 0, is the mean of (alpha·eps - 3·sigma)² over the
    rows drawn. n = 100,000; five standard errors are below 4 % of it."""
    table = cosine(50)
    edges = (np.arange(51) / 50) ** (1 / focus)
    exact = np.diff(edges) @ (table.alpha[1:] ** 2 + 9 * table.sigma[1:] ** 2)
    rng = np.random.default_rng(10)
    loss = next(mlp.train(mlp.MLP(rng), lambda n, rng: np.full((n, 2), 3.0), table, rng, 1, 100_000,
                          focus=focus))
    assert loss == pytest.approx(exact, rel=0.04)


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "flow"])
def test_the_target_is_that_of_its_kind(kind):
    """On one row, y is p·x0 + q·eps with mean p·m and variance q²; n = 100,000, 5 standard errors."""
    table = Schedule([1, 0.6], [0, 0.8])
    p, q = {"eps": (0, 1), "x0": (1, 0), "v": (-0.8, 0.6), "flow": (-1, 1)}[kind]
    rng = np.random.default_rng(11)
    loss = next(mlp.train(mlp.MLP(rng), lambda n, rng: np.full((n, 2), 2.0), table, rng, 1, 100_000,
                          kind=kind))
    assert abs(loss - (4 * p**2 + q**2)) <= 5 * np.sqrt((2 + 16 * p**2) / 2e5) + 1e-5


def test_training_comes_close_to_the_best_there_is():
    """The mean over all rows of the noise error is below 1.02 of its floor, after 1,500 steps.

    The network's excess is E|eps_hat - E[eps|x]|², which needs no noise drawn twice; n = 20,000,
    whose error is a few per cent of the excess, itself 1 % of the floor. No better than 1 either.
    """
    network, losses = trained(1500)
    cloud, table, n = eight_gaussians(), cosine(), 20_000
    rng = np.random.default_rng(12)
    t = 1 + np.arange(n) % table.T
    x = diffuse(table, cloud.sample(n, rng), t, rng.standard_normal((n, 2)))
    guess, best = (d(x, t)[1] for d in (denoiser(network, table, "v"), cloud.denoiser(table)))
    rows = np.arange(1, 1001, 9)
    floor = np.mean([noise_loss(cloud, table.alpha[t], table.sigma[t], 16)[0] for t in rows])
    assert 1 < 1 + ((guess - best) ** 2).mean() / floor < 1.02
    assert np.mean(losses[-100:]) < np.mean(losses[:20])


BAD = {
    "steps": (dict(steps=0), "steps must be >= 1; got 0"),
    "batch": (dict(batch=0), "batch must be >= 1; got 0"),
    "lr": (dict(lr=0.0), "lr must be > 0; got 0.0"),
    "focus": (dict(focus=-1), "focus must be > 0; got -1"),
    "kind": (dict(kind="noise"), "kind must be one of .*; got 'noise'"),
    "singular": (dict(kind="eps", schedule=flow(10)), "kind must be one that determines x0"),
    "sample": (dict(sample=lambda n, rng: np.zeros((n, 3))),
               r"sample\(2, rng\) must be of shape \(2, 2\); got \(2, 3\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_training_refuses(case):
    options, words = BAD[case]
    options = {"sample": eight_gaussians().sample, "schedule": cosine(10), **options}
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=words):
        mlp.train(mlp.MLP(rng), rng=rng, **options)


def test_training_stops_at_data_that_are_no_numbers():
    rng = np.random.default_rng(0)
    steps = mlp.train(mlp.MLP(rng), lambda n, rng: np.full((n, 2), np.nan), cosine(10), rng)
    with pytest.raises(ValueError, match="x0 must be free of NaN"):
        next(steps)


@pytest.mark.parametrize("options, words", [
    (dict(d=0), "d must be >= 1; got 0"),
    (dict(hidden=()), r"hidden must be one or more widths >= 1; got \(\)"),
    (dict(hidden=(8, 0)), r"hidden must be one or more widths >= 1; got \(8, 0\)")])
def test_a_network_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        mlp.MLP(np.random.default_rng(0), **options)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (2, 2, 2)])
def test_a_network_refuses_points_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"x must be of shape \(B, 2\)"):
        mlp.MLP(np.random.default_rng(0))(np.zeros(shape), 0.0)
