"""The average of the weights over the last part of training samples better than the last ones."""

import copy

import torch

from minidiff.errors import require


class EMA:
    """An exponential moving average of a network's weights, counted in images.

    A weight that was seen h images ago counts half of today's. h is `half_life`, but at first no
    more than `warmup` times the images seen so far, so that the start is forgotten soon; in images,
    and not in steps, so that it does not depend on the batch size (Karras et al. 2022, appendix F.2
    and their code). `network` is the averaged copy, in eval mode; `seen` the images so far.
    Raises `ValueError` unless half_life > 0 and warmup > 0.
    """

    def __init__(self, network, half_life, warmup=0.05):
        require(half_life > 0, "half_life", "> 0 images", half_life)
        require(warmup > 0, "warmup", "> 0", warmup)
        self.half_life, self.warmup, self.seen, self.source = half_life, warmup, 0, network
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, images):
        """Take in the network's weights after a step on so many images."""
        require(images > 0, "images", "> 0", images)
        half_life = min(self.half_life, self.warmup * self.seen)
        decay = 0.5 ** (images / half_life) if half_life else 0.0
        torch._foreach_lerp_(list(self.network.parameters()), list(self.source.parameters()),
                             1 - decay)
        for average, value in zip(self.network.buffers(), self.source.buffers()):
            average.copy_(value)
        self.seen += images
