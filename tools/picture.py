"""Draw the README's animation: data turn into noise, then fresh noise into data.

usage: python tools/picture.py     (writes pictures/noising.gif)
"""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from minidiff.data import eight_gaussians, two_moons
from minidiff.process import diffuse
from minidiff.sampler import ddpm
from minidiff.schedule import cosine
from minidiff.show.style import GROUPS, NOISE, SIGNAL

ROOT = Path(__file__).resolve().parent.parent
STEPS, POINTS, HOLD = 28, 1000, 10  # HOLD frames at either end
FINE = 10  # sampling takes this many steps a frame


def there(cloud, rng):
    """The forward process, one row after the other, each point keeping its own noise."""
    x0, component = cloud.sample(POINTS, rng, return_component=True)
    eps, schedule = rng.standard_normal(x0.shape), cosine(STEPS)
    return [diffuse(schedule, x0, t, eps) for t in range(STEPS + 1)], component


def back(cloud, rng):
    """Ancestral sampling from fresh noise with the exact denoiser."""
    schedule = cosine(STEPS * FINE)
    states = ddpm(cloud.denoiser(schedule), schedule, rng.standard_normal((POINTS, 2)), rng)
    frames = [x for t, x in states if t % FINE == 0]
    return frames, cloud.responsibilities(frames[-1]).argmax(axis=1)


def film(cloud, groups, rng):
    """Points and colours of every frame; colour says which group a point left, or comes to."""
    for frames, component in (there(cloud, rng), back(cloud, rng)):
        colour = np.array(GROUPS)[component * groups // len(cloud.weights)]
        yield from ((x, colour) for x in [frames[0]] * HOLD + frames + [frames[-1]] * HOLD)


def draw(clouds, words, colour):
    """One frame as an image."""
    figure = Figure(figsize=(7.2, 3.9), dpi=80, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    figure.text(0.5, 0.93, words, ha="center", va="center", color=colour, fontsize=15)
    for i, (x, c) in enumerate(clouds):
        ax = figure.add_axes((0.01 + 0.5 * i, 0.0, 0.48, 0.88))
        ax.scatter(*x.T, s=5, c=c, linewidths=0, antialiased=False)  # few colours, a small file
        ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
        ax.set_axis_off()
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def main():
    rng = np.random.default_rng(0)
    half = STEPS + 1 + 2 * HOLD
    films = zip(film(two_moons(), 2, rng), film(eight_gaussians(), 8, rng), strict=True)
    frames = [draw(clouds, *(("data become noise", NOISE) if i < half
                             else ("noise becomes data", SIGNAL)))
              for i, clouds in enumerate(films)]
    palette = Image.fromarray(np.hstack([frames[0], frames[-1]])).quantize(32)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    path = ROOT / "pictures" / "noising.gif"
    path.parent.mkdir(exist_ok=True)
    first.save(path, save_all=True, append_images=others, duration=70, loop=0, optimize=True)
    print(f"{path.relative_to(ROOT)}: {len(frames)} frames, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
