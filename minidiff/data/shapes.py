"""A data set that is drawn, not downloaded: a figure on a ground, 32×32 colour pixels, ten classes.

It has CIFAR-10's sizes, types and number of classes, so what trains on one trains on the other. But
it is not CIFAR-10 and far easier: no result on it is one on CIFAR-10. In return, all that makes an
image is known: `factors` draws by chance what is to be seen, and `draw` paints it without chance.

A check sum keeps train and test apart: the sum of an image's shape, colour, texture, ground, x and
y, all whole numbers, is a multiple of six in test and never in train. So images of different splits
differ in one of the six, which shows. But where one of ground, x and y is unknown, nothing else
tells the splits apart: whatever the other factors are, that one makes the sum what it should be.
"""

from functools import cache

import numpy as np

from minidiff.errors import require

SIZES = {"train": 50_000, "test": 10_000}
PIXELS = 32
COLOURS = {  # that the colour-blind can tell apart, too (Okabe and Ito 2008)
    "orange": (230, 159, 0), "sky blue": (86, 180, 233), "green": (0, 158, 115),
    "yellow": (240, 228, 66), "blue": (0, 114, 178), "vermilion": (213, 94, 0),
    "purple": (204, 121, 167)}
GROUNDS = ("dark", "dark gradient", "dark clouds", "pale", "pale gradient", "pale clouds")
LUMA = np.float32([(8, 32), (205, 245)])  # of dark and pale grounds, from where to where
TINT = np.float32([(0.8, 1, 1.52), (1.03, 1, 0.92)])  # their colours, of luma one
INK = np.float32([1, 0.78])  # how bright figures are on them
FAINT = 0.72   # of that, where a texture is darkest
CONTRAST = 25  # the luma between a figure's inside and the ground, at least, of 255
AT_ONCE = 200  # so many images are painted while they are in the processor's cache


def _polygon(corners, notch):
    """A regular polygon, or a star: its edges lie `notch` from the centre half-way between corners.

    All its half edges are one, seen in mirrors: from (0, 1) to `notch` at the angle pi / corners.
    """
    half = np.pi / corners
    along = np.array([notch * np.sin(half), notch * np.cos(half) - 1])
    out = np.float32(np.array([-along[1], along[0]]) / np.hypot(*along))

    def distance(u, v):
        radius, angle = np.hypot(u, v), np.arctan2(u, v)
        angle = np.abs(np.mod(angle + np.float32(half), np.float32(2 * half)) - np.float32(half))
        return out[0] * radius * np.sin(angle) + out[1] * (radius * np.cos(angle) - 1)

    return distance


def _box(a, b):
    return lambda u, v: np.maximum(np.abs(u) - np.float32(a), np.abs(v) - np.float32(b))


def _disc(u, v, radius=1.0):
    return np.hypot(u, v) - np.float32(radius)


def _lune(u, v):
    """Hippocrates' crescent: its inner edge is a quarter of a circle, its area that of a square."""
    return np.maximum(_disc(u, v), -_disc(u, v + 1, 2**0.5))


def _heart(u, v):
    """A square on its corner, and discs over its upper sides."""
    u, r = np.abs(u), np.float32(0.5**0.5)
    return np.minimum((u + np.abs(v) - 1) * r, np.hypot(u - 0.5, v - 0.5) - r)


# The heights of the centres of mass of three figures, which have them elsewhere than at zero.
HALF, LUNE, HEART = 4 / (3 * np.pi), np.pi / 2 - 1, (np.pi / 4 + 1 / 3) / (2 + np.pi / 2)
# Signed distance from the edge, < 0 inside; the centre of mass's height; the farthest point's
# distance from that centre. By the last two the figures are put in place and made equally large.
FIGURES = {
    "disc": (_disc, 0, 1),
    "ring": (lambda u, v: np.abs(_disc(u, v, 0.75)) - 0.25, 0, 1),
    "half disc": (lambda u, v: np.maximum(_disc(u, v), -v), HALF, np.hypot(1, HALF)),
    "crescent": (_lune, LUNE, np.hypot(1, LUNE)),
    "heart": (_heart, HEART, 1 + HEART),
    "triangle": (_polygon(3, 0.5), 0, 1),
    "square": (_box(1, 1), 0, 2**0.5),
    "bar": (_box(1, 0.3), 0, np.hypot(1, 0.3)),
    "cross": (lambda u, v: np.minimum(_box(1, 0.3)(u, v), _box(0.3, 1)(u, v)), 0, np.hypot(1, 0.3)),
    "star": (_polygon(5, 0.45), 0, 1),
}
# Signed distance in pixels from where a texture turns, > 0 where it is bright, at (u, v) pixels.
WAVE, CHECK = np.float32(2 * np.pi / np.array([5, 7]))  # a period of so many pixels
PATTERNS = {
    "plain": lambda u, v, size: 1,
    "gradient": lambda u, v, size: v / (2 * size),
    "stripes": lambda u, v, size: np.sin(WAVE * u) / WAVE,
    "checker": lambda u, v, size: np.sin(CHECK * u) * np.sin(CHECK * v) / CHECK,
    "dots": lambda u, v, size: (np.cos(WAVE * u) + np.cos(WAVE * v) - 0.5) / WAVE,
}
SHAPES, TEXTURES = tuple(FIGURES), tuple(PATTERNS)

