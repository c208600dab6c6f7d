"""The widgets of chapter 2: pure pictures whose numbers, and whose arrows, are the mathematics'."""


import numpy as np
import pytest
from conftest import check_forms, redraw_seconds

from minidiff import show
from minidiff.data import eight_gaussians, two_moons
from minidiff.mixture import GaussianMixture
from minidiff.quadrature import expect
from minidiff.schedule import cosine
from minidiff.show.field import HALF
from minidiff.show.langevin import exact_spread, run
from minidiff.show.objectives import candidate, constants, exact

MAKERS = {"field": show.field, "langevin": show.langevin, "objectives": show.objectives}
STATES = {"field": [{"t": 12}, {"t": 12, "cloud": "two moons"}, {"t": 100}],
          "langevin": [{"k": 80}, {"k": 80, "sigma": "1.0"}, {"k": 80, "eta": "1.5"}],
          "objectives": [{"m": -0.5}, {"m": 1.0}, {"m": 1.25}]}
CLOUDS = {"eight Gaussians": eight_gaussians(), "two moons": two_moons(per_moon=20)}
NAMES = ("explicit", "implicit", "denoising", "sliced")


@pytest.fixture(scope="module")
def widgets():
    return {name: make() for name, make in MAKERS.items()}


@pytest.fixture(params=MAKERS)
def widget(request, widgets):
    return widgets[request.param]


def noised_humps(m):
    """The mixture of the objectives with its right hump at m, in the package's own form."""
    return GaussianMixture([0.4, 0.6], [[-1.5], [m]], [[[0.25]], [[0.25]]])


def test_a_picture_depends_on_its_state_alone(widget):
    a, b, c = STATES[widget.name]
    at_a = widget.draw(**a)
    assert len({at_a, widget.draw(**b), widget.draw(**c)}) == 3, "different states, pictures"
    assert widget.draw(**a) == at_a
    assert MAKERS[widget.name]().draw(**a) == at_a


def test_moving_a_control_moves_the_numbers(widget):
    name, slider = widget.axis
    before = dict(widget.numbers)
    widget.controls[name].value = slider.max
    assert widget.numbers == widget.pixels(**{name: slider.max})[1] != before
    assert all(type(number) in (int, float) for number in widget.numbers.values())
    widget.controls[name].value = slider.value


def test_a_redraw_takes_less_than_a_frame(widget):
    assert redraw_seconds(widget) <= 0.080  # 9 to 17 ms on a laptop's core


def test_it_has_three_forms_and_the_saved_one_is_small(widget):
    check_forms(widget)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("t", [1, 10, 40, 100])
def test_the_size_of_the_score_is_exact(widgets, cloud, t):
    """Against Gauss-Hermite quadrature, whose error is stated; the widget's grid promises 1e-3."""
    alpha, sigma = cosine(100).alpha[t], cosine(100).sigma[t]
    mixture = CLOUDS[cloud]
    square, error = expect(mixture, lambda x: (mixture.score(x, alpha, sigma) ** 2).mean(axis=1),
                           alpha, sigma, nodes=20)
    _, numbers = widgets["field"].pixels(t=t, cloud=cloud)
    assert numbers["rms_score"] == pytest.approx(np.sqrt(square), rel=2e-3 + error / square)
    assert (numbers["alpha"], numbers["sigma"], numbers["limit"]) == (alpha, sigma, 1 / sigma)
    assert numbers["rms_score"] < numbers["limit"]


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("t", [5, 60])
def test_arrows_are_the_gradient_of_the_log_density(widgets, cloud, t):
    widgets["field"].pixels(t=t, cloud=cloud)
    arrows, = (artist for artist in widgets["field"].picture.moving if hasattr(artist, "U"))
    x, drawn = arrows.XY, np.stack([arrows.U, arrows.V], axis=1)
    step = 1e-5 * np.eye(2)
    gradient = np.stack([np.subtract(*(CLOUDS[cloud].log_prob(x + sign * d, cosine(100).alpha[t],
                                                              cosine(100).sigma[t])
                                       for sign in (1, -1))) / 2e-5 for d in step], axis=1)
    size = np.linalg.norm(gradient, axis=1, keepdims=True)
    np.testing.assert_allclose(drawn, gradient / (size + HALF), atol=1e-6)


