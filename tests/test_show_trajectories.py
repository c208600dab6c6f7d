"""The widget of chapter 9 on ways from noise: its shares are Gaussian data's closed forms."""

import base64
import io
import json
import re

import numpy as np
import pytest
from conftest import check_forms, check_pictures, check_quick
from PIL import Image

from minidiff import show
from minidiff.sampler import ddim, ddpm, heun
from minidiff.schedule import cosine
from minidiff.show.trajectories import bands, followed, mosaic, settled, thinned, trajectories

STEPS, SIZE = 16, 32
ROWS = np.arange(0, 161, 10)  # of a table of 160
TABLE = cosine(160).select(ROWS)
STRENGTH = (16.0, 1.0, 1 / 16)  # variance of each frequency, band by band


def gaussian(table, strength=STRENGTH):
    """The denoiser of Gaussian pictures, whose frequencies are independent, of these variances."""
    variance = np.einsum("k,kij->ij", strength, bands(SIZE))

    def denoise(x, t):
        alpha, sigma = table.at(t, x)
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        x0 = np.fft.ifft2(gain * np.fft.fft2(x)).real
        return x0, (x - alpha * x0) / sigma

    return denoise


def noise(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3, SIZE, SIZE))


def record(way, table=TABLE, count=6):
    sampler, drawn = {"DDIM": (ddim, ()), "DDPM": (ddpm, (np.random.default_rng(1),))}[way]
    return followed(sampler, gaussian(table), table, table.sigma[-1] * noise(count), *drawn)


WAYS = {way: record(way) for way in ("DDIM", "DDPM")}


def make():
    return trajectories(WAYS, ROWS[::-1], ("a", "b", "c", "d", "e", "f"))


@pytest.fixture(scope="module")
def widget():
    return make()


def test_a_picture_depends_on_its_state_alone(widget):
    check_pictures(widget, make, [{}, {"r": 0}, {"r": STEPS}, {"way": "DDPM"},
                                  {"r": 3, "way": "DDPM"}])


def test_every_state_has_a_picture_of_its_own(widget):
    pictures = {widget.draw(r=r, way=way) for r in range(0, STEPS + 1, 2) for way in WAYS}
    assert len(pictures) == STEPS + 2


def test_what_is_followed_is_the_samplers_way():
    denoise, start = gaussian(TABLE), noise(2)
    states, guesses = followed(ddpm, denoise, TABLE, start, np.random.default_rng(3))
    plain = [x for _, x in ddpm(denoise, TABLE, start, np.random.default_rng(3))]
    np.testing.assert_array_equal(states, plain)
    assert states.shape == guesses.shape == (STEPS + 1, *start.shape)
    for k in (0, 5, STEPS - 1):
        np.testing.assert_array_equal(guesses[k], denoise(plain[k], STEPS - k)[0])
    np.testing.assert_array_equal(guesses[-1], states[-1])


def test_tensors_are_followed_as_arrays_are():
    torch = pytest.importorskip("torch", reason="the torch extra is not installed")

    def denoise(x, t):
        return 0.5 * x, (x - TABLE.alpha.item(t) * 0.5 * x) / TABLE.sigma.item(t)

    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    found = followed(ddim, lambda x, t: denoise(weight * x, t), TABLE, torch.from_numpy(noise(2)))
    for a, b in zip(found, followed(ddim, denoise, TABLE, noise(2))):
        assert type(a) is np.ndarray
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_each_frequency_is_in_one_band():
    found = bands(SIZE)
    assert (found.sum(axis=0) == 1).all()
    assert found.sum(axis=(1, 2)).tolist() == [13, 184, 827]  # of lattice points, by Gauss
    assert [bands(8)[k, 0, 0] for k in range(3)] == [True, False, False]


@pytest.mark.parametrize("length, band", [(32, 0), (16, 0), (32 / 3, 1), (8, 1), (4, 1),
                                          (32 / 9, 2), (2, 2)])
def test_a_wave_is_in_the_band_of_its_length(length, band):
    wave = np.cos(2 * np.pi * np.arange(SIZE) / length)
    end = np.zeros((1, 3, SIZE, SIZE))
    end[..., 0, 0] = 1  # all frequencies alike
    for shape in ((1, -1), (-1, 1)):
        found = settled(end + 0.01 * wave.reshape(shape), end)
        assert (found[np.arange(3) != band] > 1 - 1e-12).all() and found[band] < 1 - 1e-3


def test_the_end_is_settled_and_nothing_is_not():
    x = noise(4)
    np.testing.assert_array_equal(settled(x, x), 1)
    np.testing.assert_array_equal(settled(0 * x, x), 0)
    np.testing.assert_allclose(settled(0.8 * x, x), 0.96, rtol=1e-12)
    np.testing.assert_allclose(settled(-x, x), -3, rtol=1e-12)
    np.testing.assert_allclose(settled(np.stack([x, 0 * x, 0.5 * x]), x),
                               np.repeat([[1.0], [0.0], [0.75]], 3, axis=1), atol=1e-12)


