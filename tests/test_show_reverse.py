"""The widget of chapter 4: the chain that it draws is the sampler's, its odds are Bayes' rule."""


import numpy as np
import pytest
from conftest import check_forms, check_pictures, redraw_seconds

from minidiff import show
from minidiff.data import eight_gaussians, two_moons
from minidiff.process import posterior
from minidiff.schedule import cosine
from minidiff.show.reverse import CLOUDS, GROUPS, POINTS, T, chain, group_odds, stray

STATES = [{"r": 60}, {"r": 60, "steps": "4"}, {"r": 60, "cloud": "two moons"}, {"r": 100}]


@pytest.fixture(scope="module")
def widget():
    return show.reverse()


def test_a_picture_depends_on_its_state_alone(widget):
    check_pictures(widget, show.reverse, STATES)


def test_it_has_three_forms_and_the_saved_one_is_small(widget):
    check_forms(widget)


def test_a_redraw_takes_less_than_a_frame(widget):
    assert redraw_seconds(widget) <= 0.080  # 9 to 17 ms on a laptop's core


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_chain_is_the_posterior_with_the_guess_put_in(cloud):
    """Its first three steps, from the box of the chapter, on the same luck."""
    rows, x = chain(cloud, 4, 0)
    assert rows.tolist() == [100, 75, 50, 25, 0] and x.shape == (5, POINTS, 2)
    rng, schedule, mixture = np.random.default_rng(0), cosine(T), CLOUDS[cloud]
    xt = rng.standard_normal((POINTS, 2))
    for k in range(3):
        np.testing.assert_allclose(x[k], xt, atol=1e-9)
        t, s = rows[k], rows[k + 1]
        c0, ct, v = posterior(schedule, s, t)
        guess = mixture.posterior_mean(xt, schedule.alpha[t], schedule.sigma[t])
        xt = c0 * guess + ct * xt + np.sqrt(v) * rng.standard_normal(xt.shape)


@pytest.mark.parametrize("t", [20, 60])
def test_odds_are_bayes_rule(t):
    """For the moons by adding up 20 + 20 bells, for the eight by one bell each."""
    x, (alpha, sigma) = np.random.default_rng(0).standard_normal((50, 2)), cosine(T).at(t, np.zeros(1))
    for cloud, mixture, groups in (("two moons", two_moons(per_moon=20), 2),
                                   ("eight Gaussians", eight_gaussians(), 8)):
        square = ((x[:, None] - alpha * mixture.means) ** 2).sum(axis=2)
        bells = np.exp(-square / (2 * (alpha**2 * mixture.covs[0, 0, 0] + sigma**2)))
        bells = np.stack([part.sum(axis=1) for part in np.split(bells, groups, axis=1)], axis=1)
        np.testing.assert_allclose(group_odds(cloud, x, t), bells / bells.sum(axis=1, keepdims=True),
                                   atol=1e-12)


def test_strays_are_far_from_every_centre():
    x = eight_gaussians().means[:2] + [[0.49, 0.0], [0.0, 0.51]]
    assert stray("eight Gaussians", x).tolist() == [False, True]


def test_numbers_tell_the_story(widget):
    def at(r, steps="100", cloud="eight Gaussians"):
        return widget.pixels(r=r, steps=steps, cloud=cloud)[1]

    sure = [at(r)["sure"] for r in range(0, 101, 10)]
    assert sure[0] == pytest.approx(1 / 8, abs=0.01) and sure[-1] > 0.99
    assert (np.diff(sure) > 0).all()
    assert at(0, cloud="two moons")["sure"] == pytest.approx(1 / 2, abs=0.01)
    assert [at(r, "4")["t"] for r in (0, 24, 25, 60, 99, 100)] == [100, 100, 75, 50, 25, 0]
    assert at(100)["strays"] < 0.01 < 0.05 < at(100, "4")["strays"]


def test_points_wear_the_colour_of_their_end(widget):
    widget.pixels(r=30, steps="100", cloud="eight Gaussians")
    dots = next(a for a in widget.picture.figure.axes[0].collections if len(a.get_offsets()) == POINTS)
    _, x = chain("eight Gaussians", 100, 0)
    np.testing.assert_allclose(dots.get_offsets(), x[30])
    away = np.linalg.norm(x[-1][:, None] - eight_gaussians().means, axis=2)
    from matplotlib.colors import to_rgba_array
    np.testing.assert_allclose(dots.get_facecolor(), to_rgba_array(np.array(GROUPS)[away.argmin(axis=1)]))