# The whole numbers 0, 1, ... that each factor may be, and from where to where the others go.
WHOLE = {"shape": len(SHAPES), "colour": len(COLOURS), "texture": len(TEXTURES),
         "ground": len(GROUNDS), "x": 36, "y": 36, "grain": 4096}
REAL = {"size": (7, 11), "angle": (0, 2 * np.pi), "shade": (0.94, 1.06)}
RECORD = np.dtype([(name, np.uint16) for name in WHOLE] + [(name, np.float32) for name in REAL])
SUMMED = ["shape", "colour", "texture", "ground", "x", "y"]
MODULUS = 6  # divides the numbers of grounds, x and y: so factors are uniform, given the sum


def shapes(split="train", n=None):
    """A split's first n images (n, 3, 32, 32) uint8, and their classes (n,) uint8, as in `SHAPES`.

    n is `SIZES[split]` unless given, and may be larger. `factors(split, n)` are their factors.
    Raises `ValueError` for other splits or sizes.
    """
    record = factors(split, n)
    return draw(record), record["shape"].astype(np.uint8)


def factors(split="train", n=None, rng=None, **given):
    """What is to be seen on n images of a split, as a record array (n,): `record["colour"]`.

    Whole numbers, from 0: shape, colour, texture and ground, as in `SHAPES`, `tuple(COLOURS)`,
    `TEXTURES` and `GROUNDS`; x and y, which put the figure's centre of mass 11.625 + x/4 pixels
    from the left and 11.625 + y/4 from the top; grain, the clouds' part in sight. Real ones: size,
    the radius in pixels of the circle around that centre into which the figure just fits; angle, in
    radians, counterclockwise; shade, a factor of the figure's brightness.

    All are uniform, and independent but for the check sum. Any but y, which sets the sum right, can
    be `given`, as one number or n: `factors(n=10, shape=np.arange(10))`. Without `rng` they are the
    data set's own, the first of them the same for every n. Raises `ValueError` for other splits,
    names or values.
    """
    require(split in SIZES, "split", f"one of {tuple(SIZES)}", split)
    n = SIZES[split] if n is None else n
    require(isinstance(n, int) and n >= 0, "n", "a whole number >= 0", n)
    rng = np.random.default_rng(tuple(SIZES).index(split)) if rng is None else rng
    record = np.empty(n, RECORD)
    *columns, chance = rng.random((n, len(RECORD) + 1)).T
    for name, column in zip(RECORD.names, columns):
        low, high = REAL.get(name) or (0, WHOLE[name])
        record[name] = low + (high - low) * column
    for name, value in given.items():
        require(name in RECORD.names and name != "y", "given", "factors other than y", name)
        require(np.shape(value) in ((), (n,)), name, f"a number or {n} of them", np.shape(value))
        _check(name, np.asarray(value))
        record[name] = value
    wanted = 0 if split == "test" else 1 + (chance * (MODULUS - 1)).astype(np.uint16)
    record["y"] -= record["y"] % MODULUS
    record["y"] += (wanted + MODULUS - check_sum(record)) % MODULUS
    return record


def check_sum(record):
    """0 for images that are test's, 1 to 5 for train's, shape (n,)."""
    return sum(record[name] for name in SUMMED) % MODULUS


