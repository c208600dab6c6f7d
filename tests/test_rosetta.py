"""Each translation against the papers' own formulas, at numbers worked out by hand."""

import numpy as np
import pytest

from minidiff.data import eight_gaussians
from minidiff.denoise import pair
from minidiff.rosetta import LEVELS, OUTPUTS, SCALES, hear, level, say, scales
from minidiff.schedule import flow, karras, linear

# SNR = 9: alpha_bar = 0.9, so that alpha_bar/(1 - alpha_bar) = 9; its integral of beta -ln 0.9;
# sigma = 1/3; t = 1/4, so that (1-t)/t = 3 = alpha/sigma. And SNR = 1/4, on the noisy side.
KNOWN = ({"log_snr": np.log(9), "alpha_bar": 0.9, "beta_integral": -np.log(0.9), "sigma": 1 / 3,
          "flow": 0.25},
         {"log_snr": -np.log(4), "alpha_bar": 0.2, "beta_integral": np.log(5), "sigma": 2.0,
          "flow": 2 / 3})


@pytest.mark.parametrize("this", LEVELS)
@pytest.mark.parametrize("other", LEVELS)
def test_levels_worked_out_by_hand(this, other):
    for known in KNOWN:
        assert level(known[this], this, other) == pytest.approx(known[other], rel=1e-12)
    both = level(np.array([known[this] for known in KNOWN]), this, other)
    np.testing.assert_allclose(both, [known[other] for known in KNOWN], rtol=1e-12)


def test_levels_of_the_papers_own_tables():
    t = np.array([1, 200, 999])
    ab = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[t - 1]
    np.testing.assert_allclose(level(ab, "alpha_bar", "log_snr"), linear().log_snr[t], rtol=1e-9)
    np.testing.assert_allclose(level(karras().sigma[1:], "sigma", "log_snr"), karras().log_snr[1:])
    np.testing.assert_allclose(level(t / 1000, "flow", "log_snr"), flow(1000).log_snr[t])
    u = 0.3  # Song et al.'s beta(u) = 0.1 + 19.9·u, whose signal's scale is exp(-integral/2)
    integral = 0.1 * u + 19.9 * u**2 / 2
    alpha = np.exp(-integral / 2)
    assert level(integral, "beta_integral", "sigma") == pytest.approx(np.sqrt(1 - alpha**2) / alpha)


@pytest.mark.parametrize("other", LEVELS)
def test_far_levels_are_finite(other):
    far = level(np.array([-900.0, -60.0, 60.0, 900.0]), "log_snr", other)
    assert np.isfinite(far).all()
    back = level(level(np.array([-20.0, 20.0]), "log_snr", other), other, "log_snr")
    np.testing.assert_allclose(back, [-20, 20], rtol=1e-6)
    assert level(800.0, "beta_integral", "log_snr") == pytest.approx(-800)


def test_scales_worked_out_by_hand():
    known = {"vp": (np.sqrt(0.9), np.sqrt(0.1)), "ve": (1, 1 / 3), "flow": (0.75, 0.25)}
    for scale in SCALES:
        np.testing.assert_allclose(scales(np.log(9), scale), known[scale], rtol=1e-12)
        table = flow(8).rescaled(scale) if scale != "ve" else karras(8)
        rows = slice(1, 8)
        np.testing.assert_allclose(scales(table.log_snr[rows], scale),
                                   (table.alpha[rows], table.sigma[rows]), rtol=1e-12)


def test_outputs_worked_out_by_hand():
    """x0 = 2 and eps = -1 at alpha = 0.6, sigma = 0.8: x = 0.4."""
    known = {"x0": 2, "eps": -1, "score": 1.25, "v": -2.2, "flow": -3}
    x0, eps, x = np.array([[2.0]]), np.array([[-1.0]]), np.array([[0.4]])
    assert set(known) == set(OUTPUTS)
    for output, y in known.items():
        np.testing.assert_allclose(say(output, x0, eps, 0.6, 0.8), [[y]], rtol=1e-12)
        meant = hear(output, np.array([[float(y)]]), x, 0.6, 0.8)
        np.testing.assert_allclose(meant, [[[2]], [[-1]]], rtol=1e-12)


def test_outputs_are_what_their_names_say():
    """The oracle's score is the gradient of log p; v and flow are the package's pairs."""
    g, table, x = eight_gaussians(), linear(), np.random.default_rng(0).standard_normal((9, 2))
    for t in (30, 500):
        alpha, sigma = table.at(t, x)
        x0, eps = g.denoiser(table)(x, t)
        np.testing.assert_allclose(say("score", x0, eps, alpha, sigma), g.score(x, alpha, sigma),
                                   rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(hear("score", g.score(x, alpha, sigma), x, alpha, sigma),
                                   (x0, eps), rtol=1e-9, atol=1e-9)
        for output in ("x0", "eps", "v", "flow"):
            p, q = pair(output, table)
            np.testing.assert_allclose(say(output, x0, eps, alpha, sigma), p[t] * x0 + q[t] * eps)


def test_what_determines_x0_is_heard():
    """At alpha = sigma a velocity does, though alpha·q + sigma·p = 0; at alpha = -sigma it doesn't."""
    x0, eps, half = np.array([[2.0]]), np.array([[-1.0]]), 0.5
    np.testing.assert_array_equal(hear("flow", eps - x0, half * x0 + half * eps, half, half), (x0, eps))
    with pytest.raises(ValueError, match="such that flow determines x0"):
        hear("flow", eps - x0, half * x0 - half * eps, half, -half)


def test_one_level_for_each_point():
    rng = np.random.default_rng(1)
    x0, eps = rng.standard_normal((2, 5, 3))
    alpha, sigma = scales(rng.uniform(-4, 4, (5, 1)), "vp")
    for output in OUTPUTS:
        y = say(output, x0, eps, alpha, sigma)
        meant = hear(output, y, alpha * x0 + sigma * eps, alpha, sigma)
        np.testing.assert_allclose(meant, (x0, eps), rtol=1e-9, atol=1e-12)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="this must be one of .*; got 'snr'"):
        level(1.0, "snr", "sigma")
    with pytest.raises(ValueError, match="other must be one of .*; got 'beta'"):
        level(1.0, "sigma", "beta")
    for this, bad in (("alpha_bar", 0), ("alpha_bar", 1), ("beta_integral", 0), ("sigma", 0),
                      ("sigma", np.inf), ("flow", 0), ("flow", 1), ("log_snr", np.inf),
                      ("log_snr", -np.inf), ("sigma", np.nan), ("beta_integral", np.inf)):
        with pytest.raises(ValueError, match=f"value must be a {this} in"):
            level(bad, this, "log_snr")
    with pytest.raises(ValueError, match="scale must be one of .*; got 'edm'"):
        scales(0.0, "edm")
    with pytest.raises(ValueError, match="output must be one of .*; got 'u'"):
        say("u", 0.0, 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="alpha, sigma must be such that eps determines x0"):
        hear("eps", np.zeros((1, 2)), np.zeros((1, 2)), 0.0, 1.0)
    with pytest.raises(ValueError, match="such that v determines x0"):
        hear("v", np.zeros((1, 2)), np.zeros((1, 2)), 0.0, np.zeros((1, 1)))
