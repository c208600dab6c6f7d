"""Images on their way into a training step: bytes that lie in memory, beside the usual loader.

Ours does to all images of a batch at once what the loader does to one after the other: it takes
them from the data set, mirrors every other by chance and makes numbers in [-1, 1] of its bytes. The
loader's steps are those of torchvision's CIFAR10, RandomHorizontalFlip, ToTensor and Normalize,
written out here, since torchvision can't be had beside every torch. It has no workers: those take
more cores, not less work. The step's rows and noise are drawn by both alike, or by neither.
"""

from dataclasses import replace
from itertools import count

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from bench import timed
from minidiff.errors import require
from minidiff.nn.seeds import stream
from minidiff.train import _order, batch, numbers

SHAPE, SEED, T = (3, 32, 32), 0, 1000
NOTES = {"DataLoader": "torchvision's steps on PIL images, no workers"}


def rows(rounds, n=10_240, size=128, seconds=0.1):
    """Images a second: alone, and with the rows and the noise of their step."""
    require(n % size == 0, "n", f"divisible by size = {size}", n)
    images = np.random.default_rng(0).integers(256, size=(n, *SHAPE), dtype=np.uint8)
    for what, ours, theirs in (("images", resident, loaded),
                               ("images, rows and noise", whole, noised)):
        makers = {"ours": lambda: ours(images, size).__next__,
                  "DataLoader": lambda: theirs(images, size).__next__}
        for row in timed(f"{what}, {size} at a time", makers, rounds, seconds, notes=NOTES):
            yield replace(row, value=size / row.value, unit="images/s", low=size / row.high,
                          high=size / row.low)


def whole(images, size):
    """Batch after batch of images, rows and noise, as `minidiff.train` takes them."""
    images = torch.from_numpy(images)
    for step in count():
        yield batch(images, None, SEED, step, size, T, flip=True)[:3]


def resident(images, size):
    """The images alone of the same batches."""
    images = torch.from_numpy(images)
    for step in count():
        epoch, start = divmod(step * size, len(images))
        index = _order(SEED, epoch, len(images))[start:start + size]
        rng = stream(SEED, step, "batch")
        torch.randint(1, T + 1, (size,), generator=rng)  # the rows come first
        mirrored = (torch.rand(size, generator=rng) < 0.5).nonzero().flatten()
        x0 = numbers(images.index_select(0, index))
        yield x0.index_copy_(0, mirrored, x0.index_select(0, mirrored).flip(-1))


class Pictures(Dataset):
    """A data set as torchvision has them: images (N, H, W, C) of bytes, one at a time."""

    def __init__(self, images, flip=0.5):
        self.images, self.flip = np.ascontiguousarray(images.transpose(0, 2, 3, 1)), flip

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = Image.fromarray(self.images[i])                         # CIFAR10
        if torch.rand(1) < self.flip:                                   # RandomHorizontalFlip
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image, copy=True))           # ToTensor
        pixels = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        mean, std = (torch.full((3, 1, 1), 0.5) for _ in range(2))      # Normalize
        return pixels.clone().sub_(mean).div_(std)


def loaded(images, size):
    """Batch after batch of images, by a DataLoader."""
    loader = DataLoader(Pictures(images), batch_size=size, shuffle=True)
    while True:
        yield from loader


def noised(images, size):
    """The loader's batches, with rows and noise."""
    for x0 in loaded(images, size):
        yield x0, torch.randint(1, T + 1, (size,)), torch.randn(x0.shape)
