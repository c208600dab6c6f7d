"""The widget of chapter 8 on jumps and walks: its numbers are the denoiser's and the sampler's."""

import numpy as np
import pytest
from conftest import check_forms, check_pictures, check_quick

from minidiff import data, show
from minidiff.denoise import clipped
from minidiff.process import diffuse
from minidiff.sampler import ddim, last
from minidiff.schedule import cosine
from minidiff.show.guess import guess, like, walks

TABLE = cosine(100)
PICTURES = data.digits()[0][:4, None]
IMAGES = {str(i): picture for i, picture in enumerate(PICTURES)}


def pull(strength):
    """A denoiser that draws every picture to the mean of all, more where there's more noise."""
    def denoise(x, t):
        alpha, sigma = TABLE.at(t, x)
        x0 = (1 - strength * sigma) * x / (alpha + sigma) + strength * sigma * PICTURES.mean(axis=0)
        return x0, (x - alpha * x0) / sigma
    return clipped(denoise, TABLE)


DENOISERS = {"weak": pull(0.5), "strong": pull(0.9)}


def make():
    return guess(DENOISERS, TABLE, IMAGES)


@pytest.fixture(scope="module")
def widget():
    return make()


def test_a_picture_depends_on_its_state_alone(widget):
    check_pictures(widget, make, [{}, {"t": 10}, {"t": 100}, {"image": "2"}, {"told": "strong"}])


@pytest.mark.parametrize("t", range(10, 101, 10))
def test_every_option_moves_every_picture(widget, t):
    pictures = {widget.draw(t=t, image=image, told=told) for image in IMAGES for told in DENOISERS}
    assert len(pictures) == len(IMAGES) * len(DENOISERS)


def test_walks_are_those_of_the_sampler():
    eps = np.random.default_rng(1).standard_normal(PICTURES.shape)
    denoise = DENOISERS["weak"]
    found = walks(denoise, TABLE, PICTURES.astype(float), eps, [15, 60, 100])
    for t, (first, end) in found.items():
        xt = diffuse(TABLE, PICTURES.astype(float), t, eps)
        rows = np.arange(0, t + 1, 5)
        by_ddim = last(ddim(lambda x, i, rows=rows: denoise(x, rows[i].item()),
                            TABLE.select(rows), xt))
        np.testing.assert_allclose(first, denoise(xt, t)[0], atol=1e-12)
        np.testing.assert_allclose(end, by_ddim, atol=1e-12)
    assert sorted(found) == [15, 60, 100]


def test_the_numbers_are_the_errors(widget):
    eps = np.random.default_rng(0).standard_normal(PICTURES.shape).astype(np.float32)
    for t in (10, 55, 100):
        widget.controls["t"].value = t
        widget.controls["image"].value, widget.controls["told"].value = "3", "strong"
        xt = TABLE.alpha[t] * PICTURES + TABLE.sigma[t] * eps
        error = DENOISERS["strong"](xt, t)[0][3] - PICTURES[3]
        assert widget.numbers["jump"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
        assert widget.numbers["signal"] == pytest.approx(TABLE.alpha_bar[t], rel=1e-12)
    assert all(type(number) is float for number in widget.numbers.values())


def test_one_step_from_the_data_walk_and_jump_agree():
    eps = np.random.default_rng(1).standard_normal(PICTURES.shape)
    (first, end), = walks(DENOISERS["weak"], TABLE, PICTURES, eps, [5]).values()
    np.testing.assert_array_equal(first, end)


def test_it_runs_on_tensors_as_on_arrays(widget):
    torch = pytest.importorskip("torch")
    x = like(torch.zeros(1, dtype=torch.float32), np.ones((2, 1, 8, 8)))
    assert x.dtype == torch.float32 and x.shape == (2, 1, 8, 8)
    mean = torch.from_numpy(PICTURES.mean(axis=0))
    torched = guess({name: lambda x, t: (mean.expand_as(x), (x - TABLE.alpha.item(t) * mean)
                                         / TABLE.sigma.item(t)) for name in "ab"},
                    TABLE, {k: torch.from_numpy(v) for k, v in IMAGES.items()})
    arrays = guess({name: lambda x, t: (np.broadcast_to(PICTURES.mean(axis=0), x.shape),
                                        (x - TABLE.alpha.item(t) * PICTURES.mean(axis=0))
                                        / TABLE.sigma.item(t)) for name in "ab"}, TABLE, IMAGES)
    for t in (10, 100):
        np.testing.assert_allclose(list(torched.pixels(t=t)[1].values()),
                                   list(arrays.pixels(t=t)[1].values()), rtol=1e-5)


def test_it_has_three_forms_is_small_and_quick(widget):
    check_quick(widget, make)
    check_forms(widget)


def test_it_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match="denoisers must be two or more by name; got"):
        guess({"one": pull(0.5)}, TABLE, IMAGES)
    with pytest.raises(ValueError, match="images must be two or more by name; got"):
        guess(DENOISERS, TABLE, {"one": PICTURES[0]})
    with pytest.raises(ValueError, match="schedule must be of T divisible by 20; got 99"):
        guess(DENOISERS, cosine(99), IMAGES)


def test_it_is_the_books():
    assert show.guess is guess
