"""The widget of chapter 5: twins by the ODE and by the SDE, in one law; its numbers recomputed."""

import functools

import numpy as np
import pytest
from conftest import check_forms, check_pictures, redraw_seconds
from matplotlib.colors import to_rgba_array

from minidiff import show
from minidiff.data import eight_gaussians
from minidiff.show.stochastic import (CLOUDS, DRAWN, EDGES, ETAS, FOLLOWED, GROUPS, LUCK, POINTS,
                                      SCHEDULE, T, TAIL, ends, exact_shares)
from minidiff.show.stochastic import run as uncached

EIGHT, MOONS = CLOUDS
STATES = [{"r": 90}, {"r": 90, "eta": 0.25}, {"r": 90, "cloud": MOONS}, {"r": 120}]
SEED = 742  # the widget's own
run = functools.cache(uncached)


@pytest.fixture(scope="module")
def widget():
    return show.stochastic()


def test_a_picture_depends_on_its_state_alone(widget):
    check_pictures(widget, show.stochastic, STATES)


def test_it_has_three_forms_and_the_saved_one_is_small(widget):
    check_forms(widget)


def test_a_redraw_takes_less_than_a_frame(widget):
    assert redraw_seconds(widget) <= 0.060  # 12 ms on a laptop's core


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("eta", [0, 0.5, 1])
def test_a_run_is_euler_maruyama_on_the_same_luck(cloud, eta):
    """Its first three steps, by score and beta; the last asks the denoiser and adds no noise."""
    x, mixture, rng = run(cloud, eta, 5), CLOUDS[cloud], np.random.default_rng(5)
    assert x.shape == (T + 1, POINTS, 2)
    xt = rng.standard_normal((POINTS, 2))
    for k in range(3):
        np.testing.assert_allclose(x[k], xt, atol=1e-9)
        t = T - k
        (alpha, sigma), (alpha_s, sigma_s) = SCHEDULE.at(t, xt), SCHEDULE.at(t - 1, xt)
        score, beta = mixture.score(xt, alpha, sigma), 1 - (alpha / alpha_s) ** 2
        x0 = (xt + sigma**2 * score) / alpha  # Tweedie
        drift = (alpha_s - alpha) * x0 - (sigma_s - sigma) * sigma * score
        z = rng.standard_normal(xt.shape)  # a walker without noise has drawn none, nor needs any
        xt = xt + drift + eta**2 / 2 * beta * score + eta * np.sqrt(beta) * z
    best = mixture.posterior_mean(x[-2], SCHEDULE.alpha[1], SCHEDULE.sigma[1])
    np.testing.assert_allclose(x[-1], best, atol=1e-12)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("t", [0, 30, 80])
