"""Time a training step of `minidiff.mlp`, of the same network in eager PyTorch with AdamW, and of the
matrix products alone, in turn on one thread; prints the three in microseconds.

A step begins with a batch of 256 embedded points and their targets: three layers of 128 with SiLU
forwards, the mean squared error, back, and Adam. Run it by hand, on a quiet machine; OpenBLAS may
have to be told to use AVX-512, as PyTorch does unasked (OPENBLAS_CORETYPE=SkylakeX).
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import time  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from minidiff import mlp  # noqa: E402

B, ROUNDS, STEPS = 256, 40, 20


def by_hand(z, target):
    network = mlp.MLP(np.random.default_rng(0))
    flat = np.zeros_like(network.parameters)
    adam, gradient, trail = mlp.Adam(network.parameters), mlp.split(flat, network.widths), None

    def step():
        nonlocal trail
        y, trail = mlp.forward(network.layers, z, trail)
        mlp.backward(network.layers, z, trail, (y - target) * (2 / y.size), gradient)
        adam.step(flat, 1e-3)

    return step


def in_torch(z, target):
    torch.set_num_threads(1)
    z, target = torch.from_numpy(z), torch.from_numpy(target)
    network = torch.nn.Sequential(
        torch.nn.Linear(19, 128), torch.nn.SiLU(), torch.nn.Linear(128, 128), torch.nn.SiLU(),
        torch.nn.Linear(128, 128), torch.nn.SiLU(), torch.nn.Linear(128, 2))
    adam = torch.optim.AdamW(network.parameters(), 1e-3)

    def step():
        adam.zero_grad()
        torch.nn.functional.mse_loss(network(z), target).backward()
        adam.step()

    return step


def products_alone():
    """Every product of a step, each into memory of its own."""
    rng = np.random.default_rng(1)

    def numbers(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    pairs = []
    for n, m in ((19, 128), (128, 128), (128, 128), (128, 2)):
        z, W, delta = numbers(B, n), numbers(n, m), numbers(B, m)
        pairs += [(z, W, numbers(B, m)), (z.T, delta, numbers(n, m))]
        pairs += [(delta, W.T, numbers(B, n))] if n == 128 else []

    def step():
        for a, b, out in pairs:
            np.matmul(a, b, out=out)

    return step


def main():
    rng = np.random.default_rng(2)
    z, target = (rng.standard_normal((B, n)).astype(np.float32) for n in (19, 2))
    steps = by_hand(z, target), in_torch(z, target), products_alone()
    best = [float("inf")] * 3
    for _ in range(ROUNDS):  # in turn, so that a busy moment of the machine hits all
        for i, step in enumerate(steps):
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            best[i] = min(best[i], (time.perf_counter() - start) / STEPS)
    print(*(round(seconds * 1e6) for seconds in best))


if __name__ == "__main__":
    main()
