"""The flow's log-density against closed forms, and its divergence against posterior covariances."""

import numpy as np
import pytest

from minidiff.data import eight_gaussians
from minidiff.likelihood import hutchinson, log_prob, trace
from minidiff.mixture import GaussianMixture
from minidiff.schedule import Schedule, cosine, flow, from_beta, karras

TABLES = {"cosine": cosine(40), "karras": karras(40, 0.01, 40.0), "flow": flow(40)}
tables = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


def gaussian(cov, mean=None):
    cov = np.asarray(cov, dtype=float)
    mean = np.zeros(len(cov)) if mean is None else np.asarray(mean, dtype=float)
    return GaussianMixture([1.0], mean[None], cov[None])


def posterior_covariance(mixture, x, alpha, sigma):
    """Cov[x0 | x_t = x], (n, d, d), from each component's own and the spread of their means."""
    d = x.shape[1]
    noised = alpha**2 * mixture.covs + sigma**2 * np.eye(d)
    gain = alpha * mixture.covs @ np.linalg.inv(noised)  # (K, d, d)
    within = mixture.covs - alpha * gain @ mixture.covs
    means = mixture.means + np.einsum("kij,nkj->nki", gain, x[:, None] - alpha * mixture.means)
    share = mixture.responsibilities(x, alpha, sigma)
    apart = means - np.einsum("nk,nki->ni", share, means)[:, None]
    spread = np.einsum("nk,nki,nkj->nij", share, apart, apart)
    return np.einsum("nk,kij->nij", share, within) + spread


@pytest.fixture(scope="module")
def three():
    rng = np.random.default_rng(3)
    roots = rng.standard_normal((3, 3, 3)) * 0.4
    return GaussianMixture([0.2, 0.5, 0.3], rng.standard_normal((3, 3)),
                           roots @ roots.swapaxes(1, 2) + 0.05 * np.eye(3))


@tables
def test_trace_is_the_posterior_covariance(table, three):
    """tr J = alpha/sigma²·tr Cov[x0 | x_t] (the slope of Tweedie's formula)."""
    x = np.random.default_rng(0).standard_normal((20, 3))
    for t in (3, 20, 39):
        alpha, sigma = table.alpha[t], table.sigma[t]
        cov = posterior_covariance(three, x, alpha, sigma)
        literal = alpha / sigma**2 * np.trace(cov, axis1=1, axis2=2)
        found = trace(three.denoiser(table), x, t)
        assert found.shape == (20,)
        np.testing.assert_allclose(found, literal, rtol=1e-5, atol=1e-8)