def test_shares_are_sums_over_the_pictures_and_frequencies():
    """A point is as strong in all frequencies: 1 - settled is count·a²/strength of the band."""
    end, a = noise(2), 0.3
    x = end.copy()
    x[1, 2, 7, 5] += a
    strength = (abs(np.fft.fft2(end)) ** 2 * bands(SIZE)[:, None, None]).sum(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(1 - settled(x, end), np.array([13, 184, 827]) * a**2 / strength,
                               rtol=1e-9)
    # by Parseval all bands together are the pictures' own squares
    missed = ((1 - settled(x, end)) * strength).sum() / SIZE**2
    assert missed == pytest.approx(a**2, rel=1e-9)


def closed_form(table, way):
    """Of Gaussian data in very many steps: 1 - (1 - r)² or r²; r² = snr·v/(1 + snr·v). (T+1, 3)"""
    with np.errstate(divide="ignore"):
        r2 = 1 / (1 + 1 / (table.snr[::-1, None] * np.array(STRENGTH)))
    return r2 if way == "DDPM" else 1 - (1 - r2**0.5) ** 2


@pytest.mark.parametrize("way, tolerance", [("DDIM", 0.015), ("DDPM", 0.1)])
def test_gaussian_pictures_settle_as_the_closed_form_says(way, tolerance):
    """DDIM's share is the same for every picture, and off by its steps alone. So is DDPM's by 0.06,
    and by chance: of 12 pictures the coarse band has 12·3·13 numbers, and a standard error of at
    most sqrt(2/468) = 0.065 where nothing is settled; this seed is fixed."""
    table = cosine(100)
    _, guesses = record(way, table, count=12)
    found, want = settled(guesses, guesses[-1]), closed_form(table, way)
    assert abs(found - want)[5:].max() < tolerance
    assert (np.diff(want, axis=1)[5:-5] < 0).all(), "coarse before middle before fine"


def test_ddim_has_settled_earlier():
    table = cosine(100)
    assert (closed_form(table, "DDIM") >= closed_form(table, "DDPM")).all()
    shares = [settled(guesses, guesses[-1]) for _, guesses in WAYS.values()]
    assert (shares[0][2:-2] > shares[1][2:-2]).all()


def test_the_numbers_are_the_shares(widget):
    for way, (_, guesses) in WAYS.items():
        for r in (0, 7, STEPS):
            _, numbers = widget.pixels(r=r, way=way)
            assert numbers["t"] == ROWS[STEPS - r]
            np.testing.assert_allclose([numbers[band] for band in ("coarse", "middle", "fine")],
                                       settled(guesses[r], WAYS[way][1][-1]), atol=1e-12)
    line = widget.describe({"r": STEPS, "way": "DDPM"}, numbers)
    assert line.startswith("DDPM at t = 0: ") and "coarse 100%, middle 100%, fine 100%" in line


def test_less_than_nothing_is_drawn_and_said_as_nothing():
    states, guesses = WAYS["DDIM"]
    worse = guesses.copy()
    worse[0] = -worse[-1]
    widget = trajectories({"a": (states, worse), "b": (states, guesses)}, ROWS[::-1])
    _, numbers = widget.pixels(r=0, way="a")
    assert numbers["fine"] == pytest.approx(-3)
    assert numbers["said"] == "coarse 0%, middle 0%, fine 0%"
    drawn = [line.get_ydata() for line in widget.picture.figure.axes[-1].lines]
    assert min(np.min(y) for y in drawn) == 0


def test_the_curves_and_dots_stand_where_the_numbers_are(widget):
    _, numbers = widget.pixels(r=6, way="DDPM")
    now, *drawn = widget.picture.figure.axes[-1].lines
    assert now.get_xdata() == [100, 100]
    for line, dot, band in zip(drawn[::2], drawn[1::2], ("coarse", "middle", "fine")):
        assert dot.get_xydata().tolist() == [[100, numbers[band]]]
        np.testing.assert_array_equal(line.get_xdata(), ROWS[::-1])
        assert line.get_ydata()[6] == numbers[band] and line.get_ydata()[-1] == 1


def test_pictures_are_shown_byte_by_byte():
    x = np.zeros((9, 3, 32, 32))
    x[0, :, 0, 0], x[0, :, 0, 1], x[1, :, 5, 31] = (-1, 0, 1), (-9, 9, 0.5), (0.25, -0.25, 0)
    found = mosaic(x)
    assert found.shape == (32, 6 * 34, 3) and found.dtype == np.uint8
    assert found[0, :2].tolist() == [[0, 128, 255], [0, 255, 191]]
    assert found[5, 34 + 31].tolist() == [159, 96, 128]
    assert (found[:, 32:34] == 255).all()
    assert mosaic(x[:3, :, :8, :8]).shape == (8, 3 * 9, 3)


def test_the_picture_holds_the_states_at_three_times_their_size(widget):
    for way, recorded in WAYS.items():
        pixels, _ = widget.pixels(r=9, way=way)
        for axes, x in zip((0, 2), recorded):
            left, top, wide, high = widget.picture.window(widget.picture.figure.axes[axes])
            np.testing.assert_array_equal(pixels[top:top + high, left:left + wide],
                                          mosaic(x[9]).repeat(3, axis=0).repeat(3, axis=1))


def test_few_colours_are_kept_exactly_and_many_nearly():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    few, many = np.zeros((2, 20, 30), bool)
    few[:, :10], many[:, 15:] = True, True
    pixels[:, :10] = np.array([[1, 2, 3], [200, 0, 9], [255, 255, 255]])[
        rng.integers(0, 3, (20, 10))]
    png = thinned(pixels, ((few, 4), (many, 40)))
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    np.testing.assert_array_equal(image[:, :10, :3], pixels[:, :10])
    np.testing.assert_array_equal(image[..., 3] > 0, few | many)
    off = image[:, 15:, :3].astype(float) - pixels[:, 15:]
    assert np.sqrt((off**2).mean()) < 40  # of 128 and more, were they mixed up


def test_a_saved_page_has_the_frames_in_order(widget):
    payload, = re.findall(r'class="minidiff-payload">(.*)</script>', widget.html)
    data = json.loads(payload)["data"]
    states = [{"r": r, "way": way} for r in widget.plain["r"].stops for way in WAYS]
    assert widget.plain["r"].stops == list(range(0, STEPS + 1, 2))
    assert len(data["images"]) == len(data["lines"]) == len(states) == 18
    for state, uri, line in zip(states, data["images"], data["lines"]):
        pixels, numbers = widget.pixels(**state)
        assert line == widget.describe(state, numbers)
        layer = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA")
        page = Image.fromarray(widget.picture.background).convert("RGBA")
        page.alpha_composite(layer)
        off = np.asarray(page)[..., :3].astype(float) - pixels
        for axes, most in ((0, 40), (2, 30)):
            left, top, wide, high = widget.picture.window(widget.picture.figure.axes[axes])
            part = off[top:top + high, left:left + wide]
            assert np.sqrt((part**2).mean()) < most
            part[...] = 0
        assert abs(off).max() < 16  # of a curve's few blends


def test_at_the_end_both_rows_of_a_saved_page_are_the_same(widget):
    payload, = re.findall(r'class="minidiff-payload">(.*)</script>', widget.html)
    uri = json.loads(payload)["data"]["images"][-1]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))
    parts = []
    for axes in (0, 2):
        left, top, wide, high = widget.picture.window(widget.picture.figure.axes[axes])
        parts.append(image[top:top + high, left:left + wide])
    np.testing.assert_array_equal(*parts)


