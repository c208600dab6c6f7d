"""The widget of chapter 6: its ends are those of the papers' formulas, its curves fall by order."""

import time

import numpy as np
import pytest
from conftest import check_forms, check_pictures, redraw_seconds

from minidiff import show
from minidiff.data import two_moons
from minidiff.show.solvers import (BEYOND, NOISIEST, PATHS, POINTS, SOLVERS, SPACINGS, exact, moon,
                                   path, spread, steps_for, table)

STATES = [{"nfe": 7}, {"nfe": 7, "solver": "Heun"}, {"nfe": 7, "spacing": "Karras"}, {"nfe": 23}]
CENTRES, VARIANCE = two_moons(per_moon=20).means, two_moons(per_moon=20).covs[0, 0, 0]
START = np.random.default_rng(0).standard_normal((POINTS, 2))


@pytest.fixture(scope="module")
def widget():
    return show.solvers()


@pytest.fixture(scope="module")
def truth():
    """The ends by a fourth-order method of its own: dy/dlog σ = y - D(y; σ), y = x/alpha."""
    y, u = START * np.hypot(1, NOISIEST), np.log(NOISIEST)
    step = (np.log(1e-3) - u) / 400
    for _ in range(400):
        k1 = y - best(y, np.exp(u))
        k2 = y + step / 2 * k1 - best(y + step / 2 * k1, np.exp(u + step / 2))
        k3 = y + step / 2 * k2 - best(y + step / 2 * k2, np.exp(u + step / 2))
        k4 = y + step * k3 - best(y + step * k3, np.exp(u + step))
        y, u = y + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4), u + step
    return best(y, np.exp(u))


def best(y, sigma):
    """E[x0 | x0 + sigma·eps = y] of 40 bells, by Bayes' rule."""
    square = ((y[:, None] - CENTRES) ** 2).sum(axis=2)
    share = np.exp(-(square - square.min(axis=1, keepdims=True)) / (2 * (VARIANCE + sigma**2)))
    share /= share.sum(axis=1, keepdims=True)
    return share @ CENTRES + VARIANCE / (VARIANCE + sigma**2) * (y - share @ CENTRES)


def literally(solver, alpha, sigma):
    """Where START ends: each method as its paper writes it, on rows 0..T of this table."""
    x, before, T = START, None, len(alpha) - 1
    for t in range(T, 0, -1):
        a, b, a_s, b_s = alpha[t], sigma[t], alpha[t - 1], sigma[t - 1]
        x0 = best(x / a, b / a)
        if solver == "Heun" and t > 1:  # on dx = x0·dalpha + eps·dsigma, the mean of both ends
            ahead = a_s * x0 + b_s / b * (x - a * x0)
            x0_s = best(ahead / a_s, b_s / a_s)
            x = x + (a_s - a) * (x0 + x0_s) / 2 + (b_s - b) * (
                (x - a * x0) / b + (ahead - a_s * x0_s) / b_s) / 2
        elif solver == "DPM-Solver++(2M)" and 1 < t < T:  # Lu et al. 2022, algorithm 2
            h = np.log(a_s / b_s) - np.log(a / b)
            r = (np.log(a / b) - np.log(alpha[t + 1] / sigma[t + 1])) / h
            D = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
            x = b_s / b * x - a_s * (np.exp(-h) - 1) * D
        else:  # Song et al. 2021, eq. 12 with sigma_t = 0
            x = a_s * x0 + np.sqrt(1 - a_s**2) * (x - a * x0) / np.sqrt(1 - a**2)
        before = x0
    return x


def rows(spacing, steps):
    """alpha and sigma of rows 0..T, from sigma/alpha = 80 on."""
    k = np.arange(steps) / max(steps - 1, 1)
    if spacing == "even in t":
        angle = np.arctan(80) * np.arange(steps + 1) / steps
        return np.cos(angle), np.sin(angle)
    low, high = 1 / steps, 80.0
    ratio = {"even in log SNR": low ** (1 - k) * high**k,
             "Karras": ((1 - k) * low ** (1 / 7) + k * high ** (1 / 7)) ** 7}[spacing]
    return np.append(1, 1 / np.hypot(1, ratio)), np.append(0, ratio / np.hypot(1, ratio))


def test_a_picture_depends_on_its_state_alone(widget):
    check_pictures(widget, show.solvers, STATES)


