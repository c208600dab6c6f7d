"""The widget of chapter 8 on feature maps: they are the network's, and the share is of variance."""

import numpy as np
import pytest
from conftest import check_forms, check_pictures, check_quick, lively_unet

from minidiff import data, show
from minidiff.process import diffuse
from minidiff.schedule import cosine
from minidiff.show.features import DRAWS, features, maps, mosaic, owned

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from minidiff.nn import UNetConfig  # noqa: E402

TABLE = cosine()
IMAGES = torch.from_numpy(data.digits()[0][:10, None])
CONFIG = UNetConfig(size=8, channels=1, base=16, multipliers=(1, 2), blocks=1, attention=(4,),
                    groups=8, dropout=0.0, classes=10, level_scale=50)
NETWORK = lively_unet(CONFIG, 0.5)
LEVELS = {"8×8 down": NETWORK.down[0], "4×4 down": NETWORK.down[2], "middle": NETWORK.middle[1],
          "4×4 up": NETWORK.up[1], "8×8 up": NETWORK.up[4]}


def make():
    return features(NETWORK, LEVELS, TABLE, IMAGES)


@pytest.fixture(scope="module")
def widget():
    return make()


def test_a_picture_depends_on_its_state_alone(widget):
    check_pictures(widget, make, [{}, {"t": 100}, {"t": 1000}, {"level": "middle"}, {"noise": "2"}])


@pytest.mark.parametrize("t", range(100, 1001, 100))
def test_every_option_moves_every_picture(widget, t):
    assert len({widget.draw(t=t, level=level, noise=noise)
                for level in LEVELS for noise in "12"}) == 2 * len(LEVELS)


def test_the_maps_are_what_the_modules_make():
    eps = torch.randn((2, 10, 1, 8, 8), generator=torch.Generator().manual_seed(3))
    found = maps(NETWORK, LEVELS, TABLE, IMAGES, eps, 300)
    for k in (0, 1):
        xt = diffuse(TABLE, IMAGES, 300, eps[k])
        np.testing.assert_allclose(found["x_t"][k], xt, atol=1e-6)
        emb = NETWORK.embed(xt, TABLE.log_snr[300].item(), None)
        fine = NETWORK.down[0](NETWORK.first(xt), emb)
        coarse = NETWORK.down[2](NETWORK.down[1](fine, emb), emb)
        for name, by_hand in (("8×8 down", fine), ("4×4 down", coarse)):
            np.testing.assert_allclose(found[name][k], by_hand.detach(), atol=1e-4)
    assert found["middle"].shape == found["4×4 up"].shape == (2, 10, 32, 4, 4)
    assert found["8×8 up"].shape == (2, 10, 16, 8, 8)
    assert not any(module._forward_hooks for module in NETWORK.modules())


def test_the_share_is_the_pictures_part_of_the_variance():
    """n = 8 draws of 4,000 pictures of one number each: a standard error below 0.012; 5 of them."""
    rng = np.random.default_rng(4)
    for alpha2 in (0.0, 0.2, 0.7, 1.0):
        x = (alpha2**0.5 * rng.standard_normal((1, 4000, 1))
             + (1 - alpha2) ** 0.5 * rng.standard_normal((DRAWS, 4000, 1)))
        assert abs(owned(x) - alpha2) < 0.06


def test_the_share_of_xt_is_the_schedules(widget):
    """All pixels together: alpha²·v / (alpha²·v + sigma²), v the pictures' variance per pixel."""
    v = IMAGES.numpy().var(axis=0, ddof=1).mean()
    for t in range(100, 1001, 100):
        signal, noise = TABLE.alpha_bar[t] * v, TABLE.sigma[t] ** 2
        assert abs(widget.pixels(t=t)[1]["of_x"] - signal / (signal + noise)) < 0.05


def test_no_map_is_lost_in_the_mosaic():
    x = np.arange(8 * 3 * 3, dtype=float).reshape(8, 3, 3)
    board = mosaic(x)
    assert board.shape == (16, 8) and np.isnan(board[::4]).all() and np.isnan(board[:, ::4]).all()
    np.testing.assert_array_equal(board[1:4, 5:8], x[1])
    np.testing.assert_array_equal(board[5:8, 1:4], x[2])


def test_moving_the_controls_moves_the_numbers(widget):
    seen = []
    for t in (100, 500, 1000):
        widget.controls["t"].value = t
        seen.append(widget.numbers)
    assert seen[0]["share"] > seen[1]["share"] > seen[2]["share"]
    assert all(type(number) is float and 0 <= number <= 1
               for numbers in seen for number in numbers.values())


def test_it_has_three_forms_is_small_and_quick(widget):
    check_quick(widget, make)
    check_forms(widget)


def test_it_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match="levels must be two to five by name; got"):
        features(NETWORK, {"one": NETWORK.down[0]}, TABLE, IMAGES)
    with pytest.raises(ValueError, match="images must be two or more; got 1"):
        features(NETWORK, LEVELS, TABLE, IMAGES[:1])
    with pytest.raises(ValueError, match="schedule must be of T divisible by 10; got 99"):
        features(NETWORK, LEVELS, cosine(99), IMAGES)


def test_it_is_the_books():
    assert show.features is features
