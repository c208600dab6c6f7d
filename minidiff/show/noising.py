"""The noising slider: what is left at step t of a cloud, a digit and a photo."""

import numpy as np

from minidiff.data import digits, photo, two_moons
from minidiff.errors import require
from minidiff.process import diffuse, noise_like
from minidiff.schedule import cosine, linear
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.saved import pack
from minidiff.show.style import DATA, GROUPS, NOISE, SIGNAL, blank, look, place

POINT, LINE, DOT = 2.6, 2.2, 8  # sizes in points, as matplotlib has them
OPACITY = 0.7
LIMIT = 3.3  # of the cloud's axes


@look()
def noising(schedules=None, points=2000, seed=0):
    """Move t: two moons, a digit and a photo turn into noise, beside the schedule's curves.

    `schedules` maps two or more names to `Schedule`s of one length (linear and cosine).
    The numbers: alpha, sigma, alpha_bar, log_snr, and std, the cloud's measured scale.
    """
    schedules = schedules or {"linear": linear(), "cosine": cosine()}
    first, *others = schedules.values()
    require(all(s.T == first.T for s in others), "schedules", "of one length T",
            [s.T for s in schedules.values()])
    rng = np.random.default_rng(seed)
    moons = two_moons()
    cloud, component = moons.sample(points, rng, return_component=True)
    moon = np.asarray(component) // (len(moons.means) // 2)
    clean = {"cloud": cloud[np.argsort(moon, kind="stable")],
             "digit": digits()[0][0], "photo": photo(64)}
    noise = {key: noise_like(x0, rng) for key, x0 in clean.items()}
    split = int((moon == 0).sum())

    figure = blank(9.6, 2.9)
    axes = {key: place(figure, *box) for key, box in {
        "cloud": (0.62, 0.55, 1.92, 1.92), "digit": (2.76, 0.55, 1.92, 1.92),
        "photo": (4.9, 0.55, 1.92, 1.92), "curves": (7.5, 0.55, 1.8, 1.92)}.items()}
    groups = _cloud_axes(axes["cloud"])
    images = [_image_axes(axes[key], key, clean[key]) for key in ("digit", "photo")]
    lines, dots, now = _curve_axes(axes["curves"], schedules)

    def move(t, schedule):
        table = schedules[schedule]
        noised = {key: diffuse(table, x0, t, noise[key]) for key, x0 in clean.items()}
        for line, part in zip(groups, np.split(noised["cloud"], [split])):
            line.set_data(part.T)
        for image, key in zip(images, ("digit", "photo")):
            image.set_data((noised[key].clip(-1, 1) + 1) / 2)
        for line, dot, curve in zip(lines, dots, (table.alpha, table.sigma)):
            line.set_data(np.arange(table.T + 1), curve)
            dot.set_data([t], [curve[t]])
        now.set_xdata([t, t])
        return {"alpha": table.alpha[t], "sigma": table.sigma[t],
                "alpha_bar": table.alpha_bar[t], "log_snr": table.log_snr[t],
                "std": np.sqrt(noised["cloud"].var(axis=0).mean())}

    def data():
        return {"schedules": {key: [pack(s.alpha, "float32"), pack(s.sigma, "float32")]
                              for key, s in schedules.items()},
                "clean": {key: pack(x0) for key, x0 in clean.items()},
                "noise": {key: pack(eps) for key, eps in noise.items()},
                "windows": {key: picture.window(a) for key, a in axes.items()},
                "split": split, "limit": LIMIT, "alpha": OPACITY,
                "colours": [*GROUPS[:2], SIGNAL, NOISE, DATA],
                "sizes": [size * figure.dpi / 72 for size in (POINT, LINE, DOT)]}

    T = first.T
    picture = Picture(figure, move)
    name = next(iter(schedules))
    return Explorable(
        "noising", picture,
        {"t": Slider("time t", 0, T, 1, 0, stride=1 if T % 10 else 10),
         "schedule": Choice("schedule", tuple(schedules), name)},
        readout="t = {t}: α = {alpha:.3f}, σ = {sigma:.3f}; ᾱ = {alpha_bar:.3f} of the variance is "
                "signal, log-SNR = {log_snr:.2f}; the cloud's std = {std:.2f}",
        alt="Two moons, a handwritten digit and a photo, from clean data at t = 0 to pure noise "
            f"at t = {T}.",
        film=[(name, axes["cloud"], {})]
             + [(key, axes["photo"], {"schedule": key}) for key in schedules],
        cuts=(265, 479, 693), renderer="noising", data=data)


def _cloud_axes(axes):
    axes.set(title="two moons", xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xlabel="$x_1$",
             xticks=(-3, 0, 3), yticks=(-3, 0, 3))
    axes.set_ylabel("$x_2$", labelpad=-4)
    return [axes.plot([], [], "o", color=colour, markersize=POINT, alpha=OPACITY, markeredgewidth=0,
                      animated=True)[0] for colour in GROUPS[:2]]


def _image_axes(axes, title, x0):
    axes.set(title=f"a {title}", xticks=(), yticks=())
    axes.spines[:].set(visible=True, animated=True)  # the frame lies above the moving image
    return axes.imshow(np.zeros(x0.shape), vmin=0, vmax=1, animated=True)


def _curve_axes(axes, schedules):
    T = next(iter(schedules.values())).T
    axes.set(title="the schedule", xlim=(0, T), ylim=(0, 1.05), xlabel="t",
             xticks=(0, T // 2, T), yticks=(0, 0.5, 1))
    for table in schedules.values():
        axes.plot(table.alpha, color=SIGNAL, alpha=0.25, linewidth=1.5)
        axes.plot(table.sigma, color=NOISE, alpha=0.25, linewidth=1.5)
    now, = axes.plot([0, 0], [0, 1.05], color=DATA, linewidth=1, animated=True)
    lines = [axes.plot([], [], color=c, linewidth=LINE, animated=True)[0] for c in (SIGNAL, NOISE)]
    dots = [axes.plot([], [], "o", color=c, markersize=DOT, markeredgewidth=0, animated=True,
                      clip_on=False)[0]
            for c in (SIGNAL, NOISE)]
    axes.text(0.04 * T, 0.72, "α", color=SIGNAL, fontsize=15)
    axes.text(0.16 * T, 0.05, "σ", color=NOISE, fontsize=15)
    return lines, dots, now
