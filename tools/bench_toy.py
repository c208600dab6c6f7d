"""The denoiser of chapter 3, trained by hand and by others: seconds a step, and to a good loss.

A step draws points from memory, rows and noise, embeds, and goes forwards, back and by Adam, in
float32. The floor is the matrix products of a step alone, each into memory of its own. OpenBLAS may
have to be told to use AVX-512, as PyTorch does unasked (OPENBLAS_CORETYPE=SkylakeX).
"""

import numpy as np

from bench import Row, peer, timed
from minidiff import mlp
from minidiff.data import eight_gaussians
from minidiff.quadrature import expect, noise_loss
from minidiff.schedule import cosine

CLOUD, TABLE, FOCUS, LR, LEVELS = eight_gaussians(), cosine(1000), 2.0, 3e-3, 20
GOOD = 1.05    # times the least loss that any network can have
FOREVER = 10**9
NOTES = {"eager PyTorch": "nn.Linear, SiLU, Adam, as one writes them",
         "smalldiffusion": "its own loop, loader, MLP of these widths (GELU, 4 inputs) and AdamW",
         "products alone": "the floor"}


def rows(rounds, batch=256, hidden=(128, 128, 128), size=100_000, plan=1000, seconds=0.1,
         compiled=True, seeds=(0, 1, 2)):
    """A step of each; then how long ours and PyTorch take to `GOOD`, in a training of `plan`."""
    points = CLOUD.sample(size, np.random.default_rng(0)).astype(np.float32)

    def torch_steps(**how):
        return lambda: in_torch(start(hidden), points, batch, **how)[1].__next__

    makers = {"ours": lambda: by_hand(start(hidden), points, batch)[1].__next__,
              "eager PyTorch": torch_steps(),
              "eager, fused Adam": torch_steps(fused=True),
              "compiled, fused Adam": torch_steps(fused=True, compiled=True),
              "smalldiffusion": lambda: smalldiffusion(points, batch, hidden).__next__,
              "products alone": lambda: products(batch, (19, *hidden, 2))}
    if not compiled:
        del makers["compiled, fused Adam"]
    step = {}
    for row in timed(f"step of {batch} points", makers, rounds, seconds, notes=NOTES):
        step[row.who] = row
        yield row
    for who, training in (("ours", by_hand), ("eager PyTorch", in_torch)):
        if step[who].value > 0:  # not NaN: it is there
            counts = [to_good(training, points, batch, hidden, plan, seed) for seed in seeds]
            yield until_good(step[who], counts, plan)


def start(hidden, seed=0):
    """The network that all but smalldiffusion's begin with."""
    return mlp.MLP(np.random.default_rng(seed), hidden=hidden)


def by_hand(network, points, batch, steps=FOREVER, seed=0):
    """`(what gives the network, its training)`, which yields losses: `minidiff.mlp` as it is."""
    def sample(n, rng):
        return points[rng.integers(len(points), size=n)]

    rng = np.random.default_rng(seed)
    return lambda: network, mlp.train(network, sample, TABLE, rng, steps, batch, LR, "v", FOCUS)


def in_torch(network, points, batch, steps=FOREVER, seed=0, fused=False, compiled=False):
    """The same in PyTorch, as one writes it."""
    import torch

    layers = copied(network)
    loss = torch_loss(layers)
    adam = torch.optim.Adam(layers.parameters(), LR, fused=fused)
    points, generator = torch.from_numpy(points), torch.Generator().manual_seed(seed)
    if compiled:
        loss = torch.compile(loss)

    def training():
        for step in range(steps):
            x0 = points[torch.randint(len(points), (batch,), generator=generator)]
            eps = torch.randn(x0.shape, generator=generator)
            t = 1 + (TABLE.T * torch.rand(batch, generator=generator) ** FOCUS).long()
            mean = loss(x0, t, eps)
            adam.zero_grad()
            mean.backward()
            for group in adam.param_groups:
                group["lr"] = LR * (1 - step / steps)
            adam.step()
            yield mean.item()

    def back():
        for (W, b), layer in zip(network.layers, layers[::2]):
            W[:], b[:] = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
        return network

    return back, training()


