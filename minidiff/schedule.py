"""Noise schedules: one table `(alpha[t], sigma[t])`, `x_t = alpha[t]·x0 + sigma[t]·eps`.

Row 0 is clean data, `(1, 0)`; row `T` is (almost) pure noise. Variance-preserving, variance-
exploding and flow-matching processes are all such tables; only the numbers differ.

Notation: here `alpha = sqrt(alpha_bar)`. Ho et al. (2020) write α_t for what we call `1 - beta[t]`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minidiff.errors import require


@dataclass(frozen=True, eq=False)
class Schedule:
    """The signal scale `alpha` and noise scale `sigma` of every row, each of shape (T+1,).

    Raises `ValueError` unless row 0 is (1, 0) and every row has less signal per noise than the last.
    """

    alpha: np.ndarray
    sigma: np.ndarray

    def __post_init__(self):
        for name in ("alpha", "sigma"):
            table = np.array(getattr(self, name), dtype=np.float64)
            require(table.ndim == 1 and len(table) >= 2, name, "a row for each of t = 0..T, T >= 1",
                    table.shape)
            require(np.isfinite(table).all() and (table >= 0).all(), name, "finite and >= 0", table)
            table.setflags(write=False)
            object.__setattr__(self, name, table)
        alpha, sigma = self.alpha, self.sigma
        require(alpha.shape == sigma.shape, "sigma", f"of alpha's shape {alpha.shape}", sigma.shape)
        require(alpha[0] == 1 and sigma[0] == 0, "row 0", "(1, 0): clean data", (alpha[0], sigma[0]))
        require((alpha[1:] * sigma[:-1] < alpha[:-1] * sigma[1:]).all(), "alpha/sigma",
                "strictly decreasing in t", "a row with no less signal than the row before")

    @property
    def T(self):
        """The number of noising steps."""
        return len(self.alpha) - 1

    @cached_property
    def alpha_bar(self):
        """alpha², the share of x0's variance that is left (Ho et al. 2020, below eq. 4)."""
        return self.alpha**2

    @cached_property
    def beta(self):
        """Variance that step t of a variance-preserving chain adds; beta[0] = 0 (eq. 2)."""
        return np.append(0.0, 1 - (self.alpha[1:] / self.alpha[:-1]) ** 2)

    @cached_property
    def snr(self):
        """Signal-to-noise ratio alpha²/sigma², infinite in row 0 (Kingma et al. 2021, eq. 2)."""
        with np.errstate(divide="ignore"):
            return self.alpha**2 / self.sigma**2

    @cached_property
    def log_snr(self):
        """Natural logarithm of `snr`: +inf in row 0, -inf where alpha = 0."""
        with np.errstate(divide="ignore"):
            return 2 * (np.log(self.alpha) - np.log(self.sigma))

    def at(self, t, x):
        """`(alpha, sigma)` of row(s) t, ready to multiply x; `t` is an int or has one int per x."""
        return read(self.alpha, t, x), read(self.sigma, t, x)

    def select(self, rows):
        """The shorter table made of these rows, which rise from 0: what a few-step sampler runs on."""
        rows = np.asarray(rows)
        require(rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer), "rows",
                "a list of integers", rows)
        require(rows[0] == 0 and (np.diff(rows) > 0).all() and rows[-1] <= self.T, "rows",
                f"rising from 0 to at most T = {self.T}", rows)
        return Schedule(self.alpha[rows], self.sigma[rows])

    def respaced(self, steps):
        """The shorter table of so many steps, its rows spread evenly over 0..T, to the nearest one.

        Raises `ValueError` for steps outside 1..T. (Nichol and Dhariwal 2021, section 4.)
        """
        require(isinstance(steps, (int, np.integer)) and 1 <= steps <= self.T, "steps",
                f"a whole number between 1 and T = {self.T}", steps)
        return self.select(np.floor(np.linspace(0, self.T, steps + 1) + 0.5).astype(int))

    def rescaled(self, scale):
        """The table with the same signal-to-noise ratios, each row multiplied by a number.

        scale "vp" makes alpha² + sigma² = 1, "ve" alpha = 1 and "flow" alpha + sigma = 1: the
        conventions of Ho et al. (2020), Karras et al. (2022) and Lipman et al. (2023).
        Raises `ValueError` for "ve" where alpha = 0.
        """
        require(scale in ("vp", "ve", "flow"), "scale", "'vp', 've' or 'flow'", scale)
        require(scale != "ve" or self.alpha[-1] > 0, "alpha", "> 0 in every row, for 've'", self.alpha)
        norm = {"vp": np.hypot(self.alpha, self.sigma), "ve": self.alpha,
                "flow": self.alpha + self.sigma}[scale]
        return Schedule(self.alpha / norm, self.sigma / norm)


