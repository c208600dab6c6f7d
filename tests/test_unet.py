"""The U-Net: its size counted by hand, its parts against literal formulas, its symmetries."""

import copy
import dataclasses
import math

import numpy as np
import pytest

from minidiff.denoise import denoiser
from minidiff.schedule import flow

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from minidiff.nn import UNet, UNetConfig, parameters  # noqa: E402
from minidiff.nn.blocks import Attention, Down, Residual, Up, conv, norm, waves  # noqa: E402

torch.set_num_threads(1)

SMALL = UNetConfig(size=8, channels=2, base=8, multipliers=(1, 2), blocks=1, attention=(4,),
                   groups=4, dropout=0.0, classes=3)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def awake(network, seed=0):
    """The network with all its weights drawn: those that begin at zero would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return network.eval()


def small(**changed):
    return awake(UNet(dataclasses.replace(SMALL, **changed)).double())


def images(n=3, seed=1):
    return random(n, 2, 8, 8, seed=seed)


def test_ho_et_al_s_has_35746307_parameters_and_starts_at_zero():
    network = UNet(UNetConfig()).eval()
    assert parameters(network) == 35_746_307 and network.config.heads == 1
    with torch.no_grad():
        y = network(random(1, 3, 32, 32, dtype=torch.float32), 500)
    assert y.shape == (1, 3, 32, 32) and y.dtype == torch.float32 and not y.any()


def test_a_small_one_s_parameters_by_hand():
    def c(n, m, k=3):
        return n * m * k * k + m

    def residual(n, m, E=32):
        return 2 * n + c(n, m) + (E * m + m) + 2 * m + c(m, m) + (c(n, m, 1) if n != m else 0)

    def attention(n):
        return 2 * n + c(n, 3 * n, 1) + c(n, n, 1)

    level = (8 * 32 + 32) + (32 * 32 + 32) + 4 * 32  # two layers, and 3 + 1 labels
    down = residual(8, 8) + c(8, 8) + residual(8, 16) + attention(16)
    middle = residual(16, 16) + attention(16) + residual(16, 16)
    up = residual(16 + 16, 16) + attention(16) + residual(16 + 8, 16) + attention(16) + c(16, 16)
    up += residual(16 + 8, 8) + residual(8 + 8, 8)
    assert parameters(small()) == level + c(2, 8) + down + middle + up + 2 * 8 + c(8, 2)


def test_the_way_up_meets_what_the_way_down_has_seen():
    """The resolutions and channels of all blocks at the default shape, by a network of a tenth."""
    config = UNetConfig(base=8, groups=4)
    network, seen = UNet(config), []
    for block in [*network.down, *network.middle, *network.up]:
        block.register_forward_hook(lambda block, _, h: seen.append(
            (type(block).__name__[0], h.shape[1] // 8, h.shape[2],
             getattr(block, "attention", None))))
    network(torch.zeros(1, 3, 32, 32), 1)
    told = " ".join(f"{name}{width}x{size}{'a' if attention else ''}"
                    for name, width, size, attention in seen)
    assert told == ("S1x32 S1x32 D1x16 S2x16a S2x16a D2x8 S2x8 S2x8 D2x4 S2x4 S2x4 S2x4a S2x4 "
                    "S2x4 S2x4 S2x4 U2x8 S2x8 S2x8 S2x8 U2x16 S2x16a S2x16a S2x16a U2x32 "
                    "S1x32 S1x32 S1x32")


def test_every_weight_is_used():
    network = small()
    y = network(images(4), torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.arange(4))
    y.square().sum().backward()
    unused = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_at_the_start_each_block_passes_its_input_on():
    network = UNet(SMALL).eval()
    h, emb = random(2, 8, 8, 8, dtype=torch.float32), random(2, 32, dtype=torch.float32)
    assert torch.equal(network.down[0](h, emb), h)
    h = random(2, 16, 4, 4, dtype=torch.float32)
    assert torch.equal(network.middle[0](h, emb), h)


def test_the_first_weights_are_glorot_s():
    """Uniform in ±sqrt(6 / (n + m)), n and m times the kernel's 9 pixels; qkv as three layers."""
    network = UNet(UNetConfig())
    for weight, n, m in [(network.down[0].residual.conv1.weight, 128 * 9, 128 * 9),
                         (network.level[2].weight, 512, 512),
                         (network.middle[0].attention.qkv.weight, 256, 256)]:
        bound, weight = math.sqrt(6 / (n + m)), weight.detach()
        assert 0.999 * bound < weight.abs().max() <= bound * (1 + 1e-6)
        assert abs(weight.std().item() * 3**0.5 / bound - 1) < 0.005  # 5 s.e. of 150,000 or more
    assert all(not p.any() for name, p in network.named_parameters() if name.endswith("bias"))
    assert all((m.weight == 1).all() and m.eps == 1e-6 for m in network.modules()
               if isinstance(m, torch.nn.GroupNorm))


