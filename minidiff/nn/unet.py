"""The U-Net of Ho et al. (2020, appendix B): an image seen coarse and fine, at every noise level.

Down a pyramid of resolutions and up again; what is seen on the way down is handed across to the way
up. Its blocks are in `blocks.py`.
"""

from dataclasses import dataclass

import torch
from torch import nn

from minidiff.errors import require
from minidiff.nn.blocks import Attention, Down, Residual, Stage, Up, conv, norm, waves


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a `UNet`; as it stands, Ho et al.'s for CIFAR-10, of 35,746,307 parameters.

    `size` pixels a side and `channels` colours; level i has base·multipliers[i] channels and half
    the resolution of the one before, with `blocks` residual blocks on the way down and one more on
    the way up; the resolutions in `attention`, and the lowest between the two ways, get
    self-attention with `heads` heads. `classes` = 0 is a network without labels. The noise level
    times `level_scale` is held in [-1000, 1000] and turned into waves: 1 is for t = 1..1000, 50 for
    a log-SNR. Raises `ValueError` where that can't be built.
    """

    size: int = 32
    channels: int = 3
    base: int = 128
    multipliers: tuple = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple = (16,)
    heads: int = 1
    groups: int = 32
    dropout: float = 0.1
    classes: int = 0
    level_scale: float = 1.0

    def __post_init__(self):
        for name in ("multipliers", "attention"):  # lists, where they come from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("size", "channels", "base", "blocks", "heads", "groups"):
            require(whole(getattr(self, name), 1), name, "a whole number >= 1", getattr(self, name))
        require(self.base >= 4 and self.base % 2 == 0, "base",
                "even, half of the waves being sines, and >= 4", self.base)
        require(len(self.multipliers) >= 1 and all(whole(m, 1) for m in self.multipliers),
                "multipliers", "one or more whole numbers >= 1", self.multipliers)
        halvings = len(self.multipliers) - 1
        require(self.size % 2**halvings == 0, "size",
                f"divisible by {2**halvings}, to be halved {halvings} times", self.size)
        require(set(self.attention) <= set(self.resolutions), "attention",
                f"among the resolutions {self.resolutions}", self.attention)
        for name in ("groups", "heads"):
            require(all(width % getattr(self, name) == 0 for width in self.widths), name,
                    f"a divisor of the channels {self.widths}", getattr(self, name))
        require(0 <= self.dropout < 1, "dropout", "in [0, 1)", self.dropout)
        require(whole(self.classes, 0), "classes", "a whole number >= 0", self.classes)
        require(self.level_scale > 0, "level_scale", "> 0", self.level_scale)

    @property
    def widths(self):
        """The channels of every level, from the finest to the coarsest."""
        return [self.base * m for m in self.multipliers]

    @property
    def resolutions(self):
        """The pixels a side of every level."""
        return [self.size >> i for i in range(len(self.multipliers))]


class UNet(nn.Module):
    """`network(x, c) -> y`, as `denoise.denoiser` asks for it; y = 0 before any training.

    x (B, channels, size, size); c a number or one per image, as (B,) or (B, 1, 1, 1); labels (B,)
    of ints, where `classes` itself means "not told", as does leaving them out. The weights come
    from `generator`, a torch one on the CPU, or one that is seeded with 0.
    """

    def __init__(self, config, generator=None):
        super().__init__()
        self.config = config
        with torch.device("meta"):  # shapes only: torch would draw numbers from its global state
            self._build(config, 4 * config.base)
        self.to_empty(device="cpu")
        start(self, generator or torch.Generator().manual_seed(0))

    def _build(self, config, E):
        def stage(n, m, attention):
            return Stage(n, m, E, config, attention)

        levels = [(m, r in config.attention) for m, r in zip(config.widths, config.resolutions)]
        self.level = nn.Sequential(nn.Linear(config.base, E), nn.SiLU(), nn.Linear(E, E))
        self.label = nn.Embedding(config.classes + 1, E) if config.classes else None
        self.first = conv(config.channels, config.base)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips = [config.base]  # the channels of what is handed across
        for i, (m, attention) in enumerate(levels):
            for _ in range(config.blocks):
                self.down.append(stage(skips[-1], m, attention))
                skips.append(m)
            if i < len(levels) - 1:
                self.down.append(Down(m))
                skips.append(m)
        n = m
        self.middle = nn.ModuleList([stage(n, n, True), stage(n, n, False)])
        for i, (m, attention) in reversed(list(enumerate(levels))):
            for _ in range(config.blocks + 1):
                self.up.append(stage(n + skips.pop(), m, attention))
                n = m
            if i > 0:
                self.up.append(Up(m))
        self.last = nn.Sequential(norm(config.groups, n), nn.SiLU(), conv(n, config.channels))

    def forward(self, x, c, labels=None):
        shape = (self.config.channels, self.config.size, self.config.size)
        require(x.shape[1:] == shape, "x", f"B images of shape {shape}", tuple(x.shape))
        emb = self.embed(x, c, labels)
        h = self.first(x)
        skips = [h]
        for block in self.down:
            h = block(h, emb)
            skips.append(h)
        for block in self.middle:
            h = block(h, emb)
        for block in self.up:
            if isinstance(block, Stage):
                h = self.join(h, skips.pop())
            h = block(h, emb)
        return self.last(h)

    @staticmethod
    def join(h, skip):
        """What comes up from below, and what was seen at this resolution on the way down."""
        return torch.cat([h, skip], dim=1)

    def embed(self, x, c, labels):
        """What every block is told, (B, E): the noise level and, given classes, the label."""
        B, precise = len(x), torch.promote_types(x.dtype, torch.float32)
        c = torch.as_tensor(c, dtype=precise, device=x.device).reshape(-1)
        require(len(c) in (1, B), "c", f"a number, or one for each of {B} images", tuple(c.shape))
        c = (c * self.config.level_scale).clamp(-1000, 1000).expand(B)
        emb = self.level(waves(c, self.config.base).to(x.dtype))
        if self.label is None:
            require(labels is None, "labels", "left out: the network has no classes", labels)
            return emb
        untold = self.config.classes
        if labels is None:
            labels = torch.full((B,), untold, device=x.device)
        require(labels.shape == (B,), "labels", f"of shape ({B},)", tuple(labels.shape))
        if not (labels.is_cuda or torch.compiler.is_compiling()):  # to ask would stall the queue
            require(bool(((labels >= 0) & (labels <= untold)).all()), "labels",
                    f"in 0..{untold}, where {untold} means not told", labels)
        return emb + self.label(labels)


@torch.no_grad()
def start(network, generator):
    """Draw a `UNet`'s first weights, which keep the numbers' size from layer to layer (Glorot and
    Bengio 2010); each block's last layer is zero, so that at first it adds nothing."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, generator=generator)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, Attention):
            module.qkv.weight *= 2**0.5  # three layers side by side, each of n numbers to n
            nn.init.zeros_(module.out.weight)
        elif isinstance(module, Residual):
            nn.init.zeros_(module.conv2.weight)
    nn.init.zeros_(network.last[-1].weight)


def whole(value, least):
    """Is it a whole number of at least this?"""
    return isinstance(value, int) and value >= least


def parameters(network):
    """How many numbers a network has to learn."""
    return sum(p.numel() for p in network.parameters())
