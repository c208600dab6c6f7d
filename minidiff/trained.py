"""What a run has made of a network: take it from the folder, see its samples and its loss."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from minidiff.denoise import clipped, denoiser
from minidiff.errors import require
from minidiff.nn import EMA, Seeds, UNet, checkpoint
from minidiff.recipes import Recipe
from minidiff.sampler import ddim, last
from minidiff.train import in_precision, loss, numbers

CHECKPOINT = "checkpoint.safetensors"
BANDS = 10  # of noise levels, for `validate`
DTYPES = {"float32": None, "bf16": torch.bfloat16}


def load(folder, device="cpu"):
    """`(network, recipe)` of the folder's run, with the averaged weights, for `samples`."""
    path = Path(folder) / CHECKPOINT
    mark = checkpoint.about(path)[1]["run"]
    recipe = Recipe(**{field.name: mark[field.name] for field in fields(Recipe)})
    ema = EMA(UNet(recipe.network), recipe.half_life)
    checkpoint.load(path, ema.source, ema=ema)
    return ema.network.to(device), recipe


@torch.no_grad()
def validate(network, recipe, images, labels=None):
    """{row: mean of `train.loss` there}, for the middle row of each of ten bands of noise levels.

    images (N, C, H, W) and their noise are the same at every row and every time, the noise of
    image i by its own seed, i; there is no dropout, and no weight. So the mean of all is what a
    training without weights has as its loss.
    """
    network.eval()
    said, table = in_precision(network, DTYPES[recipe.precision]), recipe.table
    middle = ((np.arange(BANDS) + 0.5) / BANDS * table.T).astype(int)
    total = dict.fromkeys(np.maximum(1, middle).tolist(), 0.0)
    for i in range(0, len(images), recipe.batch):
        x0 = numbers(images[i:i + recipe.batch])
        names = None if labels is None else labels[i:i + recipe.batch]
        eps = Seeds(range(i, i + len(x0)), x0.device).standard_normal(x0.shape)
        for row in total:
            t = torch.full((len(x0),), row, device=x0.device)
            each = loss(said, table, x0, t, eps, recipe.kind, labels=names, condition=recipe.levels)
            total[row] += each.double().sum().item()
    return {row: value / len(images) for row, value in total.items()}


@torch.no_grad()
def samples(network, recipe, count=64, steps=50, seed=0, labels=None):
    """Images (count, C, H, W) in [-1, 1] by DDIM, from the noise of seeds seed, seed + 1, ...

    By default image i is of class i modulo the classes, where there are any.
    """
    network.eval()
    config, device = recipe.network, next(network.parameters()).device
    T = recipe.T
    rows = np.floor(np.linspace(0, T, min(steps, T) + 1) + 0.5).astype(int)
    table = recipe.table.select(rows)
    if config.classes:
        labels = torch.arange(count) % config.classes if labels is None else torch.as_tensor(labels)
    told = () if labels is None else (labels.to(device),)
    said = in_precision(network, DTYPES[recipe.precision])
    denoise = denoiser(lambda x, c: said(x, c, *told), table, recipe.kind,
                       condition=recipe.levels[rows])
    noise = Seeds(range(seed, seed + count), device)
    x = noise.standard_normal((count, config.channels, config.size, config.size))
    return last(ddim(clipped(denoise, table), table, table.sigma.item(-1) * x)).clamp(-1, 1)


def picture(images, path, columns=8):
    """Write images (rows·columns, 1 or 3, H, W) in [-1, 1] as one PNG, side by side."""
    from PIL import Image

    n, C, H, W = images.shape
    require(n % columns == 0 and C in (1, 3), "images", f"rows of {columns}, grey or in colours",
            tuple(images.shape))
    pixels = ((images.cpu() + 1) * 127.5).round().clamp(0, 255).byte()
    grid = pixels.reshape(n // columns, columns, C, H, W).permute(0, 3, 1, 4, 2)
    Image.fromarray(grid.reshape(n // columns * H, columns * W, C).squeeze(2).numpy()).save(path)
