"""Samplers: denoise, then re-noise to the next lower row, until row 0.

From (x0, eps) at row t to row s:  x_s = alpha_s·x0 + sqrt(sigma_s² - g²)·eps + h·z,  z ~ N(0, I).
DDPM and DDIM are choices of g and h. With g = h = 0 that is Euler's method on the probability-flow
equation of any table, dx = x0·dalpha + eps·dsigma; `heun` and `dpmpp_2m` follow it to second order,
and `sde` adds noise to it. All start from x at row T and yield `(t, x_t)` for t = T, T-1, ..., 0;
none asks the denoiser at row 0. Runs alike on NumPy arrays and torch tensors.

They raise `ValueError` for an x that isn't finite, and for a denoiser that returns anything but a
pair of x's shape or leads to numbers that aren't finite.
"""

import math
from collections import deque

import numpy as np

from minidiff.errors import require
from minidiff.process import noise_like, posterior, transition


def ddim(denoise, schedule, x, eta=0.0, rng=None):
    """DDIM: g = h = eta times the posterior's standard deviation (Song et al. 2021a, eqs. 12, 16).

    One evaluation a step. eta = 0 draws no noise; eta = 1 is `ddpm`. Raises `ValueError` for eta
    outside [0, 1], or for eta > 0 without an `rng`.
    """
    require(0 <= eta <= 1, "eta", "in [0, 1]", eta)
    g2 = eta**2 * _posterior_variance(schedule)
    return _sample(denoise, schedule, x, _rest(schedule, g2), g2, rng)


def ddpm(denoise, schedule, x, rng, variance="small"):
    """Ancestral sampling (Ho et al. 2020, algorithm 2), one evaluation a step.

    variance "small" is the posterior's, exact for data at one point; "large" is the forward step's,
    exact for standard normal data (their section 3.2). The step to row 0 adds no noise.
    """
    require(variance in ("small", "large"), "variance", "'small' or 'large'", variance)
    g2 = _posterior_variance(schedule)
    h2 = g2 if variance == "small" else _step_variance(schedule)
    return _sample(denoise, schedule, x, _rest(schedule, g2), h2, rng)


def sde(denoise, schedule, x, rng, eta=1.0):
    """Euler-Maruyama on the reverse SDE with eta² of its noise, one evaluation a step.

    dx = x0·dalpha + eps·dsigma - eta²/2·G·eps/sigma + eta·sqrt(G)·z, where G = g²·|dt| is the noise
    that the forward step adds (Song et al. 2021b, eqs. 6 and 13; Karras et al. 2022, eq. 6). The
    step to row 0 adds no noise. Raises `ValueError` for eta < 0, and where alpha = 0: no step from
    there is small.
    """
    require(0 <= eta < np.inf, "eta", ">= 0", eta)
    require(schedule.alpha[-1] > 0, "alpha", "> 0 in every row", schedule.alpha)
    G = _step_variance(schedule)
    b = schedule.sigma[:-1] - eta**2 / 2 * G / schedule.sigma[1:]
    return _sample(denoise, schedule, x, b, eta**2 * G, rng)


def heun(denoise, schedule, x):
    """Heun's method on dx = x0·dalpha + eps·dsigma: look ahead by Euler, then go by the mean of
    both ends (Karras et al. 2022, algorithm 1, there with alpha = 1).

    Two evaluations a step, and one in the last.
    """
    _finite(x, "x", "finite")
    return _heun(denoise, schedule, x)


def dpmpp_2m(denoise, schedule, x):
    """DPM-Solver++(2M): a DDIM step from x0 as it will be half way, in log-SNR, on a straight line
    through its last two values (Lu et al. 2022b, algorithm 2).

    One evaluation a step; the first and the last step are DDIM's.
    """
    _finite(x, "x", "finite")
    return _dpmpp_2m(denoise, schedule, x)


def langevin(score, x, eta, steps, rng):
    """Langevin dynamics: x + eta·score(x) + sqrt(2·eta)·z; yields x after 0, 1, ..., `steps` steps.

    Walks towards p where score = grad log p, whatever x is (Roberts and Tweedie 1996, eq. 1); for
    finite eta a little too broad. Raises `ValueError` unless eta > 0 and steps >= 1.
    """
    require(eta > 0, "eta", "> 0", eta)
    require(steps >= 1, "steps", ">= 1", steps)
    return _langevin(score, x, eta, steps, rng)


