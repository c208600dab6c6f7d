"""The same thing in other papers' words: noise levels, scales of x, and what a network says.

Every noise level is a signal-to-noise ratio, every convention a factor before x, and every output
a sum of x0 and eps. So each paper is translated once, into log-SNR and (x0, eps), and back.
"""

import numpy as np

from minidiff.denoise import unmix
from minidiff.errors import require

LEVELS = ("log_snr", "alpha_bar", "beta_integral", "sigma", "flow")
SCALES = ("vp", "ve", "flow")
OUTPUTS = ("x0", "eps", "score", "v", "flow")


def level(value, this, other):
    """A noise level, a number or an array, written in the convention `other` instead of `this`.

    "alpha_bar" in (0, 1) is Ho et al.'s (2020, eq. 4), "beta_integral" > 0 the integral of Song et
    al.'s beta from 0 (2021b, appendix B), "sigma" > 0 Karras et al.'s (2022), "flow" in (0, 1) the
    t of x = (1-t)·x0 + t·eps. Raises `ValueError` for what is no noise level.
    """
    for name, argument in ((this, "this"), (other, "other")):
        require(name in LEVELS, argument, f"one of {LEVELS}", name)
    value = np.asarray(value, dtype=np.float64)
    low = -np.inf if this == "log_snr" else 0
    high = 1 if this in ("alpha_bar", "flow") else np.inf
    require(((value > low) & (value < high)).all(), "value", f"a {this} in ({low}, {high})", value)
    log_snr = {
        "log_snr": lambda a: a,
        "alpha_bar": lambda a: np.log(a) - np.log1p(-a),
        "beta_integral": lambda a: -a - np.log(-np.expm1(-a)),
        "sigma": lambda a: -2 * np.log(a),
        "flow": lambda a: 2 * (np.log1p(-a) - np.log(a)),
    }[this](value)
    return {  # logaddexp(0, a) is log(1 + e^a), which doesn't overflow
        "log_snr": lambda a: a,
        "alpha_bar": lambda a: np.exp(-np.logaddexp(0, -a)),
        "beta_integral": lambda a: np.logaddexp(0, -a),
        "sigma": lambda a: np.exp(-a / 2),
        "flow": lambda a: np.exp(-np.logaddexp(0, a / 2)),
    }[other](log_snr)


def scales(log_snr, scale):
    """`(alpha, sigma)` in x = alpha·x0 + sigma·eps at this level, in one of three conventions.

    "vp" has alpha² + sigma² = 1, "ve" alpha = 1, "flow" alpha + sigma = 1, as `Schedule.rescaled`.
    To translate x, multiply by the other convention's alpha and divide by this one's.
    """
    require(scale in SCALES, "scale", f"one of {SCALES}", scale)
    noise = np.exp(-np.asarray(log_snr, dtype=np.float64) / 2)  # sigma / alpha
    norm = {"vp": np.hypot(1, noise), "ve": np.ones_like(noise), "flow": 1 + noise}[scale]
    return 1 / norm, noise / norm


def say(output, x0, eps, alpha, sigma):
    """What a network of this kind says, where it means (x0, eps).

    "score" is -eps/sigma (Song et al. 2021b), "v" alpha·eps - sigma·x0 (Salimans and Ho 2022),
    "flow" the velocity eps - x0, from data to noise. alpha and sigma are numbers, or broadcast
    against x0.
    """
    require(output in OUTPUTS, "output", f"one of {OUTPUTS}", output)
    return {
        "x0": lambda: x0,
        "eps": lambda: eps,
        "score": lambda: -eps / sigma,
        "v": lambda: alpha * eps - sigma * x0,
        "flow": lambda: eps - x0,
    }[output]()


def hear(output, y, x, alpha, sigma):
    """What it means, `(x0, eps)`, where it says y at x = alpha·x0 + sigma·eps.

    y is a sum p·x0 + q·eps, and so two equations determine two unknowns. Raises `ValueError` where
    they don't, as for eps where alpha = 0.
    """
    p, q = say(output, 1.0, 0.0, alpha, sigma), say(output, 0.0, 1.0, alpha, sigma)
    require(bool(np.all(np.asarray(alpha * q - sigma * p) != 0)), "alpha, sigma",
            f"such that {output} determines x0", (alpha, sigma))
    return unmix(x, y, alpha, sigma, p, q)
