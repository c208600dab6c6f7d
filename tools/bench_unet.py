"""The U-Net beside others': seconds of a training step and of a sampling step, at equal shape.

All have 3×32×32 images, base 64, multipliers 1 2 2 2, two blocks a level, attention at 16×16 and in
the middle with one head, no dropout; what still differs shows in the parameters and in the FLOPs. Those
are the formula's, however cleverly it is computed: shares of a rate then mean the same for all.
Each contender is timed in the setting in which it is quickest here, which is found first: memory
format, precision and, on a GPU, compiled or not. All have the fused AdamW; gradients are clipped
and weights averaged as each one's own trainer does by default. A sampling step is an evaluation and
a step of DDIM; on a GPU it may also be replayed from CUDA graphs. The floor is our network's
convolutions alone, with their inputs ready in memory; of a GPU also its bf16 products are timed.
"""

import copy
import importlib.util
import itertools
import math
import sys
import time
import types
from dataclasses import dataclass, replace
from functools import cache
from typing import Callable
from unittest import mock

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from bench import Row, compare, made, peer, timed
from minidiff.denoise import denoiser
from minidiff.nn import EMA, UNet, UNetConfig, parameters
from minidiff.nn.blocks import Doubling
from minidiff.sampler import ddim
from minidiff.schedule import cosine
from minidiff.train import in_precision

STEPS = ("training step", "sampling step")
FLOOR = "convolutions alone"


@dataclass(frozen=True)
class Contender:
    """A network, how it is asked for y, and what its trainer does besides."""

    network: object
    said: Callable  # (x, levels (B,)) -> y
    clip: float = 1.0
    average: Callable = bool  # called after each step; this does nothing


def rows(rounds, config=None, batch=None, device=None):
    """What each one has and costs; then both steps, for each the setting and its GFLOP a second."""
    config = config or UNetConfig(base=64, dropout=0.0)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    batch = batch or (128 if device.type == "cuda" else 8)
    flops, rates = {}, {}
    if device.type == "cuda":
        rates["bf16 products"] = products(device, rounds)
        yield Row("bf16 products alone", "8192 × 8192", rates["bf16 products"] / 1e9, "GFLOP/s")
    starts, missing = made({who: lambda start=start: lambda: start(config)
                            for who, start in STARTS.items()})
    for who, start in starts.items():
        one = start()
        flops[who] = counted(one, config, batch)
        yield Row("parameters", who, parameters(one.network), "")
        for what, number in zip(STEPS, flops[who]):
            yield Row(f"GFLOP of a {what}", who, number / 1e9, "")
    flops[FLOOR] = counted(starts["ours"](), config, batch, only="convolution")
    for what, number in zip(STEPS, zip(*flops.values())):
        number = dict(zip(flops, number))
        yield from with_rates(timed_steps(what, starts, rounds, config, batch, device), number, rates)
    yield from (Row("U-Net", who, math.nan, "s", note=f"skipped: {why}")
                for who, why in missing.items())


def timed_steps(what, starts, rounds, config, batch, device):
    """The rows of one of the `STEPS`."""
    work, said = {"training step": training, "sampling step": sampling}[what], {}

    def maker(who):
        def make(setting):
            if who == FLOOR:
                return convolutions(starts["ours"](), config, batch, device, setting, what)
            return work(starts[who](), config, batch, device, setting)

        def tuned():
            do, said[who] = quickest(make, device, graphs=work == sampling)
            return do

        return tuned

    makers = {who: maker(who) for who in (*starts, FLOOR)}
    return timed(what, makers, rounds, clock=clock(device), notes=said)


def with_rates(rows, flops, known):
    """The rows with GFLOP a second in their notes, and the share of the floor's and `known` ones."""
    rows = list(rows)
    rates = {row.who: flops[row.who] / row.value for row in rows if row.value > 0}
    peaks = {"the convolutions'": rates[FLOOR]} | {f"the {name}'": r for name, r in known.items()}
    for row in rows:
        if row.who in rates:
            shares = [f"{rates[row.who] / peak:.0%} of {whose}" for whose, peak in peaks.items()]
            row = replace(row, note="; ".join([row.note, f"{rates[row.who] / 1e9:.0f} GFLOP/s",
                                               *shares]))
        yield row