def test_field_refuses_a_cloud_that_is_not_flat():
    deep = GaussianMixture([1.0], np.zeros((1, 3)), np.eye(3)[None])
    with pytest.raises(ValueError, match=r"clouds\['deep'\] must be in the plane"):
        show.field({"flat": eight_gaussians(), "deep": deep})


def test_field_takes_other_clouds_and_schedules():
    two = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [np.eye(2) / 4] * 2)
    other = show.field({"one": eight_gaussians(), "two": two}, cosine(30))
    assert other.plain["t"].max == other.plain["t"].value == 30, "29 has no other whole strides"
    assert other.pixels(t=30, cloud="two")[1]["limit"] == 1 / cosine(30).sigma[30]


@pytest.mark.parametrize("eta", [0.1, 0.3])
def test_walkers_settle_as_wide_as_the_recursion_says(eta):
    """On one hill, far from the others, a step is (1 - eta)·x + sqrt(2·eta)·s·z, whose variance
    settles at s²/(1 - eta/2). n = 24,000 numbers that hardly hang together: 5 standard errors are
    2.3 %, missed once in two million seeds, and these are fixed."""
    x = np.concatenate([run(eta, 0.0, seed)[100::20] for seed in range(5)])
    std = (x - eight_gaussians().means[5]).std()
    assert std == pytest.approx(0.1 / np.sqrt(1 - eta / 2), rel=5 / np.sqrt(2 * x.size))


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
def test_the_exact_spread_is_that_of_many_draws(sigma):
    """n = 400,000; five standard errors."""
    rng = np.random.default_rng(1)
    x = eight_gaussians().sample(400_000, rng) + sigma * rng.standard_normal((400_000, 2))
    square = ((x[:, None] - eight_gaussians().means) ** 2).sum(axis=2).min(axis=1)
    error = 5 * square.std() / np.sqrt(len(square))
    assert abs(exact_spread(sigma) ** 2 - square.mean()) < error
    assert exact_spread(sigma, 40) == pytest.approx(exact_spread(sigma), rel=1e-9)


def test_langevin_numbers_are_those_of_the_walkers(widgets):
    _, numbers = widgets["langevin"].pixels(k=120, eta="0.1", sigma="0.3")
    away = np.linalg.norm(run(0.1, 0.3, 0)[120][:, None] - eight_gaussians().means, axis=2)
    counts = np.bincount(away.argmin(axis=1), minlength=8)
    assert numbers["share_max"] == counts.max() / 400
    assert numbers["modes_reached"] == sum(counts >= 4)
    assert numbers["spread"] == pytest.approx(np.sqrt((away.min(axis=1) ** 2).mean()))
    assert numbers["exact_spread"] == pytest.approx(exact_spread(0.3))


def test_noise_opens_the_way_and_step_size_decides_the_width(widgets):
    def end(eta, sigma):
        return widgets["langevin"].pixels(k=200, eta=eta, sigma=sigma)[1]

    stuck, free, blurred = (end("0.1", sigma) for sigma in ("0.1", "0.3", "1.0"))
    assert stuck["share_max"] > 0.9 and stuck["modes_reached"] <= 3
    assert free["share_max"] < 0.3 and free["modes_reached"] == 8
    # Of n = 400 an eighth is 50 with a standard error of 6.6; the fullest of eight stays within 4.
    assert blurred["share_max"] < (50 + 4 * 6.6) / 400
    start = widgets["langevin"].pixels(k=0)[1]["spread"]
    assert end("0.001", "0.3")["spread"] > 0.8 * start, "hardly moved"
    for settled in (stuck, free, blurred):  # n = 400: a standard error of 2.5 %, and eta's own 3 %
        assert settled["spread"] == pytest.approx(settled["exact_spread"], rel=0.13)
    assert end("1.5", "0.1")["spread"] > 1.7 * stuck["exact_spread"]


