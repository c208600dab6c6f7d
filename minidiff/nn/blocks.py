"""The blocks of the U-Net: residual, attention, half and twice the resolution.

All but attention are called alike, block(h, emb): h (B, C, H, W), emb (B, E) says how noisy the
image is and, where there are classes, of which it is.
"""

import torch
from torch import nn
from torch.nn import functional as F

TINY = 1e-6  # what Ho et al.'s group norms add to the variance; torch's own are at 1e-5


class Stage(nn.Module):
    """A residual block and, where it is wanted, self-attention."""

    def __init__(self, n, m, E, config, attention):
        super().__init__()
        self.residual = Residual(n, m, E, config.groups, config.dropout)
        self.attention = Attention(m, config.groups, config.heads) if attention else None

    def forward(self, h, emb):
        h = self.residual(h, emb)
        return h if self.attention is None else self.attention(h)


class Residual(nn.Module):
    """h + two convolutions of it, `emb` added between (He et al. 2016; Ho et al. 2020)."""

    def __init__(self, n, m, E, groups, dropout):
        super().__init__()
        self.norm1, self.conv1 = norm(groups, n), conv(n, m)
        self.level = nn.Linear(E, m)
        self.norm2, self.conv2 = norm(groups, m), conv(m, m)
        self.dropout = nn.Dropout(dropout)
        self.across = conv(n, m, 1) if n != m else nn.Identity()

    def forward(self, h, emb):
        new = self.conv1(bend(self.norm1(h)))
        new += self.level(F.silu(emb))[:, :, None, None]
        new = self.conv2(self.dropout(bend(self.norm2(new))))
        new += self.across(h)
        return new


class Attention(nn.Module):
    """h + what each pixel asks of all, `heads` questions at once (Vaswani et al. 2017, eq. 1)."""

    def __init__(self, n, groups, heads):
        super().__init__()
        self.heads, self.norm = heads, norm(groups, n)
        self.qkv, self.out = conv(n, 3 * n, 1), conv(n, n, 1)

    def forward(self, h):
        q, k, v = self.ask(h)
        if h.is_cuda:  # where to write the weights down takes the time (Dao et al. 2022)
            new = F.scaled_dot_product_attention(q, k, v)
        else:
            new = self.heed(q, k) @ v
        return h + self.out(new.transpose(2, 3).reshape(h.shape))

    def ask(self, h):
        """Every pixel's question, key and value, each (B, heads, pixels, C / heads)."""
        B, C, H, W = h.shape
        qkv = self.qkv(self.norm(h)).reshape(B, 3, self.heads, C // self.heads, H * W)
        return qkv.transpose(3, 4).unbind(1)

    def weights(self, h):
        """How much each pixel listens to each, (B, heads, pixels, pixels); rows sum to one."""
        q, k, _ = self.ask(h)
        return self.heed(q, k)

    @staticmethod
    def heed(q, k):
        """The weights of questions and keys, each (B, heads, pixels, C / heads)."""
        return ((q / q.shape[3] ** 0.5) @ k.transpose(2, 3)).softmax(dim=3)


class Down(nn.Module):
    """Half the resolution: a convolution that looks at every second pixel."""

    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, stride=2)

    def forward(self, h, emb):
        return self.conv(F.pad(h, (0, 1, 0, 1)))  # at the far edges only, as Ho et al.'s TensorFlow


class Up(nn.Module):
    """Twice the resolution: every pixel four times, and a convolution."""

    def __init__(self, n):
        super().__init__()
        self.conv = Doubling(n, n, 3, padding=1)

    def forward(self, h, emb):
        return self.conv(h)


class Doubling(nn.Conv2d):
    """The convolution of h with every pixel four times, without writing those down."""

    def forward(self, h):
        # A 3×3 kernel then sees only 2×2 different pixels. Where two weights meet the same one, it
        # takes their sum: 16 products for four new pixels instead of 36.
        w = 4 * F.avg_pool2d(self.weight, 2, stride=1, padding=1)
        return F.conv_transpose2d(h, w.transpose(0, 1).flip(2, 3), self.bias, stride=2, padding=1)


def waves(c, width):
    """Sines and cosines of c (B,), of periods from 2π to 2π·10⁴ (Vaswani et al. 2017, 3.5)."""
    half = width // 2
    phase = c[:, None] * 1e4 ** -(torch.arange(half, dtype=c.dtype, device=c.device) / (half - 1))
    return torch.cat([phase.sin(), phase.cos()], dim=1)


def conv(n, m, kernel=3):
    """A convolution from n to m channels that keeps the resolution."""
    return nn.Conv2d(n, m, kernel, padding=kernel // 2)


def norm(groups, n):
    """Each image's channels in groups, every group at mean 0 and variance 1 (Wu and He 2018)."""
    return Norm(groups, n, eps=TINY)


class Norm(nn.GroupNorm):
    """PyTorch's group norm, but for a detour around its slowest kernel."""

    def forward(self, h):
        # On a CPU, of few pixels in channels_last; back through it the detour would not pay.
        slow = (h.device.type == "cpu" and h.dtype == torch.bfloat16
                and h.shape[2] * h.shape[3] < 1024 and not torch.is_grad_enabled())
        return super().forward(h.contiguous() if slow else h)


def bend(h):
    """SiLU, in place where nobody will ask for h again (Elfwing et al. 2018)."""
    return F.silu(h, inplace=not torch.is_grad_enabled())
