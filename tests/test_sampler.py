"""Samplers: each step against its paper's formula, whole runs against closed forms."""

import numpy as np
import pytest

from minidiff.data import eight_gaussians
from minidiff.denoise import denoiser
from minidiff.mixture import GaussianMixture
from minidiff.process import posterior
from minidiff.sampler import ddim, ddpm, langevin, last
from minidiff.schedule import cosine, flow, karras, linear


def gaussian(variance):
    return GaussianMixture([1.0], np.zeros((1, 1)), np.full((1, 1, 1), variance))


def test_a_ddpm_step_is_that_of_ho_et_al():
    """Their algorithm 2 with eq. 11, in beta and alpha_bar, on the same noise."""
    schedule, network = linear(20, 1e-3, 0.2), lambda x, c: np.sin(x)
    x = np.random.default_rng(0).standard_normal((5, 2))
    for variance in ("small", "large"):
        noise = np.random.default_rng(1)
        states = list(ddpm(denoiser(network, schedule), schedule, x, np.random.default_rng(1), variance))
        assert [t for t, _ in states] == list(range(20, -1, -1))
        for (t, xt), (_, xs) in zip(states, states[1:]):
            beta, ab, ab_before = schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
            v = (1 - ab_before) / (1 - ab) * beta if variance == "small" else beta
            z = noise.standard_normal(x.shape) if t > 1 else 0.0
            literal = (xt - beta / np.sqrt(1 - ab) * np.sin(xt)) / np.sqrt(1 - beta) + np.sqrt(v) * z
            np.testing.assert_allclose(xs, literal, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_ddim_step_is_that_of_song_et_al(eta):
    """Their eq. 12 with sigma of eq. 16, in alpha_bar (their alpha), on the same noise."""
    schedule, network = linear(20, 1e-3, 0.2), lambda x, c: np.sin(x)
    x, noise = np.random.default_rng(0).standard_normal((5, 2)), np.random.default_rng(1)
    states = list(ddim(denoiser(network, schedule), schedule, x, eta, np.random.default_rng(1)))
    for (t, xt), (_, xs) in zip(states, states[1:]):
        a, a_before, eps = schedule.alpha_bar[t], schedule.alpha_bar[t - 1], np.sin(xt)
        g = eta * np.sqrt((1 - a_before) / (1 - a)) * np.sqrt(1 - a / a_before)
        z = noise.standard_normal(x.shape) if g > 0 else 0.0
        x0 = (xt - np.sqrt(1 - a) * eps) / np.sqrt(a)
        literal = np.sqrt(a_before) * x0 + np.sqrt(1 - a_before - g**2) * eps + g * z
        np.testing.assert_allclose(xs, literal, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule, kind", [(karras(20), "edm"), (flow(20), "flow")])
def test_ddim_is_euler_on_the_edm_and_flow_odes(schedule, kind):
    network = lambda x, c: np.sin(x)
    x = np.random.default_rng(0).standard_normal((5, 2))
    denoise = denoiser(network, schedule, kind)
    states = list(ddim(denoise, schedule, x))
    for (t, xt), (_, xs) in zip(states, states[1:]):
        x0, eps = denoise(xt, t)
        slope = (xt - x0) / schedule.sigma[t] if kind == "edm" else eps - x0
        np.testing.assert_allclose(xs, xt + (schedule.sigma[t - 1] - schedule.sigma[t]) * slope, rtol=1e-9)


@pytest.mark.parametrize("schedule", [linear(1000), cosine(1000), karras(1000), flow(1000)])
def test_ddim_follows_the_exact_flow_of_a_gaussian(schedule):
    """On N(0, v) the ODE keeps x_t / sqrt(alpha²v + sigma²) constant; 1000 Euler steps come within 1 %,
    halving the step halves the error."""
    v, x = 0.25, np.array([[-1.0], [0.3], [2.0]])
    scale = np.sqrt(schedule.alpha[-1] ** 2 * v + schedule.sigma[-1] ** 2)
    exact = x * np.sqrt(v) / scale
    error = []
    for table in (schedule, schedule.select(range(0, 1001, 2))):
        error.append(abs(last(ddim(gaussian(v).denoiser(table), table, x)) / exact - 1).max())
    assert error[0] < 0.01
    assert error[1] / error[0] == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("variance, v0", [("small", 1e-12), ("large", 1.0)])
def test_each_ddpm_variance_is_exact_where_ho_et_al_say(variance, v0):
    """Small for data at a point, large for N(0, 1): the variance of the chain, followed in closed form,
    since for Gaussian data each step is x_s = A·x_t + h·z. The small chain must reach the point."""
    schedule = linear(100, 1e-3, 0.2)
    denoise, x = gaussian(v0).denoiser(schedule), np.ones((1, 1))
    quiet = [x_t[0, 0] for _, x_t in ddpm(denoise, schedule, x, Silent(), variance)]
    shout = [x_t[0, 0] for _, x_t in ddpm(denoise, schedule, x, Once(), variance)]
    chain = schedule.alpha[-1] ** 2 * v0 + schedule.sigma[-1] ** 2
    for i, t in enumerate(range(schedule.T, 0, -1)):
        A, h = quiet[i + 1] / quiet[i], (shout[i + 1] / shout[i] - quiet[i + 1] / quiet[i]) * shout[i]
        chain = A**2 * chain + h**2
        truth = schedule.alpha[t - 1] ** 2 * v0 + schedule.sigma[t - 1] ** 2
        if t > 1:
            assert chain == pytest.approx(truth, rel=1e-6)
    # the last step adds no noise, so for N(0, 1) it ends short by the last step's variance
    assert chain == pytest.approx(v0 if variance == "small" else 1 - schedule.beta[1], rel=1e-3)


class Silent:
    """A generator that only ever draws zeros; `Once` only ones: to read off a step's two numbers."""
    value = 0.0

    def standard_normal(self, shape, dtype):
        return np.full(shape, self.value, dtype)


class Once(Silent):
    value = 1.0


def test_samples_come_back_to_the_data():
    """8,000 draws through 200 steps: each of the eight modes within 5 standard deviations of its share
    (1000 ± 5·29.6). So few steps come out too narrow, by 6 %; how narrow is known in closed form, the
    last steps being those of one Gaussian: 5 standard errors (2.8 %) about that."""
    g, n, schedule = eight_gaussians(std=0.1), 8000, cosine(200)
    rng = np.random.default_rng(0)
    x = last(ddpm(g.denoiser(schedule), schedule, rng.standard_normal((n, 2)), rng))
    k = g.responsibilities(x).argmax(1)
    assert (abs(np.bincount(k, minlength=8) - 1000) < 5 * np.sqrt(n * 7 / 64)).all()
    variance = 1.0
    for t in range(200, 0, -1):
        c0, ct, v = posterior(schedule, t - 1, t)
        gain = schedule.alpha[t] * 0.01 / (schedule.alpha[t] ** 2 * 0.01 + schedule.sigma[t] ** 2)
        variance = (c0 * gain + ct) ** 2 * variance + v
    spread = ((x - g.means[k]) ** 2).mean() ** 0.5
    assert abs(spread / variance**0.5 - 1) < 5 / (4 * n) ** 0.5


def test_states_come_one_at_a_time_and_leave_x_alone():
    schedule, x = linear(5), np.ones((2, 2))
    states = ddim(lambda x, t: (0 * x, x), schedule, x)
    t, first = next(states)
    assert t == 5 and first is x
    next(states)
    np.testing.assert_array_equal(x, 1)


def test_row_zero_is_never_asked():
    asked = []
    last(ddim(lambda x, t: (asked.append(t) or x, x), linear(5), np.ones((2, 2))))
    assert asked == [5, 4, 3, 2, 1]


def test_float32_stays_float32():
    schedule, x = linear(5), np.ones((2, 2), np.float32)
    assert last(ddpm(lambda x, t: (x, x), schedule, x, np.random.default_rng(0))).dtype == np.float32


X = np.zeros((3, 2))


@pytest.mark.parametrize("call, said", [
    (lambda: ddim(None, linear(5), X, eta=1.5), r"eta must be in \[0, 1\]; got 1.5"),
    (lambda: ddim(None, linear(5), X, eta=0.5), "rng must be given where noise is drawn"),
    (lambda: ddpm(None, linear(5), X, None), "rng must be given"),
    (lambda: ddpm(None, linear(5), X, None, variance="medium"), "variance must be 'small' or 'large'"),
    (lambda: ddim(None, linear(5), X + np.inf), "x must be finite"),
    (lambda: ddim(None, linear(5), X + np.nan), "x must be finite"),
])
def test_bad_input_is_named_before_the_first_step(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_langevin_settles_where_its_recursion_does():
    """On N(0, v) a step is A·x + sqrt(2·eta)·z, A = 1 - eta/v: so the variance settles at 2·eta/(1 - A²).
    n = 200,000, 5 standard errors; v itself is 20 of them away."""
    v, eta, n = 0.5, 0.1, 200_000
    states = list(langevin(lambda x: -x / v, np.zeros((n, 1)), eta, 40, np.random.default_rng(0)))
    settled = 2 * eta / (1 - (1 - eta / v) ** 2)
    assert len(states) == 41
    assert abs(states[-1].var() / settled - 1) < 5 * np.sqrt(2 / n)
    with pytest.raises(ValueError, match="eta must be > 0"):
        langevin(None, X, 0.0, 10, None)
    with pytest.raises(ValueError, match="steps must be >= 1"):
        langevin(None, X, 0.1, 0, None)