def test_it_has_three_forms_and_the_saved_one_is_small(widget):
    check_forms(widget)


def test_it_is_built_and_redrawn_quickly(widget):
    start = time.process_time()
    show.solvers()
    assert time.process_time() - start < 3  # 1.1 s on a laptop's core
    assert redraw_seconds(widget) <= 0.060  # 11 ms


@pytest.mark.parametrize("spacing", SPACINGS)
def test_tables_have_one_top_and_the_stated_rows(spacing):
    for steps in (2, 3, 12, 23):
        made, (alpha, sigma) = table(spacing, steps), rows(spacing, steps)
        np.testing.assert_allclose(made.alpha, alpha, rtol=1e-12)
        np.testing.assert_allclose(made.sigma, sigma, rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_evaluations_are_counted(solver):
    """By a denoiser that counts: as many as the slider says, each time."""
    for nfe in (3, 7, 23):
        calls, made = [], table("Karras", steps_for(solver, nfe))

        def counting(x, t):
            calls.append(t)
            return x, x

        assert len(list(SOLVERS[solver][0](counting, made, START))) == made.T + 1
        assert len(calls) == nfe


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_ends_and_errors_are_the_papers(widget, truth, solver, spacing):
    for nfe in (3, 11):
        ends = literally(solver, *rows(spacing, steps_for(solver, nfe)))
        x = path(solver, table(spacing, steps_for(solver, nfe)), START)
        np.testing.assert_allclose(x[-1], ends, atol=1e-9)
        numbers = widget.pixels(nfe=nfe, solver=solver, spacing=spacing)[1]
        miss = np.hypot(*(ends - truth).T)
        assert numbers["error"] == pytest.approx(np.median(miss), abs=5e-5)
        assert numbers["wrong"] == (moon(ends) != moon(truth)).mean()
        assert numbers["steps"] == steps_for(solver, nfe)


def test_the_exact_ends_are(truth):
    assert np.sqrt(((exact(START)[-1] - truth) ** 2).sum(axis=1).mean()) < 2e-5


def test_curves_fall_by_their_order(widget):
    """Their ends, from 47 to 95 evaluations; the dot lies on the chosen one."""
    widget.pixels(nfe=11, solver="Heun", spacing="Karras")
    moving = [line for line in widget.picture.figure.axes[1].lines if line.get_animated()]
    *curves, dot = moving
    for (solver, order), curve in zip({"DDIM": 1, "Heun": 2, "2M": 2}.items(), curves):
        nfe, error = curve.get_data()
        assert tuple(nfe[-4:]) == BEYOND == (31, 47, 63, 95)
        slope = np.log(error[-1] / error[-3]) / np.log(nfe[-1] / nfe[-3])
        assert slope == pytest.approx(-order, abs=0.15), solver
    x, y = dot.get_data()
    assert x[0] == 11 and y[0] == dict(zip(*curves[1].get_data()))[11]


def test_numbers_tell_the_story(widget):
    at = {solver: widget.pixels(nfe=7, solver=solver)[1] for solver in SOLVERS}
    assert at["DDIM"]["error"] == at["DDIM"]["error_ddim"] == at["Heun"]["error_ddim"]
    assert [numbers["steps"] for numbers in at.values()] == [7, 4, 7]
    assert at["DPM-Solver++(2M)"]["error"] < at["DDIM"]["error"] / 4
    assert at["DPM-Solver++(2M)"]["wrong"] < 0.05 < 0.1 < at["DDIM"]["wrong"]


def test_what_is_drawn(widget, truth):
    """Ends, and a line from each to where it should be, in the colours of the true ends."""
    from matplotlib.colors import to_rgba_array

    widget.pixels(nfe=5, solver="DDIM", spacing="even in t")
    plane = widget.picture.figure.axes[0]
    ends, = (a for a in plane.collections if a.get_animated())
    few = spread(truth)
    assert len(set(few)) == PATHS
    last = path("DDIM", table("even in t", 5), START)[-1, few]
    np.testing.assert_allclose(ends.get_offsets(), last)
    np.testing.assert_allclose(ends.get_facecolor(),
                               to_rgba_array(np.array(show.GROUPS)[moon(truth[few])]))
    misses = np.transpose(plane.lines[-1].get_data()).reshape(PATHS, 3, 2)
    np.testing.assert_allclose(misses[:, 0], last)
    np.testing.assert_allclose(misses[:, 1], truth[few], atol=1e-3)
