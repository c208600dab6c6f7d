"""Samplers: each step against its paper's formula, whole runs against closed forms."""

import numpy as np
import pytest

from minidiff.data import eight_gaussians
from minidiff.denoise import denoiser
from minidiff.mixture import GaussianMixture
from minidiff.process import posterior
from minidiff.sampler import ddim, ddpm, dpmpp_2m, heun, langevin, last, sde
from minidiff.schedule import Schedule, cosine, flow, karras, linear


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


@pytest.mark.parametrize("schedule, kind", [(karras(20), "edm"), (flow(20), "flow")])
def test_a_heun_step_is_that_of_karras_et_al(schedule, kind):
    """Their algorithm 1, by sigma for EDM and by time for flow matching, with the slope of each."""
    denoise = denoiser(lambda x, c: np.sin(x), schedule, kind)

    def slope(x, t):
        x0, eps = denoise(x, t)
        return (x - x0) / schedule.sigma[t] if kind == "edm" else eps - x0

    states = list(heun(denoise, schedule, np.random.default_rng(0).standard_normal((5, 2))))
    assert [t for t, _ in states] == list(range(20, -1, -1))
    for (t, xt), (_, xs) in zip(states, states[1:]):
        step = schedule.sigma[t - 1] - schedule.sigma[t]
        literal = xt + step * slope(xt, t)
        if t > 1:
            literal = xt + step * (slope(xt, t) + slope(literal, t - 1)) / 2
        np.testing.assert_allclose(xs, literal, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("schedule", [cosine(20), karras(20)])
def test_a_dpmpp_step_is_that_of_lu_et_al(schedule):
    """Their algorithm 2, in lambda = log(alpha/sigma), h and r; the first and the last step are DDIM's."""
    denoise = denoiser(lambda x, c: np.sin(x), schedule)
    states = list(dpmpp_2m(denoise, schedule, np.random.default_rng(0).standard_normal((5, 2))))
    assert [t for t, _ in states] == list(range(20, -1, -1))
    alpha, sigma = schedule.alpha, schedule.sigma
    lam = np.log(alpha[1:]) - np.log(sigma[1:])  # of rows 1..T
    for (u, xu), (t, xt), (s, xs) in zip(states, states[1:], states[2:-1]):
        h, r = lam[s - 1] - lam[t - 1], (lam[t - 1] - lam[u - 1]) / (lam[s - 1] - lam[t - 1])
        D = (1 + 1 / (2 * r)) * denoise(xt, t)[0] - 1 / (2 * r) * denoise(xu, u)[0]
        literal = sigma[s] / sigma[t] * xt - alpha[s] * (np.exp(-h) - 1) * D
        np.testing.assert_allclose(xs, literal, rtol=1e-9, atol=1e-12)
    for (t, xt), (s, xs) in (states[:2], states[-2:]):
        x0, eps = denoise(xt, t)
        np.testing.assert_allclose(xs, alpha[s] * x0 + sigma[s] * eps, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("schedule", [linear(20, 1e-3, 0.2), karras(20)])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 1.5])
def test_an_sde_step_is_that_of_euler_and_maruyama(schedule, eta):
    """The ODE's step, the pull of the score that makes good for the noise, and the noise: Karras et al.'s
    eq. 6. What the forward step adds is beta where Ho et al. say so, sigma_t² - sigma_s² in EDM."""
    denoise, noise = denoiser(lambda x, c: np.sin(x), schedule), np.random.default_rng(1)
    x = np.random.default_rng(0).standard_normal((5, 2))
    states = list(sde(denoise, schedule, x, np.random.default_rng(1), eta))
    added = schedule.beta if schedule.alpha[-1] < 1 else np.append(0, np.diff(schedule.sigma**2))
    for (t, xt), (s, xs) in zip(states, states[1:]):
        x0, eps = denoise(xt, t)
        literal = schedule.alpha[s] * x0 + schedule.sigma[s] * eps
        if s > 0:
            score = -eps / schedule.sigma[t]
            literal = literal + eta**2 / 2 * added[t] * score
            if eta:
                literal = literal + eta * np.sqrt(added[t]) * noise.standard_normal(x.shape)
        np.testing.assert_allclose(xs, literal, rtol=1e-9, atol=1e-12)


SHRINKING = {  # tables of N rows whose last step, to row 0, shrinks at least as fast as 1/N
    "flow": flow,
    "cosine": lambda N: cosine(N, s=0),
    "ve": lambda N: karras(N, sigma_min=2 / N**2),
    "vp": lambda N: karras(N, sigma_min=2 / N**2).rescaled("vp"),
}


def error(solver, schedule, v=0.25):
    """On N(0, v) the ODE keeps x_t / sqrt(alpha²v + sigma²): how far a solver is off, relatively."""
    start, end = np.sqrt(schedule.alpha[-1] ** 2 * v + schedule.sigma[-1] ** 2), np.sqrt(v)
    x = last(solver(gaussian(v).denoiser(schedule), schedule, np.array([[-1.0], [0.3], [2.0]])))
    return abs(x * start / (end * np.array([[-1.0], [0.3], [2.0]])) - 1).max()