def test_exact_shares_are_the_densitys_integral(cloud, t):
    """Summed over the plane by cells of 0.025 x 0.05; the narrowest bell has a width of 0.1."""
    grid = np.arange(-5, 5, 0.025) + 0.0125
    plane = np.stack(np.meshgrid(grid, grid[::2], indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(CLOUDS[cloud].log_prob(plane, SCHEDULE.alpha[t], SCHEDULE.sigma[t]))
    columns = density.reshape(len(grid), -1).sum(axis=1) * 0.025 * 0.05
    shares = exact_shares(cloud, t)
    np.testing.assert_allclose(shares, np.interp(EDGES, grid + 0.0125, np.cumsum(columns)),
                               atol=1e-3)
    assert shares[0] < 0.01 and shares[-1] > 0.99 and (np.diff(shares) >= 0).all()


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("eta", ETAS)
def test_every_eta_has_the_law_of_every_row(widget, cloud, eta):
    """n = 1000: Kolmogorov's bound at 5 % for one row, and in every row the variance to 4.5
    standard errors of at most sqrt(2/2000)."""
    for r in range(0, T + 1, 30):
        numbers = widget.pixels(r=r, eta=eta, cloud=cloud)[1]
        assert numbers["off"] < numbers["luck"] == LUCK == pytest.approx(0.043, abs=1e-4)
    assert abs(run(cloud, eta, SEED).var(axis=(1, 2)) - 1).max() < 4.5 * np.sqrt(1 / POINTS)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_at_eta_one_the_end_is_drawn_from_the_posterior(widget, cloud):
    """So the share of twins with the same end is the odds, at the start, of the ODE's own end. Four
    and a half standard errors of a share: missed once in 150,000 seeds."""
    ode = run(cloud, 0, SEED)
    odds = CLOUDS[cloud].responsibilities(ode[0], SCHEDULE.alpha[T], SCHEDULE.sigma[T])
    odds = odds.reshape(POINTS, 8 if cloud == EIGHT else 2, -1).sum(axis=2)
    want = odds[np.arange(POINTS), ends(cloud, ode[-1])].mean()
    same = widget.pixels(eta=1, cloud=cloud)[1]["same"]
    assert abs(same - want) < 4.5 * np.sqrt(want * (1 - want) / POINTS)


def test_numbers_tell_the_story(widget):
    def at(r, eta, cloud=EIGHT):
        return widget.pixels(r=r, eta=eta, cloud=cloud)[1]

    for cloud in CLOUDS:
        assert [at(r, 0.0, cloud)["apart"] for r in (0, 60, 120)] == [0, 0, 0]
        ladder = [at(120, eta, cloud) for eta in ETAS]
        assert ladder[0]["same"] == 1 and (np.diff([n["same"] for n in ladder[:4]]) < -0.05).all()
        assert (np.diff([n["apart"] for n in ladder]) > 0).all() and ladder[-1]["apart"] > 1.85
    assert at(0, 1.0)["apart"] == 0 and at(30, 1.0)["t"] == 90
    assert at(120, 1.0)["same"] < 0.2 and 0.4 < at(120, 1.0, MOONS)["same"] < 0.6
    ode, sde = run(EIGHT, 0, SEED)[70], run(EIGHT, 0.75, SEED)[70]
    assert at(70, 0.75)["apart"] == pytest.approx(np.sqrt(2 * ((sde - ode) ** 2).mean()))


def test_points_wear_the_colour_of_their_own_end(widget):
    widget.pixels(r=60, eta=0.5, cloud=EIGHT)
    for axes, eta in zip(widget.picture.figure.axes, (0, 0.5)):
        x = run(EIGHT, eta, SEED)
        away = np.linalg.norm(x[-1][:, None] - eight_gaussians().means, axis=2)
        colours = to_rgba_array(np.array(GROUPS)[away.argmin(axis=1)])
        dots, = axes.collections
        np.testing.assert_allclose(dots.get_offsets(), x[60, :DRAWN])
        np.testing.assert_allclose(dots.get_facecolor(), colours[:DRAWN])
        starts, *lines = axes.lines
        np.testing.assert_allclose(starts.get_xydata(), x[0, :FOLLOWED])
        for i, (path, head) in enumerate(zip(lines[:FOLLOWED], lines[FOLLOWED:], strict=True)):
            np.testing.assert_allclose(path.get_xydata(), x[60 - TAIL:61, i])
            np.testing.assert_allclose(head.get_xydata(), x[60:61, i])
            np.testing.assert_allclose(to_rgba_array(path.get_color()), colours[i:i + 1])


def test_bars_stand_for_shares_and_lines_for_exact_ones(widget):
    widget.pixels(r=90, eta=1.0, cloud=MOONS)
    *bars, upper, lower = widget.picture.figure.axes[2].patches
    for bar, line, eta, way in zip(bars, (upper, lower), (0, 1), (1, -1), strict=True):
        counts = np.histogram(run(MOONS, eta, SEED)[90][:, 0], EDGES)[0]
        np.testing.assert_allclose(way * bar.get_data().values * np.diff(EDGES), counts / POINTS)
        exact = np.diff(exact_shares(MOONS, T - 90))
        np.testing.assert_allclose(way * line.get_data().values * np.diff(EDGES), exact)
