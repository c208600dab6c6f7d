"""Langevin dynamics: walkers that follow the score, shaken, and where they get stuck."""

import numpy as np

from minidiff.data import eight_gaussians
from minidiff.sampler import langevin as dynamics
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.field import GRID, darken, shade
from minidiff.show.picture import Picture
from minidiff.show.style import DATA, GROUPS, blank, look, place

CLOUD, STD = eight_gaussians(), 0.1
WALKERS, STEPS = 400, 200
CORNER, WIDTH = -2.2, 0.25  # where they start, and how far apart
ETAS = ("0.001", "0.1", "1.5")  # step sizes in units of s², a noised hill's variance
SIGMAS = ("0.1", "0.3", "1.0")


def hill(sigma):
    """The standard deviation s of each noised hill."""
    return np.hypot(STD, sigma)


def nearest(x):
    """Which of the eight centres is nearest to each x (n, 2), and how far away it is."""
    away = np.linalg.norm(x[:, None] - CLOUD.means, axis=2)
    return away.argmin(axis=1), away.min(axis=1)


def exact_spread(sigma, nodes=80):
    """Root mean square distance of the noised cloud from the nearest centre, to nine digits.

    The eight wedges are alike, and smooth inside: Gauss-Legendre in polar coordinates over one.
    """
    node, weight = np.polynomial.legendre.leggauss(nodes)
    far = np.sqrt(2) + 7 * hill(sigma)
    r, angle = (a.ravel() for a in np.meshgrid(far * (node + 1) / 2, np.pi / 8 * node))
    x = np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)
    share = np.outer(weight, weight).ravel() * r * np.exp(CLOUD.log_prob(x, 1.0, sigma))
    return np.sqrt(share @ nearest(x)[1] ** 2 / share.sum())


def run(eta, sigma, seed):
    """Where the walkers are after 0..STEPS steps of eta·s²: (STEPS+1, WALKERS, 2)."""
    rng = np.random.default_rng(seed)
    start = CORNER + WIDTH * rng.standard_normal((WALKERS, 2))
    return np.array(list(dynamics(lambda x: CLOUD.score(x, 1.0, sigma), start,
                                  eta * hill(sigma) ** 2, STEPS, rng)))


@look()
def langevin(seed=0):
    """Move the step: walkers from one corner look for eight hills, by their noised score.

    x + eta·score(x) + sqrt(2·eta)·z, with eta in units of s² = 0.1² + sigma²; all have the same
    luck z. The numbers: modes_reached (by one walker in a hundred), share_max of the fullest hill,
    and spread, the root mean square distance from the nearest centre, against exact_spread.
    """
    runs = {(eta, sigma): run(float(eta), float(sigma), seed) for eta in ETAS for sigma in SIGMAS}
    log_density = {sigma: CLOUD.log_prob(GRID, 1.0, float(sigma)) for sigma in SIGMAS}
    spread = {sigma: exact_spread(float(sigma)).item() for sigma in SIGMAS}

    figure = blank(6.3, 3.1)
    plane = place(figure, 0.65, 0.6, 2.2, 2.2, title="walkers over the density")
    image = shade(plane)
    dots = plane.scatter(*np.zeros((2, WALKERS)), s=6, linewidth=0, zorder=2, antialiased=False,
                         animated=True)
    side = place(figure, 3.6, 0.6, 2.55, 2.2, xlim=(-0.6, 7.6), ylim=(0, 1.02))
    side.set(title="share of walkers", xlabel="nearest hill", xticks=range(8))
    side.axhline(1 / 8, color=DATA, linewidth=1.5, zorder=3, animated=True)
    side.text(-0.5, 0.19, "exact: 1/8", color=DATA)
    bars = side.bar(range(8), np.zeros(8), color=GROUPS, animated=True)

    def move(k, eta, sigma):
        x = runs[eta, sigma][k]
        which, away = nearest(x)
        share = np.bincount(which, minlength=8) / WALKERS
        darken(image, log_density[sigma])
        dots.set(offsets=x, facecolor=np.array(GROUPS)[which])
        for bar, height in zip(bars, share):
            bar.set_height(height)
        return {"modes_reached": int((share >= 0.01).sum()), "share_max": share.max().item(),
                "spread": np.sqrt((away**2).mean()).item(), "exact_spread": spread[sigma]}

    return Explorable(
        "langevin", Picture(figure, move),
        {"k": Slider("step k", 0, STEPS, 1, 80, stride=40),
         "eta": Choice("step size η / s²", ETAS, "0.1"),
         "sigma": Choice("noise level σ", SIGMAS, "0.3")},
        readout="k = {k}: {modes_reached} of 8 hills reached, the fullest has {share_max:.0%}; "
                "distance from the nearest {spread:.2f}, exact {exact_spread:.2f}",
        alt="400 walkers from one corner: at low noise they stay on the nearest hill, at high "
            "noise they reach all eight, but the hills are blurred.",
        film=[(f"σ = {sigma}", plane, {"sigma": sigma}) for sigma in SIGMAS], cuts=(295,))