@pytest.mark.parametrize("solver, order", [(ddim, 1), (heun, 2), (dpmpp_2m, 2)])
@pytest.mark.parametrize("name", SHRINKING)
def test_solvers_have_their_order(solver, order, name):
    """The slope of log error over log steps from 80 to 640, on tables of exactly those rows. Where sigma
    comes to zero on a straight line, the last log-SNR steps stay as long as ever; there 2M's error goes
    like log(N)/N², and its slope is 1.65 to 1.8."""
    N = np.array([80, 160, 320, 640])
    errors = [error(solver, SHRINKING[name](n)) for n in N]
    assert errors[-1] < (0.01 if order == 1 else 2e-4)
    slope = -np.polyfit(np.log(N), np.log(errors), 1)[0]
    short = 0.4 if solver is dpmpp_2m and name in ("flow", "cosine") else 0.15
    assert order - short < slope < order + 0.15, errors


def test_the_order_is_lost_where_the_last_step_does_not_shrink():
    """From a fixed sigma_1 the last step is off by v's share sqrt(v/(v + sigma_1²)), whatever N is."""
    short = 1 - np.sqrt(0.25) / np.sqrt(0.25 + 0.1**2)  # 2 %; Euler's last step ends low by that
    for solver in (heun, dpmpp_2m):
        assert error(solver, karras(2000, sigma_min=0.1)) == pytest.approx(short, rel=0.02)


@pytest.mark.parametrize("solver, rate", [(ddim, 2), (heun, 4), (dpmpp_2m, 4)])
def test_solvers_converge_on_two_dimensional_data(solver, rate):
    """Eight Gaussians: the run with twice the steps changes by that much less, on the typical point;
    and all three solvers come to the same place."""
    g, x = eight_gaussians(std=0.3), np.random.default_rng(0).standard_normal((200, 2))
    ends = []
    for N in (160, 320, 640):
        table = karras(N, 2 / N**2).rescaled("vp")
        ends.append(last(solver(g.denoiser(table), table, x)))
    steps = [np.median(np.linalg.norm(a - b, axis=1)) for a, b in zip(ends, ends[1:])]
    assert steps[0] / steps[1] == pytest.approx(rate, rel=0.2)
    exact = last(heun(g.denoiser(table), table, x))
    assert np.median(np.linalg.norm(ends[-1] - exact, axis=1)) < 2 * steps[1]


