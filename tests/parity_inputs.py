"""How each function that a chapter builds is tried out, beside the package's own: one line a name.

A trial takes the function and a NumPy Generator, and returns what must agree: numbers, arrays,
words, dataclasses, generators, or lists, tuples and dicts of them. It is run once on the chapter's
function and once on the package's, with generators in the same state.
"""

import numpy as np

from minidiff import mlp
from minidiff.data import eight_gaussians, two_moons
from minidiff.denoise import KINDS
from minidiff.rosetta import LEVELS, OUTPUTS, SCALES
from minidiff.schedule import cosine, karras


def noisings(rng):
    """Clean arrays, rows and noise: one row for all, and one row for each."""
    for t in (0, 7, 50, np.array([0, 7, 50, 3])):
        yield rng.standard_normal((4, 2)), t, rng.standard_normal((4, 2))


def network(rng, widths=(5, 4, 6, 3), n=7):
    """Layers with random parameters in float64, inputs for them, and a gradient to fill."""
    size = sum((a + 1) * b for a, b in zip(widths, widths[1:]))
    return (mlp.split(rng.standard_normal(size), widths), rng.standard_normal((n, widths[0])),
            mlp.split(np.zeros(size), widths))


def returned(backward, rng):
    """The gradient that `backward` finds."""
    layers, z, gradient = network(rng)
    y, trail = mlp.forward(layers, z)
    backward(layers, z, trail, y, gradient)
    return gradient


def walked(Adam, rng):
    """Where four steps lead, with the numbers that Adam comes with and with others."""
    for options in ({}, dict(beta1=0.7, beta2=0.9, tiny=0.1)):
        parameters = rng.standard_normal(8)
        adam = Adam(parameters, **options)
        for gradient in rng.standard_normal((4, 8)):
            adam.step(gradient, 0.1)
        yield parameters


def said(MLP, rng):
    """What a network is made of and, once its last layer isn't zero, what it says."""
    net = MLP(rng, hidden=(6, 5), dtype=np.float64)
    yield net.widths, net.parameters.copy()
    net.parameters += rng.standard_normal(net.parameters.size)
    yield net(rng.standard_normal((4, 2)), 0.5), net(rng.standard_normal((4, 2)), np.ones((4, 1)))


def torch_embeds(embed, rng):
    """What the first layer of a network in torch sees: one level for all points, or one for each."""
    import torch

    x = torch.from_numpy(rng.standard_normal((3, 2)))
    return [embed(x, c) for c in (0.5, np.inf, torch.tensor([[-20.0], [0.0], [3.0]]))]


def torch_said(MLP, rng):
    """What a network in torch is made of, what it says, and the same of other parameters."""
    import torch

    net = MLP(2, (6, 5), torch.Generator().manual_seed(3)).double()
    yield [p.detach().numpy() for p in net.parameters()]
    yield MLP(hidden=(6,)).flat(), MLP(3, (4,)).flat()  # with generators of their own
    net.load(rng.standard_normal(net.flat().size))
    yield net.flat()
    x = torch.from_numpy(rng.standard_normal((4, 2)))
    yield [net(x, c).detach().numpy() for c in (0.5, 20.0, torch.linspace(-14, 3, 4)[:, None])]
    yield net(x.float(), 0.5).detach().numpy()


def averaged(EMA, rng):
    """An average's numbers along a training of nothing but chance, with its first warm-up and another."""
    import torch

    for half_life, options in ((300, {}), (200, dict(warmup=0.4)), (50, dict(warmup=1e9))):
        net = torch.nn.BatchNorm1d(3).double()  # which has parameters and buffers
        ema = EMA(net, half_life, **options)
        for size in rng.integers(1, 90, 30).tolist():
            with torch.no_grad():
                for value in net.state_dict().values():
                    value.copy_(torch.as_tensor(rng.integers(-9, 9, value.shape)))
            ema.update(size)
            yield [value.numpy().copy() for value in ema.network.state_dict().values()]
        yield ema.seen, ema.network.training, [p.requires_grad for p in ema.network.parameters()]

