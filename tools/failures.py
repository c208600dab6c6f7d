"""How failures look: the same short training on the digits, each time with one thing wrong.

usage: python tools/failures.py [--arms ARM ...] [--seeds N] [--steps N] [--out FILE]

A row of the record is a look at a network on its way: the mean training loss and gradient's norm
since the last look, and its loss, by `trained.validate`, on 64 training images (`seen`) and on 64
that no network is trained on (`held_out`). The arm `right` is looked at twice, as the average of
its weights and as its last ones, which are what there is without an average. All other looks are at
averages. Beside the record lies a folder of its name, with twenty samples by each network of seed 0.
Trainings that the record holds are kept and not repeated. All arms with three seeds take about five
minutes on one core.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import rowfile
from minidiff import data
from minidiff.nn import EMA, UNet
from minidiff.nn.seeds import stream
from minidiff.recipes import TINY
from minidiff.train import train
from minidiff.trained import picture, samples, validate

OUT = Path(__file__).resolve().parent.parent / "chapters" / "records" / "failures.csv"
RIGHT = replace(TINY, batch=32, steps=400, lr=4e-3, warmup=50, decay=0, half_life=1500.0,
                min_snr=0.0)
FEW = 50  # training images in the arms that learn them by heart
JUDGED = 64
LOOKS = 10


def dropout(recipe, share):
    return replace(recipe, network=replace(recipe.network, dropout=share))


ARMS = {  # the recipe, and how many images there are; None: all
    "right": (RIGHT, None),
    "rate": (replace(RIGHT, lr=0.1), None),  # 25 times as high
    "scaling": (RIGHT, None),  # images in [0, 1], while samples are held in [-1, 1]
    "few": (RIGHT, FEW),
    "few, dropout": (dropout(RIGHT, 0.3), FEW),
}


class Row(NamedTuple):
    """A line of the record."""

    arm: str
    seed: int
    weights: str  # "ema" or "last"
    steps: int    # of the whole training
    step: int
    train: float
    norm: float
    seen: float
    held_out: float


def split():
    """The digits as chapter 8 has them: images and labels to train on, and others to test on."""
    images, labels = data.digits()
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = torch.from_numpy(images[order, None]), torch.from_numpy(labels[order]).long()
    return images[:1437], labels[:1437], images[1437:], labels[1437:]


def trained(arm, seed, steps, pictures):
    """Train an arm from a seed: its rows, and {weights: network}."""
    recipe, count = ARMS[arm]
    recipe = replace(recipe, steps=steps, warmup=min(recipe.warmup, steps))
    images, labels, *new = pictures
    if arm == "scaling":
        images, new[0] = (images + 1) / 2, (new[0] + 1) / 2
    images, labels = images[:count], labels[:count]
    judged = [(images[:JUDGED], labels[:JUDGED]), (new[0][:JUDGED], new[1][:JUDGED])]
    network = UNet(recipe.network, stream(seed, 0, "weights"))
    optimizer, ema = torch.optim.AdamW(network.parameters(), weight_decay=0.0), EMA(
        network, recipe.half_life)
    kept = {"ema": ema.network} | ({"last": network} if arm == "right" else {})
    rows, since, look = [], [], max(1, steps // LOOKS)
    for now in train(network, optimizer, recipe.table, images, labels, steps=steps,
                     size=recipe.batch, seed=seed, kind=recipe.kind, condition=recipe.levels,
                     lr=recipe.lr, warmup=recipe.warmup, drop=recipe.drop):
        ema.update(recipe.batch)
        since.append((now.loss, now.norm))
        if now.step % look == 0:
            means = np.mean(since, axis=0)
            since.clear()
            for weights, net in kept.items():
                losses = (np.mean(list(validate(net, recipe, *some).values())) for some in judged)
                rows.append(Row(arm, seed, weights, steps, now.step,
                                *(round(float(value), 5) for value in (*means, *losses))))
    return rows, kept


def show(folder, arm, kept):
    """Write twenty samples of each network, two of a digit: ink is bright, as in the data."""
    folder.mkdir(parents=True, exist_ok=True)
    for weights, network in kept.items():
        name = arm.replace(", ", "-") if weights == "ema" else f"{arm}-{weights}"
        picture(samples(network, ARMS[arm][0], 20, steps=25), folder / f"{name}.png", 10)


def fits(row):
    """Is it one of this record's?"""
    return (row.arm in ARMS and row.weights in ("ema", "last") and 1 <= row.step <= row.steps
            and min(row.train, row.norm, row.seen, row.held_out) > 0)


read, write = rowfile.of(Row, fits)


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=RIGHT.steps)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    rows, pictures = read(asked.out), split()
    done = {(row.arm, row.seed, row.steps) for row in rows}
    for seed in range(asked.seeds):
        for arm in asked.arms:
            if (arm, seed, asked.steps) not in done:
                new, kept = trained(arm, seed, asked.steps, pictures)
                if seed == 0:
                    show(asked.out.with_suffix(""), arm, kept)
                rows += new
                write(asked.out, rows)
                print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
