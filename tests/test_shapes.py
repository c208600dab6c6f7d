"""The drawn data set: figures against literal geometry, its promises on all images, train and test.

Measured on the pixels alone: where a figure is, is read from an orange one on a plain dark ground.
All statistical bounds are 5 standard errors: seeds are fixed, another would fail one time in 10^6.
"""

from itertools import pairwise

import numpy as np
import pytest

from minidiff.data.shapes import (
    COLOURS,
    GROUNDS,
    REAL,
    SHAPES,
    SIZES,
    TEXTURES,
    WHOLE,
    check_sum,
    draw,
    factors,
    shapes,
)

LUMA = np.array([0.299, 0.587, 0.114])


def inside(name, u, v):
    """Whether points are inside a figure, by its definition, of any size and place."""
    r, left, right = np.hypot(u, v), np.hypot(u + 0.5, v - 0.5), np.hypot(u - 0.5, v - 0.5)
    return {
        "disc": r < 1,
        "ring": (0.5 < r) & (r < 1),
        "half disc": (r < 1) & (v > 0),
        "crescent": (r < 1) & (np.hypot(u, v + 1) > np.sqrt(2)),
        "heart": (np.abs(u) + np.abs(v) < 1) | (np.minimum(left, right) < np.sqrt(0.5)),
        "triangle": (v > -0.5) & (v < 1 - np.sqrt(3) * np.abs(u)),
        "square": (np.abs(u) < 1) & (np.abs(v) < 1),
        "bar": (np.abs(u) < 1) & (np.abs(v) < 0.3),
        "cross": (np.minimum(np.abs(u), np.abs(v)) < 0.3) & (np.maximum(np.abs(u), np.abs(v)) < 1),
        "star": crossings(u, v) % 2 == 1,
    }[name]


def crossings(u, v):
    """How often a ray from the point to the right crosses the outline of a star."""
    radius, turn = np.where(np.arange(11) % 2, 0.45, 1), np.arange(11) * np.pi / 5
    corners = pairwise(zip(radius * np.sin(turn), radius * np.cos(turn)))
    return sum(((b > v) != (d > v)) & (u < a + (c - a) * (v - b) / (d - b))
               for (a, b), (c, d) in corners)


HALF, LUNE, HEART = 4 / (3 * np.pi), np.pi / 2 - 1, (np.pi / 4 + 1 / 3) / (2 + np.pi / 2)
AREAS = {  # of figures of size one
    "disc": np.pi, "ring": np.pi * 3 / 4, "half disc": np.pi / 2 / (1 + HALF**2),
    "crescent": 1 / (1 + LUNE**2), "heart": (2 + np.pi / 2) / (1 + HEART) ** 2,
    "triangle": np.sqrt(27) / 4, "square": 2, "bar": 1.2 / 1.09, "cross": 2.04 / 1.09,
    "star": 5 * 0.45 * np.sin(np.pi / 5)}


def sample(n, seed=0, **given):
    return factors("train", n, np.random.default_rng(seed), **given)


def changed(record, **values):
    record = record.copy()
    for name, value in values.items():
        record[name] = value
    return record


def coverage(record):
    """How much of each pixel is the figure's, (n, 32, 32), to 1/400: by an orange one's red."""
    red = draw(changed(record, colour=0, texture=0, ground=0, shade=1))[:, 0].astype(float)
    corner = red[0, 0, 0]
    return (red - corner) / (230 - corner)


def brightness(record):
    """A plain figure's being one, (n, 32, 32): where the figure isn't, it means nothing."""
    flat = draw(changed(record, texture=0)).sum(axis=1, dtype=float)
    return draw(record).sum(axis=1) / flat