def products(device, rounds, n=8192):
    """FLOP/s of matrix products in bf16."""
    a, b = torch.randn(2, n, n, device=device, dtype=torch.bfloat16)

    def do():
        torch.mm(a, b)[0, 0].item()  # which waits for it

    return 2 * n**3 / compare({"products": do}, rounds, clock=clock(device))["products"].median_s


def quickest(make, device, graphs=False):
    """`(what does the step, the setting's name)`, of all settings the quickest."""
    all_of_them = {name: make(setting) for name, setting in settings(device, graphs).items()}
    times = compare(all_of_them, 5, clock=clock(device))
    name = min(times, key=lambda name: times[name].low_s)
    return all_of_them[name], name


def settings(device, graphs=False):
    """{name: (channels_last, bf16, how)}; `how` is one of those of `set_up`."""
    hows = ["eager"] + ["compiled"] * (device.type == "cuda")
    hows += ["graphs"] * (graphs and device.type == "cuda")
    layouts, precisions = ("contiguous", "channels_last"), ("float32", "bf16")
    return {f"{layouts[last]}, {precisions[bf16]}, {how}": (last, bf16, how)
            for last, bf16, how in itertools.product((False, True), (False, True), hows)}


def clock(device):
    """A GPU's work is not in the seconds of this process."""
    return time.perf_counter if device.type == "cuda" else None


def set_up(one, device, setting):
    """`(network, y of (x, levels))` with the setting's layout and precision; eager, compiled, or
    compiled and replayed from CUDA graphs."""
    last, bf16, how = setting
    network = one.network.to(device)
    if last:
        network.to(memory_format=torch.channels_last)
    if how != "eager":
        network.compile(mode="reduce-overhead" if how == "graphs" else None)
    return network, in_precision(one.said, torch.bfloat16 if bf16 else None)


def training(one, config, batch, device, setting):
    """Does a step as its trainer does: loss, gradient, clip, AdamW, average."""
    network, said = set_up(one, device, setting)
    network.train()
    shape = (batch, config.channels, config.size, config.size)
    x0 = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    adam = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0, fused=True)

    def step():
        eps, t = torch.randn_like(x0), 1 + 999 * torch.rand(batch, device=device)
        angle = (t * math.pi / 2000)[:, None, None, None]
        x, v = angle.cos() * x0 + angle.sin() * eps, angle.cos() * eps - angle.sin() * x0
        loss = (said(x, t) - v).square().mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        if one.clip < math.inf:
            torch.nn.utils.clip_grad_norm_(network.parameters(), one.clip)
        adam.step()
        one.average()
        return loss.item()

    return step


def sampling(one, config, batch, device, setting):
    """Does a step of DDIM, by `minidiff.sampler` for all."""
    network, said = set_up(one, device, setting)
    network.eval()
    table, shape = cosine(1000), (batch, config.channels, config.size, config.size)
    denoise = denoiser(lambda x, c: said(x, torch.full((batch,), c, device=device)), table, "v",
                       condition=np.arange(1001.0))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    states = itertools.chain.from_iterable(ddim(denoise, table, x) for _ in itertools.count())

    @torch.no_grad()
    def step():
        t, x = next(states)
        if t == table.T:  # that is the start, and no work
            t, x = next(states)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return x.flatten()[0].item()

    return step


def convolutions(one, config, batch, device, setting, what):
    """Does the network's convolutions one by one, each on an input as it meets it."""
    network, said = set_up(one, device, (*setting[:2], "eager"))
    met, train = [], what == "training step"

    def meet(layer, inputs, y):
        x = torch.randn_like(inputs[0]).requires_grad_(train and inputs[0].shape[1] > 3)
        met.append((layer, x, torch.randn_like(y)))

    convs = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    hooks = [layer.register_forward_hook(meet) for layer in convs]
    with torch.no_grad():
        said(torch.randn(batch, config.channels, config.size, config.size, device=device),
             torch.ones(batch, device=device))
    for hook in hooks:
        hook.remove()

    def once():
        with torch.set_grad_enabled(train), torch.autocast(device.type, torch.bfloat16,
                                                           enabled=setting[1]):
            for layer, x, dy in met:
                x.grad = layer.weight.grad = None
                y = layer(x)
                if train:
                    y.backward(dy)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return once


