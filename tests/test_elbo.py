"""The variational bound against literal formulas, integrals, closed forms and the entropy."""

import numpy as np
import pytest

from minidiff.data import eight_gaussians
from minidiff.elbo import bits, bound, entropy, least, prior, steps
from minidiff.mixture import GaussianMixture
from minidiff.quadrature import noise_loss
from minidiff.schedule import cosine, flow, from_beta, karras, linear

TABLES = {"linear": linear(30, 1e-3, 0.2), "cosine": cosine(30), "karras": karras(30),
          "flow": flow(30)}
both = pytest.mark.parametrize("variance", ["small", "large"])
tables = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


def gaussian(variance, d, mean=(0.0, 0.0)):
    return GaussianMixture([1.0], np.reshape(mean, (1, d)), variance * np.eye(d)[None])


def normal(x, mean, variance):
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def test_weights_are_those_of_ho_et_al():
    """Their eq. 12: beta²/(2·v·(1-beta)·(1-alpha_bar)) stands before the noise error."""
    beta = np.linspace(1e-3, 0.2, 30)
    ab = np.cumprod(1 - beta)
    v = {"small": (1 - ab[:-1]) / (1 - ab[1:]) * beta[1:], "large": beta[1:]}
    for variance in v:
        weight, _ = steps(TABLES["linear"], variance)
        literal = beta[1:] ** 2 / (2 * v[variance] * (1 - beta[1:]) * (1 - ab[1:]))
        np.testing.assert_allclose(weight[2:] * (1 - ab[1:]) / ab[1:], literal, rtol=1e-9)


@tables
def test_small_weights_are_the_signal_to_noise_won(table):
    """Kingma et al. 2021, section 4; also on tables that don't preserve variance."""
    with np.errstate(invalid="ignore"):
        won = -np.diff(table.snr) / 2
    weight, constant = steps(table, "small")
    np.testing.assert_allclose(weight[2:], won[1:], rtol=1e-9)
    np.testing.assert_array_equal(constant[2:], 0)
    assert weight[0] == constant[0] == 0
    assert weight[1] == pytest.approx(table.snr[1] / 2)


@both
@tables
def test_each_step_is_the_integral_that_it_stands_for(table, variance):
    """On a grid, by Bayes' rule alone; x_t is where noise may put it, the guess is off by less."""
    x0 = 0.9
    weight, constant = steps(table, variance)
    for t in (2, 11, 29):
        a = table.alpha[t] / table.alpha[t - 1]
        b2 = table.sigma[t] ** 2 - (a * table.sigma[t - 1]) ** 2
        xt, wide = table.alpha[t] * x0 + 0.7 * table.sigma[t], 14 * table.sigma[t - 1] + 2
        guess = x0 - min(0.5, table.sigma[t])
        grid = np.linspace(-wide, wide, 200_001)
        dx = grid[1] - grid[0]

        def bayes(x0):
            p = normal(grid, table.alpha[t - 1] * x0, table.sigma[t - 1] ** 2)
            p = p * normal(xt, a * grid, b2)
            return p / (p.sum() * dx)

        q, middle = bayes(x0), bayes(guess) @ grid * dx
        v = bayes(x0) @ grid**2 * dx - (bayes(x0) @ grid * dx) ** 2
        h2 = v if variance == "small" else b2
        log_p = -((grid - middle) ** 2) / (2 * h2) - np.log(2 * np.pi * h2) / 2
        inside = q > 0
        kl = (q[inside] * (np.log(q[inside]) - log_p[inside])).sum() * dx
        assert kl == pytest.approx(weight[t] * (x0 - guess) ** 2 + constant[t], rel=1e-6, abs=1e-9)
    guess = x0 - min(0.5, table.sigma[1])
    decoder = normal(x0, guess, (table.sigma[1] / table.alpha[1]) ** 2)
    assert weight[1] * (x0 - guess) ** 2 + constant[1] == pytest.approx(-np.log(decoder))


def test_prior_is_the_integral_that_it_stands_for():
    x0, grid = 1.3, np.linspace(-400, 400, 400_001)
    for table in (from_beta(np.full(5, 0.2)), karras(10, sigma_max=8.0)):
        alpha, sigma = table.alpha[-1], table.sigma[-1]
        q, v = normal(grid, alpha * x0, sigma**2), alpha**2 + sigma**2
        log_ratio = np.log(v / sigma**2) + grid**2 / v - (grid - alpha * x0) ** 2 / sigma**2
        kl = (q * log_ratio / 2).sum() * (grid[1] - grid[0])
        assert prior(table, x0**2, 1) == pytest.approx(kl, rel=1e-9)
        assert prior(table, 3 * x0**2, 3) == pytest.approx(3 * kl, rel=1e-9)


