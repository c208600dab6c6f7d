"""What each part of the U-Net is worth: the same training, each time with one part left out.

usage: python tools/ablation.py [--arms ARM ...] [--seeds N] [--steps N] [--out FILE]

Every training gives two rows of the record, one for the average of its weights and one for the last
weights. Trainings that the record holds are kept and not repeated, so that a run which was stopped
goes on. All arms with eight seeds take about twenty minutes on one core.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import rowfile
from minidiff import data
from minidiff.denoise import clipped, denoiser
from minidiff.nn import EMA, Seeds, UNet, UNetConfig
from minidiff.nn.blocks import Down, Stage, Up
from minidiff.sampler import ddim, last
from minidiff.schedule import cosine
from minidiff.train import loss, train

OUT = Path(__file__).resolve().parent.parent / "chapters" / "records" / "ablation.csv"
CONFIG = UNetConfig(size=8, channels=1, base=16, multipliers=(1, 2), blocks=1, attention=(4,),
                    groups=8, dropout=0.0, classes=10, level_scale=50)
LEVELS = range(25, 1000, 50)  # the rows of cosine() at which the test images are judged
SAMPLES = 500


class Row(NamedTuple):
    """A line of the record: the v loss on test images, and how many samples are as asked for."""

    arm: str
    steps: int
    seed: int
    weights: str  # "ema" or "last"
    loss: float
    agreement: float


class NoSkips(UNet):
    """Nothing is handed across: the way up gets zeros in its place."""

    @staticmethod
    def join(h, skip):
        return torch.cat([h, torch.zeros_like(skip)], dim=1)


class NoLevel(UNet):
    """It isn't told how noisy its image is."""

    def embed(self, x, c, labels):
        return super().embed(x, 0.0, labels)


class Same(nn.Module):
    """The convolution of a `Down` or an `Up`, at the resolution that it finds."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, h, emb):
        return F.conv2d(h, self.conv.weight, self.conv.bias, padding=1)


def no_pyramid(config, generator):
    """All levels at the finest resolution: as many weights, and more to compute."""
    network = UNet(config, generator)
    for blocks in (network.down, network.up):
        for i, block in enumerate(blocks):
            if isinstance(block, (Down, Up)):
                blocks[i] = Same(block.conv)
    return network


def no_attention(config, generator):
    network = UNet(config, generator)
    for module in network.modules():
        if isinstance(module, Stage):
            module.attention = None
    return network


def no_zeros(config, generator):
    """Layers that begin at zero begin like the others."""
    network = UNet(config, generator)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.any():
            nn.init.xavier_uniform_(module.weight, generator=generator)
    return network


ARMS = {"full": UNet, "no skips": NoSkips, "no attention": no_attention,
        "no noise level": NoLevel, "no zero start": no_zeros, "no pyramid": no_pyramid}


def split():
    """The chapter's digits: images and labels to train on, and others to test on."""
    images, labels = data.digits()
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = torch.from_numpy(images[order, None]), torch.from_numpy(labels[order]).long()
    return images[:1437], labels[:1437], images[1437:], labels[1437:]


def judge(images, labels, epochs=12):
    """A small classifier of real digits; of those it never saw it knows about 99 in a hundred."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 64, 3, 2, 1),
                            nn.SiLU(), nn.Flatten(), nn.Linear(1024, 10))
    for layer in (network[0], network[2], network[5]):
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(images), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(images[index]), labels[index]).backward()
            optimizer.step()
    return network


@torch.no_grad()
def test_loss(network, images, labels):
    """The v loss on these images, averaged over the levels, at noise that is always the same."""
    generator, total = torch.Generator().manual_seed(1), 0.0
    for t in LEVELS:
        rows = torch.full((len(images),), t)
        eps = torch.randn(images.shape, generator=generator)
        total += loss(network, cosine(), images, rows, eps, labels=labels).mean().item()
    return total / len(LEVELS)


@torch.no_grad()
def agreement(network, judged):
    """The share of samples, as many of each digit, in which the judge sees the digit asked for."""
    table, labels = cosine(25), torch.arange(SAMPLES) % 10
    start = Seeds(range(SAMPLES)).standard_normal((SAMPLES, 1, 8, 8))
    denoise = clipped(denoiser(lambda x, c: network(x, c, labels), table, "v"), table)
    return (judged(last(ddim(denoise, table, start))).argmax(1) == labels).float().mean().item()


def trained(arm, seed, steps, pictures, judged):
    """Train one arm from one seed, and judge it: two rows."""
    images, labels, *new = pictures
    network = ARMS[arm](CONFIG, torch.Generator().manual_seed(seed))
    optimizer, ema = torch.optim.AdamW(network.parameters(), weight_decay=0.0), EMA(network, 3000)
    for _ in train(network, optimizer, cosine(), images, labels, steps=steps, size=64, seed=seed,
                   lr=4e-3, warmup=100, drop=0.1):
        ema.update(64)
    return [Row(arm, steps, seed, weights, round(test_loss(net, *new), 5),
                round(agreement(net, judged), 4))
            for weights, net in (("ema", ema.network), ("last", network))]


def fits(row):
    """Is it one of this record's?"""
    return (row.arm in ARMS and row.weights in ("ema", "last") and row.loss > 0
            and 0 <= row.agreement <= 1)


read, write = rowfile.of(Row, fits)


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    rows, pictures = read(asked.out), split()
    done = {(row.arm, row.steps, row.seed) for row in rows}
    judged = judge(*pictures[:2])
    for seed in range(asked.seeds):
        for arm in asked.arms:
            if (arm, asked.steps, seed) not in done:
                rows += trained(arm, seed, asked.steps, pictures, judged)
                write(asked.out, rows)
                print(*rows[-2:], sep="\n", flush=True)


if __name__ == "__main__":
    main()
