"""What the levels of a U-Net see: their maps, and how much of these is the picture's, not noise's."""

import numpy as np

from minidiff.errors import require
from minidiff.process import diffuse
from minidiff.schedule import read
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import DATA, GROUPS, blank, look, place

DRAWS = 8  # of noise for every picture, to tell what is whose
SHOWN = 2  # of the draws may be chosen
ROWS = 4  # of maps
MOST = 3  # standard deviations, at which the colour is full


def maps(network, levels, schedule, x0, eps, t):
    """By level, the maps (draws, B, C, h, w) of x_t made of x0 (B, ...), eps (draws, B, ...)."""
    shape = eps.shape
    xt = diffuse(schedule, x0.expand(shape).flatten(0, 1), t, eps.flatten(0, 1))
    caught = {}
    hooks = [module.register_forward_hook(
        lambda _, given, made, name=name: caught.__setitem__(name, made.detach()))
        for name, module in levels.items()]
    try:
        network(xt, read(schedule.log_snr, t, xt))
    finally:
        for hook in hooks:
            hook.remove()
    found = {"x_t": xt, **caught}
    return {name: np.asarray(found[name].unflatten(0, shape[:2]), np.float64) for name in found}


def owned(x):
    """The share of the variance in x (draws, B, ...) that is the B pictures', in [0, 1].

    Of a picture's mean over K draws the noise still moves 1/K of its variance: that goes off.
    """
    within = x.var(axis=0, ddof=1).mean(axis=0).sum()
    between = x.mean(axis=0).var(axis=0, ddof=1).sum() - within / len(x)
    return max(0.0, (between / (between + within)).item())


def mosaic(x):
    """Maps (C, h, w) in ROWS rows, one number wide gaps of NaN between."""
    c, h, w = x.shape
    framed = np.full((c, h + 1, w + 1), np.nan)
    framed[:, 1:, 1:] = x
    return framed.reshape(ROWS, c // ROWS, h + 1, w + 1).swapaxes(1, 2).reshape(
        ROWS * (h + 1), -1)


@look()
def features(network, levels, schedule, images, seed=0):
    """Choose a level: what each of its channels makes of a noisy picture, and what of that is noise.

    `network(x, c)` is a torch module, `levels` maps two or more names to modules in it, whose
    outputs (B, C, h, w), C a multiple of four, are shown; `images` (B, 1, H, W) is a tensor of two
    or more pictures, of which the first is shown. A map's zero is the channel's mean over all
    pictures, noises and noise levels, its unit the channel's standard deviation. The numbers:
    share, of the variance of the level's maps at t, that is the pictures'; and of_x, that of x_t.
    """
    require(2 <= len(levels) <= 5, "levels", "two to five by name", tuple(levels))
    require(len(images) >= 2, "images", "two or more", len(images))
    T = schedule.T
    require(T % 10 == 0, "schedule", "of T divisible by 10", T)
    rows = list(range(T // 10, T + 1, T // 10))
    eps = images.new_tensor(np.random.default_rng(seed).standard_normal((DRAWS, *images.shape)))
    share, kept = {}, {}
    for t in rows:
        for name, x in maps(network, levels, schedule, images, eps, t).items():
            share[name, t] = owned(x)
            kept[name, t] = x[:SHOWN, 0], x.mean(axis=(0, 1, 3, 4)), x.var(axis=(0, 1, 3, 4))
    for name in levels:
        means, variances = (np.array([kept[name, t][k] for t in rows]) for k in (1, 2))
        scale = (variances + means.var(axis=0)).mean(axis=0) ** 0.5 + 1e-12
        for t in rows:
            x = (kept[name, t][0] - means.mean(axis=0)[:, None, None]) / scale[:, None, None]
            kept[name, t] = [mosaic(draw) for draw in x]

    figure = blank(9.4, 2.95)
    window = place(figure, 0.1, 0.6, 1.84, 1.84, xticks=(), yticks=())
    window.set_title("with noise, $x_t$")
    window.spines[:].set(visible=True)
    picture = window.imshow(kept["x_t", T][0][0, 0], cmap="gray_r", vmin=-1, vmax=1,
                            animated=True)
    grid = place(figure, 2.15, 0.6, 3.68, 1.84, xticks=(), yticks=())
    grid.spines[:].set(visible=False)
    grid.set_title("the level's maps, one a channel", loc="left")
    half = place(figure, 2.15, 0.6, 1.84, 1.84, facecolor="none")  # what the film strip shows
    half.set_axis_off()
    tiles = grid.imshow([[0.0]], cmap="PuOr_r", vmin=-MOST, vmax=MOST, aspect="auto",
                        animated=True)
    bar = place(figure, 2.15, 0.4, 1.84, 0.1, yticks=())
    bar.imshow(np.linspace(-MOST, MOST, 60)[None], cmap="PuOr_r", aspect="auto",
               extent=(-MOST, MOST, 0, 1))
    bar.set_xticks((-MOST, 0, MOST), (f"-{MOST}", "0", f"{MOST} std"), fontsize=10)
    bar.tick_params(length=2, pad=1)
    side = place(figure, 6.45, 0.6, 1.75, 1.84, xlim=(0, T), ylim=(0, 1.02),
                 xticks=(0, T // 2, T), yticks=(0, 0.5, 1), yticklabels=("0", "½", "1"))
    side.set_title("the picture's share", fontsize=12)
    side.set_xlabel("t (noise grows to the right)", fontsize=11)
    colours = dict(zip(("x_t", *levels), (DATA, *GROUPS[:3], *GROUPS[5:])))
    lines = dict(zip(colours, (":", "--", "--", "-", "-", "-", "-")))
    for i, (name, colour) in enumerate(colours.items()):
        side.plot(rows, [share[name, t] for t in rows], lines[name], color=colour, linewidth=1.5)
        side.text(1.05, 0.93 - 0.17 * i, "$x_t$ itself" if name == "x_t" else name, color=colour,
                  transform=side.transAxes, va="center", fontsize=11)
    now, = side.plot([], [], color="0.6", linewidth=1, antialiased=False, animated=True)
    dot, = side.plot([], [], "o", markersize=8, antialiased=False, animated=True)

    def move(t, level, noise):
        tile = kept[level, t][int(noise) - 1]
        picture.set_data(kept["x_t", t][0][int(noise) - 1, 0])
        tiles.set_data(tile)
        tiles.set_extent((0, min(2, tile.shape[1] / tile.shape[0]), 0, 1))
        grid.set(xlim=(0, 2), ylim=(0, 1))
        now.set_data([t, t], [0, 1])
        dot.set(data=([t], [share[level, t]]), color=colours[level])
        return {"share": share[level, t], "of_x": share["x_t", t]}

    return Explorable(
        "features", Picture(figure, move),
        {"t": Slider("noise level t", rows[0], T, rows[0], rows[3], stride=3 * rows[0]),
         "level": Choice("level", tuple(levels), next(iter(levels))),
         "noise": Choice("draw of the noise", ("1", "2"), "1")},
        readout="{level} at t = {t}: {share:.0%} of its maps' variance is the picture's, the rest "
                "the noise's; of x_t itself {of_x:.0%}",
        alt="A noisy digit and the maps that the channels of one level of the U-Net make of it: "
            "fine ones, in which strokes and noise are mixed, or coarse ones, which stay the same "
            "longer when the noise is drawn anew.",
        film=[("x_t", window, {}),
              *((name, half, {"level": name}) for name in tuple(levels)[:2])], cuts=(202, 590))
