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

import numpy as np
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


def batch(images, labels, seed, step, size, T, flip=False, part=(0, 1)):
    """`(x0, t, eps, labels)` of one step: functions of (seed, step) alone, drawn on the CPU.

    images (N, ...) come in a new order each epoch, every one once; labels (N,) or None go with it.
    Bytes 0..255 become numbers in [-1, 1]. t is uniform in 1..T; `flip` mirrors every other image,
    by chance, along its last axis. All is drawn for the whole batch; of its rows, `part` = (rank,
    world) takes every world-th, from the rank-th on.
    """
    mine = slice(part[0], None, part[1])
    positions = torch.arange(step * size, (step + 1) * size)
    epochs, places = positions // len(images), positions % len(images)
    index = torch.cat([_order(seed, int(epoch), len(images))[places[epochs == epoch]]
                       for epoch in epochs.unique()])[mine]
    rng = stream(seed, step, "batch")
    dtype = torch.float32 if images.dtype == torch.uint8 else images.dtype
    t = torch.randint(1, T + 1, (size,), generator=rng)[mine]
    mirrored = torch.rand(size, generator=rng)[mine] < 0.5
    eps = torch.randn((size, *images.shape[1:]), generator=rng, dtype=dtype)[mine]
    x0 = numbers(images.index_select(0, _to(index, images.device)))
    if flip:  # in place, and only those: `torch.where` would take as long as all the rest
        mirrored = _to(mirrored.nonzero().flatten(), x0.device)
        x0.index_copy_(0, mirrored, x0.index_select(0, mirrored).flip(-1))
    return x0, t, eps, None if labels is None else labels[_to(index, labels.device)]


def numbers(images):
    """Bytes 0..255 as numbers in [-1, 1]; numbers as they are."""
    return images.float().div_(127.5).sub_(1) if images.dtype == torch.uint8 else images


def in_precision(network, dtype=None):
    """The network, called under autocast to this dtype, and its answer in x's; None: as it is."""
    if dtype is None:
        return network

    def call(x, *rest):
        with torch.autocast(x.device.type, dtype):
            return network(x, *rest).to(x.dtype)

    return call


def train(network, optimizer, schedule, images, labels=None, *, steps, size, seed=0, start=0,
          kind="v", data_scale=1.0, condition=None, lr=1e-3, warmup=0, clip=1.0, drop=0.0,
          flip=False, saved=None, decay=0, weight=None, autocast=None, part=(0, 1)):
    """Train a network on a `batch` of `size` until `steps` are made, of which `start` were before;
    yields a `Step` after each.

    lr rises to its value on a straight line over the first `warmup` steps, and falls to zero on one
    over the last `decay`; a gradient of norm above `clip` is cut down to it (math.inf: never). A
    label is forgotten, that is replaced by `network.config.classes`, with probability `drop`. Row
    t's loss counts `weight[t]` times, where that is given. `autocast` is the dtype of the network's
    inner numbers; weights, loss and gradients keep theirs. With `part` = (rank, world) this is one
    of `world` processes, each with its `DistributedDataParallel` of the same network; they share a
    batch.

    Raises `ValueError` for what can't be trained on, and at a loss or gradient that isn't finite
    `FloatingPointError`, which says how to go on: from the path `saved`, where the caller keeps the
    checkpoints.
    """
    config = getattr(getattr(network, "module", network), "config", None)  # `module`: inside DDP
    _check(images, labels, config, lr=lr, clip=clip, drop=drop, steps=steps, size=size,
           start=start, warmup=warmup, decay=decay, part=part)
    pair(kind, schedule, data_scale)  # refuses what can't be asked of a network
    require(weight is None or (np.shape(weight) == (schedule.T + 1,) and np.isfinite(weight).all()
                               and min(weight) >= 0), "weight",
            f"{schedule.T + 1} finite numbers >= 0, one a row", weight)

    def ready(step):
        x0, t, eps, names = batch(images, labels, seed, step, size, schedule.T, flip, part)
        if drop:
            gone = torch.rand(size, generator=stream(seed, step, "drop"))[part[0]::part[1]] < drop
            names = torch.where(_to(gone, names.device), config.classes, names)
        device = next(network.parameters()).device
        return [None if one is None else _to(one, device) for one in (x0, t, eps, names)]

    said = in_precision(network, autocast)

    def losses(x0, t, eps, names):
        each = loss(said, schedule, x0, t, eps, kind, data_scale, names, condition)
        return each if weight is None else each * read(weight, t, x0).flatten()

    def rate(step):
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        return lr * min(rise, (steps - step) / decay) if decay else lr * rise

    return _train(network, optimizer, ready, losses, range(start, steps), seed, rate, clip, saved,
                  part)


def _check(images, labels, config, part, **numbers):
    require(images.is_floating_point() or images.dtype == torch.uint8, "images",
            "of floating-point numbers, or bytes", images.dtype)
    require(labels is None or len(labels) == len(images), "labels", f"{len(images)}, one an image",
            None if labels is None else len(labels))
    for name, least in (("steps", 1), ("size", 1), ("start", 0), ("warmup", 0), ("decay", 0)):
        value = numbers[name]
        require(isinstance(value, int) and value >= least, name, f"a whole number >= {least}",
                value)
    for name in ("lr", "clip"):
        require(numbers[name] > 0, name, "> 0", numbers[name])
    require(0 <= numbers["drop"] <= 1, "drop", "in [0, 1]", numbers["drop"])
    require(numbers["drop"] == 0 or (labels is not None and config.classes > 0), "drop",
            "0 where there are no labels to forget", numbers["drop"])
    rank, world = part
    require(0 <= rank < world, "part", "(rank, world) with 0 <= rank < world", part)
    require(numbers["size"] % world == 0, "size", f"divisible among {world} processes",
            numbers["size"])


def _train(network, optimizer, ready, losses, steps, seed, rate, clip, saved, part):
    drawn = ready(steps[0]) if steps else None
    for step in steps:
        now = rate(step)
        for group in optimizer.param_groups:
            group["lr"] = now
        network.train()  # which the caller may have changed, to draw a picture
        with _dropout(seed, step, drawn[0].device, part[0]):
            mean = losses(*drawn).mean()
        optimizer.zero_grad(set_to_none=True)
        mean.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        mean = _shared(mean.detach(), part[1])
        if step + 1 in steps:
            drawn = ready(step + 1)  # on the CPU, while a GPU is still at work
        mean, norm = mean.item(), norm.item()
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise FloatingPointError(
                f"step {step + 1}, at lr {now:g}: the loss is {mean:g}, its gradient's norm "
                f"{norm:g}. The weights are spoilt: {_last_good(saved)}, with a lower lr or a "
                f"longer warmup")
        yield Step(step + 1, mean, now, norm)


def _shared(mean, world):
    """The mean over all processes, whose parts are equally large."""
    if world > 1:
        torch.distributed.all_reduce(mean)
        mean = mean / world
    return mean


def _to(tensor, device):
    """The tensor on that device. A GPU still at work is not waited for: the copy stands in line."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _last_good(saved):
    """Where to begin again."""
    if saved is None or not Path(saved).exists():
        return "begin again"
    return f"go on from {saved}, which is of step {about(saved)[0]}"


@lru_cache(maxsize=4)
def _order(seed, epoch, n):
    return torch.randperm(n, generator=stream(seed, epoch, "order"))


@contextmanager
def _dropout(seed, step, device, rank=0):
    """Torch's global state, from which dropout layers draw, seeded inside and outside as it was."""
    word = stream(seed, step, f"dropout {rank}" if rank else "dropout").initial_seed()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(word)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(word)
        yield
