"""The forward process against literal formulas, chains of small steps and Monte Carlo."""

import numpy as np
import pytest

from minidiff.process import diffuse, noise_like, posterior, transition
from minidiff.schedule import cosine, flow, karras, linear

TABLES = [linear(50, 1e-3, 0.2), cosine(50), karras(20), flow(10)]


def test_diffuse_by_hand():
    schedule, rng = linear(1000), np.random.default_rng(0)
    x0, eps = rng.standard_normal((2, 6, 2))
    literal = 0.07858724288**0.5 * x0 + (1 - 0.07858724288) ** 0.5 * eps
    np.testing.assert_allclose(diffuse(schedule, x0, 500, eps), literal, rtol=1e-9)


def test_diffuse_takes_one_t_per_image():
    schedule, rng = linear(10), np.random.default_rng(0)
    x0, eps = rng.standard_normal((2, 4, 1, 3, 3)).astype(np.float32)
    t = np.array([0, 1, 5, 10])
    xt = diffuse(schedule, x0, t, eps)
    assert xt.dtype == np.float32
    np.testing.assert_array_equal(xt[0], x0[0])
    for i in range(4):
        one = diffuse(schedule, x0[i:i + 1], int(t[i]), eps[i:i + 1])
        np.testing.assert_allclose(xt[i], one[0], rtol=1e-6)


def test_float32_stays_float32():
    x0 = np.ones((3, 2), np.float32)
    assert diffuse(linear(10), x0, 5, x0).dtype == np.float32


def test_noise_is_reproducible_and_of_the_right_type():
    x = np.zeros((3, 2), np.float32)
    a, b = (noise_like(x, np.random.default_rng(7)) for _ in range(2))
    assert a.dtype == np.float32 and a.shape == x.shape
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("schedule", TABLES)
def test_transitions_compose_to_the_one_jump(schedule):
    """Mean and variance of t small steps equal those of one jump, on every row."""
    scale, variance = 1.0, 0.0
    for t in range(1, schedule.T + 1):
        a, v = transition(schedule, t - 1, t)
        scale, variance = a * scale, a**2 * variance + v
        assert scale == pytest.approx(schedule.alpha[t], rel=1e-9, abs=1e-15)
        assert variance == pytest.approx(schedule.sigma[t] ** 2, rel=1e-9)


def test_transition_is_the_chain_of_ho_et_al():
    schedule = linear(1000)
    beta = 1e-4 + 299 / 999 * (0.02 - 1e-4)
    scale, variance = transition(schedule, 299, 300)
    assert scale == pytest.approx((1 - beta) ** 0.5, rel=1e-9)
    assert variance == pytest.approx(beta, rel=1e-9)


def test_posterior_is_that_of_ho_et_al():
    schedule, t = linear(1000), 300  # eqs. 6 and 7, written with alpha_bar and beta
    ab, ab_before, beta = schedule.alpha_bar[t], schedule.alpha_bar[t - 1], schedule.beta[t]
    c0, ct, variance = posterior(schedule, t - 1, t)
    assert c0 == pytest.approx(ab_before**0.5 * beta / (1 - ab), rel=1e-9)
    assert ct == pytest.approx((1 - beta) ** 0.5 * (1 - ab_before) / (1 - ab), rel=1e-9)
    assert variance == pytest.approx((1 - ab_before) / (1 - ab) * beta, rel=1e-9)


@pytest.mark.parametrize("schedule", TABLES)
def test_posterior_is_bayes_rule(schedule):
    """q(x_s|x_t,x0)·q(x_t|x0) = q(x_t|x_s)·q(x_s|x0) as densities, at random points."""
    rng = np.random.default_rng(0)

    def log_normal(x, mean, variance):
        return -((x - mean) ** 2 / variance + np.log(2 * np.pi * variance)) / 2

    for s, t in ((1, 2), (3, 9), (schedule.T - 2, schedule.T)):
        x0, xs, xt = rng.standard_normal((3, 20))
        c0, ct, v = posterior(schedule, s, t)
        scale, step = transition(schedule, s, t)
        left = log_normal(xs, c0 * x0 + ct * xt, v)
        left += log_normal(xt, schedule.alpha[t] * x0, schedule.sigma[t] ** 2)
        right = log_normal(xt, scale * xs, step)
        right += log_normal(xs, schedule.alpha[s] * x0, schedule.sigma[s] ** 2)
        np.testing.assert_allclose(left, right, rtol=1e-8)


def test_many_small_steps_have_the_variance_of_one_jump():
    """n = 200,000 one-dimensional walkers, T = 50 steps from x0 = 1; both bounds are 5 standard
    errors: a false alarm in 2 of a million runs, and a scale wrong by 2 % is off by 12 or more."""
    n, schedule, rng = 200_000, linear(50, 1e-3, 0.2), np.random.default_rng(0)
    x = np.ones(n)
    for beta in schedule.beta[1:]:
        x = np.sqrt(1 - beta) * x + np.sqrt(beta) * rng.standard_normal(n)
    variance = schedule.sigma[-1] ** 2
    assert abs(x.mean() - schedule.alpha[-1]) < 5 * np.sqrt(variance / n)
    assert abs(x.var() - variance) < 5 * variance * np.sqrt(2 / n)


X = np.zeros((3, 2))


@pytest.mark.parametrize("call, said", [
    (lambda s: diffuse(s, X, 5, X[:2]), r"eps must be of x0's shape \(3, 2\); got \(2, 2\)"),
    (lambda s: diffuse(s, X, 11, X), "t must be"),
    (lambda s: diffuse(s, X, np.array([1, 2]), X), "t must be an int, or of shape"),
    (lambda s: diffuse(s, X + np.nan, 5, X), "x0 must be free of NaN"),
    (lambda s: transition(s, 5, 5), "s, t must be rows with 0 <= s < t <= T = 10"),
    (lambda s: transition(s, -1, 5), "s, t must be rows"),
    (lambda s: posterior(s, 5, 11), "s, t must be rows"),
])
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call(linear(10))
