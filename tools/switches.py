"""What each switch is worth: the same training step, each time with one switch turned over.

usage: python tools/switches.py [--recipe small|fast|ddpm] [--device cuda] [--rounds N] [--steps N]

All contenders train the same network on the same batches of drawn shapes, by `train` itself, and
take turns, A B C A B C, so that what slows the machine down slows all of them. The first is the
recipe as `run` has it on this device; each of the others has one switch turned over, which is off
where the recipe has it on, and the other way round; the last has none on. Beside the steps the
parts are timed that are too small to be seen in them. A row of the record is one turn: the seconds
of a step or a part (on a CPU those of this process alone), and the step's loss, since the
mathematics must stay the same. There is no warm-up, so that a difference would soon show.

The record is chapters/records/switches-DEVICE.csv. On one CPU core it takes about six minutes, of
which two go into compiling; `--device cuda --recipe fast --steps 20` is for a GPU.
"""

import argparse
import io
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

import rowfile
from bench import processor, slug
from minidiff.data.shapes import shapes
from minidiff.nn import EMA, UNet
from minidiff.nn.seeds import stream
from minidiff.recipes import DDPM, FAST, SMALL
from minidiff.train import batch, train
from minidiff.trained import DTYPES

RECORDS = Path(__file__).resolve().parent.parent / "chapters" / "records"
RECIPES = {"ddpm": DDPM, "fast": FAST, "small": SMALL}
IMAGES = 2048  # drawn shapes to train on


class Row(NamedTuple):
    """A line of the record: one turn of one contender."""

    device: str
    threads: int
    torch: str
    recipe: str
    batch: int
    kind: str        # "step", or "part" of one
    contender: str   # "as run", a switch that is turned over, or "none on"; or the part
    on: str          # the switches that are on, separated by spaces
    turn: int
    seconds: float   # of one step, the mean over the turn's
    loss: float      # of the turn's last step; NaN for a part


class Files:
    """Images as a folder of PNG files would give them, one by one: decoded, turned into floats in
    [-1, 1] and stacked, on the CPU, whenever a batch is asked for. Stands where `train` asks for
    images; `workers` threads decode."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, images, workers=1):
        self.shape, self.files = images.shape, [_png(image) for image in images]
        self.decode = ThreadPoolExecutor(workers).map if workers > 1 else map

    def __len__(self):
        return len(self.files)

    def index_select(self, dim, index):
        return torch.stack(list(self.decode(self.open, index.tolist())))

    def open(self, i):
        pixels = np.array(Image.open(io.BytesIO(self.files[i])))
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1

    def is_floating_point(self):
        return True


def _png(image):
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "png")
    return file.getvalue()


def switched(recipe, device):
    """{switch: is it on?} as `run` has them: what is here is what can be turned over."""
    return {"bf16": recipe.precision == "bf16", "channels_last": recipe.channels_last,
            "compile": recipe.compile, "fused": device.type == "cuda", "resident": True}


def contenders(recipe, device, without=()):
    """{name: switches} of all contenders."""
    usual = switched(recipe, device)
    turned = {name: {**usual, name: not on} for name, on in usual.items() if name not in without}
    return {"as run": usual, **turned, "none on": dict.fromkeys(usual, False)}


def made(recipe, on, device, seed=0):
    """The network, its optimizer and its average, as `run` makes them with these switches."""
    network = UNet(recipe.network, stream(seed, 0, "weights")).to(device)
    if on["channels_last"]:
        network.to(memory_format=torch.channels_last)
    ema = EMA(network, recipe.half_life)
    if on["compile"]:
        network.compile()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.0, fused=on["fused"])
    return network, optimizer, ema


def training(recipe, on, data, device, seed=0):
    """The steps of a training with these switches; yields each one's loss."""
    network, optimizer, ema = made(recipe, on, device, seed)
    images, labels = data["resident" if on["resident"] else "files"]
    labels = labels if recipe.network.classes else None
    precision = DTYPES["bf16" if on["bf16"] else "float32"]
    for step in train(network, optimizer, recipe.table, images, labels, steps=recipe.steps,
                      size=recipe.batch, seed=seed, kind=recipe.kind, condition=recipe.levels,
                      lr=recipe.lr, warmup=recipe.warmup, clip=recipe.clip, drop=recipe.drop,
                      flip=recipe.flip, decay=recipe.decay, weight=recipe.weight,
                      autocast=precision):
        ema.update(recipe.batch)
        yield step.loss