@pytest.mark.parametrize("name", SHAPES)
def test_figures_are_what_they_are_called(name):
    """Sixteen of each, against 8×8 points a pixel. All that is known of an edge is its distance: so
    where it is oblique a pixel may be 0.1 off, 0.4 at a star's tip, 0.02 to 0.035 on average."""
    record = sample(16, shape=SHAPES.index(name), size=np.linspace(7, 11, 16))
    grid = np.linspace(-1.5, 1.5, 1001)
    u, v = (part[inside(name, *np.meshgrid(grid, grid))] for part in np.meshgrid(grid, grid))
    centre = u.mean(), v.mean()
    reach = np.hypot(u - centre[0], v - centre[1]).max()
    fine = (np.arange(256) + 0.5) / 8
    apart, edges = [], 0
    for one, found in zip(record, coverage(record)):
        right = fine[None, :] - 11.625 - one["x"] / 4
        up = 11.625 + one["y"] / 4 - fine[:, None]
        turned = (right + 1j * up) * np.exp(-1j * one["angle"]) / one["size"] * reach
        exact = inside(name, turned.real + centre[0], turned.imag + centre[1])
        exact = exact.reshape(32, 8, 32, 8).mean(axis=(1, 3))
        apart.append(np.abs(found - exact))
        edges += ((0 < exact) & (exact < 1)).sum()
    assert np.max(apart) < 0.45 and np.sum(apart) < 0.04 * edges


@pytest.mark.parametrize("name", SHAPES)
def test_area_and_place(name):
    """Of 200 figures of each shape, of which 9 are largest and farthest out: none is cut off. Off
    by most are the crescent and the star: 2.2 %, 0.8 % on average, and 0.08 pixels."""
    far = np.arange(200) < 9
    record = sample(200, shape=SHAPES.index(name))
    record["size"][far], record["x"][far] = 11, np.repeat([0, 35, 17], 3)
    record["y"][far] = np.tile([0, 35, 17], 3)
    covered = coverage(record)
    area = covered.sum(axis=(1, 2))
    off = area / (AREAS[name] * record["size"] ** 2) - 1
    assert np.abs(off).max() < 0.03 and abs(off.mean()) < 0.01
    middle = np.arange(32) + 0.5
    for place, axis in (("x", 1), ("y", 2)):
        mass = covered.sum(axis=axis) @ middle / area
        assert np.abs(mass - (11.625 + record[place] / 4)).max() < 0.1


def test_colours_are_okabe_s_and_ito_s():
    names = ("orange", "sky blue", "green", "yellow", "blue", "vermilion", "purple")
    assert tuple(COLOURS) == names
    known = ["E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7"]
    k = np.arange(7 * 6 * 3)
    record = sample(len(k), shape=0, texture=0, colour=k // 18, ground=k % 6,
                    shade=np.array([0.94, 1, 1.06])[k // 6 % 3])
    ink = np.where(record["ground"] < 3, 1, 0.78) * record["shade"]
    want = np.array([list(bytes.fromhex(c)) for c in known])[record["colour"]] * ink[:, None]
    x, y = (np.rint(11.125 + record[name] / 4).astype(int) for name in "xy")
    found = draw(record)[np.arange(len(record)), :, y, x]
    assert np.abs(found - want).max() <= 0.5 + 1e-3


SEEN = {  # linear RGB as dichromats see it (Machado, Oliveira and Fernandes 2009, severity 1)
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]]}


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("ink", [1, 0.78])
def test_colours_are_told_apart(seen, ink):
    """On grounds of a kind, whatever two figures' shades: by CIELAB distance 7, thrice a just
    noticeable one of 2.3."""
    shade = np.linspace(0.94, 1.06, 13)[:, None]
    light = np.array(list(COLOURS.values()))[:, None] * shade * ink / 255
    linear = np.where(light < 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.array(SEEN[seen]).T).clip(0, 1)
    xyz = linear @ np.array([[0.4339, 0.3762, 0.1899], [0.2127, 0.7152, 0.0722],
                             [0.0178, 0.1095, 0.8728]]).T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = f @ np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]]).T
    apart = np.linalg.norm(lab[:, None, :, None] - lab[None, :, None, :], axis=-1).min(axis=(2, 3))
    assert apart[~np.eye(7, dtype=bool)].min() > 7


