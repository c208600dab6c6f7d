"""minidiff: diffusion models from scratch, one idea a file. `import minidiff` needs only NumPy."""

from minidiff import (data, denoise, elbo, likelihood, metrics, mixture, mlp, process, quadrature,
                      rosetta, sampler, schedule)

__all__ = ["data", "denoise", "elbo", "likelihood", "metrics", "mixture", "mlp", "process",
           "quadrature", "rosetta", "sampler", "schedule"]
__version__ = "0.1.0"
