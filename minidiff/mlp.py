"""A denoiser by hand: a small network, its way back, and Adam, in NumPy.

The parameters lie in one flat vector, of which the layers' W and b are views; so does their
gradient. Work is done in place: to find fresh memory would take as long as the arithmetic.
"""

import numpy as np

from minidiff.denoise import pair
from minidiff.errors import require
from minidiff.process import diffuse, noise_like
from minidiff.schedule import read


def embed(x, log_snr):
    """What the first layer sees: x (B, d) beside 17 numbers that say how noisy it is, (B, d + 17).

    These are the log-SNR, a number or (B, 1), held in [-12, 12], and 8 waves of it, as sines and
    cosines: near levels look alike, and yet can be told apart (Vaswani et al. 2017, section 3.5).
    """
    c = np.broadcast_to(np.clip(log_snr, -12, 12), (len(x), 1)).astype(x.dtype)
    phase = c * (2 * np.pi / 32 * np.arange(1, 9, dtype=x.dtype))
    return np.concatenate([x, c / 12, np.sin(phase), np.cos(phase)], axis=1)


def split(flat, widths):
    """The layers' pairs W (n, m) and b (m,), for n, m side by side in `widths`: views of `flat`."""
    layers, start = [], 0
    for n, m in zip(widths, widths[1:]):
        middle, end = start + n * m, start + n * m + m
        layers.append((flat[start:middle].reshape(n, m), flat[middle:end]))
        start = end
    return layers


def forward(layers, z, trail=None):
    """The network's output at z (B, n), and its trail: output and gate of every hidden layer.

    The gate is sigmoid(a) = (1 + tanh(a/2))/2 of a = z·W + b, the output SiLU, a·sigmoid(a)
    (Elfwing et al. 2018). A trail of the same batch size that is used up lends its memory.
    """
    trail = trail or [tuple(np.empty((2, len(z), len(b)), z.dtype)) for _, b in layers[:-1]]
    for (W, b), (out, gate) in zip(layers, trail):
        np.matmul(z, W, out=out)
        out += b
        np.multiply(out, 0.5, out=gate)
        np.tanh(gate, out=gate)
        gate += 1
        gate *= 0.5
        out *= gate
        z = out
    W, b = layers[-1]
    return z @ W + b, trail


def backward(layers, z, trail, delta, gradient):
    """Fill `gradient`, pairs like `layers`, given the loss's derivative `delta` by the output at z.

    Uses up the trail: on the way back each layer's delta takes its output's place (Rumelhart et
    al. 1986). SiLU's slope is 1 - (1 - output)·(1 - gate).
    """
    ones = np.ones(len(z), z.dtype)
    for i in range(len(layers) - 1, -1, -1):
        inputs, gate = trail[i - 1] if i else (z, None)
        dW, db = gradient[i]
        np.matmul(inputs.T, delta, out=dW)
        np.matmul(ones, delta, out=db)  # their sum
        if i:
            np.subtract(1, gate, out=gate)
            np.subtract(1, inputs, out=inputs)
            gate *= inputs
            np.subtract(1, gate, out=gate)
            delta = np.matmul(delta, layers[i][0].T, out=inputs)
            delta *= gate


class Adam:
    """Adam on a flat vector of parameters, which `step` moves (Kingma and Ba 2015, algorithm 1)."""

    def __init__(self, parameters, beta1=0.9, beta2=0.999, tiny=1e-8):
        self.parameters, self.beta1, self.beta2, self.tiny = parameters, beta1, beta2, tiny
        self.mean, self.square, self.work = (np.zeros_like(parameters) for _ in range(3))
        self.count = 0

    def step(self, gradient, lr):
        """Move each parameter by about `lr`, against its gradient."""
        self.count += 1
        scale1, scale2 = 1 - self.beta1**self.count, (1 - self.beta2**self.count) ** 0.5
        mean, square, work = self.mean, self.square, self.work
        mean *= self.beta1
        mean += np.multiply(gradient, 1 - self.beta1, out=work)
        square *= self.beta2
        np.multiply(gradient, gradient, out=work)
        work *= 1 - self.beta2
        square += work
        np.sqrt(square, out=work)
        work += self.tiny * scale2
        np.divide(mean, work, out=work)
        work *= lr * scale2 / scale1
        self.parameters -= work


class MLP:
    """`network(x, log_snr) -> y` for points in d dimensions, as `denoise.denoiser` asks for it.

    `hidden` are the hidden layers' widths. Starts from y = 0, its other weights drawn so that the
    numbers keep their size from layer to layer (He et al. 2015). `dtype` is that of its arithmetic.
    `embed(x, log_snr)` makes the first layer's input.
    """

    def __init__(self, rng, d=2, hidden=(128, 128, 128), dtype=np.float32, embed=embed):
        require(d >= 1, "d", ">= 1", d)
        require(len(hidden) >= 1 and min(hidden) >= 1, "hidden", "one or more widths >= 1", hidden)
        self.embed, inputs = embed, embed(np.zeros((1, d), dtype), 0.0).shape[1]
        self.widths = (inputs, *hidden, d)
        size = sum((n + 1) * m for n, m in zip(self.widths, self.widths[1:]))
        self.parameters = np.zeros(size, dtype)
        self.layers = split(self.parameters, self.widths)
        for W, _ in self.layers[:-1]:
            W[:] = rng.standard_normal(W.shape) * np.sqrt(2 / len(W))

    def __call__(self, x, log_snr):
        """y at the points x (B, d) and a log-SNR for all or, (B, 1), for each."""
        d = self.widths[-1]
        require(x.ndim == 2 and x.shape[1] == d, "x", f"of shape (B, {d})", x.shape)
        return forward(self.layers, self.embed(x.astype(self.parameters.dtype), log_snr))[0]


def train(network, sample, schedule, rng, steps=4000, batch=256, lr=3e-3, kind="v", focus=2.0):
    """Train an `MLP` to say y = p·x0 + q·eps, as `denoise.pair` has it; yields each step's loss.

    The loss is the mean of (y_hat - y)² over points and coordinates. `sample(n, rng)` draws clean
    points (n, d). A step draws rows t = 1 + T·u^focus, u uniform in [0, 1): more focus, less noise.
    lr falls to 0 on a straight line. Raises `ValueError` for what can't be trained on.
    """
    require(steps >= 1, "steps", ">= 1", steps)
    require(batch >= 1, "batch", ">= 1", batch)
    require(lr > 0, "lr", "> 0", lr)
    require(focus > 0, "focus", "> 0", focus)
    shape = (2, network.widths[-1])
    drawn = sample(2, np.random.default_rng(0)).shape
    require(drawn == shape, "sample(2, rng)", f"of shape {shape}", drawn)
    return _train(network, sample, schedule, rng, steps, batch, lr, *pair(kind, schedule), focus)


def _train(network, sample, schedule, rng, steps, batch, lr, p, q, focus):
    adam, trail = Adam(network.parameters), None
    flat = np.zeros_like(network.parameters)
    gradient = split(flat, network.widths)
    for step in range(steps):
        x0 = sample(batch, rng).astype(flat.dtype)
        eps = noise_like(x0, rng)
        t = 1 + (schedule.T * rng.random(batch) ** focus).astype(int)
        x = diffuse(schedule, x0, t, eps)
        z = network.embed(x, read(schedule.log_snr, t, x))
        y, trail = forward(network.layers, z, trail)
        error = y - (read(p, t, x) * x0 + read(q, t, x) * eps)
        backward(network.layers, z, trail, error * (2 / error.size), gradient)
        adam.step(flat, lr * (1 - step / steps))
        yield (error**2).mean().item()