@pytest.mark.parametrize("steps, stops", [(4, 5), (16, 9), (20, 11), (50, 11), (17, 2)])
def test_few_stops_are_kept_of_many_steps(steps, stops):
    made = np.random.default_rng(0).standard_normal((steps + 1, 2, 3, 16, 16))
    widget = trajectories({"a": (made, made), "b": (made, -made)}, np.arange(steps, -1, -1))
    slider = widget.plain["r"]
    assert len(slider.stops) == stops and slider.value in slider.stops
    assert (slider.min, slider.max, slider.step) == (0, steps, 1)


def test_it_has_three_forms_is_small_and_quick(widget):
    check_quick(widget, make)
    check_forms(widget)  # noise for states and colourful textures for guesses: the worst there is


def test_it_refuses_what_it_cannot_show():
    rows = ROWS[::-1]
    states, guesses = WAYS["DDIM"]
    with pytest.raises(ValueError, match="ways must be two or more by name; got"):
        trajectories({"DDIM": WAYS["DDIM"]}, rows)
    for bad in (ROWS, rows + 1, ROWS.take([*range(1, 17), 0]), rows[:, None], rows[-2:]):
        with pytest.raises(ValueError, match="rows must be three or more, falling to 0; got"):
            trajectories(WAYS, bad)
    for bad in ((states[:, :2], guesses[:, :2]), (states, guesses[1:]), (states[:, :, :1],) * 2,
                (states[..., :16],) * 2, (states[0], guesses[0])):
        with pytest.raises(ValueError, match="ways must be pairs of arrays of one shape .17, B, 3"):
            trajectories({**WAYS, "bad": bad}, rows)
    with pytest.raises(ValueError, match="ways must be pairs of arrays of one shape .16, B, 3"):
        trajectories(WAYS, rows[1:])
    with pytest.raises(ValueError, match="ways must be pairs of arrays of one shape .17, B, 3"):
        trajectories({way: (x[..., :16], y[..., :16]) for way, (x, y) in WAYS.items()}, rows)
    broken = guesses.copy()
    broken[3, 1, 2, 4, 4] = np.nan
    with pytest.raises(ValueError, match="ways must be of finite numbers; got"):
        trajectories({**WAYS, "bad": (states, broken)}, rows)
    with pytest.raises(ValueError, match="names must be one for each of 6 pictures; got .'a',"):
        trajectories(WAYS, rows, ("a",))
    with pytest.raises(ValueError, match="end must be of some strength in every band; got"):
        trajectories({**WAYS, "blank": (states, 0 * guesses)}, rows)
    with pytest.raises(ValueError, match="sampler must be one that asks once a row; got"):
        followed(heun, gaussian(TABLE), TABLE, noise(1))


def test_it_is_the_books():
    assert show.trajectories is trajectories
