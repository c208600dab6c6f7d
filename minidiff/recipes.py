"""Recipes: all that decides what a training makes, as one value that checks and prints itself.

They are starting points to be changed: `dataclasses.replace(FAST, batch=256)`.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from minidiff.denoise import KINDS, pair
from minidiff.errors import require
from minidiff.nn.unet import UNetConfig, whole
from minidiff.schedule import cosine, flow, karras, linear

SCHEDULES = {"linear": linear, "cosine": cosine, "flow": flow,
             "karras": lambda T: karras(T).rescaled("vp")}  # so that x's variance stays near one


@dataclass(frozen=True)
class Recipe:
    """A network and how to train it; the rest as it stands is Ho et al.'s (2020, appendix B).

    Its noise levels are the T rows of a `schedule`; it predicts y of a `kind`, and is told t or the
    log-SNR, as `condition` says. A run is `steps` steps of `batch` images; `warmup`, `decay`,
    `clip` and `drop` are `train`'s, in steps, norm and probability, and `flip` mirrors images. The
    average's `half_life` is in images, and never more than a twentieth of those seen. `min_snr` is
    gamma of Hang et al. (2023), 0 for equal weights. `precision` is the network's inner numbers':
    "float32" or "bf16"; `channels_last` and `compile` change its speed alone.
    Raises `ValueError` for what can't be trained.
    """

    network: UNetConfig
    schedule: str = "linear"
    T: int = 1000
    kind: str = "eps"
    condition: str = "t"
    batch: int = 128
    steps: int = 800_000
    lr: float = 2e-4
    warmup: int = 5000
    decay: int = 0
    clip: float = 1.0
    drop: float = 0.0
    flip: bool = True
    half_life: float = 887_184.0  # a decay of 0.9999 for every 128 images
    min_snr: float = 0.0
    precision: str = "bf16"
    channels_last: bool = True
    compile: bool = True

    def __post_init__(self):
        if isinstance(self.network, dict):  # from JSON
            object.__setattr__(self, "network", UNetConfig(**self.network))
        for name, choices in (("schedule", tuple(SCHEDULES)), ("kind", KINDS[:4]),
                              ("condition", ("t", "log_snr")), ("precision", ("float32", "bf16"))):
            require(getattr(self, name) in choices, name, f"one of {choices}", getattr(self, name))
        for names, rule, fits in (
                (("T", "batch", "steps"), "a whole number >= 1", lambda v: whole(v, 1)),
                (("warmup", "decay"), "a whole number >= 0", lambda v: whole(v, 0)),
                (("lr", "clip", "half_life"), "a number > 0", lambda v: _number(v) and v > 0),
                (("drop", "min_snr"), "a number >= 0", lambda v: _number(v) and v >= 0),
                (("flip", "channels_last", "compile"), "true or false",
                 lambda v: isinstance(v, bool))):
            for name in names:
                require(fits(getattr(self, name)), name, rule, getattr(self, name))
        require(self.decay <= self.steps, "decay", f"at most steps = {self.steps}", self.decay)
        require(self.drop <= 1 and (self.drop == 0 or self.network.classes > 0), "drop",
                "a probability, and 0 where there are no classes", self.drop)
        pair(self.kind, self.table)  # refuses what can't be asked of a network

    def __str__(self):
        return "\n".join(f"{field.name:<14}{getattr(self, field.name)}" for field in fields(self))

    @cached_property
    def table(self):
        """The `Schedule` it is trained on."""
        return SCHEDULES[self.schedule](self.T)

    @property
    def levels(self):
        """What the network is told at each row, (T+1,)."""
        return np.arange(self.T + 1.0) if self.condition == "t" else self.table.log_snr

    @property
    def weight(self):
        """How much each row's loss counts, (T+1,), or None: equally."""
        return min_snr(self.table, self.kind, self.min_snr) if self.min_snr else None


def min_snr(schedule, kind, gamma=5.0):
    """The weights of each row's loss in y, (T+1,), that make it min(snr, gamma) in x0; 0 in row 0.

    At a given x an error e of x0 is one of -(alpha/sigma)·e in eps, so of (p - q·alpha/sigma)·e in
    y = p·x0 + q·eps: that is Hang et al.'s (2023, section 3.4) for x0, eps and v, and all others.
    """
    p, q = pair(kind, schedule)
    alpha, sigma = schedule.alpha[1:], schedule.sigma[1:]
    weight = np.minimum(schedule.snr[1:], gamma) / (p[1:] - q[1:] * alpha / sigma) ** 2
    return np.append(0.0, weight)


def _number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


DDPM = Recipe(UNetConfig())  # Ho et al.'s for CIFAR-10

# The most for a GPU's minute: a smaller network, levels and weights that spend less on what can't
# be seen, and a rate that falls to zero. It knows the classes, and forgets each tenth label.
FAST = Recipe(
    UNetConfig(base=96, multipliers=(1, 2, 2), heads=3, classes=10, level_scale=50.0),
    schedule="cosine", kind="v", condition="log_snr", batch=512, steps=30_000, lr=1e-3,
    warmup=500, decay=20_000, drop=0.1, half_life=768_000.0, min_snr=5.0)

# For 32×32 colours where there is no GPU: under two hours of one core that knows bf16.
SMALL = Recipe(
    UNetConfig(base=32, multipliers=(1, 2, 4), blocks=1, attention=(8,), groups=8, dropout=0.0,
               classes=10, level_scale=50.0),
    schedule="cosine", kind="v", condition="log_snr", batch=64, steps=4500, lr=2e-3, warmup=200,
    decay=2700, drop=0.1, half_life=14_000.0, min_snr=5.0, compile=False)

# For scikit-learn's digits, minutes on a laptop.
TINY = Recipe(
    UNetConfig(size=8, channels=1, base=16, multipliers=(1, 2), blocks=1, attention=(4,), groups=4,
               dropout=0.0, classes=10, level_scale=50.0),
    schedule="cosine", kind="v", condition="log_snr", batch=64, steps=3000, lr=2e-3, warmup=100,
    decay=1500, drop=0.1, flip=False, half_life=10_000.0, min_snr=5.0, precision="float32",
    channels_last=False, compile=False)
