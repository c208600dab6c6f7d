"""Training under a slider: what a network generates, and where it is still wrong, step by step."""

import numpy as np

from minidiff.denoise import denoiser
from minidiff.errors import require
from minidiff.process import diffuse
from minidiff.sampler import ddim, last
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import GROUPS, LEARNED, NOISE, blank, look, place

POINTS, STEPS = 320, 25  # that are generated, and the steps it takes
LEVELS, DRAWS = 24, 150  # noise levels at which the error is measured, and points at each
LIMIT = 2.6


def excess(network, cloud, schedule, kind, rows, seed=0):
    """E|eps_hat - E[eps | x]|² per coordinate at these rows: what the network's loss has too much."""
    rng = np.random.default_rng(seed)
    t = np.repeat(rows, DRAWS)
    x = diffuse(schedule, cloud.sample(len(t), rng), t, rng.standard_normal((len(t), 2)))
    best = cloud.denoiser(schedule)(x, t)[1]
    guess = denoiser(network, schedule, kind)(x, t)[1]
    return ((guess - best) ** 2).mean(axis=1).reshape(-1, DRAWS).mean(axis=1)


@look()
def training(runs, schedule, kind="v", seed=0):
    """Move the stage of training: samples made from the same noise, and the error by noise level.

    `runs` maps two or more names to `(mixture, stages)`, the stages a list of pairs (steps trained,
    network), as many for each, of networks that predict y of this `kind`. The numbers: step, and
    error, the mean of the noise error above its floor over the rows of `schedule`.
    """
    require(len(runs) >= 2, "runs", "two or more", tuple(runs))
    counts = {len(stages) for _, stages in runs.values()}
    require(len(counts) == 1 and min(counts) >= 2, "stages", "two or more, as many for each", counts)
    count, T = counts.pop(), schedule.T
    few = schedule.select(np.unique(np.rint(np.linspace(0, T, STEPS + 1)).astype(int)))
    rows = np.unique(np.rint(np.linspace(1, T, LEVELS)).astype(int))
    noise = np.random.default_rng(seed).standard_normal((POINTS, 2))
    made, errors = {}, {}
    for name, (cloud, stages) in runs.items():
        made[name] = [last(ddim(denoiser(net, few, kind), few, noise)) for _, net in stages]
        errors[name] = [excess(net, cloud, schedule, kind, rows) for _, net in stages]

    figure = blank(8.4, 3.6)
    plane = place(figure, 0.65, 0.6, 2.7, 2.7, xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT))
    plane.set(title="made from noise", xlabel="$x_1$", ylabel="$x_2$")
    angle = np.arctan2(noise[:, 1], noise[:, 0])
    colours = np.array(GROUPS)[np.floor((angle / np.pi + 1) * 4).astype(int) % 8]
    dots = plane.scatter(*noise.T, s=9, c=colours, linewidth=0, animated=True)
    side = place(figure, 4.4, 0.6, 3.6, 2.7, xlim=(0, T), ylim=(1e-5, 3), yscale="log")
    side.set(title="noise error above its floor", xlabel="t (noise grows to the right)")
    start, = side.plot([], [], color=NOISE, linewidth=1, animated=True)
    curve, = side.plot([], [], color=LEARNED, animated=True)
    side.text(0.03 * T, 2e-5, "the first stage", color=NOISE)
    side.text(0.4 * T, 2e-5, "now", color=LEARNED)

    def move(stage, cloud):
        dots.set_offsets(made[cloud][stage])
        start.set_data(rows, errors[cloud][0])
        curve.set_data(rows, errors[cloud][stage])
        return {"step": runs[cloud][1][stage][0], "error": errors[cloud][stage].mean().item()}

    return Explorable(
        "training", Picture(figure, move),
        {"stage": Slider("stage of training", 0, count - 1, 1, count - 1),
         "cloud": Choice("cloud", tuple(runs), next(iter(runs)))},
        readout="after {step} steps: noise error {error:.4f} above its floor",
        alt="What a network makes from noise as it is trained: first one heap, then the cloud's "
            "outline, then its detail; the error falls first where there is much noise.",
        film=[(name, plane, {"cloud": name}) for name in runs], cuts=(365,))
