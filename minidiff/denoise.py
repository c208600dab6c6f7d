"""What a network may predict, and how every answer becomes the same two things: (x0, eps).

A parameterization is a pair (p, q): the network predicts y = p·x0 + q·eps. Together with
x = alpha·x0 + sigma·eps that is a 2×2 system. A denoiser is a function `denoise(x, t) -> (x0, eps)`;
the score is -eps/sigma. Runs alike on NumPy arrays and torch tensors.
"""

import numpy as np

from minidiff.errors import require
from minidiff.schedule import read

KINDS = ("eps", "x0", "v", "flow", "edm")


def pair(kind, schedule, data_scale=1.0):
    """The pair `(p, q)` of a parameterization, each of shape (T+1,): y = p·x0 + q·eps.

    "eps" (Ho et al. 2020), "x0", "v" (Salimans and Ho 2022, section 4), "flow", the velocity eps - x0
    (Lipman et al. 2023), and "edm", which asks for a unit-variance mix of both, given the data's
    standard deviation `data_scale` (Karras et al. 2022, table 1 and eq. 8).
    Raises `ValueError` where, on a row 1..T, (x, y) would not determine (x0, eps).
    """
    require(kind in KINDS, "kind", f"one of {KINDS}", kind)
    require(data_scale > 0, "data_scale", "> 0", data_scale)
    alpha, sigma = schedule.alpha, schedule.sigma
    one, r = np.ones_like(alpha), np.sqrt(sigma**2 + data_scale**2)
    p, q = {
        "eps": (0 * one, one),
        "x0": (one, 0 * one),
        "v": (-sigma, alpha),
        "flow": (-one, one),
        "edm": (sigma / (data_scale * r), -data_scale / r),
    }[kind]
    singular = np.flatnonzero(alpha * q == sigma * p)
    singular = singular[singular > 0]
    require(len(singular) == 0, "kind", "one that determines x0 on every row 1..T",
            f"{kind!r}, which does not on rows {singular.tolist()}")
    return p, q


def target(schedule, x0, t, eps, kind="eps", data_scale=1.0):
    """What the network should say at row(s) t: y = p·x0 + q·eps."""
    p, q = pair(kind, schedule, data_scale)
    return read(p, t, x0) * x0 + read(q, t, x0) * eps


def denoiser(network, schedule, kind="eps", data_scale=1.0, condition=None):
    """Turn `network(x, c) -> y` into `denoise(x, t) -> (x0, eps)` for rows t = 1..T of the table.

    The network is told c = `condition[t]`, by default the log-SNR, which means the same on every
    table. Raises `ValueError` for row 0, where there is nothing to denoise.
    """
    p, q = pair(kind, schedule, data_scale)
    condition = schedule.log_snr if condition is None else np.asarray(condition, dtype=np.float64)
    require(condition.shape == p.shape, "condition", f"of shape {p.shape}", condition.shape)

    def denoise(x, t):
        noisy(t)
        alpha, sigma = schedule.at(t, x)
        pt, qt = read(p, t, x), read(q, t, x)
        y = network(x, read(condition, t, x))
        return unmix(x, y, alpha, sigma, pt, qt)

    return denoise


def unmix(x, y, alpha, sigma, p, q):
    """`(x0, eps)` of x = alpha·x0 + sigma·eps, y = p·x0 + q·eps; alpha·q must not be sigma·p."""
    determinant = alpha * q - sigma * p
    return (q * x - sigma * y) / determinant, (alpha * y - p * x) / determinant


def rescaled(denoise, known, asked):
    """The same denoiser, which knows the rows of the table `known`, for the table `asked`.

    Row t of both must have the same signal-to-noise ratio, as in `known = asked.rescaled("vp")`:
    then x is the same but for a factor, and (x0, eps) are the same. Raises `ValueError` otherwise.
    """
    require(known.T == asked.T and np.allclose(known.alpha * asked.sigma, asked.alpha * known.sigma,
                                               rtol=1e-9, atol=0), "known",
            "a table with the signal-to-noise ratios of `asked`", known)
    factor = np.append(1.0, known.sigma[1:] / asked.sigma[1:])
    return lambda x, t: denoise(read(factor, t, x) * x, t)


def clipped(denoise, schedule, low=-1.0, high=1.0):
    """The same denoiser with x0 held in [low, high], and eps moved so that both still make x."""
    require(low < high, "low", f"below high = {high}", low)

    def clip(x, t):
        x0, _ = denoise(x, t)
        alpha, sigma = schedule.at(t, x)
        x0 = x0.clip(low, high)
        return x0, (x - alpha * x0) / sigma

    return clip


def guided(told, untold, w):
    """Guidance: untold + w·(told - untold), in x0 and eps (Ho and Salimans 2022, eq. 6, w there + 1).

    `told` knows the label and `untold` doesn't; w = 1 is `told`, w = 0 `untold`, and w > 1 goes
    beyond both. The two still make x. Raises `ValueError` unless w >= 0.
    """
    require(0 <= w < np.inf, "w", ">= 0", w)

    def denoise(x, t):
        return tuple(b + w * (a - b) for a, b in zip(told(x, t), untold(x, t)))

    return denoise


def noisy(t):
    """Raise `ValueError` where t is row 0: clean data has no noise to find."""
    if not getattr(t, "is_cuda", False):  # there the question would stall the queue
        require(bool((t != 0).all()) if getattr(t, "ndim", 0) else t != 0, "t",
                ">= 1: row 0 is clean data", t)