def copied(network):
    """The network's layers in PyTorch, with its weights."""
    import torch
    from torch import nn

    layers = []
    for W, b in network.layers:
        layer = nn.Linear(*W.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(W.T))
            layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def torch_loss(layers):
    """loss(x0, t, eps) of these layers, for y = v: what `mlp.train` makes small."""
    import torch

    alpha, sigma, level = (torch.tensor(a, dtype=torch.float32)[:, None] for a in
                           (TABLE.alpha, TABLE.sigma, np.clip(TABLE.log_snr, -12, 12)))
    waves = 2 * np.pi / 32 * torch.arange(1, 9)

    def loss(x0, t, eps):
        a, s, c = alpha[t], sigma[t], level[t]
        phase = c * waves
        z = torch.cat([a * x0 + s * eps, c / 12, phase.sin(), phase.cos()], dim=1)
        return torch.nn.functional.mse_loss(layers(z), a * eps - s * x0)

    return loss


def smalldiffusion(points, batch, hidden):
    """Its own training, by its own loop."""
    import torch

    own, accelerate = peer("smalldiffusion"), peer("accelerate")
    network = own.TimeInputMLP(hidden_dims=tuple(hidden))
    loader = torch.utils.data.DataLoader(torch.from_numpy(points), batch_size=batch, shuffle=True,
                                         drop_last=True)
    return own.training_loop(loader, network, own.ScheduleLogLinear(200, 0.01, 10),
                             accelerate.Accelerator(cpu=True), FOREVER, LR)


def products(batch, widths):
    """Does all matrix products of a step: forwards, and back to weights and to inputs."""
    rng = np.random.default_rng(1)

    def numbers(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    todo = []
    for i, (n, m) in enumerate(zip(widths, widths[1:])):
        z, W, delta = numbers(batch, n), numbers(n, m), numbers(batch, m)
        todo += [(z, W, numbers(batch, m)), (z.T, delta, numbers(n, m))]
        todo += [(delta, W.T, numbers(batch, n))] if i else []

    def do():
        for a, b, out in todo:
            np.matmul(a, b, out=out)

    return do


# How good it is.

def least(focus=FOCUS):
    """`(rows, loss)`: rows as the training draws them, and the least mean loss on them, for v."""
    t = 1 + (TABLE.T * ((np.arange(LEVELS) + 0.5) / LEVELS) ** focus).astype(int)
    a, s = TABLE.alpha[t], TABLE.sigma[t]
    noise = [noise_loss(CLOUD, *row)[0] for row in zip(a, s)]
    return t, float(np.mean(noise / a**2))  # an error of eps is one of v, times alpha


def excess(network, t):
    """By how much the network's mean loss is above the least: its distance from the oracle."""
    def apart(row):
        (a, s), c = TABLE.at(row, None), float(TABLE.log_snr[row])

        def square(x):
            x0 = CLOUD.posterior_mean(x, a, s)
            return ((network(x, c) - (a * (x - a * x0) / s - s * x0)) ** 2).mean(axis=1)

        return expect(CLOUD, square, a, s, nodes=8)[0]

    return float(np.mean([apart(int(row)) for row in t]))


def to_good(training, points, batch, hidden, plan, seed, every=25):
    """The steps that it took, or NaN: asked after every few."""
    back, losses = training(start(hidden, seed), points, batch, plan, seed)
    t, best = least()
    for step, _ in enumerate(losses, 1):
        if step % every == 0 and excess(back(), t) <= (GOOD - 1) * best:
            return step
    return np.nan


def until_good(step, counts, plan):
    """The row of so many steps, whose seconds were measured."""
    what, n = f"to {GOOD:g} times the least loss", float(np.median(counts))
    if np.isnan(n):
        return Row(what, step.who, n, "s", note=f"not in {plan} steps by every seed")
    return Row(what, step.who, n * step.value, "s", n * step.low, n * step.high,
               note=f"{n:g} steps of {plan}: the median of {len(counts)} seeds")