def unet_config():
    """A small U-Net with all there is in one: labels, heads, attention, a change of width."""
    from minidiff.nn import UNetConfig

    return UNetConfig(size=8, channels=2, base=8, multipliers=(1, 2), blocks=2, attention=(4,),
                      heads=2, groups=4, dropout=0.0, classes=3, level_scale=50.0)


def redrawn(module, rng):
    """The module in float64, every parameter drawn anew: zeros would hide a difference."""
    import torch

    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.from_numpy(0.3 * rng.standard_normal(p.shape)))
    return module


def tensors(rng, *shapes):
    """Random tensors in float64."""
    import torch

    return [torch.from_numpy(rng.standard_normal(shape)) for shape in shapes]


def block_said(module, rng, *shapes):
    """What a block is made of, and what it says to random inputs of these shapes."""
    yield {name: tuple(p.shape) for name, p in module.named_parameters()}
    yield redrawn(module, rng)(*tensors(rng, *shapes)).detach().numpy()


def stages_said(Stage, rng):
    """A block with attention and one without."""
    for n, attention in ((8, True), (4, False)):
        yield from block_said(Stage(n, 8, 16, unet_config(), attention), rng,
                              (2, n, 4, 4), (2, 16))


def residuals_said(Residual, rng):
    """As many channels as before, and more; with dropout, which is off outside training."""
    for n, m, dropout in ((8, 8, 0.0), (8, 12, 0.5)):
        yield from block_said(Residual(n, m, 16, 4, dropout).eval(), rng, (2, n, 6, 6), (2, 16))


def attention_said(Attention, rng):
    """What is heard, who is listened to, and what is asked, with one head and with two."""
    for heads in (1, 2):
        attention = Attention(8, 4, heads)
        yield from block_said(attention, rng, (2, 8, 3, 5))
        (h,) = tensors(rng, (2, 8, 3, 5))
        yield attention.weights(h).detach().numpy()
        yield [part.detach().numpy() for part in attention.ask(h)]


def unet_said(UNet, rng):
    """The first weights, and what is said of others; with and without labels."""
    import dataclasses

    import torch

    (x,) = tensors(rng, (3, 2, 8, 8))
    c, labels = torch.tensor([-14.0, 0.3, np.inf]), torch.tensor([0, 2, 3])
    for classes in (3, 0):
        net = UNet(dataclasses.replace(unet_config(), classes=classes),
                   torch.Generator().manual_seed(3))
        yield {name: p.numpy() for name, p in net.state_dict().items()}
        net = redrawn(net, rng)
        for level, told in ((0.5, None), (c, None), (c[:, None, None, None], labels)):
            yield net(x, level, told if classes else None).detach().numpy()
        yield str(net.float()(x.float(), 0.5).dtype)
    yield [p.detach().numpy() for p in UNet(unet_config()).parameters()]  # its own generator


def started(start, rng):
    """The first weights, whatever was there before; in a U-Net of blocks that `start` knows."""
    import inspect

    import torch

    home = inspect.unwrap(start).__globals__
    net = redrawn(home["UNet"](unet_config()), rng).float()
    start(net, torch.Generator().manual_seed(4))
    return {name: p.numpy() for name, p in net.state_dict().items()}


def waved(waves, rng):
    """Levels as waves, in float64 and in float32."""
    (c,) = tensors(rng, (5,))
    return [waves(1000 * c, 16).numpy(), waves(c.float(), 8).numpy()]


TABLES = cosine(12), karras(12)  # one that preserves variance, and one that doesn't
ROWS = np.array([0, 3, 5, 1]), np.array([1, 4, 12, 12])  # s and t of some steps


