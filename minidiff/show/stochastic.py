"""From the same starts to the data: without noise, and with as much of it as one likes."""

from math import erf

import numpy as np

from minidiff.sampler import sde
from minidiff.schedule import cosine
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.reverse import CLOUDS
from minidiff.show.style import DATA, GROUPS, blank, look, place

T = 120
SCHEDULE = cosine(T, max_beta=0.15)  # cosine's own last steps are too large for Euler-Maruyama
ETAS = (0, 0.25, 0.5, 0.75, 1)
POINTS, DRAWN, FOLLOWED = 1000, 140, 3
LUCK = 1.36 / np.sqrt(POINTS)  # what 19 honest samples in 20 stay under (Kolmogorov 1933)
TAIL = 40  # so many rows of a path stay in sight
LIMIT = 2.9  # of the axes
EDGES = np.linspace(-LIMIT, LIMIT, 30)


def run(cloud, eta, seed):
    """Where the points are in rows T to 0: (T+1, POINTS, 2). All etas share start and noise."""
    rng = np.random.default_rng(seed)
    start, denoise = rng.standard_normal((POINTS, 2)), CLOUDS[cloud].denoiser(SCHEDULE)
    return np.array([x for _, x in sde(denoise, SCHEDULE, start, rng, eta)])


def ends(cloud, x):
    """In which of the eight Gaussians, or the two moons, each x (n, 2) lies: (n,)."""
    odds = CLOUDS[cloud].responsibilities(x)
    K = odds.shape[1]
    return odds.argmax(axis=1) if K <= len(GROUPS) else odds.argmax(axis=1) * 2 // K


def exact_shares(cloud, t):
    """P(first coordinate < edge) in row t, for each of the bins' EDGES."""
    mixture, (alpha, sigma) = CLOUDS[cloud], (SCHEDULE.alpha[t], SCHEDULE.sigma[t])
    scale = np.sqrt(2 * (alpha**2 * mixture.covs[:, 0, 0] + sigma**2))
    z = (EDGES[:, None] - alpha * mixture.means[:, 0]) / scale
    return (1 + np.vectorize(erf)(z)) / 2 @ mixture.weights


@look()
def stochastic(seed=742):
    """Move eta, then the time: twins with one start, one by the ODE, one with eta times the noise.

    r steps of T = 120 are done, by the oracle; three pairs of twins are followed. The numbers: t,
    the row; apart, the root mean square distance between twins (strangers: 2, since coordinates
    have variance one); same, the share that ends in the Gaussian or moon in which its twin ends;
    off, the most by which the share of points left of a bin's edge errs; and luck, its bound.
    """
    runs = {(cloud, eta): run(cloud, eta, seed) for cloud in CLOUDS for eta in ETAS}
    groups = {key: ends(key[0], x[-1]) for key, x in runs.items()}

    figure = blank(9.2, 3.4)
    square = dict(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xlabel="$x_1$", xticks=(-2, 0, 2),
                  yticks=(-2, 0, 2))
    left = place(figure, 0.6, 0.6, 2.45, 2.45, title="ODE: no noise", ylabel="$x_2$", **square)
    right = place(figure, 3.5, 0.6, 2.45, 2.45, title="the same starts, with your η", **square)
    side = place(figure, 6.5, 0.6, 2.5, 2.45, xlim=(-LIMIT, LIMIT), ylim=(-1, 1))
    side.set(title="all points; the line is exact", xlabel="$x_1$", xticks=(-2, 0, 2), yticks=())
    side.spines["left"].set_visible(False)
    side.text(-LIMIT, 0.88, "ODE")
    side.text(-LIMIT, -0.96, "with η")
    planes = [twin_artists(plane) for plane in (left, right)]
    pen = dict(antialiased=False, animated=True)
    bars = [side.stairs(np.zeros(len(EDGES) - 1), EDGES, fill=True, color="0.75", **pen)
            for _ in planes]
    lines = [side.stairs(np.zeros(len(EDGES) - 1), EDGES, baseline=None, color=DATA, linewidth=1.2,
                         **pen) for _ in planes]

    def move(r, eta, cloud):
        t, both = T - r, [(cloud, ETAS[0]), (cloud, ETAS[round(4 * eta)])]
        below = exact_shares(cloud, t)
        for key, artists, bar, line, way in zip(both, planes, bars, lines, (1, -1)):
            draw_twins(artists, runs[key][:r + 1], np.array(GROUPS)[groups[key]])
            share = (runs[key][r][:, 0] < EDGES[:, None]).mean(axis=1)
            bar.set_data(way * np.diff(share) / np.diff(EDGES))
            line.set_data(way * np.diff(below) / np.diff(EDGES))
        ode, x = (runs[key][r] for key in both)
        return {"t": t, "apart": np.sqrt(((x - ode) ** 2).sum(axis=1).mean()).item(),
                "same": (groups[both[0]] == groups[both[1]]).mean().item(),
                "off": abs(share - below).max().item(), "luck": LUCK}

    return Explorable(
        "stochastic", Picture(figure, move),
        {"r": Slider("done r", 0, T, 1, 90, stride=30),
         "eta": Slider("noise η", 0.0, 1.0, 0.25, 1.0),
         "cloud": Choice("cloud", tuple(CLOUDS), next(iter(CLOUDS)))},
        readout="row t = {t}: twins {apart:.2f} apart (strangers 2.00), {same:.0%} end where the "
                "ODE's do; x₁ off the exact law by {off:.1%}, luck makes up to {luck:.1%}",
        alt="The same starts led to the data by the ODE, on smooth paths, and with noise, on "
            "jagged ones: single points end elsewhere, the clouds are alike in every row.",
        film=[("ODE", left, {"eta": 0.0}), ("η = 1", right, {"eta": 1.0})], cuts=(312, 620))


def twin_artists(plane):
    """The moving artists of one plane: dots, and start, path and head of the points followed."""
    pen = dict(antialiased=False, animated=True)
    dots = plane.scatter(*np.zeros((2, DRAWN)), s=11, linewidth=0, zorder=2, **pen)
    starts, = plane.plot([], [], "+", color=DATA, markersize=9, markeredgewidth=1.5, **pen)
    paths = [plane.plot([], [], linewidth=1.5, zorder=3, **pen)[0] for _ in range(FOLLOWED)]
    heads = [plane.plot([], [], mark, markersize=8, markeredgecolor=DATA, zorder=4, **pen)[0]
             for mark in "os^"]
    return dots, starts, paths, heads


def draw_twins(artists, x, colours):
    """Put a plane's artists where rows T to t have led, x (rows, n, 2), in the ends' colours."""
    dots, starts, paths, heads = artists
    starts.set_data(x[0, :FOLLOWED].T)
    dots.set(offsets=x[-1, :DRAWN], facecolor=colours[:DRAWN])
    for i, (path, head) in enumerate(zip(paths, heads)):
        path.set(data=x[-1 - TAIL:, i].T, color=colours[i])
        head.set(data=x[-1:, i].T, markerfacecolor=colours[i])