@both
def test_bound_of_a_gaussian_chain_is_exact(variance):
    """For N(m, w·I) data all is Gaussian: E|x0 - x0_hat|² = d·w·sigma²/(alpha²w + sigma²)."""
    table, w, d, m = TABLES["cosine"], 0.3, 2, [0.7, -0.2]
    weight, constant = steps(table, variance)
    alpha, sigma = table.alpha[1:], table.sigma[1:]
    literal = d * (weight[1:] * w * sigma**2 / (alpha**2 * w + sigma**2) + constant[1:])
    terms, error = least(gaussian(w, d, m), table, variance)
    assert error < 1e-9
    np.testing.assert_allclose(terms[1:], literal, rtol=1e-9)
    assert terms[0] == pytest.approx(prior(table, d * w + 0.53, d))


def test_the_large_variance_is_all_but_exact_on_normal_data():
    """On N(0, I) each reverse step is the model's own; only the decoder loses something.

    It says N(x0_hat, r) with r = sigma_1²/alpha_1², where the truth's variance is sigma_1²: a KL of (sigma_1²/r - 1 - ln(sigma_1²/r))/2 = (alpha_1² - 1 - ln alpha_1²)/2 a dimension."""
    table, g = TABLES["linear"], gaussian(1.0, 2)
    H, error = entropy(g)
    assert H == pytest.approx(np.log(2 * np.pi * np.e), rel=1e-12) and error < 1e-12
    ab = table.alpha[1] ** 2
    gap = least(g, table, "large")[0].sum() - H
    assert gap == pytest.approx(ab - 1 - np.log(ab), abs=1e-9)


@both
def test_bound_is_least_where_the_denoiser_is_the_oracle(variance):
    """n = 20,000, 5 standard errors; a guess that is off by 0.05 is dearer by weight·0.0025·d."""
    g, table, rng = eight_gaussians(std=0.3), cosine(16), np.random.default_rng(0)
    exact, error = least(g, table, variance)
    x0, oracle = g.sample(20_000, rng), g.denoiser(table)
    terms, bar = bound(oracle, table, x0, rng, variance)
    assert terms.shape == exact.shape == (17,)
    assert abs(terms.sum() - exact.sum()) < 5 * bar + error
    assert bar < 0.03
    assert exact.sum() > entropy(g)[0]
    off, bar = bound(lambda x, t: (oracle(x, t)[0] + 0.05, None), table, x0, rng, variance)
    dearer = steps(table, variance)[0].sum() * 2 * 0.05**2
    assert abs(off.sum() - exact.sum() - dearer) < 5 * bar + error and dearer > 8 * bar


def test_the_error_is_the_spread_of_the_totals():
    """200 repetitions: their spread is known to 5 %, five of which are allowed."""
    g, table = gaussian(0.5, 2), cosine(4)
    draws = [bound(g.denoiser(table), table, g.sample(300, np.random.default_rng(i)),
                   np.random.default_rng(1000 + i)) for i in range(200)]
    totals = np.array([terms.sum() for terms, _ in draws])
    assert np.mean([bar for _, bar in draws]) == pytest.approx(totals.std(ddof=1), rel=0.25)


@both
def test_quadrature_error_is_stated_honestly(variance):
    table = cosine(16)
    fine = least(eight_gaussians(), table, variance, 48)[0].sum()
    terms, error = least(eight_gaussians(), table, variance, 16)
    assert abs(terms.sum() - fine) <= error + 1e-9 < 0.02
    loss, _ = noise_loss(eight_gaussians(), table.alpha[9], table.sigma[9], 16)
    weight, constant = steps(table, variance)
    ratio = (table.sigma[9] / table.alpha[9]) ** 2
    assert terms[9] == pytest.approx(2 * (weight[9] * loss * ratio + constant[9]))


def test_the_gap_of_the_large_variance_halves_with_twice_the_steps():
    g = eight_gaussians(std=0.3)
    H = entropy(g)[0]
    gaps = [least(g, cosine(T), "large")[0].sum() - H for T in (64, 128)]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.15)


def test_bits():
    assert bits(np.log(2) * 6, 3) == pytest.approx(2)


@both
def test_torch_agrees_with_numpy(variance):
    """With a guess that is the same whatever the noise, so that the two need not draw the same."""
    torch = pytest.importorskip("torch")
    table, x0 = cosine(5), np.random.default_rng(0).standard_normal((6, 3, 2))
    ours = bound(lambda x, t: (0 * x + 0.5, None), table, x0, np.random.default_rng(0), variance)
    theirs = bound(lambda x, t: (0 * x + 0.5, None), table, torch.from_numpy(x0), torch.Generator(),
                   variance)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    assert ours[1] == pytest.approx(theirs[1], rel=1e-12)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="variance must be 'small' or 'large'; got 'medium'"):
        steps(cosine(5), "medium")
    with pytest.raises(ValueError, match="x0 must be two points or more"):
        bound(None, cosine(5), np.zeros((1, 2)), None)