def test_figure_and_ground_differ_in_luma():
    """On 3,000 images, of which half are as near as it gets: blue on dark, yellow on pale ones."""
    ground = np.arange(3000) % 6
    record = sample(3000, ground=ground)
    worst = np.arange(3000) < 1500
    record["colour"][worst] = np.where(ground < 3, 4, 3)[worst]
    record["shade"][worst] = np.where(ground < 3, 0.94, 1.06)[worst]
    luma, covered = np.einsum("nchw,c->nhw", draw(record), LUMA), coverage(record)
    pale = (ground >= 3)[:, None, None]
    figure = np.where(covered > 0.999, np.where(pale, -luma, luma), np.inf).min(axis=(1, 2))
    behind = np.where(covered < 0.001, np.where(pale, -luma, luma), -np.inf).max(axis=(1, 2))
    assert 25 <= (figure - behind).min() < 29
    assert (figure - behind).max() > 100, "measured on something"


def test_textures():
    """A large square's brightness at its pixels (u, v), 14 on a side: a literal rule says which are
    bright, and half a pixel from where it turns they are wholly so."""
    assert TEXTURES == ("plain", "gradient", "stripes", "checker", "dots")
    for angle in (0.0, np.pi / 2, np.pi):
        record = changed(sample(5), shape=6, size=11, x=17, y=17, texture=np.arange(5), angle=angle,
                         colour=0, ground=0)
        at = np.arange(9, 23)
        right, up = np.meshgrid(at + 0.5 - 15.875, 15.875 - at - 0.5)
        turned = (right + 1j * up) * np.exp(-1j * angle)
        u, v = turned.real, turned.imag
        plain, gradient, *sharp = ((brightness(record)[:, 9:23, 9:23] - 0.72) / 0.28)
        assert np.abs(plain - 1).max() < 1e-9
        assert np.abs(gradient - (0.5 + v / 22)).max() < 0.02
        signs = (np.sin(2 * np.pi * u / 5), np.sin(2 * np.pi * u / 7) * np.sin(2 * np.pi * v / 7),
                 np.cos(2 * np.pi * u / 5) + np.cos(2 * np.pi * v / 5) - 0.5)
        for found, sign in zip(sharp, signs):
            bright, dark = sign > 0.65, sign < -0.65
            assert min(bright.sum(), dark.sum()) > 20
            assert np.abs(found[bright] - 1).max() < 0.02 and np.abs(found[dark]).max() < 0.02
            assert (found[sign > 0.02] > 0.5).all() and (found[sign < -0.02] < 0.5).all()


def test_grounds():
    """Far from a small figure, by the luma: plain, brighter downwards, or clouds of each brightness
    alike, of which the grain shows another part."""
    assert GROUNDS == tuple(kind + pattern for kind in ("dark", "pale")
                            for pattern in ("", " gradient", " clouds"))
    for k, (low, high) in enumerate([(8, 32), (205, 245)]):
        plain, slope = draw(changed(sample(2, size=7.0), x=17, y=17, ground=[3 * k, 3 * k + 1]))
        edge = np.einsum("chw,c->hw", plain, LUMA)[:, :4]
        assert np.abs(edge - (low + high) / 2).max() < 0.6
        cool = plain[2, 0, 0] > plain[0, 0, 0]
        assert cool == (k == 0), "dark grounds are blue, pale ones are warm"
        edge = np.einsum("chw,c->hw", slope, LUMA)[:, :4]
        assert np.abs(edge - np.linspace(low, high, 32)[:, None]).max() < 1
        clouds = sample(2000, seed=1, ground=3 * k + 2, size=7.0)
        edge = np.einsum("nchw,c->nhw", draw(clouds), LUMA)[:, 0, 0]
        assert low - 1 < edge.min() < edge.max() < high + 1
        assert abs(edge.mean() - (low + high) / 2) < 5 * (high - low) / np.sqrt(12 * 2000)
        assert edge.std() == pytest.approx((high - low) / np.sqrt(12), rel=0.1)
    one = changed(sample(1, shape=0), x=17, y=17, ground=2)
    here, right, down, last = (draw(changed(one, grain=g))[0].astype(int)
                               for g in (130, 131, 194, 4095))
    assert (here[:, :4, 1:] == right[:, :4, :-1]).all()
    assert (here[:, 1:, :4] == down[:, :-1, :4]).all()
    assert (here != right).any() and np.abs(np.diff(here[:, :4], axis=2)).max() < 12, "smooth"
    assert np.abs(np.diff(last[:, :4], axis=2)).max() < 12, "also where the clouds begin again"


