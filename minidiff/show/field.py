"""The score field: which way the data lies, at every noise level."""

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap

from minidiff.data import eight_gaussians, two_moons
from minidiff.errors import require
from minidiff.process import diffuse, noise_like
from minidiff.schedule import cosine
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import DATA, GROUPS, NOISE, blank, look, place

# One grid serves the density, the arrows at every third node, and the quadrature. A node every
# 0.16 integrates a Gaussian of std 0.1 to one part in a thousand, a wider one far better.
AXIS = np.linspace(-4.16, 4.16, 53)
GRID = np.stack(np.meshgrid(AXIS, AXIS), axis=-1).reshape(-1, 2)
ARROWS = np.ix_(range(8, 45, 3), range(8, 45, 3))
LIMIT = 3.1  # of the axes
HALF = 2.0  # the score whose arrow is half as long as can be
LEVELS = (0.02, 0.25)  # of the density's peak, where the grey gets darker
GREYS = ListedColormap(["1", "0.9", "0.74"])  # so far apart that a small palette keeps them
POINTS = 32


def shade(axes):
    """An image that stands for a density in bands of grey; `darken` fills it."""
    floor = np.log(LEVELS[0]) - 8
    extent = 2 * [AXIS[0] - 0.08, AXIS[-1] + 0.08]
    norm = BoundaryNorm([floor, *np.log(LEVELS), 1], GREYS.N)
    image = axes.imshow(np.full((len(AXIS), len(AXIS)), floor), origin="lower", extent=extent,
                        cmap=GREYS, norm=norm, interpolation="bicubic", interpolation_stage="data",
                        zorder=0, animated=True)
    axes.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=(-2, 0, 2), yticks=(-2, 0, 2),
             xlabel="$x_1$", ylabel="$x_2$")
    return image


def darken(image, log_density):
    """Show the log-density at the nodes of GRID, relative to its peak."""
    relative = log_density - log_density.max()
    image.set_data(relative.clip(image.norm.vmin).astype(np.float32).reshape(len(AXIS), -1))


def shortened(score):
    """Arrows of length |s|/(|s| + HALF), in the direction of s (n, 2)."""
    return score / (np.linalg.norm(score, axis=1, keepdims=True) + HALF)


def rms(score, log_density):
    """Root mean square of a coordinate of the score (n, 2) over a density on equal cells."""
    share = np.exp(log_density - log_density.max())
    return np.sqrt(share @ (score**2).mean(axis=1) / share.sum())


@look()
def field(clouds=None, schedule=None, seed=0):
    """Move t: the score's arrows over the noised density, and its size beside 1/sigma.

    `clouds` maps two or more names to `GaussianMixture`s in the plane of about unit variance (eight
    Gaussians and two moons); `schedule` preserves variance (cosine, T = 100). The numbers: alpha,
    sigma, rms_score, a coordinate's root mean square over noised data, and its limit 1/sigma.
    """
    clouds = clouds or {"eight Gaussians": eight_gaussians(), "two moons": two_moons(per_moon=20)}
    schedule = schedule or cosine(100)
    for name, cloud in clouds.items():
        require(cloud.means.shape[1] == 2, f"clouds[{name!r}]", "in the plane", cloud.means.shape)
    T, rng = schedule.T, np.random.default_rng(seed)
    samples = {name: _sample(cloud, rng) for name, cloud in clouds.items()}

    def measure(cloud, t):
        alpha, sigma = schedule.at(t, GRID)
        return clouds[cloud].log_prob(GRID, alpha, sigma), clouds[cloud].score(GRID, alpha, sigma)

    knots = np.unique(np.rint(np.linspace(1, T**0.5, 18) ** 2).astype(int))
    sizes = {name: [rms(*measure(name, t)[::-1]) for t in knots] for name in clouds}

    figure = blank(8.2, 3.5)
    plane = place(figure, 0.65, 0.6, 2.6, 2.6)
    plane.set_title(f"score $s$, drawn $|s|\\,/\\,(|s| + {HALF:g})$ long")
    image = shade(plane)
    clean = plane.scatter(*np.zeros((2, POINTS)), s=9, alpha=0.5, linewidth=0, animated=True)
    noised = plane.scatter(*np.zeros((2, POINTS)), s=22, linewidth=0, zorder=2, animated=True)
    nodes = GRID.reshape(len(AXIS), -1, 2)[ARROWS].reshape(-1, 2)
    arrows = plane.quiver(*nodes.T, *nodes.T, color=DATA, angles="xy", scale_units="xy",
                          scale=1 / 0.46, width=0.006, headwidth=4, headlength=4,
                          headaxislength=3.6, zorder=3, animated=True)
    side = place(figure, 4.4, 0.6, 3.5, 2.6, xlim=(0, 1.01 * T), ylim=(0.6, 60), yscale="log")
    side.set(title="size of the score, per coordinate", xlabel="t", yticks=(1, 10),
             yticklabels=("1", "10"))
    side.plot(range(1, T + 1), 1 / schedule.sigma[1:], "--", color=NOISE)
    curve, = side.plot([], [], color=DATA, animated=True)
    now, = side.plot([], [], color="0.6", linewidth=1, zorder=1, animated=True)
    dot, = side.plot([], [], "o", color=DATA, markersize=8, clip_on=False, animated=True)
    side.text(0.1 * T, 9, r"$1/\sigma_t$", color=NOISE)
    side.text(0.03 * T, 0.72, "root mean square", color=DATA)

    def move(t, cloud):
        log_density, score = measure(cloud, t)
        darken(image, log_density)
        arrows.set_UVC(*shortened(score).reshape(len(AXIS), -1, 2)[ARROWS].reshape(-1, 2).T)
        x0, eps, group = samples[cloud]
        xt = diffuse(schedule, x0, t, eps)
        for points, x in ((clean, x0), (noised, xt)):
            points.set(offsets=x, facecolor=np.array(GROUPS)[group])
        curve.set_data(knots, sizes[cloud])
        size = rms(score, log_density)
        now.set_data([t, t], [0.6, 60])
        dot.set_data([t], [size])
        return {"alpha": schedule.alpha.item(t), "sigma": schedule.sigma.item(t),
                "rms_score": size.item(), "limit": 1 / schedule.sigma.item(t)}

    stride = next(s for s in range(max(1, (T - 1) // 9), T) if (T - 1) % s == 0)
    return Explorable(
        "field", Picture(figure, move),
        {"t": Slider("time t", 1, T, 1, min(T, 1 + 2 * stride), stride=stride),
         "cloud": Choice("cloud", tuple(clouds), next(iter(clouds)))},
        readout="t = {t}: α = {alpha:.3f}, σ = {sigma:.3f}; the score's root mean square "
                "{rms_score:.2f}, against 1/σ = {limit:.2f}",
        alt="Arrows of the score over the noised density: at small t they lead to the nearest "
            "data, at large t all to the middle.",
        film=[(name, plane, {"cloud": name}) for name in clouds], cuts=(360,))


def _sample(cloud, rng):
    """Points (n, 2) of the cloud, their noise, and the group of each: a component, or a half."""
    x0, component = cloud.sample(POINTS, rng, return_component=True)
    K = len(cloud.weights)
    return x0, noise_like(x0, rng), component * (K if K <= len(GROUPS) else 2) // K
