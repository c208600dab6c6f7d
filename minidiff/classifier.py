"""A small classifier of pictures, by whose inner numbers other pictures are judged.

Two pictures are alike to it if it sees alike things on them. The Frechet distance on the features
of Inception is the FID; this network is our own and another one, so a distance on its features is
no FID: compare it with others on the same features only. `tools/classifier.py` trains it.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from minidiff.errors import require
from minidiff.nn import checkpoint
from minidiff.nn.unet import whole

PATCH = 12  # numbers of 2×2 pixels in three colours
EPS = 1e-3  # of a variance: what varies less in a patch, as JPEG's colours do, isn't blown up


@dataclass(frozen=True)
class Config:
    """The shape of a `Classifier`: the channels of its stages, its features, and the classes.

    Raises `ValueError` for what can't be built: 32 pixels can be halved four times.
    """

    widths: tuple = (64, 128, 256)
    features: int = 128
    classes: int = 10

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))  # a list, where it comes from JSON
        require(1 <= len(self.widths) <= 4 and all(whole(width, 1) for width in self.widths),
                "widths", "one to four whole numbers >= 1", self.widths)
        for name in ("features", "classes"):
            require(whole(getattr(self, name), 1), name, "a whole number >= 1", getattr(self, name))


class Classifier(nn.Module):
    """`network(x) -> logits` (B, classes) of pictures x (B, 3, 32, 32) in [-1, 1].

    Patches of 2×2 pixels, whitened once and for all; stages that each halve the resolution; then
    `config.features` numbers, each a mean over what is left of the picture, and logits linear in
    them: the design of Jordan (2024, arXiv:2404.00498) with residual stages. The weights come from
    `generator`, a torch one on the CPU, or one that is seeded with 0. What it subtracts and whitens
    with are buffers, which `adapt` sets: pictures come as they are.
    """

    def __init__(self, config=Config(), generator=None):
        super().__init__()
        self.config = config
        with torch.device("meta"):  # shapes only: torch would draw numbers from its global state
            widths = 2 * PATCH, *config.widths
            self.stages = nn.Sequential(*(Stage(n, m) for n, m in pairwise(widths)))
            self.last = unit(widths[-1], config.features)
            self.head = nn.Linear(config.features, config.classes)
        self.to_empty(device="cpu")
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("whiten", torch.eye(PATCH).reshape(PATCH, 3, 2, 2))
        generator = generator or torch.Generator().manual_seed(0)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()  # ones and zeros
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, generator=generator)
        nn.init.normal_(self.head.weight, std=config.features**-0.5, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(self.features(x))

    def features(self, x):
        """What it sees on pictures x (B, 3, 32, 32) in [-1, 1]: (B, d)."""
        h = F.conv2d(x - self.mean, self.whiten)
        h = F.gelu(torch.cat([h, -h], dim=1))
        return self.last(self.stages(h)).mean(dim=(2, 3))


class Stage(nn.Module):
    """Half the resolution, and h + what a second convolution adds to it (He et al. 2016)."""

    def __init__(self, n, m):
        super().__init__()
        self.down, self.more = unit(n, m, nn.MaxPool2d(2)), unit(m, m)

    def forward(self, h):
        h = self.down(h)
        return h + self.more(h)


def unit(n, m, pool=None):
    """A convolution from n to m channels, normalised over the batch (Ioffe and Szegedy 2015)."""
    return nn.Sequential(nn.Conv2d(n, m, 3, padding=1, bias=False), pool or nn.Identity(),
                         nn.BatchNorm2d(m), nn.GELU())


@torch.no_grad()
def adapt(network, images):
    """Learn the mean colour, and what makes patches of 2×2 pixels white, from uint8 images.

    White: uncorrelated, each direction of variance one; a direction of variance v is divided by
    sqrt(v + `EPS`). Nothing here is trained later.
    """
    x = signal(images)
    network.mean.copy_(x.mean(dim=(0, 2, 3)).reshape(3, 1, 1))
    patches = F.unfold(x - network.mean.cpu(), 2, stride=2).transpose(1, 2).reshape(-1, PATCH)
    values, axes = torch.linalg.eigh(torch.cov(patches.double().T))
    white = axes / (values.clamp(min=0) + EPS).sqrt()
    network.whiten.copy_(white.T.reshape(PATCH, 3, 2, 2))


def load(path, device="cpu"):
    """The network of a file that `keep` wrote, in eval mode and float32.

    Raises `ValueError` where `path` is no whole checkpoint, or another network's.
    """
    require(Path(path).is_file(), "path", "a classifier's weights", str(path))
    state = checkpoint.about(path)[1]
    require(isinstance(state, dict) and "classifier" in state, f"checkpoint {path}",
            "of a classifier", "another network's")
    network = Classifier(Config(**state["classifier"]))
    checkpoint.load(path, network)
    return network.to(device).eval()


def features(network, images, batch=256):
    """What the network sees on each image: an array (N, d) of float32.

    images (N, 3, 32, 32) are uint8, or floats in [-1, 1]. Those are first rounded to bytes, as a
    file of pictures does: else data, which are bytes, and samples, which are not, would differ in
    what no eye sees but a network may. Raises `ValueError` for other shapes, types or ranges.
    """
    return _seen(network, network.features, images, batch)


def predict(network, images, batch=256, mirrored=False):
    """The class of each image, (N,) int64; `images` as in `features`.

    `mirrored`: by the mean of its logits and those of its mirror image.
    """
    def logits(x):
        return network(x) + network(x.flip(-1)) if mirrored else network(x)

    return _seen(network, logits, images, batch).argmax(axis=1)


def signal(images):
    """Images as the network asks for them: float32 in [-1, 1], each one of 256 values."""
    images = torch.as_tensor(images)
    require(images.shape[1:] == (3, 32, 32), "images", "of shape (N, 3, 32, 32): colours, 32×32",
            tuple(images.shape))
    require(images.dtype == torch.uint8 or images.is_floating_point(), "images",
            "uint8, or floats in [-1, 1]", images.dtype)
    if images.is_floating_point():
        require(bool((images.abs() <= 1).all()), "images", "in [-1, 1], where they are floats",
                [images.min().item(), images.max().item()])
        images = ((images + 1) * 127.5).round()
    return images.float() / 127.5 - 1


@torch.no_grad()
def _seen(network, ask, images, batch):
    """`ask` of all images, so many at a time; in eval mode, where a batch's others don't matter."""
    require(whole(batch, 1), "batch", "a whole number >= 1", batch)
    require(len(images) > 0, "images", "one or more", len(images))
    network.eval()
    device = next(network.parameters()).device
    return np.concatenate([ask(signal(images[i:i + batch]).to(device)).float().cpu().numpy()
                           for i in range(0, len(images), batch)])
