"""Training a network to denoise, as a generator of steps. Averages, pictures and checkpoints are
the caller's, between two steps.

All that is random in step k is a function of the seed and k alone, so a training that goes on from
a checkpoint is the training that was never stopped.
"""

import math
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from minidiff.denoise import pair, target
from minidiff.errors import require
from minidiff.nn.checkpoint import about
from minidiff.nn.seeds import stream
from minidiff.process import diffuse
from minidiff.schedule import read


class Step(NamedTuple):
    """What `train` says of a step: how many were made, its loss, lr, and the gradient's norm."""

    step: int
    loss: float
    lr: float
    norm: float


def loss(network, schedule, x0, t, eps, kind="v", data_scale=1.0, labels=None, condition=None):
    """The mean square error of each image's y = p·x0 + q·eps, as `denoise.pair` has it: (B,).

    x0 and eps (B, ...), rows t (B,) >= 1, labels (B,) where the network wants them. It is told
    `condition[t]`, by default the log-SNR (Ho et al. 2020, eq. 14, for eps).
    """
    x = diffuse(schedule, x0, t, eps)
    c = read(schedule.log_snr if condition is None else condition, t, x)
    y = network(x, c) if labels is None else network(x, c, labels)
    require(y.shape == x.shape, "network(x, c)", f"of x's shape {tuple(x.shape)}", tuple(y.shape))
    error = y - target(schedule, x0, t, eps, kind, data_scale)
    return error.square().flatten(1).mean(dim=1)


def batch(images, labels, seed, step, size, T, flip=False):
    """`(x0, t, eps, labels)` of one step: functions of (seed, step) alone, drawn on the CPU.

    images (N, ...) come in a new order each epoch, every one once; labels (N,) or None go with it.
    t is uniform in 1..T; `flip` mirrors every other image, by chance, along its last axis.
    """
    positions = torch.arange(step * size, (step + 1) * size)
    epochs, places = positions // len(images), positions % len(images)
    index = torch.cat([_order(seed, int(epoch), len(images))[places[epochs == epoch]]
                       for epoch in epochs.unique()])
    x0 = images[index.to(images.device)]
    rng = stream(seed, step, "batch")
    t = torch.randint(1, T + 1, (size,), generator=rng)
    mirrored = torch.rand(size, generator=rng) < 0.5
    eps = torch.randn(x0.shape, generator=rng, dtype=x0.dtype)
    if flip:
        mirrored = mirrored.to(x0.device).reshape(-1, *[1] * (x0.ndim - 1))
        x0 = torch.where(mirrored, x0.flip(-1), x0)
    return x0, t, eps, None if labels is None else labels[index.to(labels.device)]


def train(network, optimizer, schedule, images, labels=None, *, steps, size, seed=0, start=0,
          kind="v", data_scale=1.0, condition=None, lr=1e-3, warmup=0, clip=1.0, drop=0.0,
          flip=False, saved=None):
    """Train a network on a `batch` of `size` until `steps` are made, of which `start` were before;
    yields a `Step` after each.

    lr rises to its value on a straight line over the first `warmup` steps; a gradient of norm above
    `clip` is cut down to it (math.inf: never). A label is forgotten, that is replaced by
    `network.config.classes`, with probability `drop`. Raises `ValueError` for what can't be trained
    on, and at a loss or gradient that isn't finite `FloatingPointError`, which says how to go on:
    from the path `saved`, where the caller keeps the checkpoints.
    """
    require(images.is_floating_point(), "images", "of floating-point numbers", images.dtype)
    require(labels is None or len(labels) == len(images), "labels", f"{len(images)}, one an image",
            None if labels is None else len(labels))
    for name, value, least in (("steps", steps, 1), ("size", size, 1), ("start", start, 0),
                               ("warmup", warmup, 0)):
        require(isinstance(value, int) and value >= least, name, f"a whole number >= {least}",
                value)
    for name, value in (("lr", lr), ("clip", clip)):
        require(value > 0, name, "> 0", value)
    require(0 <= drop <= 1, "drop", "in [0, 1]", drop)
    require(drop == 0 or (labels is not None and network.config.classes > 0), "drop",
            "0 where there are no labels to forget", drop)
    pair(kind, schedule, data_scale)  # refuses what can't be asked of a network

    def ready(step):
        x0, t, eps, names = batch(images, labels, seed, step, size, schedule.T, flip)
        if drop:
            gone = torch.rand(size, generator=stream(seed, step, "drop")) < drop
            names = torch.where(gone.to(names.device), network.config.classes, names)
        device = next(network.parameters()).device
        return [None if part is None else part.to(device) for part in (x0, t, eps, names)]

    def losses(x0, t, eps, names):
        return loss(network, schedule, x0, t, eps, kind, data_scale, names, condition)

    return _train(network, optimizer, ready, losses, range(start, steps), seed, lr, warmup, clip,
                  saved)


def _train(network, optimizer, ready, losses, steps, seed, lr, warmup, clip, saved):
    drawn = ready(steps[0]) if steps else None
    for step in steps:
        now = lr * min(1.0, (step + 1) / warmup) if warmup else lr
        for group in optimizer.param_groups:
            group["lr"] = now
        network.train()  # which the caller may have changed, to draw a picture
        with _dropout(seed, step, drawn[0].device):
            mean = losses(*drawn).mean()
        optimizer.zero_grad(set_to_none=True)
        mean.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        if step + 1 in steps:
            drawn = ready(step + 1)  # on the CPU, while a GPU is still at work
        mean, norm = mean.item(), norm.item()
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise FloatingPointError(
                f"step {step + 1}, at lr {now:g}: the loss is {mean:g}, its gradient's norm "
                f"{norm:g}. The weights are spoilt: {_last_good(saved)}, with a lower lr or a "
                f"longer warmup")
        yield Step(step + 1, mean, now, norm)


def _last_good(saved):
    """Where to begin again."""
    if saved is None or not Path(saved).exists():
        return "begin again"
    return f"go on from {saved}, which is of step {about(saved)[0]}"


@lru_cache(maxsize=4)
def _order(seed, epoch, n):
    return torch.randperm(n, generator=stream(seed, epoch, "order"))


@contextmanager
def _dropout(seed, step, device):
    """Torch's global state, from which dropout layers draw, seeded inside and outside as it was."""
    word = stream(seed, step, "dropout").initial_seed()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(word)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(word)
        yield