@pytest.mark.parametrize("eta", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("make", [lambda N: linear(N, 20e-3 / N, 20 / N), SHRINKING["ve"]])
def test_every_eta_leads_to_the_same_variance(eta, make):
    """On N(0, v) each step is x_s = A·x_t + h·z, so the variance is followed in closed form; it is off by
    a first-order error, whatever share eta² of the noise is drawn."""
    v, off = 0.25, []
    for N in (800, 1600):
        table = make(N)
        denoise = gaussian(v).denoiser(table)
        quiet, shout = ([x[0, 0] for _, x in sde(denoise, table, np.ones((1, 1)), noise(), eta)]
                        for noise in (Silent, Once))
        chain = table.alpha[-1] ** 2 * v + table.sigma[-1] ** 2
        for i in range(table.T):
            A = quiet[i + 1] / quiet[i]
            chain = A**2 * chain + (shout[i + 1] - A * shout[i]) ** 2
        off.append(abs(chain / v - 1))
    assert off[1] < 0.05 and off[0] / off[1] == pytest.approx(2, rel=0.1)


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


def test_states_come_one_at_a_time():
    schedule, x = linear(5), np.ones((2, 2))
    states = ddim(lambda x, t: (0 * x, x), schedule, x)
    t, first = next(states)
    assert t == 5 and first is x


SAMPLERS = {  # each as sampler(denoise, schedule, x)
    "ddim": ddim,
    "ddim, eta": lambda *a: ddim(*a, 0.5, np.random.default_rng(0)),
    "ddpm": lambda *a: ddpm(*a, np.random.default_rng(0)),
    "sde": lambda *a: sde(*a, np.random.default_rng(0)),
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
}
X = np.zeros((3, 2))


def test_the_sde_is_the_full_one_unless_said_otherwise():
    denoise, x = eight_gaussians().denoiser(linear(5)), np.ones((2, 2))
    ends = [last(sde(denoise, linear(5), x, np.random.default_rng(0), *eta)) for eta in ((), (1.0,))]
    np.testing.assert_array_equal(*ends)


def test_rounding_makes_no_root_of_a_negative_number():
    """With next to no signal in row t, all noise is fresh, and sigma_s² - g² a zero that rounding may miss."""
    for sigma in np.random.default_rng(0).uniform(0.1, 2, (50, 2)):
        schedule = Schedule([1, 1, 1e-12], [0, *sigma])
        assert np.isfinite(last(ddim(lambda x, t: (x, x), schedule, X, 1.0, np.random.default_rng(0)))).all()


class OnGPU(np.ndarray):
    """An array that says it is on a GPU, where every question would stall the queue."""
    is_cuda = True


def test_on_a_gpu_only_the_end_is_looked_at():
    rows = []
    with pytest.raises(ValueError, match="step t = 1 leads to finite numbers"):
        for t, _ in ddim(lambda x, t: (x * np.nan, x), linear(5), X.view(OnGPU)):
            rows.append(t)
    assert rows == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_yields_each_row_and_never_asks_row_zero(name):
    asked, schedule, x = [], linear(5), np.ones((2, 2), np.float32)
    states = list(SAMPLERS[name](lambda x, t: (asked.append(t) or x, x), schedule, x))
    assert [t for t, _ in states] == [5, 4, 3, 2, 1, 0]
    assert asked == ([5, 4, 4, 3, 3, 2, 2, 1, 1] if name == "heun" else [5, 4, 3, 2, 1])
    assert all(x.dtype == np.float32 for _, x in states)
    np.testing.assert_array_equal(x, 1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_is_the_denoiser_s_guess(name):
    denoise = eight_gaussians().denoiser(linear(1))
    x = np.random.default_rng(0).standard_normal((4, 2))
    np.testing.assert_allclose(last(SAMPLERS[name](denoise, linear(1), x)), denoise(x, 1)[0])


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("wrong, said", [
    (lambda x: (x * np.nan, x), r"denoise\(x, t\) must be such that step t = 3 leads to finite numbers; got"),
    (lambda x: (x + np.inf, x), "must be such that step t = 3 leads to finite numbers"),
    (lambda x: (x[:, :1], x), r"must be a pair \(x0, eps\) of x's shape \(3, 2\); got"),
    (lambda x: (x, x[:1]), "must be a pair"),
    (lambda x: x, "must be a pair"),
    (lambda x: (x, x, x), "must be a pair"),
])
def test_a_denoiser_gone_wrong_is_named_at_its_step(name, wrong, said):
    """Heun's step from row 4 looks ahead to row 3."""
    denoise, rows = lambda x, t: wrong(x) if t == 3 else (x, x), []
    said = said.replace("t = 3", "t = 4") if name == "heun" else said
    with pytest.raises(ValueError, match=said), np.errstate(invalid="ignore"):
        for t, _ in SAMPLERS[name](denoise, linear(5), X):
            rows.append(t)
    assert rows == ([5, 4] if name == "heun" else [5, 4, 3])


def test_the_last_row_may_be_pure_noise_but_not_for_the_sde():
    schedule = Schedule([1, 0.5, 0], [0, 0.5, 1])
    denoise = eight_gaussians().denoiser(schedule)
    for name in SAMPLERS.keys() - {"sde"}:
        assert np.isfinite(last(SAMPLERS[name](denoise, schedule, X))).all()


@pytest.mark.parametrize("call, said", [
    (lambda: ddim(None, linear(5), X, eta=1.5), r"eta must be in \[0, 1\]; got 1.5"),
    (lambda: ddim(None, linear(5), X, eta=0.5), "rng must be given where noise is drawn"),
    (lambda: ddpm(None, linear(5), X, None), "rng must be given"),
    (lambda: ddpm(None, linear(5), X, None, variance="medium"), "variance must be 'small' or 'large'"),
    (lambda: ddim(None, linear(5), X + np.inf), "x must be finite"),
    (lambda: ddim(None, linear(5), X + np.nan), "x must be finite"),
    (lambda: heun(None, linear(5), X + np.nan), "x must be finite"),
    (lambda: dpmpp_2m(None, linear(5), X + np.nan), "x must be finite"),
    (lambda: sde(None, linear(5), X, None, eta=-0.5), "eta must be >= 0; got -0.5"),
    (lambda: sde(None, linear(5), X, None, eta=np.inf), "eta must be >= 0; got inf"),
    (lambda: sde(None, linear(5), X, None), "rng must be given where noise is drawn"),
    (lambda: sde(None, flow(5), X, None), "alpha must be > 0 in every row"),
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
    z = np.random.default_rng(1).standard_normal((4, 2))
    first, second = langevin(np.sin, z, 0.1, 1, np.random.default_rng(0))
    noise = np.random.default_rng(0).standard_normal((4, 2))
    np.testing.assert_allclose(second, z + 0.1 * np.sin(z) + np.sqrt(0.2) * noise)
    with pytest.raises(ValueError, match="eta must be > 0"):
        langevin(None, X, 0.0, 10, None)
    with pytest.raises(ValueError, match="steps must be >= 1"):
        langevin(None, X, 0.1, 0, None)
