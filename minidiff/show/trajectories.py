"""From noise to pictures: what a network guesses on the way, and which of it stays."""

import io
from itertools import product

import numpy as np
from PIL import Image

from minidiff.errors import require
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.guess import plain
from minidiff.show.picture import Picture
from minidiff.show.saved import uri
from minidiff.show.style import GROUPS, blank, look, place

BANDS = {"coarse": GROUPS[0], "middle": GROUPS[2], "fine": GROUPS[1]}
WAVES = (16, 4)  # pixels, the shortest waves of the first two bands
SHOWN = 6  # of the pictures
SIDE = 0.96  # of each, inches
STOPS = 10  # strides at most, from one end to the other
COLOURS = 40  # of a saved guess, and of the curves
NOISY = 16  # of a saved x_t that is noise; of one that isn't, as many as of a guess


def followed(sampler, denoise, schedule, x, *noise):
    """x_t and the guess of x0 at every row that a sampler visits, T to 0: two (T+1, B, ...) arrays.

    `sampler(denoise, schedule, x, *noise)` must ask once a row, as DDIM and DDPM do. Row 0 is the
    picture itself. Raises `ValueError` for a sampler that asks more or less often.
    """
    asked = {}

    def listen(x, t):
        pair = denoise(x, t)
        asked.setdefault(t, []).append(plain(pair[0]))
        return pair

    states = [plain(xt) for _, xt in sampler(listen, schedule, x, *noise)]
    require(all(len(asked.get(t, ())) == 1 for t in range(1, schedule.T + 1)), "sampler",
            "one that asks once a row", {t: len(guesses) for t, guesses in asked.items()})
    guesses = [asked[t][0] for t in range(schedule.T, 0, -1)]
    return np.stack(states), np.stack([*guesses, states[-1]])


def bands(size):
    """Which frequencies of `numpy.fft.fft2` each of the BANDS has: (3, size, size) booleans."""
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    coarse, broad = (f <= 1 / wave for wave in WAVES)
    return np.array([coarse, broad & ~coarse, ~broad])


def settled(x, end):
    """The share of `end`, (B, C, n, n), that pictures x, (..., B, C, n, n), have: (..., 3).

    By band it is 1 - |x - end|²/|end|², summed over its frequencies, the channels and the pictures:
    1 where x is `end`, 0 where there is nothing, below 0 where there is worse.
    """
    strength, missed = (np.einsum("...bcij,kij->...k", abs(np.fft.fft2(y)) ** 2, bands(y.shape[-1]))
                        for y in (end, x - end))
    require(bool((strength > 0).all()), "end", "of some strength in every band", strength.tolist())
    return 1 - missed / strength


def gap(size):
    """The pixels between two pictures of this size."""
    return max(1, size // 16)


def mosaic(x):
    """Pictures (B, 3, n, n), cut to [-1, 1], in one row of bytes, each with white after it."""
    tiles = ((x[:SHOWN].clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 0), (0, gap(x.shape[-1]))), constant_values=255)
    return np.concatenate(tiles.transpose(0, 2, 3, 1), axis=1)


