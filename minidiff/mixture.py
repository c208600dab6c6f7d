"""The oracle: a Gaussian mixture, whose density, score and best denoiser are known at every noise level.

Noising keeps it a mixture: component k of x_t = alpha·x0 + sigma·eps has mean alpha·m_k and
covariance alpha²·C_k + sigma²·I. In the eigenbasis of C_k that only changes the variances, so each
covariance is decomposed once. NumPy, float64.
"""

import numpy as np

from minidiff.denoise import noisy
from minidiff.errors import require


class GaussianMixture:
    """sum_k weights[k]·N(means[k], covs[k]) in d dimensions.

    weights (K,), means (K, d), covs (K, d, d). In all methods x has shape (n, d), and alpha and
    sigma are numbers or hold one number per x; by default (1, 0), the clean mixture.
    Raises `ValueError` unless weights are >= 0 and sum to one and covs are positive definite.
    """

    def __init__(self, weights, means, covs):
        weights, means, covs = (np.asarray(a, dtype=np.float64) for a in (weights, means, covs))
        require(weights.ndim == 1 and len(weights) >= 1, "weights", "of shape (K,)", weights.shape)
        require((weights >= 0).all() and abs(weights.sum() - 1) < 1e-9, "weights",
                ">= 0 and sum to one", weights)
        require(means.ndim == 2 and len(means) == len(weights), "means",
                f"of shape ({len(weights)}, d)", means.shape)
        require(np.isfinite(means).all(), "means", "finite", means)
        K, d = means.shape
        require(covs.shape == (K, d, d), "covs", f"of shape {(K, d, d)}", covs.shape)
        require(np.allclose(covs, covs.swapaxes(1, 2), rtol=1e-9, atol=0), "covs", "symmetric", covs)
        self.weights, self.means, self.covs = weights, means, covs
        self.variances, basis = np.linalg.eigh(covs)  # (K, d), (K, d, d)
        require((self.variances > 0).all(), "covs", "positive definite", covs)
        self._bases = np.concatenate(basis, axis=1)  # (d, K·d): every eigenbasis beside the next
        self._centres = np.einsum("ki,kij->kj", means, basis)  # each mean in its own eigenbasis

    def moments(self):
        """Mean (d,) and covariance (d, d) of the whole mixture."""
        mean = self.weights @ self.means
        apart = self.means - mean
        spread = np.einsum("k,ki,kj->ij", self.weights, apart, apart)
        return mean, spread + np.einsum("k,kij->ij", self.weights, self.covs)

    def sample(self, n, rng, return_component=False):
        """n draws, shape (n, d); with `return_component` also which component each came from, (n,)."""
        require(n >= 1, "n", ">= 1", n)
        k = rng.choice(len(self.weights), size=n, p=self.weights)
        d = self.means.shape[1]
        z = rng.standard_normal((n, d)) * np.sqrt(self.variances[k])
        x = self.means[k] + np.einsum("ink,nk->in", self._bases.reshape(d, -1, d)[:, k], z).T
        return (x, k) if return_component else x

    def log_prob(self, x, alpha=1.0, sigma=0.0):
        """log p(x) of the noised mixture, natural logarithm, shape (n,)."""
        log_joint = self._log_joint(*self._project(x, alpha, sigma))
        top = log_joint.max(axis=1, keepdims=True)
        return top[:, 0] + np.log(np.exp(log_joint - top).sum(axis=1))

    def responsibilities(self, x, alpha=1.0, sigma=0.0):
        """P(component k | x), shape (n, K)."""
        return self._share(*self._project(x, alpha, sigma))

    def score(self, x, alpha=1.0, sigma=0.0):
        """Gradient of log p(x) with respect to x, shape (n, d)."""
        z, variance = self._project(x, alpha, sigma)
        return self._average(self._share(z, variance), -z / variance)

    def posterior_mean(self, x, alpha, sigma):
        """E[x0 | x_t = x], shape (n, d): the denoiser with the least squared error there is."""
        z, variance = self._project(x, alpha, sigma)
        share = self._share(z, variance)
        gain = _column(alpha) * self.variances / variance
        return share @ self.means + self._average(share, gain * z)

    def denoiser(self, schedule):
        """The optimal `denoise(x, t) -> (x0, eps)` on this table's rows 1..T."""

        def denoise(x, t):
            noisy(t)
            alpha, sigma = schedule.at(t, x)
            x0 = self.posterior_mean(x, alpha, sigma)
            return x0, (x - alpha * x0) / sigma

        return denoise

    def _project(self, x, alpha, sigma):
        """x - alpha·mean_k in k's eigenbasis, (n, K, d), and the noised variances along it."""
        x = np.asarray(x, dtype=np.float64)
        require(x.ndim == 2 and x.shape[1] == self.means.shape[1], "x",
                f"of shape (n, {self.means.shape[1]})", x.shape)
        require(np.isfinite(x).all(), "x", "finite", x)
        alpha, sigma = _column(alpha), _column(sigma)
        z = (x @ self._bases).reshape(len(x), *self.means.shape) - alpha * self._centres
        return z, alpha**2 * self.variances + sigma**2

    def _log_joint(self, z, variance):
        """log weights[k] + log N_k(x), shape (n, K)."""
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.weights)
        norm = np.log(2 * np.pi * variance).sum(axis=2)
        return log_weights - (norm + (z**2 / variance).sum(axis=2)) / 2

    def _share(self, z, variance):
        """The softmax of the log joint, shape (n, K)."""
        log_joint = self._log_joint(z, variance)
        share = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
        return share / share.sum(axis=1, keepdims=True)

    def _average(self, share, z):
        """sum_k share_k·z_k, each z_k turned back from k's eigenbasis: shape (n, d)."""
        return (share[:, :, None] * z).reshape(len(z), -1) @ self._bases.T


def _column(value):
    """A number, or one per x, shaped to broadcast against (n, K, d)."""
    return np.reshape(value, (-1, 1, 1))
