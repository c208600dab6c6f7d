"""The toy clouds, as Gaussian mixtures: so each brings its own exact density, score and denoiser.

All are standardised: mean zero, and a variance of one per coordinate (on average over the two).
"""

import numpy as np

from minidiff.errors import require
from minidiff.mixture import GaussianMixture


def eight_gaussians(std=0.1):
    """Eight round Gaussians of this standard deviation on a circle; component k is at angle k·45°."""
    require(0 < std < 1, "std", "in (0, 1)", std)
    radius = np.sqrt(2 * (1 - std**2))
    angle = np.arange(8) * np.pi / 4
    return _isotropic(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), std)


def two_moons(std=0.1, per_moon=64):
    """Two interleaved half circles, each a chain of `per_moon` Gaussians; component k is on moon
    k // per_moon. `std` is the moons' thickness before standardising, their radius being one.
    """
    require(0 < std < 1, "std", "in (0, 1)", std)
    require(per_moon >= 2, "per_moon", ">= 2", per_moon)
    angle = (np.arange(per_moon) + 0.5) / per_moon * np.pi
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    means = np.concatenate([upper, lower])
    means = means - means.mean(axis=0)
    scale = np.sqrt(means.var(axis=0).mean() + std**2)
    return _isotropic(means / scale, std / scale)


def _isotropic(means, std):
    K, d = means.shape
    return GaussianMixture(np.full(K, 1 / K), means, np.tile(std**2 * np.eye(d), (K, 1, 1)))
