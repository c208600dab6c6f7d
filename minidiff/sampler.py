"""Samplers: denoise, then re-noise to the next lower row, until row 0.

From (x0, eps) at row t to row s:  x_s = alpha_s·x0 + sqrt(sigma_s² - g²)·eps + h·z,  z ~ N(0, I).
A sampler is a choice of g and h. Runs alike on NumPy arrays and torch tensors.
"""

from collections import deque

import numpy as np

from minidiff.errors import require
from minidiff.process import noise_like, posterior, transition


def ddim(denoise, schedule, x, eta=0.0, rng=None):
    """DDIM: g = h = eta times the posterior's standard deviation (Song et al. 2021, eqs. 12, 16).

    Starts from x at row T and yields `(t, x_t)` for t = T, T-1, ..., 0, one evaluation a step.
    eta = 0 draws no noise; eta = 1 is `ddpm`. Raises `ValueError` for eta outside [0, 1], for
    eta > 0 without an `rng`, or for an x that is not finite.
    """
    require(0 <= eta <= 1, "eta", "in [0, 1]", eta)
    g2 = eta**2 * _posterior_variance(schedule)
    return _sample(denoise, schedule, x, g2, g2, rng)


def ddpm(denoise, schedule, x, rng, variance="small"):
    """Ancestral sampling (Ho et al. 2020, algorithm 2); yields as `ddim` does.

    variance "small" is the posterior's, exact for data at one point; "large" is the forward step's,
    exact for standard normal data (their section 3.2). The step to row 0 adds no noise.
    """
    require(variance in ("small", "large"), "variance", "'small' or 'large'", variance)
    t = np.arange(1, schedule.T + 1)
    g2 = h2 = _posterior_variance(schedule)
    if variance == "large":
        h2 = np.where(t > 1, transition(schedule, t - 1, t)[1], 0.0)
    return _sample(denoise, schedule, x, g2, h2, rng)


def langevin(score, x, eta, steps, rng):
    """Langevin dynamics: x + eta·score(x) + sqrt(2·eta)·z; yields x after 0, 1, ..., `steps` steps.

    Walks towards p where score = grad log p, whatever x is (Roberts and Tweedie 1996, eq. 1); for
    finite eta a little too broad. Raises `ValueError` unless eta > 0 and steps >= 1.
    """
    require(eta > 0, "eta", "> 0", eta)
    require(steps >= 1, "steps", ">= 1", steps)
    return _langevin(score, x, eta, steps, rng)


def last(states):
    """Run `ddim` or `ddpm` to the end and return x at row 0."""
    return deque(states, maxlen=1)[0][1]


def _posterior_variance(schedule):
    t = np.arange(1, schedule.T + 1)
    return posterior(schedule, t - 1, t)[2]


def _sample(denoise, schedule, x, g2, h2, rng):
    """Check once, outside the loop; `g2` and `h2` hold the steps 1..T, shape (T,)."""
    require(bool((abs(x) < float("inf")).all()), "x", "finite", "an infinite number or NaN")
    require(rng is not None or not h2.any(), "rng", "given where noise is drawn", rng)
    b = np.sqrt(np.maximum(schedule.sigma[:-1] ** 2 - g2, 0.0))
    steps = zip(schedule.alpha[:-1].tolist(), b.tolist(), np.sqrt(h2).tolist())
    return _renoise(denoise, list(steps), x, rng)


def _renoise(denoise, steps, x, rng):
    T = len(steps)
    yield T, x
    for t in range(T, 0, -1):
        x0, eps = denoise(x, t)
        a, b, h = steps[t - 1]
        x = a * x0 + b * eps
        if h:
            x = x + h * noise_like(x, rng)
        yield t - 1, x


def _langevin(score, x, eta, steps, rng):
    yield x
    for _ in range(steps):
        x = x + eta * score(x) + (2 * eta) ** 0.5 * noise_like(x, rng)
        yield x
