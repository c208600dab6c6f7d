"""A network compiled, if that leaves its slopes alone: a compiler can spoil them without a word."""

import copy

import torch

from minidiff.nn.seeds import stream


def compiled(network, loss, tolerance=0.25):
    """Compile the network in place and return None, if its slopes are the same then.

    Otherwise it stays as it was, and `(name, apart)` tells the parameter whose slope is worst, and
    by what share of its length. `loss(network)` is a number that depends on all parameters; a copy
    is asked for it, out of training mode and with all weights moved, since zeros would hide
    mistakes. bf16 alone makes a difference of one or two per cent.
    """
    other, generator = copy.deepcopy(network).eval(), stream(0, 0, "compiled")
    with torch.no_grad():
        for p in other.parameters():
            p += 0.02 * torch.randn(p.shape, generator=generator).to(p.device)
    plain = _slopes(other, loss)
    other.compile()
    least = 1e-3 * torch.stack([slope.norm() for slope in plain.values()]).norm()
    apart = {name: ((slope - plain[name]).norm() / (plain[name].norm() + least)).item()
             for name, slope in _slopes(other, loss).items()}
    worst = max(apart, key=lambda name: (apart[name] != apart[name], apart[name]))  # NaN is worst
    if not apart[worst] <= tolerance:
        return worst, apart[worst]
    network.compile()


def _slopes(network, loss):
    """{name: the loss's slope by that parameter}."""
    network.zero_grad(set_to_none=True)
    loss(network).backward()
    return {name: p.grad for name, p in network.named_parameters()}