def test_every_factor_shows():
    """Of any of 700 images; but turning shows not on a plain disc, and grain only on clouds."""
    record = sample(700)
    images = draw(record)
    for name in WHOLE:
        seen = record["ground"] % 3 == 2 if name == "grain" else np.ones(700, bool)
        other = changed(record, **{name: (record[name] + 1) % WHOLE[name]})
        assert ((draw(other) != images).any(axis=(1, 2, 3)) == seen).all(), name
    for name, (low, high) in REAL.items():
        seen = (record["shape"] > 1) | (record["texture"] > 0) if name == "angle" else True
        value = np.where(record[name] - low > (high - low) / 2, record[name] - (high - low) / 8,
                         record[name] + (high - low) / 8)
        different = (draw(changed(record, **{name: value})) != images).any(axis=(1, 2, 3))
        assert different[np.broadcast_to(seen, 700)].all(), name


def test_no_two_of_all_images_are_equal():
    seen = {image.tobytes() for split in SIZES for image in shapes(split)[0]}
    assert len(seen) == 60_000 == sum(SIZES.values())


def test_the_sum_tells_train_from_test():
    train, test = factors("train"), factors("test")
    assert train.dtype.names[:6] == ("shape", "colour", "texture", "ground", "x", "y")
    for record, sums in ((train, {1, 2, 3, 4, 5}), (test, {0})):
        literal = [sum(one.tolist()[:6]) % 6 for one in record[:1000]]
        assert set(literal) == sums and (check_sum(record[:1000]) == literal).all()
        assert set(check_sum(record).tolist()) == sums
    uniform(check_sum(train) - 1, 5)


def uniform(values, levels):
    """Chi-square of counts against equal ones, whose mean is levels - 1, its variance twice that.
    Its upper tail is longer than a normal one: 7 of its deviations for 10^-6 or less."""
    counts = np.bincount(values.astype(int), minlength=levels)
    assert len(counts) == levels
    expected = len(values) / levels
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < levels - 1 + 7 * np.sqrt(2 * (levels - 1))


@pytest.mark.parametrize("split", SIZES)
def test_factors_are_uniform_and_nothing_else_tells_the_splits_apart(split):
    """Each factor, and five of the six in the sum as far as there are images to count."""
    record = factors(split)
    for name, levels in WHOLE.items():
        uniform(record[name], levels)
    for name, (low, high) in REAL.items():
        unit = (record[name] - low) / (high - low)
        assert 0 <= unit.min() < 0.001 and 0.999 < unit.max() <= 1
        uniform(np.minimum(unit * 20, 19), 20)
    look = record["shape"] * 35 + record["colour"] * 5 + record["texture"]
    uniform(look, 350)
    uniform(look % 35 * 6 + record["ground"], 210)
    uniform(record["x"] * 36 + record["y"], 1296)
    uniform((look + record["ground"].astype(int)) % 7 * 36 + record["y"], 252)
    units = np.stack([(record[name] - np.mean(record[name])) / np.std(record[name])
                      for name in record.dtype.names])
    tied = units @ units.T / len(record) - np.eye(len(units))
    assert np.abs(tied).max() < 5 / np.sqrt(len(record))


def test_it_is_the_same_everywhere():
    """The generator's bits are as NumPy promises, but a pixel may be rounded otherwise: so the
    whole numbers exactly, and the mean colour of 2000 images to 0.01 of 255."""
    first = {split: [tuple(map(int, one))[:7] for one in factors(split, 2)] for split in SIZES}
    assert first == FIRST
    for split, mean in MEANS.items():
        assert np.abs(shapes(split, 2000)[0].mean(axis=(0, 2, 3)) - mean).max() < 0.01


