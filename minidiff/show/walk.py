"""Many random walkers: the path of one, and the density of them all."""

import matplotlib
import numpy as np

from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import DATA, GROUPS, RC, blank, place

DROPS, WIDTH = np.array([-2.0, 1.0]), 0.3  # where the ink falls, and each drop's standard deviation
FREE, HOME = "free walk", "pulled home"
EDGES = np.linspace(-6, 6, 61)


def exact(kind, step, beta):
    """Means (2,) of the two drops after so many steps, and the variance that each has by then."""
    if kind == FREE:
        return DROPS, WIDTH**2 + step * beta
    alpha_bar = (1 - beta) ** step
    return np.sqrt(alpha_bar) * DROPS, alpha_bar * WIDTH**2 + 1 - alpha_bar


def paths(kind, start, z, beta):
    """Where walkers (n,) go that are pushed by z (steps, n): (steps+1, n)."""
    keep = 1.0 if kind == FREE else np.sqrt(1 - beta)
    x = [start]
    for push in z:
        x.append(keep * x[-1] + np.sqrt(beta) * push)
    return np.array(x)


@matplotlib.rc_context(RC)
def walk(walkers=4000, steps=160, beta=0.025, seed=0):
    """Move the step: one walker's path, and the ensemble's histogram over its exact density.

    Free: x_t = x_{t-1} + sqrt(beta)·z. Pulled home: x_t = sqrt(1-beta)·x_{t-1} + sqrt(beta)·z.
    Both have the same luck z. The numbers: measured mean and var, and exact_mean, exact_var.
    """
    rng = np.random.default_rng(seed)
    start = np.repeat(DROPS, walkers // 2) + WIDTH * rng.standard_normal(walkers // 2 * 2)
    z = rng.standard_normal((steps, len(start)))
    ensembles = {kind: paths(kind, start, z, beta) for kind in (FREE, HOME)}
    few = np.r_[0:4, walkers // 2:walkers // 2 + 4]

    figure = blank(9.6, 3.4)
    left = place(figure, 0.7, 0.6, 5.2, 2.45, xlim=(0, steps), ylim=EDGES[[0, -1]])
    left.set(title="one walker, and seven others", xlabel="step", ylabel="position x")
    right = place(figure, 6.55, 0.6, 2.85, 2.45, xlim=(0, 0.7), ylim=EDGES[[0, -1]])
    right.set(title="all walkers now", xlabel="density")
    faint = [left.plot([], [], color=GROUPS[i // 4], alpha=0.6, linewidth=1, animated=True)[0]
             for i in range(len(few))]
    bold, = left.plot([], [], color=DATA, linewidth=1.8, animated=True)
    dot, = left.plot([], [], "o", color=DATA, markersize=8, animated=True)
    bars = [right.stairs(np.zeros(len(EDGES) - 1), EDGES, orientation="horizontal", fill=True,
                         color=GROUPS[i], animated=True) for i in (0, 1)]
    curve, = right.plot([], [], color=DATA, linewidth=1.8, animated=True, label="exact")
    right.legend([curve], ["exact"], loc="upper right")

    def move(kind, step):
        x, time = ensembles[kind], np.arange(step + 1)
        for line, i in zip(faint, few):
            line.set_data(time, x[:step + 1, i])
        bold.set_data(time, x[:step + 1, few[0]])
        dot.set_data([step], x[step, few[:1]])
        counts = [np.histogram(part, EDGES)[0] for part in np.split(x[step], 2)]
        lower, upper = np.cumsum(counts, axis=0) / (len(start) * np.diff(EDGES))
        bars[0].set_data(lower)
        bars[1].set_data(upper, baseline=lower)
        means, var = exact(kind, step, beta)
        grid = np.linspace(*EDGES[[0, -1]], 241)
        bells = np.exp(-((grid - means[:, None]) ** 2) / (2 * var)) / np.sqrt(2 * np.pi * var)
        curve.set_data(bells.mean(axis=0), grid)
        return {"mean": x[step].mean(), "var": x[step].var(),
                "exact_mean": means.mean(), "exact_var": var + means.var()}

    return Explorable(
        "walk", Picture(figure, move),
        {"kind": Choice("the walk", (FREE, HOME), FREE),
         "step": Slider("step", 0, steps, 1, 0, stride=next(n for n in (10, 5, 2, 1) if steps % n == 0))},
        readout="step {step}   mean: measured {mean:.2f}, exact {exact_mean:.2f}   "
                "variance: measured {var:.2f}, exact {exact_var:.2f}",
        alt="The density of walkers from two drops of ink at six times: free walkers spread "
            "for ever, walkers pulled home settle into one bell.",
        film=[(kind, right, {"kind": kind}) for kind in (FREE, HOME)], cuts=(610,))
