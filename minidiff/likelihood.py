"""An exact log-density: follow a point along the probability flow, and how much room it is given.

Along a table the flow is dx = x0·dalpha + eps·dsigma. With J = dx0/dx, the derivative of the guess
by the point, its divergence is tr J·dalpha + (d - alpha·tr J)/sigma·dsigma, and log p falls by that
much (Song et al. 2021b, eq. 39). Runs alike on NumPy arrays and torch tensors.
"""

import math

from minidiff.errors import require
from minidiff.process import noise_like


def trace(denoise, x, t, step=1e-4):
    """tr J of the guess x0 at the points x (n, ...) and row t, shape (n,), by central differences.

    2d evaluations in d dimensions. `step` is that of the difference, in x; for a network in float32
    take 1e-2. Raises `ValueError` unless step > 0.
    """
    require(step > 0, "step", "> 0", step)
    total = 0
    for i in range(_size(x)):
        moved = 0 * x.reshape(len(x), -1)
        moved[:, i] = step
        moved = moved.reshape(x.shape)
        total = total + _dot(_difference(denoise, x, t, moved), moved) / step**2
    return total


def hutchinson(denoise, x, t, rng, probes=1, step=1e-4):
    """An unbiased guess of `trace`, shape (n,): the mean of z·(J z) over random signs z.

    2 evaluations a probe, whatever the dimension (Hutchinson 1989). A probe's variance is twice
    the sum over i != j of ((J_ij + J_ji)/2)². Raises `ValueError` unless step > 0 and probes >= 1.
    """
    require(step > 0, "step", "> 0", step)
    require(probes >= 1, "probes", ">= 1", probes)
    total = 0
    for _ in range(probes):
        z = noise_like(x, rng)
        z = z + (z == 0)  # float32 noise is exactly zero once in ten million draws
        z = z / abs(z)
        total = total + _dot(_difference(denoise, x, t, step * z), z) / step
    return total / probes


def log_prob(denoise, schedule, x, divergence=trace):
    """log p of row 1's marginal at the points x (n, ...), natural logarithm, shape (n,).

    Follows the flow from row 1 to T by Heun's method; there p is N(0, v·I) with v = alpha_T² +
    sigma_T², as data of unit variance end (Song et al. 2021b, section 4.3). `divergence(denoise, x,
    t)` is `trace`, or `hutchinson` with its rng bound. Raises `ValueError` for an x that isn't rows
    of points, or not finite.
    """
    require(x.ndim >= 2, "x", "of shape (n, ...)", tuple(x.shape))
    require(bool((abs(x) < float("inf")).all()), "x", "finite", "an infinite number or NaN")
    d, gained = _size(x), 0

    def rates(x, t):
        """What x and log p lose or gain by d alpha, and by d sigma."""
        (alpha, sigma), tr = schedule.at(t, x), divergence(denoise, x, t)
        return *denoise(x, t), tr, (d - alpha * tr) / sigma

    for t in range(1, schedule.T):
        here, there = schedule.at(t, x), schedule.at(t + 1, x)
        by_alpha, by_sigma = ((b - a) / 2 for a, b in zip(here, there))
        x0, eps, tr, rest = rates(x, t)
        ahead = x + 2 * by_alpha * x0 + 2 * by_sigma * eps
        x0_s, eps_s, tr_s, rest_s = rates(ahead, t + 1)
        x = x + by_alpha * (x0 + x0_s) + by_sigma * (eps + eps_s)
        gained = gained + by_alpha * (tr + tr_s) + by_sigma * (rest + rest_s)
    v = sum(part**2 for part in schedule.at(schedule.T, x))
    return gained - _dot(x, x) / (2 * v) - d / 2 * math.log(2 * math.pi * v)


def _difference(denoise, x, t, moved):
    """J·moved, to second order."""
    return (denoise(x + moved, t)[0] - denoise(x - moved, t)[0]) / 2


def _dot(a, b):
    return (a * b).reshape(len(a), -1).sum(1)


def _size(x):
    return math.prod(x.shape[1:])
