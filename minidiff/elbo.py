"""The variational bound: at most how many nats a chain of denoising steps needs for clean data.

-log p(x0) <= prior + sum over t = 1..T of  weight[t]·|x0 - x0_hat(x_t)|² + d·constant[t].
Runs alike on NumPy arrays and torch tensors.
"""

import numpy as np

from minidiff.errors import require
from minidiff.process import diffuse, noise_like, posterior, transition
from minidiff.quadrature import expect, noise_loss


def prior(schedule, square, d):
    """KL(q(x_T | x0) || N(0, v·I)) in nats, for |x0|² = `square`; v = alpha_T² + sigma_T².

    That v is what data of unit variance end with (Ho et al. 2020, eq. 5, the first term).
    """
    alpha2, sigma2 = schedule.alpha[-1] ** 2, schedule.sigma[-1] ** 2
    v = alpha2 + sigma2
    return (alpha2 * square / v + d * (sigma2 / v - 1 - np.log(sigma2 / v))) / 2


def steps(schedule, variance="small"):
    """`(weight, constant)` of the bound's steps, each (T+1,), row 0 being zero.

    Step t > 1 is KL(q(x_{t-1} | x_t, x0) || N(c0·x0_hat + ct·x_t, h²·I)), with h² as `sampler.ddpm`
    has it; step 1 is -log N(x0; x0_hat, (sigma_1/alpha_1)²·I) (Ho et al. 2020, eqs. 5 and 8).
    """
    require(variance in ("small", "large"), "variance", "'small' or 'large'", variance)
    t = np.arange(2, schedule.T + 1)
    c0, _, v = posterior(schedule, t - 1, t)
    h2 = v if variance == "small" else transition(schedule, t - 1, t)[1]
    decoder = (schedule.sigma[1] / schedule.alpha[1]) ** 2
    weight = np.concatenate([[0, 1 / (2 * decoder)], c0**2 / (2 * h2)])
    constant = (v / h2 - 1 - np.log(v / h2)) / 2
    return weight, np.concatenate([[0, np.log(2 * np.pi * decoder) / 2], constant])


def bound(denoise, schedule, x0, rng, variance="small"):
    """`(terms, error)` in nats per point of x0 (n, ...), with one draw of noise for each row.

    terms (T+1,) holds the prior at 0 and step t at t; error is one standard error of their sum.
    """
    n, (weight, constant) = len(x0), steps(schedule, variance)
    require(n >= 2, "x0", "two points or more", tuple(x0.shape))
    d = x0[0].size if isinstance(x0, np.ndarray) else x0[0].numel()
    total = prior(schedule, _square(x0), d)
    terms = [float(total.mean())]
    for t in range(1, schedule.T + 1):
        x0_hat, _ = denoise(diffuse(schedule, x0, t, noise_like(x0, rng)), t)
        term = weight.item(t) * _square(x0 - x0_hat) + d * constant.item(t)
        total = total + term
        terms.append(float(term.mean()))
    variance = float(((total - total.mean()) ** 2).sum()) / (n - 1)
    return np.array(terms), (variance / n) ** 0.5


def least(mixture, schedule, variance="small", nodes=20):
    """`(terms, error)` as `bound` has them, of the mixture's own best denoiser, by quadrature.

    error is that of the sum, as `quadrature.expect` states it.
    """
    mean, cov = mixture.moments()
    d, (weight, constant) = len(mean), steps(schedule, variance)
    rows = zip(schedule.alpha[1:], schedule.sigma[1:])
    loss, error = np.transpose([noise_loss(mixture, a, s, nodes) for a, s in rows])
    cost = d * weight[1:] / schedule.snr[1:]  # |x0 - x0_hat|² is |eps - eps_hat|² / snr
    first = prior(schedule, np.trace(cov) + mean @ mean, d)
    return np.append(first, cost * loss + d * constant[1:]), cost @ error


def entropy(mixture, nodes=32):
    """`(value, error)` of -E log p(x0) in nats: what no bound on these data can go below."""
    return expect(mixture, lambda x: -mixture.log_prob(x), nodes=nodes)


def bits(nats, d):
    """Bits per dimension of so many nats per point in d dimensions."""
    return nats / (d * np.log(2))


def _square(x):
    return (x**2).reshape(len(x), -1).sum(1)
