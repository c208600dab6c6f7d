"""How far apart two clouds of points are, and how far honest samples of one thing would be."""

import numpy as np

from minidiff.errors import require

ROWS = 64  # so many points at a time are compared with all the others


def energy_distance(x, y):
    """2·E|x - y| - E|x - x'| - E|y - y'| of samples (n, d), (m, d): zero for equal distributions.

    Unbiased, since no point is compared with itself; so for equal distributions its mean is zero
    and it may be negative (Szekely and Rizzo 2013, section 2). Raises `ValueError` for fewer than
    two points, other shapes, or what isn't finite.
    """
    for name, cloud in (("x", x), ("y", y)):
        require(cloud.ndim == 2 and len(cloud) >= 2, name, "of shape (2 or more, d)", cloud.shape)
        require(np.isfinite(cloud).all(), name, "finite", "an infinite number or NaN")
    require(x.shape[1] == y.shape[1], "y", f"of shape (m, {x.shape[1]})", y.shape)
    n, m, middle = len(x), len(y), y.mean(axis=0)  # near zero fewer digits cancel
    x, y = (np.asarray(cloud, np.float64) - middle for cloud in (x, y))
    within = _total(x, x) / (n * (n - 1)) + _total(y, y) / (m * (m - 1))
    return 2 * _total(x, y) / (n * m) - within


def energy_floor(sample, n, rng, repeats=20):
    """Standard deviation of the energy distance between two honest samples, whose mean is zero.

    `sample(n, rng)` draws n points (n, d); the estimate itself is known to 1/sqrt(2·repeats).
    """
    require(repeats >= 2, "repeats", ">= 2", repeats)
    draws = [energy_distance(sample(n, rng), sample(n, rng)) for _ in range(repeats)]
    return float(np.sqrt(np.mean(np.square(draws))))


def _total(x, y):
    """The sum of all distances between a point of x and one of y."""
    total, across, square = 0.0, -2 * y.T, (y**2).sum(axis=1)
    for start in range(0, len(x), ROWS):
        part = x[start:start + ROWS]
        apart = part @ across  # in place from here: fresh memory would take longer than the roots
        apart += square
        apart += (part**2).sum(axis=1, keepdims=True)
        if x is y:
            apart[:, start:start + ROWS].flat[::len(part) + 1] = 0  # exactly, whatever the rounding
        total += np.sqrt(np.maximum(apart, 0, out=apart), out=apart).sum()
    return float(total)
