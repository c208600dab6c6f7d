"""The forward process: from clean data to noise in one jump, and the Gaussians in between.

Runs alike on NumPy arrays and torch tensors.
"""

import numpy as np

from minidiff.errors import require


def noise_like(x, rng):
    """Standard normal noise of x's shape, kind and type, drawn from `rng`.

    `rng` is a NumPy Generator for an array x; for a tensor, a torch Generator, or `nn.Seeds`, which
    have one for each sample.
    """
    if hasattr(rng, "standard_normal"):
        return rng.standard_normal(x.shape, dtype=x.dtype)
    return x.new_empty(x.shape).normal_(generator=rng)


def diffuse(schedule, x0, t, eps):
    """Draw from q(x_t | x0): x_t = alpha_t·x0 + sigma_t·eps (Ho et al. 2020, eq. 4).

    `x0` and `eps` share a shape (B, ...); `t` is an int or of shape (B,).
    Raises `ValueError` where shapes differ, t is outside 0..T, or x0 is not a number.
    """
    require(x0.shape == eps.shape, "eps", f"of x0's shape {tuple(x0.shape)}", tuple(eps.shape))
    if not getattr(x0, "is_cuda", False):  # there the question would stall the queue
        require(bool((x0 == x0).all()), "x0", "free of NaN", "NaN")
    alpha, sigma = schedule.at(t, x0)
    return alpha * x0 + sigma * eps


def transition(schedule, s, t):
    """`(scale, variance)` of q(x_t | x_s) = N(scale·x_s, variance·I), for rows s < t.

    From one step, s = t-1, to the whole way, s = 0 (Kingma et al. 2021, section 3.1).
    """
    _ordered(schedule, s, t)
    scale = schedule.alpha[t] / schedule.alpha[s]
    return scale, schedule.sigma[t] ** 2 - scale**2 * schedule.sigma[s] ** 2


def posterior(schedule, s, t):
    """`(c0, ct, variance)` of q(x_s | x_t, x0) = N(c0·x0 + ct·x_t, variance·I), for rows s < t.

    (Ho et al. 2020, eqs. 6 and 7, for any two rows of any table.)
    """
    scale, variance = transition(schedule, s, t)
    sigma2_s, sigma2_t = schedule.sigma[s] ** 2, schedule.sigma[t] ** 2
    return (schedule.alpha[s] * variance / sigma2_t, scale * sigma2_s / sigma2_t,
            variance * sigma2_s / sigma2_t)


def _ordered(schedule, s, t):
    require(np.all((0 <= np.asarray(s)) & (np.asarray(s) < t) & (np.asarray(t) <= schedule.T)),
            "s, t", f"rows with 0 <= s < t <= T = {schedule.T}", (s, t))
