"""A network is compiled if its slopes stay what they were, and otherwise left alone."""

import math
import shutil

import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from minidiff.nn import UNet, UNetConfig  # noqa: E402
from minidiff.nn.compiled import compiled  # noqa: E402

torch.set_num_threads(1)

CONFIG = UNetConfig(size=8, base=8, multipliers=(1, 2), blocks=1, attention=(), groups=4,
                    dropout=0.5)
SPOILT = "last.0.weight"  # in a new network its slope is zero


def mean(network):
    x, y = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        said = network(x, 0.5)
    return (said.float() - y).square().mean()


@pytest.fixture
def compiler(monkeypatch):
    """A function that makes a compiler which multiplies one parameter's slope; and whom it had."""
    had = []

    def make(factor):
        def compile(network):
            had.append(network)
            dict(network.named_parameters())[SPOILT].register_hook(lambda slope: factor * slope)

        monkeypatch.setattr(torch.nn.Module, "compile", compile)
        return had

    return make


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_a_network_with_right_slopes_is_compiled(compiler, factor):
    had, network = compiler(factor), UNet(CONFIG)
    before = {name: p.clone() for name, p in network.state_dict().items()}
    assert compiled(network, mean) is None
    copy, itself = had
    assert itself is network and copy is not network
    assert network.training and all(p.grad is None for p in network.parameters())
    assert all(torch.equal(p, before[name]) for name, p in network.state_dict().items())


@pytest.mark.parametrize("factor, apart", [(0.0, 1.0), (-1.0, 2.0), (1.5, 0.5)])
def test_a_wrong_slope_is_named_and_the_network_left_alone(compiler, factor, apart):
    had, network = compiler(factor), UNet(CONFIG)
    name, share = compiled(network, mean)
    assert name == SPOILT and share == pytest.approx(apart, rel=0.1)
    assert network not in had
    assert compiled(network, mean, tolerance=2.5) is None and network in had


def test_a_slope_that_is_no_number_is_wrong(compiler):
    compiler(math.nan)
    name, share = compiled(UNet(CONFIG), mean)
    assert name == SPOILT and math.isnan(share)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))),
                    reason="torch.compile needs a C++ compiler")
def test_torch_compiles_a_unet_right():
    """In bf16, to 5 %. With the doubling written by `F.interpolate`, torch 2.13 has most slopes at
    zero here."""
    network = UNet(CONFIG)
    assert compiled(network, mean, tolerance=0.05) is None
