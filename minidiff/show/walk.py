"""Many random walkers: the path of one, and the density of them all."""

import numpy as np

from minidiff.errors import require
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import DATA, GROUPS, blank, look, place

DROPS, WIDTH = np.array([-2.0, 1.0]), 0.3  # where the ink falls, and each drop's standard deviation
WALKERS, STEPS = 4000, 160
FREE, HOME = "free walk", "pulled home"
EDGES = np.linspace(-7, 7, 71)


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


@look()
def walk(beta=0.025, seed=0):
    """Move the step: one walker's path, and the ensemble's histogram over its exact density.

    Free: x_t = x_{t-1} + sqrt(beta)·z. Pulled home: x_t = sqrt(1-beta)·x_{t-1} + sqrt(beta)·z.
    Both have the same luck z. The numbers: measured mean and var, and exact_mean, exact_var.
    """
    require(0 < beta < 1, "beta", "in (0, 1)", beta)
    rng = np.random.default_rng(seed)
    start = np.repeat(DROPS, WALKERS // 2) + WIDTH * rng.standard_normal(WALKERS)
    z = rng.standard_normal((STEPS, WALKERS))
    ensembles = {kind: paths(kind, start, z, beta) for kind in (FREE, HOME)}
    few = np.r_[0:4, WALKERS // 2:WALKERS // 2 + 4]

    figure = blank(9.0, 3.4)
    left = place(figure, 0.7, 0.6, 4.6, 2.45, xlim=(0, STEPS), ylim=EDGES[[0, -1]])
    left.set(title="one walker, and seven others", xlabel="step", ylabel="position x")
    right = place(figure, 6.0, 0.6, 2.85, 2.45, xlim=(0, 0.7), ylim=EDGES[[0, -1]])
    right.set(title="all walkers; the line is exact", xlabel="density")
    faint = [left.plot([], [], color=GROUPS[i // 4], alpha=0.6, linewidth=1, animated=True)[0]
             for i in range(len(few))]
    bold, = left.plot([], [], color=DATA, linewidth=1.8, animated=True)
    dot, = left.plot([], [], "o", color=DATA, markersize=8, animated=True, clip_on=False)
    bars = [right.stairs(np.zeros(len(EDGES) - 1), EDGES, orientation="horizontal", fill=True,
                         color=GROUPS[i], animated=True) for i in (0, 1)]
    curve, = right.plot([], [], color=DATA, linewidth=1.8, animated=True)

    def move(kind, step):
        x, time = ensembles[kind], np.arange(step + 1)
        for line, i in zip(faint, few):
            line.set_data(time, x[:step + 1, i])
        bold.set_data(time, x[:step + 1, few[0]])
        dot.set_data([step], x[step, few[:1]])
        counts = [np.histogram(part, EDGES)[0] for part in np.split(x[step], 2)]
        lower, upper = np.cumsum(counts, axis=0) / (WALKERS * np.diff(EDGES))
        bars[0].set_data(lower)
        bars[1].set_data(upper, baseline=lower)
        means, var = exact(kind, step, beta)
        grid = np.linspace(*EDGES[[0, -1]], 281)
        bells = np.exp(-((grid - means[:, None]) ** 2) / (2 * var)) / np.sqrt(2 * np.pi * var)
        curve.set_data(bells.mean(axis=0), grid)
        return {"mean": x[step].mean(), "var": x[step].var(),
                "exact_mean": means.mean(), "exact_var": var + means.var()}

    return Explorable(
        "walk", Picture(figure, move),
        {"step": Slider("step", 0, STEPS, 1, 40, stride=10),
         "kind": Choice("the walk", (FREE, HOME), FREE)},
        readout="step {step}: mean measured {mean:.2f}, exact {exact_mean:.2f}; "
                "variance measured {var:.2f}, exact {exact_var:.2f}",
        alt="The density of walkers from two drops of ink: free walkers spread for ever, walkers "
            "pulled home settle into one bell.",
        film=[(kind, right, {"kind": kind}) for kind in (FREE, HOME)], cuts=(545,))