def read(table, t, x):
    """Row(s) t of a table of shape (T+1,), ready to multiply x.

    A Python float for one t, since `np.float64` would promote a float32 x; for a batch of t,
    shape (B,), an array or tensor of shape (B, 1, ...) of x's own kind and type.
    """
    T = len(table) - 1
    if getattr(t, "ndim", 0) == 0:
        require(t == int(t) and 0 <= t <= T, "t", f"a whole number between 0 and T = {T}", t)
        return table.item(int(t))
    require(t.shape == x.shape[:1], "t", f"an int, or of shape {tuple(x.shape[:1])} to match x",
            tuple(t.shape))
    if not getattr(t, "is_cuda", False):  # there the question would stall the queue
        require(bool((t >= 0).all() and (t <= T).all()), "t", f"between 0 and T = {T}", t)
    rows = table[t].astype(x.dtype) if isinstance(x, np.ndarray) else x.new_tensor(table)[t]
    return rows.reshape(-1, *[1] * (x.ndim - 1))


def from_beta(beta):
    """The variance-preserving table of the chain x_t = sqrt(1-beta_t)·x_{t-1} + sqrt(beta_t)·z.

    `beta`, shape (T,), holds the steps 1..T, each in (0, 1) (Ho et al. 2020, eqs. 2 and 4).
    """
    beta = np.asarray(beta, dtype=np.float64)
    require(beta.ndim == 1 and len(beta) >= 1, "beta", "of shape (T,), T >= 1", beta.shape)
    require(((beta > 0) & (beta < 1)).all(), "beta", "in (0, 1)", beta)
    alpha_bar = np.append(1.0, np.cumprod(1 - beta))
    return Schedule(np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar))


def linear(T=1000, beta_1=1e-4, beta_T=0.02):
    """Ho et al.'s schedule: beta rises linearly from `beta_1` to `beta_T` (2020, section 4)."""
    return from_beta(np.linspace(beta_1, beta_T, _steps(T)))


def cosine(T=1000, s=0.008, max_beta=0.999):
    """Nichol and Dhariwal's schedule: alpha_bar falls like a squared cosine (2021, eq. 17)."""
    require(s >= 0, "s", ">= 0", s)
    angle = (np.arange(_steps(T) + 1) / T + s) / (1 + s) * np.pi / 2
    f = np.cos(angle) ** 2  # alpha_bar times a constant
    return from_beta(np.minimum(1 - f[1:] / f[:-1], max_beta))


def karras(T=40, sigma_min=0.002, sigma_max=80.0, rho=7.0):
    """EDM's noise levels, alpha = 1 throughout: sigma^(1/rho) rises linearly, and log sigma does
    for rho = inf, so that steps are even in log-SNR (Karras et al. 2022, eq. 5).
    """
    require(0 < sigma_min < sigma_max < np.inf, "sigma_min", f"in (0, sigma_max = {sigma_max})",
            sigma_min)
    require(rho > 0, "rho", "> 0", rho)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigma = (np.geomspace(sigma_min, sigma_max, _steps(T)) if rho == np.inf
             else np.linspace(low, high, _steps(T)) ** rho)
    return Schedule(np.ones(T + 1), np.append(0.0, sigma))


def flow(T=100):
    """The straight line from data to noise: (1 - t/T, t/T) (Lipman et al. 2023, eq. 22)."""
    sigma = np.arange(_steps(T) + 1) / T
    return Schedule(1 - sigma, sigma)


def _steps(T):
    require(isinstance(T, (int, np.integer)) and T >= 1, "T", "a whole number >= 1", T)
    return int(T)