def thinned(pixels, parts):
    """PNG bytes of (height, width, 3) pixels, clear but for the `parts`.

    Of each part, which pixels are in it, (height, width) booleans, and how many colours they get.
    """
    index, palette = np.zeros(pixels.shape[:2], np.uint8), [(255, 255, 255)]
    for where, colours in parts:
        if where.any():
            found, at = np.unique(pixels[where] @ (1 << 16, 1 << 8, 1), return_inverse=True)
            every = (found[:, None] >> (16, 8, 0)).astype(np.uint8)
            image = Image.fromarray(every[None]).quantize(
                colours, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
            index[where] = np.asarray(image)[0, at] + len(palette)
            palette += np.reshape(image.getpalette(), (-1, 3))[:colours].tolist()
    image, file = Image.fromarray(index), io.BytesIO()
    image.putpalette(np.ravel(palette).astype(np.uint8).tobytes())
    image.save(file, "PNG", transparency=0, compress_level=9, optimize=True)
    return file.getvalue()


def kept(explorable, windows):
    """As `saved.frames`, with colours of their own in two windows, of x_t and of the guess."""
    frames, (name, slider) = {"images": [], "lines": []}, explorable.axis
    background = explorable.picture.background
    inside = np.zeros((2, *background.shape[:2]), bool)
    for mask, (left, top, wide, high) in zip(inside, windows):
        mask[top:top + high, left:left + wide] = True
    for values in product(*(control.stops for control in explorable.plain.values())):
        state = dict(zip(explorable.plain, values))
        pixels, numbers = explorable.pixels(**state)
        moved = (pixels != background).any(axis=-1)
        colours = NOISY + round((COLOURS - NOISY) * (state[name] / slider.max) ** 2)
        frames["images"].append(uri(thinned(pixels, (
            (moved & inside[0], colours), (moved & inside[1], COLOURS),
            (moved & ~inside.any(axis=0), COLOURS)))))
        frames["lines"].append(explorable.describe(state, numbers))
    return frames


@look()
def trajectories(ways, rows, names=None):
    """Go step by step from noise to pictures: x_t, the guess of x0 there, and what of it stays.

    `ways` maps two or more names to what `followed` recorded, of the same shape (S+1, B, 3, n, n);
    `rows` (S+1,) are the noise levels t that were visited, falling to 0, and `names` the pictures'.
    The first six are shown; the numbers are of all: coarse, middle and fine, the share of the way's
    end that its guess at t already has, in waves of 16 pixels and longer, of 4 to 16, and shorter.
    What is below 0 is drawn at 0.
    """
    require(len(ways) >= 2, "ways", "two or more by name", tuple(ways))
    rows = np.asarray(rows)
    require(rows.ndim == 1 and len(rows) >= 3 and (np.diff(rows) < 0).all() and rows[-1] == 0,
            "rows", "three or more, falling to 0", rows)
    recorded = {name: [plain(x) for x in way] for name, way in ways.items()}
    shapes = {x.shape for way in recorded.values() for x in way}
    shape = min(shapes)
    require(len(shapes) == 1 and len(shape) == 5 and shape[0] == len(rows) and shape[2] == 3
            and shape[3] == shape[4], "ways",
            f"pairs of arrays of one shape ({len(rows)}, B, 3, n, n)", shapes)
    require(all(np.isfinite(x).all() for way in recorded.values() for x in way), "ways",
            "of finite numbers", tuple(ways))
    count, steps = min(SHOWN, shape[1]), len(rows) - 1
    names = ("",) * count if names is None else tuple(names)
    require(len(names) >= count, "names", f"one for each of {count} pictures", names)
    share = {name: settled(guesses, guesses[-1]) for name, (_, guesses) in recorded.items()}

    figure = blank(9.6, 2.75)
    column = SIDE * (1 + gap(shape[-1]) / shape[-1])
    panels, firsts, pictures = [], [], []
    for bottom, label in ((1.35, "$x_t$"), (0.27, "guess of $x_0$")):
        panels.append(place(figure, 0.4, bottom, count * column, SIDE, xticks=(), yticks=()))
        panels[-1].set_ylabel(label)
        panels[-1].spines[:].set(visible=False)
        pictures.append(panels[-1].imshow(mosaic(np.ones(shape[1:])), aspect="auto", animated=True))
        firsts.append(place(figure, 0.4, bottom, SIDE, SIDE, facecolor="none"))
        firsts[-1].set_axis_off()  # what the film strip shows
    for i, name in enumerate(names[:count]):
        panels[0].text((i * column + SIDE / 2) / (count * column), 1.07, name, ha="center",
                       transform=panels[0].transAxes)
    side = place(figure, 7.25, 0.62, 2.2, 1.45, xlim=(rows[0], 0), ylim=(0, 1.04),
                 xticks=(rows[0], rows[0] / 2, 0), yticks=(0, 0.5, 1),
                 yticklabels=("0", "½", "1"))
    side.set_title("settled, in waves that are", fontsize=12, pad=22)
    side.set_xlabel("t, from noise to pictures", fontsize=12, labelpad=2)
    pen = dict(antialiased=False, animated=True)
    now, = side.plot([], [], color="0.6", linewidth=1, **pen)
    curves, dots = [], []
    for i, (band, colour) in enumerate(BANDS.items()):
        side.text(i / 2, 1.05, band, ha=("left", "center", "right")[i], color=colour,
                  transform=side.transAxes, fontsize=12)
        curves += side.plot([], [], color=colour, linewidth=3.5 - i, **pen)
        dots += side.plot([], [], "o", color=colour, markersize=8, clip_on=False, **pen)

    def move(r, way):
        for picture, x in zip(pictures, recorded[way]):
            picture.set_data(mosaic(x[r]))
        now.set_data([rows[r]] * 2, [0, 1.04])
        for curve, dot, band in zip(curves, dots, share[way].T.clip(0)):
            curve.set_data(rows, band)
            dot.set_data([rows[r]], [band[r]])
        numbers = dict(zip(BANDS, share[way][r].tolist()))
        said = ", ".join(f"{band} {max(0, number):.0%}" for band, number in numbers.items())
        return {"t": rows[r].item(), "said": said, **numbers}

    stride = next(n for n in range(1, steps + 1) if steps % n == 0 and steps // n <= STOPS)
    shown = Explorable(
        "trajectories", Picture(figure, move),
        {"r": Slider("steps done r", 0, steps, 1, steps // stride // 2 * stride, stride=stride),
         "way": Choice("way", tuple(ways), next(iter(ways)))},
        readout="{way} at t = {t}: of the end, this much is in the guess: {said}",
        alt="Pictures on their way from noise, and the network's guess of each: first blurs of "
            "about the right colours in the right places, then things, then their detail.",
        film=[("x_t", firsts[0], {}),
              *((f"guess, {name}", firsts[1], {"way": name}) for name in tuple(ways)[:2])],
        cuts=(343, 655), data=lambda: kept(shown, [shown.picture.window(p) for p in panels]))
    return shown
