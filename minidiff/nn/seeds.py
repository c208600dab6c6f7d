"""Random numbers that say where they come from: one stream a sample, one stream a training step."""

import numpy as np
import torch

from minidiff.errors import require


class Seeds:
    """Noise with a seed for each sample: sample 7's is the same alone and in a batch of 64.

    Stands where samplers and `process.noise_like` ask for an `rng`. `seeds` are whole numbers in
    [0, 2³²), one for each of the B samples; the noise is drawn on the CPU and brought to `device`,
    so that it is the same on every machine. Raises `ValueError` for other seeds.
    """

    def __init__(self, seeds, device="cpu"):
        seeds = [int(seed) for seed in seeds]
        require(seeds and 0 <= min(seeds) and max(seeds) < 2**32, "seeds",
                "one or more whole numbers in [0, 2³²)", seeds)  # the CPU's generator uses 32 bits
        self.device = device
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def standard_normal(self, shape, dtype=torch.float32):
        """The next numbers of every stream, (B, ...) as `shape` asks for it."""
        shape = tuple(shape)
        require(shape[:1] == (len(self.generators),), "shape",
                f"({len(self.generators)}, ...): one sample a seed", shape)
        return torch.stack([torch.randn(shape[1:], generator=generator, dtype=dtype)
                            for generator in self.generators]).to(self.device)


def stream(seed, index, purpose):
    """The torch Generator that `seed` keeps for the step or epoch `index` and one purpose.

    For one seed and purpose no two of the first 2³² indices share a stream.
    """
    word = int(np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1)[0])
    return torch.Generator().manual_seed((word + index * 0x9E3779B1) % 2**32)
