"""The oracle against brute force: literal densities, finite differences, quadrature and Bayes."""

import numpy as np
import pytest

from minidiff.data import eight_gaussians, two_moons
from minidiff.mixture import GaussianMixture
from minidiff.schedule import flow, linear


def tilted(rng):
    """Three components of unequal weight, none of them round or aligned with the axes."""
    A = rng.standard_normal((3, 2, 2))
    covs = A @ A.swapaxes(1, 2) + 0.1 * np.eye(2)
    return GaussianMixture([0.2, 0.3, 0.5], rng.standard_normal((3, 2)), covs)


def literal_log_prob(g, x, alpha, sigma):
    p = 0.0
    for w, m, C in zip(g.weights, g.means, g.covs):
        S, r = alpha**2 * C + sigma**2 * np.eye(2), x - alpha * m
        quadratic = np.einsum("ni,ij,nj->n", r, np.linalg.inv(S), r)
        p = p + w * np.exp(-quadratic / 2) / np.sqrt(np.linalg.det(2 * np.pi * S))
    return np.log(p)


LEVELS = [(1.0, 0.0), (0.8, 0.6), (1.0, 2.0), (0.0, 1.0)]


@pytest.mark.parametrize("alpha, sigma", LEVELS)
def test_log_prob_by_hand(alpha, sigma):
    rng = np.random.default_rng(0)
    g, x = tilted(rng), rng.standard_normal((50, 2))
    np.testing.assert_allclose(g.log_prob(x, alpha, sigma), literal_log_prob(g, x, alpha, sigma),
                               rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha, sigma", LEVELS)
def test_score_is_the_gradient(alpha, sigma):
    rng = np.random.default_rng(0)
    g, x, h = tilted(rng), rng.standard_normal((50, 2)), 1e-5
    gradient = [(literal_log_prob(g, x + h * e, alpha, sigma)
                 - literal_log_prob(g, x - h * e, alpha, sigma)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(g.score(x, alpha, sigma), np.stack(gradient, 1), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("alpha, sigma", [(0.8, 0.6), (1.0, 2.0)])
def test_posterior_mean_is_tweedie(alpha, sigma):
    rng = np.random.default_rng(0)
    g, x = tilted(rng), rng.standard_normal((50, 2))
    tweedie = (x + sigma**2 * g.score(x, alpha, sigma)) / alpha
    np.testing.assert_allclose(g.posterior_mean(x, alpha, sigma), tweedie, rtol=1e-10, atol=1e-12)


def test_posterior_mean_by_quadrature():
    """E[x0|x] = ∫ x0 p(x0) N(x; alpha·x0, sigma²) dx0 / p(x); the grid's error is below 1e-9."""
    g, alpha, sigma = eight_gaussians(std=0.3), 0.7, 0.5
    axis = np.linspace(-4, 4, 401)
    x0 = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    prior = np.exp(g.log_prob(x0))
    for x in np.array([[0.1, 0.2], [1.0, -0.4]]):
        weight = prior * np.exp(-((x - alpha * x0) ** 2).sum(1) / (2 * sigma**2))
        mean = g.posterior_mean(x[None], alpha, sigma)[0]
        np.testing.assert_allclose(mean, weight @ x0 / weight.sum(), atol=1e-9)


def test_no_signal_leaves_the_prior_mean():
    g = tilted(np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((5, 2))
    np.testing.assert_allclose(g.posterior_mean(x, 0.0, 1.0), np.tile(g.moments()[0], (5, 1)))


def test_one_noise_level_per_point():
    rng = np.random.default_rng(0)
    g, x = tilted(rng), rng.standard_normal((4, 2))
    alpha, sigma = np.array([1, 0.8, 0.5, 0.1]), np.array([0.1, 0.6, 0.9, 1.0])
    for method in (g.log_prob, g.score, g.posterior_mean, g.responsibilities):
        one_by_one = [method(x[i:i + 1], alpha[i], sigma[i])[0] for i in range(4)]
        np.testing.assert_allclose(method(x, alpha, sigma), one_by_one, rtol=1e-12)


def test_far_away_nothing_overflows():
    g, x = tilted(np.random.default_rng(0)), np.array([[1e4, -1e4]])
    assert np.isfinite(g.log_prob(x)).all() and np.isfinite(g.score(x)).all()
    np.testing.assert_allclose(g.responsibilities(x).sum(), 1)


def test_samples_have_the_moments():
    """n = 400,000; bounds of 5 standard errors (Gaussian fourth moments for the covariance, doubled
    for the mixture's tails): a false alarm less than once in 10⁵ runs; 2 % in a scale is 5 bounds."""
    n, rng = 400_000, np.random.default_rng(0)
    g = tilted(rng)
    x, k = g.sample(n, rng, return_component=True)
    mean, cov = g.moments()
    assert (abs(x.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / n)).all()
    width = np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    assert (abs(np.cov(x.T) - cov) < 5 * 2 * width * np.sqrt(2 / n)).all()
    for j in range(3):
        mine, C = x[k == j], g.covs[j]
        width = np.sqrt(np.outer(np.diag(C), np.diag(C)))
        assert (abs(np.cov(mine.T) - C) < 5 * width * np.sqrt(2 / len(mine))).all()


def test_denoiser_returns_what_makes_x():
    g, schedule = two_moons(), linear(100)
    x = np.random.default_rng(0).standard_normal((30, 2))
    denoise = g.denoiser(schedule)
    for t in (1, 50, 100):
        x0, eps = denoise(x, t)
        alpha, sigma = schedule.at(t, x)
        np.testing.assert_allclose(alpha * x0 + sigma * eps, x, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(-eps / sigma, g.score(x, alpha, sigma), rtol=1e-6, atol=1e-8)
    x0, eps = denoise(x, np.arange(30) + 1)
    np.testing.assert_allclose(x0[9], denoise(x[9:10], 10)[0][0], rtol=1e-12)
    assert np.isfinite(g.denoiser(flow(10))(x, 10)[0]).all()


@pytest.mark.parametrize("g", [eight_gaussians(), two_moons()])
def test_clouds_are_standardised(g):
    mean, cov = g.moments()
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    assert np.trace(cov) == pytest.approx(2, rel=1e-12)


def test_sampling_is_reproducible():
    a, b = (eight_gaussians().sample(5, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(a, b)


EYE, X = np.eye(2)[None], np.zeros((1, 2))


@pytest.mark.parametrize("build, said", [
    (lambda: GaussianMixture([0.5, 0.6], np.zeros((2, 2)), np.tile(EYE, (2, 1, 1))),
     "weights must be >= 0 and sum to one"),
    (lambda: GaussianMixture([-0.5, 1.5], np.zeros((2, 2)), np.tile(EYE, (2, 1, 1))), "weights must be >= 0"),
    (lambda: GaussianMixture([1], X + np.nan, EYE), "means must be finite"),
    (lambda: GaussianMixture([1], np.zeros((2, 2)), EYE), r"means must be of shape \(1, d\)"),
    (lambda: GaussianMixture([1], X, EYE[0]), "covs must be of shape"),
    (lambda: GaussianMixture([1], X, EYE * [[1, 0], [0, -1]]), "covs must be positive definite"),
    (lambda: GaussianMixture([1], X, np.array([[[1, 2], [2, 1.0]]])), "covs must be positive definite"),
    (lambda: GaussianMixture([1], X, np.array([[[1, 0.5], [0, 1]]])), "covs must be symmetric"),
    (lambda: GaussianMixture([1], X, EYE * np.nan), "covs must be"),
    (lambda: GaussianMixture([1], X, EYE).log_prob(X + np.nan), "x must be finite"),
    (lambda: GaussianMixture([1], X, EYE).score(np.zeros((1, 3))), r"x must be of shape \(n, 2\)"),
    (lambda: GaussianMixture([1], X, EYE).sample(0, np.random.default_rng(0)), "n must be >= 1"),
    (lambda: two_moons().denoiser(linear(10))(X, 0), "t must be >= 1: row 0 is clean data"),
    (lambda: two_moons(std=-1), r"std must be in \(0, 1\)"),
    (lambda: two_moons(per_moon=1), "per_moon must be >= 2"),
    (lambda: eight_gaussians(std=0), r"std must be in \(0, 1\)"),
])
def test_bad_input_is_named(build, said):
    with pytest.raises(ValueError, match=said):
        build()