def test_trace_is_of_second_order_and_central():
    """For x0 = sin x the difference at step h is cos x·sin(h)/h, whatever the dimension."""
    x = np.random.default_rng(1).standard_normal((5, 2, 3))
    for step in (0.1, 0.5):
        found = trace(lambda x, t: (np.sin(x), None), x, 4, step)
        literal = np.cos(x).reshape(5, -1).sum(1) * np.sin(step) / step
        np.testing.assert_allclose(found, literal, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(trace(lambda x, t: (np.sin(t * x), None), 0 * x[:1], 4), 24,
                               rtol=1e-6)  # the row is handed on, and the default step is small


def test_hutchinson_is_unbiased_and_spread_as_stated():
    """A linear guess that isn't symmetric; n = 40,000, 5 standard errors of mean and variance."""
    n, rng = 40_000, np.random.default_rng(2)
    J = rng.standard_normal((4, 4))
    x = np.zeros((n, 4))
    off = (J + J.T) / 2
    off[np.diag_indices(4)] = 0
    for probes in (1, 3):
        found = hutchinson(lambda x, t: (x @ J.T, None), x, 1, rng, probes)
        variance = 2 * (off**2).sum() / probes
        assert found.shape == (n,)
        assert abs(found.mean() - np.trace(J)) < 5 * np.sqrt(variance / n)
        fourth = ((found - found.mean()) ** 4).mean()
        assert abs(found.var() - variance) < 5 * np.sqrt((fourth - variance**2) / n)
        assert variance > 1  # far more than the bar: a factor of 1.1 would show


def test_hutchinson_without_noise_is_exact():
    """Where J is diagonal, every probe says its trace, up to the difference's own error."""
    x, rng = np.random.default_rng(3).standard_normal((6, 2, 2)), np.random.default_rng(4)
    for step in (1e-4, 0.3):
        found = hutchinson(lambda x, t: (np.sin(t * x), None), x, 2, rng, 2, step)
        literal = 2 * np.cos(2 * x).reshape(6, -1).sum(1) * np.sin(2 * step) / (2 * step)
        np.testing.assert_allclose(found, literal, rtol=1e-8, atol=1e-8)
    asked = []
    default = hutchinson(lambda x, t: asked.append(t) or (np.sin(x), None), 0 * x, 1, rng)
    np.testing.assert_allclose(default, 4, rtol=1e-8)
    assert len(asked) == 2  # one probe


@pytest.mark.parametrize("make", (
    lambda T: cosine(T), lambda T: flow(T), lambda T: karras(T, 0.05, 20.0)),
    ids=("cosine", "flow", "karras"))
def test_gaussian_data_to_second_order(make):
    """Row 1's own log-density; data of another variance than one, so that the prior is off by a
    known amount: the flow maps N(m, w) at row T to what the model takes for N(0, v)."""
    for d in (1, 3):
        rng, w, errors = np.random.default_rng(5), 0.3, []
        x = rng.standard_normal((8, d))
        for T in (64, 128):
            table, data = make(T), gaussian(w * np.eye(d), 0.4 * np.ones(d))
            found = log_prob(data.denoiser(table), table, x)
            (a1, s1), (aT, sT) = table.at(1, x), table.at(T, x)
            one, end = a1**2 * w + s1**2, aT**2 * w + sT**2
            far = aT * 0.4 + np.sqrt(end / one) * (x - a1 * 0.4)  # the exact flow
            v = aT**2 + sT**2
            literal = (-(far**2).sum(1) / (2 * v) - d / 2 * np.log(2 * np.pi * v)
                       + d / 2 * np.log(end / one))
            errors.append(abs(found - literal).max())
        assert errors[0] < 0.3 * d
        assert 3.4 < errors[0] / errors[1] < 4.9, errors


def test_normal_data_are_exact_on_a_table_that_preserves_variance():
    """There the flow stands still: x0 = alpha·x, and the log-density is the normal's to Heun's
    error, which falls by four."""
    x, errors = np.random.default_rng(6).standard_normal((7, 2)), []
    for T in (20, 40):
        table = from_beta(np.full(T, 0.1 * 20 / T))
        found = log_prob(gaussian(np.eye(2)).denoiser(table), table, x)
        errors.append(abs(found + (x**2).sum(1) / 2 + np.log(2 * np.pi)).max())
    assert errors[0] < 0.02 and 3 < errors[0] / errors[1] < 5


def test_mixture_to_second_order():
    """Row 1 is the same on all tables; only the rows between it and the end grow closer."""
    g, errors = eight_gaussians(std=0.3), []
    ends = np.log(0.02), np.log(40.0)
    x = g.sample(40, np.random.default_rng(7)) + 0.02
    for T in (50, 100, 200):
        sigma = np.exp(np.linspace(*ends, T))
        table = Schedule(np.ones(T + 1), np.append(0, sigma))
        found = log_prob(g.denoiser(table), table, x)
        errors.append(np.sqrt(np.mean((found - g.log_prob(x, 1.0, 0.02)) ** 2)))
    assert errors[2] < 5e-3
    for coarse, fine in zip(errors, errors[1:]):
        assert 3.3 < coarse / fine < 4.8, errors


def test_one_row_is_the_prior_alone():
    table, x = Schedule([1, 0.6], [0, 1.2]), np.array([[1.0, -2.0], [0.0, 0.0]])
    literal = -np.array([5.0, 0.0]) / (2 * 1.8) - np.log(2 * np.pi * 1.8)
    np.testing.assert_allclose(log_prob(None, table, x), literal, rtol=1e-12)


def test_a_divergence_of_ones_own_is_asked_at_every_row():
    """And changes nothing but log p: twice tr J in place of it costs its integral once more."""
    table, g, asked = cosine(12), gaussian(np.diag([0.3, 0.6])), []
    x = np.random.default_rng(8).standard_normal((4, 2))

    def divergence(denoise, x, t):
        asked.append(t)
        return trace(denoise, x, t)

    plain = log_prob(g.denoiser(table), table, x)
    np.testing.assert_array_equal(log_prob(g.denoiser(table), table, x, divergence), plain)
    assert asked == [row for t in range(1, 12) for row in (t, t + 1)]
    rng = np.random.default_rng(9)  # J is diagonal here: Hutchinson is exact
    guessed = log_prob(g.denoiser(table), table, x, lambda *a: hutchinson(*a, rng))
    np.testing.assert_allclose(guessed, plain, rtol=1e-6)


def test_shape_doesnt_matter():
    """Pictures are points: (n, 2, 3) and (n, 6) have the same density."""
    table, x = flow(9), np.random.default_rng(10).standard_normal((3, 2, 3))
    g = gaussian(np.diag([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    flat = g.denoiser(table)

    def denoise(x, t):
        return tuple(part.reshape(x.shape) for part in flat(x.reshape(len(x), -1), t))

    np.testing.assert_allclose(log_prob(denoise, table, x), log_prob(flat, table, x.reshape(3, -1)),
                               rtol=1e-12)


def test_torch_agrees_with_numpy():
    torch = pytest.importorskip("torch")
    table, x = flow(9), np.random.default_rng(11).standard_normal((5, 3))

    def denoise(x, t):
        alpha, sigma = table.at(t, x)
        x0 = alpha * x / (alpha**2 + 3 * sigma**2) + 0.1 * x * x
        return x0, (x - alpha * x0) / sigma

    theirs = torch.from_numpy(x)
    np.testing.assert_allclose(trace(denoise, theirs, 4), trace(denoise, x, 4), rtol=1e-9)
    found = log_prob(denoise, table, theirs)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, log_prob(denoise, table, x), rtol=1e-9)
    J = torch.tensor([[1.0, 0.5], [0.1, 2.0]], dtype=torch.float32)
    guess = hutchinson(lambda x, t: (x @ J.T, None), torch.zeros(2000, 2), 1,
                       torch.Generator().manual_seed(0), 1, 0.1)
    assert guess.dtype == torch.float32
    np.testing.assert_allclose(guess.unique().numpy().round(4).min(), 2.4, rtol=1e-5)
    assert abs(guess.mean() - 3) < 5 * 0.6 / 2000**0.5
    assert log_prob(denoise, table, theirs.float()).dtype == torch.float32


def test_bad_input_is_named():
    g, table, x = gaussian(np.eye(2)), cosine(4), np.zeros((2, 2))
    denoise, rng = g.denoiser(table), np.random.default_rng(0)
    with pytest.raises(ValueError, match="step must be > 0; got 0"):
        trace(denoise, x, 1, 0)
    with pytest.raises(ValueError, match="step must be > 0; got -1"):
        hutchinson(denoise, x, 1, rng, step=-1)
    with pytest.raises(ValueError, match="step must be > 0; got 0"):
        hutchinson(denoise, x, 1, rng, step=0)
    with pytest.raises(ValueError, match="probes must be >= 1; got 0"):
        hutchinson(denoise, x, 1, rng, 0)
    with pytest.raises(ValueError, match=r"x must be of shape \(n, ...\); got \(2,\)"):
        log_prob(denoise, table, np.zeros(2))
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="x must be finite"):
            log_prob(None, table, np.array([[0.0, bad]]))  # asked before any denoiser is


def test_hutchinson_survives_noise_that_is_zero():
    class Still:
        standard_normal = staticmethod(lambda shape, dtype: np.zeros(shape, dtype))

    x = np.zeros((3, 4), np.float32)
    np.testing.assert_array_equal(hutchinson(lambda x, t: (x, None), x, 1, Still()), 4)
