"""One jump from x_t, or a walk: what a network makes of a picture, noise level by noise level."""

import numpy as np

from minidiff.errors import require
from minidiff.process import diffuse
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import DATA, GROUPS, LEARNED, blank, look, place

STEPS = 20  # of a walk from t = T; one from lower down goes by the same rows
WALK = GROUPS[2]
PANELS = (("x0", "the picture $x_0$", DATA), ("xt", "with noise, $x_t$", DATA),
          ("guess", "guess in one jump", LEARNED), ("walk", "end of the walk", WALK))


def like(x, numbers):
    """An array of numbers as x's own kind and type."""
    return x.new_tensor(numbers) if hasattr(x, "new_tensor") else numbers.astype(x.dtype)


def plain(x):
    """The numbers of an array or tensor, float64."""
    return np.asarray(x.detach() if hasattr(x, "detach") else x, dtype=np.float64)


def walks(denoise, schedule, x0, eps, starts):
    """For each row of `starts`, the first guess of x0 and where DDIM ends that starts there.

    All are on the way at once, by the same rows: a batch grows by one x_t at every start.
    """
    step = schedule.T // STEPS
    guesses, x, count = {}, np.zeros((0, *x0.shape[1:])), len(x0)
    for t in range(schedule.T, 0, -step):
        if t in starts:
            x = np.concatenate([x, plain(diffuse(schedule, x0, t, eps))])
        x0_hat, eps_hat = denoise(like(x0, x), t)
        if t in starts:
            guesses[t] = plain(x0_hat)[-count:]
        x = plain(diffuse(schedule, x0_hat, t - step, eps_hat))
    ends = x.reshape(len(starts), count, *x.shape[1:])
    return {t: (guesses[t], end) for t, end in zip(sorted(starts, reverse=True), ends)}


def rms(x, x0):
    """By how much each picture of a batch is off, per pixel: (B,)."""
    return ((x - x0) ** 2).reshape(len(x0), -1).mean(axis=1) ** 0.5


@look()
def guess(denoisers, schedule, images, seed=0):
    """Move the noise level: a picture, the same with noise, what is guessed, where a walk ends.

    `images` maps two or more names to pictures (1, H, W), arrays or tensors, and `denoisers` two or
    more names to functions `denoise(x, t) -> (x0, eps)` on this schedule, for batches x of all the
    pictures in their order, again and again. All noise levels share one eps. The numbers: signal,
    alpha²; jump and walked, by how much the guess and the walk's end are off per pixel (rms).
    """
    for name, given in (("denoisers", denoisers), ("images", images)):
        require(len(given) >= 2, name, "two or more by name", tuple(given))
    T = schedule.T
    require(T % STEPS == 0, "schedule", f"of T divisible by {STEPS}", T)
    stops = np.arange(T // 10, T + 1, T // STEPS).tolist()
    first = next(iter(images.values()))
    x0 = np.stack([plain(image) for image in images.values()])
    eps = np.random.default_rng(seed).standard_normal(x0.shape)
    x0, eps = like(first, x0), like(first, eps)
    shown, errors = {}, {}
    for name, denoise in denoisers.items():
        for t, made in walks(denoise, schedule, x0, eps, stops).items():
            xt = diffuse(schedule, x0, t, eps)
            shown[name, t] = np.stack([plain(x)[:, 0] for x in (x0, xt, *made)])
            errors[name, t] = np.stack([rms(x, plain(x0)) for x in made])

    figure = blank(9.4, 2.35)
    axes, pictures = {}, {}
    for i, (key, title, colour) in enumerate(PANELS):
        axes[key] = place(figure, 0.1 + 1.7 * i, 0.4, 1.6, 1.6, xticks=(), yticks=())
        axes[key].set_title(title, fontsize=12, color=colour)
        axes[key].spines[:].set(visible=True, color=colour, linewidth=1.5)
        pictures[key] = axes[key].imshow(shown[name, t][i, 0], cmap="gray_r", vmin=-1, vmax=1,
                                         animated=True)
    side = place(figure, 7.4, 0.5, 1.7, 1.5, xlim=(0, T), ylim=(0, 1.3),
                 xticks=(0, T // 2, T), yticks=(0, 0.5, 1))
    side.set_title("off by, per pixel", fontsize=12)
    side.set_xlabel("noise level t", fontsize=11, labelpad=1)
    side.text(0.04 * T, 1.12, "jump", color=LEARNED)
    side.text(0.04 * T, 0.93, "walk", color=WALK)
    pen = dict(antialiased=False, animated=True)
    now, = side.plot([], [], color="0.7", linewidth=1, **pen)
    both = ((LEARNED, 1.5, 5, 4), (WALK, 4, 10, 3))  # the jump's lie upon the walk's
    curves = [side.plot([], [], color=colour, linewidth=width, zorder=order, **pen)[0]
              for colour, width, _, order in both]
    dots = [side.plot([], [], "o", color=colour, markersize=size, zorder=order + 2, **pen)[0]
            for colour, _, size, order in both]

    def move(t, image, told):
        i = list(images).index(image)
        for picture, x in zip(pictures.values(), shown[told, t][:, i]):
            picture.set_data(x)
        now.set_data([t, t], [0, 1.3])
        at = errors[told, t][:, i]
        for k in (0, 1):
            curves[k].set_data(stops, [errors[told, s][k, i] for s in stops])
            dots[k].set_data([t], [at[k]])
        return {"signal": schedule.alpha[t].item() ** 2, "jump": at[0].item(),
                "walked": at[1].item()}

    return Explorable(
        "guess", Picture(figure, move),
        {"t": Slider("noise level t", stops[0], T, T // STEPS, T // 2, stride=T // 10),
         "image": Choice("picture", tuple(images), next(iter(images))),
         "told": Choice("the network is", tuple(denoisers), next(iter(denoisers)))},
        readout="t = {t}, α² = {signal:.2f}: the guess is off by {jump:.2f} a pixel, the end of the "
                "walk by {walked:.2f}",
        alt="A digit, the digit with noise, the network's guess of it in one jump, and where the "
            "sampler ends that starts there: at little noise all are the same digit, at much noise "
            "the guess is a blur, and the walk ends sharp, at another digit.",
        film=[(label, axes[key], {}) for label, key in
              (("noisy", "xt"), ("jump", "guess"), ("walk", "walk"))], cuts=(345, 690))
