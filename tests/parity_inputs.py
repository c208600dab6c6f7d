"""How each function that a chapter builds is tried out, beside the package's own: one line a name.

A trial takes the function and a NumPy Generator, and returns what must agree: numbers, arrays,
words, dataclasses, generators, or lists, tuples and dicts of them. It is run once on the chapter's
function and once on the package's, with generators in the same state.
"""

import numpy as np

from minidiff.data import eight_gaussians
from minidiff.schedule import cosine


def noisings(rng):
    """Clean arrays, rows and noise: one row for all, and one row for each."""
    for t in (0, 7, 50, np.array([0, 7, 50, 3])):
        yield rng.standard_normal((4, 2)), t, rng.standard_normal((4, 2))


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
    "minidiff.process.diffuse": lambda f, rng: [f(cosine(50), *a) for a in noisings(rng)],
}
