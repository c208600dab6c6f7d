"""The widget of chapter 3: its pictures depend on the state alone, its numbers are the oracle's."""

import copy
import time

import numpy as np
import pytest
from conftest import check_forms

from minidiff import mlp, show
from minidiff.data import eight_gaussians, two_moons
from minidiff.denoise import denoiser
from minidiff.process import diffuse
from minidiff.sampler import ddim, last
from minidiff.schedule import cosine
from minidiff.show.training import POINTS, excess

TABLE = cosine(200)
CLOUDS = {"eight Gaussians": eight_gaussians(), "two moons": two_moons(per_moon=20)}


def stages(cloud, stops=(0, 120, 799)):
    rng = np.random.default_rng(0)
    network, kept = mlp.MLP(rng), []
    for step, _ in enumerate(mlp.train(network, cloud.sample, TABLE, rng, stops[-1] + 1)):
        if step in stops:
            kept.append((step + 1, copy.deepcopy(network)))
    return kept


@pytest.fixture(scope="module")
def runs():
    return {name: (cloud, stages(cloud)) for name, cloud in CLOUDS.items()}


@pytest.fixture(scope="module")
def widget(runs):
    return show.training(runs, TABLE)


def test_a_picture_depends_on_its_state_alone(runs, widget):
    first = widget.draw(stage=0)
    others = {widget.draw(stage=2), widget.draw(stage=2, cloud="two moons")}
    assert len({first} | others) == 3
    assert widget.draw(stage=0) == first == show.training(runs, TABLE).draw(stage=0)


def test_moving_the_slider_moves_the_numbers(widget):
    seen = []
    for stage in (0, 1, 2):
        widget.controls["stage"].value = stage
        seen.append(dict(widget.numbers))
    assert [numbers["step"] for numbers in seen] == [1, 121, 800]
    assert seen[0]["error"] > 1.5 * seen[1]["error"] > 3 * seen[2]["error"] > 0
    assert all(type(number) in (int, float) for numbers in seen for number in numbers.values())


def test_the_oracle_has_no_excess_and_a_silent_network_a_known_one():
    """Who says y = 0 for kind "eps" misses E|E[eps | x]|² = E|sigma·score|²: n = 3,000 a row."""
    cloud, rows = CLOUDS["eight Gaussians"], np.repeat([20, 100, 190], 20)

    def oracle(x, log_snr):  # the table preserves variance
        alpha, sigma = (1 + np.exp(-log_snr)) ** -0.5, (1 + np.exp(log_snr)) ** -0.5
        return -sigma * cloud.score(x, alpha, sigma)

    assert excess(oracle, cloud, TABLE, "eps", rows).max() < 1e-12
    silent = excess(lambda x, log_snr: 0 * x, cloud, TABLE, "eps", rows).reshape(3, -1).mean(axis=1)
    rng = np.random.default_rng(1)
    for t, value in zip((20, 100, 190), silent):
        x = diffuse(TABLE, cloud.sample(50_000, rng), t, rng.standard_normal((50_000, 2)))
        square = ((TABLE.sigma[t] * cloud.score(x, TABLE.alpha[t], TABLE.sigma[t])) ** 2).mean(axis=1)
        assert abs(value - square.mean()) < 5 * square.std() * np.sqrt(1 / 3000 + 1 / 50_000)


def test_the_points_are_made_by_that_stages_network(runs, widget):
    widget.pixels(stage=2)
    dots, = (artist for artist in widget.picture.moving if hasattr(artist, "get_offsets"))
    few = TABLE.select(np.rint(np.linspace(0, 200, 26)).astype(int))
    noise = np.random.default_rng(0).standard_normal((POINTS, 2))
    made = last(ddim(denoiser(runs["eight Gaussians"][1][2][1], few, "v"), few, noise))
    np.testing.assert_allclose(dots.get_offsets(), made, rtol=1e-6)


def test_it_has_three_forms_is_small_and_quick(runs, widget):
    start = time.process_time()
    show.training(runs, TABLE)
    assert time.process_time() - start < 1.5
    check_forms(widget)


def test_it_refuses_runs_that_do_not_match(runs):
    name = "two moons"
    cloud, kept = runs[name]
    with pytest.raises(ValueError, match="runs must be two or more; got"):
        show.training({name: (cloud, kept)}, TABLE)
    with pytest.raises(ValueError, match="stages must be two or more, as many for each; got"):
        show.training({**runs, name: (cloud, kept[:2])}, TABLE)
