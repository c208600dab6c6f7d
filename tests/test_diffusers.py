"""An independent implementation, where it is installed: Hugging Face's diffusers says the same.

It isn't among the package's requirements; `pip install diffusers` lets these run.
"""

import numpy as np
import pytest

from minidiff.denoise import clipped, denoiser
from minidiff.sampler import ddim, ddpm
from minidiff.schedule import cosine, linear

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
from minidiff.nn import UNet, UNetConfig, parameters  # noqa: E402

torch.set_num_threads(1)


def theirs(config):
    """The UNet2DModel of the same shape, with one head and the paddings of Ho et al."""
    down = ["AttnDownBlock2D" if r in config.attention else "DownBlock2D"
            for r in config.resolutions]
    return diffusers.UNet2DModel(
        sample_size=config.size, in_channels=config.channels, out_channels=config.channels,
        block_out_channels=config.widths, layers_per_block=config.blocks, down_block_types=down,
        up_block_types=[name.replace("Down", "Up") for name in reversed(down)],
        norm_num_groups=config.groups, norm_eps=1e-6, attention_head_dim=None, downsample_padding=0,
        flip_sin_to_cos=False, freq_shift=1, dropout=config.dropout).eval()


def copy(ours, other):
    """Fill their network with the weights of ours, walking through both block by block."""
    def give(to, a, rows=slice(None)):
        to.weight.copy_(a.weight[rows].reshape(to.weight.shape))
        to.bias.copy_(a.bias[rows])

    def stage(a, residual, attention):
        r = a.residual
        for x, y in [("norm1", r.norm1), ("conv1", r.conv1), ("time_emb_proj", r.level),
                     ("norm2", r.norm2), ("conv2", r.conv2)]:
            give(getattr(residual, x), y)
        if residual.conv_shortcut is not None:
            give(residual.conv_shortcut, r.across)
        assert (a.attention is None) == (attention is None)
        if attention is not None:
            n = a.attention.out.out_channels
            give(attention.group_norm, a.attention.norm)
            for i, layer in enumerate((attention.to_q, attention.to_k, attention.to_v)):
                give(layer, a.attention.qkv, slice(i * n, (i + 1) * n))
            give(attention.to_out[0], a.attention.out)

    def walk(blocks, levels, samplers):
        blocks = iter(blocks)
        for level in levels:
            attentions = getattr(level, "attentions", None) or [None] * len(level.resnets)
            for residual, attention in zip(level.resnets, attentions):
                stage(next(blocks), residual, attention)
            for sampler in getattr(level, samplers) or []:
                give(sampler.conv, next(blocks).conv)
        assert next(blocks, None) is None

    with torch.no_grad():
        give(other.time_embedding.linear_1, ours.level[0])
        give(other.time_embedding.linear_2, ours.level[2])
        give(other.conv_in, ours.first)
        walk(ours.down, other.down_blocks, "downsamplers")
        first, last = ours.middle
        stage(first, other.mid_block.resnets[0], other.mid_block.attentions[0])
        stage(last, other.mid_block.resnets[1], None)
        walk(ours.up, other.up_blocks, "upsamplers")
        give(other.conv_norm_out, ours.last[0])
        give(other.conv_out, ours.last[2])
    return other


@pytest.mark.parametrize("config", [
    UNetConfig(size=16, base=32, groups=8, attention=(8,)),
    UNetConfig(size=8, channels=1, base=8, multipliers=(1, 3), blocks=1, attention=(8, 4),
               groups=4)])
def test_the_u_net_says_the_same(config):
    ours, generator = UNet(config).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
        other = copy(ours, theirs(config))
        assert parameters(ours) == parameters(other)
        x = torch.randn(3, config.channels, config.size, config.size, generator=generator)
        t = torch.tensor([1.0, 500.0, 999.0])
        a, b = ours(x, t), other(x, t).sample
    assert a.std() > 0.1 and torch.allclose(a, b, rtol=0, atol=1e-5)


def test_theirs_of_ho_et_al_has_as_many_parameters():
    with torch.device("meta"):
        assert parameters(theirs(UNetConfig())) == 35_746_307


@pytest.mark.parametrize("name, table", [("linear", linear()), ("squaredcos_cap_v2", cosine())])
def test_the_schedules_are_the_same(name, table):
    """Their tables begin at our row 1, and are in float32."""
    scheduler = diffusers.DDPMScheduler(1000, beta_schedule=name)
    np.testing.assert_allclose(scheduler.alphas_cumprod, table.alpha_bar[1:], rtol=0, atol=1e-6)
    np.testing.assert_allclose(scheduler.betas, table.beta[1:], rtol=1e-4)


def guess(x, c):
    """A stand-in for a network that predicts eps."""
    return 0.6 * x.sin() + 0.1


def steps(sampler, clip, **options):
    """`(t, x, x at t-1)` of every step, and the noise generator's state before it."""
    denoise = denoiser(guess, linear())
    denoise = clipped(denoise, linear()) if clip else denoise
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rng, before = torch.Generator().manual_seed(1), None
    for t, new in sampler(denoise, linear(), x, rng=rng, **options):
        if before is not None:
            yield t + 1, before[0], new, before[1]
        before = new, rng.get_state()


def agree(scheduler, sampler, clip, options, **extra):
    """Each of 1,000 steps from the same x with the same noise, but for their float32 tables."""
    scheduler.set_timesteps(1000)
    for t, x, want, state in steps(sampler, clip, **options):
        generator = torch.Generator()
        generator.set_state(state)
        new = scheduler.step(guess(x, None), t - 1, x, generator=generator, **extra).prev_sample
        assert torch.allclose(new, want, rtol=0, atol=2e-4 * (1 + want.abs().max())), t


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_steps_are_the_same(variance, clip):
    scheduler = diffusers.DDPMScheduler(1000, variance_type=f"fixed_{variance}", clip_sample=clip)
    agree(scheduler, ddpm, clip, dict(variance=variance))


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_steps_are_the_same(eta, clip):
    """Where x0 is clipped, eps follows, as with their `use_clipped_model_output`."""
    agree(diffusers.DDIMScheduler(1000, clip_sample=clip, set_alpha_to_one=True), ddim, clip,
          dict(eta=eta), eta=eta, use_clipped_model_output=True)