FIRST = {"train": [(6, 1, 0, 0, 29, 35, 2484), (0, 6, 0, 4, 6, 33, 2217)],
         "test": [(5, 6, 0, 5, 11, 15, 3390), (5, 2, 3, 1, 16, 3, 1651)]}
MEANS = {"train": (122.977, 123.158, 114.940), "test": (120.540, 120.197, 112.249)}


def test_shapes_types_and_labels():
    images, labels = shapes("test", 450)
    assert images.shape == (450, 3, 32, 32) and images.dtype == labels.dtype == np.uint8
    record = factors("test")
    assert len(record) == 10_000 and len(factors()) == 50_000
    assert (labels == record["shape"][:450]).all() and labels.flags.c_contiguous
    assert record.dtype.names == (*WHOLE, *REAL) and len(SHAPES) == 10
    fewer, names = shapes("test", 3)
    assert (fewer == images[:3]).all() and (names == labels[:3]).all()
    assert len(shapes(n=0)[0]) == 0 and len(factors("test", 10_001)) == 10_001
    assert (factors("test", 10_001)[:10_000] == record).all()


def test_an_image_depends_on_its_own_factors_alone():
    record, order = sample(450), np.random.default_rng(1).permutation(450)
    before, images = record.copy(), draw(record)
    assert (record == before).all()
    assert (draw(record[order]) == images[order]).all() and (draw(record) == images).all()
    assert (draw(record[7:8]) == images[7:8]).all()


def test_what_is_given_is_kept_and_the_sum_is_right():
    shape = np.arange(60) % 10
    for split, sums in (("train", {1, 2, 3, 4, 5}), ("test", {0})):
        record = factors(split, 60, np.random.default_rng(0), shape=shape, colour=shape % 7, x=3,
                         angle=0.5, grain=np.uint16(9))
        assert (record["shape"] == shape).all() and (record["colour"] == shape % 7).all()
        assert (record["x"] == 3).all() and (record["angle"] == 0.5).all()
        assert set(check_sum(record).tolist()) == sums and len(set(record["y"].tolist())) > 20
    assert (sample(60) == sample(60)).all() and (sample(60) != sample(60, seed=1)).all()
    assert (factors("train", 60) != factors("test", 60)).all()


def spoilt(name, value):
    return changed(sample(3), **{name: value})


@pytest.mark.parametrize("call, said", [
    (lambda: shapes("valid"), r"split must be one of \('train', 'test'\); got 'valid'"),
    (lambda: factors(n=-1), "n must be a whole number >= 0; got -1"),
    (lambda: factors(n=2.0), "n must be a whole number >= 0; got 2.0"),
    (lambda: factors(n=3, y=1), "given must be factors other than y; got 'y'"),
    (lambda: factors(n=3, color=1), "given must be factors other than y; got 'color'"),
    (lambda: factors(n=3, colour=[1, 2]), r"colour must be a number or 3 of them; got \(2,\)"),
    (lambda: factors(n=3, shape=[1, 10, 2]), r"shape must be from 0 to 9; got \[10\]"),
    (lambda: factors(n=3, x=-1), r"x must be from 0 to 35; got \[-1\]"),
    (lambda: factors(n=3, shape=1.0), "shape must be a whole number; got"),
    (lambda: factors(n=3, size=11.1), r"size must be from 7 to 11; got \[11.1"),
    (lambda: factors(n=3, angle=np.nan), r"angle must be from 0 to 6.28319; got \[nan\]"),
    (lambda: draw(spoilt("grain", 4096)), r"grain must be from 0 to 4095; got \[4096, "),
    (lambda: draw(spoilt("y", 36)), "y must be from 0 to 35; got"),
    (lambda: draw(spoilt("shade", 0.9)), "shade must be from 0.94 to 1.06; got"),
    (lambda: draw(spoilt("size", 6.9)), "size must be from 7 to 11; got"),
    (lambda: draw(np.zeros(3)), r"record must be a record array \(n,\) as `factors` makes; got"),
    (lambda: draw(sample(3)[0]), "record must be a record array"),
    (lambda: draw({"shape": 1}), "record must be a record array"),
])
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
