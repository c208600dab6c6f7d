"""Parameterizations: each against its own literal formula, then all against one another."""

import numpy as np
import pytest

from minidiff.data import eight_gaussians
from minidiff.denoise import KINDS, clipped, denoiser, guided, pair, rescaled, target
from minidiff.mixture import GaussianMixture
from minidiff.process import diffuse
from minidiff.schedule import cosine, flow, karras, linear

TABLES = {"linear": linear(50, 1e-3, 0.2), "cosine": cosine(50), "karras": karras(20), "flow": flow(10)}
CASES = [(k, name) for k in KINDS for name in TABLES if (k, name) != ("eps", "flow")]


def literal_target(kind, x0, eps, alpha, sigma, d):
    if kind == "edm":  # Karras et al. 2022, eq. 8: (x0 - c_skip·x) / c_out, x = x0 + sigma·eps
        x, c_skip, c_out = x0 + sigma * eps, d**2 / (sigma**2 + d**2), sigma * d / (sigma**2 + d**2) ** 0.5
        return (x0 - c_skip * x) / c_out
    return {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0, "flow": eps - x0}[kind]


@pytest.mark.parametrize("kind, name", CASES)
def test_a_perfect_network_gives_back_x0_and_eps(kind, name):
    schedule, d = TABLES[name], 0.5
    x0, eps = np.random.default_rng(0).standard_normal((2, 6, 2))
    for t in (1, schedule.T // 2, schedule.T):
        alpha, sigma = schedule.alpha[t], schedule.sigma[t]
        literal = literal_target(kind, x0, eps, alpha, sigma, d)
        np.testing.assert_allclose(target(schedule, x0, t, eps, kind, d), literal, rtol=1e-9, atol=1e-9)
        denoise = denoiser(lambda x, c: literal, schedule, kind, d)
        said_x0, said_eps = denoise(diffuse(schedule, x0, t, eps), t)
        if alpha > 1e-3:
            np.testing.assert_allclose(said_x0, x0, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(said_eps, eps, rtol=1e-6, atol=1e-6)


def test_a_batch_of_t_agrees_with_one_at_a_time():
    schedule, t = TABLES["cosine"], np.array([1, 7, 20, 50])
    x, y = np.random.default_rng(0).standard_normal((2, 4, 3))
    batch = denoiser(lambda x, c: y, schedule, "v")(x, t)
    for i in range(4):
        one = denoiser(lambda x, c: y[i:i + 1], schedule, "v")(x[i:i + 1], int(t[i]))
        np.testing.assert_allclose([b[i] for b in batch], [o[0] for o in one], rtol=1e-12)


def test_the_network_is_told_the_log_snr_or_what_is_asked_for():
    schedule, told, x = TABLES["linear"], [], np.zeros((3, 2))
    listen = lambda x, c: told.append(c) or x
    denoiser(listen, schedule)(x, 7)
    denoiser(listen, schedule, condition=np.arange(51))(x, 7)
    assert told == [schedule.log_snr[7], 7.0]


def test_clipping_moves_eps_along():
    schedule, x = TABLES["linear"], np.array([[3.0, 0.1], [-2.0, 0.4]])
    x0, eps = clipped(denoiser(lambda x, c: 0 * x, schedule), schedule, -1, 1)(x, 10)
    alpha, sigma = schedule.at(10, x)
    np.testing.assert_allclose(x0, np.clip(x / alpha, -1, 1))
    np.testing.assert_allclose(alpha * x0 + sigma * eps, x, rtol=1e-12)


def test_edm_target_has_unit_variance():
    """Var(y) = p²·d² + q² = 1 on every row when the data's standard deviation is d: that is its point."""
    p, q = pair("edm", karras(20), data_scale=0.5)
    np.testing.assert_allclose(p**2 * 0.25 + q**2, 1, rtol=1e-12, err_msg="variance of the target")


def test_rescaled_knows_the_same_point_at_another_scale():
    """The oracle asked directly on a table, and through each other scale: the same pair."""
    g, x = eight_gaussians(), np.random.default_rng(0).standard_normal((5, 2))
    for asked in (karras(10), linear(10), flow(10).select(range(10))):
        for scale in ("vp", "ve", "flow"):
            known = asked.rescaled(scale)
            through = rescaled(g.denoiser(known), known, asked)
            for t in (1, 7, 9):
                y = asked.alpha[t] * x + asked.sigma[t]
                for a, b in zip(through(y, t), g.denoiser(asked)(y, t)):
                    np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)


def test_guidance_by_hand_and_on_the_oracle():
    """w·x0(told) + (1 - w)·x0(untold); for the score, w·grad log p(x|c) + (1 - w)·grad log p(x)."""
    table, g, x = cosine(20), eight_gaussians(), np.random.default_rng(1).standard_normal((6, 2))
    some = GaussianMixture(np.full(2, 0.5), g.means[:2], g.covs[:2])
    for w in (0.0, 0.5, 1.0, 3.0):
        x0, eps = guided(some.denoiser(table), g.denoiser(table), w)(x, 9)
        alpha, sigma = table.at(9, x)
        np.testing.assert_allclose(alpha * x0 + sigma * eps, x, rtol=1e-12)
        by_score = w * some.score(x, alpha, sigma) + (1 - w) * g.score(x, alpha, sigma)
        np.testing.assert_allclose(-eps / sigma, by_score, rtol=1e-9, atol=1e-12)
    one, three = (lambda x, t: (1 + 0 * x, x), lambda x, t: (3 + 0 * x, 2 * x))
    x0, eps = guided(three, one, 2.0)(x, 9)
    np.testing.assert_array_equal(x0, 5 + 0 * x)
    np.testing.assert_array_equal(eps, 3 * x)


X = np.zeros((3, 2))


@pytest.mark.parametrize("call, said", [
    (lambda: rescaled(None, linear(10), cosine(10)), "known must be a table with the signal-to-noise ratios"),
    (lambda: rescaled(None, linear(10), linear(9)), "known must be a table with the signal-to-noise"),
    (lambda: pair("epsilon", linear(10)), "kind must be one of"),
    (lambda: pair("edm", linear(10), data_scale=0), "data_scale must be > 0"),
    (lambda: pair("eps", flow(10)), r"determines x0 on every row 1..T; got \"'eps', which does not on rows \[10\]"),
    (lambda: denoiser(None, flow(10), "eps"), "kind must be one that determines x0"),
    (lambda: denoiser(None, linear(10), condition=[1, 2]), r"condition must be of shape \(11,\)"),
    (lambda: denoiser(lambda x, c: x, linear(10))(X, 0), "t must be >= 1"),
    (lambda: denoiser(lambda x, c: x, linear(10))(X, np.array([1, 0, 2])), "t must be >= 1"),
    (lambda: denoiser(lambda x, c: x, linear(10))(X, 11), "t must be a whole number"),
    (lambda: clipped(None, linear(10), 1, -1), "low must be below high"),
    (lambda: clipped(None, linear(10), 1, 1), "low must be below high"),
    (lambda: guided(None, None, -0.1), "w must be >= 0; got -0.1"),
    (lambda: guided(None, None, float("inf")), "w must be >= 0"),
    (lambda: guided(None, None, float("nan")), "w must be >= 0"),
])
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