@pytest.mark.parametrize("m", [-0.5, 0.3, 1.0, 2.5])
def test_the_candidate_is_a_mixtures_score_and_slope(m):
    x = np.linspace(-5, 5, 101)
    s, slope = candidate(x, m)
    np.testing.assert_allclose(s, noised_humps(m).score(x[:, None], 1.0, 0.5)[:, 0], atol=1e-12)
    above, below = candidate(x + 1e-5, m)[0], candidate(x - 1e-5, m)[0]
    np.testing.assert_allclose(slope, (above - below) / 2e-5, atol=1e-8)


@pytest.mark.parametrize("m", [-0.5, 0.8, 2.5])
def test_objectives_are_their_definitions(widgets, m):
    """By sums over the plane of (x0, eps), scores from the mixture and slopes by differences."""
    x0, eps = np.meshgrid(np.linspace(-5, 5, 401), np.linspace(-6.5, 6.5, 261), indexing="ij")
    p = np.exp(noised_humps(1.0).log_prob(x0[:, :1]))[:, None] * np.exp(-(eps**2) / 2)
    p = (p / p.sum()).ravel()
    x, eps = (x0 + 0.5 * eps).reshape(-1, 1), eps.ravel()

    def score(m, shift=0.0):
        return noised_humps(m).score(x + shift, 1.0, 0.5)[:, 0]

    s, slope = score(m), (score(m, 1e-5) - score(m, -1e-5)) / 2e-5
    want = {"explicit": p @ (s - score(1.0)) ** 2 / 2, "implicit": p @ (s**2 / 2 + slope),
            "denoising": p @ (s + eps / 0.5) ** 2 / 2}
    _, numbers = widgets["objectives"].pixels(m=m)
    for name, value in want.items():
        assert numbers[name] == pytest.approx(value, abs=1e-8)
    assert numbers["sliced"] == numbers["implicit"]


def test_gaps_stand_still_and_all_are_least_at_the_truth(widgets):
    ms = np.linspace(-0.5, 2.5, 61)
    table = {name: np.array([exact(m)[name] for m in ms]) for name in NAMES}
    gaps = constants()
    for gap, values in (("explicit_minus_implicit", table["explicit"] - table["implicit"]),
                        ("denoising_minus_explicit", table["denoising"] - table["explicit"])):
        np.testing.assert_allclose(values, gaps[gap], rtol=0, atol=1e-10)
        assert widgets["objectives"].numbers[gap] == gaps[gap]
    assert sum(gaps.values()) == pytest.approx(1 / (2 * 0.5**2), abs=1e-12)
    assert {name: ms[values.argmin()] for name, values in table.items()} == {n: 1.0 for n in NAMES}


@pytest.mark.parametrize("m", [-0.5, 0.5, 1.0, 2.5])
def test_estimates_lie_within_their_error_bars(widgets, m):
    """n = 5000, 4.5 standard errors, missed once in 150,000 seeds; the bars' length within 20 %,
    since the sliced objective's heavy tail leaves it no better known."""
    widget = widgets["objectives"]
    _, numbers = widget.pixels(m=m)
    rng = np.random.default_rng(2)
    x = noised_humps(1.0).sample(200_000, rng)[:, 0]
    eps, v = rng.standard_normal((2, 200_000))
    x = x + 0.5 * eps
    s, slope = candidate(x, m)
    spread = {"explicit": ((s - candidate(x, 1.0)[0]) ** 2 / 2).std(),
              "implicit": (slope + s**2 / 2).std(), "denoising": ((s + 2 * eps) ** 2 / 2).std(),
              "sliced": (v**2 * slope + (v * s) ** 2 / 2).std()}
    for name in NAMES:
        error = numbers[f"se_{name}"]
        assert error == pytest.approx(spread[name] / np.sqrt(5000), rel=0.2, abs=1e-12)
        assert abs(numbers[f"mc_{name}"] - numbers[name]) <= 4.5 * error
    dots, = (a for a in widget.picture.figure.axes[1].collections if a.get_animated())
    assert set(dots.get_offsets()[:, 1]) == {numbers[f"mc_{name}"] for name in NAMES}