def last(states):
    """Run a sampler to the end and return x at row 0."""
    return deque(states, maxlen=1)[0][1]


def _posterior_variance(schedule):
    t = np.arange(1, schedule.T + 1)
    return posterior(schedule, t - 1, t)[2]


def _step_variance(schedule):
    """Of the forward steps 1..T, but 0 for the first: the step back to row 0 adds no noise."""
    t = np.arange(1, schedule.T + 1)
    return np.where(t > 1, transition(schedule, t - 1, t)[1], 0.0)


def _rest(schedule, g2):
    """What is left of the noise in rows 0..T-1 when a part g² of its variance is drawn afresh."""
    return np.sqrt(np.maximum(schedule.sigma[:-1] ** 2 - g2, 0.0))  # rounding may go below


def _sample(denoise, schedule, x, b, h2, rng):
    """Check once, outside the loop; `b` and `h2` hold the steps 1..T, shape (T,)."""
    _finite(x, "x", "finite")
    require(rng is not None or not h2.any(), "rng", "given where noise is drawn", rng)
    steps = zip(schedule.alpha[:-1].tolist(), b.tolist(), np.sqrt(h2).tolist())
    return _renoise(denoise, list(steps), x, rng)


def _renoise(denoise, steps, x, rng):
    T = len(steps)
    yield T, x
    for t in range(T, 0, -1):
        x0, eps = _ask(denoise, x, t)
        a, b, h = steps[t - 1]
        x = a * x0 + b * eps
        if h:
            x = x + h * noise_like(x, rng)
        yield t - 1, _sound(x, t)


def _heun(denoise, schedule, x):
    yield schedule.T, x
    for t in range(schedule.T, 0, -1):
        (alpha, sigma), (alpha_s, sigma_s) = schedule.at(t, x), schedule.at(t - 1, x)
        x0, eps = _ask(denoise, x, t)
        ahead = _sound(alpha_s * x0 + sigma_s * eps, t)
        if t > 1:
            x0_s, eps_s = _ask(denoise, ahead, t - 1)
            ahead = x + (alpha_s - alpha) / 2 * (x0 + x0_s) + (sigma_s - sigma) / 2 * (eps + eps_s)
            ahead = _sound(ahead, t)
        x = ahead
        yield t - 1, x


def _dpmpp_2m(denoise, schedule, x):
    length = np.diff(schedule.log_snr)  # of the steps 1..T; infinite for the first
    before = None
    yield schedule.T, x
    for t in range(schedule.T, 0, -1):
        (alpha, sigma), (alpha_s, sigma_s) = schedule.at(t, x), schedule.at(t - 1, x)
        x0, eps = _ask(denoise, x, t)
        guess = x0
        if 1 < t < schedule.T:
            guess = x0 + float(length[t - 1] / length[t]) / 2 * (x0 - before)
            eps = (x - alpha * guess) / sigma
        x, before = _sound(alpha_s * guess + sigma_s * eps, t), x0
        yield t - 1, x


def _langevin(score, x, eta, steps, rng):
    yield x
    for _ in range(steps):
        x = x + eta * score(x) + (2 * eta) ** 0.5 * noise_like(x, rng)
        yield x


def _ask(denoise, x, t):
    """(x0, eps) at x, of its shape: a wrong one might broadcast, and nobody would notice."""
    pair = denoise(x, t)
    if not (isinstance(pair, tuple) and len(pair) == 2
            and pair[0].shape == pair[1].shape == x.shape):
        require(False, "denoise(x, t)", f"a pair (x0, eps) of x's shape {tuple(x.shape)}", pair)
    return pair


def _sound(x, t):
    """x, the result of step t. What isn't finite stays so: on a GPU, where to ask would stall the
    queue, it is asked at the end."""
    if t == 1 or not getattr(x, "is_cuda", False):
        if not math.isfinite(x.sum()):  # which may overflow where no number does
            _finite(x, "denoise(x, t)", f"such that step t = {t} leads to finite numbers")
    return x


def _finite(x, argument, rule):
    require(bool((abs(x) < float("inf")).all()), argument, rule, "an infinite number or NaN")