TRIALS = {
    "minidiff.schedule.from_beta": lambda f, rng: f(rng.uniform(1e-3, 0.5, 20)),
    "minidiff.schedule.linear": lambda f, rng: [f(), f(50, 1e-3, 0.2), f(T=7)],
    "minidiff.schedule.cosine": lambda f, rng: [f(), f(50, 0.02, 0.9), f(T=7)],
    "minidiff.quadrature.expect": lambda f, rng: [
        f(eight_gaussians(), lambda x: x[:, 0] ** 4, *a) for a in ((), (0.8, 0.6), (1.0, 2.0, 9))],
    "minidiff.quadrature.noise_loss": lambda f, rng: [
        f(eight_gaussians(), *a) for a in ((0.8, 0.6), (1.0, 2.0, 9))],
    "minidiff.sampler.langevin": lambda f, rng: f(
        np.sin, rng.standard_normal((4, 2)), 0.1, 5, rng),
    "minidiff.denoise.pair": lambda f, rng: [f(kind, cosine(50), 0.7) for kind in KINDS],
    "minidiff.denoise.target": lambda f, rng: [
        f(cosine(50), *a, kind, 0.7) for kind in KINDS for a in noisings(rng)],
    "minidiff.denoise.denoiser": lambda f, rng: [
        f(lambda x, c: np.sin(x) + c, cosine(50), kind, 0.7, **how)(rng.standard_normal((3, 2)), t)
        for kind in KINDS for t in (1, 50, np.array([3, 1, 50]))
        for how in ({}, {"condition": np.arange(51)})],
    "minidiff.mlp.embed": lambda f, rng: [
        f(rng.standard_normal((3, 2)), c) for c in (0.5, np.inf, np.array([[-20.0], [0.0], [3.0]]))],
    "minidiff.mlp.split": lambda f, rng: f(rng.standard_normal(5 * 4 + 4 + 4 * 3 + 3), (5, 4, 3)),
    "minidiff.mlp.forward": lambda f, rng: f(*network(rng)[:2]),
    "minidiff.mlp.backward": returned,
    "minidiff.mlp.Adam": walked,
    "minidiff.mlp.MLP": said,
    "minidiff.mlp.train": lambda f, rng: f(
        mlp.MLP(rng, hidden=(6, 5), dtype=np.float64), eight_gaussians().sample, cosine(50), rng, 5,
        batch=8),
    "minidiff.process.diffuse": lambda f, rng: [f(cosine(50), *a) for a in noisings(rng)],
    "minidiff.process.transition": lambda f, rng: [f(t, *ROWS) for t in TABLES],
    "minidiff.process.posterior": lambda f, rng: [f(t, *ROWS) for t in TABLES],
    "minidiff.sampler.ddpm": lambda f, rng: [
        f(eight_gaussians().denoiser(t), t, rng.standard_normal((4, 2)), rng, variance)
        for t in TABLES for variance in ("small", "large")],
    "minidiff.denoise.clipped": lambda f, rng: [
        f(eight_gaussians().denoiser(TABLES[0]), TABLES[0], *limits)(rng.standard_normal((9, 2)), 4)
        for limits in ((), (-0.5, 1.2))],
    "minidiff.metrics.energy_distance": lambda f, rng: f(
        rng.standard_normal((70, 2)), rng.standard_normal((5, 2))),
    "minidiff.elbo.prior": lambda f, rng: [f(t, rng.random(4), 2) for t in TABLES],
    "minidiff.elbo.steps": lambda f, rng: [f(t, v) for t in TABLES for v in ("small", "large")],
    "minidiff.elbo.bound": lambda f, rng: [
        f(eight_gaussians().denoiser(t), t, rng.standard_normal((5, 2)), rng, variance)
        for t in TABLES for variance in ("small", "large")],
    "minidiff.elbo.least": lambda f, rng: [
        f(eight_gaussians(), t, v, 8) for t in TABLES for v in ("small", "large")],
    "minidiff.sampler.sde": lambda f, rng: [
        f(eight_gaussians().denoiser(t), t, rng.standard_normal((4, 2)), rng, eta)
        for t in TABLES for eta in (0.0, 0.5, 1.0)],
    "minidiff.likelihood.trace": lambda f, rng: [
        f(eight_gaussians().denoiser(t), rng.standard_normal((4, 2)), 5, *step)
        for t in TABLES for step in ((), (0.1,))],
    "minidiff.likelihood.hutchinson": lambda f, rng: [
        f(eight_gaussians().denoiser(t), rng.standard_normal((4, 2)), 5, rng, *how)
        for t in TABLES for how in ((), (3, 0.1))],
    "minidiff.likelihood.log_prob": lambda f, rng: [
        f(eight_gaussians().denoiser(t), t, rng.standard_normal((4, 2)), *how) for t in TABLES
        for how in ((), (lambda denoise, x, t: t * x[:, 0],))],
    "minidiff.schedule.flow": lambda f, rng: [f(), f(7)],
    "minidiff.schedule.karras": lambda f, rng: [f(), f(7, 0.1, 9.0, 3.0), f(7, rho=np.inf)],
    "minidiff.denoise.rescaled": lambda f, rng: [
        f(eight_gaussians().denoiser(TABLES[0]), TABLES[0], TABLES[0].rescaled("flow"))(
            rng.standard_normal((3, 2)), t) for t in (1, 12, np.array([3, 1, 12]))],
    "minidiff.rosetta.level": lambda f, rng: [
        f(rng.uniform(0.1, 0.9, 5), a, b) for a in LEVELS for b in LEVELS],
    "minidiff.rosetta.scales": lambda f, rng: [
        f(c, scale) for scale in SCALES for c in (0.5, rng.standard_normal(4))],
    "minidiff.rosetta.say": lambda f, rng: [
        f(output, *rng.standard_normal((2, 4, 2)), 0.8, 0.5) for output in OUTPUTS],
    "minidiff.rosetta.hear": lambda f, rng: [
        f(output, *rng.standard_normal((2, 4, 2)), 0.8, 0.5) for output in OUTPUTS],
    "minidiff.sampler.ddim": lambda f, rng: [
        f(eight_gaussians().denoiser(t), t, rng.standard_normal((4, 2)), eta, rng)
        for t in TABLES for eta in (0.0, 0.5, 1.0)],
    "minidiff.sampler.heun": lambda f, rng: [
        f(eight_gaussians().denoiser(t), t, rng.standard_normal((4, 2))) for t in TABLES],
    "minidiff.sampler.dpmpp_2m": lambda f, rng: [
        f(eight_gaussians().denoiser(t), t, rng.standard_normal((4, 2))) for t in TABLES],
    "minidiff.nn.mlp.embed": torch_embeds,
    "minidiff.nn.mlp.MLP": torch_said,
    "minidiff.nn.blocks.conv": lambda f, rng: [
        *block_said(f(4, 6), rng, (2, 4, 5, 5)), *block_said(f(4, 6, 1), rng, (2, 4, 5, 5))],
    "minidiff.nn.blocks.norm": lambda f, rng: block_said(f(2, 6), rng, (2, 6, 4, 4)),
    "minidiff.nn.blocks.Stage": stages_said,
    "minidiff.nn.unet.UNet": unet_said,
    "minidiff.nn.blocks.waves": waved,
    "minidiff.nn.blocks.Residual": residuals_said,
    "minidiff.nn.blocks.Down": lambda f, rng: block_said(f(4), rng, (2, 4, 6, 6), (2, 16)),
    "minidiff.nn.blocks.Up": lambda f, rng: block_said(f(4), rng, (2, 4, 3, 3), (2, 16)),
    "minidiff.nn.blocks.Attention": attention_said,
    "minidiff.nn.unet.start": started,
    "minidiff.nn.ema.EMA": averaged,
    "minidiff.denoise.guided": lambda f, rng: [
        f(*(cloud.denoiser(table) for cloud in (eight_gaussians(), two_moons())), w)(
            rng.standard_normal((4, 2)), t)
        for table in TABLES for w in (0.0, 0.5, 1.0, 3.0) for t in (1, 12, np.array([3, 1, 12, 7]))],
    "minidiff.recipes.min_snr": lambda f, rng: [
        f(table, kind, *gamma) for table in TABLES for kind in KINDS[:4] for gamma in ((), (1.0,))],
}
