"""Quadrature against closed forms, a brute grid and what the oracle's denoiser really loses."""

import numpy as np
import pytest

from minidiff.data import eight_gaussians
from minidiff.mixture import GaussianMixture
from minidiff.quadrature import expect, noise_loss

ONE = GaussianMixture([1.0], [[0.3, -1.0]], [[[0.5, 0.2], [0.2, 0.4]]])


def test_moments_of_one_gaussian_are_exact():
    for i in range(2):
        value, error = expect(ONE, lambda x: x[:, i], 0.8, 0.6)
        assert value == pytest.approx(0.8 * ONE.means[0, i], rel=1e-12)
        value, error = expect(ONE, lambda x: x[:, i] ** 2, 0.8, 0.6)
        assert value == pytest.approx(0.64 * (ONE.means[0, i] ** 2 + ONE.covs[0, i, i]) + 0.36, rel=1e-12)
        assert error < 1e-12
    value, _ = expect(ONE, lambda x: x[:, 0] * x[:, 1])
    assert value == pytest.approx(0.2 - 0.3, rel=1e-12)


def test_noise_loss_of_one_gaussian():
    """E|eps - guess|² = tr(I - sigma²(alpha²C + sigma²I)^-1) for Gaussian data."""
    for alpha, sigma in ((0.8, 0.6), (1.0, 5.0), (0.999, 0.01)):
        exact = 1 - sigma**2 * np.trace(np.linalg.inv(alpha**2 * ONE.covs[0] + sigma**2 * np.eye(2))) / 2
        assert noise_loss(ONE, alpha, sigma)[0] == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.7])
def test_error_is_stated_honestly(sigma):
    """Against a grid whose sum is exact to 1e-10 (halving its step changes nothing)."""
    g, alpha = eight_gaussians(), np.sqrt(1 - sigma**2)
    axis = np.arange(-6, 6, 0.02)
    x = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    grid = (np.exp(g.log_prob(x, alpha, sigma)) * (g.score(x, alpha, sigma) ** 2).sum(1)).sum() * 0.02**2
    value, error = noise_loss(g, alpha, sigma)
    assert abs(value - (1 - sigma**2 * grid / 2)) <= error + 1e-9
    assert error < 1e-4
    fisher, error_of_fisher = expect(g, lambda x: (g.score(x, alpha, sigma) ** 2).sum(1), alpha, sigma)
    assert error == pytest.approx(sigma**2 * error_of_fisher / 2)


def test_noise_loss_is_what_the_oracle_loses():
    """n = 100,000, 5 standard errors; leaving out the factor 1/d or a square is off by 50."""
    g, alpha, sigma, n, rng = eight_gaussians(), 0.8, 0.6, 100_000, np.random.default_rng(0)
    eps = rng.standard_normal((n, 2))
    x = alpha * g.sample(n, rng) + sigma * eps
    loss = ((eps - (x - alpha * g.posterior_mean(x, alpha, sigma)) / sigma) ** 2).mean(1)
    assert abs(loss.mean() - noise_loss(g, alpha, sigma)[0]) < 5 * loss.std() / np.sqrt(n)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="nodes must be >= 4; got 2"):
        expect(ONE, lambda x: x[:, 0], nodes=2)