def test_its_weights_come_from_its_generator_and_nowhere_else():
    before = torch.get_rng_state()
    a, b = (UNet(SMALL, torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    again = UNet(SMALL, torch.Generator().manual_seed(1)).state_dict()
    assert all(torch.equal(a[name], again[name]) for name in a)
    assert not torch.equal(a["first.weight"], b["first.weight"])


def test_images_do_not_see_each_other():
    network, x, c = small(), images(), torch.tensor([0.3, 2.0, -1.0], dtype=torch.float64)
    y = network(x, c, torch.tensor([0, 1, 2]))
    back = network(x.flip(0), c.flip(0), torch.tensor([2, 1, 0])).flip(0)
    assert torch.allclose(y, back, rtol=0, atol=1e-12)
    for i, level in enumerate(c.tolist()):
        alone = network(x[i:i + 1], level, torch.tensor([i]))
        assert torch.allclose(y[i:i + 1], alone, rtol=0, atol=1e-12)
    assert not torch.allclose(y[1:2], network(x[1:2], 2.1, torch.tensor([1])), rtol=0, atol=1e-3)


def test_a_shifted_image_gives_a_shifted_answer():
    """With one level, and where the image goes round. Attention, which knows no places, is part of
    the network."""
    network = small(multipliers=(1,), attention=(8,))
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.padding_mode = "circular"
            layer._reversed_padding_repeated_twice = [p for p in layer.padding for _ in "ab"]
    x = images()
    shifted = network(x.roll((3, 1), (2, 3)), 1.0)
    assert torch.allclose(shifted, network(x, 1.0).roll((3, 1), (2, 3)), rtol=0, atol=1e-12)


def test_half_the_resolution_is_every_second_pixel_s_neighbourhood():
    block, h = awake(Down(3).double()), random(2, 3, 6, 6)
    want = torch.nn.functional.conv2d(torch.nn.functional.pad(h, (1, 1, 1, 1)), block.conv.weight,
                                      block.conv.bias)[:, :, 1::2, 1::2]
    assert torch.allclose(block(h, None), want, rtol=0, atol=1e-12)


def test_twice_the_resolution_repeats_pixels():
    block, h = Up(3).double(), random(2, 3, 4, 4)
    with torch.no_grad():  # its convolution passes everything on
        block.conv.weight.zero_()
        block.conv.bias.zero_()
        block.conv.weight[range(3), range(3), 1, 1] = 1
    want = np.kron(h.numpy(), np.ones((1, 1, 2, 2)))
    np.testing.assert_array_equal(block(h, None).detach().numpy(), want)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_twice_the_resolution_is_a_convolution_of_the_repeated_pixels(layout):
    """Also its slopes, by the image, the weights and the bias."""
    block = awake(Up(3).double()).to(memory_format=layout)
    h = random(2, 3, 4, 6).to(memory_format=layout).requires_grad_()
    repeated = h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    want = torch.nn.functional.conv2d(repeated, block.conv.weight, block.conv.bias, padding=1)
    answer, dy = block(h, None), random(*want.shape, seed=1)
    assert torch.allclose(answer, want, rtol=0, atol=1e-12)
    for mine, theirs in zip(*(torch.autograd.grad(y, (h, *block.parameters()), dy)
                              for y in (answer, want))):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_the_softmax_formula(heads):
    """Pixel i answers with the v of all pixels j, weighted by softmax of q_i·k_j / sqrt(d)."""
    block, h = awake(Attention(8, 2, heads).double()), random(2, 8, 3, 3)
    z = torch.nn.functional.group_norm(h, 2, block.norm.weight, block.norm.bias, 1e-6)
    flat, W = z.detach().flatten(2).numpy(), block.qkv.weight.detach()[:, :, 0, 0].numpy()
    q, k, v = np.split(np.einsum("oc,bcp->bop", W, flat) + block.qkv.bias.detach().numpy()[:, None],
                       3, axis=1)
    answers, d, listens = np.zeros_like(v), 8 // heads, block.weights(h).detach().numpy()
    for b in range(2):
        for part in range(heads):
            rows = slice(part * d, (part + 1) * d)
            for i in range(9):
                weights = np.exp([q[b, rows, i] @ k[b, rows, j] / d**0.5 for j in range(9)])
                weights /= weights.sum()
                np.testing.assert_allclose(listens[b, part, i], weights, rtol=0, atol=1e-12)
                answers[b, rows, i] = v[b, rows] @ weights
    out = np.einsum("oc,bcp->bop", block.out.weight.detach()[:, :, 0, 0].numpy(), answers)
    want = h.numpy() + (out + block.out.bias.detach().numpy()[:, None]).reshape(h.shape)
    np.testing.assert_allclose(block(h).detach().numpy(), want, rtol=0, atol=1e-12)


def test_attention_knows_no_places():
    block, h = awake(Attention(8, 2, 2).double()), random(2, 8, 3, 3)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    shuffled = h.flatten(2)[:, :, order].reshape(h.shape)
    assert torch.allclose(block(shuffled), block(h).flatten(2)[:, :, order].reshape(h.shape),
                          rtol=0, atol=1e-12)


@pytest.mark.parametrize("n, m", [(4, 4), (4, 6)])
def test_a_residual_block_is_its_formula(n, m):
    block, h, emb = awake(Residual(n, m, 5, 2, 0.5).double()), random(2, n, 4, 4), random(2, 5)

    def normed(z, layer):
        grouped = z.reshape(2, 2, -1)
        mean, var = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, unbiased=False)
        flat = ((grouped - mean) / (var + 1e-6).sqrt()).reshape(z.shape)
        return layer.weight[:, None, None] * flat + layer.bias[:, None, None]

    def silu(z):
        return z / (1 + (-z).exp())

    new = block.conv1(silu(normed(h, block.norm1)))
    new = new + (silu(emb) @ block.level.weight.T + block.level.bias)[:, :, None, None]
    new = block.conv2(silu(normed(new, block.norm2)))
    across = h if n == m else torch.einsum("oc,bchw->bohw", block.across.weight[:, :, 0, 0], h) \
        + block.across.bias[:, None, None]
    assert torch.allclose(block(h, emb), across + new, rtol=0, atol=1e-12)


def test_dropout_is_at_work_in_training_only():
    block = awake(Residual(4, 4, 5, 2, 0.5).double())
    h, emb = random(1, 4, 4, 4), random(1, 5)
    assert torch.equal(block(h, emb), block(h, emb))
    with torch.random.fork_rng([]):
        block.train()
        assert not torch.equal(block(h, emb), block(h, emb))


def test_waves_are_their_formula():
    c = torch.tensor([0.0, 1.0, -321.5], dtype=torch.float64)
    rates = [10_000 ** (-i / 3) for i in range(4)]
    want = [[f(v * rate) for f in (math.sin, math.cos) for rate in rates] for v in c.tolist()]
    np.testing.assert_allclose(waves(c, 8).numpy(), want, rtol=1e-12, atol=1e-12)


def test_a_level_for_all_is_that_level_for_each():
    network, x = small(), images()
    y = network(x, 0.7)
    each = torch.full((3,), 0.7, dtype=torch.float64)
    for c in (np.float64(0.7), each[0], each, each.reshape(3, 1, 1, 1)):
        assert torch.allclose(network(x, c), y, rtol=0, atol=1e-12)


def test_the_level_is_scaled_and_held():
    """So that the last row of the flow's table, whose log-SNR is -inf, is like its neighbours."""
    x = images()
    plain, scaled = small(), small(level_scale=50.0)
    assert torch.allclose(plain(x, 35.0), scaled(x, 0.7), rtol=0, atol=1e-12)
    assert torch.equal(scaled(x, -math.inf), scaled(x, -20.0))
    assert torch.equal(plain(x, math.inf), plain(x, 1000.0))
    assert not torch.allclose(plain(x, 999.0), plain(x, 1000.0), rtol=0, atol=1e-3)
    x0, eps = denoiser(scaled, flow(10), "flow")(x, 10)
    assert x0.isfinite().all() and eps.isfinite().all()


def test_levels_are_told_apart_in_half_precision():
    """The waves are taken in float32: in bfloat16, t = 999 and 1000 would be one number."""
    network = UNet(UNetConfig(size=8, base=8, multipliers=(1,), attention=(), groups=4)).bfloat16()
    x = torch.zeros(2, 3, 8, 8, dtype=torch.bfloat16)
    emb = network.embed(x, torch.tensor([999.0, 1000.0]), None)
    assert emb.dtype == torch.bfloat16 and (emb[0] - emb[1]).abs().max() > 0.05


def test_labels():
    network, x = small(), images()
    untold = network(x, 1.0)
    assert torch.equal(untold, network(x, 1.0, torch.full((3,), 3)))
    for label in range(3):
        told = network(x, 1.0, torch.full((3,), label))
        assert not torch.allclose(untold, told, rtol=0, atol=1e-3)


def test_channels_last_changes_nothing():
    network, x = small(), images()
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    assert torch.allclose(other(x.to(memory_format=torch.channels_last), 1.0), network(x, 1.0),
                          rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_without_slopes_the_answer_is_the_same_and_its_input_stays(layout, dtype, tolerance):
    """Where none are asked for, blocks overwrite what nobody needs: never what they are given."""
    network = small().to(dtype, memory_format=layout)
    x = images().to(dtype).contiguous(memory_format=layout)
    before, y = x.clone(), network(x, 0.5).detach()
    h, emb = network.first(x).detach(), random(3, 32).to(dtype)
    given = h.clone(), emb.clone()
    with torch.no_grad():
        assert torch.allclose(network(x, 0.5), y, rtol=tolerance, atol=tolerance * y.abs().max())
        network.down[0](h, emb)
    assert torch.equal(x, before) and torch.equal(h, given[0]) and torch.equal(emb, given[1])


def test_a_norm_is_pytorch_s_in_either_layout():
    plain, ours = torch.nn.GroupNorm(8, 16, eps=1e-6), norm(8, 16)
    for layout in (torch.contiguous_format, torch.channels_last):
        for pixels in (4, 32):
            h = random(2, 16, pixels, pixels).bfloat16().contiguous(memory_format=layout)
            with torch.no_grad():
                assert torch.allclose(ours(h), plain(h), atol=0.02)


def test_a_convolution_keeps_the_resolution():
    h = torch.zeros(1, 2, 5, 7)
    assert conv(2, 3)(h).shape == conv(2, 3, 1)(h).shape == (1, 3, 5, 7)


def test_a_config_goes_through_json():
    config = UNetConfig(multipliers=[1, 2], attention=[16])
    assert config == UNetConfig(multipliers=(1, 2)) and hash(config)
    assert UNetConfig(**dataclasses.asdict(config)) == config


@pytest.mark.parametrize("options, words", [
    (dict(size=0), "size must be a whole number >= 1; got 0"),
    (dict(channels=1.5), "channels must be a whole number >= 1; got 1.5"),
    (dict(base=33), "base must be even"),
    (dict(base=2, groups=1), "base must be even, half of the waves being sines, and >= 4; got 2"),
    (dict(multipliers=()), r"multipliers must be one or more whole numbers >= 1; got \(\)"),
    (dict(multipliers=(1, 0)), "multipliers must be one or more"),
    (dict(blocks=0), "blocks must be a whole number >= 1"),
    (dict(size=36), "size must be divisible by 8, to be halved 3 times; got 36"),
    (dict(attention=(7,)), r"attention must be among the resolutions \[32, 16, 8, 4\]; got \(7,\)"),
    (dict(groups=24), "groups must be a divisor of the channels .*; got 24"),
    (dict(heads=3), "heads must be a divisor of the channels .*; got 3"),
    (dict(dropout=1.0), r"dropout must be in \[0, 1\); got 1.0"),
    (dict(classes=-1), "classes must be a whole number >= 0; got -1"),
    (dict(level_scale=0), "level_scale must be > 0; got 0"),
])
def test_a_config_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        UNetConfig(**options)


@pytest.mark.parametrize("changed, inputs, words", [
    ({}, (torch.zeros(1, 3, 8, 8), 1.0), 
     r"x must be B images of shape \(2, 8, 8\); got \(1, 3, 8, 8\)"),
    ({}, (torch.zeros(1, 2, 8, 16), 1.0), "x must be B images"),
    ({}, (torch.zeros(3, 2, 8, 8), torch.ones(2)), "c must be a number, or one for each of 3"),
    ({}, (torch.zeros(3, 2, 8, 8), 1.0, torch.zeros(2, dtype=int)),
     r"labels must be of shape \(3,\)"),
    ({}, (torch.zeros(1, 2, 8, 8), 1.0, torch.tensor([4])), "labels must be in 0..3, where"),
    ({}, (torch.zeros(1, 2, 8, 8), 1.0, torch.tensor([-1])), "labels must be in 0..3"),
    (dict(classes=0), (torch.zeros(1, 2, 8, 8), 1.0, torch.tensor([0])), "labels must be left out"),
])
def test_a_network_refuses(changed, inputs, words):
    with pytest.raises(ValueError, match=words):
        UNet(dataclasses.replace(SMALL, **changed))(*inputs)
