"""The network of `minidiff.mlp`, in torch: the same numbers, and the way back comes for free."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from minidiff.errors import require


def embed(x, log_snr):
    """What the first layer sees: x (B, d) beside 17 numbers that say how noisy it is, (B, d + 17).

    These are `log_snr`, a number or (B, 1), held in [-12, 12], and 8 sines and cosines of it, as in
    `minidiff.mlp.embed`.
    """
    c = torch.as_tensor(log_snr, dtype=x.dtype, device=x.device).clamp(-12, 12)
    c = c.reshape(-1, 1).expand(len(x), 1)
    phase = c * (2 * np.pi / 32 * torch.arange(1, 9, dtype=x.dtype, device=x.device))
    return torch.cat([x, c / 12, phase.sin(), phase.cos()], dim=1)


class MLP(nn.Module):
    """`network(x, log_snr) -> y` for points in d dimensions, as `denoise.denoiser` asks for it.

    `hidden` are the hidden layers' widths. Starts from y = 0, its other weights drawn so that the
    numbers keep their size from layer to layer (He et al. 2015): by `generator`, a torch one on the
    CPU, or one that is seeded with 0. Raises `ValueError` for a width below 1.
    """

    def __init__(self, d=2, hidden=(128, 128, 128), generator=None):
        super().__init__()
        require(d >= 1, "d", ">= 1", d)
        require(len(hidden) >= 1 and min(hidden) >= 1, "hidden", "one or more widths >= 1", hidden)
        generator = generator or torch.Generator().manual_seed(0)
        widths = (d + 17, *hidden, d)
        self.d, self.layers = d, nn.ModuleList(
            nn.utils.skip_init(nn.Linear, n, m) for n, m in zip(widths, widths[1:]))
        for layer in self.layers:
            nn.init.zeros_(layer.bias)
            nn.init.normal_(layer.weight, std=(2 / layer.in_features) ** 0.5, generator=generator)
        nn.init.zeros_(layer.weight)

    def forward(self, x, log_snr):
        """y at the points x (B, d) and a log-SNR for all or, (B, 1), for each."""
        require(x.ndim == 2 and x.shape[1] == self.d, "x", f"of shape (B, {self.d})",
                tuple(x.shape))
        *hidden, last = self.layers
        z = embed(x.to(last.weight.dtype), log_snr)
        for layer in hidden:
            z = F.silu(layer(z))
        return last(z)

    @torch.no_grad()
    def load(self, flat):
        """Take over the `parameters` of a `minidiff.mlp.MLP` of these widths; return the network.

        Layer by layer W (n, m), which torch keeps as (m, n), and b (m,), in one vector.
        """
        size = sum(p.numel() for p in self.parameters())
        require(np.shape(flat) == (size,), "flat", f"of shape ({size},)", np.shape(flat))
        rest = torch.tensor(flat)
        for layer in self.layers:
            m, n = layer.weight.shape
            W, b, rest = rest.split([n * m, m, len(rest) - n * m - m])
            layer.weight.copy_(W.reshape(n, m).T)
            layer.bias.copy_(b)
        return self

    def flat(self):
        """The parameters as `load` takes them, a NumPy vector of their own type."""
        parts = [part for layer in self.layers for part in (layer.weight.T.flatten(), layer.bias)]
        return torch.cat(parts).detach().cpu().numpy()
