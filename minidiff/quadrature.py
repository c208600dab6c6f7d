"""Exact expectations under a noised Gaussian mixture, and with them the floor of every loss curve."""

import numpy as np

from minidiff.errors import require


def expect(mixture, f, alpha=1.0, sigma=0.0, nodes=32):
    """`(value, error)` of E[f(x)], x = alpha·x0 + sigma·eps, by Gauss-Hermite quadrature.

    Puts a grid of nodes^d points about each component; `f` maps (n, d) to (n,). The error is how far
    the value is from the one with three quarters of the nodes: more than its own, where f is smooth.
    """
    require(nodes >= 4, "nodes", ">= 4", nodes)
    value, coarse = (_expect(mixture, f, alpha, sigma, n) for n in (nodes, nodes * 3 // 4))
    return value, abs(value - coarse)


def _expect(mixture, f, alpha, sigma, nodes):
    d = mixture.means.shape[1]
    node, weight = np.polynomial.hermite_e.hermegauss(nodes)
    z = np.stack(np.meshgrid(*[node] * d), -1).reshape(-1, d)
    w = np.stack(np.meshgrid(*[weight / weight.sum()] * d), -1).reshape(-1, d).prod(axis=1)
    root = np.linalg.cholesky(alpha**2 * mixture.covs + sigma**2 * np.eye(d))
    x = alpha * mixture.means[:, None] + z @ root.swapaxes(1, 2)  # (K, nodes^d, d)
    return float(mixture.weights @ (f(x.reshape(-1, d)).reshape(-1, len(z)) @ w))


def noise_loss(mixture, alpha, sigma, nodes=32):
    """`(value, error)` of the least E|eps - guess(x)|² / d that any guess can have: 1 - sigma²·E|score|²/d.

    The guess that has it is the posterior mean of eps, -sigma·score(x) (Vincent 2011, eq. 11).
    """
    d = mixture.means.shape[1]
    fisher, error = expect(mixture, lambda x: (mixture.score(x, alpha, sigma) ** 2).sum(axis=1),
                           alpha, sigma, nodes)
    return 1 - sigma**2 * fisher / d, sigma**2 * error / d
