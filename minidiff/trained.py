"""What a run has made of a network: take it from the folder, see its samples and its loss."""

import copy
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from minidiff.denoise import clipped, denoiser, guided
from minidiff.errors import require
from minidiff.nn import EMA, Seeds, UNet, checkpoint
from minidiff.nn.unet import whole
from minidiff.recipes import Recipe
from minidiff.sampler import ddim, ddpm, dpmpp_2m, heun, last, sde
from minidiff.train import in_precision, loss, numbers

CHECKPOINT = "checkpoint.safetensors"
BANDS = 10  # of noise levels, for `validate`
DTYPES = {"float32": None, "bf16": torch.bfloat16}
RANDOM = {"ddpm": ddpm, "sde": sde}  # they draw noise on the way
SOLVERS = {"ddim": ddim, "heun": heun, "dpmpp_2m": dpmpp_2m, **RANDOM}


def load(folder, device="cpu"):
    """`(network, recipe)` of the folder's run, or of a checkpoint in it, with the averaged weights.

    Those that `keep_weights` wrote are read alike. Raises `ValueError` where there is no
    checkpoint, or none of a run.
    """
    path = Path(folder)
    path = path if path.is_file() else path / CHECKPOINT
    require(path.is_file(), "folder", f"a run's, with {CHECKPOINT} in it", str(folder))
    state = checkpoint.about(path)[1] or {}
    require(state.get("run"), f"checkpoint {path}", "of a run", "another network's")
    recipe = Recipe(**{field.name: state["run"][field.name] for field in fields(Recipe)})
    network = UNet(recipe.network).eval()
    if state.get("averaged"):
        checkpoint.load(path, network)
        return network.to(device), recipe
    ema = EMA(network, recipe.half_life)
    checkpoint.load(path, network, ema=ema)
    return ema.network.to(device), recipe


def keep_weights(path, step, state, ema):
    """Write the averaged weights alone, in bf16: two bytes each, and all that sampling asks for."""
    halves = copy.deepcopy(ema.network).bfloat16()
    checkpoint.save(path, step, {**state, "averaged": True, "images": ema.seen}, halves)


@torch.no_grad()
def validate(network, recipe, images, labels=None):
    """{row: mean of `train.loss` there}, for the middle row of each of ten bands of noise levels.

    images (N, C, H, W) and their noise are the same at every row and every time, the noise of
    image i by its own seed, i; there is no dropout, and no weight. So the mean of all is what a
    training without weights has as its loss.
    """
    network.eval()
    said, table = _said(network, recipe), recipe.table
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
def samples(network, recipe, count=64, steps=50, seed=0, labels=None, solver="ddim", w=1.0,
            batch=256):
    """Images (count, C, H, W) in [-1, 1] by one of the `SOLVERS`, from noise of seeds seed + i.

    Image i is the same in any batch, but for rounding. By default its label is i modulo the
    classes, where there are any; `labels` (count,) are others, of which `classes` means "not told".
    The steps are even in t, and no more than the recipe's T. Guidance, of `denoise.guided`'s w,
    asks for a training that dropped labels. Raises `ValueError` for what can't be sampled.
    """
    config, device = recipe.network, next(network.parameters()).device
    for name, value in (("count", count), ("steps", steps), ("batch", batch)):
        require(whole(value, 1), name, "a whole number >= 1", value)
    require(whole(seed, 0) and seed + count <= 2**32, "seed", f"in 0..2³² - {count}", seed)
    require(solver in SOLVERS, "solver", f"one of {tuple(SOLVERS)}", solver)
    require(w == 1 or recipe.drop > 0, "w", "1, as no label was ever dropped in training", w)
    labels = _labels(config.classes, count, labels)
    network.eval()
    rows = np.floor(np.linspace(0, recipe.T, min(steps, recipe.T) + 1) + 0.5).astype(int)
    table, made = recipe.table.select(rows), []
    for i in range(0, count, batch):
        n = min(batch, count - i)
        noise = Seeds(range(seed + i, seed + i + n), device)
        x = table.sigma.item(-1) * noise.standard_normal(
            (n, config.channels, config.size, config.size))
        names = None if labels is None else labels[i:i + n].to(device)
        denoise = _denoiser(network, recipe, table, recipe.levels[rows], names, w)
        drawn = (noise,) if solver in RANDOM else ()
        made.append(last(SOLVERS[solver](denoise, table, x, *drawn)).clamp(-1, 1))
    return torch.cat(made)


def _said(network, recipe):
    """The network in the recipe's precision; on a CPU in float32, as few can do bf16 well."""
    on_cpu = next(network.parameters()).device.type == "cpu"
    return network if on_cpu else in_precision(network, DTYPES[recipe.precision])


def _labels(classes, count, labels):
    """The labels (count,) as asked for or by default; None where there are no classes."""
    require(classes or labels is None, "labels", "left out: the network has no classes", labels)
    if not classes:
        return None
    labels = torch.arange(count) % classes if labels is None else torch.as_tensor(labels)
    require(labels.shape == (count,) and 0 <= labels.min() and labels.max() <= classes, "labels",
            f"{count} in 0..{classes}, where {classes} means not told", labels.tolist())
    return labels


def _denoiser(network, recipe, table, levels, labels, w):
    """What the recipe's network makes of x on this table, where it is told these levels."""
    said = _said(network, recipe)

    def asked(*names):
        return denoiser(lambda x, c: said(x, c, *names), table, recipe.kind, condition=levels)

    told = asked() if labels is None else asked(labels)
    return clipped(told if w == 1 else guided(told, asked(), w), table)


def pixels(images):
    """Images (N, C, H, W) in [-1, 1] as bytes, (N, H, W, C), an array."""
    return ((images.cpu() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def picture(images, path, columns=8):
    """Write images (rows·columns, 1 or 3, H, W) in [-1, 1] as one PNG, side by side."""
    from PIL import Image

    n, C, H, W = images.shape
    require(n % columns == 0 and C in (1, 3), "images", f"rows of {columns}, grey or in colours",
            tuple(images.shape))
    grid = pixels(images).reshape(n // columns, columns, H, W, C).swapaxes(1, 2)
    grid = grid.reshape(n // columns * H, columns * W, C)
    Image.fromarray(grid if C == 3 else grid[..., 0]).save(path)