def draw(record):
    """The images (n, 3, 32, 32) uint8 of factors (n,): each is a function of its own alone.

    At its edge, a figure covers 1/2 - d of a pixel whose centre is d pixels outside. Its inside and
    the ground differ in luma, 0.299 R + 0.587 G + 0.114 B, by at least `CONTRAST`.
    Raises `ValueError` for what is no record array like those of `factors`.
    """
    require(getattr(record, "dtype", None) == RECORD and record.ndim == 1, "record",
            "a record array (n,) as `factors` makes", record)
    for name in RECORD.names:
        _check(name, record[name])
    images = np.empty((len(record), 3, PIXELS, PIXELS), np.uint8)
    for start in range(0, len(record), AT_ONCE):
        images[start:start + AT_ONCE] = _paint(record[start:start + AT_ONCE])
    return images


def _check(name, value):
    if name in WHOLE:
        low, high = 0, WHOLE[name] - 1
        require(value.dtype.kind in "iu", name, "a whole number", value)
    else:
        low, high = np.float32(REAL[name])
        value = value.astype(np.float32)
    bad = ~((low <= value) & (value <= high))  # so that NaN is bad
    require(not bad.any(), name, f"from {low:g} to {high:g}", value[bad].tolist())


def _paint(record):
    """The figure over the ground: each of one colour, and of a brightness that varies."""
    u, v = _own_coordinates(record)
    covered = _covered(record, u, v)[:, None]
    pale, pattern = np.divmod(record["ground"], 3)
    low, high = _each(LUMA[pale].T)
    ground = (low + (high - low) * _pattern(pattern, record["grain"]))[:, None]
    figure = (_each(INK[pale] * record["shade"]) * _texture(record, u, v))[:, None]
    colour = np.float32(list(COLOURS.values()))[record["colour"]]
    image = _each(TINT[pale]) * (ground * (1 - covered)) + _each(colour) * (figure * covered)
    return (image + np.float32(0.5)).astype(np.uint8)


def _each(values):
    """Of shape (..., 1, 1), to go with images."""
    return values[..., None, None]


def _own_coordinates(record):
    """The places (u, v) of the pixels in each figure's frame, v up, in pixels; (n, 32, 32) each."""
    pixels = np.arange(PIXELS, dtype=np.float32)
    x, y = (np.float32(11.125) + record[name] / np.float32(4) for name in "xy")  # pixel 0 is at 1/2
    right, up = (pixels - x[:, None])[:, None, :], (y[:, None] - pixels)[:, :, None]
    cos, sin = _each(np.cos(record["angle"])), _each(np.sin(record["angle"]))
    return cos * right + sin * up, cos * up - sin * right


def _covered(record, u, v):
    """How much of each pixel the figure covers, in [0, 1]."""
    covered = np.empty_like(u)
    for shape, (distance, centre, reach) in enumerate(FIGURES.values()):
        which = record["shape"] == shape
        unit = _each(record["size"][which] / np.float32(reach))
        d = distance(u[which] / unit, v[which] / unit + np.float32(centre)) * unit
        covered[which] = (0.5 - d).clip(0, 1)
    return covered


def _texture(record, u, v):
    """The figure's brightness, in [FAINT, 1]."""
    bright = np.empty_like(u)
    for texture, distance in enumerate(PATTERNS.values()):
        which = record["texture"] == texture
        bright[which] = distance(u[which], v[which], _each(record["size"][which]))
    return FAINT + (1 - FAINT) * (0.5 + bright).clip(0, 1)


def _pattern(pattern, grain):
    """The ground's brightness in [0, 1]: plain, brighter from top to bottom, or clouds."""
    bright = np.full((len(grain), PIXELS, PIXELS), 0.5, np.float32)
    bright[pattern == 1] = np.linspace(0, 1, PIXELS, dtype=np.float32)[:, None]
    which, clouds = pattern == 2, _clouds()
    down, right = (start[which, None] + np.arange(PIXELS) for start in np.divmod(grain, 64))
    bright[which] = clouds[down[:, :, None] % 64, right[:, None, :] % 64]
    return bright


@cache
def _clouds():
    """Smooth noise (64, 64), which goes on from edge to edge, of values uniform in [0, 1]."""
    noise = np.random.default_rng(0).standard_normal((64, 64))
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-(frequency * 16) ** 2)).real
    ranks = smooth.argsort(axis=None).argsort().reshape(64, 64)
    return (ranks / ranks.max()).astype(np.float32)
