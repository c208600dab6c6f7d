"""Who listens to whom: a network's attention, asked pixel by pixel and noise level by noise level."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from minidiff.errors import require
from minidiff.process import diffuse
from minidiff.schedule import read
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import LEARNED, NOISE, blank, look, place

MOST = 0.5  # the share at which the colour is full
GREEN = LinearSegmentedColormap.from_list("heard", ("white", LEARNED, "#00382A"))


def shares(network, blocks, schedule, x0, eps, rows):
    """By block, who listens to whom in x_t of one picture x0 (1, C, H, W): (rows, pixels, pixels).

    `blocks` maps names to modules with `weights(h)`; several heads are averaged.
    """
    n = len(rows)
    x0, eps = (x.expand(n, *x.shape[1:]) for x in (x0, eps))
    xt = diffuse(schedule, x0, np.array(rows), eps)
    caught = {}
    hooks = [block.register_forward_pre_hook(
        lambda _, given, name=name: caught.__setitem__(name, given[0].detach()))
        for name, block in blocks.items()]
    try:
        network(xt, read(schedule.log_snr, np.array(rows), xt))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: np.asarray(block.weights(caught[name]).detach().mean(dim=1), np.float64)
            for name, block in blocks.items()}


@look()
def attention(network, blocks, schedule, image, seed=0):
    """Choose a place: how much it listens to every other, in the network and at the noise level.

    `network(x, c)` is a torch module, `blocks` maps two or more names to attention modules in it,
    all of one resolution, whose `weights(h)` (B, heads, pixels, pixels) are shown; `image`
    (1, H, W) is a tensor. Places are named as on a chessboard. The numbers: itself, the share that
    the place gives to itself; far, what it gives to places that no 3×3 convolution would reach from
    it; and places, exp of the shares' entropy: the even listener's number of places.
    """
    require(len(blocks) >= 2, "blocks", "two or more by name", tuple(blocks))
    T = schedule.T
    require(T % 10 == 0, "schedule", "of T divisible by 10", T)
    rows = list(range(T // 5, T + 1, T // 10))
    eps = np.random.default_rng(seed).standard_normal((1, *image.shape))
    x0, eps = image[None], image.new_tensor(eps)
    heard = shares(network, blocks, schedule, x0, eps, rows)
    side = {round(len(a[0]) ** 0.5) for a in heard.values()}
    require(len(side) == 1, "blocks", "of one resolution", side)
    n, pixels = side.pop(), image.shape[-1]
    noisy = {t: np.asarray(diffuse(schedule, x0, t, eps)[0, 0]) for t in rows}
    letters, numbers = "abcdefghijklmnop"[:n], [str(n - i) for i in range(n)]

    figure = blank(7.5, 2.65)
    ask = dict(edgecolor=NOISE, linewidth=3, facecolor="none", antialiased=False, animated=True,
               zorder=5)
    panels = {}
    for i, title in enumerate(("the picture $x_0$", "with noise, $x_t$", "where it listens")):
        panels[title] = axes = place(figure, 0.25 + 2.3 * i, 0.3, 2.0, 2.0, xlim=(0, n),
                                     ylim=(n, 0), xticks=np.arange(n) + 0.5, xticklabels=letters,
                                     yticks=np.arange(n) + 0.5, yticklabels=numbers)
        axes.set_title(title)
        axes.tick_params(length=0)
        axes.spines[:].set(visible=True)
        for k in range(1, n):
            for line in (axes.axhline, axes.axvline):
                line(k, color="0.75", linewidth=0.8, zorder=3, antialiased=False, animated=True)
    clean, dirty, right = panels.values()
    box = (0, n, n, 0)
    clean.imshow(np.asarray(x0[0, 0]), cmap="gray_r", vmin=-1, vmax=1, extent=box)
    grey = dirty.imshow(noisy[rows[0]], cmap="gray_r", vmin=-1, vmax=1, extent=box, animated=True)
    heat = right.imshow(np.zeros((n, n)), cmap=GREEN, vmin=0, vmax=MOST, extent=box, animated=True)
    asking = [axes.add_patch(Rectangle((0, 0), 1, 1, **ask)) for axes in panels.values()]
    bar = place(figure, 6.95, 0.3, 0.12, 2.0)
    bar.imshow(np.linspace(MOST, 0, 100)[:, None], cmap=GREEN, aspect="auto",
               extent=(0, 1, 0, MOST), vmin=0, vmax=MOST)
    bar.set(xticks=(), yticks=(0, 1 / n**2, MOST / 2, MOST))
    bar.set_yticklabels(("0", "even", f"{MOST / 2:.0%}", f"{MOST:.0%}"), fontsize=10)
    bar.yaxis.tick_right()
    bar.tick_params(length=2, pad=1)

    def move(t, column, row, block):
        i, j = numbers.index(row), letters.index(column)
        share = heard[block][rows.index(t), i * n + j].reshape(n, n)
        grey.set_data(noisy[t])
        heat.set_data(share)
        for patch in asking:
            patch.set_xy((j, i))
        away = np.abs(np.indices((n, n)) - np.array([i, j])[:, None, None]).max(axis=0)
        return {"itself": share[i, j].item(), "far": share[away > 1].sum().item(),
                "places": np.exp(-(share * np.log(share)).sum()).item()}

    return Explorable(
        "attention", Picture(figure, move),
        {"t": Slider("noise level t", rows[0], T, T // 10, rows[4], stride=2 * T // 5),
         "column": Choice("column", tuple(letters), letters[n // 2]),
         "row": Choice("row", tuple(numbers), numbers[n // 2]),
         "block": Choice("block", tuple(blocks), next(iter(blocks)))},
        readout="{column}{row} at t = {t}: it listens to as much as {places:.1f} even places; "
                "{itself:.0%} to itself, {far:.0%} further than a 3×3 convolution reaches",
        alt="A digit, the digit with noise, and a board of 4 by 4 places on which the shares of "
            "one place's attention are coloured: it listens to a few places, near and far, and to "
            "others as the noise changes.",
        film=[(name, right, {"block": name}) for name in blocks], cuts=(237, 467))
