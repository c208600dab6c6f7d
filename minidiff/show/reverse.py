"""The reverse chain: from noise to data and back, every path in the colour of its end."""

import numpy as np

from minidiff.data import eight_gaussians, two_moons
from minidiff.sampler import ddpm
from minidiff.schedule import cosine
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import DATA, GROUPS, blank, look, place

CLOUDS = {"eight Gaussians": eight_gaussians(), "two moons": two_moons(per_moon=20)}
T, STEPS = 100, ("4", "100")
POINTS, PATHS = 300, 9
TAIL = 20  # so many rows of a path stay in sight: more would be a tangle
LIMIT = 2.9  # of the axes


def chain(cloud, steps, seed):
    """The rows that a chain of so many steps visits, T to 0, and where it is: (steps+1, n, 2)."""
    rows = np.linspace(0, T, steps + 1).astype(int)
    table, rng = cosine(T).select(rows), np.random.default_rng(seed)
    start = rng.standard_normal((POINTS, 2))
    states = ddpm(CLOUDS[cloud].denoiser(table), table, start, rng)
    return rows[::-1], np.array([x for _, x in states])


def group_odds(cloud, x, t):
    """P(end | x_t = x) for each end, a Gaussian or a moon: (n, 8 or 2)."""
    odds = CLOUDS[cloud].responsibilities(x, cosine(T).alpha[t], cosine(T).sigma[t])
    K = odds.shape[1]
    return odds.reshape(len(x), K if K <= len(GROUPS) else 2, -1).sum(axis=2)


def stray(cloud, x):
    """Which points (n, 2) lie more than five standard deviations from every centre."""
    mixture = CLOUDS[cloud]
    away = np.linalg.norm(x[:, None] - mixture.means, axis=2)
    return away.min(axis=1) > 5 * np.sqrt(mixture.variances[0, 0])


@look()
def reverse(seed=0):
    """Move the time: points walk from noise to data, by the oracle's chain with small variance.

    r steps of T = 100 are done; a chain of fewer steps stands still between its rows. The numbers:
    t, the row it is at; sure, the mean probability of the likeliest end of each point, given where
    it is; and strays, the share that ends further than five standard deviations from every centre.
    """
    runs = {(cloud, steps): chain(cloud, int(steps), seed) for cloud in CLOUDS for steps in STEPS}
    ends, sure, strays = {}, {}, {}
    for (cloud, steps), (rows, x) in runs.items():
        odds = [group_odds(cloud, xt, t) for t, xt in zip(rows, x)]
        ends[cloud, steps] = np.array(GROUPS)[odds[-1].argmax(axis=1)]
        sure[cloud, steps] = [p.max(axis=1).mean().item() for p in odds]
        strays[cloud, steps] = stray(cloud, x[-1]).mean().item()

    figure = blank(8.0, 3.6)
    plane = place(figure, 0.65, 0.6, 2.7, 2.7, xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT))
    plane.set(title="points, coloured by their end", xlabel="$x_1$", ylabel="$x_2$",
              xticks=(-2, 0, 2), yticks=(-2, 0, 2))
    pen = dict(antialiased=False, animated=True)
    lines = [plane.plot([], [], linewidth=1.5, **pen)[0] for _ in range(PATHS)]
    dots = plane.scatter(*np.zeros((2, POINTS)), s=9, linewidth=0, zorder=3, **pen)
    heads = plane.scatter(*np.zeros((2, PATHS)), s=30, edgecolor=DATA, linewidth=1, zorder=4, **pen)
    side = place(figure, 4.3, 0.6, 3.5, 2.7, xlim=(T, 0), ylim=(0, 1.04))
    side.set(title="how sure is the end?", xlabel="t, from noise to data",
             yticks=(0, 0.5, 1), yticklabels=("0", "½", "1"))
    curve, = side.plot([], [], color=DATA, drawstyle="steps-post", animated=True)
    now, = side.plot([], [], color="0.6", linewidth=1, zorder=1, animated=True)
    dot, = side.plot([], [], "o", color=DATA, markersize=8, clip_on=False, animated=True)

    def move(r, steps, cloud):
        rows, x = runs[cloud, steps]
        k = int((rows >= T - r).sum()) - 1  # the last row that it has come to
        first = max(0, min(k - 1, int((rows > rows[k] + TAIL).sum())))  # of the tail
        for line, path, colour in zip(lines, x[first:k + 1].swapaxes(0, 1), ends[cloud, steps]):
            line.set(data=path.T, color=colour)
        for points, count in ((dots, POINTS), (heads, PATHS)):
            points.set(offsets=x[k, :count], facecolor=ends[cloud, steps][:count])
        curve.set_data(rows, sure[cloud, steps])
        now.set_data([T - r, T - r], [0, 1.04])
        dot.set_data([T - r], [sure[cloud, steps][k]])
        return {"t": rows[k].item(), "sure": sure[cloud, steps][k],
                "strays": strays[cloud, steps]}

    return Explorable(
        "reverse", Picture(figure, move),
        {"r": Slider("done r", 0, T, 1, 60, stride=10),
         "steps": Choice("steps", STEPS, "100"),
         "cloud": Choice("cloud", tuple(CLOUDS), next(iter(CLOUDS)))},
        readout="at row t = {t}: the likeliest end has {sure:.0%} on average; "
                "{strays:.0%} of the points end as strays",
        alt="Points walk from noise to eight Gaussians or two moons, coloured by their end: mixed "
            "in the noise, sorted half way down.",
        film=[(f"{steps} steps", plane, {"steps": steps}) for steps in ("4", "100")], cuts=(352,))