def counted(one, config, batch, only=""):
    """The formula's FLOPs of a training step and of an evaluation, by torch's counter."""
    op = torch.ops.aten  # of a CPU's attention kernel the counter doesn't know
    more = {op._scaled_dot_product_flash_attention_for_cpu:
            lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
            op._scaled_dot_product_flash_attention_for_cpu_backward:
            lambda dy, q, k, v, *_, **__: 2 * sdpa_flop_count(q, k, v)}
    x, t = torch.zeros(batch, config.channels, config.size, config.size), torch.ones(batch)
    totals = []
    for train in (True, False):
        counter = FlopCounterMode(display=False, custom_mapping=more)
        with counter, torch.set_grad_enabled(train), by_the_formula():
            y = one.said(x, t)
            if train:
                y.sum().backward()
        totals.append(sum(n for name, n in counter.get_flop_counts()["Global"].items()
                          if only in str(name)))
    one.network.zero_grad(set_to_none=True)
    return totals


def by_the_formula():
    """While it lasts, our doublings are computed as they are written down, with all products."""
    def forward(layer, h):
        return torch.nn.Conv2d.forward(layer, F.interpolate(h, scale_factor=2.0))

    return mock.patch.object(Doubling, "forward", forward)


# Who takes part.

def ours(config):
    network = UNet(config)
    ema = cache(lambda: EMA(network, 887_184.0))
    return Contender(network, network, average=lambda: ema().update(8))


def diffusers(config):
    own = importlib.import_module("diffusers")
    utils = importlib.import_module("diffusers.training_utils")
    down = ["AttnDownBlock2D" if r in config.attention else "DownBlock2D"
            for r in config.resolutions]
    network = own.UNet2DModel(
        sample_size=config.size, in_channels=config.channels, out_channels=config.channels,
        block_out_channels=config.widths, layers_per_block=config.blocks, down_block_types=down,
        up_block_types=[name.replace("Down", "Up") for name in reversed(down)],
        norm_num_groups=config.groups, attention_head_dim=None, downsample_padding=0)
    ema = cache(lambda: utils.EMAModel(network.parameters()))
    return Contender(network, lambda x, t: network(x, t, return_dict=False)[0],
                     average=lambda: ema().step(network.parameters()))


def denoising_diffusion_pytorch(config):
    """Its levels without full attention have a linear one; full is by PyTorch's kernel."""
    own = peer("denoising_diffusion_pytorch")
    average = importlib.import_module("ema_pytorch").EMA
    network = own.Unet(
        config.base, dim_mults=config.multipliers, channels=config.channels, flash_attn=True,
        full_attn=tuple(r in config.attention for r in config.resolutions), attn_heads=1,
        attn_dim_head=config.widths[-1])
    ema = cache(lambda: average(network, beta=0.995, update_every=10))
    return Contender(network, network, average=lambda: ema().update())


def smalldiffusion(config):
    """Its trainer neither clips nor averages."""
    own = alone("smalldiffusion.model_unet")
    network = own.Unet(config.size, config.channels, config.channels, ch=config.base,
                       ch_mult=config.multipliers, num_res_blocks=config.blocks,
                       attn_resolutions=config.attention, dropout=config.dropout)
    return Contender(network, network, clip=math.inf)


def torchcfm(config):
    """The average is its CIFAR-10 example's."""
    own = alone("torchcfm.models.unet")
    network = own.UNetModel((config.channels, config.size, config.size), config.base,
                            config.blocks, channel_mult=config.multipliers, num_heads=1,
                            attention_resolutions=",".join(map(str, config.attention)))
    copied = cache(lambda: copy.deepcopy(network))

    def average(decay=0.9999):
        source, target = network.state_dict(), copied().state_dict()
        for key in source:
            target[key].data.copy_(target[key].data * decay + source[key].data * (1 - decay))

    return Contender(network, lambda x, t: network(t, x), average=average)


STARTS = {"ours": ours, "diffusers": diffusers,
          "denoising-diffusion-pytorch": denoising_diffusion_pytorch,
          "smalldiffusion": smalldiffusion, "torchcfm": torchcfm}


def alone(name):
    """A module of a package whose own first lines, which ask for more, are not run."""
    package = name.split(".")[0]
    if package in sys.modules:
        return importlib.import_module(name)
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}")
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = list(spec.submodule_search_locations)
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[package]  # whoever wants all of it can have it
