"""Four objectives for one score: they differ by constants, so they agree on which score is best."""

import numpy as np

from minidiff.show.controls import Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import DATA, GROUPS, LEARNED, NOISE, SIGNAL, blank, look, place

CENTRES, WEIGHTS, STD = np.array([-1.5, 1.0]), np.array([0.4, 0.6]), 0.5  # the clean mixture
SIGMA = 0.5  # of the noise; alpha is 1
VARIANCE = STD**2 + SIGMA**2  # of each noised hump
DRAWS = 5000
COLOURS = {"denoising": NOISE, "explicit": DATA, "implicit": SIGNAL, "sliced": GROUPS[2]}
ROWS = range(3, -1, -1)  # their heights in the narrow panel


def candidate(x, m):
    """Score and its slope, at x (n,), of the noised mixture whose right hump is put at m."""
    left, apart = CENTRES[0], m - CENTRES[0]
    odds = WEIGHTS[1] / WEIGHTS[0] * np.exp(apart * (x - (left + m) / 2) / VARIANCE)
    share = odds / (1 + odds)
    slope = share * (1 - share) * (apart / VARIANCE) ** 2 - 1 / VARIANCE
    return (left + share * apart - x) / VARIANCE, slope


def integrands(x, eps, v, m):
    """What each objective is the mean of, (n,) each; eps is the noise in x, v the slice."""
    s, slope = candidate(x, m)
    truth, _ = candidate(x, CENTRES[1])
    return {"denoising": (s + eps / SIGMA) ** 2 / 2,
            "explicit": (s - truth) ** 2 / 2,
            "implicit": s**2 / 2 + slope,
            "sliced": v**2 * (slope + s**2 / 2)}


def grid():
    """Nodes x, eps (n,) and weights that sum to one: quadrature to better than 1e-10.

    Given x and its hump, eps is Gaussian and enters as a square at most: two nodes do for it, its
    mean plus and minus its standard deviation. For x it is the trapezoidal rule.
    """
    scale, u, w = np.sqrt(VARIANCE), np.linspace(-8, 8, 161), np.array([-1.0, 1.0])
    bell = np.exp(-(u**2) / 2) / np.exp(-(u**2) / 2).sum()
    x = CENTRES[:, None, None] + scale * u[:, None]
    eps = (SIGMA * u[:, None] + STD * w) / scale
    weights = WEIGHTS[:, None, None] * bell[:, None] / len(w)
    return [a.ravel() for a in np.broadcast_arrays(x, eps, weights)]


def exact(m):
    """The four objectives by quadrature; v enters as a square only, whose mean is one."""
    x, eps, weights = grid()
    return {name: (weights @ f).item() for name, f in integrands(x, eps, 1.0, m).items()}


def constants():
    """The two gaps, from the true score alone: ½E|∇log p|², and ½(1/sigma² - E|∇log p|²)."""
    x, _, weights = grid()
    fisher = (weights @ candidate(x, CENTRES[1])[0] ** 2).item()
    return {"explicit_minus_implicit": fisher / 2,
            "denoising_minus_explicit": (1 / SIGMA**2 - fisher) / 2}


@look()
def objectives(seed=0):
    """Move m, where a candidate score believes the right hump: four objectives move together.

    Lines are exact; dots are means over one sample of 5,000; beside them how far these are off,
    with bars of one standard error either way. The numbers: explicit, implicit, denoising, sliced,
    exact, and as mc_... and se_...; and the gaps explicit_minus_implicit and
    denoising_minus_explicit, computed from the true score alone.
    """
    rng = np.random.default_rng(seed)
    x0 = CENTRES[rng.choice(2, DRAWS, p=WEIGHTS)] + STD * rng.standard_normal(DRAWS)
    eps, v = rng.standard_normal((2, DRAWS))
    x = x0 + SIGMA * eps
    gaps = constants()
    slider = Slider("right hump at m", -0.5, 2.5, 0.05, 2.0, stride=0.25)

    figure = blank(9.4, 3.7)
    left = place(figure, 0.55, 0.6, 3.1, 2.75, xlim=(-4, 4), ylim=(-6, 6))
    left.set(title="scores", xlabel="x")
    line = np.linspace(-4, 4, 201)
    humps = np.exp(-((line[:, None] - CENTRES) ** 2) / (2 * VARIANCE)) @ WEIGHTS
    left.fill_between(line, -6, -6 + 4 * humps / humps.max(), color="0.88", linewidth=0)
    left.text(-3.9, -3.2, "noised density", color="0.35")
    left.plot(line, candidate(line, CENTRES[1])[0], color=DATA, linewidth=4, label="true")
    guess, = left.plot([], [], color=LEARNED, animated=True, label="candidate")
    left.legend(loc="upper right")

    right = place(figure, 4.2, 0.6, 2.6, 2.75, xlim=(-0.6, 2.6), ylim=(-1.2, 4.4))
    right.set(title="objectives", xlabel="m")
    ms = np.linspace(slider.min, slider.max, 61)
    curves = [exact(m) for m in ms]
    for name, colour in COLOURS.items():
        right.plot(ms, [c[name] for c in curves], "--" if name == "sliced" else "-", color=colour)
    now, = right.plot([], [], color="0.6", linewidth=1, zorder=1, animated=True)

    off = place(figure, 7.85, 0.6, 1.35, 2.75, xlim=(-0.3, 0.3), ylim=(-0.5, 3.5))
    off.set(title=f"{DRAWS:,} draws", xlabel="mean − exact", xticks=(-0.2, 0, 0.2))
    off.set_yticks(ROWS, COLOURS)
    for label, colour in zip(off.get_yticklabels(), COLOURS.values()):
        label.set_color(colour)
    off.axvline(0, color="0.6", linewidth=1)
    dots = [axes.scatter(*np.zeros((2, 4)), s=36, c=list(COLOURS.values()), zorder=4, animated=True)
            for axes in (right, off)]
    bars = off.hlines(ROWS, 0, 1, colors=list(COLOURS.values()), animated=True)

    def move(m):
        guess.set_data(line, candidate(line, m)[0])
        now.set_data([m, m], right.get_ylim())
        truth = exact(m)
        sample = integrands(x, eps, v, m)
        mean = {name: f.mean().item() for name, f in sample.items()}
        error = {name: f.std().item() / DRAWS**0.5 for name, f in sample.items()}
        miss = {name: a - truth[name] for name, a in mean.items()}
        dots[0].set_offsets([(m, a) for a in mean.values()])
        dots[1].set_offsets(list(zip(miss.values(), ROWS)))
        bars.set_segments([[(a - e, y), (a + e, y)]
                           for a, e, y in zip(miss.values(), error.values(), ROWS)])
        return {**truth, **gaps, **{f"mc_{name}": a for name, a in mean.items()},
                **{f"se_{name}": e for name, e in error.items()}}

    return Explorable(
        "objectives", Picture(figure, move), {"m": slider},
        readout="m = {m:.2f}: explicit {explicit:.3f}, implicit {implicit:.3f}, denoising "
                "{denoising:.3f}; the gaps {explicit_minus_implicit:.3f} and "
                "{denoising_minus_explicit:.3f} stay",
        alt="A candidate score beside the true one, and four objectives that fall and rise "
            "together, at constant distances; all are least where the candidate is true.",
        film=[("scores", left, {}), ("objectives", right, {})], cuts=(380, 688))