def parts(recipe, data, device):
    """{name: what does it once} for the parts of a step that can be timed by themselves."""
    usual = switched(recipe, device)
    found = {}
    for name in ("Adam", "fused Adam"):
        network, optimizer, ema = made(
            recipe, {**usual, "compile": False, "fused": name == "fused Adam"}, device)
        for p in network.parameters():
            p.grad = torch.full_like(p, 1e-3)
        found[name] = optimizer.step
    found["clip"] = lambda: torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
    found["average"] = lambda: ema.update(recipe.batch)
    for name in ("resident", "files"):
        found[f"batch, {name}"] = lambda at=data[name]: _fetched(recipe, at, device)
    return found


def _fetched(recipe, at, device):
    """A step's images, mirrored by chance, with their noise, all on the device."""
    for one in batch(*at, 0, 0, recipe.batch, recipe.T, recipe.flip)[:3]:
        one.to(device)


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(do, times, device):
    """Mean seconds, and what it said last. On a CPU these are seconds of this process, which don't
    pass while others have the core."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    wait(device)
    start = clock()
    for _ in range(times):
        said = do()
    wait(device)
    return (clock() - start) / times, said


def contest(recipe, name, device, rounds, steps, workers=1, without=()):
    """Yields the rows, turn by turn. What goes before the first turn is not timed."""
    images, labels = shapes("train", max(IMAGES, recipe.batch))
    labels = torch.from_numpy(labels).long()
    data = {"resident": (torch.from_numpy(images).to(device), labels.to(device)),
            "files": (Files(images, workers), labels)}
    all_on = contenders(recipe, device, without)
    runs = {who: training(recipe, on, data, device) for who, on in all_on.items()}
    pieces = parts(recipe, data, device)
    about = (named(device), torch.get_num_threads(), torch.__version__, name, recipe.batch)
    for run in runs.values():
        for _ in range(steps if device.type == "cuda" else 1):
            next(run)
    for turn in range(rounds):
        for who, run in runs.items():
            seconds, loss = timed(lambda run=run: next(run), steps, device)
            on = " ".join(switch for switch, is_on in all_on[who].items() if is_on)
            yield Row(*about, "step", who, on, turn, *map(_short, (seconds, loss)))
        for who, do in pieces.items():
            timed(do, 1, device)  # nothing of its own is in the cache
            yield Row(*about, "part", who, "", turn, _short(timed(do, 3, device)[0]), math.nan)


def _short(number):
    return float(f"{number:.6g}")


def named(device):
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()


def path_for(device):
    """Where the record of this device stands."""
    word = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return RECORDS / f"switches-{slug(word)}.csv"


def fits(row):
    """Is it one of this record's?"""
    return row.kind in ("step", "part") and 0 < row.seconds < math.inf


read, write = rowfile.of(Row, fits)


def parsed(words):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", choices=RECIPES, default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=1, help="of a turn")
    parser.add_argument("--batch", type=int, help="by default the recipe's")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--workers", type=int, default=1, help="that decode files")
    parser.add_argument("--without", nargs="*", default=[], help="switches to leave as they are")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(words)


def main(words=None):
    asked = parsed(words)
    torch.set_num_threads(asked.threads)
    torch.backends.cudnn.benchmark = True  # as `train.py` has it
    device, recipe = torch.device(asked.device), RECIPES[asked.recipe]
    recipe = replace(recipe, batch=asked.batch or recipe.batch, warmup=0)
    rows, out = [], asked.out or path_for(device)
    for row in contest(recipe, asked.recipe, device, asked.rounds, asked.steps, asked.workers,
                       asked.without):
        rows.append(row)
        print(f"{row.turn:3} {row.kind} {row.contender:16} {1e3 * row.seconds:10.3f} ms"
              + (f"   loss {row.loss:.5f}" if row.kind == "step" else ""), flush=True)
    write(out, rows)


if __name__ == "__main__":
    main()
